//! Sessions in SQLite: `sessions.db` in the folder of `[data]`, written by a thread of its own.
//!
//! Whoever asks waits for the commit that has what it wrote; all who ask at the same time share one. A row that Redis has not taken is marked, until it has.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use session_state::Session;
use tokio::sync::{mpsc, oneshot};

use super::cookie::Handle;
use super::durable::{Merging, Sent, ToldOf, Unsent};
use super::ends::End;
use super::store::{Stored, Trouble, Written};
use crate::durable::{Safety, StoreError, open};

const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS session (
  handle BLOB PRIMARY KEY, state BLOB NOT NULL, user BLOB, ends_ms INTEGER NOT NULL, unsent INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS session_user ON session (user);
CREATE INDEX IF NOT EXISTS session_ends ON session (ends_ms);
CREATE INDEX IF NOT EXISTS session_unsent ON session (unsent) WHERE unsent = 1;
CREATE INDEX IF NOT EXISTS session_ended ON session (handle) WHERE substr(state, 28, 1) = x'01';
CREATE TABLE IF NOT EXISTS logout (user BLOB PRIMARY KEY, version INTEGER NOT NULL, ends_ms INTEGER NOT NULL, unsent INTEGER NOT NULL);";

// The schema and `ends` look at the byte that says whether a session was ended; SQLite counts from 1.
const _: () = assert!(session_state::ENDED_AT + 1 == 28, "the byte has moved: so must the index");

/// Requests to the thread that may wait.
const QUEUE_MAX: usize = 4_096;
/// Requests in one commit.
const COMMIT_MAX: usize = 256;
/// Ends that are read at once.
const ENDS_MAX: i64 = 1_000;
/// Commits between two looks for what has ended.
const SWEEP_EVERY: u64 = 1_024;

/// The thread.
#[derive(Debug)]
pub(super) struct Disk(mpsc::Sender<Ask>);

/// What it is asked.
#[derive(Debug)]
enum Ask {
    Read(Handle, oneshot::Sender<Answer>),
    Merge(Handle, Box<Session>, Merging, oneshot::Sender<Answer>),
    LogOut([u8; 32], u64, u64, bool, oneshot::Sender<Answer>),
    LogOutOf([u8; 32], oneshot::Sender<Answer>),
    List(Option<[u8; 32]>, u64, oneshot::Sender<Answer>),
    Unsent(oneshot::Sender<Answer>),
    Sent(Vec<Sent>, Vec<ToldOf>),
    Ends(Option<End>, u64, oneshot::Sender<Answer>),
    Heard(Vec<End>, oneshot::Sender<Answer>),
}

/// What it answers.
#[derive(Debug)]
enum Answer {
    Session(Option<Session>),
    Written(Written),
    Version(u64),
    List(Vec<(Handle, Session)>),
    Unsent(Unsent),
    Ends(Vec<End>),
}

impl Disk {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("sessions.db");
        let (connection, aside) = open(&path, Safety::Normal, SCHEMA)?;
        if let Some(aside) = &aside {
            tracing::error!(path = %path.display(), moved_to = %aside.display(), "the sessions were damaged; a new file is begun");
        }
        let (ask, asked) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("sessions".to_owned())
            .spawn(move || run(connection, asked))
            .map_err(|source| StoreError::Folder { path, source })?;
        Ok(Self(ask))
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Answer>) -> Ask,
        read: impl FnOnce(Answer) -> Option<T>,
    ) -> Result<T, Trouble> {
        let (tell, told) = oneshot::channel();
        self.0.send(ask(tell)).await.map_err(|_| Trouble::Durable)?;
        told.await.ok().and_then(read).ok_or(Trouble::Durable)
    }

    pub(super) async fn read(&self, handle: Handle) -> Stored {
        self.ask(
            |tell| Ask::Read(handle, tell),
            |answer| match answer {
                Answer::Session(session) => Some(session),
                _ => None,
            },
        )
        .await
    }

    pub(super) async fn merge(
        &self,
        handle: Handle,
        change: Session,
        how: Merging,
    ) -> Result<Written, Trouble> {
        self.ask(
            |tell| Ask::Merge(handle, Box::new(change), how, tell),
            |answer| match answer {
                Answer::Written(written) => Some(written),
                _ => None,
            },
        )
        .await
    }

    pub(super) async fn log_out(
        &self,
        user: [u8; 32],
        version: u64,
        ends_ms: u64,
        unsent: bool,
    ) -> Result<(), Trouble> {
        self.ask(|tell| Ask::LogOut(user, version, ends_ms, unsent, tell), |_| Some(())).await
    }

    /// Until which version all sessions of somebody are over.
    pub(super) async fn logged_out(&self, user: [u8; 32]) -> Result<u64, Trouble> {
        self.ask(
            |tell| Ask::LogOutOf(user, tell),
            |answer| match answer {
                Answer::Version(version) => Some(version),
                _ => None,
            },
        )
        .await
    }

    pub(super) async fn list(
        &self,
        user: Option<[u8; 32]>,
        max: u64,
    ) -> Result<Vec<(Handle, Session)>, Trouble> {
        self.ask(
            |tell| Ask::List(user, max, tell),
            |answer| match answer {
                Answer::List(list) => Some(list),
                _ => None,
            },
        )
        .await
    }

    /// What Redis has not taken.
    pub(super) async fn unsent(&self) -> Result<Unsent, Trouble> {
        self.ask(Ask::Unsent, |answer| match answer {
            Answer::Unsent(unsent) => Some(unsent),
            _ => None,
        })
        .await
    }

    /// Ends that are to be remembered still, in an order of their own: those after the given one.
    pub(super) async fn ends(&self, after: Option<End>, now_ms: u64) -> Result<Vec<End>, Trouble> {
        self.ask(
            |tell| Ask::Ends(after, now_ms, tell),
            |answer| match answer {
                Answer::Ends(ends) => Some(ends),
                _ => None,
            },
        )
        .await
    }

    /// Others have ended this: what is known of it here is over, too.
    pub(super) async fn heard(&self, ends: Vec<End>) -> Result<(), Trouble> {
        self.ask(|tell| Ask::Heard(ends, tell), |_| Some(())).await
    }

    /// Redis has these, in these versions.
    pub(super) async fn sent(&self, sessions: Vec<Sent>, logouts: Vec<ToldOf>) {
        let _ = self.0.send(Ask::Sent(sessions, logouts)).await;
    }
}

fn run(mut connection: Connection, mut asked: mpsc::Receiver<Ask>) {
    let mut commits = 0;
    while let Some(first) = asked.blocking_recv() {
        let mut all = vec![first];
        while let (true, Ok(more)) = (all.len() < COMMIT_MAX, asked.try_recv()) {
            all.push(more);
        }
        // Whoever asked hears of a failure by not being answered.
        let mut answers = Vec::with_capacity(all.len());
        let done = connection.transaction().and_then(|transaction| {
            for ask in all {
                serve(&transaction, ask, &mut answers)?;
            }
            commits += 1;
            transaction.commit()
        });
        match done {
            Ok(()) => {
                for (tell, answer) in answers {
                    let _ = tell.send(answer);
                }
            }
            Err(error) => tracing::error!(%error, "sessions are not written to disk"),
        }
        if commits % SWEEP_EVERY == SWEEP_EVERY - 1 {
            commits += 1;
            let sweep =
                "DELETE FROM session WHERE ends_ms < CAST(strftime('%s', 'now') AS INTEGER) * 1000 - 60000";
            if let Err(error) = connection.execute(sweep, []) {
                tracing::debug!(%error, "sessions that have ended stay for now");
            }
        }
    }
}

type Answers = Vec<(oneshot::Sender<Answer>, Answer)>;

fn serve(store: &Transaction<'_>, ask: Ask, answers: &mut Answers) -> Result<(), rusqlite::Error> {
    match ask {
        Ask::Read(handle, tell) => answers.push((tell, Answer::Session(read(store, &handle)?))),
        Ask::Merge(handle, change, how, tell) => {
            let written = merge(store, &handle, &change, how)?;
            answers.push((tell, Answer::Written(written)));
        }
        Ask::LogOut(user, version, ends_ms, unsent, tell) => {
            log_out(store, &user, version, ends_ms, unsent)?;
            answers.push((tell, Answer::Version(version)));
        }
        Ask::Ends(after, now_ms, tell) => answers.push((tell, Answer::Ends(ends(store, after, now_ms)?))),
        Ask::Heard(ends, tell) => {
            for end in ends {
                match end {
                    // One that was never here, too: a Redis that reads an old file may have it.
                    End::Session { handle, created_ms, ends_ms } => {
                        // It is over, whatever the time.
                        let how = Merging { now_ms: 0, if_version: None, unsent: false, user: None };
                        merge(store, &handle, &End::change(created_ms, ends_ms), how)?;
                    }
                    End::User { user, version, ends_ms } => log_out(store, &user, version, ends_ms, false)?,
                }
            }
            answers.push((tell, Answer::Ends(Vec::new())));
        }
        Ask::LogOutOf(user, tell) => {
            let mut query = store.prepare_cached("SELECT version FROM logout WHERE user = ?1")?;
            let version: Option<i64> = query.query_row([user], |row| row.get(0)).optional()?;
            answers.push((tell, Answer::Version(version.map_or(0, i64::unsigned_abs))));
        }
        Ask::List(user, max, tell) => {
            let mut query = store.prepare_cached(
                "SELECT handle, state FROM session WHERE ?1 IS NULL OR user = ?1 ORDER BY ends_ms DESC LIMIT ?2",
            )?;
            let rows = query.query_map(params![user, signed(max)], row)?;
            let list = rows.collect::<Result<Vec<_>, _>>()?;
            answers.push((tell, Answer::List(list.into_iter().flatten().collect())));
        }
        Ask::Unsent(tell) => {
            let mut query =
                store.prepare_cached("SELECT handle, state FROM session WHERE unsent = 1 LIMIT 1000")?;
            let sessions = query.query_map([], row)?.collect::<Result<Vec<_>, _>>()?;
            let mut query =
                store.prepare_cached("SELECT user, version, ends_ms FROM logout WHERE unsent = 1")?;
            let logout = |row: &rusqlite::Row<'_>| {
                let (version, ends_ms): (i64, i64) = (row.get(1)?, row.get(2)?);
                Ok((row.get(0)?, version.unsigned_abs(), ends_ms.unsigned_abs()))
            };
            let logouts = query.query_map([], logout)?.collect::<Result<Vec<_>, _>>()?;
            let sessions = sessions.into_iter().flatten().map(|(handle, session)| {
                let version = session.version();
                (handle, session, version)
            });
            answers.push((tell, Answer::Unsent((sessions.collect(), logouts))));
        }
        Ask::Sent(sessions, logouts) => {
            for (handle, version) in sessions {
                // Unless it has changed meanwhile.
                if read(store, &handle)?.is_some_and(|session| session.version() == version) {
                    store.execute("UPDATE session SET unsent = 0 WHERE handle = ?1", [handle.0])?;
                }
            }
            for (user, version) in logouts {
                store.execute(
                    "UPDATE logout SET unsent = 0 WHERE user = ?1 AND version = ?2",
                    params![user, signed(version)],
                )?;
            }
        }
    }
    Ok(())
}

/// Sessions of which the end is known, by their handles, and then users by their digests.
fn ends(store: &Transaction<'_>, after: Option<End>, now_ms: u64) -> Result<Vec<End>, rusqlite::Error> {
    let (sessions_after, users_after): (Option<&[u8]>, &[u8]) = match &after {
        None => (Some(&[]), &[]),
        Some(End::Session { handle, .. }) => (Some(&handle.0), &[]),
        Some(End::User { user, .. }) => (None, user),
    };
    let mut found = Vec::new();
    if let Some(after) = sessions_after {
        // The condition is that of the index, word for word.
        let mut query = store.prepare_cached(
            "SELECT handle, state FROM session WHERE substr(state, 28, 1) = x'01' AND handle > ?1 AND ends_ms > ?2 ORDER BY handle LIMIT ?3",
        )?;
        let rows = query.query_map(params![after, signed(now_ms), ENDS_MAX], row)?;
        for (handle, session) in rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            let (created_ms, ends_ms) = (session.created_ms, session.ends_ms);
            found.push(End::Session { handle, created_ms, ends_ms });
        }
    }
    if found.is_empty() {
        let mut query = store.prepare_cached(
            "SELECT user, version, ends_ms FROM logout WHERE user > ?1 AND ends_ms > ?2 ORDER BY user LIMIT ?3",
        )?;
        let users = query.query_map(params![users_after, signed(now_ms), ENDS_MAX], |row| {
            let (version, ends_ms): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(End::User {
                user: row.get(0)?,
                version: version.unsigned_abs(),
                ends_ms: ends_ms.unsigned_abs(),
            })
        })?;
        found = users.collect::<Result<_, _>>()?;
    }
    Ok(found)
}

fn log_out(
    store: &Transaction<'_>,
    user: &[u8; 32],
    version: u64,
    ends_ms: u64,
    unsent: bool,
) -> Result<(), rusqlite::Error> {
    store.prepare_cached(
        "INSERT INTO logout VALUES (?1, ?2, ?3, ?4) ON CONFLICT (user) DO UPDATE SET
         version = max(version, excluded.version), ends_ms = max(ends_ms, excluded.ends_ms), unsent = max(unsent, excluded.unsent)",
    )?
    .execute(params![user, signed(version), signed(ends_ms), unsent])
    .map(drop)
}

fn row(row: &rusqlite::Row<'_>) -> Result<Option<(Handle, Session)>, rusqlite::Error> {
    let (handle, state): ([u8; 32], Vec<u8>) = (row.get(0)?, row.get(1)?);
    Ok(Session::decode(&state).ok().map(|session| (Handle(handle), session)))
}

fn read(store: &Transaction<'_>, handle: &Handle) -> Result<Option<Session>, rusqlite::Error> {
    let mut query = store.prepare_cached("SELECT state FROM session WHERE handle = ?1")?;
    let state: Option<Vec<u8>> = query.query_row([handle.0], |row| row.get(0)).optional()?;
    Ok(state.and_then(|state| Session::decode(&state).ok()))
}

fn merge(
    store: &Transaction<'_>,
    handle: &Handle,
    change: &Session,
    how: Merging,
) -> Result<Written, rusqlite::Error> {
    let mut query = store.prepare_cached("SELECT state, unsent FROM session WHERE handle = ?1")?;
    let row = query.query_row([handle.0], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?))).optional()?;
    let is_unsent = how.unsent || row.as_ref().is_some_and(|(_, unsent)| *unsent);
    let known = row.and_then(|(state, _)| Session::decode(&state).ok());
    let mut session = match Session::taken_in(known, change, how.now_ms, how.if_version) {
        Ok(session) => session,
        Err(declined) => return Ok(declined.into()),
    };
    // What Redis has not heard of yet is not forgotten before it has.
    if !is_unsent {
        session.forget_marks(how.now_ms);
    }
    store
        .prepare_cached(
            "INSERT INTO session VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (handle) DO UPDATE SET
             state = excluded.state, user = coalesce(excluded.user, user), ends_ms = excluded.ends_ms, unsent = max(unsent, excluded.unsent)",
        )?
        .execute(params![handle.0, session.encode(), how.user, signed(session.ends_ms), how.unsent])?;
    Ok(if session.ended { Written::Over } else { Written::Done(session) })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
