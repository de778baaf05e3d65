//! The durable store, whichever it is: SQLite on this machine, or a PostgreSQL that several machines share.
//!
//! Both read, merge and write, by the same rule ([`Session::taken_in`]); neither is ever told to hold a session as it is given.

#[cfg(feature = "postgres")]
use std::sync::Arc;

use session_state::Session;

use super::cookie::Handle;
use super::disk::Disk;
use super::ends::End;
#[cfg(feature = "postgres")]
use super::postgres::Postgres;
use super::store::{Stored, Trouble, Written};

/// The durable store.
#[derive(Debug)]
pub(super) enum Durable {
    /// On this machine.
    Disk(Disk),
    /// Of all machines.
    #[cfg(feature = "postgres")]
    Postgres(Arc<Postgres>),
}

/// How a change is taken in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merging {
    pub(super) now_ms: u64,
    pub(super) if_version: Option<u64>,
    /// Redis has not taken it.
    pub(super) unsent: bool,
    /// Whom it belongs to, as a digest.
    pub(super) user: Option<[u8; 32]>,
}

/// Sessions, each with the mark of what was read, and until which version all of somebody's are over and for how long that is remembered: what Redis has not taken.
pub(super) type Unsent = (Vec<(Handle, Session, u64)>, Vec<([u8; 32], u64, u64)>);
/// A session that Redis has now, as far as it was read with this mark.
pub(super) type Sent = (Handle, u64);
/// Somebody of whom Redis knows now until which version all sessions are over.
pub(super) type ToldOf = ([u8; 32], u64);

/// Sessions that are read at once to be sent.
pub(super) const UNSENT_MAX: usize = 1_000;

/// The same question to whichever it is.
macro_rules! ask {
    ($durable:expr, $store:ident => $ask:expr) => {
        match $durable {
            Durable::Disk($store) => $ask.await,
            #[cfg(feature = "postgres")]
            Durable::Postgres($store) => $ask.await,
        }
    };
}

impl Durable {
    /// Whether other proxies write there, too: then what one of them has not sent to Redis is for all to know.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self, Self::Disk(_))
    }

    /// Whether it can be asked at the moment, as far as that is known.
    pub(super) fn is_up(&self) -> bool {
        match self {
            Self::Disk(_) => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.is_up(),
        }
    }

    /// What came of asking it, where it is a server.
    pub(super) fn counts(&self) -> Option<[(&'static str, u64); 4]> {
        match self {
            Self::Disk(_) => None,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Some(store.counts()),
        }
    }

    pub(super) async fn read(&self, handle: Handle) -> Stored {
        ask!(self, store => store.read(handle))
    }

    pub(super) async fn merge(
        &self,
        handle: Handle,
        change: Session,
        how: Merging,
    ) -> Result<Written, Trouble> {
        ask!(self, store => store.merge(handle, change, how))
    }

    pub(super) async fn log_out(
        &self,
        user: [u8; 32],
        version: u64,
        ends_ms: u64,
        unsent: bool,
    ) -> Result<(), Trouble> {
        ask!(self, store => store.log_out(user, version, ends_ms, unsent))
    }

    /// Until which version all sessions of somebody are over.
    pub(super) async fn logged_out(&self, user: [u8; 32]) -> Result<u64, Trouble> {
        ask!(self, store => store.logged_out(user))
    }

    pub(super) async fn list(
        &self,
        user: Option<[u8; 32]>,
        max: u64,
    ) -> Result<Vec<(Handle, Session)>, Trouble> {
        ask!(self, store => store.list(user, max))
    }

    /// Ends that are known here and to be remembered still, some of them: those after the given one. Of a store that is shared, nobody has to be told.
    pub(super) async fn ends(&self, after: Option<End>, now_ms: u64) -> Result<Vec<End>, Trouble> {
        match self {
            Self::Disk(disk) => disk.ends(after, now_ms).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(Vec::new()),
        }
    }

    /// Others have ended this.
    pub(super) async fn heard(&self, ends: Vec<End>) -> Result<(), Trouble> {
        match self {
            Self::Disk(disk) => disk.heard(ends).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(()),
        }
    }

    /// What Redis has not taken, [`UNSENT_MAX`] sessions at most.
    pub(super) async fn unsent(&self) -> Result<Unsent, Trouble> {
        ask!(self, store => store.unsent())
    }

    /// Redis has these now, unless they have changed since they were read.
    pub(super) async fn sent(&self, sessions: Vec<Sent>, logouts: Vec<ToldOf>) {
        ask!(self, store => store.sent(sessions, logouts))
    }
}
