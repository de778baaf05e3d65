//! Weir: a caching reverse proxy.

pub mod access_log;
pub mod admin;
pub mod answer;
pub mod body;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod collapse;
pub mod compress;
pub mod config;
pub mod content;
pub mod control;
pub mod demo;
pub mod error;
pub mod fill;
pub mod gate;
pub mod identity;
pub(crate) mod lines;
pub mod metrics;
pub mod origin;
pub mod pipeline;
pub mod proxy;
pub mod purge;
pub mod request_key;
pub mod respond;

pub mod routes;
pub mod run;
pub mod searches;
pub mod server;
pub mod store;
pub mod telemetry;
