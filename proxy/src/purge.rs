//! Purges are facts, not deletions.
//!
//! A purge is a record with a number of its own. A stored response carries the number that was current when its fetch *began*, so a
//! record with a higher number that names it makes it invalid, however late it was stored: a fill that was under way when the purge
//! came stores something that no lookup will ever use. Issuing a purge costs the same for one entry or for all.
//!
//! The table is bounded. The sweeper walks the memory tier, removes what is no longer valid, and then [`Purges::forget`]s the
//! records that nothing stored and no fill under way can still need. Were the table ever full before that, the oldest half of it would become one
//! record about everything: a purge may cost too much, and is never lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

/// Records kept before the oldest half is merged into one about everything.
const RECORDS_MAX: usize = 100_000;

/// The position in the order of purges at which a fetch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Stamp {
    /// The number of the record it stands at.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The stamp at a record.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// What a purge names, or what a stored response is known by: a hash, seeded anew in each process. Two that collide are purged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject(u64);

/// The records of this process, and the stamps of fills under way.
#[derive(Debug, Default)]
pub struct Purges {
    /// The number of the newest record. A response stamped with it has nothing to fear.
    newest: AtomicU64,
    /// The newest record about everything.
    everything: AtomicU64,
    records: RwLock<HashMap<Subject, u64, ahash::RandomState>>,
    /// Fills under way: how many began at each stamp.
    under_way: Mutex<BTreeMap<u64, usize>>,
    seed: ahash::RandomState,
}

/// Proof that a fill is under way, so that no record it may need is forgotten.
#[derive(Debug)]
pub struct FillStamp {
    purges: Arc<Purges>,
    stamp: Stamp,
}

impl Purges {
    /// The stamp for a fetch that begins now.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.newest.load(Ordering::Acquire))
    }

    /// Likewise, and keeps the records that it may need until the guard is dropped.
    pub fn begin_fill(self: &Arc<Self>) -> FillStamp {
        let mut under_way = self.under_way.lock();
        // Read under the lock: `forget` must see either this fill, or a stamp at which there was nothing to see.
        let stamp = self.stamp();
        *under_way.entry(stamp.0).or_default() += 1;
        FillStamp { purges: self.clone(), stamp }
    }

    /// What a URL is known by: scheme, authority, path and query as forwarded.
    pub fn url(&self, scheme: &str, authority: &str, path_and_query: &str) -> Subject {
        Subject(self.seed.hash_one(("url", scheme, authority, path_and_query)))
    }

    /// What a surrogate tag is known by.
    pub fn tag(&self, tag: &str) -> Subject {
        Subject(self.seed.hash_one(("tag", tag)))
    }

    /// Purges whatever is known by `subject`. Returns the position of the record.
    pub fn purge(&self, subject: Subject) -> Stamp {
        let mut records = self.records.write();
        // The number is given inside the lock: a reader that sees it as the newest will find the record.
        let number = self.newest.load(Ordering::Relaxed) + 1;
        records.insert(subject, number);
        if records.len() > RECORDS_MAX {
            let mut numbers: Vec<u64> = records.values().copied().collect();
            let (_, middle, _) = numbers.select_nth_unstable(RECORDS_MAX / 2);
            let merged = *middle;
            records.retain(|_, number| *number > merged);
            self.everything.fetch_max(merged, Ordering::Release);
        }
        self.newest.store(number, Ordering::Release);
        Stamp(number)
    }

    /// Purges everything stored so far.
    pub fn purge_everything(&self) -> Stamp {
        let _order = self.records.write();
        let number = self.newest.load(Ordering::Relaxed) + 1;
        self.everything.fetch_max(number, Ordering::Release);
        self.newest.store(number, Ordering::Release);
        Stamp(number)
    }

    /// Whether no record newer than `stamp` names one of `subjects`. `Ok` carries the position up to which that is known,
    /// so that the next lookup need not ask again.
    pub fn check(&self, stamp: Stamp, subjects: impl IntoIterator<Item = Subject>) -> Result<Stamp, Purged> {
        let newest = self.stamp();
        if stamp >= newest {
            return Ok(stamp);
        }
        if self.everything.load(Ordering::Acquire) > stamp.0 {
            return Err(Purged);
        }
        let records = self.records.read();
        for subject in subjects {
            if records.get(&subject).is_some_and(|number| *number > stamp.0) {
                return Err(Purged);
            }
        }
        // A record that merged into `everything` while we looked left the table before we read it.
        if self.everything.load(Ordering::Acquire) > stamp.0 { Err(Purged) } else { Ok(newest) }
    }

    /// The position up to which a sweep that begins now may forget: nothing newer than the oldest fill under way. It is read
    /// before the sweep, because a fill may end during it and leave its response where the sweep has been already.
    pub fn begin_sweep(&self) -> Stamp {
        let under_way = self.under_way.lock();
        let newest = self.stamp();
        under_way.keys().next().map_or(newest, |oldest| newest.min(Stamp(*oldest)))
    }

    /// Forgets the records up to `swept`, once everything stored has been checked since [`Purges::begin_sweep`] gave it.
    pub fn forget(&self, swept: Stamp) {
        self.records.write().retain(|_, number| *number > swept.0);
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.records.read().len()
    }

    /// Whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FillStamp {
    /// The stamp of this fill.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

impl Drop for FillStamp {
    fn drop(&mut self) {
        let mut under_way = self.purges.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.stamp.0) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.stamp.0);
            }
        }
    }
}

/// A purge has named it since its fetch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_valid_for_what_began_before_it_and_for_nothing_else() {
        let purges = Purges::default();
        let page = purges.url("http", "a.example", "/page");
        let other = purges.url("http", "a.example", "/other");
        let before = purges.stamp();
        assert_eq!(purges.check(before, [page]), Ok(before));
        let record = purges.purge(page);
        assert_eq!(purges.check(before, [page]), Err(Purged));
        assert_eq!(purges.check(before, [other]), Ok(record), "and is known up to the record");
        assert_eq!(purges.check(purges.stamp(), [page]), Ok(record), "what is fetched afterwards is valid");
    }

    #[test]
    fn everything_is_everything() {
        let purges = Purges::default();
        let before = purges.stamp();
        purges.purge_everything();
        assert_eq!(purges.check(before, []), Err(Purged));
        assert!(purges.check(purges.stamp(), []).is_ok());
    }

    #[test]
    fn a_full_table_purges_too_much_and_never_too_little() {
        let purges = Purges::default();
        let before = purges.stamp();
        let first = purges.tag("first");
        purges.purge(first);
        for number in 0..RECORDS_MAX {
            purges.purge(purges.tag(&number.to_string()));
        }
        assert!(purges.len() <= RECORDS_MAX);
        assert_eq!(purges.check(before, [first]), Err(Purged));
        assert_eq!(purges.check(before, [purges.tag("another")]), Err(Purged), "older than what was merged");
    }

    #[test]
    fn a_record_is_kept_while_a_fill_under_way_may_need_it() {
        let purges = Arc::new(Purges::default());
        let page = purges.url("http", "a.example", "/page");
        let fill = purges.begin_fill();
        purges.purge(page);
        let sweep = purges.begin_sweep();
        let stamp = fill.stamp();
        drop(fill);
        purges.forget(sweep);
        assert_eq!(purges.check(stamp, [page]), Err(Purged), "the fill ended while the sweep was at work");
        purges.forget(purges.begin_sweep());
        assert!(purges.is_empty());
    }
}
