//! Sessions in both stores: Redis, which all proxies share, and the durable one, which outlives everything: SQLite on this machine, or a PostgreSQL that all machines share.
//!
//! A change goes to both, in the same words, and each merges it: neither is ever overwritten with what the other has. What Redis has not taken is marked in the durable store and sent later;
//! until it has all of it, reads ask both. What the durable store has not taken is kept here (`owed.rs`) and handed over later. Trouble is no answer: only a store that says so makes a session
//! be over.
//!
//! Where the durable store is this machine's alone, it hears what other proxies have ended, and a Redis that has forgotten is told again of every end that it knows (`ends.rs`): otherwise
//! one disk would bring back what was ended by another proxy.
//!
//! With a PostgreSQL, the marks of other proxies count too: after each new connection to Redis, and once a second, it is asked whether anything is marked. Until that is known, reads ask both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use session_state::{Declined, Session};

use super::cookie::Handle;
use super::durable::{Durable, Merging, UNSENT_MAX};
use super::ends::Ends;
use super::owed::Owed;
use super::redis::InRedis;

/// What a store has of a session.
pub(super) type Stored = Result<Option<Session>, Trouble>;

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// It is taken in, and this is what there is now.
    Done(Session),
    /// The session has another version by now.
    Conflict,
    /// The session is over.
    Over,
}

impl From<Declined> for Written {
    fn from(declined: Declined) -> Self {
        match declined {
            Declined::Conflict => Self::Conflict,
            Declined::Over => Self::Over,
        }
    }
}

/// A store that cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// Redis.
    #[error("Redis does not answer")]
    Redis,
    /// The disk, or PostgreSQL.
    #[error("the durable store does not answer")]
    Durable,
}

/// Both stores, or one.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) redis: Option<InRedis>,
    pub(super) durable: Option<Arc<Durable>>,
    /// How often something was marked that Redis has not taken, and up to which mark it was sent.
    marks: AtomicU64,
    sent: AtomicU64,
    /// The number of the connection to Redis over which it has got all that was marked.
    settled: AtomicU64,
    owed: Owed,
    /// Sessions of which both stores were compared, by the connection to Redis over which that was done. A Redis that comes back may have read an old file, in which sessions live that were ended since.
    compared: Cache<Handle, u64>,
    /// What others have ended, and what they are told of.
    pub(super) ends: Ends,
}

/// Sessions that are known to be the same in both stores; of others, both are asked.
const COMPARED_MAX: usize = 65_536;

impl Stores {
    pub(super) fn new(redis: Option<InRedis>, durable: Option<Arc<Durable>>, owed: Owed) -> Self {
        // What an earlier process has left is not known before it was looked for.
        let marks = AtomicU64::new(u64::from(redis.is_some() && durable.is_some()));
        Self {
            redis,
            durable,
            marks,
            sent: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            owed,
            compared: Cache::new(COMPARED_MAX),
            ends: Ends::default(),
        }
    }

    /// What there is of a session; `Ok(None)`: nothing, and that is sure.
    pub(super) async fn read(&self, handle: Handle, now_ms: u64) -> Stored {
        let link = self.redis.as_ref().and_then(InRedis::connection);
        let mut first = self.read_redis(handle).await;
        let Some(durable) = &self.durable else { return first };
        let is_compared = link.is_some() && self.compared.get(&handle) == link;
        if matches!(first, Ok(Some(_))) && is_compared && !self.has_unsent() {
            return first;
        }
        let mut second = self.read_durable(durable, handle).await;
        // It looks like a Redis that has forgotten: what others have ended it may have forgotten, too.
        if let (Ok(None), Ok(Some(other))) = (&first, &second)
            && !other.ended
            && let Some(again) = Box::pin(self.read_again(durable, handle)).await
        {
            (first, second) = again;
        }
        let both_say = second.is_ok();
        let found = match (first.clone(), second) {
            (Ok(Some(mut session)), Ok(Some(other))) => {
                session.merge(&other);
                session
            }
            (Ok(Some(session)), _) | (_, Ok(Some(session))) => session,
            // Another machine's session may lie in Redis alone: this disk's word is not enough.
            (Err(trouble), Ok(None)) if self.redis.is_some() && !durable.is_shared() => return Err(trouble),
            (_, Ok(None)) => return Ok(None),
            // Redis has forgotten, and the durable store cannot be asked.
            (_, Err(trouble)) => return Err(trouble),
        };
        // Redis learns what it has forgotten, by the same merge: what is newer there stays.
        if let (Some(redis), Ok(known), Some(link)) = (&self.redis, &first, link) {
            let knows =
                known.as_ref() == Some(&found) || redis.merge(&handle, &found, now_ms, None).await.is_ok();
            if knows && both_say {
                self.compared.insert(handle, link);
            }
        }
        Ok(Some(found))
    }

    /// Both stores once more, when others have had the time to say what is over; `None`: that cannot be told.
    async fn read_again(&self, durable: &Durable, handle: Handle) -> Option<(Stored, Stored)> {
        self.catch_up().await.ok()?;
        Some((self.read_redis(handle).await, self.read_durable(durable, handle).await))
    }

    async fn read_redis(&self, handle: Handle) -> Stored {
        match &self.redis {
            Some(redis) => redis.read(&handle).await,
            None => Err(Trouble::Redis),
        }
    }

    /// With what it is owed.
    async fn read_durable(&self, durable: &Durable, handle: Handle) -> Stored {
        let found = durable.read(handle).await?;
        Ok(match (found, self.owed.of(&handle)) {
            (Some(mut session), Some(owed)) => {
                session.merge(&owed);
                Some(session)
            }
            (found, owed) => found.or(owed),
        })
    }

    /// What Redis knows is not to be trusted to be all that was marked, nor to be what it was compared with.
    pub(super) fn doubt_redis(&self) {
        self.mark(true);
        self.compared.clear();
    }

    /// Takes in a change, in all stores that can be asked; at least in one.
    pub(super) async fn merge(
        &self,
        handle: Handle,
        change: &Session,
        now_ms: u64,
        if_version: Option<u64>,
        user: Option<[u8; 32]>,
    ) -> Result<Written, Trouble> {
        let first = match &self.redis {
            Some(redis) => redis.merge(&handle, change, now_ms, if_version).await,
            None => Err(Trouble::Redis),
        };
        let Some(durable) = &self.durable else { return first };
        if first == Ok(Written::Conflict) {
            return first;
        }
        let unsent = self.redis.is_some() && first.is_err();
        self.mark(unsent);
        // The durable store takes all that Redis has now: other proxies may have written what never came by here.
        let mut whole = change.clone();
        if let Ok(Written::Done(session)) = &first {
            whole.merge(session);
        }
        // Where Redis has compared the version, the durable store only follows.
        let if_version = if first.is_ok() { None } else { if_version };
        let second = durable.merge(handle, whole.clone(), Merging { now_ms, if_version, unsent, user }).await;
        // Once more: whoever sends may have looked between the first mark and the row.
        self.mark(unsent);
        match (first, second) {
            (Ok(Written::Done(_)), Ok(Written::Over)) => {
                // Redis had forgotten the end.
                if let Some(redis) = &self.redis {
                    let _ = redis.merge(&handle, &change.ending(), now_ms, None).await;
                }
                Ok(Written::Over)
            }
            (Ok(Written::Over), Ok(Written::Done(_))) => {
                let how = Merging { now_ms, if_version: None, unsent: false, user: None };
                let _ = durable.merge(handle, change.ending(), how).await;
                Ok(Written::Over)
            }
            // Redis may have been emptied, so that the durable store has more.
            (Ok(Written::Done(mut session)), Ok(Written::Done(other))) => {
                session.merge(&other);
                Ok(Written::Done(session))
            }
            // What only Redis has taken is handed over later.
            (Ok(written), Err(_)) => {
                let change = if written == Written::Over { change.ending() } else { whole };
                self.owed.note(handle, change, user).await;
                Ok(written)
            }
            (Err(_), second) => second,
            (first, _) => first,
        }
    }

    fn mark(&self, unsent: bool) {
        if unsent {
            self.marks.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn has_unsent(&self) -> bool {
        self.marks.load(Ordering::Acquire) != self.sent.load(Ordering::Acquire) || !self.is_settled()
    }

    /// Whether nothing of others is left to be sent over the connection that there is now.
    fn is_settled(&self) -> bool {
        let (Some(redis), Some(durable)) = (&self.redis, &self.durable) else { return true };
        !durable.is_shared() || redis.connection() == Some(self.settled.load(Ordering::Acquire))
    }

    /// Hands over what the durable store has not taken.
    pub(super) async fn pay(&self, now_ms: u64) {
        let Some(durable) = self.durable.as_ref().filter(|durable| durable.is_up()) else { return };
        while self.owed.len() > 0 {
            let (sessions, users) = self.owed.some(UNSENT_MAX);
            let (all, (mut paid, mut paid_users)) = (sessions.len() + users.len(), (Vec::new(), Vec::new()));
            for owed in sessions {
                let how = Merging { now_ms, if_version: None, unsent: false, user: owed.user };
                if durable.merge(owed.handle, owed.change.clone(), how).await.is_err() {
                    break;
                }
                paid.push(owed);
            }
            for owed in users {
                if durable.log_out(owed.user, owed.version, owed.ends_ms, false).await.is_err() {
                    break;
                }
                paid_users.push(owed);
            }
            let is_done = paid.len() + paid_users.len() == all;
            self.owed.paid(paid, paid_users).await;
            if !is_done {
                return;
            }
        }
    }

    /// Whether the durable store can be asked, as far as that is known; what it has not taken; and what was forgotten of that.
    pub(super) fn durable_state(&self) -> Option<(bool, usize, u64)> {
        let durable = self.durable.as_ref()?;
        Some((durable.is_up(), self.owed.len(), self.owed.forgotten()))
    }

    /// What came of asking the durable store, where it is a server.
    pub(super) fn durable_counts(&self) -> Option<[(&'static str, u64); 4]> {
        self.durable.as_ref()?.counts()
    }

    /// Sends Redis what it has not taken. True: it has all.
    pub(super) async fn send(&self, now_ms: u64) -> bool {
        let (Some(redis), Some(durable)) = (&self.redis, &self.durable) else { return true };
        if !self.has_unsent() && !durable.is_shared() {
            return true;
        }
        let connection = redis.connection();
        let mut upto = self.marks.load(Ordering::Acquire);
        loop {
            let Ok((sessions, logouts)) = durable.unsent().await else { return false };
            let is_last = sessions.len() < UNSENT_MAX;
            if durable.is_shared() && !(sessions.is_empty() && logouts.is_empty()) {
                // Another proxy's: until it is sent, reads ask both.
                self.mark(true);
                upto = self.marks.load(Ordering::Acquire);
            }
            let (mut sent, mut told, mut all) = (Vec::new(), Vec::new(), true);
            for (handle, session, mark) in sessions {
                match redis.merge(&handle, &session, now_ms, None).await {
                    Ok(_) => sent.push((handle, mark)),
                    Err(_) => all = false,
                }
            }
            for (user, version, ends_ms) in logouts {
                match redis.log_out(&user, version, ends_ms).await {
                    Ok(()) => told.push((user, version)),
                    Err(_) => all = false,
                }
            }
            if all && is_last {
                self.sent.store(upto, Ordering::Release);
                if let Some(connection) = connection {
                    self.settled.store(connection, Ordering::Release);
                }
            }
            if !(sent.is_empty() && told.is_empty()) {
                durable.sent(sent, told).await;
            }
            if !all || is_last {
                return all;
            }
        }
    }

    /// All sessions of somebody that are of this version or older are over.
    pub(super) async fn log_out(&self, user: [u8; 32], version: u64, ends_ms: u64) -> Result<(), Trouble> {
        let first = match &self.redis {
            Some(redis) => redis.log_out(&user, version, ends_ms).await,
            None => Err(Trouble::Redis),
        };
        let Some(durable) = &self.durable else { return first };
        let unsent = self.redis.is_some() && first.is_err();
        self.mark(unsent);
        let second = durable.log_out(user, version, ends_ms, unsent).await;
        self.mark(unsent);
        if first.is_ok() && second.is_err() {
            self.owed.note_user(user, version, ends_ms).await;
        }
        first.or(second)
    }

    /// Until which version the sessions of somebody are over.
    pub(super) async fn logged_out(&self, user: [u8; 32]) -> Result<u64, Trouble> {
        let in_redis = async {
            match &self.redis {
                Some(redis) => redis.logged_out(&user).await,
                None => Err(Trouble::Redis),
            }
        };
        let Some(durable) = &self.durable else { return in_redis.await };
        // Both, for Redis may have been emptied; and whichever can be asked, for either alone has been told.
        match tokio::join!(in_redis, durable.logged_out(user)) {
            (Ok(one), Ok(other)) => Ok(one.max(other).max(self.owed.of_user(&user))),
            (Ok(version), Err(_)) | (Err(_), Ok(version)) => Ok(version.max(self.owed.of_user(&user))),
            (Err(_), Err(trouble)) => Err(trouble),
        }
    }
}
