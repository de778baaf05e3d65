//! The embedded store, in SQLite: what outlives the process on this machine.
//!
//! Two files in the folder of `[data]`. `state.db` holds facts that must not be lost: each commit reaches the disk before anybody is told. `cache.db` holds
//! bodies that can be fetched again: a crash of the machine may cost the last of them. Each has one thread that writes, and nothing waits
//! for it but who has asked for a fact to be safe. Both make themselves; what is damaged is moved aside and begun anew; what the disk does not take
//! switches the file off for a while, with a line in the log and a counter, and requests go on. What turns out to be damaged while it is used is moved
//! aside likewise.

pub mod bodies;
pub mod journal;
pub mod tools;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

/// How long a statement waits for another process that has the file (`weir store`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a file of the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder is not there and cannot be made, or a damaged file cannot be moved.
    #[error("cannot use the folder `{}`", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another proxy has it.
    #[error("another proxy uses the folder `{}`", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// SQLite's own words.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// The folder of a proxy, for as long as this lives. The kernel gives it back when the process ends, however it does.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "held, not read")] fs::File);

impl FolderLock {
    /// Makes the folder if it is not there, and takes it. Two proxies in one folder would each believe a journal that the other one writes.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let file = fs::File::create(folder.join("lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: folder.to_owned() }),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Whether the disk takes what is written to a file, and why not.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// A commit failed. True: that is news.
    pub fn failed(&self, error: &rusqlite::Error) -> bool {
        self.0.lock().replace(error.to_string()).is_none()
    }

    /// A commit was taken. True: that is news.
    pub fn is_over(&self) -> bool {
        self.0.lock().take().is_some()
    }

    /// Why nothing is written at the moment; `None`: it is.
    pub fn why(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// How safely a commit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// On the disk before it returns.
    Full,
    /// In order, so that the file is never damaged; the last of it may be lost with the machine, not with the process.
    Normal,
}

/// Opens a file, or makes it; one that is damaged or not ours is moved aside first. The second value: where it was moved to.
pub fn open(path: &Path, safety: Safety, schema: &str) -> Result<(Connection, Option<PathBuf>), StoreError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    }
    match try_open(path, safety, schema) {
        Ok(connection) => Ok((connection, None)),
        Err(error) if is_damage(&error) => {
            let aside =
                move_aside(path).map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
            let reopened = try_open(path, safety, schema);
            let file = |source| StoreError::File { path: path.to_owned(), source };
            Ok((reopened.map_err(file)?, Some(aside)))
        }
        Err(source) => Err(StoreError::File { path: path.to_owned(), source }),
    }
}

fn try_open(path: &Path, safety: Safety, schema: &str) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let level = match safety {
        Safety::Full => "FULL",
        Safety::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", level)?;
    // A large file is not read whole before the first request; each of its values carries a checksum.
    let is_small = fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_MAX);
    if is_small {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(damaged());
        }
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != 0 && version != VERSION {
        // Of another version: nothing in it is understood here.
        return Err(damaged());
    }
    connection.execute_batch(schema)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(connection)
}

/// Files up to this size are looked through at the start.
const CHECKED_MAX: u64 = 128 << 20;
/// The version of both files.
const VERSION: i64 = 1;

fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

/// Whether the file itself is at fault, rather than the disk or our rights.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => true,
        // A folder in its place, for example.
        Some(CannotOpen) => true,
        // A table of the same name with other columns.
        _ => matches!(error, rusqlite::Error::SqlInputError { .. }),
    }
}

/// Whether a file that was whole when it was opened is so no longer.
fn is_corruption(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Puts a file aside that was damaged while it was open, and begins a new one in its place.
fn begin_anew(
    connection: &mut Connection,
    path: &Path,
    safety: Safety,
    schema: &str,
) -> Result<PathBuf, StoreError> {
    let file = |source| StoreError::File { path: path.to_owned(), source };
    // Closed first, so that nothing of the old one is written into the new one.
    *connection = Connection::open_in_memory().map_err(file)?;
    let aside = move_aside(path).map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
    *connection = try_open(path, safety, schema).map_err(file)?;
    Ok(aside)
}

/// Renames a file and what belongs to it. The name that it has from then on.
fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    // Each time another name, so that the evidence of an earlier time stays.
    let aside = (0..1_000)
        .map(|number| named(&format!(".damaged-{number}")))
        .find(|aside| !aside.exists())
        .ok_or_else(|| io::Error::other("a thousand damaged files lie there already"))?;
    fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(named(suffix));
    }
    Ok(aside)
}
