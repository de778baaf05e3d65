//! Latencies in logarithmic buckets: 64 to each power of two, so a quantile is right to within 1.6 %.

use std::time::Duration;

const STEPS: usize = 64;
const STEPS_LOG2: u32 = 6;

/// Counts of latencies from 1 ns up.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; STEPS * 64], total: 0 }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// The latency that the share `q` (0 to 1) of all requests did not exceed; zero when there were none.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= q <= 1")]
        let rank = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_bound(index));
            }
        }
        Duration::ZERO
    }
}

/// Below 64 ns a bucket is a nanosecond; above, the six bits after the leading one choose the step.
fn bucket(nanos: u64) -> usize {
    let exponent = nanos.max(1).ilog2();
    let index = if exponent < STEPS_LOG2 {
        nanos
    } else {
        let shift = exponent - STEPS_LOG2;
        (u64::from(shift + 1) << STEPS_LOG2) + ((nanos >> shift) & (STEPS as u64 - 1))
    };
    usize::try_from(index).expect("an index below 64 * 64 fits")
}

fn upper_bound(index: usize) -> u64 {
    let (row, step) = (index / STEPS, (index % STEPS) as u64);
    if row == 0 {
        step
    } else {
        let shift = row - 1;
        ((STEPS as u64 + step) << shift) + ((1 << shift) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value_and_nothing_much_above_it() {
        for nanos in [0, 1, 63, 64, 65, 127, 128, 1_000, 999_999, 123_456_789, u64::MAX / 3, u64::MAX] {
            let bound = upper_bound(bucket(nanos));
            assert!(bound >= nanos, "{nanos} is above its bucket's bound {bound}");
            assert!(bound - nanos <= nanos / 64, "{bound} is far above {nanos}");
        }
    }

    #[test]
    fn quantiles_are_taken_by_rank() {
        let mut histogram = Histogram::new();
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        for (q, micros) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = histogram.quantile(q).as_secs_f64() * 1e6;
            assert!((found - micros).abs() <= micros / 60.0, "{q}: {found} for {micros}");
        }
    }
}
