//! The thread that reads, on a connection of its own: it sees what is committed, and waits for nobody who writes.

use crossbeam_channel::Receiver;

use super::database::Database;
use super::{Effects, Job};
use crate::mailbox::{Asker, Request};
use crate::record::Query;

/// Answers after which those who asked are woken, if more wait.
const BATCH: usize = 64;

/// What the thread owns.
pub(super) struct Reader<E> {
    database: Database,
    jobs: Receiver<Job<Query>>,
    effects: E,
    is_stopping: bool,
}

impl<E: Effects> Reader<E> {
    pub(super) fn new(database: Database, jobs: Receiver<Job<Query>>, effects: E) -> Reader<E> {
        Reader { database, jobs, effects, is_stopping: false }
    }

    /// Works until it is told to stop, and has answered all that waited by then.
    pub(super) fn run(mut self) {
        while let Some(job) = self.wait() {
            self.carry_out(job);
            for _ in 1..BATCH {
                let Ok(job) = self.jobs.try_recv() else { break };
                self.carry_out(job);
            }
            self.effects.flush();
        }
    }

    fn wait(&self) -> Option<Job<Query>> {
        match self.is_stopping {
            true => self.jobs.try_recv().ok(),
            false => self.jobs.recv().ok(),
        }
    }

    fn carry_out(&mut self, job: Job<Query>) {
        match job {
            Job::Request(Request { asker, what, .. }) => {
                let answer = self.database.read(&what);
                if asker != Asker::Nobody {
                    self.effects.answer(asker, answer);
                }
            }
            // Commits are the writer's.
            Job::Collect => {}
            Job::Stop => self.is_stopping = true,
        }
    }
}
