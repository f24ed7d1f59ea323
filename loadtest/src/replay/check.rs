//! Proof that every subscriber got every trade once and in order: each has a
//! place in the list of what was published, and what it receives must be what
//! stands there, byte for byte.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use memchr::{memchr, memmem};
use mio::{Events, Poll};

use crate::client::dial::{Plan, dial};
use crate::client::target::{NATIVE_ERROR, NATIVE_JOIN, Target};
use crate::client::template::{Fill, Template};
use crate::client::token::Tokens;
use crate::client::{Client, READ_BUFFER, Sink};
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};
use crate::publisher::Publisher;

/// Trades of one room that are published before its slowest subscriber has
/// received the first of them. Below what a broker queues for one connection
/// (1 MiB), so that this program's own slowness is not taken for a fault.
const AHEAD: usize = 2_048;
/// How long the last trades may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The trades of one room.
#[derive(Default)]
struct Tape {
    /// Trades that a subscriber still waits for, the oldest first.
    waiting: VecDeque<Box<[u8]>>,
    /// Trades before those.
    before: usize,
    /// For each subscriber how many it has received.
    received: Vec<usize>,
}

impl Tape {
    fn published(&self) -> usize {
        self.before + self.waiting.len()
    }

    /// Forgets what all have received.
    fn trim(&mut self) {
        let slowest = self.received.iter().copied().min().unwrap_or(0);
        while self.before < slowest {
            self.waiting.pop_front();
            self.before += 1;
        }
    }
}

/// The tapes by pair, and the first fault found.
struct Judge {
    tapes: HashMap<String, Tape>,
    connection: usize,
    fault: Option<String>,
    trades: u64,
}

impl Judge {
    fn judge(&mut self, message: &[u8]) -> Result<(), String> {
        if memmem::find(message, br#""trade_notification""#).is_none() {
            return Ok(());
        }
        let text = || String::from_utf8_lossy(message).into_owned();
        let data = trade_data(message).ok_or_else(|| format!("no trade in {}", text()))?;
        let pair = text_field(data, br#""symbol":""#).ok_or_else(|| format!("no symbol in {}", text()))?;
        let Some(tape) = self.tapes.get_mut(pair) else {
            return Err(format!("a trade of {pair}, which it has not joined"));
        };
        let place = tape.received[self.connection];
        let expected = tape.waiting.get(place - tape.before);
        if expected.is_none_or(|expected| &**expected != data) {
            let expected = expected.map_or("nothing".into(), |data| String::from_utf8_lossy(data));
            return Err(format!(
                "trade {place} of {pair}: received {}, expected {expected}",
                String::from_utf8_lossy(data)
            ));
        }
        tape.received[self.connection] += 1;
        self.trades += 1;
        Ok(())
    }
}

impl Sink for Judge {
    fn message(&mut self, payload: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.judge(payload).err();
        }
    }
}

/// The data object of an event whose data has no object inside.
fn trade_data(message: &[u8]) -> Option<&[u8]> {
    let mark = br#""data":"#;
    let data = &message[memmem::find(message, mark)? + mark.len()..];
    data.get(..=memchr(b'}', data)?)
}

/// The text behind `mark`.
fn text_field<'a>(data: &'a [u8], mark: &[u8]) -> Option<&'a str> {
    let rest = &data[memmem::find(data, mark)? + mark.len()..];
    std::str::from_utf8(&rest[..memchr(b'"', rest)?]).ok()
}

/// The checking subscribers.
pub struct Check {
    poll: Poll,
    clients: Vec<Client>,
    judge: Judge,
    buffer: Vec<u8>,
    events: Events,
}

impl Check {
    /// Connects `subscribers` and joins the trade rooms of `pairs` with each.
    pub fn subscribe(
        target: &Target,
        tokens: &Tokens,
        subscribers: usize,
        pairs: &[String],
    ) -> Result<Self, Failure> {
        let mut poll = Poll::new().context(|| "epoll".to_owned())?;
        let plan = Plan {
            target,
            tokens,
            connections: subscribers,
            rate: None,
            confirm: "room_joined",
            reject: NATIVE_ERROR,
            socketio: false,
            path: None,
        };
        let join = Template::parse(&NATIVE_JOIN.replace("{room}", "trade:{room}"));
        let mut text = Vec::new();
        let clients = dial(&mut poll, &plan, |index, frames| {
            for pair in pairs {
                text.clear();
                join.fill(Fill { room: pair.as_bytes(), index, event: b"", data: b"" }, &mut text);
                frame::push_client_frame(frames, TEXT, &text);
            }
            pairs.len()
        })?;
        let tape = || Tape { received: vec![0; subscribers], ..Tape::default() };
        let tapes = pairs.iter().map(|pair| (pair.clone(), tape())).collect();
        Ok(Self {
            poll,
            clients,
            judge: Judge { tapes, connection: 0, fault: None, trades: 0 },
            buffer: vec![0; READ_BUFFER],
            events: Events::with_capacity(256),
        })
    }

    /// Notes a trade that is about to be published.
    pub fn expect(&mut self, pair: &str, data: &[u8]) {
        if let Some(tape) = self.judge.tapes.get_mut(pair) {
            tape.waiting.push_back(data.into());
        }
    }

    /// Reads what has come, waiting at most `wait` for it.
    pub fn listen(&mut self, wait: Duration) -> Result<(), Failure> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(wait))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(Failure::new(format!("epoll: {error}")));
        }
        for event in &self.events {
            let connection = event.token().0;
            self.judge.connection = connection;
            let read =
                self.clients[connection].read(&mut self.buffer, event.is_read_closed(), &mut self.judge);
            if let Some(fault) = self.judge.fault.take().or(read.err()) {
                return Err(Failure::new(format!("subscriber {connection}: {fault}")));
            }
        }
        Ok(())
    }

    /// Waits until no subscriber is far behind.
    pub fn keep_up(&mut self, publisher: &mut Publisher) -> Result<(), Failure> {
        self.wait_until(publisher, |tape| {
            if tape.waiting.len() >= AHEAD {
                tape.trim();
            }
            tape.waiting.len() < AHEAD
        })
    }

    /// Waits for the last trades, and returns how many were received by all
    /// subscribers together.
    pub fn finish(mut self, publisher: &mut Publisher) -> Result<u64, Failure> {
        self.wait_until(publisher, |tape| {
            tape.trim();
            tape.waiting.is_empty()
        })?;
        // What comes beyond the last one is a fault too.
        self.listen(Duration::from_millis(200))?;
        Ok(self.judge.trades)
    }

    fn wait_until(
        &mut self,
        publisher: &mut Publisher,
        mut enough: impl FnMut(&mut Tape) -> bool,
    ) -> Result<(), Failure> {
        let (mut since, mut trades) = (Instant::now(), self.judge.trades);
        while !self.judge.tapes.values_mut().all(&mut enough) {
            publisher.flush()?;
            publisher.listen()?;
            self.listen(Duration::from_millis(5))?;
            if self.judge.trades > trades {
                (since, trades) = (Instant::now(), self.judge.trades);
            } else if since.elapsed() > PATIENCE {
                return Err(self.missing());
            }
        }
        Ok(())
    }

    /// Names the subscriber that lacks most.
    fn missing(&self) -> Failure {
        let worst = self.judge.tapes.iter().flat_map(|(pair, tape)| {
            let lacks = tape.received.iter().map(|received| tape.published() - received);
            lacks.enumerate().map(move |(subscriber, lack)| (lack, subscriber, pair))
        });
        let (lack, subscriber, pair) = worst.max().map_or((0, 0, ""), |(l, s, p)| (l, s, p.as_str()));
        Failure::new(format!(
            "nothing came for {} s; subscriber {subscriber} lacks {lack} trades of {pair}, the most of all",
            PATIENCE.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRADE: &str =
        r#"{"event":"trade_notification","data":{"symbol":"BTC-USDT","price":1.50},"timestamp":"t"}"#;

    fn judge(published: &[&str]) -> Judge {
        let waiting = published.iter().map(|data| data.as_bytes().into()).collect();
        let tape = Tape { waiting, before: 0, received: vec![0] };
        Judge { tapes: HashMap::from([("BTC-USDT".to_owned(), tape)]), connection: 0, fault: None, trades: 0 }
    }

    #[test]
    fn only_the_next_trade_passes() {
        let (first, second) = (r#"{"symbol":"BTC-USDT","price":1.50}"#, r#"{"symbol":"BTC-USDT","price":2}"#);
        let mut right = judge(&[first, second]);
        right.message(br#"{"event":"room_joined","data":{}}"#);
        right.message(TRADE.as_bytes());
        assert_eq!((right.fault.as_deref(), right.trades), (None, 1));
        right.message(TRADE.as_bytes());
        assert!(right.fault.expect("repeated").contains("trade 1 of BTC-USDT"));

        let mut lost = judge(&[second, first]);
        lost.message(TRADE.as_bytes());
        assert!(lost.fault.expect("the first is missing").contains("expected"));

        let mut beyond = judge(&[]);
        beyond.message(TRADE.as_bytes());
        assert!(beyond.fault.expect("never published").contains("expected nothing"));
    }

    #[test]
    fn a_tape_forgets_what_all_have() {
        let mut tape = Tape { received: vec![2, 1], ..Tape::default() };
        tape.waiting.extend([b"a", b"b", b"c"].map(|data| data.as_slice().into()));
        tape.trim();
        assert_eq!((tape.before, tape.waiting.len(), tape.published()), (1, 2, 3));
    }
}
