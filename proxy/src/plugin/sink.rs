//! What plugins say beside their decisions: lines of the log, counters, purges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use plugin_host::decision::{Purge, PurgeTarget};
use plugin_host::{Level, Sink};
use purge_log::{Mode, Prefix, Target};

use crate::clock::Clock;
use crate::purge::Purges;

/// Lines of all plugins in one second.
const LINES_MAX: u64 = 100;
/// Counters of all plugins.
const COUNTERS_MAX: usize = 1_024;
/// Purges of all plugins in one second.
const PURGES_MAX: u64 = 100;

/// What plugins have counted, by plugin and name.
type Counters = BTreeMap<(Arc<str>, Box<str>), u64>;

/// Hears plugins.
pub struct PluginSink {
    purges: Arc<Purges>,
    clock: Arc<dyn Clock>,
    counters: Mutex<Counters>,
    lines: PerSecond,
    purges_asked: PerSecond,
}

/// So much in one second: the second above, what was taken of it below.
#[derive(Debug, Default)]
struct PerSecond(AtomicU64);

impl PerSecond {
    const COUNT_BITS: u32 = 16;

    fn takes(&self, second: u64, max: u64) -> bool {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let count = if state >> Self::COUNT_BITS == second { state & 0xffff } else { 0 };
            (count < max).then_some(second << Self::COUNT_BITS | (count + 1))
        });
        taken.is_ok()
    }
}

impl PluginSink {
    pub(super) fn new(purges: Arc<Purges>, clock: Arc<dyn Clock>) -> Self {
        let (lines, purges_asked) = Default::default();
        Self { purges, clock, counters: Mutex::default(), lines, purges_asked }
    }

    fn second(&self) -> u64 {
        self.clock.now().wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// What plugins have counted: plugin, counter, value.
    pub fn counters(&self) -> Vec<(Arc<str>, Box<str>, u64)> {
        let counters = self.counters.lock();
        counters.iter().map(|((plugin, name), count)| (plugin.clone(), name.clone(), *count)).collect()
    }
}

impl Sink for PluginSink {
    fn log(&self, plugin: &str, level: Level, message: &str) {
        if !self.lines.takes(self.second(), LINES_MAX) {
            return;
        }
        match level {
            Level::Trace | Level::Debug => tracing::debug!(plugin, message, "a plugin says"),
            Level::Info => tracing::info!(plugin, message, "a plugin says"),
            Level::Warn => tracing::warn!(plugin, message, "a plugin says"),
            Level::Error => tracing::error!(plugin, message, "a plugin says"),
        }
    }

    fn count(&self, plugin: &str, name: &str, delta: u64) {
        let mut counters = self.counters.lock();
        let key = (Arc::from(plugin), Box::from(name));
        if counters.len() < COUNTERS_MAX || counters.contains_key(&key) {
            let count = counters.entry(key).or_default();
            *count = count.saturating_add(delta);
        }
    }

    fn request_purge(&self, _: &str, purge: Purge) -> bool {
        let target = match purge.target {
            PurgeTarget::Tag(tag) => Target::Tag(tag),
            PurgeTarget::TagGlob(glob) => Target::tag_or_glob(&glob),
            PurgeTarget::PathPrefix(path) => Target::Prefix(Prefix { site: None, path }),
            // These are of a request, and there may be none.
            PurgeTarget::PathAndQuery(_) | PurgeTarget::Route => return false,
        };
        if !self.purges_asked.takes(self.second(), PURGES_MAX) {
            return false;
        }
        let mode = if purge.soft { Mode::Soft } else { Mode::Hard };
        self.purges.issue_now(vec![(target, mode)], self.clock.now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_in_a_second_and_the_next_begins_anew() {
        let lines = PerSecond::default();
        let taken = |second| (0..1_000).filter(|_| lines.takes(second, 100)).count();
        assert_eq!((taken(1), taken(1), taken(2)), (100, 0, 100));
    }
}
