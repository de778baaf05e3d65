//! End to end: the real binary, real sockets, a file per feature. Each test is a story: arrange, act, expect.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod balancing;
mod by_content;
mod cache_attacks;
mod caching;
mod configuration;
mod cookies;
mod django;
mod drills;
mod durable;
mod faults;
mod first_steps;
mod framing;
mod http2_attacks;
mod leak;
mod limits;
mod limits_together;
mod names;
mod operations;
mod plugin_authors;
mod plugin_faults;
mod plugins;
mod proxying;
mod purging;
mod purging_together;
mod redis;
mod replicas;
mod resources;
mod routes;
mod session_identity;
mod session_keys;
mod sessions;
mod sessions_postgres;
mod sessions_together;
mod the_harness;
