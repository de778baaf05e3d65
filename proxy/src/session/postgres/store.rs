//! What is asked of the tables.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use session_state::Session;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio_postgres::Row;

use super::super::cookie::Handle;
use super::super::durable::{Merging, Sent, ToldOf, UNSENT_MAX, Unsent};
use super::super::millis;
use super::super::spec;
use super::super::store::{Stored, Trouble, Written};
use super::pool::{Line, Pool};
use crate::clock::Clock;

/// The version of the tables that this Weir knows.
pub(super) const SCHEMA_VERSION: i32 = 1;

/// Makes the tables, if another proxy has not done so meanwhile.
pub(super) const SCHEMA: &str = "\
BEGIN;
SELECT pg_advisory_xact_lock(7305237042149016179);
CREATE TABLE IF NOT EXISTS weir_session (
  handle bytea PRIMARY KEY, state bytea NOT NULL, rev bigint NOT NULL, owner bytea, ends_ms bigint NOT NULL, unsent boolean NOT NULL
);
CREATE INDEX IF NOT EXISTS weir_session_owner ON weir_session (owner) WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS weir_session_ends ON weir_session (ends_ms);
CREATE INDEX IF NOT EXISTS weir_session_unsent ON weir_session (handle) WHERE unsent;
CREATE TABLE IF NOT EXISTS weir_logout (owner bytea PRIMARY KEY, version bigint NOT NULL, ends_ms bigint NOT NULL, unsent boolean NOT NULL);
CREATE TABLE IF NOT EXISTS weir_session_schema (version integer NOT NULL);
INSERT INTO weir_session_schema SELECT 1 WHERE NOT EXISTS (SELECT FROM weir_session_schema);
COMMIT";

/// Each by its place: [`Ask`].
pub(super) const STATEMENTS: [&str; 12] = [
    "SELECT state, rev FROM weir_session WHERE handle = $1",
    "INSERT INTO weir_session (handle, state, rev, owner, ends_ms, unsent) VALUES ($1, $2, 1, $3, $4, $5) ON CONFLICT (handle) DO NOTHING",
    "UPDATE weir_session SET state = $2, rev = rev + 1, owner = coalesce($3, owner), ends_ms = $4, unsent = unsent OR $5
     WHERE handle = $1 AND rev = $6",
    "INSERT INTO weir_logout AS known VALUES ($1, $2, $3, $4) ON CONFLICT (owner) DO UPDATE SET version = greatest(known.version, excluded.version),
     ends_ms = greatest(known.ends_ms, excluded.ends_ms), unsent = known.unsent OR excluded.unsent",
    "SELECT version FROM weir_logout WHERE owner = $1",
    "SELECT handle, state FROM weir_session ORDER BY ends_ms DESC LIMIT $1",
    "SELECT handle, state FROM weir_session WHERE owner = $2 ORDER BY ends_ms DESC LIMIT $1",
    "SELECT handle, state, rev FROM weir_session WHERE unsent LIMIT $1",
    "SELECT owner, version, ends_ms FROM weir_logout WHERE unsent",
    "UPDATE weir_session SET unsent = false WHERE handle = $1 AND rev = $2",
    "UPDATE weir_logout SET unsent = false WHERE owner = $1 AND version = $2",
    "WITH gone AS (DELETE FROM weir_logout WHERE ends_ms < $1) DELETE FROM weir_session WHERE handle IN
     (SELECT handle FROM weir_session WHERE ends_ms < $1 ORDER BY ends_ms LIMIT 1000 FOR UPDATE SKIP LOCKED)",
];

/// The place of each statement.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Read,
    Insert,
    Update,
    LogOut,
    LoggedOut,
    List,
    ListOf,
    Unsent,
    UnsentLogouts,
    Sent,
    SentLogout,
    Sweep,
}

/// Changes of sessions that wait for each other: those whose handles begin alike.
const SHARDS: usize = 64;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// So long after its end a session is deleted: clocks differ.
const SWEEP_AFTER_MS: u64 = 60_000;

/// The tables.
#[derive(Debug)]
pub(in super::super) struct Postgres {
    pool: Arc<Pool>,
    shards: [Mutex<()>; SHARDS],
    sweeper: AbortHandle,
}

impl Postgres {
    /// Begins to connect.
    pub(in super::super) fn start(
        spec: Arc<spec::Postgres>,
        clock: Arc<dyn Clock>,
        background: &Runtime,
    ) -> Arc<Self> {
        let pool = Arc::new(Pool::start(spec, background));
        let sweeper = background.spawn(sweep(pool.clone(), clock)).abort_handle();
        Arc::new(Self { pool, shards: std::array::from_fn(|_| Mutex::default()), sweeper })
    }

    pub(in super::super) fn is_up(&self) -> bool {
        self.pool.is_up()
    }

    /// What came of asking.
    pub(in super::super) fn counts(&self) -> [(&'static str, u64); 4] {
        let counted = self.pool.counted();
        [
            ("answered", &counted.answered),
            ("late", &counted.late),
            ("failed", &counted.failed),
            ("skipped", &counted.skipped),
        ]
        .map(|(word, counter)| (word, counter.load(Ordering::Relaxed)))
    }

    pub(in super::super) async fn read(&self, handle: Handle) -> Stored {
        let read = async |line: &Line| read(line, &handle).await;
        Ok(self.pool.ask(read).await?.and_then(|(session, _)| session))
    }

    pub(in super::super) async fn merge(
        &self,
        handle: Handle,
        change: Session,
        how: Merging,
    ) -> Result<Written, Trouble> {
        let merge = async |line: &Line| {
            let _turn = self.shards[usize::from(handle.0[0]) % SHARDS].lock().await;
            loop {
                if let Some(written) = merge(line, &handle, &change, how).await? {
                    return Ok(written);
                }
            }
        };
        self.pool.ask(merge).await
    }

    pub(in super::super) async fn log_out(
        &self,
        user: [u8; 32],
        version: u64,
        ends_ms: u64,
        unsent: bool,
    ) -> Result<(), Trouble> {
        let (version, ends_ms) = (signed(version), signed(ends_ms));
        let note = async |line: &Line| {
            let statement = &line.statements[Ask::LogOut as usize];
            line.client.execute(statement, &[&&user[..], &version, &ends_ms, &unsent]).await
        };
        self.pool.ask(note).await.map(drop)
    }

    pub(in super::super) async fn logged_out(&self, user: [u8; 32]) -> Result<u64, Trouble> {
        let look = async |line: &Line| {
            let statement = &line.statements[Ask::LoggedOut as usize];
            let row = line.client.query_opt(statement, &[&&user[..]]).await?;
            row.map_or(Ok(0), |row| row.try_get::<_, i64>(0))
        };
        self.pool.ask(look).await.map(i64::unsigned_abs)
    }

    pub(in super::super) async fn list(
        &self,
        user: Option<[u8; 32]>,
        max: u64,
    ) -> Result<Vec<(Handle, Session)>, Trouble> {
        let max = signed(max);
        let list = async |line: &Line| match &user {
            None => line.client.query(&line.statements[Ask::List as usize], &[&max]).await,
            Some(user) => {
                line.client.query(&line.statements[Ask::ListOf as usize], &[&max, &&user[..]]).await
            }
        };
        let rows = self.pool.ask(list).await?;
        Ok(rows.iter().filter_map(session_of).collect())
    }

    pub(in super::super) async fn unsent(&self) -> Result<Unsent, Trouble> {
        let most = signed(UNSENT_MAX as u64);
        let look = async |line: &Line| {
            let sessions = line.client.query(&line.statements[Ask::Unsent as usize], &[&most]).await?;
            let users = line.client.query(&line.statements[Ask::UnsentLogouts as usize], &[]).await?;
            Ok((sessions, users))
        };
        let (sessions, users) = self.pool.ask(look).await?;
        let session = |row: &Row| {
            let (handle, session) = session_of(row)?;
            Some((handle, session, row.try_get::<_, i64>(2).ok()?.unsigned_abs()))
        };
        let user = |row: &Row| {
            let (version, ends_ms): (i64, i64) = (row.try_get(1).ok()?, row.try_get(2).ok()?);
            Some((digest_of(row)?, version.unsigned_abs(), ends_ms.unsigned_abs()))
        };
        Ok((sessions.iter().filter_map(session).collect(), users.iter().filter_map(user).collect()))
    }

    pub(in super::super) async fn sent(&self, sessions: Vec<Sent>, logouts: Vec<ToldOf>) {
        let mark = async |line: &Line| {
            for (handle, rev) in &sessions {
                let statement = &line.statements[Ask::Sent as usize];
                line.client.execute(statement, &[&&handle.0[..], &signed(*rev)]).await?;
            }
            for (user, version) in &logouts {
                let statement = &line.statements[Ask::SentLogout as usize];
                line.client.execute(statement, &[&&user[..], &signed(*version)]).await?;
            }
            Ok(())
        };
        // What stays marked is sent once more, which changes nothing.
        let _ = self.pool.ask(mark).await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// A session, if it can be read, and the row's `rev`; `None`: there is no row.
async fn read(line: &Line, handle: &Handle) -> Result<Option<(Option<Session>, i64)>, tokio_postgres::Error> {
    let row = line.client.query_opt(&line.statements[Ask::Read as usize], &[&&handle.0[..]]).await?;
    let Some(row) = row else { return Ok(None) };
    let (state, rev): (&[u8], i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Some((Session::decode(state).ok(), rev)))
}

/// `None`: somebody else was faster.
async fn merge(
    line: &Line,
    handle: &Handle,
    change: &Session,
    how: Merging,
) -> Result<Option<Written>, tokio_postgres::Error> {
    let (known, rev) = match read(line, handle).await? {
        None => (None, None),
        Some((known, rev)) => (known, Some(rev)),
    };
    let before = known.clone();
    let session = match Session::taken_in(known, change, how.now_ms, how.if_version) {
        Ok(session) => session,
        Err(declined) => return Ok(Some(declined.into())),
    };
    // What is known already is not written once more.
    if how.unsent || before.as_ref() != Some(&session) {
        let (state, ends_ms) = (session.encode(), signed(session.ends_ms));
        let user = how.user.as_ref().map(|user| &user[..]);
        let written = match rev {
            None => {
                let statement = &line.statements[Ask::Insert as usize];
                line.client.execute(statement, &[&&handle.0[..], &state, &user, &ends_ms, &how.unsent]).await
            }
            Some(rev) => {
                let statement = &line.statements[Ask::Update as usize];
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                    [&&handle.0[..], &state, &user, &ends_ms, &how.unsent, &rev];
                line.client.execute(statement, &values).await
            }
        };
        if written? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(if session.ended { Written::Over } else { Written::Done(session) }))
}

fn digest_of(row: &Row) -> Option<[u8; 32]> {
    row.try_get::<_, &[u8]>(0).ok()?.try_into().ok()
}

fn session_of(row: &Row) -> Option<(Handle, Session)> {
    Some((Handle(digest_of(row)?), Session::decode(row.try_get(1).ok()?).ok()?))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn sweep(pool: Arc<Pool>, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let before = signed(millis(clock.now()).saturating_sub(SWEEP_AFTER_MS));
        let delete =
            async |line: &Line| line.client.execute(&line.statements[Ask::Sweep as usize], &[&before]).await;
        while pool.ask(delete).await.is_ok_and(|deleted| deleted == 1_000) {}
    }
}
