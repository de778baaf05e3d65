//! What a plugin keeps between calls, and its instances share: a bounded map with ends to its entries.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The most entries.
const ENTRIES_MAX: usize = 65_536;
/// What an entry takes beside its key and its value.
const ENTRY_BYTES: usize = 96;
/// The longest key.
const KEY_BYTES_MAX: usize = 1024;

/// The memory of one plugin. It outlives a reload where the operator's name for the plugin stays.
#[derive(Debug)]
pub struct SharedState {
    bytes_max: usize,
    map: Mutex<Map>,
}

#[derive(Debug, Default)]
struct Map {
    entries: HashMap<Box<str>, Entry, ahash::RandomState>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    until: Option<Instant>,
}

impl SharedState {
    /// One that takes so many bytes at most.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, map: Mutex::default() }
    }

    pub(crate) fn value(&self, key: &str, now: Instant) -> Option<Vec<u8>> {
        let map = self.map.lock();
        let entry = map.entries.get(key)?;
        entry.until.is_none_or(|until| now < until).then(|| entry.value.clone())
    }

    pub(crate) fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>, now: Instant) -> bool {
        self.map.lock().put(key, value, ttl.and_then(|ttl| now.checked_add(ttl)), self.bytes_max, now)
    }

    pub(crate) fn add(&self, key: &str, delta: i64, ttl: Option<Duration>, now: Instant) -> i64 {
        let mut map = self.map.lock();
        let old = map.entries.get(key).filter(|entry| entry.until.is_none_or(|until| now < until));
        let number =
            |entry: &Entry| entry.value.as_slice().try_into().map(i64::from_le_bytes).unwrap_or_default();
        let (value, until) = match old {
            // A number ends when its first addition said so.
            Some(entry) => (number(entry), entry.until),
            None => (0, ttl.and_then(|ttl| now.checked_add(ttl))),
        };
        let value = value.saturating_add(delta);
        map.put(key, value.to_le_bytes().to_vec(), until, self.bytes_max, now);
        value
    }

    /// What it takes at the moment, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.map.lock().bytes
    }
}

impl Map {
    fn put(
        &mut self,
        key: &str,
        value: Vec<u8>,
        until: Option<Instant>,
        bytes_max: usize,
        now: Instant,
    ) -> bool {
        let size = key.len() + value.len() + ENTRY_BYTES;
        let freed = self.entries.get(key).map_or(0, |old| key.len() + old.value.len() + ENTRY_BYTES);
        let fits = |map: &Self| {
            map.bytes - freed + size <= bytes_max && (freed > 0 || map.entries.len() < ENTRIES_MAX)
        };
        if key.len() > KEY_BYTES_MAX || size > bytes_max {
            return false;
        }
        if !fits(self) {
            self.drop_what_ended(key, now);
        }
        if !fits(self) {
            return false;
        }
        self.bytes = self.bytes - freed + size;
        self.entries.insert(key.into(), Entry { value, until });
        true
    }

    fn drop_what_ended(&mut self, but: &str, now: Instant) {
        let mut freed = 0;
        self.entries.retain(|key, entry| {
            let keep = &**key == but || entry.until.is_none_or(|until| now < until);
            if !keep {
                freed += key.len() + entry.value.len() + ENTRY_BYTES;
            }
            keep
        });
        self.bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_and_the_whole_is_bounded() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let state = SharedState::new(1_000);
        assert!(state.set("a", vec![1], Some(Duration::from_secs(1)), now));
        assert_eq!(state.value("a", now), Some(vec![1]));
        assert_eq!(state.value("a", later), None);
        assert_eq!((state.add("n", 2, None, now), state.add("n", -3, None, now)), (2, -1));
        assert!(!state.set("big", vec![0; 1_000], None, now));
        assert!(state.set("big", vec![0; 600], None, now));
        // There is room again only when "a" has ended.
        assert!(!state.set("b", vec![0; 30], None, now));
        assert!(state.set("b", vec![0; 30], None, later));
        assert!(state.bytes() <= 1_000);
    }

    #[test]
    fn what_is_set_again_takes_its_place_once() {
        let (now, state) = (Instant::now(), SharedState::new(1_000));
        for round in 0..100 {
            assert!(state.set("a", vec![0; 800], None, now), "{round}");
        }
        let mut kept = 0;
        for round in 0..100_000 {
            kept += usize::from(state.set(&round.to_string(), vec![0], None, now));
        }
        // There is room for one more, and no second.
        assert_eq!(kept, 1);
        assert!(state.bytes() <= 1_000);
    }
}
