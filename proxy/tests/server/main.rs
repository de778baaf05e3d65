//! The client's side of the proxy through real sockets, with a small service where the pipeline would be.

mod admin;
mod connections;
mod drain;
mod http2;
mod limits;
mod running;
mod service;
mod starved;
mod tls;
