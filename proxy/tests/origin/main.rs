//! The way to an origin, over real sockets: what is sent, what is taken, and when a connection is used again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod pool;
mod protocols;
mod support;
