//! What is counted of one Redis. Workers and the background write here alike, so these are read-modify-writes; each stands beside a round trip.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::breaker::Opened;
use super::error::{RedisError, Skip};

/// What is asked of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A stored response, or its head.
    Get,
    /// A piece of a body.
    GetPiece,
    /// Storing a response.
    Set,
    /// Storing a piece of a body.
    SetPiece,
    /// Removing what was found broken.
    Delete,
    /// The lease of a fill.
    Lease,
    /// The log of invalidations.
    Log,
    /// A session, or until when somebody's are over.
    Session,
    /// A script.
    Script,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::GetPiece,
        Self::Set,
        Self::SetPiece,
        Self::Delete,
        Self::Lease,
        Self::Log,
        Self::Session,
        Self::Script,
    ];

    /// Whether a server that has just come back gets only some of them at first: what requests ask, and not what keeps the log.
    pub(super) const fn is_ramped(self) -> bool {
        match self {
            Self::Get | Self::GetPiece | Self::Set | Self::SetPiece | Self::Lease => true,
            Self::Delete | Self::Log | Self::Session | Self::Script => false,
        }
    }

    /// As a label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetPiece => "get-piece",
            Self::Set => "set",
            Self::SetPiece => "set-piece",
            Self::Delete => "delete",
            Self::Lease => "lease",
            Self::Log => "log",
            Self::Session => "session",
            Self::Script => "script",
        }
    }
}

/// Outcomes, in the order of the counters.
pub const OUTCOMES: [&str; 9] =
    ["ok", "timed-out", "lost", "denied", "not-ready", "no-writes", "busy", "refused", "unexpected"];
/// Why Redis was not asked, in the order of the counters.
pub const SKIPS: [&str; 4] = ["down", "ramp", "in-flight", "no-writes"];

/// The counters of one Redis.
#[derive(Debug, Default)]
pub struct Counted {
    operations: [[AtomicU64; OUTCOMES.len()]; Operation::ALL.len()],
    nanoseconds: [AtomicU64; Operation::ALL.len()],
    skipped: [AtomicU64; SKIPS.len()],
    /// Why the breaker opened: down, late answers in a row, too many late answers.
    opened: [AtomicU64; 3],
    /// Connections that were made, and attempts that failed.
    pub connects: AtomicU64,
    /// Attempts that failed.
    pub connects_failed: AtomicU64,
}

impl Counted {
    pub(super) fn done(&self, operation: Operation, error: Option<&RedisError>, took: Duration) {
        let outcome = error.map_or(0, |error| {
            OUTCOMES.iter().position(|word| *word == error.word()).unwrap_or(OUTCOMES.len() - 1)
        });
        self.operations[operation as usize][outcome].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds[operation as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(super) fn skipped(&self, skip: Skip) {
        let place = match skip {
            Skip::Down => 0,
            Skip::Ramp => 1,
            Skip::InFlight => 2,
            Skip::Writes => 3,
        };
        self.skipped[place].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self, opened: Opened, error: &RedisError) {
        tracing::debug!(?opened, error = %error, "the breaker of redis opened");
        self.opened[opened as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Commands by operation and outcome.
    pub fn operations(&self) -> impl Iterator<Item = (Operation, &'static str, u64)> {
        Operation::ALL.into_iter().flat_map(move |operation| {
            let counts = &self.operations[operation as usize];
            OUTCOMES
                .iter()
                .zip(counts)
                .map(move |(word, count)| (operation, *word, count.load(Ordering::Relaxed)))
        })
    }

    /// Time spent in an operation, by requests and behind them, in seconds.
    pub fn time(&self, operation: Operation) -> Duration {
        Duration::from_nanos(self.nanoseconds[operation as usize].load(Ordering::Relaxed))
    }

    /// How often Redis was not asked, by reason.
    pub fn skips(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SKIPS.iter().zip(&self.skipped).map(|(word, count)| (*word, count.load(Ordering::Relaxed)))
    }

    /// How often the breaker opened, by reason.
    pub fn openings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["down", "in-a-row", "share"]
            .into_iter()
            .zip(&self.opened)
            .map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}
