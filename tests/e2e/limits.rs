//! What happens when a client meets a limit (`spec/limits.md`).

use std::io::{Read, Write};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::client::UPGRADE;
use crate::support::raw::frame_header;
use crate::support::token::token;
use crate::support::{Broker, Client, each_shard_count, eventually, http};

/// A ping of exactly so many bytes.
fn ping_of(bytes: usize) -> String {
    let start = "{\"event\":\"ping\",\"data\":{\"timestamp\":\"";
    let end = "\"}}";
    format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
}

#[test]
fn a_message_of_the_size_limit_passes_and_one_byte_more_does_not() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    ada.text(ping_of(32_768));
    assert_eq!(ada.next()["event"], "pong");
    // In fragments too: the limit is on the whole.
    let text = ping_of(32_768);
    for (first, part) in [(0x01, &text[..20_000]), (0x00, &text[20_000..32_000]), (0x80, &text[32_000..])] {
        let mut bytes = frame_header(first, part.len());
        bytes.extend_from_slice(part.as_bytes());
        ada.stream().write_all(&bytes).unwrap();
    }
    assert_eq!(ada.next()["event"], "pong");
    // Only the header: the answer must not wait for a payload.
    ada.stream().write_all(&frame_header(0x81, 32_769)).unwrap();
    let error = ada.next();
    assert_eq!((&error["event"], &error["data"]["code"]), (&json!("error"), &json!("MESSAGE_TOO_LARGE")));
    ada.expect_close(1009);
    broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"message_too_large\""], 1.0);
}

#[test]
fn a_message_that_grows_too_large_in_fragments_is_refused_at_the_header_that_tells() {
    let broker = Broker::start(&[]);
    let mut phone = broker.account("1234");
    let mut bytes = frame_header(0x01, 20_000);
    bytes.extend_from_slice(&[b' '; 20_000]);
    bytes.extend_from_slice(&frame_header(0x80, 12_769));
    phone.stream().write_all(&bytes).unwrap();
    let error = phone.next();
    assert_eq!((&error["type"], &error["data"]["code"]), (&json!("error"), &json!("MESSAGE_TOO_LARGE")));
    phone.expect_close(1009);
    // A length of 2^63 and more, and one that claims all memory.
    for length in [u64::MAX, 1 << 62] {
        let mut phone = broker.account("1234");
        let mut bytes = vec![0x81, 0xFF];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        phone.stream().write_all(&bytes).unwrap();
        let (code, _, _) = phone.closed();
        assert!(matches!(code, 1002 | 1009), "{code}");
    }
}

#[test]
fn the_sixth_connection_of_a_user_waits_until_one_has_gone() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let path = format!("/feed?token={}", token("ada-0001"));
        let mut clients: Vec<Client> = (0..5).map(|_| broker.market("ada-0001")).collect();
        let response = Client::try_open(broker.public, &path, &[]).err().unwrap();
        assert_eq!((response.status, response.code().as_str()), (429, "CONNECTION_LIMIT"));
        assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
        // Counted per app, and per user.
        broker.account("ada-0001").close();
        broker.market("bob-0001").close();
        clients.pop().unwrap().close();
        // The place is free as soon as the close has been answered.
        let _sixth = Client::open(broker.public, &path, &[]);
        assert_eq!(broker.metric("fanfare_handshakes_rejected_total", &["connection_limit"]), 1.0);
    });
}

#[test]
fn connects_per_user_are_limited() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.connects_per_user = \"10/1m\""]);
        let path = format!("/feed?token={}", token("ada-0001"));
        for _ in 0..10 {
            broker.market("ada-0001").close();
        }
        let response = Client::try_open(broker.public, &path, &[]).err().unwrap();
        assert_eq!((response.status, response.code().as_str()), (429, "RATE_LIMITED"));
        let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=6).contains(&wait), "{wait}");
        broker.market("bob-0001").close();
        assert_eq!(broker.metric("fanfare_rate_limited_total", &["connects_per_user"]), 1.0);
    });
}

#[test]
fn connects_per_address_are_limited_but_not_from_loopback_by_default() {
    let rate = "limits.connects_per_address = \"3/1m\"";
    let broker = Broker::start(&[rate, "limits.exempt = []"]);
    for n in 0..3 {
        broker.market(&format!("user-{n:04}"));
    }
    let path = format!("/feed?token={}", token("user-0004"));
    let response = Client::try_open(broker.public, &path, &[]).err().unwrap();
    assert_eq!((response.status, response.code().as_str()), (429, "RATE_LIMITED"));
    assert!(response.header("retry-after").is_some());
    // Another address has its own count; who may say so is configured.
    let forwarded = [("X-Forwarded-For", "203.0.113.9")];
    assert_eq!(Client::try_open(broker.public, &path, &forwarded).err().unwrap().status, 429);
    let broker = Broker::start(&[rate, "limits.exempt = []", "trusted_proxies = [\"127.0.0.1\"]"]);
    for n in 0..6 {
        let address = format!("10.9.9.9, 203.0.113.{}", n % 2);
        let path = format!("/feed?token={}", token(&format!("user-{n:04}")));
        Client::open(broker.public, &path, &[("X-Forwarded-For", &address)]);
    }
    let forwarded = [("X-Forwarded-For", "10.1.2.3, 203.0.113.1")];
    assert_eq!(Client::try_open(broker.public, &path, &forwarded).err().unwrap().status, 429);
    let broker = Broker::start(&[rate]);
    for n in 0..10 {
        broker.market(&format!("user-{n:04}"));
    }
}

#[test]
fn connections_in_all_are_limited() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.connections = 3"]);
        let clients: Vec<Client> = (0..3).map(|n| broker.market(&format!("user-{n:04}"))).collect();
        let path = format!("/feed?token={}", token("late-0001"));
        let response = Client::try_open(broker.public, &path, &[]).err().unwrap();
        assert_eq!((response.status, response.code().as_str()), (503, "CONNECTION_LIMIT"));
        assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(broker.metric("fanfare_handshakes_rejected_total", &["overloaded"]), 1.0);
        drop(clients);
        eventually("a free place", || Client::try_open(broker.public, &path, &[]).ok());
    });
}

#[test]
fn control_events_are_limited_and_ten_refusals_in_a_row_end_the_connection() {
    let broker = Broker::start(&["limits.control = \"5/1h\""]);
    let (mut ada, mut again) = (broker.market("ada-0001"), broker.market("ada-0001"));
    for _ in 0..4 {
        ada.ask("ping", json!({}), "pong");
    }
    // The rate is the user's, not the connection's.
    again.ask("ping", json!({}), "pong");
    for n in 0..10 {
        let event = ["ping", "join_room", "subscribe"][n % 3];
        ada.refused(event, json!({ "room": "price:BTC-USDC", "types": [] }), "RATE_LIMITED");
    }
    ada.expect_close(1008);
    again.send("ping", json!({}));
    let error = again.next();
    assert_eq!(error["data"]["code"], "RATE_LIMITED");
    let wait = error["data"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=3_600_000).contains(&wait), "{wait}");
    assert_eq!(broker.metric("fanfare_rate_limited_total", &["control"]), 11.0);
    broker.market("bob-0001").ask("ping", json!({}), "pong");
    let mut phone = broker.account("eve-0001");
    for _ in 0..5 {
        phone.text(json!({ "type": "ping" }));
        assert_eq!(phone.next()["type"], "pong");
    }
    phone.text(json!({ "type": "ping" }));
    let error = phone.next();
    assert_eq!(error["data"]["code"], "RATE_LIMITED");
    assert!(error["data"]["details"]["retry_after_ms"].is_u64(), "{error}");
}

#[test]
fn refusals_that_are_not_in_a_row_do_not_end_the_connection() {
    let broker = Broker::start(&["limits.control = \"1/50ms\""]);
    let mut ada = broker.market("ada-0001");
    let (mut refused, mut in_row) = (0, 0);
    while refused < 20 {
        ada.send("ping", json!({}));
        let answer = ada.next();
        match answer["event"].as_str().unwrap() {
            "pong" => in_row = 0,
            _ => (refused, in_row) = (refused + 1, in_row + 1),
        }
        if in_row == 5 {
            // Waits as it is told, as a good client does.
            let wait = answer["data"]["retry_after_ms"].as_u64().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(wait));
        }
    }
}

#[test]
fn ping_frames_are_answered_and_limited() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    for n in 0..100u8 {
        ada.message(Message::Ping(vec![n; 10].into()));
        assert_eq!(ada.frame(), Message::Pong(vec![n; 10].into()));
    }
    // The burst, and what was refilled meanwhile.
    for _ in 0..100 {
        ada.stream().write_all(&frame_header(0x89, 0)).unwrap();
    }
    ada.expect_close(1008);
    let mut bob = broker.market("bob-0001");
    for _ in 0..200 {
        bob.stream().write_all(&frame_header(0x8A, 0)).unwrap();
    }
    bob.expect_close(1008);
    broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"abuse\""], 2.0);
}

#[test]
fn rooms_per_connection_are_limited() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.rooms_per_connection = 4"]);
        let mut ada = broker.market("ada-0001");
        let rooms =
            ["price:AA-AA", "price:AA-BB", "price:AA-CC", "price:AA-DD", "price:AA-EE", "price:AA-FF"];
        let mut joined = 0;
        for room in rooms {
            ada.send("join_room", json!({ "room": room }));
            let answer = ada.next();
            match answer["event"].as_str().unwrap() {
                "room_joined" => joined += 1,
                _ => assert_eq!(
                    (&answer["data"]["code"], &answer["data"]["event"]),
                    (&json!("RATE_LIMITED"), &json!("join_room"))
                ),
            }
        }
        assert_eq!(joined, 4);
        ada.refused("subscribe", json!({ "types": ["price_updates"] }), "RATE_LIMITED");
        // A room it is in already counts nothing, and one that is left makes place.
        ada.join(rooms[0]);
        ada.ask("leave_room", json!({ "room": rooms[0] }), "room_left");
        ada.join(rooms[5]);
        ada.refused("join_room", json!({ "room": rooms[0] }), "RATE_LIMITED");
    });
}

#[test]
fn a_request_head_is_bounded_in_size_and_time() {
    let broker = Broker::start(&["limits.handshake = \"1s\""]);
    let big = "x".repeat(17 * 1024);
    let response = http::request(broker.public, "GET", "/feed", &[("X-Padding", &big)], b"");
    assert_eq!((response.status, response.code().as_str()), (431, "INVALID_MESSAGE"));
    let response =
        http::request(broker.public, "GET", "/feed", &[("Authorization", &"x".repeat(100_000))], b"");
    assert_eq!(response.status, 431);
    // Half a head: 408. Nothing at all: closed.
    let mut half = http::connect(broker.public);
    half.write_all(b"GET /feed HTTP/1.1\r\nHost: x\r\n").unwrap();
    let response = http::read_response(&mut half).0;
    assert_eq!((response.status, response.code().as_str()), (408, "INVALID_MESSAGE"));
    let mut silent = http::connect(broker.public);
    assert_eq!(silent.read(&mut [0; 100]).unwrap(), 0);
    broker.wait_for_metric("fanfare_handshakes_rejected_total", &["reason=\"timeout\""], 2.0);
    assert_eq!(broker.metric("fanfare_handshakes_rejected_total", &["head_too_large"]), 2.0);
}

#[test]
fn requests_that_are_no_upgrades_are_answered_in_plain_words() {
    let broker = Broker::start(&[]);
    let path = format!("/feed?token={}", token("ada-0001"));
    let ask =
        |method: &str, headers: &[(&str, &str)]| http::request(broker.public, method, &path, headers, b"");
    let response = ask("GET", &[]);
    assert_eq!((response.status, response.header("upgrade")), (426, Some("websocket")));
    let response = ask("POST", &UPGRADE);
    assert_eq!((response.status, response.header("allow")), (405, Some("GET")));
    let old = [UPGRADE[0], UPGRADE[1], ("Sec-WebSocket-Version", "8"), UPGRADE[3]];
    let response = ask("GET", &old);
    assert_eq!((response.status, response.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(ask("GET", &UPGRADE[..3]).status, 400);
    assert_eq!(ask("GET", &[UPGRADE[0], UPGRADE[1], UPGRADE[2], ("Sec-WebSocket-Key", "short")]).status, 400);
    for response in [ask("GET", &[]), ask("GET", &UPGRADE[..3])] {
        assert_eq!(response.code(), "INVALID_MESSAGE");
        let body: Value = response.json();
        assert!(body["detail"].as_str().unwrap().len() > 10, "{body}");
    }
    let mut stream = http::connect(broker.public);
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http at all\r\n\r\n").unwrap();
    assert_eq!(http::read_response(&mut stream).0.status, 400);
}

#[test]
fn the_silent_are_pinged_and_those_who_do_not_answer_are_closed() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[
            shards,
            "liveness.ping_interval = \"200ms\"",
            "liveness.pong_timeout = \"400ms\"",
        ]);
        // A client that reads answers pings (tungstenite does so by itself), and stays.
        let mut alive = broker.market("ada-0001");
        let mut pings = 0;
        // This one sends its upgrade by hand and never a pong.
        let mut dead = http::connect(broker.public);
        let path = format!("/ws?token={}", token("1234"));
        dead.write_all(&http::head("GET", &path, "x", &UPGRADE, 0)).unwrap();
        while pings < 5 {
            if matches!(alive.frame(), Message::Ping(_)) {
                pings += 1;
            }
            // The answer goes out with the next read or write.
            alive.message(Message::Pong(Vec::new().into()));
        }
        let mut bytes = Vec::new();
        dead.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(bytes[end], 0x89, "a ping comes first: {:?}", &bytes[end..]);
        let close =
            bytes.windows(4).position(|window| window[0] == 0x88 && window[2..] == 1001u16.to_be_bytes());
        assert!(close.is_some(), "no close frame: {:?}", &bytes[end..]);
        broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"ping_timeout\""], 1.0);
        assert_eq!(broker.metric("fanfare_connections", &[]), 1.0);
        alive.expect_nothing();
    });
}

#[test]
fn a_chatty_client_is_never_pinged() {
    let broker = Broker::start(&["liveness.ping_interval = \"300ms\"", "limits.control = \"off\""]);
    let (mut ada, mut silent) = (broker.market("ada-0001"), broker.market("bob-0001"));
    // As long as it takes to ping one that is silent three times.
    let pinged = std::thread::spawn(move || {
        for _ in 0..3 {
            assert!(matches!(silent.frame(), Message::Ping(_)));
            silent.message(Message::Pong(Vec::new().into()));
        }
    });
    while !pinged.is_finished() {
        ada.send("ping", json!({}));
        assert!(matches!(ada.frame(), Message::Text(_)));
    }
    pinged.join().unwrap();
}
