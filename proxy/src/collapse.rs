//! Collapsed forwarding: one fill per key, and the requests that wait for it.
//!
//! The first request for a key leads: it gets a [`FillToken`]. Others wait until the leader tells what came of it. A token that is dropped
//! without a word (the fill's task panicked, or was given up) lets all its waiters go on alone: nobody is ever stuck.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Locks of the table; keys are spread over them.
const SHARDS: usize = 64;

type Shard<T> = Mutex<HashMap<Arc<[u8]>, Fill<T>, ahash::RandomState>>;

/// Fills under way, by key. `T` is what a leader tells its waiters.
#[derive(Debug)]
pub struct Fills<T> {
    shards: Box<[Shard<T>]>,
    hasher: ahash::RandomState,
    waiters_max: usize,
}

/// A fill under way. Most of them are over before anybody waits for them, and have no channel.
#[derive(Debug)]
struct Fill<T> {
    /// What the leader has said last.
    told: Option<T>,
    /// To those who wait: the same.
    waiters: Option<watch::Sender<Option<T>>>,
}

impl<T> Fill<T> {
    fn waiting(&self) -> usize {
        self.waiters.as_ref().map_or(0, watch::Sender::receiver_count)
    }
}

/// What a request is to do that found nothing stored.
#[derive(Debug)]
pub enum Join<T> {
    /// Fetch, and tell the others.
    Lead(FillToken<T>),
    /// Wait for the one that fetches.
    Wait(Waiter<T>),
    /// Fetch alone: enough are waiting already.
    Alone,
}

impl<T> Fills<T> {
    fn shard(&self, key: &[u8]) -> &Shard<T> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        &self.shards[index]
    }
}

impl<T: Clone> Fills<T> {
    /// A table in which at most `waiters_max` requests wait for one fill.
    pub fn new(waiters_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: ahash::RandomState::default(), waiters_max }
    }

    /// Leads the fill of `key`, or joins the one under way.
    pub fn join(self: &Arc<Self>, key: &[u8]) -> Join<T> {
        let mut fills = self.shard(key).lock();
        if let Some(fill) = fills.get_mut(key) {
            if fill.waiting() >= self.waiters_max {
                return Join::Alone;
            }
            let told = &fill.told;
            let sender = fill.waiters.get_or_insert_with(|| watch::Sender::new(told.clone()));
            return Join::Wait(Waiter { word: sender.subscribe() });
        }
        let key: Arc<[u8]> = key.into();
        fills.insert(key.clone(), Fill { told: None, waiters: None });
        Join::Lead(FillToken { fills: self.clone(), key })
    }

    /// Fills under way.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Requests that wait for one of them.
    pub fn waiting(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().map(Fill::waiting).sum::<usize>()).sum()
    }

    /// Whether no fill is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The right, and the duty, to fetch for everyone who wants this key.
#[derive(Debug)]
pub struct FillToken<T> {
    fills: Arc<Fills<T>>,
    key: Arc<[u8]>,
}

impl<T: Clone> FillToken<T> {
    /// Tells the waiters, those that still come included. May be called again: later ones are told the later outcome.
    pub fn tell(&self, outcome: T) {
        let mut fills = self.fills.shard(&self.key).lock();
        let Some(fill) = fills.get_mut(&self.key) else { return };
        if let Some(waiters) = &fill.waiters {
            waiters.send_replace(Some(outcome.clone()));
        }
        let before = fill.told.replace(outcome);
        drop(fills);
        drop(before);
    }
}

impl<T> Drop for FillToken<T> {
    fn drop(&mut self) {
        // With it goes the sender: whoever waits finds what was told last, or that nothing was.
        let over = self.fills.shard(&self.key).lock().remove(&self.key);
        drop(over);
    }
}

/// A request that waits.
#[derive(Debug)]
pub struct Waiter<T> {
    word: watch::Receiver<Option<T>>,
}

impl<T: Clone> Waiter<T> {
    /// What came of the fill; `None` if its leader is gone without a word.
    pub async fn outcome(mut self) -> Option<T> {
        self.word.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(fills: &Arc<Fills<&'static str>>, key: &[u8]) -> FillToken<&'static str> {
        let Join::Lead(token) = fills.join(key) else { panic!("somebody else leads") };
        token
    }

    fn wait(fills: &Arc<Fills<&'static str>>, key: &[u8]) -> Waiter<&'static str> {
        let Join::Wait(waiter) = fills.join(key) else { panic!("nobody leads") };
        waiter
    }

    #[tokio::test]
    async fn all_who_wait_are_told_early_or_late() {
        let fills = Arc::new(Fills::new(10));
        let token = lead(&fills, b"key");
        let early = tokio::spawn(wait(&fills, b"key").outcome());
        tokio::task::yield_now().await;
        token.tell("stored");
        assert_eq!(early.await.unwrap(), Some("stored"));
        assert_eq!(wait(&fills, b"key").outcome().await, Some("stored"));
        drop(token);
        assert!(fills.is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_leaves_without_a_word_releases_its_waiters() {
        let fills = Arc::new(Fills::new(10));
        let token = lead(&fills, b"key");
        let waiting = tokio::spawn(wait(&fills, b"key").outcome());
        tokio::task::yield_now().await;
        let waiter = wait(&fills, b"key");
        drop(token);
        assert_eq!(waiting.await.unwrap(), None);
        assert_eq!(waiter.outcome().await, None, "and so is one that had not begun to wait");
        drop(lead(&fills, b"key"));
    }

    #[test]
    fn waiters_are_bounded() {
        let fills = Arc::new(Fills::new(1));
        let _token = lead(&fills, b"key");
        let waiter = wait(&fills, b"key");
        assert!(matches!(fills.join(b"key"), Join::Alone));
        drop(waiter);
        assert!(matches!(fills.join(b"key"), Join::Wait(_)));
    }
}
