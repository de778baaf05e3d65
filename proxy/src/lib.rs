//! Weir: a caching reverse proxy.

pub mod access_log;
pub mod admin;
pub mod answer;
pub mod body;
pub mod clock;
pub mod config;
pub mod metrics;
pub mod routes;
pub mod server;
