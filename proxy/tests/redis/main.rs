//! The way to Redis, with real servers: connecting, giving up, coming back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod lanes;
mod log;
mod places;
mod support;
