//! A session of Engine.IO as its client keeps it: how its packets travel, and what is on the way.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::net::Stamp;
use crate::random::Random;
use crate::socketio::conn::{Conn, Purpose};
use crate::world::World;

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The first request is not answered.
    Opening,
    Polling,
    /// A WebSocket is to take over; `is_answered`: it may.
    Probing {
        is_answered: bool,
    },
    WebSocket,
}

/// Whether the namespace is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Not yet, or no more.
    No,
    /// It is asked for.
    Connecting,
    /// With this log.
    Connected(usize),
}

/// A session.
pub struct Session {
    pub sid: String,
    /// The shard that has it.
    pub owner: usize,
    pub way: Way,
    pub conns: Vec<Conn>,
    /// What is to be sent.
    pub packets: VecDeque<String>,
    pub namespace: Namespace,
    /// The namespace has been left once: what still comes is from before.
    pub has_left: bool,
    /// The secret name of the Socket.IO session, and the last offset.
    pub pid: Option<String>,
    pub offset: Option<String>,
    /// The client has broken the protocol: anything may come.
    pub is_broken: bool,
    /// It is over for the client.
    pub is_over: bool,
    /// The server has said that it is over.
    pub is_gone: bool,
    /// The server's pings are not answered.
    pub is_mute: bool,
    /// Rounds for which it does not poll.
    pub lazy: usize,
    /// When a poll was last answered, monotonic ns.
    pub polled: u64,
    /// When a ping was last answered, or the session opened; and whether an answer is on its way.
    pub ponged: u64,
    pub is_ponging: bool,
    pub next_ack: u64,
    /// Answers to CONNECTs to a namespace that does not exist.
    pub refusals: usize,
    /// It may be recovered.
    pub recovers: bool,
}

impl Session {
    pub fn new(recovers: bool, now: u64) -> Session {
        Session {
            sid: String::new(),
            owner: 0,
            way: Way::Opening,
            conns: Vec::new(),
            packets: VecDeque::new(),
            namespace: Namespace::No,
            has_left: false,
            pid: None,
            offset: None,
            is_broken: false,
            is_over: false,
            is_gone: false,
            is_mute: false,
            lazy: 0,
            polled: now,
            ponged: now,
            is_ponging: false,
            next_ack: 0,
            refusals: 0,
            recovers,
        }
    }

    /// Takes the packet that opens the session.
    pub fn open(&mut self, packet: &str, stamp: Stamp, world: &World) {
        let open: Value = serde_json::from_str(packet.strip_prefix('0').expect("an open packet")).unwrap();
        self.sid = open["sid"].as_str().expect("a sid").to_owned();
        let bytes = URL_SAFE_NO_PAD.decode(&self.sid).expect("base64url");
        self.owner = usize::from(bytes[0]);
        assert!(self.owner < world.shards.len(), "the session belongs to a shard");
        (self.polled, self.ponged) = (stamp.mono, stamp.mono);
    }

    /// Whether the server may have forgotten it by then, as it has been over for long, or it had to be given up.
    pub fn may_be_forgotten(&self, mono: u64) -> bool {
        mono > self.polled + 4_900_000_000 || mono > self.ponged + 44_900_000_000
    }

    pub fn count(&self, purpose: Purpose) -> usize {
        self.conns.iter().filter(|conn| conn.purpose == purpose).count()
    }

    /// The WebSocket.
    pub fn websocket(&mut self) -> Option<&mut Conn> {
        self.conns.iter_mut().find(|conn| matches!(conn.purpose, Purpose::WebSocket { .. }))
    }

    /// Sends a request for this session.
    pub fn request(&mut self, purpose: Purpose, body: Option<&str>, world: &mut World) {
        let mut pipe = connection(world);
        let close = if world.random.percent(10) { "Connection: close\r\n" } else { "" };
        let sid = match self.sid.is_empty() {
            true => String::new(),
            false => format!("&sid={}", self.sid),
        };
        let path = format!("/socket.io/?EIO=4&transport=polling{sid}");
        let request = match body {
            None => format!("GET {path} HTTP/1.1\r\nHost: sim\r\n{close}\r\n"),
            Some(body) => format!(
                "POST {path} HTTP/1.1\r\nHost: sim\r\nContent-Type: text/plain;charset=UTF-8\r\n{close}\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        pipe.say(request.as_bytes());
        self.conns.push(Conn { pipe, purpose });
    }

    /// Opens a WebSocket: for a new session, or to take this one over.
    pub fn dial_websocket(&mut self, world: &mut World) {
        let shard = world.random.below(world.shards.len());
        let mut pipe = world.dial(shard);
        let sid = match self.sid.is_empty() {
            true => String::new(),
            false => format!("&sid={}", self.sid),
        };
        let head = format!(
            "GET /socket.io/?EIO=4&transport=websocket{sid} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        pipe.say(head.as_bytes());
        self.conns.push(Conn { pipe, purpose: Purpose::WebSocket { is_open: false } });
    }

    /// Sends what is to be sent, and sees to it that a poll is open.
    pub fn flush(&mut self, world: &mut World) {
        match self.way {
            Way::Opening => {}
            Way::WebSocket => {
                let packets = std::mem::take(&mut self.packets);
                let random = &mut world.random;
                let Some(conn) = self.websocket() else { return };
                for packet in packets {
                    say(conn, &packet, random);
                }
            }
            Way::Probing { is_answered: true } => {
                if self.count(Purpose::Poll) + self.count(Purpose::Post) == 0
                    && let Some(conn) = self.websocket()
                {
                    conn.pipe.text(b"5", &mut world.random);
                    self.way = Way::WebSocket;
                    world.seen.upgraded += 1;
                }
            }
            Way::Polling | Way::Probing { is_answered: false } => {
                if !self.packets.is_empty() && self.count(Purpose::Post) == 0 {
                    let most = world.random.between(1, 5).min(self.packets.len());
                    let packets: Vec<String> = self.packets.drain(..most).collect();
                    self.is_ponging = packets.iter().any(|packet| packet == "3");
                    self.request(Purpose::Post, Some(&packets.join("\x1e")), world);
                }
                if self.lazy == 0 && self.count(Purpose::Poll) == 0 {
                    self.request(Purpose::Poll, None, world);
                }
            }
        }
    }

    /// Whether nothing is on its way.
    pub fn is_still(&self) -> bool {
        let is_ready = match self.way {
            Way::Polling => self.count(Purpose::Poll) == self.conns.len() && !self.conns.is_empty(),
            Way::WebSocket => true,
            Way::Opening | Way::Probing { .. } => false,
        };
        is_ready
            && !self.is_over
            && self.packets.is_empty()
            && self.namespace != Namespace::Connecting
            && self.conns.iter().all(|conn| conn.pipe.is_still())
    }
}

/// Sends one packet on a WebSocket.
fn say(conn: &mut Conn, packet: &str, random: &mut Random) {
    match packet.strip_prefix('b') {
        Some(binary) => conn.pipe.frame(0x82, &STANDARD.decode(binary).unwrap_or_default()),
        None => conn.pipe.text(packet.as_bytes(), random),
    }
}

/// A connection to any shard: a new one, or one that somebody has used before.
pub fn connection(world: &mut World) -> crate::pipe::Pipe {
    while !world.idle.is_empty() && world.random.percent(70) {
        let index = world.random.below(world.idle.len());
        let pipe = world.idle.swap_remove(index);
        if !pipe.link.borrow().server_ended {
            return pipe;
        }
        pipe.link.borrow_mut().end();
    }
    let shard = world.random.below(world.shards.len());
    world.dial(shard)
}
