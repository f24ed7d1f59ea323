//! The thread that writes: group commit, and photos whose time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::database::{Database, Lost, now};
use super::{Effects, Job};
use crate::mailbox::{Asker, Request};
use crate::metrics::StoreMetrics;
use crate::metrics::latency::Timing;
use crate::record::{Answer, Effect, Refusal, Write};
use crate::time::monotonic;

/// Requests of a transaction, at most: what their askers wait for is a commit, and it must not be far.
const BATCH: usize = 512;

/// How long a transaction takes in requests. More waits for the next.
const WORK: Duration = Duration::from_millis(5);

/// The longest wait for the next photo that is due: the clock may be set.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// How long nobody must have asked for anything before the log is emptied of what was deleted.
const IDLE: Duration = Duration::from_secs(1);

/// How long photos wait that the database failed to delete, nanoseconds.
const AGAIN: u64 = 1_000_000_000;

/// What the thread owns.
pub(super) struct Writer<E> {
    database: Database,
    jobs: Receiver<Job<Write>>,
    effects: E,
    metrics: Arc<StoreMetrics>,
    commits: Box<Timing>,
    /// Where they go when they are asked for.
    times: Sender<Box<Timing>>,
    /// When the next photo is due, Unix ms.
    due: Option<u64>,
    /// Photos are not tried again before, after the database has failed; monotonic ns.
    not_before: u64,
    /// Something was deleted whose content the database's log may still hold.
    is_log_stale: bool,
    is_stopping: bool,
    /// Who has asked what is in the transaction under way.
    askers: Vec<Asker>,
    /// The answers, in the same order, each with the number of effects there are by then.
    answers: Vec<(Result<Answer, Refusal>, usize)>,
    told: Vec<Effect>,
}

impl<E: Effects> Writer<E> {
    pub(super) fn new(
        database: Database,
        jobs: Receiver<Job<Write>>,
        effects: E,
        metrics: Arc<StoreMetrics>,
        times: Sender<Box<Timing>>,
    ) -> rusqlite::Result<Writer<E>> {
        let due = database.next_due()?;
        Ok(Writer {
            database,
            jobs,
            effects,
            metrics,
            commits: Box::default(),
            times,
            due,
            not_before: 0,
            is_log_stale: false,
            is_stopping: false,
            askers: Vec::with_capacity(BATCH),
            answers: Vec::with_capacity(BATCH),
            told: Vec::with_capacity(BATCH),
        })
    }

    /// Works until it is told to stop, and has done all that waited by then.
    pub(super) fn run(mut self) {
        while let Some(job) = self.wait() {
            if let Some(first) = self.request(job) {
                self.transaction(first);
            }
        }
    }

    /// The next job, or the photos that are due; `None`: the end.
    fn wait(&mut self) -> Option<Job<Write>> {
        loop {
            if self.is_stopping {
                return self.jobs.try_recv().ok();
            }
            let left = self.time_left();
            if left.is_zero() {
                return Some(Job::Request(Request { asker: Asker::Nobody, at: now(), what: Write::Expire }));
            }
            let left = if self.is_log_stale { left.min(IDLE) } else { left };
            match self.jobs.recv_timeout(left) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Nobody has asked for anything: if need be, empties the log. Under load it is overwritten soon enough.
    fn idle(&mut self) {
        if self.is_log_stale {
            let emptied = self.database.empty_log();
            self.is_log_stale = !emptied.unwrap_or_else(|error| {
                self.database.internal(&error);
                true
            });
        }
    }

    /// How long until photos must be looked after.
    fn time_left(&self) -> Duration {
        let Some(due) = self.due else { return LOOK_AROUND };
        let left = Duration::from_millis(due.saturating_sub(now())).min(LOOK_AROUND);
        left.max(Duration::from_nanos(self.not_before.saturating_sub(monotonic())))
    }

    /// The request, if the job is one; else it is done.
    fn request(&mut self, job: Job<Write>) -> Option<Request<Write>> {
        match job {
            Job::Request(request) => return Some(request),
            // There is room for what was asked for.
            Job::Collect => drop(self.times.try_send(std::mem::take(&mut self.commits))),
            Job::Stop => self.is_stopping = true,
        }
        None
    }

    /// One transaction: this request, and those that wait.
    fn transaction(&mut self, first: Request<Write>) {
        match self.carry_out(first).and_then(|()| self.commit()) {
            Ok(()) => self.hand_out(),
            Err(Lost(error)) => self.fail(&error),
        }
        self.effects.flush();
    }

    fn carry_out(&mut self, first: Request<Write>) -> Result<(), Lost> {
        self.askers.push(first.asker);
        let begun = self.database.begin();
        let until = Instant::now() + WORK;
        if begun.is_err() {
            // Somebody holds the database, for longer than any of those who wait can be made to.
            while self.next_of_batch(until).is_some() {}
            return begun;
        }
        let (mut next, mut moves_due) = (Some(first), false);
        while let Some(Request { at, what, .. }) = next {
            let answer = self.database.apply(at, &what, &mut self.told)?;
            let deletes = matches!(what, Write::Delete { .. } | Write::Expire);
            self.is_log_stale |= deletes;
            moves_due |= deletes || matches!(what, Write::Read { .. });
            if answer.is_err() && matches!(what, Write::Expire) {
                self.not_before = monotonic() + AGAIN;
            }
            self.answers.push((answer, self.told.len()));
            next = self.next_of_batch(until);
        }
        if moves_due {
            self.due = self.database.next_due().map_err(Lost)?;
        }
        Ok(())
    }

    /// The next request that the transaction has room and time for.
    fn next_of_batch(&mut self, until: Instant) -> Option<Request<Write>> {
        while self.askers.len() < BATCH && Instant::now() < until {
            let job = self.jobs.try_recv().ok()?;
            if let Some(request) = self.request(job) {
                self.askers.push(request.asker);
                return Some(request);
            }
        }
        None
    }

    fn commit(&mut self) -> Result<(), Lost> {
        let began = monotonic();
        self.database.commit()?;
        self.commits.record_n(monotonic() - began, 1);
        self.metrics.commits.add(1);
        self.metrics.requests.add(self.askers.len() as u64);
        Ok(())
    }

    /// Tells what is on the disk now: of each request first what it has caused, then its answer.
    fn hand_out(&mut self) {
        let mut told = self.told.drain(..);
        let mut count = 0;
        for (asker, (answer, effects)) in self.askers.drain(..).zip(self.answers.drain(..)) {
            for effect in told.by_ref().take(effects - count) {
                self.effects.publish(effect);
            }
            count = effects;
            if asker != Asker::Nobody {
                self.effects.answer(asker, answer);
            }
        }
    }

    /// Nothing of the transaction has happened.
    fn fail(&mut self, error: &rusqlite::Error) {
        self.database.roll_back();
        let refusal = self.database.internal(error);
        self.metrics.failures.add(1);
        self.not_before = monotonic() + AGAIN;
        self.told.clear();
        self.answers.clear();
        for asker in self.askers.drain(..).filter(|asker| *asker != Asker::Nobody) {
            self.effects.answer(asker, Err(refusal.clone()));
        }
    }
}
