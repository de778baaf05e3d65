//! How many at once: requests under way, sockets that are open, for each key; and who may wait for a place.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::spec::Queue;

const SHARDS: usize = 16;

/// Places for each key. A key that nobody uses takes no memory.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    queue: Option<Queue>,
    shards: [Mutex<HashMap<u128, Arc<Places>>>; SHARDS],
    held: AtomicUsize,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// All places are taken, and nobody may wait, or waited long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// A place. Dropping it frees it.
#[derive(Debug)]
pub struct Held {
    permit: Option<OwnedSemaphorePermit>,
    _use_of: Use,
}

/// That somebody has to do with a key's places: the last one takes them out of the table.
#[derive(Debug)]
struct Use {
    slots: Arc<Slots>,
    key: u128,
    places: Arc<Places>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permit = None;
        self._use_of.slots.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut shard = self.slots.shard(self.key).lock();
        // The table's and ours: clones are made under this lock only.
        if Arc::strong_count(&self.places) == 2 {
            shard.remove(&self.key);
        }
    }
}

/// Takes one who waits out of the count, however the waiting ends.
struct Waiting<'w>(&'w AtomicUsize, &'w AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    pub(super) fn new(max: usize, queue: Option<Queue>) -> Arc<Self> {
        let (held, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { max, queue, shards: Default::default(), held, waiting })
    }

    /// Whether these are such places: then a reload keeps them, and those who hold one.
    pub(super) fn are(&self, max: usize, queue: Option<Queue>) -> bool {
        self.max == max && self.queue == queue
    }

    fn shard(&self, key: u128) -> &Mutex<HashMap<u128, Arc<Places>>> {
        &self.shards[usize::try_from(key % SHARDS as u128).unwrap_or_default()]
    }

    /// Takes a place, or waits for one as far as that is allowed.
    pub(super) async fn take(self: &Arc<Self>, key: u128) -> Result<Held, Full> {
        let places = {
            let mut shard = self.shard(key).lock();
            let new = || {
                let free = Arc::new(Semaphore::new(self.max));
                Arc::new(Places { free, waiting: AtomicUsize::new(0) })
            };
            shard.entry(key).or_insert_with(new).clone()
        };
        let use_of = Use { slots: self.clone(), key, places };
        let places = &use_of.places;
        let permit = match (places.free.clone().try_acquire_owned(), self.queue) {
            (Ok(permit), _) => permit,
            (Err(_), None) => return Err(Full),
            (Err(_), Some(queue)) => {
                let before = places.waiting.fetch_add(1, Ordering::Relaxed);
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&places.waiting, &self.waiting);
                if before >= queue.length {
                    return Err(Full);
                }
                let taking = places.free.clone().acquire_owned();
                tokio::time::timeout(queue.time, taking).await.map_err(|_| Full)?.map_err(|_| Full)?
            }
        };
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Held { permit: Some(permit), _use_of: use_of })
    }

    /// Places taken, of all keys.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_as_there_are_places_and_the_rest_waits_in_a_short_queue() {
        let slots = Slots::new(2, Some(Queue { length: 1, time: Duration::from_secs(1) }));
        let first = slots.take(7).await.unwrap();
        let _second = slots.take(7).await.unwrap();
        let other = slots.take(8).await.unwrap();
        let waiter = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(7).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(slots.waiting(), 1);
        assert_eq!(slots.take(7).await.unwrap_err(), Full, "the queue is full");
        drop(first);
        let third = waiter.await.unwrap().unwrap();
        assert_eq!(slots.take(7).await.unwrap_err(), Full, "after a second of waiting");
        assert_eq!((slots.held(), slots.waiting(), slots.keys()), (3, 0, 2));
        drop((third, other, _second));
        assert_eq!((slots.held(), slots.keys()), (0, 0), "nothing is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let slots = Slots::new(1, Some(Queue { length: 9, time: Duration::from_secs(9) }));
        let held = slots.take(7).await.unwrap();
        let left = tokio::time::timeout(Duration::from_millis(1), slots.take(7)).await;
        assert!(left.is_err());
        assert_eq!(slots.waiting(), 0);
        drop(held);
        assert_eq!(slots.keys(), 0);
    }
}
