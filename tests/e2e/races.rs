//! Much at once: pipelined joins and leaves, clients that come and go during publishes, slow senders.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::UPGRADE;
use crate::support::raw::{Random, frame};
use crate::support::token::token;
use crate::support::{Broker, Client, Publisher, each_shard_count, http};

const ROOMS: [&str; 5] =
    ["price:BTC-USDC", "trade:BTC-USDC", "orderbook:BTC-USDC", "trade:ETH-USDC", "chart:BTC"];

#[test]
fn joins_and_leaves_in_one_breath_end_where_they_should() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.control = \"off\""]);
        let mut random = Random(0x5EED_0010);
        let mut publisher = broker.publisher();
        let mut clients: Vec<(Client, BTreeSet<usize>)> =
            (0..6).map(|n| (broker.market(&format!("user-{n:04}")), BTreeSet::new())).collect();
        for round in 0..30 {
            for (client, joined) in &mut clients {
                let mut expected = Vec::new();
                for _ in 0..random.below(20) {
                    let room = random.below(ROOMS.len());
                    let joins = random.below(2) == 0;
                    client
                        .send(if joins { "join_room" } else { "leave_room" }, json!({ "room": ROOMS[room] }));
                    expected.push((if joins { "room_joined" } else { "room_left" }, room));
                    if joins {
                        joined.insert(room)
                    } else {
                        joined.remove(&room)
                    };
                }
                // Of each room, the answers come in the order of the requests.
                let mut answers = Vec::new();
                while answers.len() < expected.len() {
                    let message = client.next();
                    if let Some(room) = message["data"]["room"].as_str() {
                        let room = ROOMS.iter().position(|name| *name == room).unwrap();
                        answers.push((message["event"].as_str().unwrap().to_owned(), room));
                    }
                }
                for (room, name) in ROOMS.iter().enumerate() {
                    let of_room = |list: Vec<(&str, usize)>| -> Vec<String> {
                        list.iter()
                            .filter(|(_, of)| *of == room)
                            .map(|(name, _)| (*name).to_owned())
                            .collect()
                    };
                    let found = answers.iter().map(|(name, of)| (name.as_str(), *of)).collect();
                    assert_eq!(of_room(found), of_room(expected.clone()), "{name} in round {round}");
                }
                // Snapshots of joins that were taken back may still stand in line.
                client.before_pong();
            }
            for (room, name) in ROOMS.iter().enumerate() {
                let members = clients.iter().filter(|(_, joined)| joined.contains(&room)).count();
                let ack = publisher
                    .publish(json!({ "room": name, "event": "e", "data": { "round": round, "n": room } }));
                assert_eq!(ack["subscribers"], members, "{name} in round {round}");
            }
            for (client, joined) in &mut clients {
                let got: Vec<Value> =
                    client.before_pong().iter().map(|message| message["data"]["n"].clone()).collect();
                let expected: Vec<Value> = joined.iter().map(|room| json!(room)).collect();
                assert_eq!(got, expected, "in round {round}");
            }
        }
    });
}

#[test]
fn acknowledgements_all_come_while_clients_come_and_go() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let stop = Arc::new(AtomicBool::new(false));
        let crowds: Vec<_> = (0..2)
            .map(|crowd| {
                let (public, stop) = (broker.public, Arc::clone(&stop));
                thread::spawn(move || {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let mut client = Client::market(public, &format!("crowd-{crowd}-{}", count % 7));
                        client.send("join_room", json!({ "room": "trade:BTC-USDC" }));
                        client.send("join_room", json!({ "room": "price:BTC-USDC" }));
                        // Some stay for the answer, some are gone before.
                        if count % 2 == 0 {
                            client.until_event("room_joined");
                        }
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut publisher = broker.publisher();
        let total = 3_000;
        for n in 0..total {
            let line = match n % 4 {
                0 => json!({ "room": "trade:BTC-USDC", "event": "t", "data": n, "id": format!("{n}") }),
                1 => json!({ "room": "price:BTC-USDC", "event": "p", "data": n, "id": format!("{n}") }),
                2 => json!({ "broadcast": true, "event": "b", "data": n, "id": format!("{n}") }),
                _ => {
                    json!({ "user": format!("crowd-0-{}", n % 7), "event": "u", "data": n, "id": format!("{n}") })
                }
            };
            publisher.send(line);
            if n % 100 == 99 {
                for expected in n - 99..=n {
                    let ack = publisher.reply();
                    assert_eq!(
                        (&ack["id"], &ack["ok"]),
                        (&json!(format!("{expected}")), &json!(true)),
                        "{ack}"
                    );
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let count: usize = crowds.into_iter().map(|crowd| crowd.join().unwrap()).sum();
        assert!(count > 10, "{count}");
        broker.wait_for_zero();
        let stats = broker.get("/stats").json();
        assert_eq!(stats["connections"]["total"], 0);
    });
}

#[test]
fn two_publishers_each_keep_their_order() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.outbox = 16777216"]);
        let mut ada = broker.market("ada-0001");
        ada.join("trade:BTC-USDC");
        let publishers: Vec<_> = (0..3)
            .map(|who| {
                let ingest = broker.ingest;
                thread::spawn(move || {
                    let mut publisher = Publisher::connect(ingest);
                    for n in 0..1_000 {
                        publisher.send(json!({ "room": "trade:BTC-USDC", "event": "t", "data": [who, n] }));
                    }
                    publisher.ask(json!({ "op": "ping" }));
                })
            })
            .collect();
        let mut next = [0, 0, 0];
        for _ in 0..3_000 {
            let data = ada.next()["data"].clone();
            let (who, n) = (data[0].as_u64().unwrap() as usize, data[1].as_u64().unwrap());
            assert_eq!(n, next[who]);
            next[who] += 1;
        }
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    });
}

#[test]
fn frames_may_follow_the_upgrade_in_the_same_packet() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut stream = http::connect(broker.public);
        let path = format!("/feed?token={}", token("ada-0001"));
        let mut bytes = http::head("GET", &path, "x", &UPGRADE, 0);
        for room in ROOMS {
            let text = json!({ "event": "join_room", "data": { "room": room } }).to_string();
            bytes.extend_from_slice(&frame(0x81, text.as_bytes()));
        }
        bytes.extend_from_slice(&frame(0x88, b""));
        // In two parts, cut in the middle of the head.
        stream.write_all(&bytes[..40]).unwrap();
        stream.write_all(&bytes[40..]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("\"connected\""), "{answer}");
        broker.wait_for_zero();
    });
}

#[test]
fn refused_requests_may_be_followed_by_good_ones_on_the_same_connection() {
    let broker = Broker::start(&[]);
    let mut stream = http::connect(broker.public);
    for _ in 0..3 {
        stream.write_all(&http::head("GET", "/nothing", "x", &[], 0)).unwrap();
        let (response, rest) = http::read_response(&mut stream);
        assert_eq!((response.status, rest.len()), (404, 0));
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    let path = format!("/feed?token={}", token("ada-0001"));
    let mut client = Client::over(stream, "x", &path, &[]).unwrap();
    assert_eq!(client.next()["event"], "connected");
}

/// Sends a byte now and then until the broker has had enough; returns how long that took.
fn trickle(mut stream: std::net::TcpStream, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    for byte in bytes.iter().cycle() {
        if stream.write_all(&[*byte]).is_err() || matches!(stream.read(&mut [0; 1000]), Ok(0)) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(15), "it is let go on");
    }
    started.elapsed()
}

#[test]
fn the_time_for_a_request_does_not_begin_anew_with_every_byte() {
    let broker = Broker::start(&["limits.handshake = \"1s\""]);
    let mut stream = http::connect(broker.public);
    stream.write_all(b"GET /feed?x=").unwrap();
    trickle(stream, b"y");
    broker.wait_for_metric("fanfare_handshakes_rejected_total", &["reason=\"timeout\""], 1.0);
    broker.wait_for_metric("fanfare_sockets", &[], 0.0);
}

#[test]
fn a_closed_connection_cannot_be_kept_open_by_sending_on() {
    let broker = Broker::start(&[]);
    let mut phone = broker.account("1234");
    let mut stream = http::connect(broker.public);
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(http::read_response(&mut stream).0.status, 400);
    // Shut for writing by the server, which must not wait for the sender's patience.
    let started = Instant::now();
    while stream.write_all(b"x").is_ok() {
        thread::sleep(Duration::from_millis(100));
        assert!(started.elapsed() < Duration::from_secs(15), "it is let go on");
    }
    phone.stream().write_all(&frame(0x82, b"x")).unwrap();
    phone.expect_close(1003);
    let started = Instant::now();
    while phone.stream().write_all(&frame(0x81, b"x")).is_ok() {
        thread::sleep(Duration::from_millis(100));
        assert!(started.elapsed() < Duration::from_secs(15), "it is let go on");
    }
    broker.wait_for_metric("fanfare_sockets", &[], 0.0);
}
