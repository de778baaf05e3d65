//! When a plugin that keeps failing is not asked any more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many failures within [`WINDOW`] open it.
const FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
const OPEN_FIRST: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Whether a plugin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// It is not.
    Open,
}

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// False: nothing has failed for long enough that nobody need look further.
    suspect: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: VecDeque<Instant>,
    open_until: Option<Instant>,
    /// How long it was open the last time; `None`: it was not, or has been well for a while.
    was_open: Option<Duration>,
    last_failure: Option<Instant>,
}

impl Breaker {
    /// Whether the plugin may be asked. After its time the breaker lets calls through; the next failure opens it for twice as long.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        if !self.suspect.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.state.lock();
        if state.open_until.is_some_and(|until| now < until) {
            return false;
        }
        // Well for as long as failures count: it begins anew.
        if state.last_failure.is_none_or(|last| now.saturating_duration_since(last) > WINDOW + OPEN_MAX) {
            *state = State::default();
            self.suspect.store(false, Ordering::Relaxed);
        }
        true
    }

    /// Notes a failure. True: this one has opened it.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.suspect.store(true, Ordering::Relaxed);
        state.last_failure = Some(now);
        state.failures.push_back(now);
        while state.failures.len() > FAILURES
            || state.failures.front().is_some_and(|first| now.saturating_duration_since(*first) > WINDOW)
        {
            state.failures.pop_front();
        }
        let is_open = state.open_until.is_some_and(|until| now < until);
        let again = state.was_open.is_some();
        if is_open || !(again || state.failures.len() >= FAILURES) {
            return false;
        }
        let open_for = state.was_open.map_or(OPEN_FIRST, |was| (was * 2).min(OPEN_MAX));
        state.was_open = Some(open_for);
        state.open_until = Some(now + open_for);
        state.failures.clear();
        true
    }

    /// Notes a success after an opening: it is closed for good.
    pub(crate) fn worked(&self) {
        if self.suspect.load(Ordering::Relaxed) {
            let mut state = self.state.lock();
            if state.open_until.take().is_some() {
                // A plugin that fails now and then is not sent back to its longest pause by one failure.
                state.was_open = None;
            }
        }
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        let open = self.state.lock().open_until.is_some_and(|until| now < until);
        if open { BreakerState::Open } else { BreakerState::Closed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_open_it_and_each_new_one_for_twice_as_long() {
        let breaker = Breaker::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        for failure in 0..4 {
            assert!(breaker.admits(at(failure)) && !breaker.failed(at(failure)));
        }
        assert!(breaker.failed(at(4)));
        assert!(!breaker.admits(at(5)));
        assert_eq!(breaker.state(at(5)), BreakerState::Open);
        // 1 s later one may try, and fails: 2 s, then 4.
        let mut time = 1_004;
        for pause in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert!(breaker.admits(at(time)));
            assert!(breaker.failed(at(time)));
            assert!(!breaker.admits(at(time + pause - 1)), "{pause}");
            time += pause;
        }
        // It works again, and fails once: that opens nothing.
        assert!(breaker.admits(at(time)));
        breaker.worked();
        assert!(!breaker.failed(at(time + 1)));
        assert!(breaker.admits(at(time + 2)));
    }

    #[test]
    fn failures_that_are_far_apart_open_nothing() {
        let breaker = Breaker::default();
        let begin = Instant::now();
        for failure in 0..100 {
            assert!(!breaker.failed(begin + Duration::from_millis(failure * 2_600)));
        }
    }
}
