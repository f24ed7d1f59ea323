//! The client's end of a connection: bytes that are on their way, bytes that have come, WebSocket frames among them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::net::{Link, Stamp};
use crate::random::Random;

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

/// The client's end.
pub struct Pipe {
    pub link: Rc<RefCell<Link>>,
    /// Bytes that were sent and have not arrived.
    on_the_way: VecDeque<u8>,
    /// What has come and was not taken yet.
    pub inbox: Vec<u8>,
    /// Bytes of the stream before the inbox.
    parsed: u64,
    pub reading: Reading,
}

impl Pipe {
    pub fn new(link: Rc<RefCell<Link>>) -> Pipe {
        Pipe { link, on_the_way: VecDeque::new(), inbox: Vec::new(), parsed: 0, reading: Reading::Fast }
    }

    /// Sends bytes.
    pub fn say(&mut self, bytes: &[u8]) {
        self.on_the_way.extend(bytes);
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

    /// Sends a text message, sometimes in several frames.
    pub fn text(&mut self, text: &[u8], random: &mut Random) {
        let cut = match text.len() > 1 && random.percent(10) {
            true => random.between(1, text.len() - 1),
            false => text.len(),
        };
        self.frame(u8::from(cut == text.len()) << 7 | 1, &text[..cut]);
        if cut < text.len() {
            if random.percent(30) {
                self.frame(0x89, b"in between");
            }
            self.frame(0x80, &text[cut..]);
        }
    }

    /// Some of what was sent arrives.
    pub fn send(&mut self, most: usize) {
        let count = most.min(self.on_the_way.len());
        if count > 0 {
            self.link.borrow_mut().arrive(self.on_the_way.drain(..count));
        }
    }

    /// Reads.
    pub fn read(&mut self, most: usize) {
        let taken = self.link.borrow_mut().take(most);
        self.inbox.extend_from_slice(&taken);
    }

    /// Bytes move, or some of them, or none.
    pub fn transfer(&mut self, random: &mut Random) {
        let most = if random.percent(30) { random.between(1, 40) } else { usize::MAX };
        if random.percent(80) {
            self.send(most);
        }
        if random.percent(4) {
            self.link.borrow_mut().short_write = Some(random.below(300));
        }
        if random.percent(4) {
            self.reading = *random.choose(&[Reading::Fast, Reading::Fast, Reading::Slow, Reading::Stopped]);
        }
        match self.reading {
            Reading::Fast => self.read(usize::MAX),
            Reading::Slow if random.percent(30) => self.read(random.between(1, 400)),
            Reading::Slow | Reading::Stopped => {}
        }
    }

    /// The first bytes of the inbox have been understood.
    pub fn taken(&mut self, count: usize) {
        self.inbox.drain(..count);
        self.parsed += count as u64;
    }

    /// Whether nothing is on its way in either direction.
    pub fn is_still(&self) -> bool {
        let link = self.link.borrow();
        self.on_the_way.is_empty()
            && link.to_client.is_empty()
            && (link.to_server.is_empty() || link.server_dropped)
    }

    /// Whether the server will send no more, and all has been read.
    pub fn is_at_end(&self) -> bool {
        let link = self.link.borrow();
        link.server_ended && link.to_client.is_empty()
    }

    /// Ends without a word.
    pub fn vanish(&mut self, by_reset: bool) {
        self.on_the_way.clear();
        let mut link = self.link.borrow_mut();
        match by_reset {
            true => link.break_off(),
            false => link.end(),
        }
    }

    /// How far the shard had come when it wrote the byte at the front of the inbox.
    pub fn stamp(&self) -> Stamp {
        let mut link = self.link.borrow_mut();
        while link.marks.get(1).is_some_and(|(start, _)| *start <= self.parsed) {
            link.marks.pop_front();
        }
        link.marks.front().map_or(Stamp::default(), |(_, stamp)| *stamp)
    }

    /// The head of a response, if it is whole, with its length.
    pub fn head(&self) -> Option<(String, usize)> {
        let length = self.inbox.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        Some((String::from_utf8_lossy(&self.inbox[..length]).into_owned(), length))
    }

    /// The frame at the front of the inbox, if it is whole: its first byte, its payload, its length.
    pub fn whole_frame(&self) -> Option<(u8, Vec<u8>, usize)> {
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
        let payload = self.inbox.get(start..start + length)?.to_vec();
        Some((first, payload, start + length))
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = self.link.borrow();
        let (out, there, back) = (self.on_the_way.len(), link.to_server.len(), link.to_client.len());
        write!(f, "{out} bytes on the way, {there} at the server, {back} at the client")?;
        write!(f, ", ended {} and {}", link.client_ended, link.server_ended)
    }
}
