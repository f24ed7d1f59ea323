//! One connection to the database: how it is opened and set up, and how a request is carried out on it.
//!
//! It knows the file and its transactions. What the requests mean stands in `conversation`, `message`, `history` and
//! `account`. Threads and queues are the parent's.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::cache::Cache;
use super::error::{Fault, StoreError};
use super::history::Miscount;
use super::work::{Stop, Work};
use super::{account, conversation, history, message, mobile, schema, support};
use crate::record::{Answer, Effect, Query, Refusal, Write};
use crate::time::{Now, monotonic};

/// How long a statement waits for another program, such as `fanfare user add`, to end its transaction.
const BUSY: Duration = Duration::from_secs(5);

/// Statements kept prepared: more than there are.
const STATEMENTS: usize = 192;

/// How often the same fault is logged, nanoseconds.
const FAULT_LINES: u64 = 1_000_000_000;

/// The whole transaction is undone, so that every request in it has failed.
#[derive(Debug)]
pub(super) struct Lost(pub rusqlite::Error);

/// An open database.
pub struct Database {
    path: PathBuf,
    connection: Connection,
    cache: Cache,
    /// The newest fault that was logged: what, when, its id.
    logged: Option<(String, u64, Uuid)>,
}

impl Database {
    /// Opens the database for reading and writing; one that is not there is made, an older one is brought to this
    /// version, each step in a transaction.
    ///
    /// # Errors
    /// The file is not to be used: see [`Fault`].
    pub fn open(path: &Path) -> Result<Database, StoreError> {
        create(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut database = Database::connect(path, flags)?;
        let failed = |error| StoreError::sqlite(path, error);
        database.check_version()?;
        // Waits for nobody who reads, and nobody who reads waits for it.
        database.connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
        schema::migrate(&mut database.connection).map_err(failed)?;
        Ok(database)
    }

    /// Opens a database for reading that [`Database::open`] has opened before.
    ///
    /// # Errors
    /// As there.
    pub(super) fn open_to_read(path: &Path) -> Result<Database, StoreError> {
        Database::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Database, StoreError> {
        let failed = |error| StoreError::sqlite(path, error);
        // SQLite would take a name that begins with `file:` for an address.
        let file = Path::new(".").join(path);
        let connection = Connection::open_with_flags(file, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Plans depend on no value: SQLite would prepare most statements again each time they are used, to look at those.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
        for (pragma, value) in [
            // A commit is on the disk when it is answered.
            ("synchronous", "full"),
            ("foreign_keys", "on"),
            // What is deleted is overwritten.
            ("secure_delete", "on"),
            // What a savepoint needs to be undone is not worth a file.
            ("temp_store", "memory"),
            // KiB.
            ("cache_size", "-16384"),
            // Bytes that the log keeps when it starts anew.
            ("journal_size_limit", "67108864"),
        ] {
            connection.pragma_update(None, pragma, value).map_err(failed)?;
        }
        Ok(Database { path: path.to_owned(), connection, cache: Cache::new(), logged: None })
    }

    /// Refuses what another program or a newer version has written, before anything is changed.
    fn check_version(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::sqlite(&self.path, error);
        let found = schema::version(&self.connection).map_err(failed)?;
        let owner: u32 =
            self.connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
        let tables: u32 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        let fault = match (owner == schema::APPLICATION_ID, found) {
            (true, found) if found > schema::VERSION => Fault::Newer { found, known: schema::VERSION },
            (false, found) if found > 0 || owner > 0 || tables > 0 => Fault::Foreign,
            _ => return Ok(()),
        };
        Err(StoreError::new(&self.path, fault))
    }

    /// Carries out one change in a transaction of its own, for programs without the threads of [`Store`](super::Store).
    /// Nobody is told of it. `at`: Unix ms.
    ///
    /// # Errors
    /// What [`Refusal`] says.
    pub fn write(&mut self, at: u64, write: &Write) -> Result<Answer, Refusal> {
        let mut effects = Vec::new();
        let answer = self.begin().and_then(|()| {
            let answer = self.apply(at, write, &mut effects)?;
            self.commit()?;
            Ok(answer)
        });
        answer.unwrap_or_else(|Lost(error)| {
            self.roll_back();
            Err(self.internal(&error))
        })
    }

    /// Answers a question from one state of the database.
    ///
    /// # Errors
    /// What [`Refusal`] says.
    pub fn read(&mut self, query: &Query) -> Result<Answer, Refusal> {
        let answer = self.in_snapshot(query);
        answer.map_err(|stop| match stop {
            Stop::Refused(refusal) => refusal,
            Stop::Failed(error) => self.internal(&error),
        })
    }

    fn in_snapshot(&mut self, query: &Query) -> Result<Answer, Stop> {
        let transaction = self.connection.unchecked_transaction()?;
        let answer = history::answer(&transaction, &mut self.cache, query);
        transaction.finish()?;
        answer
    }

    /// Begins a transaction for several changes.
    pub(super) fn begin(&self) -> Result<(), Lost> {
        self.execute("BEGIN IMMEDIATE")
    }

    /// Carries out one change within the transaction. If the database fails at it, it alone is undone.
    ///
    /// # Errors
    /// The whole transaction is undone, as SQLite does when the disk is full.
    pub(super) fn apply(
        &mut self,
        at: u64,
        write: &Write,
        effects: &mut Vec<Effect>,
    ) -> Result<Result<Answer, Refusal>, Lost> {
        let told = effects.len();
        self.execute("SAVEPOINT request")?;
        let mut work = Work { connection: &self.connection, cache: &mut self.cache, effects, at };
        let answer = match dispatch(&mut work, write) {
            Ok(answer) => Ok(answer),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Failed(error)) => {
                effects.truncate(told);
                self.cache.clear();
                if self.connection.is_autocommit() {
                    return Err(Lost(error));
                }
                self.execute("ROLLBACK TO request")?;
                Err(self.internal(&error))
            }
        };
        self.execute("RELEASE request")?;
        Ok(answer)
    }

    /// Ends the transaction; what it changed is on the disk.
    pub(super) fn commit(&self) -> Result<(), Lost> {
        self.execute("COMMIT")
    }

    /// Undoes the transaction, if it is not undone already.
    pub(super) fn roll_back(&mut self) {
        self.cache.clear();
        if !self.connection.is_autocommit()
            && let Err(Lost(error)) = self.execute("ROLLBACK")
        {
            tracing::error!(path = %self.path.display(), %error, "a transaction could not be undone");
        }
    }

    fn execute(&self, sql: &str) -> Result<(), Lost> {
        let executed = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        executed.map(|_| ()).map_err(Lost)
    }

    /// The answer to whose request the database failed at. The log has the same id; a fault that goes on is logged once a
    /// second, and keeps its id meanwhile.
    pub(super) fn internal(&mut self, error: &rusqlite::Error) -> Refusal {
        let (text, now) = (error.to_string(), monotonic());
        if let Some((logged, at, error_id)) = &self.logged
            && *logged == text
            && now.saturating_sub(*at) < FAULT_LINES
        {
            return Refusal::Internal { error_id: *error_id };
        }
        let error_id = Uuid::now_v7();
        tracing::error!(path = %self.path.display(), %error, %error_id, "the database failed");
        self.logged = Some((text, now, error_id));
        Refusal::Internal { error_id }
    }

    /// Moves all of the log into the database file and leaves it empty; `false`: somebody reads from it just now.
    pub(super) fn empty_log(&self) -> rusqlite::Result<bool> {
        // Who wants to write must not wait for who reads.
        self.connection.busy_timeout(Duration::ZERO)?;
        let is_busy: rusqlite::Result<bool> =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.connection.busy_timeout(BUSY)?;
        Ok(!is_busy?)
    }

    /// When the next ephemeral photo is to be deleted, Unix ms.
    pub(super) fn next_due(&self) -> rusqlite::Result<Option<u64>> {
        message::next_due(&self.connection)
    }

    #[cfg(test)]
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Users whose kept count of unread messages is not the true one; there are none, unless something is wrong.
    ///
    /// # Errors
    /// The database failed.
    pub fn miscounts(&mut self) -> Result<Vec<Miscount>, Refusal> {
        let found = history::miscounts(&self.connection);
        found.map_err(|error| self.internal(&error))
    }
}

fn dispatch(work: &mut Work<'_>, write: &Write) -> Result<Answer, Stop> {
    match write {
        Write::CreateConversation { by, participants } => {
            conversation::create(work, by.as_ref(), participants)
        }
        Write::Send { by, conversation, message } => message::send(work, by.as_ref(), *conversation, message),
        Write::Read { by, conversation, message } => message::read(work, by, *conversation, *message),
        Write::Delete { by, conversation, message } => message::delete(work, by, *conversation, *message),
        Write::Delivered { to, conversation, message } => {
            message::delivered(work, to, *conversation, *message)
        }
        Write::Expire => message::expire(work),
        Write::AddAccount(account) => account::add(work, account),
        Write::SetPassword { email, password_hash } => account::set_password(work, email, password_hash),
        Write::SetDisabled { email, disabled } => account::set_disabled(work, email, *disabled),
        Write::RemoveAccount { email } => account::remove(work, email),
        Write::SaveRefreshToken(token) => account::save_token(work, token),
        Write::UseRefreshToken { token, replacement } => account::use_token(work, *token, *replacement),
        Write::RevokeFamily { family } => account::revoke_family(work, *family),
        Write::Mobile(write) => mobile::carry_out(work, write),
        Write::Support(write) => support::write(work, write),
    }
}

/// Makes the file if it is not there, so that nobody else may read it. An existing one is not opened: closing it again
/// would end the locks that another connection of this process holds (POSIX).
fn create(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Err(StoreError::new(path, Fault::Directory));
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::new(path, Fault::File(error)))
        }
        _ => Ok(()),
    }
}

/// The time now, Unix ms.
pub(super) fn now() -> u64 {
    Now::read().unix_ms()
}
