//! The store: all that outlives the process, in one SQLite file.
//!
//! Two threads. `store` writes: whatever has come since its last commit goes into one transaction (group commit), so
//! that a thousand messages cost about as many writes to the disk as one. `store-reader` answers questions on a connection
//! of its own, and waits for no writer.
//!
//! A request is a value of `record`; so is what comes of it: after the commit, in the order of the commits, [`Effects`] is
//! handed what others are to be told, and the answer to who asked, who may be gone. So a message is durable before anybody
//! sees it, and a sender who goes takes nothing with him. If a commit fails, nobody is told anything, and each who asked
//! gets [`Refusal::Internal`].
//!
//! The store knows no sessions, wires or JSON, and of other threads nothing but what [`Effects`] does.

mod account;
mod cache;
mod conversation;
mod database;
mod error;
mod history;
mod message;
mod mobile;
mod reader;
mod rows;
mod schema;
mod support;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

pub use database::Database;
pub use error::{Fault, StoreError};
pub use history::Miscount;

use crate::mailbox::{Asker, Request};
use crate::metrics::StoreMetrics;
use crate::metrics::latency::Timing;
use crate::record::{Answer, Effect, Query, Refusal, Write};
use reader::Reader;
use writer::Writer;

/// Requests that wait, for each of the two threads: some seconds of work of a slow disk. Beyond it requests are not taken.
pub const QUEUE: usize = 8_192;

/// Takes what comes of requests. Each of the store's threads has its own clone, and calls come on these threads: they must
/// not wait for anything that waits for the store.
pub trait Effects: Clone + Send + 'static {
    /// Others are to be told of a change that is on the disk. In commit order; only from the thread that writes.
    fn publish(&mut self, effect: Effect);

    /// The answer to a request. What it has caused was published before.
    fn answer(&mut self, asker: Asker, answer: Result<Answer, Refusal>);

    /// Nothing more comes for now: the time to wake whoever was given something.
    fn flush(&mut self);
}

/// Why a request was not taken. Its asker gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// [`QUEUE`] requests wait already.
    Full,
    /// The store has been stopped.
    Stopped,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotTaken::Full => "the database is busy: send this again in a moment",
            NotTaken::Stopped => "the server is shutting down: send this again when it is back",
        })
    }
}

impl std::error::Error for NotTaken {}

/// What a thread of the store is told.
enum Job<T> {
    /// Carry this out.
    Request(Request<T>),
    /// Hand out the times of the commits since this was last asked.
    Collect,
    /// Carry out what waits, and end.
    Stop,
}

/// How to reach the store, from any thread.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    writes: Sender<Job<Write>>,
    reads: Sender<Job<Query>>,
    is_stopped: AtomicBool,
    /// Where the times of commits come.
    times: Receiver<Box<Timing>>,
    /// They have been asked for, and have not come.
    are_times_asked: AtomicBool,
}

impl Store {
    /// Opens the database and starts the threads. What comes of requests goes to `effects`.
    ///
    /// # Errors
    /// The file is not to be used, or a thread cannot be started.
    pub fn start(
        path: &Path,
        effects: impl Effects,
        metrics: Arc<StoreMetrics>,
    ) -> Result<(Store, StoreThreads), StoreError> {
        let lock = lock(path)?;
        let writing = Database::open(path)?;
        let reading = Database::open_to_read(path)?;
        let (writes, write_jobs) = bounded(QUEUE);
        let (reads, read_jobs) = bounded(QUEUE);
        // Only one set is on its way at a time.
        let (hand_out, times) = bounded(1);
        let writer = Writer::new(writing, write_jobs, effects.clone(), metrics, hand_out)
            .map_err(|error| StoreError::sqlite(path, error))?;
        let reader = Reader::new(reading, read_jobs, effects);
        let failed = |error| StoreError::new(path, Fault::Thread(error));
        // If the second cannot be started, the first ends: nobody can reach it any more.
        let reader = spawn("store-reader", move || reader.run()).map_err(failed)?;
        let writer = spawn("store", move || writer.run()).map_err(failed)?;
        let (is_stopped, are_times_asked) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Shared { writes, reads, is_stopped, times, are_times_asked };
        let store = Store { shared: Arc::new(shared) };
        Ok((store.clone(), StoreThreads { store, reader: Some(reader), writer: Some(writer), lock }))
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// It was not taken, and nobody gets an answer.
    pub fn write(&self, request: Request<Write>) -> Result<(), NotTaken> {
        self.give(&self.shared.writes, request)
    }

    /// Asks a question.
    ///
    /// # Errors
    /// It was not taken, and nobody gets an answer.
    pub fn read(&self, request: Request<Query>) -> Result<(), NotTaken> {
        self.give(&self.shared.reads, request)
    }

    fn give<T>(&self, jobs: &Sender<Job<T>>, request: Request<T>) -> Result<(), NotTaken> {
        if self.shared.is_stopped.load(Ordering::Acquire) {
            return Err(NotTaken::Stopped);
        }
        jobs.try_send(Job::Request(request)).map_err(|error| match error {
            TrySendError::Full(_) => NotTaken::Full,
            TrySendError::Disconnected(_) => NotTaken::Stopped,
        })
    }

    /// Requests that wait now, in both queues.
    pub fn queue_length(&self) -> usize {
        self.shared.writes.len() + self.shared.reads.len()
    }

    /// How long each commit since the last call has taken. Waits for `patience` at most; `None`: the writing thread is
    /// busy for longer, and the times come with a later call. Calls come one at a time.
    pub fn commit_times(&self, patience: Duration) -> Option<Box<Timing>> {
        let Shared { writes, times, are_times_asked, .. } = &*self.shared;
        if !are_times_asked.swap(true, Ordering::AcqRel) && writes.try_send(Job::Collect).is_err() {
            are_times_asked.store(false, Ordering::Release);
            return None;
        }
        let answer = times.recv_timeout(patience).ok()?;
        are_times_asked.store(false, Ordering::Release);
        Some(answer)
    }
}

/// The running threads. Dropping it stops the store too.
pub struct StoreThreads {
    store: Store,
    reader: Option<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    /// Locked for as long as the threads run.
    lock: File,
}

impl StoreThreads {
    /// Takes no more requests, carries out and commits those that wait, and ends the threads.
    pub fn stop(self) {}
}

impl Drop for StoreThreads {
    fn drop(&mut self) {
        let Shared { writes, reads, is_stopped, .. } = &*self.store.shared;
        is_stopped.store(true, Ordering::Release);
        // `Stop` waits for its place behind what was taken before; a thread that has ended takes nothing. The writer ends
        // last: the last to close the database empties its log, and may only if it may write.
        let _ = reads.send(Job::Stop);
        join(self.reader.take());
        let _ = writes.send(Job::Stop);
        join(self.writer.take());
        // Closing is not enough: a child that is being started has the file too, until it runs a program of its own.
        let _ = self.lock.unlock();
    }
}

/// Claims the database for this process: two brokers on one file would tell each only its own clients. Commands beside the
/// broker (`fanfare user`) claim nothing. The system gives the claim back however the process ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let failed = |error| match path.is_dir() {
        true => StoreError::new(path, Fault::Directory),
        false => StoreError::new(path, Fault::File(error)),
    };
    let file =
        File::options().create(true).truncate(false).write(true).mode(0o600).open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::new(path, Fault::InUse)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the store had panicked");
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}
