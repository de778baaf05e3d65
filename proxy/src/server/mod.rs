//! Listeners, connections and their limits.

pub mod connection;
