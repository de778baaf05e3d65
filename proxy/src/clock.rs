//! The clock, read once per request and passed on as a value.

use std::time::{Duration, Instant, SystemTime};

pub use cache_semantics::Now;

/// Where the time comes from: the system, or a test that holds it in its hand.
pub trait Clock: Send + Sync + 'static {
    /// The time now: wall for dates, monotonic for lifetimes inside the process.
    fn now(&self) -> Now;

    /// How long ago that was.
    fn since(&self, earlier: Now) -> Duration {
        self.now().since(earlier)
    }
}

/// The machine's own clocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

/// The wall clock, for a `Date` that nobody else has set.
#[expect(clippy::disallowed_methods, reason = "this is the one file that reads the wall clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one file that reads the wall clock")]
    fn now(&self) -> Now {
        Now { wall: SystemTime::now(), mono: Instant::now() }
    }

    fn since(&self, earlier: Now) -> Duration {
        earlier.mono.elapsed()
    }
}
