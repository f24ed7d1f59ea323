//! The loop of a measurement: connect, warm up, measure, drain.
//!
//! It publishes at its own pace, once a turn, after it has read what the turn
//! found readable; so a window of W events is refilled with one write.

use std::time::Duration;

use mio::{Events, Poll, Token};

use super::payload::Payload;
use super::receive::Receiver;
use super::report::{Report, Server};
use super::sequence::Expected;
use super::window::Window;
use super::workload::{Pressure, Schedule, Workload};
use super::zipf::Random;
use super::{Arguments, Spin};
use crate::client::dial::{Plan, dial};
use crate::client::target::Target;
use crate::client::template::{Fill, Template};
use crate::client::token::Tokens;
use crate::client::{Client, READ_BUFFER};
use crate::clock::{Clock, SECOND, unix_now};
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};
use crate::machine;
use crate::process::{Cpu, Memory, Process};
use crate::publisher::Publisher;

/// The publisher's token; connections have the numbers below.
const PUBLISHER: Token = Token(usize::MAX);
/// Readable connections handled between two looks at the window. Small against
/// the window of a workload with many rooms, so that publishing and receiving
/// overlap.
const EVENTS: usize = 1024;
/// How long outstanding events may take after the measured time, ns.
const DRAIN: u64 = 10 * SECOND;
/// So long without any delivery, and what is outstanding is given up, ns.
const STANDSTILL: u64 = 5 * SECOND;

/// What is counted from the start of the measured time.
struct Start {
    at: u64,
    deliveries: u64,
    published: u64,
    late: u64,
    own_cpu: u64,
    server: Option<Cpu>,
}

/// A measurement that is ready to run.
pub struct Drive<'a> {
    arguments: &'a Arguments,
    workload: Workload,
    clock: Clock,
    poll: Poll,
    clients: Vec<Client>,
    stalled: Vec<bool>,
    receiver: Receiver,
    buffer: Vec<u8>,
    publisher: Publisher,
    payload: Payload,
    names: Vec<Vec<u8>>,
    /// Reading subscribers of each room.
    subscribers: Vec<u32>,
    schedule: Schedule,
    random: Random,
    /// Fixed rate: when it began, events since, and how often it had to wait.
    began: u64,
    due: u64,
    late: u64,
    server: Option<(Process, Memory)>,
    memory_ready: Memory,
    connect_rate: f64,
}

impl<'a> Drive<'a> {
    /// Connects and joins everything.
    pub fn prepare(
        arguments: &'a Arguments,
        workload: Workload,
        target: &Target,
        tokens: &Tokens,
        mut publisher: Publisher,
    ) -> Result<Self, Failure> {
        let clock = Clock::start();
        let mut random = Random::new(arguments.seed);
        let each = workload.rooms_per_connection;
        let memberships = workload.memberships(&mut random);
        let names: Vec<Vec<u8>> =
            (0..workload.rooms).map(|room| format!("{}{room}", arguments.room_prefix).into_bytes()).collect();
        let expected = Expected::new(memberships, each);
        let process = arguments.server_pid.map(Process::open).transpose()?;
        let server = process.map(|process| {
            let memory = process.memory();
            (process, memory)
        });

        let mut poll = Poll::new().context(|| "epoll".to_owned())?;
        let plan = Plan {
            target,
            tokens,
            connections: workload.connections,
            rate: None,
            confirm: &arguments.confirm,
            reject: &arguments.reject,
            socketio: arguments.socketio,
            path: None,
        };
        let subscribe = Template::parse(&arguments.subscribe);
        let mut text = Vec::new();
        let mut clients = dial(&mut poll, &plan, |connection, frames| {
            if arguments.subscribe.is_empty() {
                return 0;
            }
            for room in expected.rooms_of(connection) {
                let index = *room as usize;
                text.clear();
                subscribe.fill(Fill { room: &names[index], index, event: b"", data: b"" }, &mut text);
                frame::push_client_frame(frames, TEXT, &text);
            }
            each
        })?;
        let connect_rate = workload.connections as f64 * SECOND as f64 / clock.now().max(1) as f64;
        if !arguments.quiet {
            eprintln!("{} connections ready, {connect_rate:.0} per second", workload.connections);
        }

        let stalled = spread(arguments.stalled, workload.connections);
        let mut subscribers = vec![0; workload.rooms];
        for (connection, client) in clients.iter_mut().enumerate() {
            if stalled[connection] {
                poll.registry().deregister(client.stream()).context(|| "epoll".to_owned())?;
                continue;
            }
            for room in expected.rooms_of(connection) {
                subscribers[*room as usize] += 1;
            }
        }
        publisher.register(poll.registry(), PUBLISHER)?;
        let memory_ready = server.as_ref().map(|(process, _)| process.memory()).unwrap_or_default();
        let capacity = match workload.pressure {
            Pressure::Window(window) => window * 4,
            Pressure::Rate(rate) => (rate * 5.0) as usize,
        };
        // 16 digits that grow with time: ms of the Unix time, and room for
        // 1,000 events in each.
        let window = Window::new(unix_now() / 1_000_000 * 1_000, capacity, workload.rooms);
        Ok(Self {
            arguments,
            workload,
            clock,
            poll,
            clients,
            stalled,
            receiver: Receiver::new(clock, window, expected),
            buffer: vec![0; READ_BUFFER],
            publisher,
            payload: Payload::new(arguments.payload as usize),
            names,
            schedule: Schedule::new(&subscribers, workload.publish_zipf, &mut random),
            subscribers,
            random,
            began: clock.now(),
            due: 0,
            late: 0,
            server,
            memory_ready,
            connect_rate,
        })
    }

    /// Warms up, measures, drains.
    pub fn measure(mut self) -> Result<Report, Failure> {
        let mut events = Events::with_capacity(EVENTS);
        let seconds = |s: f64| (s * SECOND as f64) as u64;
        self.began = self.clock.now();
        let start_at = self.began + seconds(self.arguments.warmup);
        self.run_until(&mut events, start_at, true)?;
        self.receiver.histogram.reset();
        let start = self.start()?;
        self.run_until(&mut events, start.at + seconds(self.arguments.duration), true)?;
        let end = self.start()?;
        let latency = self.receiver.histogram.clone();
        if !self.arguments.quiet {
            eprintln!("waiting for {} outstanding events", self.receiver.window.outstanding());
        }
        self.run_until(&mut events, self.clock.now() + DRAIN, false)?;
        Ok(self.report(&start, &end, latency))
    }

    fn start(&self) -> Result<Start, Failure> {
        let server = self.server.as_ref().map(|(process, _)| process.cpu()).transpose()?;
        Ok(Start {
            at: self.clock.now(),
            deliveries: self.receiver.counts.deliveries,
            published: self.receiver.window.published(),
            late: self.late,
            own_cpu: machine::own_cpu(),
            server,
        })
    }

    /// Turns until `end`; without `publishing` only until nothing is
    /// outstanding.
    fn run_until(&mut self, events: &mut Events, end: u64, publishing: bool) -> Result<(), Failure> {
        let spin = match self.arguments.spin {
            Spin::Auto => matches!(self.workload.pressure, Pressure::Rate(_)),
            Spin::Always => true,
            Spin::Never => false,
        };
        let fixed_rate = matches!(self.workload.pressure, Pressure::Rate(_));
        let wait = match (spin, fixed_rate) {
            (true, _) => Duration::ZERO,
            (false, true) => Duration::from_millis(1),
            (false, false) => Duration::from_millis(20),
        };
        let mut progress = Progress::new(self.clock.now(), &self.receiver);
        loop {
            let now = self.clock.now();
            if now >= end || !publishing && self.receiver.window.outstanding() == 0 {
                return Ok(());
            }
            if now >= progress.next && !progress.step(now, &self.receiver, self.arguments.quiet)? {
                return Ok(());
            }
            if publishing {
                self.publish(now);
            }
            self.publisher.flush()?;
            self.turn(events, wait)?;
        }
    }

    /// Polls and reads what is readable.
    fn turn(&mut self, events: &mut Events, wait: Duration) -> Result<(), Failure> {
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            other => other.context(|| "epoll".to_owned())?,
        }
        for event in events.iter() {
            if event.token() == PUBLISHER {
                self.publisher.listen()?;
                continue;
            }
            let connection = event.token().0;
            self.receiver.connection = connection;
            let read =
                self.clients[connection].read(&mut self.buffer, event.is_read_closed(), &mut self.receiver);
            self.receiver.record();
            read.map_err(|why| Failure::new(format!("the server ended connection {connection}: {why}")))?;
        }
        Ok(())
    }

    /// Publishes what the window or the schedule allows.
    fn publish(&mut self, now: u64) {
        match self.workload.pressure {
            Pressure::Window(limit) => {
                while self.receiver.window.outstanding() < limit && !self.publisher.is_full() {
                    if !self.publish_one(now) {
                        return;
                    }
                }
            }
            Pressure::Rate(rate) => loop {
                let intended = self.began + (self.due as f64 * SECOND as f64 / rate) as u64;
                if intended > now {
                    return;
                }
                if self.publisher.is_full() || !self.publish_one(intended) {
                    self.late += 1;
                    return;
                }
                self.due += 1;
            },
        }
    }

    /// Publishes the next event; false if the ring is full.
    fn publish_one(&mut self, at: u64) -> bool {
        let Some(room) = self.schedule.next(&mut self.random) else { return false };
        let index = room as usize;
        let Some(number) = self.receiver.window.publish(room, self.subscribers[index], at) else {
            return false;
        };
        let data = self.payload.fill(number, self.clock.unix(at));
        let event = self.arguments.event.as_bytes();
        self.publisher.publish(Fill { room: &self.names[index], index, event, data });
        true
    }

    fn report(&self, start: &Start, end: &Start, latency: hdrhistogram::Histogram<u64>) -> Report {
        let window = &self.receiver.window;
        let behind: u64 = (0..self.clients.len())
            .filter(|connection| !self.stalled[*connection])
            .map(|connection| self.receiver.expected.behind(connection, |room| window.published_to(room)))
            .sum();
        let counts = self.receiver.counts;
        let each =
            |before: u64, after: u64| (after as i64 - before as i64) / self.clients.len().max(1) as i64;
        let server =
            self.server.as_ref().zip(start.server.zip(end.server)).map(|((process, memory), (from, to))| {
                let now = process.memory();
                Server {
                    cpu: to.since(&from),
                    resident_each: each(memory.resident, self.memory_ready.resident),
                    private_dirty_each: each(memory.private_dirty, self.memory_ready.private_dirty),
                    resident: now.resident,
                    proportional: now.proportional,
                }
            });
        Report {
            workload: self.workload,
            payload: self.arguments.payload as usize,
            stalled: self.stalled.iter().filter(|stalled| **stalled).count(),
            elapsed: end.at - start.at,
            deliveries: end.deliveries - start.deliveries,
            published: end.published - start.published,
            latency,
            counts,
            lost: behind + counts.skipped - counts.reordered,
            late: end.late - start.late,
            server,
            own_cpu: end.own_cpu - start.own_cpu,
            connect_rate: self.connect_rate,
        }
    }
}

/// The line that is printed every second.
struct Progress {
    /// When the next line is due, ns.
    next: u64,
    at: u64,
    deliveries: u64,
    published: u64,
    /// Since when nothing has come.
    silent_since: u64,
}

impl Progress {
    fn new(now: u64, receiver: &Receiver) -> Self {
        Self {
            next: now + SECOND,
            at: now,
            deliveries: receiver.counts.deliveries,
            published: receiver.window.published(),
            silent_since: now,
        }
    }

    /// Prints. False: nothing has moved for so long that what is outstanding
    /// is lost, and going on would show nothing more.
    fn step(&mut self, now: u64, receiver: &Receiver, quiet: bool) -> Result<bool, Failure> {
        let (deliveries, published) = (receiver.counts.deliveries, receiver.window.published());
        let seconds = (now - self.at) as f64 / SECOND as f64;
        if !quiet {
            eprintln!(
                "{:>12.0} deliveries/s {:>9.0} events/s  p50 {:.0} µs  p99 {:.0} µs",
                (deliveries - self.deliveries) as f64 / seconds,
                (published - self.published) as f64 / seconds,
                receiver.histogram.value_at_quantile(0.5) as f64 / 1e3,
                receiver.histogram.value_at_quantile(0.99) as f64 / 1e3,
            );
        }
        if deliveries != self.deliveries || receiver.window.outstanding() == 0 {
            self.silent_since = now;
        }
        let standstill = now - self.silent_since > STANDSTILL;
        if standstill && deliveries == 0 {
            return Err(Failure::new(format!(
                "{published} events published, and none came within {} s: do subscribers get what is \
                 published to their rooms (--subscribe, --publish-line)?",
                STANDSTILL / SECOND,
            )));
        }
        if standstill {
            eprintln!(
                "no delivery for {} s: {} outstanding events are given up",
                STANDSTILL / SECOND,
                receiver.window.outstanding(),
            );
        }
        (self.at, self.next) = (now, now + SECOND);
        (self.deliveries, self.published) = (deliveries, published);
        Ok(!standstill)
    }
}

/// Marks `percent` of the connections, evenly spread.
fn spread(percent: f64, connections: usize) -> Vec<bool> {
    let share = percent.clamp(0.0, 100.0) / 100.0;
    (0..connections)
        .map(|index| ((index + 1) as f64 * share).floor() > (index as f64 * share).floor())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalled_connections_are_spread_evenly() {
        let marked = spread(1.0, 1000);
        assert_eq!(marked.iter().filter(|marked| **marked).count(), 10);
        assert!(marked.chunks(100).all(|chunk| chunk.iter().filter(|marked| **marked).count() == 1));
        assert!(spread(0.0, 10).iter().all(|marked| !marked));
        assert!(spread(100.0, 10).iter().all(|marked| *marked));
    }
}
