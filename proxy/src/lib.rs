//! Weir: a caching reverse proxy.

pub mod answer;
pub mod body;
pub mod clock;
pub mod config;
pub mod routes;
pub mod server;
