//! What is counted while it is measured, and the edges of the measured time.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use hdrhistogram::Histogram;

use super::report::Report;
use super::server::{Counters, counters};
use crate::clock::{Clock, SECOND};
use crate::failure::{Context, Failure};
use crate::machine;
use crate::process::{Cpu, Process};

/// What is counted.
pub struct Tally {
    /// From when on; ns of the run's clock.
    from: u64,
    /// Until when.
    until: u64,
    messages: u64,
    received: u64,
    /// Receipts, where the protocol has them.
    pub receipts: Option<u64>,
    /// ns.
    acknowledged: Histogram<u64>,
    /// ns, until a recipient has it.
    delivered: Histogram<u64>,
}

/// An edge of the measured time.
pub struct Edge {
    pub at: u64,
    cpu: Cpu,
    own: u64,
    counters: JoinHandle<Result<Counters, Failure>>,
}

/// Messages on a schedule: so many a second, whoever is late.
#[derive(Clone, Copy)]
pub struct Schedule {
    /// When it begins, ns of the run's clock.
    pub start: u64,
    /// Messages per second.
    pub rate: f64,
}

impl Schedule {
    /// Messages that should have been sent by now.
    pub fn due(&self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.start) as f64 / SECOND as f64;
        (self.rate * elapsed) as u64
    }

    /// When a message is to be sent.
    pub fn time_of(&self, number: u64) -> u64 {
        self.start + (number as f64 / self.rate * SECOND as f64) as u64
    }
}

impl Edge {
    /// The server, and this program, now.
    pub fn now(clock: &Clock, server: &Process, admin: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            at: clock.now(),
            cpu: server.cpu()?,
            own: machine::own_cpu(),
            // By a thread of its own, as this one goes on sending.
            counters: thread::spawn(move || counters(admin)),
        })
    }

    fn counters(self) -> Result<Counters, Failure> {
        self.counters.join().unwrap_or_else(|_| Err(Failure::new("the thread that reads metrics failed")))
    }
}

impl Tally {
    /// Nothing is measured yet.
    pub fn new(has_receipts: bool) -> Result<Self, Failure> {
        let histogram = || Histogram::new(3).context(|| "histogram".to_owned());
        Ok(Self {
            from: u64::MAX,
            until: u64::MAX,
            messages: 0,
            received: 0,
            receipts: has_receipts.then_some(0),
            acknowledged: histogram()?,
            delivered: histogram()?,
        })
    }

    /// From here on it is measured.
    pub fn begin(&mut self, from: &Edge) {
        self.from = from.at;
    }

    /// Until here it was.
    pub fn end(&mut self, until: &Edge) {
        self.until = until.at;
    }

    /// Whether it is measured now.
    pub fn is_measured(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// A message that was sent then has come now. Rates are of what came in the
    /// measured time, latencies of what was sent in it.
    pub fn message(&mut self, is_sender: bool, sent: u64, now: u64) -> Result<(), Failure> {
        let came = u64::from(self.is_measured(now));
        let (count, latency) = match is_sender {
            true => (&mut self.messages, &mut self.acknowledged),
            false => (&mut self.received, &mut self.delivered),
        };
        *count += came;
        if (self.from..self.until).contains(&sent) {
            latency.record(now.saturating_sub(sent)).context(|| "histogram".to_owned())?;
        }
        Ok(())
    }

    /// The result. `late`: messages of the schedule that were not sent.
    pub fn report(
        self,
        senders: usize,
        schedule: Option<(Schedule, u64)>,
        from: Edge,
        until: Edge,
    ) -> Result<Report, Failure> {
        let elapsed = until.at - from.at;
        let (cpu, own_cpu) = (until.cpu.since(&from.cpu), until.own - from.own);
        let (before, after) = (from.counters()?, until.counters()?);
        let seconds = (after.at - before.at).as_secs_f64();
        Ok(Report {
            senders,
            rate: schedule.map(|(schedule, _)| schedule.rate),
            late: schedule.map_or(0, |(_, late)| late),
            elapsed,
            messages: self.messages,
            received: self.received,
            receipts: self.receipts,
            acknowledged: self.acknowledged,
            delivered: self.delivered,
            commits_per_s: (after.commits - before.commits) / seconds,
            requests_per_s: (after.requests - before.requests) / seconds,
            cpu,
            own_cpu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_kept_by_number() {
        let schedule = Schedule { start: 5, rate: 4.0 };
        assert_eq!((schedule.due(0), schedule.due(5 + SECOND)), (0, 4));
        assert_eq!((schedule.time_of(0), schedule.time_of(6)), (5, 5 + 3 * SECOND / 2));
    }

    #[test]
    fn only_the_measured_time_counts() {
        let mut tally = Tally::new(false).expect("histograms");
        tally.message(true, 1, 2).expect("counted");
        (tally.from, tally.until) = (10, 20);
        for (is_sender, sent, now) in [(true, 9, 11), (true, 12, 15), (false, 12, 16), (false, 19, 25)] {
            tally.message(is_sender, sent, now).expect("counted");
        }
        assert_eq!((tally.messages, tally.acknowledged.len(), tally.acknowledged.max()), (2, 1, 3));
        assert_eq!((tally.received, tally.delivered.len(), tally.delivered.max()), (1, 2, 6));
    }
}
