//! A client: what it sends, and a strict reading of every byte it is sent.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use serde_json::Value;

use crate::model::{room_source, user_source};
use crate::net::{Link, Stamp};
use crate::random::Random;
use crate::world::USERS;

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All there is, always.
    Fast,
    /// A few bytes now and then.
    Slow,
    /// Not at all.
    Stopped,
}

/// Something that a client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The upgrade was answered.
    Opened,
    Joined(String),
    Left(String),
    Subscribed(Vec<String>),
    Unsubscribed(String),
    /// An event, with its number.
    Event(u64),
    /// An error, with its code.
    Refused(String),
    /// A close frame.
    Closed(u16),
    Other,
}

/// How the stream of a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After a whole frame.
    Whole,
    /// Inside a frame.
    Torn,
    /// The client stopped looking.
    Ignored,
}

/// Which contract it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Account,
    Market,
}

/// One client.
pub struct Client {
    pub shard: usize,
    /// `None`: anonymous.
    pub user: Option<String>,
    pub kind: Kind,
    pub link: Rc<RefCell<Link>>,
    /// Bytes that it has sent and that have not arrived.
    on_the_way: VecDeque<u8>,
    inbox: Vec<u8>,
    /// Bytes of the stream before the inbox.
    parsed: u64,
    pub reading: Reading,
    /// What it was told, with how far the shard had come when it wrote it.
    pub told: Vec<(Item, Stamp)>,
    /// For each room and type: how far the shard had come when the client asked to leave it, in order.
    pub leaves: BTreeMap<String, VecDeque<Stamp>>,
    /// For each room and type that it has ever asked for: how much it had been told each time.
    pub asked: BTreeMap<String, Vec<usize>>,
    /// Requests that are to be answered once each.
    pub requests: usize,
    /// Those that subscribe to types.
    pub subscribes: usize,
    /// Messages, which are answered only if they are refused.
    pub messages: usize,
    /// It has ended, or is ending.
    pub leaving: bool,
    pub end: Option<End>,
}

impl Client {
    pub fn new(shard: usize, user: Option<String>, kind: Kind, link: Rc<RefCell<Link>>) -> Client {
        Client {
            shard,
            user,
            kind,
            link,
            on_the_way: VecDeque::new(),
            inbox: Vec::new(),
            parsed: 0,
            reading: Reading::Fast,
            told: Vec::new(),
            leaves: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            subscribes: 0,
            messages: 0,
            leaving: false,
            end: None,
        }
    }

    /// Sends the request that opens the connection.
    pub fn open(&mut self, token: Option<&str>) {
        let path = match self.kind {
            Kind::Account => "/ws?app=account",
            Kind::Market => "/feed",
        };
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{token}\r\n"
        );
        self.on_the_way.extend(head.bytes());
    }

    /// What a room is to this client: its own is its user itself.
    pub fn room_source(&self, room: &str) -> String {
        match (room.strip_prefix("user:"), &self.user) {
            (Some(id), Some(own)) if id == own => user_source(own),
            _ => room_source(room),
        }
    }

    /// Whether all subscriptions are confirmed.
    pub fn is_subscribed(&self) -> bool {
        let done = self.told.iter().filter(|(item, _)| matches!(item, Item::Subscribed(_)));
        done.count() == self.subscribes
    }

    /// Whether it may still ask for something.
    pub fn is_open(&self) -> bool {
        !self.leaving
            && self.end.is_none()
            && !self.told.is_empty()
            && !self.told.iter().rev().any(|(item, _)| matches!(item, Item::Closed(_)))
    }

    /// Sends an event, sometimes in several frames.
    pub fn say(&mut self, event: &str, data: &Value, random: &mut Random) {
        let text = match self.kind {
            Kind::Market => serde_json::json!({ "event": event, "data": data }),
            Kind::Account => serde_json::json!({ "type": event, "data": data }),
        };
        let text = text.to_string();
        let cut = match random.percent(10) {
            true => random.between(1, text.len() - 1),
            false => text.len(),
        };
        self.frame(u8::from(cut == text.len()) << 7 | 1, &text.as_bytes()[..cut]);
        if cut < text.len() {
            if random.percent(30) {
                self.frame(0x89, b"in between");
            }
            self.frame(0x80, &text.as_bytes()[cut..]);
        }
    }

    /// Sends one masked frame.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        self.on_the_way.push_back(first);
        match payload.len() {
            length @ 0..126 => self.on_the_way.push_back(0x80 | length as u8),
            length => {
                assert!(length <= 0xffff, "clients of the simulation say little");
                self.on_the_way.push_back(0x80 | 126);
                self.on_the_way.extend((length as u16).to_be_bytes());
            }
        }
        let mask = [7, 77, 0, 250];
        self.on_the_way.extend(mask);
        self.on_the_way.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// Some of what was sent arrives.
    pub fn send(&mut self, most: usize) {
        let count = most.min(self.on_the_way.len());
        if count > 0 {
            self.link.borrow_mut().arrive(self.on_the_way.drain(..count));
        }
    }

    /// Whether all that was sent has arrived.
    pub fn has_sent_all(&self) -> bool {
        self.on_the_way.is_empty()
    }

    /// Ends without a word.
    pub fn vanish(&mut self, by_reset: bool) {
        self.leaving = true;
        self.on_the_way.clear();
        let mut link = self.link.borrow_mut();
        match by_reset {
            true => {
                link.break_off();
                self.end = Some(End::Ignored);
            }
            false => link.end(),
        }
    }

    /// Reads, and answers pings.
    pub fn read(&mut self, most: usize) {
        if self.end.is_some() {
            return;
        }
        let taken = self.link.borrow_mut().take(most);
        self.inbox.extend_from_slice(&taken);
        while let Some(length) = self.parse() {
            self.inbox.drain(..length);
            self.parsed += length as u64;
        }
        let link = self.link.borrow();
        if link.server_ended && link.to_client.is_empty() {
            self.end = Some(if self.inbox.is_empty() { End::Whole } else { End::Torn });
            drop(link);
            // The server has ended its direction; so do we.
            self.link.borrow_mut().end();
        }
    }

    /// How far the shard had come when it wrote the byte at the front of the inbox.
    fn stamp(&self) -> Stamp {
        let mut link = self.link.borrow_mut();
        while link.marks.get(1).is_some_and(|(start, _)| *start <= self.parsed) {
            link.marks.pop_front();
        }
        link.marks.front().map_or(Stamp::default(), |(_, stamp)| *stamp)
    }

    /// Takes what is whole at the front of the inbox; returns its length.
    fn parse(&mut self) -> Option<usize> {
        let stamp = self.stamp();
        if self.told.is_empty() {
            let head = self.inbox.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            let text = String::from_utf8_lossy(&self.inbox[..head]).into_owned();
            let is_late = text.starts_with("HTTP/1.1 401 ") && self.user.as_deref() == Some(USERS[4]);
            if is_late || text.starts_with("HTTP/1.1 408 ") {
                // The token ended on the way, or the request took too long.
                self.vanish(false);
                self.end = Some(End::Ignored);
                return None;
            }
            assert!(text.starts_with("HTTP/1.1 101 "), "the upgrade was refused: {text}");
            self.told.push((Item::Opened, stamp));
            return Some(head);
        }
        let [first, second, ..] = self.inbox[..] else { return None };
        let (start, length) = match second {
            length @ 0..126 => (2, usize::from(length)),
            126 => {
                let length = u16::from_be_bytes([*self.inbox.get(2)?, *self.inbox.get(3)?]);
                assert!(length >= 126, "a length in the long form that fits the short one");
                (4, usize::from(length))
            }
            127 => {
                let length = u64::from_be_bytes(self.inbox.get(2..10)?.try_into().ok()?);
                assert!(length > 0xffff && length < 1 << 24, "a frame of {length} bytes");
                (10, length as usize)
            }
            _ => panic!("a masked frame from the server, or a torn one: {:?}", &self.inbox[..2]),
        };
        assert!(
            matches!(first, 0x81 | 0x88 | 0x89 | 0x8a),
            "no first byte of a server's frame: {first:#x}; a frame was torn"
        );
        assert!(
            !matches!(self.told.last(), Some((Item::Closed(_), _))),
            "a frame after the close frame: {first:#x}"
        );
        let payload = self.inbox.get(start..start + length)?.to_vec();
        let item = match first {
            0x88 => {
                if !self.leaving {
                    self.leaving = true;
                    self.frame(0x88, &payload[..2]);
                }
                Item::Closed(u16::from_be_bytes([payload[0], payload[1]]))
            }
            0x89 => {
                if !self.leaving {
                    self.frame(0x8a, &payload);
                }
                Item::Other
            }
            0x8a => Item::Other,
            _ => item(&payload),
        };
        self.told.push((item, stamp));
        Some(start + length)
    }
}

/// What a text message tells.
fn item(text: &[u8]) -> Item {
    let message: Value = serde_json::from_slice(text).expect("what the server sends is JSON");
    let data = &message["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(number) = data["n"].as_u64().or_else(|| data["message"]["n"].as_u64()) {
        return Item::Event(number);
    }
    match message["event"].as_str().or_else(|| message["type"].as_str()) {
        Some("room_joined") => Item::Joined(text(&data["room"])),
        Some("room_left") => Item::Left(text(&data["room"])),
        Some("subscribed") => {
            Item::Subscribed(data["types"].as_array().expect("a list").iter().map(text).collect())
        }
        Some("unsubscribed") => Item::Unsubscribed(text(&data["type"])),
        Some("error") => Item::Refused(text(&data["code"])),
        Some(_) => Item::Other,
        None => panic!("a message without a name: {message}"),
    }
}
