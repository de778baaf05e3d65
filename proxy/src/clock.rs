//! The clock, read once per request and passed on as a value.

use std::time::{Instant, SystemTime};

pub use cache_semantics::Now;

/// Where the time comes from: the system, or a test that holds it in its hand.
pub trait Clock: Send + Sync + 'static {
    /// The time now: wall for dates, monotonic for lifetimes inside the process.
    fn now(&self) -> Now;
}

/// The machine's own clocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> Now {
        Now { wall: SystemTime::now(), mono: Instant::now() }
    }
}
