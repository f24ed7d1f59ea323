//! Why a database cannot be used: which file, what is wrong, what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A fault of the database as a whole.
#[derive(Debug)]
pub struct StoreError {
    /// The file, as it was configured.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a database.
#[derive(Debug)]
pub enum Fault {
    /// The file cannot be made or opened.
    File(io::Error),
    /// It is a directory.
    Directory,
    /// It is no database, or a damaged one.
    NotADatabase,
    /// It is the database of another program.
    Foreign,
    /// It was written by a newer version of this program.
    Newer {
        /// The version of the file.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// Another broker serves it.
    InUse,
    /// The database refused something.
    Sqlite(rusqlite::Error),
    /// A thread could not be started.
    Thread(io::Error),
}

impl StoreError {
    pub(super) fn new(path: &Path, fault: Fault) -> StoreError {
        StoreError { path: path.to_owned(), fault }
    }

    /// What the fault of SQLite means for this file.
    pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> StoreError {
        let fault = match error.sqlite_error_code() {
            _ if path.is_dir() => Fault::Directory,
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                Fault::NotADatabase
            }
            _ => Fault::Sqlite(error),
        };
        StoreError::new(path, fault)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database {} cannot be used: ", self.path.display())?;
        match &self.fault {
            Fault::File(error) => write!(
                f,
                "{error}. store.path must name a file in a directory that exists and that this user may write to"
            ),
            Fault::Directory => f.write_str("it is a directory. store.path must name a file"),
            Fault::NotADatabase => f.write_str(
                "it is not a database, or it is damaged. Name another file in store.path, or restore a copy",
            ),
            Fault::Foreign => f.write_str("it belongs to another program. Name another file in store.path"),
            Fault::Newer { found, known } => write!(
                f,
                "it has version {found}, and this program knows versions up to {known}. Use a newer fanfare, or restore a \
                 copy from before the upgrade"
            ),
            Fault::InUse => f.write_str(
                "another fanfare serves it already, and its clients would not see what is said here. End that one, or name \
                 another file in store.path",
            ),
            Fault::Sqlite(error) => write!(
                f,
                "{error}. The file and its directory must be writable, the disk must have room, and no other program may \
                 hold the file locked"
            ),
            Fault::Thread(error) => write!(f, "its thread cannot be started: {error}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::File(error) | Fault::Thread(error) => Some(error),
            Fault::Sqlite(error) => Some(error),
            _ => None,
        }
    }
}
