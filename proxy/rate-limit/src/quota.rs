//! What is allowed.

use std::time::Duration;

use crate::{LEASE_HOLDS, SECOND, Ticks};

/// Quotas in a policy.
pub const QUOTAS_MAX: usize = 4;

/// So many units in so long, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    units: u64,
    window: Duration,
    burst: u64,
    /// What one unit costs. Rounded up: never more than the quota passes in the long run.
    interval: Ticks,
}

/// Why something is not a quota, or not a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyError {
    /// Nothing would ever pass.
    Nothing,
    /// More than a million a second: nothing that is worth counting.
    TooFast,
    /// A window of more than a year.
    TooLong,
    /// None, or more than four.
    Count,
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Nothing => "nothing would ever pass",
            Self::TooFast => "more than a million a second is no limit",
            Self::TooLong => "a window is a year at most",
            Self::Count => "a limit has one to four quotas",
        })
    }
}

impl std::error::Error for PolicyError {}

/// Beyond it, numbers would no longer be exact in Redis.
const WINDOW_MAX: Duration = Duration::from_secs(366 * 86_400);
const PER_SECOND_MAX: u64 = 1_000_000;

impl Quota {
    /// `units` per `window`. Without a burst, the whole quota may be used at once.
    pub fn new(units: u64, window: Duration, burst: Option<u64>) -> Result<Self, PolicyError> {
        let burst = burst.unwrap_or(units);
        if units == 0 || burst == 0 || window.is_zero() {
            return Err(PolicyError::Nothing);
        }
        if window > WINDOW_MAX {
            return Err(PolicyError::TooLong);
        }
        let ticks = u64::try_from(window.as_nanos() / 100).map_err(|_| PolicyError::TooLong)?;
        let interval = ticks.div_ceil(units);
        // A burst is let through in one go; what it takes to come back from it must be exact, too.
        let whole = u128::from(interval) * u128::from(burst);
        if interval < SECOND / PER_SECOND_MAX {
            return Err(PolicyError::TooFast);
        }
        if whole > WINDOW_MAX.as_nanos() / 100 {
            return Err(PolicyError::TooLong);
        }
        Ok(Self { units, window, burst, interval })
    }

    /// How much is allowed.
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// In which time.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How much of it at once.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The time that one unit costs.
    pub const fn interval(&self) -> Ticks {
        self.interval
    }

    /// The most that may be owed.
    pub const fn tolerance(&self) -> Ticks {
        self.interval * self.burst
    }

    /// Units taken from the server at once: what passes in 20 ms, at least one, and never so many that a proxy which then rests
    /// holds much of the burst.
    const fn lease(&self) -> u64 {
        let (most, wanted) = (self.burst / 8, LEASE_HOLDS / self.interval);
        let lease = if wanted < most { wanted } else { most };
        if lease == 0 { 1 } else { lease }
    }
}

/// The quotas of a limit: all of them must have room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    quotas: Vec<Quota>,
    lease: u64,
}

impl Policy {
    /// One to four quotas.
    pub fn new(quotas: Vec<Quota>) -> Result<Self, PolicyError> {
        if quotas.is_empty() || quotas.len() > QUOTAS_MAX {
            return Err(PolicyError::Count);
        }
        let lease = quotas.iter().map(Quota::lease).min().unwrap_or(1);
        Ok(Self { quotas, lease })
    }

    /// Its quotas, in the order in which they were given.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// The most that one request may cost.
    pub fn cost_max(&self) -> u64 {
        self.quotas.iter().map(Quota::burst).min().unwrap_or_default()
    }

    /// Units taken from the server at once.
    pub const fn lease(&self) -> u64 {
        self.lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_what_passes_in_20_ms_and_an_eighth_of_the_burst_at_most() {
        #[rustfmt::skip]
        let cases = [
            // units, window,          burst,     lease
            (60,      60,              None,      1),
            (10,      1,               None,      1),
            (1_000,   1,               None,      20),
            (1_000,   1,               Some(8),   1),
            (1_000,   1,               Some(80),  10),
            (100_000, 1,               None,      2_000),
        ];
        for (units, seconds, burst, lease) in cases {
            let quota = Quota::new(units, Duration::from_secs(seconds), burst).unwrap();
            assert_eq!(
                Policy::new(vec![quota]).unwrap().lease(),
                lease,
                "{units}/{seconds}s burst {burst:?}"
            );
        }
    }

    #[test]
    fn what_no_number_can_hold_is_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Quota::new(0, second, None), Err(PolicyError::Nothing));
        assert_eq!(Quota::new(1, Duration::ZERO, None), Err(PolicyError::Nothing));
        assert_eq!(Quota::new(1, second, Some(0)), Err(PolicyError::Nothing));
        assert_eq!(Quota::new(2_000_000, second, None), Err(PolicyError::TooFast));
        assert_eq!(Quota::new(1, second * 86_400 * 400, None), Err(PolicyError::TooLong));
        assert_eq!(Quota::new(1, second * 86_400, Some(1_000)), Err(PolicyError::TooLong));
        assert!(Quota::new(1_000_000, second, None).is_ok());
        assert_eq!(Policy::new(Vec::new()), Err(PolicyError::Count));
    }
}
