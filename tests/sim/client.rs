//! A client on a WebSocket of its own: what it sends, and a strict reading of every byte it is sent.

use serde_json::Value;

use crate::log::{End, Item, Kind, Log, item};
use crate::pipe::{Pipe, Reading};
use crate::random::Random;
use crate::world::USERS;

/// One client.
pub struct Client {
    /// Its log.
    pub log: usize,
    pub pipe: Pipe,
}

impl Client {
    /// Sends the request that opens the connection.
    pub fn open(&mut self, kind: Kind, token: Option<&str>) {
        let path = match kind {
            Kind::Account => "/ws?app=account",
            Kind::Market => "/feed",
        };
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{token}\r\n"
        );
        self.pipe.say(head.as_bytes());
    }

    /// Sends an event.
    pub fn say(&mut self, kind: Kind, event: &str, data: &Value, random: &mut Random) {
        let text = match kind {
            Kind::Market => serde_json::json!({ "event": event, "data": data }),
            Kind::Account => serde_json::json!({ "type": event, "data": data }),
        };
        self.pipe.text(text.to_string().as_bytes(), random);
    }

    /// Ends without a word.
    pub fn vanish(&mut self, log: &mut Log, by_reset: bool) {
        log.leaving = true;
        self.pipe.vanish(by_reset);
        if by_reset {
            log.end = Some(End::Ignored);
        }
    }

    /// Bytes move, all or some of them; what has come is taken.
    pub fn transfer(&mut self, log: &mut Log, random: Option<&mut Random>) {
        if log.end.is_some() {
            return self.pipe.send(usize::MAX);
        }
        match random {
            Some(random) => self.pipe.transfer(random),
            None => {
                self.pipe.reading = Reading::Fast;
                self.pipe.send(usize::MAX);
                self.pipe.read(usize::MAX);
            }
        }
        while let Some(length) = self.parse(log) {
            self.pipe.taken(length);
        }
        if log.end.is_none() && self.pipe.is_at_end() {
            log.end = Some(if self.pipe.inbox.is_empty() { End::Whole } else { End::Torn });
            // The server has ended its direction; so do we.
            self.pipe.link.borrow_mut().end();
        }
    }

    /// Takes what is whole at the front of the inbox; returns its length.
    fn parse(&mut self, log: &mut Log) -> Option<usize> {
        let stamp = self.pipe.stamp();
        if log.told.is_empty() {
            let (text, head) = self.pipe.head()?;
            let is_late = text.starts_with("HTTP/1.1 401 ") && log.user.as_deref() == Some(USERS[4]);
            if is_late || text.starts_with("HTTP/1.1 408 ") {
                // The token ended on the way, or the request took too long.
                self.vanish(log, false);
                log.end = Some(End::Ignored);
                return None;
            }
            assert!(text.starts_with("HTTP/1.1 101 "), "the upgrade was refused: {text}");
            log.tell(Item::Opened, stamp);
            return Some(head);
        }
        let (first, payload, length) = self.pipe.whole_frame()?;
        assert!(
            !matches!(log.told.last(), Some((Item::Closed(_), _))),
            "a frame after the close frame: {first:#x}"
        );
        let item = match first {
            0x88 => {
                if !log.leaving {
                    log.leaving = true;
                    self.pipe.frame(0x88, &payload[..2]);
                }
                Item::Closed(u16::from_be_bytes([payload[0], payload[1]]))
            }
            0x89 => {
                if !log.leaving {
                    self.pipe.frame(0x8a, &payload);
                }
                Item::Other
            }
            0x8a => Item::Other,
            _ => {
                let message: Value = serde_json::from_slice(&payload).expect("what the server sends is JSON");
                let name = message["event"].as_str().or_else(|| message["type"].as_str());
                item(name, &message["data"])
            }
        };
        log.tell(item, stamp);
        Some(length)
    }
}
