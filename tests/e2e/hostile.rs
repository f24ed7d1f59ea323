//! Clients that mean harm, or are broken: the broker survives, others notice nothing, everything is given back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tungstenite::Message;

use crate::support::client::UPGRADE;
use crate::support::raw::{Random, frame, frame_header};
use crate::support::token::token;
use crate::support::{Broker, each_shard_count, http};

/// Ends the connection with a reset instead of a FIN.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// An upgraded connection, the answer not read.
fn upgraded(broker: &Broker, user: usize) -> TcpStream {
    let mut stream = http::connect(broker.public);
    let path = match user % 2 {
        0 => format!("/feed?token={}", token(&format!("hostile-{user:05}"))),
        _ => format!("/ws?token={}", token(&format!("{user}"))),
    };
    stream.write_all(&http::head("GET", &path, "x", &UPGRADE, 0)).unwrap();
    stream
}

/// Writes as much as the broker takes: it may have closed already.
fn write(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// One attack, chosen by `random`.
fn attack(broker: &Broker, random: &mut Random, number: usize) {
    let kind = random.below(14);
    let length = random.below(3_000);
    let junk = random.bytes(length);
    let mut stream = match kind {
        0..5 => http::connect(broker.public),
        _ => upgraded(broker, number),
    };
    match kind {
        0 => write(&mut stream, &junk),
        1 => {}
        2 => {
            let whole = http::head("GET", &format!("/feed?token={}", token("half-0001")), "x", &UPGRADE, 0);
            let part = random.below(whole.len());
            write(&mut stream, &whole[..part]);
        }
        3 => write(&mut stream, &[b"GET /feed HTTP/1.1\r\n".as_slice(), &junk, b"\r\n\r\n"].concat()),
        4 => write(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20).as_slice()),
        5 => write(&mut stream, &junk),
        // A frame cut in the middle.
        6 => {
            let whole = frame(0x81, &junk);
            let part = random.below(whole.len());
            write(&mut stream, &whole[..part]);
        }
        // Fragments that never end, with pings between.
        7 => {
            write(&mut stream, &frame(0x01, b"{\"event\":"));
            for _ in 0..random.below(50) {
                write(&mut stream, &frame(0x00, b" "));
                write(&mut stream, &frame(0x89, b"x"));
            }
        }
        // Unmasked, reserved bits, unknown opcodes, control frames too long or in fragments.
        8 => write(&mut stream, b"\x81\x05hello"),
        9 => write(&mut stream, &frame([0xC1, 0xA1, 0x91, 0x83, 0x8B, 0x09, 0x08][random.below(7)], b"x")),
        10 => write(&mut stream, &frame(0x89, &[b'x'; 126])),
        // Text that is not UTF-8, binary, a continuation of nothing, bad close frames.
        11 => {
            let bad: [(u8, &[u8]); 6] = [
                (0x81, b"\xFF"),
                (0x82, b"x"),
                (0x80, b"x"),
                (0x88, b"\x03"),
                (0x88, b"\x03\xE7"),
                (0x88, b"\x03\xE8\xFF"),
            ];
            let (first, payload) = bad[random.below(bad.len())];
            write(&mut stream, &frame(first, payload));
        }
        // Joins, and goes in the middle of it.
        12 => {
            for n in 0..random.below(40) {
                let room = format!("price:{}-USDC", ["BTC", "ETH", "ADA", "SOL"][n % 4]);
                let text = json!({ "event": "join_room", "data": { "room": room } }).to_string();
                write(&mut stream, &frame(0x81, text.as_bytes()));
            }
        }
        _ => {
            let mut header = frame_header(0x81, 0);
            header[1] = 0xFF;
            write(&mut stream, &header);
        }
    }
    match random.below(4) {
        0 => reset(stream),
        1 => drop(stream),
        2 => {
            let _ = stream.shutdown(Shutdown::Write);
            // As far as it comes; a connection that was reset is an end too.
            let _ = stream.read_to_end(&mut Vec::new());
        }
        _ => {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(5)));
            let _ = stream.read(&mut [0; 4096]);
        }
    }
}

#[test]
fn the_broker_survives_hundreds_of_hostile_clients() {
    each_shard_count(|shards| {
        let seed = 0x5EED_0001;
        let mut broker = Broker::start(&[shards, "limits.handshake = \"1s\""]);
        let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
        ada.join("price:BTC-USDC");
        let mut random = Random(seed);
        for number in 0..400 {
            attack(&broker, &mut random, number);
            if number % 20 == 0 {
                publisher.publish(json!({ "room": "price:BTC-USDC", "event": "p", "data": number }));
                assert_eq!(ada.next()["data"], number, "seed {seed:#x}");
            }
        }
        assert!(broker.is_running());
        ada.close();
        broker.wait_for_zero();
        broker.wait_for_metric("fanfare_sockets", &[], 0.0);
        assert_eq!(broker.get("/healthz").status, 200);
        assert_eq!(broker.metric("fanfare_connections_closed_total", &["reason=\"internal\""]), 0.0);
        let (opened, closed) = (
            broker.metric("fanfare_connections_opened_total", &[]),
            broker.metric("fanfare_connections_closed_total", &[]),
        );
        assert_eq!(opened, closed);
        assert!(!broker.log().iter().any(|line| line.contains("panicked")), "{:?}", broker.log());
    });
}

#[test]
fn publishers_may_be_hostile_too() {
    each_shard_count(|shards| {
        let mut broker = Broker::start(&[shards]);
        let mut random = Random(0x5EED_0002);
        let mut ada = broker.market("ada-0001");
        for _ in 0..100 {
            let mut stream = http::connect(broker.ingest);
            let length = random.below(5_000);
            let mut junk = random.bytes(length);
            for at in (0..junk.len()).step_by(97) {
                junk[at] = b'\n';
            }
            if random.below(2) == 0 {
                write(&mut stream, b"{\"user\":\"ada-0001\",\"event\":\"e\",\"data\":");
            }
            write(&mut stream, &junk);
            match random.below(2) {
                0 => reset(stream),
                _ => drop(stream),
            }
        }
        let mut publisher = broker.publisher();
        publisher.publish(json!({ "user": "ada-0001", "event": "end", "data": null }));
        assert_eq!(ada.next()["event"], "end");
        drop(publisher);
        broker.wait_for_metric("fanfare_ingest_connections", &[], 0.0);
        assert!(broker.is_running());
    });
}

#[test]
fn breaches_of_the_protocol_have_their_close_codes() {
    let broker = Broker::start(&[]);
    let cases: [(&str, Vec<u8>, u16); 12] = [
        ("unmasked", b"\x81\x05hello".to_vec(), 1002),
        ("reserved bit", frame(0xC1, b"{}"), 1002),
        ("unknown opcode", frame(0x83, b""), 1002),
        ("unknown control opcode", frame(0x8B, b""), 1002),
        ("ping in fragments", frame(0x09, b""), 1002),
        ("long ping", frame(0x89, &[b'x'; 126]), 1002),
        ("continuation of nothing", frame(0x80, b""), 1002),
        ("text within a text", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
        ("close with one byte", frame(0x88, b"\x03"), 1002),
        ("binary", frame(0x82, b"x"), 1003),
        ("not UTF-8", frame(0x81, b"\xC3\x28"), 1007),
        ("half a character at the end", frame(0x81, b"\xC3"), 1007),
    ];
    for (what, bytes, code) in cases {
        let mut client = broker.market("ada-0001");
        client.stream().write_all(&bytes).unwrap();
        let (found, _, _) = client.closed();
        assert_eq!(found, code, "{what}");
    }
    // The client's own close is answered with its code.
    let mut client = broker.market("ada-0001");
    client.stream().write_all(&frame(0x88, b"\x0F\xA1bye")).unwrap();
    assert!(matches!(client.frame(), Message::Close(Some(frame)) if u16::from(frame.code) == 4001));
}
