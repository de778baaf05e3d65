//! Whether a server takes requests: what its answers say of it (passive), and what asking it says (active).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::metrics::ServerState;

/// When every server rests, one is tried again after so long already.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// A server that starts gets at least this part of its share.
const SHARE_MIN: f64 = 0.1;

/// The health of one server. Times are milliseconds since `born`, plus one; zero is "not".
#[derive(Debug)]
pub(super) struct Health {
    born: Instant,
    rules: Rules,
    failures: AtomicU32,
    resting_since: AtomicU64,
    probing: AtomicBool,
    unhealthy: AtomicBool,
    starting_since: AtomicU64,
}

/// What the configuration says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Failures in a row before a rest; zero: never.
    pub(super) max_failures: u32,
    pub(super) rest: Duration,
    pub(super) slow_start: Duration,
}

/// The right to try a resting server. Dropping it without a verdict lets somebody else try.
#[derive(Debug)]
pub(super) struct Probe<'a>(&'a Health);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::Release);
    }
}

impl Health {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            born: Instant::now(),
            rules,
            failures: AtomicU32::new(0),
            resting_since: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            unhealthy: AtomicBool::new(false),
            starting_since: AtomicU64::new(0),
        }
    }

    fn since_born(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    fn elapsed(&self, since: u64, now: Instant) -> Duration {
        Duration::from_millis(self.since_born(now).saturating_sub(since))
    }

    /// Whether it takes requests like any other.
    pub(super) fn is_up(&self) -> bool {
        self.resting_since.load(Ordering::Relaxed) == 0 && !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Its part of its share, from 0.1 to 1.
    pub(super) fn share(&self, now: Instant) -> f64 {
        let since = self.starting_since.load(Ordering::Relaxed);
        if since == 0 {
            return 1.0;
        }
        let share = self.elapsed(since, now).as_secs_f64() / self.rules.slow_start.as_secs_f64().max(0.001);
        if share >= 1.0 {
            self.starting_since.store(0, Ordering::Relaxed);
        }
        share.clamp(SHARE_MIN, 1.0)
    }

    /// Takes the right to try it, where it has rested long enough and nobody else is trying. `impatient`: no other server is left.
    pub(super) fn probe(&self, now: Instant, impatient: bool) -> Option<Probe<'_>> {
        let since = self.resting_since.load(Ordering::Relaxed);
        if since == 0 || self.unhealthy.load(Ordering::Relaxed) {
            return None;
        }
        let rest = if impatient { self.rules.rest.min(IMPATIENCE) } else { self.rules.rest };
        if self.elapsed(since, now) < rest {
            return None;
        }
        let free = self.probing.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| Probe(self))
    }

    /// It answered.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.resting_since.load(Ordering::Relaxed) != 0
            && self.resting_since.swap(0, Ordering::Relaxed) != 0
        {
            self.start(Instant::now());
        }
    }

    /// It failed. True if it rests from now on and did not before.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if self.rules.max_failures == 0 || failures < self.rules.max_failures {
            return false;
        }
        self.resting_since.swap(self.since_born(now), Ordering::Relaxed) == 0
    }

    /// What active checks say. True if that is news.
    pub(super) fn checked(&self, healthy: bool, now: Instant) -> bool {
        let news = self.unhealthy.swap(!healthy, Ordering::Relaxed) == healthy;
        if news && healthy {
            self.failures.store(0, Ordering::Relaxed);
            self.resting_since.store(0, Ordering::Relaxed);
            self.start(now);
        }
        news
    }

    fn start(&self, now: Instant) {
        if !self.rules.slow_start.is_zero() {
            self.starting_since.store(self.since_born(now), Ordering::Relaxed);
        }
    }

    pub(super) fn state(&self, now: Instant) -> ServerState {
        if self.unhealthy.load(Ordering::Relaxed) {
            ServerState::Unhealthy
        } else if self.resting_since.load(Ordering::Relaxed) != 0 {
            ServerState::Resting
        } else if self.share(now) < 1.0 {
            ServerState::Starting
        } else {
            ServerState::Up
        }
    }
}

/// Counts active checks in a row.
#[derive(Debug)]
pub(super) struct Streak {
    healthy: bool,
    against: u32,
    unhealthy_after: u32,
    healthy_after: u32,
}

impl Streak {
    pub(super) const fn new(unhealthy_after: u32, healthy_after: u32) -> Self {
        Self { healthy: true, against: 0, unhealthy_after, healthy_after }
    }

    /// The verdict after another check.
    pub(super) const fn count(&mut self, passed: bool) -> bool {
        if passed == self.healthy {
            self.against = 0;
            return self.healthy;
        }
        self.against += 1;
        let enough = if self.healthy { self.unhealthy_after } else { self.healthy_after };
        if self.against >= enough {
            self.healthy = passed;
            self.against = 0;
        }
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { max_failures: 2, rest: Duration::from_secs(10), slow_start: Duration::from_secs(10) };

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_lead_to_a_rest_and_one_probe_back() {
        let health = Health::new(RULES);
        assert!(!health.failed(Instant::now()));
        health.succeeded();
        assert!(!health.failed(Instant::now()), "a success in between starts the count anew");
        assert!(health.failed(Instant::now()));
        assert!(!health.is_up());

        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(health.probe(Instant::now(), false).is_none(), "it has not rested long enough");
        assert!(health.probe(Instant::now(), true).is_some(), "unless nobody else is left");
        tokio::time::advance(Duration::from_secs(1)).await;
        let probe = health.probe(Instant::now(), false).unwrap();
        assert!(health.probe(Instant::now(), false).is_none(), "one at a time");
        drop(probe);
        assert!(health.probe(Instant::now(), false).is_some(), "a probe without a verdict is given back");

        health.succeeded();
        assert_eq!(health.state(Instant::now()), ServerState::Starting);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!((health.share(Instant::now()) - 0.5).abs() < 0.01);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(health.state(Instant::now()), ServerState::Up);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_rests_again() {
        let health = Health::new(RULES);
        health.failed(Instant::now());
        health.failed(Instant::now());
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(health.probe(Instant::now(), false));
        assert!(!health.failed(Instant::now()), "resting on is no news");
        assert!(health.probe(Instant::now(), false).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unhealthy_server_is_not_probed_by_requests() {
        let health = Health::new(RULES);
        assert!(health.checked(false, Instant::now()));
        assert!(!health.checked(false, Instant::now()));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(health.probe(Instant::now(), true).is_none());
        assert!(health.checked(true, Instant::now()));
        assert_eq!(health.state(Instant::now()), ServerState::Starting);
    }

    #[test]
    fn a_verdict_changes_after_enough_checks_in_a_row() {
        let mut streak = Streak::new(2, 3);
        let checks = [false, true, false, false, true, true, false, true, true, true];
        let verdicts = checks.map(|passed| streak.count(passed));
        assert_eq!(verdicts, [true, true, true, false, false, false, false, false, false, true]);
    }
}
