//! Whether a server is asked: a state and its transitions, with `now` as an argument.
//!
//! Outcomes of what is asked anyway are the evidence; nothing is asked only to find out (the supervisor does that, while no request waits).
//!
//! - **Down at once** by what leaves no doubt: a lost connection, a refused password, a server that loads or follows.
//! - **Down by degrees**: [`SLOW_IN_A_ROW`] answers too late one after the other, or half of at least [`CALLS_MIN`] within a second.
//! - **Writes only** by a server that reads and does not write. Nobody waits for a write, so one of them tries again, after 100 ms at first and 1 s at
//!   last, and closes this half by succeeding.
//! - **Back** when the supervisor says so, with a tenth of the requests at first and all of them after a second, chosen by a hash of the key: a cold
//!   Redis is not stampeded, and the same keys get through meanwhile.
//!
//! Without it each request would pay its whole budget for as long as a server is silent.

use std::time::{Duration, Instant};

use super::error::{Evidence, Skip};

/// Late answers in a row that open.
pub const SLOW_IN_A_ROW: u32 = 5;
/// Calls in a second below which their share says nothing.
pub const CALLS_MIN: u32 = 20;
/// How long it takes until all requests are let through again.
pub const RAMP: Duration = Duration::from_secs(1);

const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_millis(100);
const WRITES_WAIT_MIN: Duration = Duration::from_millis(100);
const WRITES_WAIT_MAX: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// To read, or what changes nothing that lasts.
    Read,
    /// To write.
    Write,
}

/// Why it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// No doubt about it.
    Down,
    /// Late answers one after the other.
    InARow,
    /// Too large a share of late answers.
    Share,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Which tenth of a second since the beginning.
    number: u64,
    calls: u32,
    slow: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    Closed { since: Instant },
}

#[derive(Debug, Clone, Copy)]
enum Writes {
    Closed,
    /// One is let through at `next`; the wait doubles each time.
    Open {
        next: Instant,
        wait: Duration,
    },
}

/// The breaker of one server.
#[derive(Debug)]
pub struct Breaker {
    began: Instant,
    state: State,
    writes: Writes,
    in_a_row: u32,
    buckets: [Bucket; BUCKETS],
}

impl Breaker {
    /// One that is open: nothing is known yet.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            state: State::Open,
            writes: Writes::Closed,
            in_a_row: 0,
            buckets: Default::default(),
        }
    }

    /// The supervisor has found the server well.
    pub fn close(&mut self, now: Instant) {
        self.state = State::Closed { since: now };
        self.in_a_row = 0;
        self.buckets = Default::default();
    }

    /// Nothing is asked until [`Breaker::close`].
    pub fn open(&mut self) {
        self.state = State::Open;
    }

    /// Whether nothing is asked.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether writes are not tried, but for one now and then.
    pub const fn is_open_for_writes(&self) -> bool {
        matches!(self.writes, Writes::Open { .. })
    }

    /// Whether it may be asked. `hash`: of the key, for the ramp; `None` for what is not held back by it, because it is rare and everything else waits for it.
    pub fn admit(&mut self, ask: Ask, hash: Option<u64>, now: Instant) -> Result<(), Skip> {
        let State::Closed { since } = self.state else { return Err(Skip::Down) };
        let back = now.saturating_duration_since(since);
        let share = 10 + back.as_millis() * 90 / RAMP.as_millis();
        if back < RAMP && hash.is_some_and(|hash| u128::from(hash % 100) >= share) {
            return Err(Skip::Ramp);
        }
        match (ask, self.writes) {
            (Ask::Write, Writes::Open { next, .. }) if now < next => Err(Skip::Writes),
            (Ask::Write, Writes::Open { wait, .. }) => {
                let wait = (wait * 2).min(WRITES_WAIT_MAX);
                self.writes = Writes::Open { next: now + wait, wait };
                Ok(())
            }
            (Ask::Read, _) | (Ask::Write, Writes::Closed) => Ok(()),
        }
    }

    /// Takes an outcome into account. `Some`: it opened by this one.
    pub fn note(&mut self, ask: Ask, evidence: Evidence, now: Instant) -> Option<Opened> {
        if self.is_open() {
            return None;
        }
        let opened = match evidence {
            Evidence::Neutral => None,
            Evidence::NoWrites => {
                if let Writes::Closed = self.writes {
                    self.writes = Writes::Open { next: now + WRITES_WAIT_MIN, wait: WRITES_WAIT_MIN };
                }
                None
            }
            Evidence::Down => Some(Opened::Down),
            Evidence::Good => {
                if ask == Ask::Write {
                    self.writes = Writes::Closed;
                }
                self.in_a_row = 0;
                self.bucket(now).calls += 1;
                None
            }
            Evidence::Slow => {
                self.in_a_row += 1;
                let bucket = self.bucket(now);
                bucket.calls += 1;
                bucket.slow += 1;
                let (calls, slow) = self.last_second(now);
                if self.in_a_row >= SLOW_IN_A_ROW {
                    Some(Opened::InARow)
                } else if calls >= CALLS_MIN && slow * 2 >= calls {
                    Some(Opened::Share)
                } else {
                    None
                }
            }
        };
        if opened.is_some() {
            self.open();
        }
        opened
    }

    fn number(&self, now: Instant) -> u64 {
        let tenths = now.saturating_duration_since(self.began).as_millis() / BUCKET.as_millis();
        u64::try_from(tenths).unwrap_or(u64::MAX)
    }

    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        let number = self.number(now);
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of ten")]
        let bucket = &mut self.buckets[(number % BUCKETS as u64) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        bucket
    }

    fn last_second(&self, now: Instant) -> (u32, u32) {
        let number = self.number(now);
        let recent = self.buckets.iter().filter(|bucket| bucket.number + BUCKETS as u64 > number);
        recent.fold((0, 0), |(calls, slow), bucket| (calls + bucket.calls, slow + bucket.slow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn closed(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(now);
        breaker.close(now);
        breaker
    }

    fn after(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    #[test]
    fn nothing_is_asked_until_the_supervisor_says_so() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        assert_eq!(breaker.admit(Ask::Read, Some(0), now), Err(Skip::Down));
        assert_eq!(breaker.note(Ask::Read, Evidence::Good, now), None, "late answers change nothing");
        assert!(breaker.is_open());
        breaker.close(now);
        assert_eq!(breaker.admit(Ask::Read, Some(0), now), Ok(()));
    }

    #[test]
    fn it_comes_back_with_a_tenth_and_has_all_after_a_second() {
        let now = Instant::now();
        let mut breaker = closed(now);
        #[rustfmt::skip]
        let cases = [(0, 10), (100, 19), (500, 55), (999, 99), (1000, 100), (60_000, 100)];
        for (millis, expected) in cases {
            let at = after(now, millis);
            let admitted = (0..100).filter(|hash| breaker.admit(Ask::Read, Some(*hash), at).is_ok()).count();
            assert_eq!(admitted, expected, "{millis} ms");
        }
    }

    #[test]
    fn one_certain_sign_opens_and_one_late_answer_does_not() {
        let now = Instant::now();
        assert_eq!(closed(now).note(Ask::Read, Evidence::Down, now), Some(Opened::Down));
        let mut breaker = closed(now);
        for _ in 1..SLOW_IN_A_ROW {
            assert_eq!(breaker.note(Ask::Read, Evidence::Slow, now), None);
        }
        breaker.note(Ask::Read, Evidence::Good, now);
        for _ in 1..SLOW_IN_A_ROW {
            assert_eq!(breaker.note(Ask::Read, Evidence::Slow, now), None, "the row was broken");
        }
        assert_eq!(breaker.note(Ask::Read, Evidence::Slow, now), Some(Opened::InARow));
        assert_eq!(breaker.admit(Ask::Read, Some(0), now), Err(Skip::Down));
    }

    #[test]
    fn half_of_twenty_late_within_a_second_open() {
        let now = Instant::now();
        let mut breaker = closed(now);
        for call in 0..19 {
            let evidence = if call % 2 == 0 { Evidence::Slow } else { Evidence::Good };
            assert_eq!(breaker.note(Ask::Read, evidence, after(now, call * 40)), None, "{call}");
        }
        assert_eq!(breaker.note(Ask::Read, Evidence::Slow, after(now, 800)), Some(Opened::Share));

        let mut breaker = closed(now);
        for call in 0..200 {
            let evidence = if call % 2 == 0 { Evidence::Slow } else { Evidence::Good };
            assert_eq!(
                breaker.note(Ask::Read, evidence, after(now, call * 60)),
                None,
                "17 a second say nothing"
            );
        }
    }

    #[test]
    fn a_server_that_does_not_write_is_read_and_tried_again() {
        let now = Instant::now();
        let mut breaker = closed(now);
        let late = after(now, 5_000);
        assert_eq!(breaker.note(Ask::Write, Evidence::NoWrites, late), None);
        assert_eq!(breaker.admit(Ask::Read, Some(0), late), Ok(()));
        assert_eq!(breaker.admit(Ask::Write, Some(0), late), Err(Skip::Writes));
        assert_eq!(breaker.admit(Ask::Write, Some(0), after(late, 100)), Ok(()), "one tries");
        assert_eq!(breaker.admit(Ask::Write, Some(0), after(late, 100)), Err(Skip::Writes), "and no other");
        breaker.note(Ask::Write, Evidence::NoWrites, after(late, 101));
        let tried =
            (101..10_101).filter(|millis| breaker.admit(Ask::Write, Some(0), after(late, *millis)).is_ok());
        assert!((9..=12).contains(&tried.count()), "once a second at last");
        breaker.note(Ask::Write, Evidence::Good, after(late, 10_102));
        assert!(!breaker.is_open_for_writes());
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Note(Ask, Evidence),
        Close,
        Wait(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let ask = prop_oneof![Just(Ask::Read), Just(Ask::Write)];
        let evidence = prop_oneof![
            5 => Just(Evidence::Good), 5 => Just(Evidence::Slow), 1 => Just(Evidence::Down),
            2 => Just(Evidence::NoWrites), 2 => Just(Evidence::Neutral),
        ];
        prop_oneof![
            8 => (ask, evidence).prop_map(|(ask, evidence)| Event::Note(ask, evidence)),
            1 => Just(Event::Close),
            3 => (0_u64..400).prop_map(Event::Wait),
        ]
    }

    proptest! {
        /// Whatever happens: it opens only on evidence, only the supervisor closes it, and reads pass while it is closed.
        #[test]
        fn it_opens_on_evidence_and_closes_on_order(events in prop::collection::vec(event(), 0..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(now);
            let mut row = 0;
            for event in events {
                let was_open = breaker.is_open();
                match event {
                    Event::Wait(millis) => now = after(now, millis),
                    Event::Close => { breaker.close(now); row = 0; }
                    Event::Note(ask, evidence) => {
                        let opened = breaker.note(ask, evidence, now);
                        match evidence {
                            Evidence::Slow if !was_open => row += 1,
                            Evidence::Good if !was_open => row = 0,
                            _ => {}
                        }
                        prop_assert_eq!(opened.is_some(), !was_open && breaker.is_open());
                        match opened {
                            Some(Opened::Down) => prop_assert_eq!(evidence, Evidence::Down),
                            Some(Opened::InARow) => prop_assert_eq!(row, SLOW_IN_A_ROW),
                            Some(Opened::Share) => prop_assert_eq!(evidence, Evidence::Slow),
                            None => prop_assert!(was_open || row < SLOW_IN_A_ROW),
                        }
                        prop_assert!(!was_open || breaker.is_open());
                    }
                }
                let admitted = breaker.admit(Ask::Read, Some(0), now);
                prop_assert_eq!(admitted.is_ok(), !breaker.is_open());
            }
        }
    }
}
