//! Who has used how much: a bounded table that all workers share.
//!
//! The table is made of sets of [`WAYS`] places; a key has its place in one set, so that a decision locks a small part of the table and looks at a
//! few neighbouring lines. A set that is full gives up, first, a bucket that is idle: forgetting it changes nothing. Where none is, the one that will be idle first goes,
//! which is the one that has used least; its key may then pass as if it had used nothing, and [`Table::forgotten`] counts that. So a flood of keys never
//! makes those be forgotten who have used most.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::{Bucket, Ticks};

/// Places in a set. Twice what it holds on average when the table has as many keys as it is meant for, so that chance fills few sets.
const WAYS: usize = 16;

/// Keys that share a few places, with their buckets.
type Set = Vec<(u128, Bucket)>;

/// Buckets by key.
#[derive(Debug)]
pub struct Table {
    sets: Box<[Mutex<Set>]>,
    forgotten: AtomicU64,
}

impl Table {
    /// For so many keys. Memory is taken as they come: a hundred bytes each.
    pub fn new(keys: usize) -> Self {
        let sets = (keys / (WAYS / 2)).max(1).next_power_of_two();
        Self { sets: (0..sets).map(|_| Mutex::default()).collect(), forgotten: AtomicU64::new(0) }
    }

    /// Gives the bucket of a key, a new one if there is none.
    pub fn with<R>(&self, key: u128, now: Ticks, with: impl FnOnce(&mut Bucket) -> R) -> R {
        let place = key & (self.sets.len() as u128 - 1);
        let mut set = self.sets[usize::try_from(place).unwrap_or_default()].lock();
        let found = set.iter().position(|(known, _)| *known == key);
        let place = found.unwrap_or_else(|| self.place(&mut set, key, now));
        with(&mut set[place].1)
    }

    fn place(&self, set: &mut Set, key: u128, now: Ticks) -> usize {
        let idle = set.iter().position(|(_, bucket)| bucket.is_idle(now));
        let place = match idle {
            Some(idle) => idle,
            None if set.len() < WAYS => {
                set.push((key, Bucket::default()));
                return set.len() - 1;
            }
            None => {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
                let first = set.iter().enumerate().min_by_key(|(_, (_, bucket))| bucket.last());
                first.map_or(0, |(place, _)| place)
            }
        };
        set[place] = (key, Bucket::default());
        place
    }

    /// Keys that were forgotten although they had used something.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Keys that are in it, idle or not.
    pub fn keys(&self) -> usize {
        self.sets.iter().map(|set| set.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Decision, Policy, Quota, SECOND};

    #[test]
    fn those_who_have_used_most_are_remembered_and_what_is_forgotten_is_counted() {
        let policy = Policy::new(vec![Quota::new(10, Duration::from_secs(10), None).unwrap()]).unwrap();
        let (table, now) = (Table::new(8), 100 * SECOND);
        let take = |key| table.with(key, now, |bucket| bucket.decide(&policy, now, 1, 1));
        for _ in 0..10 {
            assert!(matches!(take(7), Decision::Admitted(_)));
        }
        for flood in 100..1_000 {
            take(flood);
        }
        assert!(matches!(take(7), Decision::Refused(_)), "a flood of others does not set it free");
        assert_eq!((table.keys(), table.forgotten()), (WAYS, 900 - 15));
        // When all are idle, nothing is lost.
        for later in 2_000..2_010 {
            table.with(later, now + 20 * SECOND, |_| ());
        }
        assert_eq!((table.keys(), table.forgotten()), (WAYS, 900 - 15));
    }
}
