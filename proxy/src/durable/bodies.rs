//! Bodies on disk: what is stored survives a restart, and serves when memory and Redis have nothing.
//!
//! Written behind the fills, in the form in which Redis holds them too, each with the position at which its fetch began; `purge_log` alone says whether it is
//! still valid. Bounded: a queue that is full drops, and what was not used for long goes first. Nothing here is needed for a right answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cache_semantics::Now;
use cache_semantics::vary::Fields;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::{BUSY_TIMEOUT, Safety, StoreError, Trouble, begin_anew, is_corruption, open};
use crate::cache::NamedCache;
use crate::clock::Clock;
use crate::purge::{Judgement, Verdict};
use crate::store::wire::{self, Compression, Limits};
use crate::store::{Carried, Carrying, StoredResponse};

const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS entry (
  id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, value BLOB NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL, until INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS entry_used ON entry (used);
CREATE INDEX IF NOT EXISTS entry_until ON entry (until);
CREATE TABLE IF NOT EXISTS beside (entry INTEGER NOT NULL, generation INTEGER NOT NULL, content BLOB NOT NULL, UNIQUE (entry, generation));";

/// The largest body that is put on disk.
pub const BODY_MAX: u64 = 1 << 20;
/// The longest that anything stays there: purges are remembered for as long.
const TTL_MAX: Duration = crate::proxy::KEEP_MAX;
/// A value with all its heads.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// What waits to be written.
const WRITES_MAX: usize = 1_024;
/// What waits to be read, at each of the readers.
const READS_MAX: usize = 256;
const READERS: usize = 2;
/// Written in one commit.
const COMMIT_MAX: usize = 256;
/// How long a request waits for the disk.
const READ_BUDGET: Duration = Duration::from_millis(100);
/// When something was last used is noted this often.
const USED_EVERY: Duration = Duration::from_secs(60);
/// Removed at once, so that no commit takes long.
const REMOVE_MAX: i64 = 64;
/// How long after a failure the disk is left alone.
const REST: Duration = Duration::from_secs(10);

/// What has happened.
#[derive(Debug, Default)]
pub struct Counted {
    /// Found and valid.
    pub hits: AtomicU64,
    /// Nothing there, or nothing that is valid.
    pub misses: AtomicU64,
    /// Not asked, because too much waits or the disk is left alone.
    pub skipped: AtomicU64,
    /// Not written, for the same reasons.
    pub dropped: AtomicU64,
    /// Values that were damaged.
    pub corrupt: AtomicU64,
    /// Commits that failed.
    pub failures: AtomicU64,
    /// Values written.
    pub written: AtomicU64,
    /// Bytes of values now.
    pub bytes: AtomicU64,
}

/// The tier on disk, of all caches.
pub struct Bodies {
    writes: mpsc::Sender<Job>,
    reads: Vec<mpsc::Sender<Look>>,
    next: AtomicU64,
    carrying: Carrying,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    counted: Counted,
    trouble: Trouble,
    /// A reader has found the file damaged.
    damaged: AtomicBool,
    /// Counts the files: a reader that has an older one open opens the new one.
    file: AtomicU64,
}

enum Job {
    Write {
        cache: Arc<NamedCache>,
        key: Box<[u8]>,
        carried: Option<Carried>,
    },
    Remove {
        name: [u8; 32],
    },
    Used {
        id: i64,
        at: i64,
    },
    /// Nothing but to look whether the file is damaged.
    Look,
    Flush(oneshot::Sender<()>),
}

struct Look {
    name: [u8; 32],
    found: oneshot::Sender<Option<Row>>,
}

struct Row {
    id: i64,
    value: Bytes,
    used: i64,
    beside: Vec<(u64, Bytes)>,
}

impl Bodies {
    /// Opens `cache.db` in the folder and starts its threads. `keep`: whether what lies there can be judged; otherwise it is dropped.
    pub fn open(
        folder: &Path,
        size_max: u64,
        keep: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let path = folder.join("cache.db");
        let (connection, aside) = open(&path, Safety::Normal, SCHEMA)?;
        if let Some(aside) = &aside {
            tracing::warn!(path = %path.display(), moved_to = %aside.display(), "the bodies on disk were damaged; they begin anew");
        }
        let file = |source| StoreError::File { path: path.clone(), source };
        if !keep {
            connection.execute_batch("DELETE FROM beside; DELETE FROM entry;").map_err(file)?;
        }
        let shared = Arc::new(Shared::default());
        let bytes: i64 = connection
            .query_row("SELECT COALESCE(SUM(size), 0) FROM entry", [], |row| row.get(0))
            .map_err(file)?;
        shared.counted.bytes.store(bytes.cast_unsigned(), Ordering::Relaxed);
        let thread = |source| StoreError::Folder { path: path.clone(), source };
        let mut reads = Vec::new();
        for number in 0..READERS {
            let (asked, looks) = mpsc::channel(READS_MAX);
            let connection = reader(&path).map_err(file)?;
            let (shared, path) = (shared.clone(), path.clone());
            std::thread::Builder::new()
                .name(format!("bodies-{number}"))
                .spawn(move || read_all(connection, &path, looks, &shared))
                .map_err(thread)?;
            reads.push(asked);
        }
        let (writes, jobs) = mpsc::channel(WRITES_MAX);
        let mut writer = Writer {
            path: path.clone(),
            connection,
            jobs,
            shared: shared.clone(),
            clock,
            size_max,
            rests_until: None,
        };
        std::thread::Builder::new().name("bodies".to_owned()).spawn(move || writer.run()).map_err(thread)?;
        Ok(Arc::new(Self { writes, reads, next: AtomicU64::new(0), carrying: Carrying::default(), shared }))
    }

    /// What has happened.
    pub fn counted(&self) -> &Counted {
        &self.shared.counted
    }

    /// Whether the disk is left alone at the moment.
    pub fn is_off(&self) -> bool {
        self.trouble().is_some()
    }

    /// Why.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.why()
    }

    /// Has what memory holds for the key written, soon. Waits for nothing.
    pub fn write_behind(&self, cache: &Arc<NamedCache>, key: &[u8], stored: &Arc<StoredResponse>) {
        let job = Job::Write { cache: cache.clone(), key: key.into(), carried: self.carrying.take(stored) };
        if self.writes.try_send(job).is_err() {
            self.shared.counted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all that was asked so far is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.writes.send(Job::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Looks for the key, and puts what is found into the cache's memory. True: something that is wanted is there now.
    pub async fn look(&self, cache: &NamedCache, key: &[u8], wanted: Fields<'_>, now: Now) -> bool {
        let counted = &self.shared.counted;
        let name = name_of(&cache.spec().name, key);
        let (found, row) = oneshot::channel();
        #[expect(clippy::cast_possible_truncation, reason = "any of them will do")]
        let reader = self.next.fetch_add(1, Ordering::Relaxed) as usize % self.reads.len();
        if self.reads[reader].try_send(Look { name, found }).is_err() {
            counted.skipped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let Ok(Ok(row)) = tokio::time::timeout(READ_BUDGET, row).await else {
            counted.skipped.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let Some(row) = row else {
            if self.shared.damaged.load(Ordering::Relaxed) {
                // No room: the next job is as good.
                let _ = self.writes.try_send(Job::Look);
            }
            counted.misses.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let id = row.id;
        let seconds = seconds_of(now);
        if seconds - row.used >= USED_EVERY.as_secs().cast_signed() {
            // No room: it looks a minute older than it is.
            let _ = self.writes.try_send(Job::Used { id, at: seconds });
        }
        match adopt(cache, key, row, wanted, now) {
            Ok(true) => {
                counted.hits.fetch_add(1, Ordering::Relaxed);
                true
            }
            Ok(false) => {
                counted.misses.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(why) => {
                counted.corrupt.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%why, "a value on disk is not usable; it is removed");
                // No room: the next fill overwrites it.
                let _ = self.writes.try_send(Job::Remove { name });
                false
            }
        }
    }
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bodies").field("counted", self.counted()).finish_non_exhaustive()
    }
}

/// Puts what was read into memory, as far as it is valid.
fn adopt(
    cache: &NamedCache,
    key: &[u8],
    row: Row,
    wanted: Fields<'_>,
    now: Now,
) -> Result<bool, wire::Corrupt> {
    let limits =
        Limits { body_bytes: cache.spec().max_body, head_bytes: 256 << 10, fields: 1_024, variants: 64 };
    let mut found = false;
    for read in wire::read(&row.value, key, &limits, now)?.into_iter().rev() {
        let since = now.wall.duration_since(read.terms.received_wall()).unwrap_or_default();
        if since >= TTL_MAX || cache.is_outdated(&read.labels, now) {
            continue;
        }
        let known = cache.spec().known(key, &read.labels);
        let (number, softened) = match cache.purges.check_at(read.position, &known) {
            Judgement::Known(Verdict::Valid(number)) => (number, None),
            Judgement::Known(Verdict::Softened(how)) => (how.upto, Some(how)),
            Judgement::Known(Verdict::Purged) | Judgement::Future => continue,
        };
        let is_wanted = read.variant.matches(wanted);
        let beside = match read.content.pieces() {
            None => Vec::new(),
            Some((generation, _)) => {
                let content = row.beside.iter().find(|(of, _)| *of == generation);
                vec![content.ok_or(wire::Corrupt::Missing)?.1.clone()]
            }
        };
        let response = cache.revive(read, beside, (number, softened), now)?;
        found |= cache.adopt(key, response) && is_wanted;
    }
    Ok(found)
}

/// The name of a key in the table: the same key in two caches is two entries.
fn name_of(cache: &str, key: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(cache.as_bytes());
    hash.update([0]);
    hash.update(key);
    hash.finalize().into()
}

fn seconds_of(now: Now) -> i64 {
    let since = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().cast_signed()
}

fn reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn read_all(mut connection: Connection, path: &Path, mut looks: mpsc::Receiver<Look>, shared: &Shared) {
    let mut open = shared.file.load(Ordering::Acquire);
    while let Some(Look { name, found }) = looks.blocking_recv() {
        // Whoever asked may have gone on.
        if found.is_closed() {
            continue;
        }
        let newest = shared.file.load(Ordering::Acquire);
        if newest != open
            && let Ok(anew) = reader(path)
        {
            (connection, open) = (anew, newest);
        }
        let row = read_one(&connection, &name).unwrap_or_else(|error| {
            shared.counted.failures.fetch_add(1, Ordering::Relaxed);
            if is_corruption(&error) && newest == open {
                shared.damaged.store(true, Ordering::Relaxed);
            }
            None
        });
        let _ = found.send(row);
    }
}

fn read_one(connection: &Connection, name: &[u8; 32]) -> Result<Option<Row>, rusqlite::Error> {
    let statement = "SELECT id, value, used FROM entry WHERE name = ?1";
    let row = connection.prepare_cached(statement)?.query_row([&name[..]], |row| {
        let value: Vec<u8> = row.get(1)?;
        Ok(Row { id: row.get(0)?, value: value.into(), used: row.get(2)?, beside: Vec::new() })
    });
    let Some(mut row) = row.optional()? else { return Ok(None) };
    let mut statement =
        connection.prepare_cached("SELECT generation, content FROM beside WHERE entry = ?1")?;
    let mut rows = statement.query([row.id])?;
    while let Some(beside) = rows.next()? {
        let (generation, content): (i64, Vec<u8>) = (beside.get(0)?, beside.get(1)?);
        row.beside.push((generation.cast_unsigned(), content.into()));
    }
    Ok(Some(row))
}

struct Writer {
    path: PathBuf,
    connection: Connection,
    jobs: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    size_max: u64,
    rests_until: Option<Instant>,
}

impl Writer {
    fn run(&mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < COMMIT_MAX
                && let Ok(job) = self.jobs.try_recv()
            {
                batch.push(job);
            }
            if self.shared.damaged.load(Ordering::Relaxed) {
                self.begin_anew();
            }
            if self.rests_until.is_some_and(|until| Instant::now() < until) {
                self.shared.counted.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
            } else if let Err(error) = self.write(&batch) {
                self.shared.counted.failures.fetch_add(1, Ordering::Relaxed);
                if is_corruption(&error) {
                    self.begin_anew();
                } else {
                    self.rests_until = Some(Instant::now() + REST);
                }
                if !is_corruption(&error) && self.shared.trouble.failed(&error) {
                    tracing::error!(path = %self.path.display(), %error, "bodies cannot be written to disk; it is left alone for a while");
                }
            } else {
                self.rests_until = None;
                if self.shared.trouble.is_over() {
                    tracing::info!("bodies are written to disk again");
                }
            }
            for job in batch {
                if let Job::Flush(done) = job {
                    let _ = done.send(());
                }
            }
        }
    }

    /// The file was damaged: another takes its place. Where that fails it is left alone for a while.
    fn begin_anew(&mut self) {
        let Self { connection, path, shared, .. } = self;
        match begin_anew(connection, path, Safety::Normal, SCHEMA) {
            Ok(aside) => {
                tracing::error!(path = %path.display(), moved_to = %aside.display(), "the bodies on disk were damaged; they begin anew");
                shared.counted.bytes.store(0, Ordering::Relaxed);
                shared.file.fetch_add(1, Ordering::Release);
            }
            Err(error) => {
                tracing::error!(%error, "the bodies on disk were damaged, and cannot be moved aside; they are left alone for a while");
                self.rests_until = Some(Instant::now() + REST);
            }
        }
        self.shared.damaged.store(false, Ordering::Relaxed);
    }

    fn write(&mut self, batch: &[Job]) -> Result<(), rusqlite::Error> {
        let now = self.clock.now();
        let seconds = seconds_of(now);
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut bytes = self.shared.counted.bytes.load(Ordering::Relaxed).cast_signed();
        let mut written = 0;
        for job in batch {
            match job {
                Job::Write { cache, key, carried } => {
                    let name = name_of(&cache.spec().name, key);
                    bytes -= remove(&transaction, &name)?;
                    let size = write_one(&transaction, cache, key, carried.as_ref(), &name, now)?;
                    bytes += size;
                    written += u64::from(size > 0);
                }
                Job::Remove { name } => bytes -= remove(&transaction, name)?,
                Job::Used { id, at } => {
                    transaction
                        .prepare_cached("UPDATE entry SET used = ?2 WHERE id = ?1")?
                        .execute(params![id, at])?;
                }
                Job::Flush(_) | Job::Look => {}
            }
        }
        // First what is over, then what was not used for longest, a few at a time.
        bytes -= remove_some(&transaction, "SELECT id, size FROM entry WHERE until < ?1 LIMIT ?2", seconds)?;
        let mut rounds = 0;
        while bytes > self.size_max.cast_signed() && rounds < COMMIT_MAX {
            let removed = remove_some(
                &transaction,
                "SELECT id, size FROM entry WHERE used <= ?1 ORDER BY used LIMIT ?2",
                i64::MAX,
            )?;
            if removed == 0 {
                break;
            }
            bytes -= removed;
            rounds += 1;
        }
        transaction.commit()?;
        self.shared.counted.written.fetch_add(written, Ordering::Relaxed);
        self.shared.counted.bytes.store(bytes.max(0).cast_unsigned(), Ordering::Relaxed);
        Ok(())
    }
}

/// Writes what memory holds for the key; returns its bytes.
fn write_one(
    transaction: &rusqlite::Transaction<'_>,
    cache: &NamedCache,
    key: &[u8],
    carried: Option<&Carried>,
    name: &[u8; 32],
    now: Now,
) -> Result<i64, rusqlite::Error> {
    let variants = cache.shareable(key, carried, BODY_MAX);
    let Some(keep_for) = variants.iter().map(|variant| variant.terms.keep_for()).max() else { return Ok(0) };
    let mut generation = 0;
    let next = || {
        generation += 1;
        generation
    };
    let Some(written) = wire::write(key, &variants, Compression::Zstd, VALUE_BYTES_MAX, next) else {
        return Ok(0);
    };
    let size = written.value.len() + written.beside.iter().map(|beside| beside.content.len()).sum::<usize>();
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let seconds = seconds_of(now);
    let until = seconds.saturating_add(keep_for.min(TTL_MAX).as_secs().cast_signed());
    let statement = "INSERT INTO entry (name, value, size, used, until) VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.prepare_cached(statement)?.execute(params![
        &name[..],
        written.value,
        size,
        seconds,
        until
    ])?;
    let id = transaction.last_insert_rowid();
    for beside in &written.beside {
        let statement = "INSERT INTO beside (entry, generation, content) VALUES (?1, ?2, ?3)";
        let generation = beside.generation.cast_signed();
        transaction.prepare_cached(statement)?.execute(params![id, generation, &beside.content[..]])?;
    }
    Ok(size)
}

/// Removes what is stored under a name; returns its bytes.
fn remove(transaction: &rusqlite::Transaction<'_>, name: &[u8; 32]) -> Result<i64, rusqlite::Error> {
    let statement = "SELECT id, size FROM entry WHERE name = ?1";
    let found =
        transaction.prepare_cached(statement)?.query_row([&name[..]], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((id, size)): Option<(i64, i64)> = found.optional()? else { return Ok(0) };
    remove_id(transaction, id)?;
    Ok(size)
}

fn remove_id(transaction: &rusqlite::Transaction<'_>, id: i64) -> Result<(), rusqlite::Error> {
    transaction.prepare_cached("DELETE FROM beside WHERE entry = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM entry WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn remove_some(
    transaction: &rusqlite::Transaction<'_>,
    which: &str,
    upto: i64,
) -> Result<i64, rusqlite::Error> {
    let mut statement = transaction.prepare_cached(which)?;
    let found: Vec<(i64, i64)> = statement
        .query_map([upto, REMOVE_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut bytes = 0;
    for (id, size) in found {
        remove_id(transaction, id)?;
        bytes += size;
    }
    Ok(bytes)
}
