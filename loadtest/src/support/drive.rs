//! The loop: one thread for all who take part.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use serde_json::{Value, json};

use super::heard::{WORDS, text};
use super::people::{People, path};
use crate::client::dial::{Plan, dial};
use crate::client::target::Target;
use crate::client::token::Tokens;
use crate::client::{Client, READ_BUFFER};
use crate::clock::Clock;
use crate::durable::heard::Heard;
use crate::durable::report::Report;
use crate::durable::server::Server;
use crate::durable::tally::{Edge, Schedule, Tally};
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};
use crate::process::{Memory, Process};

/// How long the last messages, and the last who come, are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest sleep of the loop: a schedule is not kept better than that.
const NAP: Duration = Duration::from_millis(1);
/// Between two questions whether all have come; also what the server may still
/// do after that before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// One connection, and what it is still to hear: the number of the message, and
/// when it was sent, ns of the run's clock.
struct Ear {
    client: Client,
    under_way: VecDeque<(u64, u64)>,
}

pub struct Drive {
    poll: Poll,
    clock: Clock,
    people: People,
    ears: Vec<Ear>,
    /// Messages so far.
    sent: u64,
    server: Process,
    admin: SocketAddr,
    tally: Tally,
    buffer: Vec<u8>,
}

/// What it took to connect all, and what they keep.
pub struct Opened {
    connections: usize,
    seconds: f64,
    /// Of the server, ns.
    cpu: u64,
    before: Memory,
    after: Memory,
}

impl Drive {
    /// Connects everybody, and waits until the server counts them all.
    pub fn prepare(people: People, sessions: &[String], server: &Server) -> Result<(Self, Opened), Failure> {
        let running = server.running();
        let process = Process::open(running.pid() as i32)?;
        let tokens: Result<Vec<String>, Failure> =
            (0..people.connections()).map(|connection| people.token(connection)).collect();
        let target = Target::parse(&format!("ws://{}/", running.ports.listen), None, false)?;
        let path = |connection: usize| path(&sessions[connection / people.each]);
        let plan = Plan {
            target: &target,
            tokens: &Tokens::Each(tokens?),
            connections: people.connections(),
            rate: None,
            confirm: r#"{"message_type":"user_joined""#,
            reject: r#"{"message_type":"error""#,
            socketio: false,
            path: Some(&path),
        };
        let mut poll = Poll::new().context(|| "epoll".to_owned())?;
        let (before, cpu, start) = (process.memory(), process.cpu()?, Instant::now());
        let clients = dial(&mut poll, &plan, |_, _| 1)?;
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), process.cpu()?.since(&cpu).0);
        let mut drive = Self {
            poll,
            clock: Clock::start(),
            people,
            ears: clients.into_iter().map(|client| Ear { client, under_way: VecDeque::new() }).collect(),
            sent: 0,
            server: process,
            admin: running.ports.admin,
            tally: Tally::new(false)?,
            buffer: vec![0; READ_BUFFER],
        };
        drive.settle(server)?;
        let connections = people.connections();
        let opened = Opened { connections, seconds, cpu, before, after: drive.server.memory() };
        Ok((drive, opened))
    }

    /// The first word that a connection hears may be of another one's coming.
    fn settle(&mut self, server: &Server) -> Result<(), Failure> {
        let (mut events, end) = (Events::with_capacity(1024), Instant::now() + PATIENCE);
        loop {
            let people = self.people;
            // By a thread of its own: who is connected is heard meanwhile.
            let is_counted = thread::scope(|scope| -> Result<bool, Failure> {
                let asked = scope.spawn(|| people.are_counted(server));
                let rest = Instant::now();
                while !asked.is_finished() || rest.elapsed() < SETTLE {
                    self.turn(&mut events, None)?;
                }
                asked.join().unwrap_or_else(|_| Err(Failure::new("the thread that asks failed")))
            })?;
            if is_counted {
                return Ok(());
            }
            if Instant::now() > end {
                let seconds = PATIENCE.as_secs();
                return Err(Failure::new(format!(
                    "ws-stats does not count all connections after {seconds} s"
                )));
            }
        }
    }

    /// Sends on a schedule, and measures after the warm-up; then waits for what
    /// is still under way.
    ///
    /// # Errors
    /// A refusal; a message lost, doubled, or overtaken by its sender's next.
    pub fn measure(mut self, rate: f64, warmup: Duration, duration: Duration) -> Result<Report, Failure> {
        let mut events = Events::with_capacity(1024);
        let schedule = Schedule { start: self.clock.now(), rate };
        self.send_for(warmup, schedule, &mut events)?;
        let from = Edge::now(&self.clock, &self.server, self.admin)?;
        self.tally.begin(&from);
        self.send_for(duration, schedule, &mut events)?;
        let until = Edge::now(&self.clock, &self.server, self.admin)?;
        self.tally.end(&until);
        let late = schedule.due(until.at).saturating_sub(self.sent);
        let end = Instant::now() + PATIENCE;
        while self.under_way() > 0 {
            if Instant::now() > end {
                return Err(Failure::new(format!(
                    "{} deliveries had not come {} s after the last message was sent",
                    self.under_way(),
                    PATIENCE.as_secs()
                )));
            }
            self.turn(&mut events, None)?;
        }
        self.tally.report(self.ears.len(), Some((schedule, late)), from, until)
    }

    fn under_way(&self) -> usize {
        self.ears.iter().map(|ear| ear.under_way.len()).sum()
    }

    fn send_for(&mut self, time: Duration, schedule: Schedule, events: &mut Events) -> Result<(), Failure> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.turn(events, Some(schedule))?;
        }
        Ok(())
    }

    fn turn(&mut self, events: &mut Events, schedule: Option<Schedule>) -> Result<(), Failure> {
        if let Some(schedule) = schedule {
            let due = schedule.due(self.clock.now());
            while self.sent < due {
                self.say(schedule.time_of(self.sent))?;
            }
        }
        match self.poll.poll(events, Some(NAP)) {
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

    /// The connection that says a message: first each session's first, then
    /// each session's second, and so on.
    fn sender_of(&self, number: u64) -> usize {
        let People { sessions, each } = self.people;
        let (session, turn) = (number as usize % sessions, number as usize / sessions);
        session * each + turn % each
    }

    /// Sends the next message, which was due then: late is late, whoever is to
    /// blame.
    fn say(&mut self, at: u64) -> Result<(), Failure> {
        let number = self.sent;
        self.sent += 1;
        let sender = self.sender_of(number);
        let first = sender - sender % self.people.each;
        for ear in &mut self.ears[first..first + self.people.each] {
            ear.under_way.push_back((number, at));
        }
        let mut message = Vec::with_capacity(160);
        frame::push_client_frame(&mut message, TEXT, text(number).as_bytes());
        self.ears[sender].client.write_all(&message).context(|| format!("connection {sender}"))
    }

    fn listen(&mut self, index: usize, closed: bool, buffer: &mut [u8]) -> Result<(), Failure> {
        let mut heard = Heard::new(&WORDS);
        let ear = &mut self.ears[index];
        ear.client.read(buffer, closed, &mut heard).context(|| format!("connection {index}"))?;
        if let Some(error) = heard.error {
            return Err(Failure::new(format!("connection {index}: {error}")));
        }
        let now = self.clock.now();
        for number in heard.numbers {
            let sender = self.sender_of(number);
            let at = self.take(index, number, sender)?;
            self.tally.message(index == sender, at, now)?;
        }
        Ok(())
    }

    /// A message has come: when it was sent. Messages of several senders may
    /// come in any order, those of one only in his.
    fn take(&mut self, index: usize, number: u64, sender: usize) -> Result<u64, Failure> {
        let place = self.ears[index].under_way.iter().position(|(known, _)| *known == number);
        let place = place.ok_or_else(|| {
            Failure::new(format!("connection {index}: message {number} came twice, or is not for it"))
        })?;
        let mut earlier = self.ears[index].under_way.range(..place);
        if let Some((lost, _)) = earlier.find(|(known, _)| self.sender_of(*known) == sender) {
            return Err(Failure::new(format!(
                "connection {index}: message {number} came before {lost}: lost or out of order"
            )));
        }
        let taken = self.ears[index].under_way.remove(place);
        Ok(taken.map_or(0, |(_, at)| at))
    }
}

impl Opened {
    fn each(&self, value: impl Fn(&Memory) -> u64) -> f64 {
        (value(&self.after) as f64 - value(&self.before) as f64) / self.connections as f64
    }

    /// µs.
    fn handshake(&self) -> f64 {
        self.cpu as f64 / 1e3 / self.connections as f64
    }

    /// A few lines for the terminal.
    pub fn text(&self) -> String {
        format!(
            "{} connections in {:.2} s, {:.1} µs CPU for each handshake and coming\n\
             memory: {:.0} bytes of user space per connection, {:.0} resident; {:.1} MB resident in all",
            self.connections,
            self.seconds,
            self.handshake(),
            self.each(|memory| memory.private_dirty),
            self.each(|memory| memory.resident),
            self.after.resident as f64 / 1e6,
        )
    }

    /// One object.
    pub fn json(&self) -> Value {
        json!({
            "seconds_to_connect": self.seconds,
            "server_cpu_us_per_connection": self.handshake(),
            "server_private_dirty_per_connection": self.each(|memory| memory.private_dirty),
            "server_resident_per_connection": self.each(|memory| memory.resident),
            "server_resident": self.after.resident,
        })
    }
}
