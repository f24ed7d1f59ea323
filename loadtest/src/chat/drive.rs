//! The loop: one thread for all senders and all to whom they say something.

use std::collections::VecDeque;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll};
use serde_json::json;

use super::Arguments;
use super::heard::{Heard, NUMBER};
use super::report::Report;
use super::server::{Counters, Server, counters};
use crate::client::dial::{Plan, dial};
use crate::client::target::{NATIVE_ERROR, Target};
use crate::client::token::Tokens;
use crate::client::{Client, READ_BUFFER};
use crate::clock::{Clock, SECOND};
use crate::compare::settings::SECRET;
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};
use crate::machine;
use crate::process::{Cpu, Process};

/// How long the last messages are waited for.
const PATIENCE: u64 = 10 * SECOND;
/// Longest sleep of the loop.
const NAP: Duration = Duration::from_millis(5);
/// What is said: of usual length, and nothing that a filter would change.
const CONTENT: &str = "Are you coming tonight? We meet at eight, at the usual place.";

/// One connection, and what it is still to hear.
struct Ear {
    client: Client,
    /// When the messages under way to it were sent, ns of the run's clock.
    under_way: VecDeque<u64>,
    /// The number of the first of them.
    next: u64,
}

/// One who sends.
struct Sender {
    /// The frame's text in front of the number.
    text: String,
    /// Messages so far.
    sent: u64,
}

pub struct Drive {
    poll: Poll,
    clock: Clock,
    /// First the senders', then, in the same order, the others'.
    ears: Vec<Ear>,
    senders: Vec<Sender>,
    /// Senders who may send, once for each message.
    ready: VecDeque<usize>,
    /// Messages per second, and how many have been sent on this schedule.
    rate: Option<f64>,
    on_schedule: u64,
    /// When `on_schedule` was 0.
    schedule: u64,
    warmup: Duration,
    server: Process,
    admin: std::net::SocketAddr,
    tally: Tally,
    buffer: Vec<u8>,
}

/// What is counted while it is measured.
struct Tally {
    /// From when on; ns of the run's clock.
    from: u64,
    /// Until when.
    until: u64,
    messages: u64,
    received: u64,
    receipts: u64,
    /// ns.
    acknowledged: Histogram<u64>,
    /// ns, until the recipient has it.
    delivered: Histogram<u64>,
}

/// The edges of the measured time.
struct Edge {
    at: u64,
    cpu: Cpu,
    own: u64,
    counters: JoinHandle<Result<Counters, Failure>>,
}

impl Drive {
    /// Makes the conversations and connects everybody.
    pub fn prepare(arguments: &Arguments, server: &Server) -> Result<Self, Failure> {
        let senders = arguments.senders as usize;
        let running = server.running();
        let user = |index: usize| format!("u{index}");
        let conversations =
            server.converse((0..senders).map(|index| (user(index), user(senders + index))))?;
        let target = Target::parse(&format!("ws://{}/ws", running.ports.listen), None, false)?;
        let plan = Plan {
            target: &target,
            tokens: &Tokens::new(None, Some(SECRET)),
            connections: if arguments.absent { senders } else { 2 * senders },
            rate: None,
            confirm: "connection:established",
            reject: NATIVE_ERROR,
            socketio: false,
        };
        let mut poll = Poll::new().context(|| "epoll".to_owned())?;
        let clients = dial(&mut poll, &plan, |_, _| 1)?;
        let turns = (0..arguments.window).flat_map(|_| 0..senders);
        Ok(Self {
            poll,
            clock: Clock::start(),
            ears: clients
                .into_iter()
                .map(|client| Ear { client, under_way: VecDeque::new(), next: 0 })
                .collect(),
            senders: conversations.iter().map(|id| Sender::new(id)).collect(),
            ready: turns.collect(),
            rate: arguments.rate,
            on_schedule: 0,
            schedule: 0,
            warmup: Duration::try_from_secs_f64(arguments.warmup).unwrap_or_default(),
            server: Process::open(running.pid() as i32)?,
            admin: running.ports.admin,
            tally: Tally::new()?,
            buffer: vec![0; READ_BUFFER],
        })
    }

    /// Sends, and measures after the warm-up for as long as `goes_on` says, and
    /// waits for what is still under way.
    ///
    /// # Errors
    /// A refusal; a message lost, doubled or out of order.
    pub fn measure(mut self, goes_on: impl Fn(Duration) -> bool) -> Result<Report, Failure> {
        let mut events = Events::with_capacity(1024);
        self.schedule = self.clock.now();
        let warm = Instant::now();
        while warm.elapsed() < self.warmup {
            self.turn(&mut events, true)?;
        }
        let from = self.edge()?;
        (self.tally.from, self.tally.until) = (from.at, u64::MAX);
        let start = Instant::now();
        while goes_on(start.elapsed()) {
            self.turn(&mut events, true)?;
        }
        let until = self.edge()?;
        self.tally.until = until.at;
        let late = self.late(until.at);
        while self.under_way() > 0 {
            if self.clock.now() > until.at + PATIENCE {
                return Err(Failure::new(format!(
                    "{} messages had not come {} s after the last was sent",
                    self.under_way(),
                    PATIENCE / SECOND
                )));
            }
            self.turn(&mut events, false)?;
        }
        let elapsed = until.at - from.at;
        let cpu = until.cpu.since(&from.cpu);
        let own_cpu = until.own - from.own;
        let (before, after) = (from.counters()?, until.counters()?);
        let seconds = (after.at - before.at).as_secs_f64();
        Ok(Report {
            senders: self.senders.len(),
            rate: self.rate,
            late,
            elapsed,
            messages: self.tally.messages,
            received: self.tally.received,
            receipts: self.tally.receipts,
            acknowledged: self.tally.acknowledged,
            delivered: self.tally.delivered,
            commits_per_s: (after.commits - before.commits) / seconds,
            requests_per_s: (after.requests - before.requests) / seconds,
            cpu,
            own_cpu,
        })
    }

    fn edge(&self) -> Result<Edge, Failure> {
        let admin = self.admin;
        Ok(Edge {
            at: self.clock.now(),
            cpu: self.server.cpu()?,
            own: machine::own_cpu(),
            counters: thread::spawn(move || counters(admin)),
        })
    }

    fn under_way(&self) -> usize {
        self.ears.iter().map(|ear| ear.under_way.len()).sum()
    }

    /// Messages that the schedule has and nobody was free to send.
    fn late(&self, now: u64) -> u64 {
        self.due(now).map_or(0, |due| due.saturating_sub(self.on_schedule))
    }

    /// Messages that should have been sent by now; `None`: as many as can be.
    fn due(&self, now: u64) -> Option<u64> {
        let elapsed = (now - self.schedule) as f64 / SECOND as f64;
        self.rate.map(|rate| (rate * elapsed) as u64)
    }

    fn turn(&mut self, events: &mut Events, sends: bool) -> Result<(), Failure> {
        if sends {
            self.send()?;
        }
        let nap = if self.rate.is_some() { Duration::from_millis(1) } else { NAP };
        match self.poll.poll(events, Some(nap)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(Failure::new(format!("epoll: {error}")));
            }
            _ => {}
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        for event in events.iter() {
            self.listen(event.token().0, event.is_read_closed(), &mut buffer)?;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// All who may send do, as far as the schedule says.
    fn send(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        let due = self.due(now);
        while due.is_none_or(|due| self.on_schedule < due) {
            let Some(index) = self.ready.pop_front() else { return Ok(()) };
            // Late is late, whoever is to blame.
            let at = match self.rate {
                Some(rate) => self.schedule + (self.on_schedule as f64 / rate * SECOND as f64) as u64,
                None => self.clock.now(),
            };
            self.on_schedule += 1;
            let frame = self.senders[index].next_frame();
            let others = self.senders.len() + index;
            for ear in [index, others] {
                if let Some(ear) = self.ears.get_mut(ear) {
                    ear.under_way.push_back(at);
                }
            }
            let client = &mut self.ears[index].client;
            client.write_all(&frame).context(|| format!("sender {index}"))?;
        }
        Ok(())
    }

    fn listen(&mut self, index: usize, closed: bool, buffer: &mut [u8]) -> Result<(), Failure> {
        let mut heard = Heard::default();
        let is_sender = index < self.senders.len();
        let ear = &mut self.ears[index];
        ear.client.read(buffer, closed, &mut heard).context(|| format!("connection {index}"))?;
        if let Some(error) = heard.error {
            return Err(Failure::new(format!("connection {index}: {error}")));
        }
        let now = self.clock.now();
        for number in heard.numbers {
            let sent = ear.under_way.pop_front().filter(|_| number == ear.next).ok_or_else(|| {
                Failure::new(format!(
                    "connection {index}: message {number} came instead of {}: lost, doubled or out of order",
                    ear.next
                ))
            })?;
            ear.next += 1;
            self.tally.message(is_sender, sent, now)?;
            if is_sender {
                self.ready.push_back(index);
            }
        }
        if self.tally.is_measured(now) {
            self.tally.receipts += heard.receipts;
        }
        Ok(())
    }
}

impl Edge {
    fn counters(self) -> Result<Counters, Failure> {
        self.counters.join().unwrap_or_else(|_| Err(Failure::new("the thread that reads metrics failed")))
    }
}

impl Sender {
    fn new(conversation: &str) -> Self {
        let data = json!({ "conversation_id": conversation, "type": "text", "content": CONTENT });
        let data = data.to_string();
        let fields = data.strip_suffix('}').unwrap_or_default();
        Self { text: format!(r#"{{"event":"message:send","data":{fields},"#), sent: 0 }
    }

    fn next_frame(&mut self) -> Vec<u8> {
        let (text, number) = (&self.text, self.sent);
        self.sent += 1;
        let text = format!(r#"{text}"client_message_id":"m{number}","metadata":{NUMBER}{number}}}}}}}"#);
        let mut frame = Vec::with_capacity(text.len() + 8);
        frame::push_client_frame(&mut frame, TEXT, text.as_bytes());
        frame
    }
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let histogram = || Histogram::new(3).context(|| "histogram".to_owned());
        Ok(Self {
            from: u64::MAX,
            until: u64::MAX,
            messages: 0,
            received: 0,
            receipts: 0,
            acknowledged: histogram()?,
            delivered: histogram()?,
        })
    }

    fn is_measured(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// A message that was sent then has come now. Rates are of what came in the
    /// measured time, latencies of what was sent in it.
    fn message(&mut self, is_sender: bool, sent: u64, now: u64) -> Result<(), Failure> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senders_frames_are_json_and_count() {
        let mut sender = Sender::new("c");
        let texts: Vec<serde_json::Value> = (0..2)
            .map(|_| {
                let mut frame = sender.next_frame();
                let header = frame::parse_header(&frame).expect("complete");
                let payload = &mut frame[header.length..];
                frame::unmask(payload, header.mask.expect("masked"));
                serde_json::from_slice(payload).expect("JSON")
            })
            .collect();
        assert_eq!(texts[0]["data"]["content"], CONTENT);
        assert_eq!(texts[1]["data"]["metadata"]["number"], 1);
        assert_eq!(texts[1]["data"]["client_message_id"], "m1");
        assert_ne!(texts[0], texts[1]);
    }
}
