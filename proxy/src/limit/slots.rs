//! How many at once: requests under way, sockets that are open, for each key; and who may wait for a place.
//!
//! Each proxy counts for itself first: it never lets in more than there are places. Where a Redis counts for all (`places.rs`), a place must be granted there, too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::places::{Granted, Places as InRedis};
use super::spec::{Queue, WhenDown};

const SHARDS: usize = 16;
/// Who waits for a place that another proxy holds asks again so often. One of a key does so at a time.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// Places for each key. A key that nobody uses takes no memory.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    queue: Option<Queue>,
    in_redis: Option<InRedis>,
    shards: [Mutex<HashMap<u128, Arc<Places>>>; SHARDS],
    held: AtomicUsize,
    waiting: AtomicUsize,
    /// Places that were given without Redis, by what is configured for that: share, full, open, closed.
    without_redis: [AtomicUsize; 4],
}

/// The places of one key.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Held here or asked for, as Redis is told; and its key there.
    pub(super) here: AtomicUsize,
    pub(super) name: Box<str>,
    /// Held while a number is given to what is said, and what is held is read.
    pub(super) order: Mutex<()>,
    /// Whose turn it is to ask again.
    turn: tokio::sync::Mutex<()>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken, and nobody may wait, or waited long enough.
    Taken,
    /// Redis cannot be asked, and nothing may pass without it.
    Closed,
}

/// A place. Dropping it frees it.
#[derive(Debug)]
pub struct Held {
    permit: Option<OwnedSemaphorePermit>,
    use_of: Option<Use>,
    /// It counts in Redis.
    shared: bool,
}

/// That somebody has to do with a key's places: the last one takes them out of the table.
#[derive(Debug)]
pub(super) struct Use {
    slots: Arc<Slots>,
    key: u128,
    pub(super) places: Arc<Places>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permit = None;
        let Some(use_of) = self.use_of.take() else { return };
        let slots = use_of.slots.clone();
        slots.held.fetch_sub(1, Ordering::Relaxed);
        if self.shared
            && let Some(in_redis) = &slots.in_redis
        {
            use_of.places.here.fetch_sub(1, Ordering::Relaxed);
            in_redis.tell_later(use_of);
        }
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

/// Takes a place that was asked for, and may have been given, back.
struct Asked<'a>(&'a InRedis, Option<Use>);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(use_of) = self.1.take() {
            use_of.places.here.fetch_sub(1, Ordering::Relaxed);
            self.0.tell_later(use_of);
        }
    }
}

impl Slots {
    pub(super) fn new(max: usize, queue: Option<Queue>, in_redis: Option<InRedis>) -> Arc<Self> {
        let (held, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (shards, without_redis) = Default::default();
        let slots = Arc::new(Self { max, queue, in_redis, shards, held, waiting, without_redis });
        if let Some(in_redis) = &slots.in_redis {
            in_redis.keep(&slots);
        }
        slots
    }

    /// Whether these are such places: then a reload keeps them, and those who hold one.
    pub(super) fn are(&self, max: usize, queue: Option<Queue>, in_redis: Option<&InRedis>) -> bool {
        let same = match (&self.in_redis, in_redis) {
            (None, None) => true,
            (Some(one), Some(other)) => one.are(other),
            _ => false,
        };
        same && self.max == max && self.queue == queue
    }

    fn shard(&self, key: u128) -> &Mutex<HashMap<u128, Arc<Places>>> {
        &self.shards[usize::try_from(key % SHARDS as u128).unwrap_or_default()]
    }

    fn use_of(self: &Arc<Self>, hash: u128, key: &[u8]) -> Use {
        let mut shard = self.shard(hash).lock();
        let new = || {
            let name = self.in_redis.as_ref().map(|in_redis| in_redis.name(key)).unwrap_or_default();
            Arc::new(Places {
                free: Arc::new(Semaphore::new(self.max)),
                waiting: AtomicUsize::new(0),
                here: AtomicUsize::new(0),
                name,
                order: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
            })
        };
        let places = shard.entry(hash).or_insert_with(new).clone();
        Use { slots: self.clone(), key: hash, places }
    }

    /// Those of whom Redis has to be told again and again.
    pub(super) fn all_held(self: &Arc<Self>) -> Vec<Use> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let held = shard.iter().filter(|(_, places)| places.here.load(Ordering::Relaxed) > 0);
            all.extend(held.map(|(key, places)| Use {
                slots: self.clone(),
                key: *key,
                places: places.clone(),
            }));
        }
        all
    }

    /// Takes a place, or waits for one as far as that is allowed. `hash`: of the key.
    pub(super) async fn take(self: &Arc<Self>, hash: u128, key: &[u8]) -> Result<Held, Full> {
        let use_of = self.use_of(hash, key);
        let places = &use_of.places;
        let until = self.queue.map(|queue| Instant::now() + queue.time);
        let mut waiting = None;
        let permit = match places.free.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if self.is_open() => None,
            Err(_) => {
                let until = until.ok_or(Full::Taken)?;
                waiting = Some(self.wait(places)?);
                let taking = tokio::time::timeout_at(until, places.free.clone().acquire_owned());
                Some(taking.await.map_err(|_| Full::Taken)?.map_err(|_| Full::Taken)?)
            }
        };
        let shared = match &self.in_redis {
            Some(in_redis) => self.granted(in_redis, &use_of, until, &mut waiting).await?,
            None => false,
        };
        drop(waiting);
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Held { permit, use_of: Some(use_of), shared })
    }

    /// Counts among those who wait, if there is room.
    fn wait<'w>(&'w self, places: &'w Places) -> Result<Waiting<'w>, Full> {
        let queue = self.queue.ok_or(Full::Taken)?;
        let before = places.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&places.waiting, &self.waiting);
        if before >= queue.length { Err(Full::Taken) } else { Ok(waiting) }
    }

    /// Whether everything passes, because Redis is away and that is what is configured for it.
    fn is_open(&self) -> bool {
        self.in_redis
            .as_ref()
            .is_some_and(|in_redis| in_redis.when_down() == WhenDown::Open && !in_redis.is_there())
    }

    /// Asks Redis for the place, or decides without. True: it counts there, or will.
    async fn granted<'w>(
        &'w self,
        in_redis: &InRedis,
        use_of: &'w Use,
        until: Option<Instant>,
        waiting: &mut Option<Waiting<'w>>,
    ) -> Result<bool, Full> {
        let places = &*use_of.places;
        let mut turn = None;
        loop {
            places.here.fetch_add(1, Ordering::Relaxed);
            let another = Use { slots: use_of.slots.clone(), key: use_of.key, places: use_of.places.clone() };
            let mut asked = Asked(in_redis, Some(another));
            match in_redis.take(places, self.max).await {
                Ok(Granted::Yes) => {
                    asked.1 = None;
                    return Ok(true);
                }
                Ok(Granted::No(sequence)) => {
                    let another = asked.1.take();
                    places.here.fetch_sub(1, Ordering::AcqRel);
                    // What has not been given needs no telling, unless something else was said meanwhile.
                    if let (Some(another), true) = (another, in_redis.said_since(sequence)) {
                        in_redis.tell_later(another);
                    }
                }
                // It is told of when it can be: then it counts for the others, too.
                Err(_) => {
                    self.without_redis(in_redis, places)?;
                    asked.1 = None;
                    return Ok(true);
                }
            }
            let until = until.ok_or(Full::Taken)?;
            if waiting.is_none() {
                *waiting = Some(self.wait(places)?);
            }
            let asking_again = async {
                if turn.is_none() {
                    turn = Some(places.turn.lock().await);
                }
                tokio::time::sleep(ASK_AGAIN).await;
            };
            tokio::time::timeout_at(until, asking_again).await.map_err(|_| Full::Taken)?;
        }
    }

    fn without_redis(&self, in_redis: &InRedis, places: &Places) -> Result<(), Full> {
        let when_down = in_redis.when_down();
        self.without_redis[when_down as usize].fetch_add(1, Ordering::Relaxed);
        match when_down {
            WhenDown::Open | WhenDown::Full => Ok(()),
            WhenDown::Closed => Err(Full::Closed),
            WhenDown::Share => {
                // With ours, which is taken already.
                let here = self.max.saturating_sub(places.free.available_permits());
                let proxies = usize::try_from(in_redis.proxies()).unwrap_or(usize::MAX);
                if here <= (self.max / proxies).max(1) { Ok(()) } else { Err(Full::Taken) }
            }
        }
    }

    /// Places taken, of all keys.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many were decided without Redis: by the share, full, open, closed.
    pub(super) fn decided_without_redis(&self) -> [usize; 4] {
        std::array::from_fn(|mode| self.without_redis[mode].load(Ordering::Relaxed))
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_as_there_are_places_and_the_rest_waits_in_a_short_queue() {
        let slots = Slots::new(2, Some(Queue { length: 1, time: Duration::from_secs(1) }), None);
        let first = slots.take(7, b"").await.unwrap();
        let _second = slots.take(7, b"").await.unwrap();
        let other = slots.take(8, b"").await.unwrap();
        let waiter = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(7, b"").await }
        });
        tokio::task::yield_now().await;
        assert_eq!(slots.waiting(), 1);
        assert_eq!(slots.take(7, b"").await.unwrap_err(), Full::Taken, "the queue is full");
        drop(first);
        let third = waiter.await.unwrap().unwrap();
        assert_eq!(slots.take(7, b"").await.unwrap_err(), Full::Taken, "after a second of waiting");
        assert_eq!((slots.held(), slots.waiting(), slots.keys()), (3, 0, 2));
        drop((third, other, _second));
        assert_eq!((slots.held(), slots.keys()), (0, 0), "nothing is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let slots = Slots::new(1, Some(Queue { length: 9, time: Duration::from_secs(9) }), None);
        let held = slots.take(7, b"").await.unwrap();
        let left = tokio::time::timeout(Duration::from_millis(1), slots.take(7, b"")).await;
        assert!(left.is_err());
        assert_eq!(slots.waiting(), 0);
        drop(held);
        assert_eq!(slots.keys(), 0);
    }
}
