//! What `weir store` does with the files, beside a proxy or without one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, StoreError, is_damage};

/// How a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: &'static str,
    /// Whether SQLite finds nothing wrong with it.
    pub is_whole: bool,
    /// Its size.
    pub bytes: u64,
    /// What is in it.
    pub rows: u64,
    /// And what that is.
    pub of: &'static str,
}

const FILES: [(&str, &str, &str); 2] = [
    ("state.db", "SELECT COUNT(*) FROM fact", "purges"),
    ("cache.db", "SELECT COUNT(*) FROM entry", "bodies"),
];

/// Looks at both files; one that is not there is passed over.
pub fn check(folder: &Path) -> Result<Vec<Found>, StoreError> {
    let mut all = Vec::new();
    for (name, count, of) in FILES {
        let path = folder.join(name);
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let mut found = Found { name, is_whole: false, bytes: metadata.len(), rows: 0, of };
        let looked = (|| {
            let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            let rows: i64 = connection.query_row(count, [], |row| row.get(0))?;
            Ok((said == "ok", rows.cast_unsigned()))
        })();
        match looked {
            Ok((is_whole, rows)) => (found.is_whole, found.rows) = (is_whole, rows),
            Err(error) if is_damage(&error) => {}
            Err(source) => return Err(StoreError::File { path, source }),
        }
        all.push(found);
    }
    Ok(all)
}

/// Gives free pages back to the disk. The bytes of both files before and after.
pub fn compact(folder: &Path) -> Result<(u64, u64), StoreError> {
    let size = || -> u64 {
        let sizes = FILES.iter().filter_map(|(name, ..)| std::fs::metadata(folder.join(name)).ok());
        sizes.map(|metadata| metadata.len()).sum()
    };
    let before = size();
    each(folder, &["state.db", "cache.db"], |connection| {
        connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
    })?;
    Ok((before, size()))
}

/// Drops all bodies. How many.
pub fn clear(folder: &Path) -> Result<u64, StoreError> {
    let mut dropped = 0;
    each(folder, &["cache.db"], |connection| {
        dropped = connection.execute("DELETE FROM entry", [])?;
        connection.execute_batch("DELETE FROM beside; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
    })?;
    Ok(dropped as u64)
}

fn each(
    folder: &Path,
    names: &[&str],
    mut act: impl FnMut(&Connection) -> Result<(), rusqlite::Error>,
) -> Result<(), StoreError> {
    for name in names {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let file = |source| StoreError::File { path: path.clone(), source };
        let connection = Connection::open(&path).map_err(file)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(file)?;
        act(&connection).map_err(file)?;
    }
    Ok(())
}
