//! Purges of this proxy: where they are issued, and how they reach the facts that lookups ask.
//!
//! What a purge names, when it holds and how proxies agree is `purge_log`'s; here it meets the clock.

use std::ops::Deref;
use std::sync::Arc;

use cache_semantics::Now;

pub use purge_log::{
    Facts, FillStamp, Judgement, Known, Labels, Mode, Position, Prefix, Record, Softened, Stamp, Target,
    TargetError, Url, Verdict,
};

/// The purges of this proxy, of all its caches. What lookups ask is [`Facts`].
#[derive(Debug, Default)]
pub struct Purges {
    facts: Arc<Facts>,
}

impl Deref for Purges {
    type Target = Arc<Facts>;

    fn deref(&self) -> &Arc<Facts> {
        &self.facts
    }
}

impl Purges {
    /// Puts a purge in force, in this proxy, at once. Returns where it stands.
    pub fn purge(&self, target: Target, mode: Mode, now: Now) -> Position {
        let at_ms = millis(now);
        self.facts.apply_next(&Record { target, mode, at_ms }, at_ms).1
    }
}

/// Milliseconds since 1970.
pub fn millis(now: Now) -> u64 {
    let since = now.wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
