//! The floor's connections: upgrade, joins, and sockets that are full. One
//! idle connection keeps its descriptor and nothing else.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};

use memchr::memmem;
use mio::net::TcpStream;
use serde::Deserialize;
use tungstenite::handshake::derive_accept_key;

use crate::frame::{self, CLOSE, PING, PONG, TEXT};
use crate::link::Link;

/// A client's request or frame larger than this ends its connection.
const MAX_UNFINISHED: usize = 64 * 1024;
/// Bytes kept for a socket that is full; more end the connection.
const MAX_LEFTOVER: usize = 16 * 1024 * 1024;

/// What a client asked for.
#[derive(Deserialize)]
struct Request {
    event: String,
    data: Room,
}

#[derive(Deserialize)]
struct Room {
    room: String,
}

/// All client connections, by slot.
#[derive(Default)]
pub struct Peers {
    links: Vec<Option<Link>>,
    free: Vec<usize>,
    /// Ended in this turn. Their slots are free only once the rooms have
    /// forgotten them.
    dead: Vec<usize>,
    /// Bytes read that are no whole request or frame yet; an entry from the
    /// accept to the upgrade too, which is how the two phases are told apart.
    unfinished: HashMap<usize, Unfinished>,
    /// Bytes that full sockets have not taken yet.
    leftover: HashMap<usize, Vec<u8>>,
}

#[derive(Default)]
struct Unfinished {
    upgraded: bool,
    bytes: Vec<u8>,
}

impl Peers {
    /// Takes a new connection; returns its slot.
    pub fn insert(&mut self, link: Link) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        self.links[slot] = Some(link);
        self.unfinished.insert(slot, Unfinished::default());
        slot
    }

    /// The socket of a slot, to register it.
    pub fn stream(&mut self, slot: usize) -> Option<&mut TcpStream> {
        self.links[slot].as_mut().map(Link::socket)
    }

    /// Whether the connection still lives.
    pub fn lives(&self, slot: usize) -> bool {
        self.links[slot].is_some()
    }

    /// The connections that ended since the last call. The caller makes its
    /// rooms forget them before it accepts again.
    pub fn take_dead(&mut self) -> Vec<usize> {
        let dead = std::mem::take(&mut self.dead);
        self.free.extend_from_slice(&dead);
        dead
    }

    /// Sends `bytes` with one call, or keeps them behind what already waits.
    #[inline]
    pub fn send(&mut self, slot: usize, bytes: &[u8]) {
        let Some(link) = &mut self.links[slot] else { return };
        if !self.leftover.is_empty() && self.leftover.contains_key(&slot) {
            return self.keep(slot, bytes);
        }
        match link.write(bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => self.keep(slot, &bytes[sent..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.keep(slot, bytes),
            Err(_) => self.end(slot),
        }
    }

    fn keep(&mut self, slot: usize, bytes: &[u8]) {
        let leftover = self.leftover.entry(slot).or_default();
        leftover.extend_from_slice(bytes);
        if leftover.len() > MAX_LEFTOVER {
            self.end(slot);
        }
    }

    /// A socket takes bytes again.
    pub fn writable(&mut self, slot: usize) {
        if self.links[slot].as_mut().is_some_and(|link| link.push().is_err()) {
            return self.end(slot);
        }
        let Some(leftover) = self.leftover.remove(&slot) else { return };
        self.send(slot, &leftover);
    }

    fn end(&mut self, slot: usize) {
        if self.links[slot].take().is_some() {
            self.unfinished.remove(&slot);
            self.leftover.remove(&slot);
            self.dead.push(slot);
        }
    }

    /// Reads what a client sent; calls `join` with each room it wants.
    pub fn readable(&mut self, slot: usize, scratch: &mut [u8], mut join: impl FnMut(&mut Self, &str)) {
        loop {
            let Some(link) = &mut self.links[slot] else { return };
            let taken = match link.read(scratch) {
                Ok(0) => return self.end(slot),
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.end(slot),
            };
            let mut unfinished =
                self.unfinished.remove(&slot).unwrap_or(Unfinished { upgraded: true, bytes: Vec::new() });
            unfinished.bytes.extend_from_slice(&scratch[..taken]);
            if !unfinished.upgraded {
                self.upgrade(slot, &mut unfinished);
            }
            if unfinished.upgraded && !self.frames(slot, &mut unfinished.bytes, &mut join) {
                return self.end(slot);
            }
            if unfinished.bytes.len() > MAX_UNFINISHED {
                return self.end(slot);
            }
            if self.lives(slot) && !(unfinished.upgraded && unfinished.bytes.is_empty()) {
                self.unfinished.insert(slot, unfinished);
            }
        }
    }

    /// Answers the upgrade once the request head is whole.
    fn upgrade(&mut self, slot: usize, unfinished: &mut Unfinished) {
        let Some(end) = memmem::find(&unfinished.bytes, b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&unfinished.bytes[..end]);
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let answer = match key {
            Some(key) => format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            ),
            None => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        unfinished.upgraded = key.is_some();
        unfinished.bytes.drain(..end + 4);
        self.send(slot, answer.as_bytes());
    }

    /// Handles the whole frames in `bytes` and removes them; false: the
    /// connection is over.
    fn frames(&mut self, slot: usize, bytes: &mut Vec<u8>, join: &mut impl FnMut(&mut Self, &str)) -> bool {
        let mut used = 0;
        while let Some(header) = frame::parse_header(&bytes[used..]) {
            let Some(mask) = header.mask else { return false };
            let Some(end) = used.checked_add(header.total()) else { return false };
            let Some(payload) = bytes.get_mut(used + header.length..end) else { break };
            frame::unmask(payload, mask);
            match header.opcode {
                CLOSE => return false,
                PING => {
                    let mut pong = vec![0x80 | PONG, payload.len() as u8 & 0x7f];
                    pong.extend_from_slice(payload);
                    self.send(slot, &pong);
                }
                TEXT => {
                    if let Ok(request) = serde_json::from_slice::<Request>(payload)
                        && request.event == "join_room"
                    {
                        join(self, &request.data.room);
                    }
                }
                _ => {}
            }
            used = end;
        }
        bytes.drain(..used);
        true
    }
}
