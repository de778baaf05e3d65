//! What a worker counts with: numbers, and durations in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that one thread raises and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `more`. Only the thread that owns the counter calls this: were there two, one of two simultaneous increments would be lost.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The count so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets of a [`Histogram`]: bounds are 2^4 µs to 2^26 µs (67 s), then infinity.
pub(super) const BUCKETS: usize = 24;
const FIRST_BOUND_LOG2: u32 = 4;

/// How long things took, in buckets that double, so that finding one is a count of leading zeros.
#[derive(Debug, Default)]
pub struct Histogram {
    pub(super) buckets: [Counter; BUCKETS],
    pub(super) nanoseconds: Counter,
}

impl Histogram {
    /// Notes one duration.
    pub fn record(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.add(nanoseconds);
        self.buckets[bucket_of(nanoseconds)].one();
    }
}

/// The first bucket whose bound is not below the duration.
fn bucket_of(nanoseconds: u64) -> usize {
    let microseconds = nanoseconds.div_ceil(1_000);
    // The smallest n with 2^n >= microseconds.
    let log2 = u64::BITS - microseconds.saturating_sub(1).leading_zeros();
    (log2.saturating_sub(FIRST_BOUND_LOG2) as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket in seconds, as text; the last is infinity.
pub(super) fn bound_text(bucket: usize) -> String {
    if bucket == BUCKETS - 1 {
        return "+Inf".to_owned();
    }
    let microseconds = 1_u64 << (bucket + FIRST_BOUND_LOG2 as usize);
    let text = format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_first_bucket_that_holds_it() {
        let microseconds = |n: u64| bucket_of(n * 1_000);
        let cases = [
            ("nothing", microseconds(0), 0),
            ("the first bound itself", microseconds(16), 0),
            ("just above it", bucket_of(16_001), 1),
            ("the second bound", microseconds(32), 1),
            ("above the second", microseconds(33), 2),
            ("the last bound", microseconds(1 << 26), BUCKETS - 2),
            ("beyond all", microseconds((1 << 26) + 1), BUCKETS - 1),
            ("for ever", bucket_of(u64::MAX), BUCKETS - 1),
        ];
        for (what, bucket, expected) in cases {
            assert_eq!(bucket, expected, "{what}");
        }
        assert_eq!(bound_text(0), "0.000016");
        assert_eq!(bound_text(BUCKETS - 2), "67.108864");
        assert_eq!(bound_text(BUCKETS - 1), "+Inf");
    }
}
