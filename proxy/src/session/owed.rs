//! What Redis has taken and the durable store has not: kept until that is back, within bounds. In memory; and where there is a folder, on this machine's disk, so that a proxy that is killed meanwhile still owes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};
use session_state::Session;

use super::cookie::Handle;
use crate::durable::{Safety, StoreError, open};

/// Sessions that are remembered. What comes beyond them is counted, and lies in Redis alone.
const SESSIONS_MAX: usize = 16_384;
/// Users of whom all sessions are over.
const USERS_MAX: usize = 16_384;

const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS owed_session (handle BLOB PRIMARY KEY, state BLOB NOT NULL, user BLOB, number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS owed_user (user BLOB PRIMARY KEY, version INTEGER NOT NULL, ends_ms INTEGER NOT NULL, number INTEGER NOT NULL);";

/// Changes of a session.
#[derive(Debug, Clone)]
pub(super) struct OwedSession {
    pub(super) handle: Handle,
    pub(super) change: Session,
    /// Whom it belongs to, as a digest.
    pub(super) user: Option<[u8; 32]>,
    /// The number of the last of them.
    number: u64,
}

/// Until which version all sessions of somebody are over, and for how long that is remembered.
#[derive(Debug, Clone)]
pub(super) struct OwedUser {
    pub(super) user: [u8; 32],
    pub(super) version: u64,
    pub(super) ends_ms: u64,
    number: u64,
}

/// What the durable store is owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    sessions: Mutex<HashMap<Handle, OwedSession>>,
    users: Mutex<HashMap<[u8; 32], OwedUser>>,
    /// What is noted is numbered.
    numbers: AtomicU64,
    forgotten: AtomicU64,
    file: Option<Arc<Mutex<Connection>>>,
}

impl Owed {
    /// What an earlier process has left in `folder` is owed still. Without a folder, it is forgotten with the process.
    pub(super) fn open(folder: Option<&Path>) -> Self {
        let mut owed = Self::default();
        let Some(path) = folder.map(|folder| folder.join("sessions-owed.db")) else { return owed };
        if let Err(error) = owed.read(path) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "what the durable store of sessions misses is forgotten with this process");
        }
        owed
    }

    fn read(&mut self, path: PathBuf) -> Result<(), StoreError> {
        let (connection, aside) = open(&path, Safety::Normal, SCHEMA)?;
        if let Some(aside) = aside {
            tracing::error!(path = %path.display(), moved_to = %aside.display(), "what the durable store of sessions is owed was damaged; a new file is begun");
        }
        let left = left(&connection).map_err(|source| StoreError::File { path, source })?;
        let numbers =
            left.0.iter().map(|session| session.number).chain(left.1.iter().map(|user| user.number));
        self.numbers = AtomicU64::new(numbers.max().unwrap_or_default());
        self.sessions = Mutex::new(left.0.into_iter().map(|session| (session.handle, session)).collect());
        self.users = Mutex::new(left.1.into_iter().map(|user| (user.user, user)).collect());
        self.file = Some(Arc::new(Mutex::new(connection)));
        Ok(())
    }

    /// It has not taken this change.
    pub(super) async fn note(&self, handle: Handle, change: Session, user: Option<[u8; 32]>) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let noted = OwedSession { handle, change, user, number };
        if self.remember(noted.clone()) {
            self.write(move |file| keep(file, &noted)).await;
        }
    }

    /// Nor that all sessions of somebody are over.
    pub(super) async fn note_user(&self, user: [u8; 32], version: u64, ends_ms: u64) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let noted = OwedUser { user, version, ends_ms, number };
        if self.remember_user(noted.clone()) {
            self.write(move |file| keep_user(file, &noted)).await;
        }
    }

    /// False: there is no room.
    fn remember(&self, noted: OwedSession) -> bool {
        let mut sessions = self.sessions.lock();
        if let Some(known) = sessions.get_mut(&noted.handle) {
            known.change.merge(&noted.change);
            known.user = noted.user.or(known.user);
            known.number = known.number.max(noted.number);
        } else if sessions.len() < SESSIONS_MAX {
            sessions.insert(noted.handle, noted);
        } else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn remember_user(&self, noted: OwedUser) -> bool {
        let mut users = self.users.lock();
        if let Some(known) = users.get_mut(&noted.user) {
            known.version = known.version.max(noted.version);
            known.ends_ms = known.ends_ms.max(noted.ends_ms);
            known.number = known.number.max(noted.number);
        } else if users.len() < USERS_MAX {
            users.insert(noted.user, noted);
        } else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// What it would know of a session, were it not for the outage.
    pub(super) fn of(&self, handle: &Handle) -> Option<Session> {
        self.sessions.lock().get(handle).map(|owed| owed.change.clone())
    }

    /// Until which version all sessions of somebody are over, as far as that is owed.
    pub(super) fn of_user(&self, user: &[u8; 32]) -> u64 {
        self.users.lock().get(user).map_or(0, |owed| owed.version)
    }

    /// Some of it, to be handed over. It is owed until it is [paid](Owed::paid).
    pub(super) fn some(&self, at_most: usize) -> (Vec<OwedSession>, Vec<OwedUser>) {
        let sessions = self.sessions.lock().values().take(at_most).cloned().collect();
        (sessions, self.users.lock().values().take(at_most).cloned().collect())
    }

    /// The durable store has these now; what was noted of them since is owed still.
    pub(super) async fn paid(&self, sessions: Vec<OwedSession>, users: Vec<OwedUser>) {
        self.forget(&sessions, &users);
        self.write(move |file| strike(file, &sessions, &users)).await;
    }

    fn forget(&self, sessions: &[OwedSession], users: &[OwedUser]) {
        let mut known = self.sessions.lock();
        for paid in sessions {
            if known.get(&paid.handle).is_some_and(|owed| owed.number <= paid.number) {
                known.remove(&paid.handle);
            }
        }
        let mut known = self.users.lock();
        for paid in users {
            if known.get(&paid.user).is_some_and(|owed| owed.number <= paid.number) {
                known.remove(&paid.user);
            }
        }
    }

    /// Does it to the file, where there is one.
    async fn write(&self, act: impl FnOnce(&mut Connection) -> Result<(), rusqlite::Error> + Send + 'static) {
        let Some(file) = self.file.clone() else { return };
        let acted = tokio::task::spawn_blocking(move || act(&mut file.lock())).await;
        let error = match acted {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error, "what the durable store of sessions is owed is not written to disk");
    }

    /// How much is owed.
    pub(super) fn len(&self) -> usize {
        self.sessions.lock().len() + self.users.lock().len()
    }

    /// Changes for which there was no room.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}

fn left(file: &Connection) -> Result<(Vec<OwedSession>, Vec<OwedUser>), rusqlite::Error> {
    let mut query = file.prepare("SELECT handle, state, user, number FROM owed_session LIMIT ?1")?;
    let sessions = query.query_map([signed(SESSIONS_MAX as u64)], |row| {
        let (state, number): (Vec<u8>, i64) = (row.get(1)?, row.get(3)?);
        let (handle, user) = (Handle(row.get(0)?), row.get(2)?);
        let change = Session::decode(&state).ok();
        Ok(change.map(|change| OwedSession { handle, change, user, number: number.unsigned_abs() }))
    })?;
    let sessions = sessions.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let mut query = file.prepare("SELECT user, version, ends_ms, number FROM owed_user LIMIT ?1")?;
    let users = query.query_map([signed(USERS_MAX as u64)], |row| {
        let (version, ends_ms, number): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(OwedUser {
            user: row.get(0)?,
            version: version.unsigned_abs(),
            ends_ms: ends_ms.unsigned_abs(),
            number: number.unsigned_abs(),
        })
    })?;
    Ok((sessions, users.collect::<Result<_, _>>()?))
}

fn keep(file: &mut Connection, noted: &OwedSession) -> Result<(), rusqlite::Error> {
    let file = file.transaction()?;
    let known = file
        .prepare_cached("SELECT state FROM owed_session WHERE handle = ?1")?
        .query_row([noted.handle.0], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    let mut change = known.and_then(|state| Session::decode(&state).ok()).unwrap_or_default();
    change.merge(&noted.change);
    file.prepare_cached(
        "INSERT INTO owed_session VALUES (?1, ?2, ?3, ?4) ON CONFLICT (handle) DO UPDATE SET
         state = excluded.state, user = coalesce(excluded.user, user), number = max(number, excluded.number)",
    )?
    .execute(params![noted.handle.0, change.encode(), noted.user, signed(noted.number)])?;
    file.commit()
}

fn keep_user(file: &mut Connection, noted: &OwedUser) -> Result<(), rusqlite::Error> {
    file.prepare_cached(
        "INSERT INTO owed_user VALUES (?1, ?2, ?3, ?4) ON CONFLICT (user) DO UPDATE SET version = max(version, excluded.version),
         ends_ms = max(ends_ms, excluded.ends_ms), number = max(number, excluded.number)",
    )?
    .execute(params![noted.user, signed(noted.version), signed(noted.ends_ms), signed(noted.number)])
    .map(drop)
}

fn strike(
    file: &mut Connection,
    sessions: &[OwedSession],
    users: &[OwedUser],
) -> Result<(), rusqlite::Error> {
    let file = file.transaction()?;
    for paid in sessions {
        file.prepare_cached("DELETE FROM owed_session WHERE handle = ?1 AND number <= ?2")?
            .execute(params![paid.handle.0, signed(paid.number)])?;
    }
    for paid in users {
        file.prepare_cached("DELETE FROM owed_user WHERE user = ?1 AND number <= ?2")?
            .execute(params![paid.user, signed(paid.number)])?;
    }
    file.commit()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str) -> Session {
        let wish = session_state::protocol::Wish::parse(Some(name.as_bytes()), None, None).unwrap();
        wish.change(&Session { ends_ms: 9, ..Session::default() }, 1, 1)
    }

    #[tokio::test]
    async fn what_is_owed_is_merged_and_bounded() {
        let owed = Owed::default();
        let handle = Handle([1; 32]);
        owed.note(handle, change("a=1"), None).await;
        owed.note(handle, change("b=2"), Some([7; 32])).await;
        assert_eq!(owed.of(&handle).unwrap().attributes.len(), 2);
        owed.note_user([7; 32], 5, 9).await;
        owed.note_user([7; 32], 4, 10).await;
        assert_eq!((owed.of_user(&[7; 32]), owed.len()), (5, 2));
        let (sessions, users) = owed.some(100);
        assert_eq!(sessions[0].user, Some([7; 32]));
        assert_eq!((users[0].version, users[0].ends_ms), (5, 10));
        owed.paid(sessions, users).await;
        assert_eq!(owed.len(), 0);
        for number in 0..=SESSIONS_MAX as u64 {
            let mut handle = [0; 32];
            handle[..8].copy_from_slice(&number.to_be_bytes());
            owed.note(Handle(handle), Session::default(), None).await;
        }
        assert_eq!((owed.len(), owed.forgotten()), (SESSIONS_MAX, 1));
    }

    #[tokio::test]
    async fn what_is_owed_outlives_the_process_until_it_is_paid() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Handle([1; 32]), Handle([2; 32]));
        let owed = Owed::open(Some(folder.path()));
        owed.note(one, change("a=1"), Some([7; 32])).await;
        owed.note(other, change("a=1"), None).await;
        owed.note_user([7; 32], 5, 9).await;
        // While it is handed over, more is noted: that is owed still.
        let (sessions, users) = owed.some(100);
        owed.note(one, change("b=2"), None).await;
        owed.paid(sessions, users).await;
        assert_eq!((owed.len(), owed.of(&other)), (1, None));
        drop(owed);
        let owed = Owed::open(Some(folder.path()));
        assert_eq!((owed.len(), owed.of(&one).unwrap().attributes.len()), (1, 2));
        let (sessions, users) = owed.some(100);
        assert_eq!(sessions[0].user, Some([7; 32]));
        // What is noted anew is later than what was left.
        owed.note(one, change("c=3"), None).await;
        owed.paid(sessions, users).await;
        assert_eq!(owed.len(), 1);
        let (sessions, users) = owed.some(100);
        owed.paid(sessions, users).await;
        drop(owed);
        assert_eq!(Owed::open(Some(folder.path())).len(), 0);
    }
}
