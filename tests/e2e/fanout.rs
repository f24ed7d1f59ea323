//! Very many events to very many subscribers at full speed: everyone gets everything once and in order.

use std::io::Read;
use std::net::TcpStream;
use std::thread;

use serde_json::json;

use crate::support::client::UPGRADE;
use crate::support::token::token;
use crate::support::{Broker, each_shard_count, http};

const SUBSCRIBERS: usize = 200;
const EVENTS: usize = 20_000;
/// Readers, each with a part of the subscribers.
const READERS: usize = 2;

/// One subscriber, reading frames without a library: four million of them are to be checked.
struct Subscriber {
    stream: TcpStream,
    buffer: Vec<u8>,
    seen: usize,
}

impl Subscriber {
    fn new(broker: &Broker, user: usize) -> Subscriber {
        let mut stream = http::connect(broker.public);
        let path = format!("/feed?token={}", token(&format!("reader-{user:04}")));
        std::io::Write::write_all(&mut stream, &http::head("GET", &path, "x", &UPGRADE, 0)).unwrap();
        let (response, buffer) = http::read_response(&mut stream);
        assert_eq!(response.status, 101);
        let join = json!({ "event": "join_room", "data": { "room": "trade:BTC-USDC" } }).to_string();
        std::io::Write::write_all(&mut stream, &crate::support::raw::frame(0x81, join.as_bytes())).unwrap();
        let mut subscriber = Subscriber { stream, buffer, seen: 0 };
        for expected in ["\"connected\"", "\"authenticated\"", "\"room_joined\""] {
            let frame = subscriber.frame();
            assert!(String::from_utf8_lossy(&frame).contains(expected), "{frame:?}");
        }
        subscriber
    }

    fn fill(&mut self) {
        let start = self.buffer.len();
        self.buffer.resize(start + 64 * 1024, 0);
        let count = self.stream.read(&mut self.buffer[start..]).unwrap();
        assert!(count > 0, "closed after {}", self.seen);
        self.buffer.truncate(start + count);
    }

    fn frame(&mut self) -> Vec<u8> {
        loop {
            if let Some((start, end)) = payload(&self.buffer) {
                let frame = self.buffer[start..end].to_vec();
                self.buffer.drain(..end);
                return frame;
            }
            self.fill();
        }
    }

    /// Reads once, and checks every whole event.
    fn read(&mut self) {
        self.fill();
        let mut at = 0;
        while let Some((start, end)) = payload(&self.buffer[at..]) {
            let text = &self.buffer[at + start..at + end];
            let data = text.strip_prefix(b"{\"event\":\"t\",\"data\":\"").unwrap();
            let number: usize = str::from_utf8(&data[..8]).unwrap().parse().unwrap();
            assert_eq!(number, self.seen);
            self.seen += 1;
            at += end;
        }
        self.buffer.drain(..at);
    }
}

/// Where the payload of the first frame lies, if it is whole.
fn payload(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first, 0x81);
    let (start, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= start + length).then_some((start, start + length))
}

#[test]
fn everyone_gets_everything_once_and_in_order() {
    each_shard_count(|shards| {
        // The readers share two cores with the broker: they may fall behind, which is not what is tested here.
        let broker = Broker::start(&[shards, "limits.outbox = 67108864"]);
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let part = reader * SUBSCRIBERS / READERS..(reader + 1) * SUBSCRIBERS / READERS;
                let mut subscribers: Vec<_> = part.map(|user| Subscriber::new(&broker, user)).collect();
                thread::spawn(move || {
                    while subscribers.iter().any(|subscriber| subscriber.seen < EVENTS) {
                        for subscriber in subscribers.iter_mut().filter(|subscriber| subscriber.seen < EVENTS)
                        {
                            subscriber.read();
                        }
                    }
                    subscribers
                })
            })
            .collect();
        let mut publisher = broker.publisher();
        let lines: String = (0..EVENTS)
            .map(|number| {
                format!("{{\"room\":\"trade:BTC-USDC\",\"event\":\"t\",\"data\":\"{number:08}\"}}\n")
            })
            .collect();
        publisher.raw(lines.as_bytes());
        for reader in readers {
            for subscriber in reader.join().unwrap() {
                // Nothing more has come than was published.
                assert_eq!((subscriber.seen, subscriber.buffer.len()), (EVENTS, 0));
            }
        }
        let deliveries = (SUBSCRIBERS * EVENTS) as f64;
        broker.wait_for_metric("fanfare_deliveries_total", &["wire=\"native\""], deliveries);
        assert_eq!(broker.metric("fanfare_ingest_messages_total", &["result=\"accepted\""]), EVENTS as f64);
        // One write for many events: that is what the broker is for.
        assert!(broker.metric("fanfare_socket_writes_total", &[]) < deliveries / 2.0);
        broker.wait_for_zero();
    });
}
