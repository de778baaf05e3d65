//! What has ended, for all who might still believe in it: sessions, and all sessions of somebody.
//!
//! Each proxy's disk holds sessions on its own, and Redis may forget. So that no disk brings back what was ended elsewhere, an end goes two ways: it is put into a log in Redis, from which each proxy's disk
//! learns of it; and a Redis that was emptied, or that is another process than before, is told again of all ends that a disk knows.
//!
//! Each proxy looks for either ten times a second. Who meets a session that its disk has and Redis does not, so that Redis may have been emptied a moment ago, waits until all who are connected
//! have had the time to tell it again, and hears them, before it believes its disk ([`Stores::catch_up`]).

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use session_state::Session;

use super::cookie::Handle;
use super::redis::History;
use super::store::{Stores, Trouble};

/// How often each proxy looks whether others have ended something, and whether Redis is the one that it has told.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// By then who is connected has looked, and told a Redis that was emptied.
const TOLD_WITHIN: Duration = Duration::from_millis(250);
/// Redis is emptied no more often than this while somebody waits.
const EMPTIED_MAX: usize = 4;

/// Something that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// A session.
    Session {
        /// Which.
        handle: Handle,
        /// When it was begun.
        created_ms: u64,
        /// So long its end is remembered.
        ends_ms: u64,
    },
    /// All sessions of somebody up to a version.
    User {
        /// Who, as a digest.
        user: [u8; 32],
        /// The last of them.
        version: u64,
        /// So long that is remembered.
        ends_ms: u64,
    },
}

impl End {
    /// The change that ends a session.
    pub(super) fn change(created_ms: u64, ends_ms: u64) -> Session {
        Session { created_ms, ends_ms, ended: true, ..Session::default() }
    }
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { handle, created_ms, ends_ms } => {
                write!(out, "s {} {created_ms} {ends_ms}", handle.hex())
            }
            Self::User { user, version, ends_ms } => {
                write!(out, "u {} {version} {ends_ms}", Handle(*user).hex())
            }
        }
    }
}

/// Not something that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoEnd;

impl FromStr for End {
    type Err = NoEnd;

    fn from_str(text: &str) -> Result<Self, NoEnd> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(NoEnd);
        let (kind, digest) = (word()?, Handle::from_hex(word()?).ok_or(NoEnd)?);
        let number = |text: &str| text.parse().map_err(|_| NoEnd);
        let (number, ends_ms) = (number(word()?)?, number(word()?)?);
        match kind {
            _ if word().is_ok() => Err(NoEnd),
            "s" => Ok(Self::Session { handle: digest, created_ms: number, ends_ms }),
            "u" => Ok(Self::User { user: digest.0, version: number, ends_ms }),
            _ => Err(NoEnd),
        }
    }
}

/// What others have ended, and what they are told of.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// What Redis has been told since this is its name, it knows all ends of that this disk does.
    told: Mutex<Option<String>>,
    /// Of which history ends of others were heard, and up to where. Whoever hears holds it, so that none is heard twice.
    upto: tokio::sync::Mutex<Option<(String, Option<String>)>>,
    /// Ends that others have told of.
    heard: AtomicU64,
    /// Ends of which Redis was told again.
    told_again: AtomicU64,
}

impl Ends {
    /// What was counted.
    pub(super) fn counts(&self) -> [(&'static str, u64); 2] {
        [("ends-heard", &self.heard), ("ends-told-again", &self.told_again)]
            .map(|(word, counter)| (word, counter.load(Ordering::Relaxed)))
    }
}

impl Stores {
    /// Whether ends are told and heard: one durable store that all share is asked by all.
    pub(super) fn hears_ends(&self) -> bool {
        self.redis.is_some() && self.durable.as_ref().is_some_and(|durable| !durable.is_shared())
    }

    /// Tells a Redis that has forgotten what was ended, and hears what others have ended. True: it had forgotten; what it has not taken is to be sent again.
    pub(super) async fn look(&self, now_ms: u64) -> bool {
        let Some(redis) = self.redis.as_ref().filter(|_| self.hears_ends()) else { return false };
        let Ok(history) = redis.history().await else { return false };
        let told = self.tell_again(&history, now_ms).await;
        if told.is_some() {
            let _ = self.hear(&history).await;
        }
        told == Some(true)
    }

    /// Tells a Redis that was emptied, or that is another process than the one that was told, of all ends that this disk knows. Whether it was: `None` is not done yet, and to be tried again.
    async fn tell_again(&self, history: &History, now_ms: u64) -> Option<bool> {
        let (Some(redis), Some(durable)) = (&self.redis, &self.durable) else { return Some(false) };
        if self.ends.told.lock().as_ref() == Some(&history.name) {
            return Some(false);
        }
        // Until it knows, reads ask both; and what was compared before was compared with another.
        self.doubt_redis();
        let mut after = None;
        loop {
            let Ok(ends) = durable.ends(after.take(), now_ms).await else { return None };
            let Some(last) = ends.last().cloned() else { break };
            for end in ends {
                let told = match end {
                    End::Session { handle, created_ms, ends_ms } => {
                        redis.merge(&handle, &End::change(created_ms, ends_ms), now_ms, None).await.map(drop)
                    }
                    End::User { user, version, ends_ms } => redis.log_out(&user, version, ends_ms).await,
                };
                if told.is_err() {
                    return None;
                }
                self.ends.told_again.fetch_add(1, Ordering::Relaxed);
            }
            after = Some(last);
        }
        *self.ends.told.lock() = Some(history.name.clone());
        Some(true)
    }

    /// Takes in what others have ended, so that this disk does not bring it back when Redis has forgotten.
    async fn hear(&self, history: &History) -> Result<(), Trouble> {
        let (Some(redis), Some(durable)) = (&self.redis, &self.durable) else { return Ok(()) };
        let mut upto = self.ends.upto.lock().await;
        if upto.as_ref().is_none_or(|(of, _)| *of != history.name) {
            *upto = Some((history.name.clone(), None));
        }
        loop {
            let since = upto.as_ref().and_then(|(_, position)| position.clone());
            let heard = redis.hear(since.as_deref()).await?;
            let count = heard.ends.len() as u64;
            if count > 0 {
                durable.heard(heard.ends).await?;
            }
            self.ends.heard.fetch_add(count, Ordering::Relaxed);
            if heard.upto.is_some() {
                *upto = Some((history.name.clone(), heard.upto));
            }
            if !heard.more {
                return Ok(());
            }
        }
    }

    /// Redis does not know a session that this disk has. Returns when all who are connected have had the time to tell it what they have ended, and that was heard here.
    pub(super) async fn catch_up(&self) -> Result<(), Trouble> {
        let Some(redis) = self.redis.as_ref().filter(|_| self.hears_ends()) else { return Ok(()) };
        for _ in 0..EMPTIED_MAX {
            let history = redis.history().await?;
            let rest = TOLD_WITHIN.saturating_sub(history.age);
            if rest.is_zero() {
                return self.hear(&history).await;
            }
            tokio::time::sleep(rest).await;
        }
        Err(Trouble::Redis)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_end_is_read_as_it_was_written(digest in any::<[u8; 32]>(), number in any::<u64>(), ends_ms in any::<u64>()) {
            let session = End::Session { handle: Handle(digest), created_ms: number, ends_ms };
            let user = End::User { user: digest, version: number, ends_ms };
            for end in [session, user] {
                prop_assert_eq!(end.to_string().parse(), Ok(end));
            }
        }

        #[test]
        fn nothing_else_is_one(text in "([su] )?[0-9a-f]{0,66}( [0-9]{0,22}){0,4}") {
            if let Ok(end) = text.parse::<End>() {
                prop_assert_eq!(end.to_string().parse(), Ok(end));
            }
        }
    }
}
