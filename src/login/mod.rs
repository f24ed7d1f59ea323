//! The identity provider (`spec/auth.md`, "Issuing tokens"): threads that check passwords and give out tokens.
//!
//! A password takes some 20 ms to check and a refresh token waits for the disk, so neither may happen on a shard. A shard
//! hands a [`LoginRequest`] over, and one of [`WORKERS`] threads works on it: it asks the store and waits for the answer,
//! hashes, signs, and gives what came of it to [`Answers`].
//!
//! It knows nothing of HTTP, sockets or clients: what is asked and answered are the values of `app::rest::login`.

mod failures;
mod worker;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::Mutex;

use crate::app::rest::login::{LoginAnswer, LoginCall, LoginError};
use crate::auth::{KeyError, Verifier};
use crate::limits::{AddressRange, Limits, Rate};
use crate::record::{Answer, Refusal};
use crate::settings::AuthSettings;
use crate::store::Store;
use crate::time::Now;
use failures::Failures;
use worker::Worker;

/// Threads. Two keep a machine of two cores from doing nothing but hashing, as shards compete with them.
pub const WORKERS: usize = 2;

/// Passwords that wait to be checked: about a second of work. As many requests of other kinds may wait in a queue of their
/// own. Beyond it requests are refused.
pub const QUEUE: usize = 64;

/// Answers of the store that a worker has not taken: the one it waits for, and those it has given up on.
const MAIL: usize = 64;

/// Something asked of the identity provider.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// The shard that has the connection.
    pub shard: u8,
    /// Which of its requests.
    pub ticket: u64,
    /// What is asked.
    pub call: LoginCall,
    /// Where it comes from.
    pub address: IpAddr,
    /// When it came.
    pub at: Now,
}

/// Takes the answers. Each worker has its own clone, and calls come on the workers' threads.
pub trait Answers: Clone + Send + 'static {
    /// The answer to a request that was taken; each gets one.
    fn answer(&mut self, shard: u8, ticket: u64, answer: LoginAnswer);
}

/// How tokens are given out. Replaced whole when the configuration is read again.
pub struct Issuer {
    verifier: Arc<Verifier>,
    /// Of another provider's tokens.
    exchange: Option<Verifier>,
    is_on: bool,
    access_ttl: Duration,
    refresh_ttl: Duration,
    rotate_refresh: bool,
    /// Failed sign-ins of one account or address.
    failures: Option<Rate>,
    /// Addresses whose failures do not count for the address.
    exempt: Vec<AddressRange>,
}

impl Issuer {
    /// Reads the other provider's keys, and so may block on files. `verifier` has our own.
    ///
    /// # Errors
    /// A key file cannot be used.
    pub fn new(auth: &AuthSettings, limits: &Limits, verifier: Arc<Verifier>) -> Result<Issuer, KeyError> {
        Ok(Issuer {
            exchange: Verifier::of_exchange(&auth.exchange)?,
            is_on: auth.issue_tokens && verifier.signs(),
            verifier,
            access_ttl: auth.access_ttl,
            refresh_ttl: auth.refresh_ttl,
            rotate_refresh: auth.rotate_refresh,
            failures: limits.login,
            exempt: limits.exempt.clone(),
        })
    }
}

/// What a worker is told.
enum Job {
    /// Carry this out.
    Request(Box<LoginRequest>),
    /// End.
    Stop,
}

/// Where a worker finds its requests. Passwords, which are slow, and all else wait apart, so that neither keeps the other
/// out: the first worker takes what is quick first, the others take passwords alone.
struct Jobs {
    passwords: Receiver<Job>,
    others: Option<Receiver<Job>>,
}

impl Jobs {
    /// The next, when there is one; `None`: nobody can ask any more.
    fn next(&self) -> Option<Job> {
        let Some(others) = &self.others else { return self.passwords.recv().ok() };
        others.try_recv().ok().or_else(|| {
            select! {
                recv(others) -> job => job.ok(),
                recv(self.passwords) -> job => job.ok(),
            }
        })
    }
}

/// An answer of the store, with the ticket it was asked under.
type Mail = (u64, Result<Answer, Refusal>);

/// How to reach the identity provider, from any thread.
#[derive(Clone)]
pub struct Login {
    shared: Arc<Shared>,
}

/// What the workers and those who reach them share.
struct Shared {
    passwords: Sender<Job>,
    others: Sender<Job>,
    /// To each worker.
    mail: Box<[Sender<Mail>]>,
    issuer: Mutex<Arc<Issuer>>,
    failures: Mutex<Failures>,
    is_stopped: AtomicBool,
    passwords_checked: AtomicU64,
}

/// The workers before they are started: the store that they ask must first be told how to reach them.
pub struct Workers {
    shared: Arc<Shared>,
    passwords: Receiver<Job>,
    others: Receiver<Job>,
    mail: Vec<Receiver<Mail>>,
}

impl Login {
    /// Makes the queues. Requests wait until [`Workers::start`].
    pub fn new(issuer: Issuer) -> (Login, Workers) {
        let (to_passwords, passwords) = bounded(QUEUE);
        let (to_others, others) = bounded(QUEUE);
        let (senders, mail): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| bounded(MAIL)).unzip();
        let shared = Arc::new(Shared {
            passwords: to_passwords,
            others: to_others,
            mail: senders.into(),
            issuer: Mutex::new(Arc::new(issuer)),
            failures: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            passwords_checked: AtomicU64::new(0),
        });
        (Login { shared: Arc::clone(&shared) }, Workers { shared, passwords, others, mail })
    }

    /// Asks for something; the answer comes to [`Answers`].
    ///
    /// # Errors
    /// It was not taken, and no other answer comes: [`LoginError::Busy`] when [`QUEUE`] requests wait or the workers have
    /// been stopped, [`LoginError::Off`] when no tokens are given out.
    pub fn ask(&self, request: LoginRequest) -> Result<(), LoginError> {
        if !self.shared.issuer.lock().is_on {
            return Err(LoginError::Off);
        }
        if self.shared.is_stopped.load(Ordering::Acquire) {
            return Err(LoginError::Busy);
        }
        let jobs = match request.call {
            LoginCall::Password { .. } => &self.shared.passwords,
            _ => &self.shared.others,
        };
        jobs.try_send(Job::Request(Box::new(request))).map_err(|_| LoginError::Busy)
    }

    /// The store's answer to a request of [`Asker::Login`](crate::mailbox::Asker::Login), to be called from its
    /// [`Effects`](crate::store::Effects). Waits for nothing.
    pub fn answered(&self, worker: u8, ticket: u64, answer: Result<Answer, Refusal>) {
        if let Some(mail) = self.shared.mail.get(usize::from(worker)) {
            // Full only when the worker has given up on all that is in it; then it gives up on this one too.
            let _ = mail.try_send((ticket, answer));
        }
    }

    /// Takes new keys, times and limits; failures counted so far count on.
    pub fn reload(&self, issuer: Issuer) {
        *self.shared.issuer.lock() = Arc::new(issuer);
    }

    /// Passwords that were checked against a hash since the start, wrong ones and those of nobody included.
    pub fn passwords_checked(&self) -> u64 {
        self.shared.passwords_checked.load(Ordering::Relaxed)
    }
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(self, store: &Store, answers: &impl Answers) -> io::Result<LoginThreads> {
        let mut threads = LoginThreads { shared: self.shared, threads: Vec::new() };
        for (index, mail) in (0u8..).zip(self.mail) {
            let shared = Arc::clone(&threads.shared);
            let worker = Worker::new(index, shared, mail, store.clone());
            let others = (index == 0).then(|| self.others.clone());
            let (jobs, answers) = (Jobs { passwords: self.passwords.clone(), others }, answers.clone());
            let body = move || worker.run(&jobs, answers);
            threads.threads.push(thread::Builder::new().name(format!("login-{index}")).spawn(body)?);
        }
        Ok(threads)
    }
}

/// The running workers. Dropping it stops them too. They end after the shards, since a request that comes at that moment may
/// stay unanswered, and before the store that they ask.
pub struct LoginThreads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl LoginThreads {
    /// Takes no more requests, refuses those that wait, and ends the threads.
    pub fn stop(self) {}
}

impl Drop for LoginThreads {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        // Waits for its place behind what was taken before, which is refused quickly from now on.
        let _ = self.shared.others.send(Job::Stop);
        for _ in &self.threads {
            let _ = self.shared.passwords.send(Job::Stop);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the identity provider had panicked");
            }
        }
    }
}
