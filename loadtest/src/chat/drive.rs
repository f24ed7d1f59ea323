//! The loop: one thread for all senders and all to whom they say something.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use serde_json::json;

use super::Arguments;
use super::conversations::converse;
use super::heard::{NUMBER, WORDS};
use crate::client::dial::{Plan, dial};
use crate::client::target::{NATIVE_ERROR, Target};
use crate::client::token::Tokens;
use crate::client::{Client, READ_BUFFER};
use crate::clock::{Clock, SECOND};
use crate::compare::settings::SECRET;
use crate::durable::heard::Heard;
use crate::durable::report::Report;
use crate::durable::server::Server;
use crate::durable::tally::{Edge, Schedule, Tally};
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};
use crate::process::Process;

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
    start: u64,
    warmup: Duration,
    server: Process,
    admin: std::net::SocketAddr,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Drive {
    /// Makes the conversations and connects everybody.
    pub fn prepare(arguments: &Arguments, server: &Server) -> Result<Self, Failure> {
        let senders = arguments.senders as usize;
        let running = server.running();
        let user = |index: usize| format!("u{index}");
        let conversations = converse(server, (0..senders).map(|index| (user(index), user(senders + index))))?;
        let target = Target::parse(&format!("ws://{}/ws", running.ports.listen), None, false)?;
        let plan = Plan {
            target: &target,
            tokens: &Tokens::new(None, Some(SECRET)),
            connections: if arguments.absent { senders } else { 2 * senders },
            rate: None,
            confirm: "connection:established",
            reject: NATIVE_ERROR,
            socketio: false,
            path: None,
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
            start: 0,
            warmup: Duration::try_from_secs_f64(arguments.warmup).unwrap_or_default(),
            server: Process::open(running.pid() as i32)?,
            admin: running.ports.admin,
            tally: Tally::new(true)?,
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
        self.start = self.clock.now();
        let warm = Instant::now();
        while warm.elapsed() < self.warmup {
            self.turn(&mut events, true)?;
        }
        let from = self.edge()?;
        self.tally.begin(&from);
        let start = Instant::now();
        while goes_on(start.elapsed()) {
            self.turn(&mut events, true)?;
        }
        let until = self.edge()?;
        self.tally.end(&until);
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
        let schedule = self.schedule().map(|schedule| (schedule, late));
        self.tally.report(self.senders.len(), schedule, from, until)
    }

    fn edge(&self) -> Result<Edge, Failure> {
        Edge::now(&self.clock, &self.server, self.admin)
    }

    fn schedule(&self) -> Option<Schedule> {
        self.rate.map(|rate| Schedule { start: self.start, rate })
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
        self.schedule().map(|schedule| schedule.due(now))
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
            let at = match self.schedule() {
                Some(schedule) => schedule.time_of(self.on_schedule),
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
        let mut heard = Heard::new(&WORDS);
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
        if self.tally.is_measured(now)
            && let Some(receipts) = &mut self.tally.receipts
        {
            *receipts += heard.receipts;
        }
        Ok(())
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
