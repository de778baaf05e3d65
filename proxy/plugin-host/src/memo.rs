//! What a plugin said of requests that read the same to it. Found by all of what it read, compared byte by byte; bounded in entries and bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

/// Of so many times that something was remembered, once the plugin is asked again, to see whether it is as pure as it says.
const CHECK_EVERY: u64 = 1_000;
/// What an entry takes beside its bytes.
const ENTRY_BYTES: usize = 96;

#[derive(Clone)]
struct Entry<T> {
    value: Arc<T>,
    until: Option<Instant>,
    size: usize,
}

#[derive(Clone, Copy)]
struct BySize {
    /// So that the bound on bytes is one on entries too.
    least: u64,
}

impl<T> Weighter<Box<[u8]>, Entry<T>> for BySize {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry<T>) -> u64 {
        ((key.len() + entry.size + ENTRY_BYTES) as u64).max(self.least)
    }
}

type Entries<T> =
    Cache<Box<[u8]>, Entry<T>, BySize, ahash::RandomState, DefaultLifecycle<Box<[u8]>, Entry<T>>>;

pub(crate) struct Memo<T> {
    /// `None`: nothing is remembered.
    entries: Option<Entries<T>>,
    found: u64,
}

/// What is remembered of a request.
pub(crate) enum Remembered<T> {
    /// This.
    Yes(Arc<T>),
    /// This, and it is to be checked.
    Check(Arc<T>),
    /// Nothing.
    No,
}

impl<T: PartialEq> Memo<T> {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        if entries_max == 0 || bytes_max == 0 {
            return Self { entries: None, found: 0 };
        }
        let weigh = BySize { least: (bytes_max / entries_max).max(1) as u64 };
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries_max)
            .weight_capacity(bytes_max as u64)
            .build()
            .expect("both capacities are given");
        let entries =
            Cache::with_options(options, weigh, ahash::RandomState::new(), DefaultLifecycle::default());
        Self { entries: Some(entries), found: 0 }
    }

    pub(crate) fn find(&mut self, read: &[u8], now: Instant) -> Remembered<T> {
        let found = self.entries.as_ref().and_then(|entries| entries.get(read));
        match found {
            Some(entry) if entry.until.is_none_or(|until| now < until) => {
                let value = entry.value.clone();
                self.found += 1;
                if self.found.is_multiple_of(CHECK_EVERY) {
                    Remembered::Check(value)
                } else {
                    Remembered::Yes(value)
                }
            }
            Some(_) | None => Remembered::No,
        }
    }

    pub(crate) fn keep(
        &mut self,
        read: &[u8],
        value: Arc<T>,
        size: usize,
        lasts: Option<Duration>,
        now: Instant,
    ) {
        if let Some(entries) = &mut self.entries {
            let until = lasts.and_then(|lasts| now.checked_add(lasts));
            entries.insert(read.into(), Entry { value, until, size });
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, Cache::len)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.as_ref().map_or(0, Cache::weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_in_entries_and_bytes() {
        let now = Instant::now();
        let mut memo = Memo::new(100, 100_000);
        for number in 0_u32..10_000 {
            memo.keep(&number.to_le_bytes(), Arc::new(number), 8, None, now);
        }
        assert!(memo.len() <= 100, "{}", memo.len());
        let mut memo = Memo::new(100, 100_000);
        for number in 0_u32..10_000 {
            memo.keep(&number.to_le_bytes(), Arc::new(number), 10_000, None, now);
        }
        assert!(memo.len() <= 10 && memo.bytes() <= 100_000);
        let mut none = Memo::new(0, 100);
        none.keep(b"a", Arc::new(1), 8, None, now);
        assert!(matches!(none.find(b"a", now), Remembered::No));
    }

    #[test]
    fn what_has_ended_is_forgotten_and_what_stays_is_checked_now_and_then() {
        let now = Instant::now();
        let mut memo = Memo::new(100, 100_000);
        memo.keep(b"a", Arc::new(1), 8, Some(Duration::from_secs(1)), now);
        assert!(matches!(memo.find(b"a", now), Remembered::Yes(value) if *value == 1));
        assert!(matches!(memo.find(b"a", now + Duration::from_secs(1)), Remembered::No));
        memo.keep(b"b", Arc::new(2), 8, None, now);
        let checks = (0..10_000).filter(|_| matches!(memo.find(b"b", now), Remembered::Check(_))).count();
        assert_eq!(checks, 10);
    }
}
