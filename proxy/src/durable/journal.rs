//! The purge journal: which purges are in force, so that what was stored before one is not served after a restart.
//!
//! A purge of our own is written, and on the disk, before it is in force and before anybody is told. What was read from the log that proxies share is
//! written soon after. Of each target only the newest record stays; when there are too many, the oldest go and raise the floor below which
//! everything stored counts as purged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use purge_log::{Mode, Position, Published, Record, Target};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::{mpsc, oneshot};

use super::{Safety, StoreError, Trouble, begin_anew, is_corruption, open};
use crate::purge::epochs::KeptEpoch;

const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS own (
  number INTEGER PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL, mode TEXT NOT NULL, at_ms INTEGER NOT NULL, position BLOB
);
CREATE TABLE IF NOT EXISTS fact (
  kind TEXT NOT NULL, value TEXT NOT NULL, soft INTEGER NOT NULL, mode TEXT NOT NULL, at_ms INTEGER NOT NULL, position BLOB NOT NULL,
  UNIQUE (kind, value, soft)
);
CREATE INDEX IF NOT EXISTS fact_position ON fact (position);";

/// What the names of epochs begin with; the name of the cache follows.
const EPOCH_OF: &str = "epoch of ";
/// Requests to the thread that may wait.
const QUEUE_MAX: usize = 4_096;
/// Requests written in one commit.
const COMMIT_MAX: usize = 256;
/// Facts kept before the oldest quarter goes.
const FACTS_MAX: i64 = 200_000;
/// How often their number is looked at, in commits.
const COUNT_EVERY: u64 = 256;
/// How long what need not be safe at once may wait for company.
const LAZY: Duration = Duration::from_millis(100);
/// How long after a failure the disk is left alone.
const REST: Duration = Duration::from_secs(10);

/// A record of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number in this journal.
    pub number: u64,
    /// What it says.
    pub record: Record,
    /// Where in the log it stands, if that is known.
    pub position: Option<Position>,
}

/// What the journal has kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// The name of this proxy.
    pub id: String,
    /// The history of the log in which it last trusted it.
    pub history: Option<String>,
    /// The purges in force.
    pub facts: Vec<(Record, Position)>,
    /// Everything older is purged.
    pub floor: Position,
    /// All up to here is among the facts.
    pub cursor: Position,
    /// Records of our own that the log may not have.
    pub own: Vec<Row>,
    /// The epochs that caches were in, and when they began.
    pub epochs: Vec<KeptEpoch>,
    /// What lies in `cache.db` was stamped in another log: it cannot be judged.
    pub other_log: bool,
}

/// The journal, written by a thread of its own.
#[derive(Debug)]
pub struct Journal {
    ask: mpsc::Sender<Ask>,
    kept: Mutex<Kept>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    trouble: Trouble,
    failures: AtomicU64,
    /// Something read was not taken: the floor has to rise.
    missed: AtomicBool,
}

#[derive(Debug)]
enum Ask {
    Append { rows: Vec<Row>, done: Option<oneshot::Sender<bool>> },
    Published { number: u64, position: Position },
    Read { records: Vec<(Position, Record)>, cursor: Position },
    History(String),
    Epoch(KeptEpoch),
    Flush(oneshot::Sender<()>),
}

impl Ask {
    /// Whether somebody waits until it is on the disk.
    const fn is_awaited(&self) -> bool {
        matches!(self, Self::Append { done: Some(_), .. } | Self::Flush(_))
    }
}

impl Journal {
    /// Opens `state.db` in the folder and starts its thread. `log` names the log that positions are of: under another one, what was kept of
    /// positions says nothing any more.
    pub fn open(folder: &Path, log: &str) -> Result<Arc<Self>, StoreError> {
        let path = folder.join("state.db");
        let (mut connection, aside) = open(&path, Safety::Full, SCHEMA)?;
        if let Some(aside) = &aside {
            tracing::error!(path = %path.display(), moved_to = %aside.display(), "the purge journal was damaged; a new one is begun");
        }
        let file = |source| StoreError::File { path: path.clone(), source };
        // Without the journal that belonged to them, bodies cannot be judged.
        let kept = read_all(&mut connection, log, aside.is_some()).map_err(file)?;
        let (ask, asked) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            path: path.clone(),
            log: log.to_owned(),
            id: kept.id.clone(),
            cursor: kept.cursor,
            connection,
            shared: shared.clone(),
            rests_until: None,
            commits: 0,
        };
        let thread = |source| StoreError::Folder { path: path.clone(), source };
        // Only for its timer: a thread that waits for company waits until there is some, or the time is over.
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(thread)?;
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || waiting.block_on(writer.run(asked)))
            .map_err(thread)?;
        Ok(Arc::new(Self { ask, kept: Mutex::new(kept), shared }))
    }

    /// What was kept; given away once.
    pub fn kept(&self) -> Kept {
        std::mem::take(&mut *self.kept.lock())
    }

    /// Whether what is stored in `cache.db` can be judged by this journal.
    pub fn belongs_to_bodies(&self) -> bool {
        !self.kept.lock().other_log
    }

    /// Writes records of our own. True: they are on the disk.
    pub async fn append(&self, rows: Vec<Row>) -> bool {
        let (done, written) = oneshot::channel();
        let ask = Ask::Append { rows, done: Some(done) };
        self.ask.send(ask).await.is_ok() && written.await.unwrap_or(false)
    }

    /// Likewise, without waiting for it.
    pub fn append_behind(&self, rows: Vec<Row>) {
        self.note(Ask::Append { rows, done: None });
    }

    /// The log has taken a record of ours.
    pub fn note_published(&self, number: u64, position: Position) {
        self.note(Ask::Published { number, position });
    }

    /// Records were read from the log, which is known up to `cursor` now.
    pub fn note_read(&self, entries: &[(Position, Published)], cursor: Position) {
        if entries.is_empty() {
            return;
        }
        let records = entries.iter().map(|(position, published)| (*position, published.record.clone()));
        self.note(Ask::Read { records: records.collect(), cursor });
    }

    /// The log is trusted in this history.
    pub fn note_history(&self, history: &str) {
        self.note(Ask::History(history.to_owned()));
    }

    /// A cache has begun with an epoch.
    pub fn note_epoch(&self, epoch: KeptEpoch) {
        self.note(Ask::Epoch(epoch));
    }

    fn note(&self, ask: Ask) {
        if self.ask.try_send(ask).is_err() {
            self.shared.missed.store(true, Ordering::Release);
        }
    }

    /// Waits until all that was asked so far is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.ask.send(Ask::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Whether the disk takes nothing at the moment.
    pub fn is_off(&self) -> bool {
        self.trouble().is_some()
    }

    /// Why it takes nothing.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.why()
    }

    /// Commits that failed.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }
}

fn read_all(connection: &mut Connection, log: &str, anew: bool) -> Result<Kept, rusqlite::Error> {
    let transaction = connection.transaction()?;
    let known: Option<String> = text(&transaction, "log")?;
    let other_log = anew || known.as_deref() != Some(log);
    if other_log {
        transaction.execute("DELETE FROM fact", [])?;
        transaction.execute("DELETE FROM own WHERE position IS NOT NULL", [])?;
        transaction.execute("DELETE FROM meta WHERE name IN ('floor', 'cursor', 'history')", [])?;
        put(&transaction, "log", log)?;
    }
    let id = match text(&transaction, "id")? {
        Some(id) => id,
        None => {
            let id = crate::purge::new_id();
            put(&transaction, "id", &id)?;
            id
        }
    };
    let mut kept = Kept {
        id,
        history: text(&transaction, "history")?,
        floor: place(&transaction, "floor")?.unwrap_or_default(),
        cursor: place(&transaction, "cursor")?.unwrap_or_default(),
        other_log,
        ..Kept::default()
    };
    {
        let mut epochs =
            transaction.prepare("SELECT name, CAST(value AS TEXT) FROM meta WHERE name LIKE 'epoch of %'")?;
        let mut rows = epochs.query([])?;
        while let Some(row) = rows.next()? {
            let (cache, value): (String, String) = (row.get(0)?, row.get(1)?);
            // What is not understood begins anew.
            if let (Some(cache), Some((began, name))) = (cache.strip_prefix(EPOCH_OF), value.split_once(' '))
                && let Ok(began_ms) = began.parse()
            {
                kept.epochs.push(KeptEpoch { cache: cache.to_owned(), name: name.to_owned(), began_ms });
            }
        }
        let mut facts =
            transaction.prepare("SELECT kind, value, mode, at_ms, position FROM fact ORDER BY position")?;
        let mut rows = facts.query([])?;
        while let Some(row) = rows.next()? {
            let position: Vec<u8> = row.get(4)?;
            kept.facts.push((record(row, 0)?, position_of(&position)));
        }
        let mut own = transaction
            .prepare("SELECT kind, value, mode, at_ms, position, number FROM own ORDER BY number")?;
        let mut rows = own.query([])?;
        while let Some(row) = rows.next()? {
            let position: Option<Vec<u8>> = row.get(4)?;
            let number: i64 = row.get(5)?;
            let position = position.map(|bytes| position_of(&bytes));
            kept.own.push(Row { number: number.cast_unsigned(), record: record(row, 0)?, position });
        }
    }
    transaction.commit()?;
    Ok(kept)
}

/// What is not understood purges everything, as in the log.
fn record(row: &rusqlite::Row<'_>, first: usize) -> Result<Record, rusqlite::Error> {
    let (kind, value, mode): (String, String, String) =
        (row.get(first)?, row.get(first + 1)?, row.get(first + 2)?);
    let at_ms: i64 = row.get(first + 3)?;
    let at_ms = at_ms.cast_unsigned();
    Ok(match (Target::parse(&kind, &value), Mode::parse(&mode)) {
        (Ok(target), Some(mode)) => Record { target, mode, at_ms },
        _ => Record { target: Target::Everything, mode: Mode::Hard, at_ms },
    })
}

fn position_of(bytes: &[u8]) -> Position {
    // One that is damaged stands behind all that was stored.
    bytes.try_into().map_or(Position::PENDING, Position::from_bytes)
}

fn text(transaction: &Transaction<'_>, name: &str) -> Result<Option<String>, rusqlite::Error> {
    let found =
        transaction
            .query_row("SELECT CAST(value AS TEXT) FROM meta WHERE name = ?1", [name], |row| row.get(0));
    found.optional()
}

fn place(transaction: &Transaction<'_>, name: &str) -> Result<Option<Position>, rusqlite::Error> {
    Ok(text(transaction, name)?.and_then(|text| text.parse().ok()))
}

fn put(transaction: &Transaction<'_>, name: &str, value: &str) -> Result<(), rusqlite::Error> {
    let statement = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.prepare_cached(statement)?.execute(params![name, value]).map(drop)
}

struct Writer {
    path: PathBuf,
    log: String,
    id: String,
    /// All up to here is known, on disk or lost with it.
    cursor: Position,
    connection: Connection,
    shared: Arc<Shared>,
    rests_until: Option<Instant>,
    commits: u64,
}

impl Writer {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        while let Some(first) = asked.recv().await {
            let mut awaited = first.is_awaited();
            let mut batch = vec![first];
            let until = tokio::time::Instant::now() + LAZY;
            while batch.len() < COMMIT_MAX {
                let next = match asked.try_recv() {
                    Ok(ask) => Some(ask),
                    // What nobody waits for waits for company.
                    Err(mpsc::error::TryRecvError::Empty) if !awaited => {
                        tokio::time::timeout_at(until, asked.recv()).await.ok().flatten()
                    }
                    Err(_) => None,
                };
                let Some(ask) = next else { break };
                awaited |= ask.is_awaited();
                batch.push(ask);
            }
            let written = self.write(&batch);
            for ask in batch {
                match ask {
                    Ask::Append { done: Some(done), .. } => drop(done.send(written)),
                    Ask::Flush(done) => drop(done.send(())),
                    _ => {}
                }
            }
        }
    }

    /// Writes a batch in one commit; false if the disk did not take it.
    fn write(&mut self, batch: &[Ask]) -> bool {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            self.shared.missed.store(true, Ordering::Release);
            return false;
        }
        let missed = self.shared.missed.swap(false, Ordering::AcqRel);
        self.commits += 1;
        let mut written = self.try_write(batch, missed);
        if let Err(error) = &written
            && is_corruption(error)
        {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            self.begin_anew();
            // What stood there is known no more after a restart, so that all that was stored until now counts as purged then.
            written = self.try_write(batch, true);
        }
        match written {
            Ok(()) => {
                self.rests_until = None;
                if self.shared.trouble.is_over() {
                    tracing::info!("the purge journal is written again");
                }
                true
            }
            Err(error) => {
                self.shared.missed.store(true, Ordering::Release);
                self.shared.failures.fetch_add(1, Ordering::Relaxed);
                self.rests_until = Some(Instant::now() + REST);
                if self.shared.trouble.failed(&error) {
                    tracing::error!(%error, "the purge journal cannot be written; purges are kept in memory");
                }
                false
            }
        }
    }

    /// The file was damaged: another takes its place, of the same proxy and the same log.
    fn begin_anew(&mut self) {
        let Self { connection, path, .. } = self;
        match begin_anew(connection, path, Safety::Full, SCHEMA) {
            Ok(aside) => {
                tracing::error!(path = %path.display(), moved_to = %aside.display(), "the purge journal was damaged; a new one is begun");
            }
            // What is written next fails, which says so again and lets it rest.
            Err(error) => tracing::error!(%error, "the purge journal was damaged, and cannot be moved aside"),
        }
    }

    fn try_write(&mut self, batch: &[Ask], missed: bool) -> Result<(), rusqlite::Error> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut cursor = place(&transaction, "cursor")?.unwrap_or_default().max(self.cursor);
        // In a file that was begun anew they are not there.
        put(&transaction, "log", &self.log)?;
        put(&transaction, "id", &self.id)?;
        for ask in batch {
            match ask {
                Ask::Append { rows, .. } => {
                    for row in rows {
                        append(&transaction, row)?;
                        cursor = cursor.max(row.position.unwrap_or_default());
                    }
                }
                Ask::Published { number, position } => {
                    let statement = "UPDATE own SET position = ?2 WHERE number = ?1";
                    let bytes = position.to_bytes();
                    transaction
                        .prepare_cached(statement)?
                        .execute(params![number.cast_signed(), &bytes[..]])?;
                }
                Ask::Read { records, cursor: read } => {
                    for (position, record) in records {
                        put_fact(&transaction, record, *position)?;
                    }
                    cursor = cursor.max(*read);
                }
                Ask::History(history) => put(&transaction, "history", history)?,
                Ask::Epoch(KeptEpoch { cache, name, began_ms }) => {
                    put(&transaction, &format!("{EPOCH_OF}{cache}"), &format!("{began_ms} {name}"))?;
                }
                Ask::Flush(_) => {}
            }
        }
        put(&transaction, "cursor", &cursor.to_string())?;
        if missed {
            // Something that should stand here does not: all that was stored before counts as purged after a restart.
            put(&transaction, "floor", &cursor.next().to_string())?;
        }
        if self.commits.is_multiple_of(COUNT_EVERY) {
            forget(&transaction)?;
        }
        transaction.commit()?;
        self.cursor = cursor;
        Ok(())
    }
}

fn append(transaction: &Transaction<'_>, row: &Row) -> Result<(), rusqlite::Error> {
    if let Some(position) = row.position {
        put_fact(transaction, &row.record, position)?;
    }
    let statement = "INSERT OR REPLACE INTO own (number, kind, value, mode, at_ms, position) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Record { target, mode, at_ms } = &row.record;
    let position = row.position.map(Position::to_bytes);
    transaction.prepare_cached(statement)?.execute(params![
        row.number.cast_signed(),
        target.kind(),
        target.value(),
        mode.to_text(),
        at_ms.cast_signed(),
        position.as_ref().map(|bytes| &bytes[..]),
    ])?;
    Ok(())
}

fn put_fact(
    transaction: &Transaction<'_>,
    record: &Record,
    position: Position,
) -> Result<(), rusqlite::Error> {
    if matches!(record.target, Target::Mark(_)) {
        return Ok(());
    }
    let statement = "\
        INSERT INTO fact (kind, value, soft, mode, at_ms, position) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
        ON CONFLICT (kind, value, soft) DO UPDATE SET mode = excluded.mode, at_ms = excluded.at_ms, position = excluded.position \
        WHERE excluded.position > fact.position";
    let Record { target, mode, at_ms } = record;
    let soft = i64::from(*mode != Mode::Hard);
    let bytes = position.to_bytes();
    transaction.prepare_cached(statement)?.execute(params![
        target.kind(),
        target.value(),
        soft,
        mode.to_text(),
        at_ms.cast_signed(),
        &bytes[..],
    ])?;
    Ok(())
}

/// Keeps the tables within their bounds.
fn forget(transaction: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    // What the log has is only needed for as long as it may lose its end; the newest number is kept so that none is given twice.
    let statement =
        "DELETE FROM own WHERE position IS NOT NULL AND number < (SELECT MAX(number) FROM own) - 10000";
    transaction.execute(statement, [])?;
    let facts: i64 = transaction.query_row("SELECT COUNT(*) FROM fact", [], |row| row.get(0))?;
    if facts <= FACTS_MAX {
        return Ok(());
    }
    let statement = "SELECT position FROM fact ORDER BY position LIMIT 1 OFFSET ?1";
    let last: Vec<u8> = transaction.query_row(statement, [FACTS_MAX / 4], |row| row.get(0))?;
    transaction.execute("DELETE FROM fact WHERE position <= ?1", [&last[..]])?;
    let floor = place(transaction, "floor")?.unwrap_or_default().max(position_of(&last));
    put(transaction, "floor", &floor.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64, tag: &str, position: Option<u64>) -> Row {
        let record = Record { target: Target::Tag(tag.into()), mode: Mode::Hard, at_ms: 5 };
        Row { number, record, position: position.map(|ms| Position { ms, seq: 0 }) }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "alone").unwrap();
        let id = journal.kept().id;
        assert!(journal.append(vec![row(1, "a", Some(10)), row(2, "b", Some(11))]).await);
        assert!(journal.append(vec![row(3, "a", Some(12))]).await);
        drop(journal);
        let kept = Journal::open(folder.path(), "alone").unwrap().kept();
        assert_eq!(kept.id, id, "it is the same proxy");
        let facts: Vec<_> = kept.facts.iter().map(|(record, at)| (record.target.value(), at.ms)).collect();
        assert_eq!(facts, [("b".to_owned(), 11), ("a".to_owned(), 12)], "the newest of each");
        assert_eq!((kept.cursor.ms, kept.own.len(), kept.other_log), (12, 3, false));
    }

    #[tokio::test]
    async fn what_the_log_has_not_taken_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "shared").unwrap();
        assert!(journal.append(vec![row(1, "a", None), row(2, "b", None)]).await);
        let at = Position { ms: 7, seq: 1 };
        journal.note_published(1, at);
        let read = Published { issuer: "other".into(), number: 9, record: row(0, "c", None).record };
        journal.note_read(&[(at.next(), read)], at.next());
        journal.note_history("run-1");
        let epoch = KeptEpoch { cache: "a b".to_owned(), name: "v 2".to_owned(), began_ms: 7 };
        journal.note_epoch(KeptEpoch { name: "v 1".to_owned(), ..epoch.clone() });
        journal.note_epoch(epoch.clone());
        journal.flush().await;
        drop(journal);
        let kept = Journal::open(folder.path(), "shared").unwrap().kept();
        let own: Vec<_> = kept.own.iter().map(|row| (row.number, row.position)).collect();
        assert_eq!(own, [(1, Some(at)), (2, None)]);
        assert_eq!((kept.facts.len(), kept.cursor, kept.history.as_deref()), (1, at.next(), Some("run-1")));
        assert_eq!(kept.epochs, [epoch], "the last of each cache");
    }

    #[tokio::test]
    async fn positions_of_another_log_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "alone").unwrap();
        assert!(journal.append(vec![row(1, "a", Some(10)), row(2, "b", None)]).await);
        drop(journal);
        let kept = Journal::open(folder.path(), "shared app").unwrap().kept();
        assert!(kept.other_log && kept.facts.is_empty() && kept.cursor == Position::START);
        assert_eq!(kept.own.len(), 1, "what nobody has heard of is still to be said");
    }

    #[tokio::test]
    async fn a_file_that_is_damaged_while_it_is_used_is_moved_aside_and_what_was_stored_counts_as_purged() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "alone").unwrap();
        let id = journal.kept().id;
        // More than SQLite keeps in memory.
        let rows = (0..8_000)
            .map(|number| row(number, &format!("{number}{}", "long".repeat(200)), Some(10 + number)));
        assert!(journal.append(rows.collect()).await);
        for name in ["state.db", "state.db-wal"] {
            let path = folder.path().join(name);
            let length = std::fs::metadata(&path).unwrap().len();
            let garbage = vec![0x55; usize::try_from(length).unwrap()];
            std::io::Write::write_all(
                &mut std::fs::OpenOptions::new().write(true).open(&path).unwrap(),
                &garbage,
            )
            .unwrap();
        }
        let mut number = 10_000;
        while !folder.path().join("state.db.damaged-0").exists() {
            assert!(number < 12_000, "nothing was noticed");
            number += 1;
            // Between those that are there.
            let name = format!("{}long{number}", number * 7 % 8_000);
            journal.append(vec![row(number, &name, Some(number))]).await;
        }
        assert!(journal.append(vec![row(20_000, "after", Some(20_000))]).await, "the new one takes it");
        drop(journal);
        let kept = Journal::open(folder.path(), "alone").unwrap().kept();
        assert!(kept.id == id && !kept.other_log);
        assert!(kept.floor.ms > 8_009, "{:?}: what was purged before is not known any more", kept.floor);
    }

    #[test]
    fn a_damaged_file_is_moved_aside() {
        for damage in ["cut", "flipped", "empty", "folder", "text"] {
            let folder = tempfile::tempdir().unwrap();
            drop(Journal::open(folder.path(), "alone").unwrap());
            let path = folder.path().join("state.db");
            // All of it in the one file, whenever the journal's own thread has ended.
            let connection = Connection::open(&path).unwrap();
            connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            drop(connection);
            for beside in ["state.db-wal", "state.db-shm"] {
                let _ = std::fs::remove_file(folder.path().join(beside));
            }
            let mut bytes = std::fs::read(&path).unwrap();
            match damage {
                "cut" => bytes.truncate(bytes.len() / 2),
                "flipped" => bytes.iter_mut().skip(100).for_each(|byte| *byte ^= 0x55),
                "empty" => bytes.clear(),
                "text" => bytes = b"this is no database, and much longer than a header".repeat(20),
                _ => {}
            }
            std::fs::remove_file(&path).unwrap();
            if damage == "folder" {
                std::fs::create_dir(&path).unwrap()
            } else {
                std::fs::write(&path, bytes).unwrap()
            }
            let journal = Journal::open(folder.path(), "alone").unwrap();
            assert!(journal.kept().facts.is_empty(), "{damage}");
            let aside = folder.path().join("state.db.damaged-0").exists();
            assert_eq!(aside, damage != "empty", "{damage}: an empty file is a new one");
        }
    }
}
