//! When a cache began with its epoch: what belongs to an earlier one is served for a grace that counts from then.
//!
//! It counts from the first proxy that began with it. Each tells the others through Redis for how long it has known the epoch, and learns of one
//! that began earlier (`keeper.rs`); on the disk it outlives a restart. Only lengths of time travel: clocks of proxies never meet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, UNIX_EPOCH};

use cache_semantics::Now;
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// An epoch of a cache, and when it began.
#[derive(Debug)]
pub struct Epoch {
    cache: Arc<str>,
    name: Arc<str>,
    /// When this proxy began with it.
    here: Instant,
    /// So long before that it had begun already, in milliseconds.
    before_ms: AtomicU64,
}

/// The epochs that caches of this proxy are in.
#[derive(Debug, Default)]
pub struct Epochs {
    all: Mutex<Known>,
    /// Counts those that began.
    begun: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    live: Vec<Weak<Epoch>>,
    kept: Vec<KeptEpoch>,
}

/// An epoch as the disk remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEpoch {
    /// The cache.
    pub cache: String,
    /// The epoch.
    pub name: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
}

impl Epoch {
    /// How long ago it began, as far as is known here.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.here)
            + Duration::from_millis(self.before_ms.load(Ordering::Relaxed))
    }

    /// Somebody knows that it began so long ago.
    pub fn is_as_old_as(&self, age: Duration, now: Instant) {
        let before = age.saturating_sub(now.saturating_duration_since(self.here));
        self.before_ms.fetch_max(u64::try_from(before.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What it is called where all proxies look: the same for the same epoch of the same cache.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.cache.as_bytes());
        hash.update([0]);
        hash.update(self.name.as_bytes());
        HEXLOWER.encode(&hash.finalize()[..16])
    }
}

impl Epochs {
    /// None yet, but what the disk remembers.
    pub fn new(kept: Vec<KeptEpoch>) -> Self {
        Self { all: Mutex::new(Known { live: Vec::new(), kept }), begun: AtomicU64::new(0) }
    }

    /// A cache is in this epoch from now on, or has been. The second value: what the disk is to remember, if it does not yet.
    pub fn begin(&self, cache: &Arc<str>, name: &Arc<str>, now: Now) -> (Arc<Epoch>, Option<KeptEpoch>) {
        let mut all = self.all.lock();
        all.live.retain(|epoch| epoch.strong_count() > 0);
        let known = all
            .live
            .iter()
            .filter_map(Weak::upgrade)
            .find(|epoch| epoch.cache == *cache && epoch.name == *name);
        if let Some(epoch) = known {
            return (epoch, None);
        }
        let now_ms = super::millis(now);
        let kept = all.kept.iter().find(|kept| *kept.cache == **cache && *kept.name == **name);
        let began_ms = kept.map_or(now_ms, |kept| kept.began_ms.min(now_ms));
        let epoch = Arc::new(Epoch {
            cache: cache.clone(),
            name: name.clone(),
            here: now.mono,
            before_ms: AtomicU64::new(now_ms - began_ms),
        });
        let news =
            kept.is_none().then(|| KeptEpoch { cache: cache.to_string(), name: name.to_string(), began_ms });
        if let Some(news) = &news {
            all.kept.retain(|kept| *kept.cache != **cache);
            all.kept.push(news.clone());
        }
        all.live.push(Arc::downgrade(&epoch));
        self.begun.fetch_add(1, Ordering::Release);
        (epoch, news)
    }

    /// Those that caches are in now.
    pub fn live(&self) -> Vec<Arc<Epoch>> {
        self.all.lock().live.iter().filter_map(Weak::upgrade).collect()
    }

    /// How many have begun so far: another number is news.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }
}

/// Since when what belongs to an earlier epoch is stale, in milliseconds since 1970.
pub fn began_ms(epoch: &Epoch, now: Now) -> u64 {
    let began = now.wall.checked_sub(epoch.age(now.mono)).unwrap_or(UNIX_EPOCH);
    super::millis(Now { wall: began, ..now })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_as_old_as_the_oldest_who_knows_it() {
        let now = Now { wall: UNIX_EPOCH + Duration::from_secs(1_000), mono: Instant::now() };
        let later = |seconds| now.mono + Duration::from_secs(seconds);
        let (cache, name): (Arc<str>, Arc<str>) = ("default".into(), "v2".into());
        let epochs = Epochs::new(Vec::new());
        let (epoch, news) = epochs.begin(&cache, &name, now);
        assert_eq!(news.unwrap().began_ms, 1_000_000);
        assert_eq!(epoch.age(later(5)), Duration::from_secs(5));
        epoch.is_as_old_as(Duration::from_secs(60), later(10));
        assert_eq!(epoch.age(later(10)), Duration::from_secs(60));
        epoch.is_as_old_as(Duration::from_secs(20), later(10));
        assert_eq!(epoch.age(later(11)), Duration::from_secs(61), "who came later changes nothing");
        assert_eq!(began_ms(&epoch, Now { mono: later(11), ..now }), 939_000);
        let (same, news) = epochs.begin(&cache, &name, now);
        assert!(Arc::ptr_eq(&same, &epoch) && news.is_none() && epochs.begun() == 1);
        drop((same, epoch));
        assert!(epochs.live().is_empty());
    }

    #[test]
    fn the_disk_remembers_the_last_epoch_of_each_cache() {
        let now = Now { wall: UNIX_EPOCH + Duration::from_secs(1_000), mono: Instant::now() };
        let kept =
            |name: &str, began_ms| KeptEpoch { cache: "default".to_owned(), name: name.to_owned(), began_ms };
        let epochs = Epochs::new(vec![kept("v1", 400_000)]);
        let (cache, name): (Arc<str>, Arc<str>) = ("default".into(), "v1".into());
        let (epoch, news) = epochs.begin(&cache, &name, now);
        assert_eq!((epoch.age(now.mono), news), (Duration::from_secs(600), None));
        drop(epoch);
        // A clock that went back makes nothing older than it is.
        let epochs = Epochs::new(vec![kept("v1", 2_000_000)]);
        assert_eq!(epochs.begin(&cache, &name, now).0.age(now.mono), Duration::ZERO);
        let (other, news) = epochs.begin(&cache, &"v2".into(), now);
        assert_eq!((other.age(now.mono), news), (Duration::ZERO, Some(kept("v2", 1_000_000))));
    }
}
