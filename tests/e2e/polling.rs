//! Sessions that poll (`spec/market.md`, "Socket.IO, completely"): over any connections, beside WebSockets, on to
//! WebSockets; what is refused, and what waits while no poll is open.

use std::thread;

use serde_json::{Value, json};

use crate::support::http::{self, Connection, Response};
use crate::support::polling::{Polling, shard_of};
use crate::support::raw::Random;
use crate::support::socketio::{Socket, Transport, each_transport};
use crate::support::tls::Authority;
use crate::support::token::token;
use crate::support::{Broker, Publisher, each_shard_count, eventually};

const ROOM: &str = "trade:BTC-USDC";

/// A session that polls, its open packet taken; nothing is connected yet.
#[track_caller]
fn open(broker: &Broker) -> Polling {
    Polling::open(broker.public, "/socket.io/", "")
}

/// A market client over such a session.
#[track_caller]
fn enter(session: Polling, user: &str) -> Socket {
    let mut socket = Socket::over(session);
    socket.enter(json!({ "token": token(user) }));
    socket
}

/// A session on another shard than those of `others`.
#[track_caller]
fn open_elsewhere(broker: &Broker, others: &[u8]) -> Polling {
    // Connections that stay open keep the next one from going to the same shard.
    let mut kept = Vec::new();
    eventually("a session on another shard", || {
        kept.push(http::connect(broker.public));
        let mut session = open(broker);
        if others.contains(&session.shard()) {
            session.send("1");
            return None;
        }
        Some(session)
    })
}

fn publish(publisher: &mut Publisher, room: &str, data: u64) {
    publisher.publish(json!({ "room": room, "event": "numbered", "data": data }));
}

#[track_caller]
fn numbers(socket: &mut Socket, count: usize) -> Vec<u64> {
    (0..count).map(|_| socket.next()[1].as_u64().unwrap()).collect()
}

#[track_caller]
fn code(response: &Response) -> (u16, u64) {
    (response.status, response.json()["code"].as_u64().unwrap())
}

#[test]
fn every_request_may_come_on_a_new_connection() {
    let broker = Broker::start(&["shards = 4"]);
    let mut publisher = broker.publisher();
    let mut shards = Vec::new();
    for _ in 0..3 {
        let mut session = open_elsewhere(&broker, &shards);
        shards.push(session.shard());
        session.is_scattered = true;
        let mut ada = enter(session, "ada-0001");
        // These keep the least loaded shard from being always the same one.
        let mut idle = Vec::new();
        ada.join(ROOM);
        for number in 0..20 {
            idle.push(http::connect(broker.public));
            publish(&mut publisher, ROOM, number);
            assert_eq!(numbers(&mut ada, 1), [number]);
            ada.request("ping", json!({ "timestamp": number }));
        }
        ada.expect_nothing();
        ada.send("41\u{1e}1");
    }
    broker.wait_for_metric("fanfare_engineio_sessions", &[], 0.0);
}

#[test]
fn one_connection_may_serve_sessions_of_several_shards_with_requests_in_a_row() {
    let broker = Broker::start(&["shards = 4"]);
    let first = open(&broker);
    let second = open_elsewhere(&broker, &[first.shard()]);
    let paths = [first.path.clone(), second.path.clone()];
    let mut connection = Connection::open(broker.public);
    for path in &paths {
        let body = format!("40{}", json!({ "token": token("ada-0001") }));
        assert_eq!(connection.ask("POST", path, &[], body.as_bytes()).text(), "ok");
        let welcome = connection.ask("GET", path, &[], b"").text();
        assert_eq!(welcome.split('\u{1e}').count(), 3, "{welcome}");
    }
    let head = |method: &str, path: &str, body: &str| {
        [http::head(method, path, "x", &[], body.len()), body.as_bytes().to_vec()].concat()
    };
    let ping =
        |path: &str, number: usize| head("POST", path, &format!("42[\"ping\",{{\"timestamp\":{number}}}]"));
    for round in 0..10 {
        // Posts and polls of both in one write: answered in the order in which they were asked.
        let bytes: Vec<u8> = paths
            .iter()
            .enumerate()
            .flat_map(|(n, path)| [ping(path, round * 10 + n), head("GET", path, "")].concat())
            .collect();
        match round % 3 {
            0 => connection.raw(&bytes),
            // And however they are cut.
            1 => bytes.chunks(37).for_each(|part| connection.raw(part)),
            _ => {
                let (front, back) = bytes.split_at(bytes.len() / 2 + round);
                connection.raw(front);
                connection.raw(back);
            }
        }
        for n in 0..paths.len() {
            assert_eq!(connection.response().text(), "ok");
            let pong = connection.response().text();
            assert!(pong.starts_with(&format!("42[\"pong\",{{\"timestamp\":{},", round * 10 + n)), "{pong}");
        }
    }
    drop(connection);
    drop((first, second));
}

#[test]
fn a_connection_with_tls_serves_sessions_of_several_shards_too() {
    let authority = Authority::new();
    let broker = Broker::start(&[
        "shards = 4",
        &format!("tls.cert = {}", authority.path("server.pem")),
        &format!("tls.key = {}", authority.path("server.key")),
    ]);
    let path = "/socket.io/?EIO=4&transport=polling";
    let mut connections = Vec::new();
    let mut sids: Vec<String> = Vec::new();
    eventually("sessions on two shards", || {
        let mut connection = Connection::over(authority.connect(broker.public, false).unwrap(), "localhost");
        let text = connection.ask("GET", path, &[], b"").text();
        let open: Value = serde_json::from_str(&text[1..]).unwrap();
        connections.push(connection);
        sids.push(open["sid"].as_str().unwrap().to_owned());
        sids.iter().any(|sid| shard_of(sid) != shard_of(&sids[0])).then_some(())
    });
    let paths = [sids.first(), sids.last()].map(|sid| format!("{path}&sid={}", sid.unwrap()));
    let mut connection = connections.remove(0);
    for path in &paths {
        let body = format!("40{}", json!({ "token": token("ada-0001") }));
        assert_eq!(connection.ask("POST", path, &[], body.as_bytes()).text(), "ok");
        assert_eq!(connection.ask("GET", path, &[], b"").text().split('\u{1e}').count(), 3);
    }
    for number in 0..10 {
        for path in &paths {
            let ping = format!("42[\"ping\",{{\"timestamp\":{number}}}]");
            connection.send("POST", path, &[], ping.as_bytes());
            connection.send("GET", path, &[], b"");
            assert_eq!(connection.response().text(), "ok");
            let pong = connection.response().text();
            assert!(pong.starts_with(&format!("42[\"pong\",{{\"timestamp\":{number},")), "{pong}");
        }
    }
}

#[test]
fn clients_of_both_transports_get_the_same_events_in_the_same_order() {
    const CLIENTS: usize = 400;
    const EVENTS: usize = 30;
    let broker = Broker::start(&["shards = 4"]);
    let ready = std::sync::Barrier::new(CLIENTS + 1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (broker, ready) = (&broker, &ready);
                let run = move || {
                    let user = format!("user-{number:04}");
                    let transport = [Transport::WebSocket, Transport::Polling][number % 2];
                    let mut socket = Socket::market(broker.public, transport, &user);
                    socket.join(ROOM);
                    ready.wait();
                    (0..EVENTS).map(|_| socket.next()).collect::<Vec<Value>>()
                };
                thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, run).unwrap()
            })
            .collect();
        ready.wait();
        broker.wait_for_metric("fanfare_connections", &["transport=\"polling\""], CLIENTS as f64 / 2.0);
        // Two publishers, whose events have no order but the one in which the broker takes them.
        for publisher in 0..2 {
            let broker = &broker;
            scope.spawn(move || {
                let mut connection = broker.publisher();
                for number in 0..EVENTS / 2 {
                    let data = json!([publisher, number]);
                    connection.publish(json!({ "room": ROOM, "event": "numbered", "data": data }));
                }
            });
        }
        let mut seen: Vec<Vec<Value>> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        seen.dedup();
        assert_eq!(seen.len(), 1, "not the same for all");
        for publisher in 0..2 {
            let own = seen[0].iter().filter(|event| event[1][0] == publisher).map(|event| &event[1][1]);
            assert!(own.eq(&Vec::from_iter((0..EVENTS / 2).map(|number| json!(number)))));
        }
    });
}

#[test]
fn a_session_that_upgrades_under_a_stream_gets_every_event_once_and_in_order() {
    const ROUNDS: usize = 30;
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let mut publisher = broker.publisher();
                let mut random = Random(7);
                let mut number = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for _ in 0..random.below(20) {
                        publisher.send(json!({ "room": ROOM, "event": "numbered", "data": number }));
                        number += 1;
                    }
                    publish(&mut publisher, ROOM, number);
                    number += 1;
                }
            });
            let mut random = Random(11);
            for round in 0..ROUNDS {
                let mut socket =
                    Socket::market(broker.public, Transport::Polling, &format!("user-{round:04}"));
                socket.join(ROOM);
                let before = random.below(60);
                let mut found = numbers(&mut socket, before);
                // The probe comes at any time: with a poll open or not, with events waiting or not.
                thread::sleep(std::time::Duration::from_micros(random.below(3_000) as u64));
                socket.upgrade(broker.public);
                found.extend(numbers(&mut socket, 200));
                assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1), "round {round}: {found:?}");
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            publishing.join().unwrap();
        });
        assert_eq!(broker.metric("fanfare_engineio_upgrades_total", &[]), ROUNDS as f64);
        broker.wait_for_zero();
    });
}

#[test]
fn an_upgraded_client_is_counted_where_it_is() {
    let broker = Broker::start(&[]);
    let mut ada = Socket::market(broker.public, Transport::Polling, "ada-0001");
    let count = |transport: &str| {
        broker.metric("fanfare_connections", &["app=\"market\"", &format!("transport=\"{transport}\"")])
    };
    assert_eq!((count("polling"), count("websocket")), (1.0, 0.0));
    ada.upgrade(broker.public);
    ada.expect_nothing();
    assert_eq!((count("polling"), count("websocket")), (0.0, 1.0));
    drop(ada);
    broker.wait_for_metric("fanfare_connections", &[], 0.0);
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_session_lives() {
    let broker = Broker::start(&["shards = 3"]);
    let session = open(&broker);
    let path = session.path.clone();
    let mut ada = enter(session, "ada-0001");
    // Told from the head: the body need not come, nor is it read.
    let mut connection = Connection::open(broker.public);
    connection.raw(&http::head("POST", &path, "x", &[], 32_769));
    assert_eq!(connection.response().status, 413);
    connection.expect_end();
    ada.expect_nothing();
    let mut connection = Connection::open(broker.public);
    connection.raw(&http::head("POST", &path, "x", &[("Transfer-Encoding", "chunked")], 0));
    connection.raw(b"8001\r\n");
    assert_eq!(connection.response().status, 413);
    connection.expect_end();
    ada.expect_nothing();
    // In chunks it is taken as well, and the connection goes on.
    let mut connection = Connection::open(broker.public);
    connection.raw(&http::head("POST", &path, "x", &[("Transfer-Encoding", "chunked")], 0));
    connection.raw(b"3\r\n42[\r\n4;a=b\r\n\"pin\r\n2\r\ng\"\r\n1\r\n]\r\n0\r\n\r\n");
    assert_eq!(connection.response().text(), "ok");
    assert_eq!(ada.next()[0], "pong");
    // What just fits is taken.
    let text = format!("42[\"ping\",{{\"timestamp\":\"{}\"}}]", "x".repeat(32_768 - 27));
    assert_eq!(text.len(), 32_768);
    ada.send(&text);
    assert_eq!(ada.next()[0], "pong");
}

#[test]
fn a_body_may_come_in_parts_and_when_it_is_asked_for() {
    let broker = Broker::start(&["shards = 3"]);
    let session = open(&broker);
    let path = session.path.clone();
    let mut ada = enter(session, "ada-0001");
    let mut connection = Connection::open(broker.public);
    let body = "42[\"ping\",{\"timestamp\":1}]\u{1e}42[\"ping\",{\"timestamp\":2}]";
    connection.raw(&http::head("POST", &path, "x", &[("Expect", "100-continue")], body.len()));
    assert_eq!(connection.response().status, 100);
    for byte in body.as_bytes() {
        connection.raw(&[*byte]);
    }
    assert_eq!(connection.response().text(), "ok");
    assert_eq!([ada.next()[1]["timestamp"].clone(), ada.next()[1]["timestamp"].clone()], [1, 2]);
}

#[test]
fn a_second_poll_or_a_second_post_at_once_ends_the_session() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let session = open(&broker);
        let path = session.path.clone();
        let mut ada = enter(session, "ada-0001");
        ada.polling().begin_poll();
        let other = http::request(broker.public, "GET", &path, &[], b"");
        let mut answers = [ada.polling().poll(), other].map(|answer| (answer.status, answer.text()));
        answers.sort();
        assert_eq!((answers[0].0, answers[0].1.as_str(), answers[1].0), (200, "1", 400));
        assert_eq!(code(&ada.polling().poll()), (400, 1));
        broker.wait_for_zero();
        // A post that is not all there, and another one.
        let session = open(&broker);
        let path = session.path.clone();
        let mut ada = enter(session, "ada-0001");
        let mut connection = Connection::open(broker.public);
        connection.raw(&http::head("POST", &path, "x", &[("Expect", "100-continue")], 10));
        assert_eq!(connection.response().status, 100);
        assert_eq!(ada.polling().post("3").status, 400);
        assert_eq!(code(&ada.polling().poll()), (400, 1));
        broker.wait_for_zero();
    });
}

#[test]
fn ids_and_versions_that_are_not_known_are_refused() {
    let broker = Broker::start(&["shards = 4"]);
    let mut sid = open(&broker).sid().to_owned();
    let ask = |query: &str| {
        let response =
            http::request(broker.public, "GET", &format!("/socket.io/?transport=polling&{query}"), &[], b"");
        (code(&response), response.json()["message"].as_str().unwrap().to_owned())
    };
    let unknown = ((400, 1), "Session ID unknown".to_owned());
    // Of another shard, with another secret, of a shard that does not exist, with more or less behind it.
    for shard in ["AQ", "Ag", "Aw", "BA", "_w"] {
        sid.replace_range(..2, shard);
        assert_eq!(ask(&format!("EIO=4&sid={sid}")), unknown, "{sid}");
    }
    for bad in
        ["x", "AAAA", &format!("{sid}A"), &sid[..sid.len() - 1], "%00", "../../etc", &"A".repeat(5_000)]
    {
        assert_eq!(ask(&format!("EIO=4&sid={bad}")), unknown, "{bad}");
    }
    for version in ["3", "5", "", "04", "4x"] {
        assert_eq!(
            ask(&format!("EIO={version}")),
            ((400, 5), "Unsupported protocol version".to_owned()),
            "{version}"
        );
    }
}

#[test]
fn while_no_poll_is_open_all_events_wait_and_of_values_the_newest() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut publisher = broker.publisher();
        let mut ada = Socket::market(broker.public, Transport::Polling, "ada-0001");
        for room in [ROOM, "price:AA-BB", "price:CC-DD"] {
            ada.join(room);
        }
        for number in 0..100 {
            publish(&mut publisher, ROOM, number);
            publish(&mut publisher, "price:AA-BB", 1_000 + number);
        }
        publish(&mut publisher, "price:CC-DD", 2_000);
        let found = numbers(&mut ada, 102);
        let (values, events): (Vec<u64>, Vec<u64>) = found.into_iter().partition(|number| *number >= 1_000);
        assert_eq!(events, Vec::from_iter(0..100));
        assert_eq!(values, [1_099, 2_000]);
        ada.expect_nothing();
        broker.wait_for_metric("fanfare_outbox_bytes", &[], 0.0);
        assert!(broker.metric("fanfare_events_conflated_total", &[]) >= 99.0);
    });
}

#[test]
fn a_polling_client_whose_outbox_overflows_is_a_slow_consumer() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.outbox = 65536"]);
        let mut publisher = broker.publisher();
        let mut slow = Socket::market(broker.public, Transport::Polling, "slow-0001");
        let mut quick = Socket::market(broker.public, Transport::WebSocket, "quick-001");
        slow.join(ROOM);
        quick.join(ROOM);
        let text = "x".repeat(1_000);
        for number in 0..100 {
            publisher.publish(json!({ "room": ROOM, "event": "n", "data": [number, text] }));
            assert_eq!(quick.next()[1][0], number);
        }
        broker.wait_for_metric("fanfare_slow_consumers_total", &[], 1.0);
        let labels = ["transport=\"polling\"", "reason=\"slow_consumer\""];
        broker.wait_for_metric("fanfare_connections_closed_total", &labels, 1.0);
        // It comes back, so it gets no DISCONNECT.
        assert_eq!(slow.closed(), Vec::<String>::new());
        drop((slow, quick));
        broker.wait_for_zero();
    });
}

#[test]
fn everything_is_given_back_when_all_have_gone() {
    each_shard_count(|shards| {
        let quick = [
            "socketio.ping_interval = \"200ms\"",
            "socketio.ping_timeout = \"200ms\"",
            "socketio.recovery = \"500ms\"",
        ];
        let broker = Broker::start(&[&[shards][..], &quick].concat());
        let mut publisher = broker.publisher();
        each_transport(|transport| {
            for number in 0..12 {
                let user = format!("user-{number:04}");
                let mut socket = match number % 2 {
                    0 => Socket::market(broker.public, transport, &user),
                    _ => Socket::recoverable(broker.public, transport, &user),
                };
                socket.join(ROOM);
                socket.join("price:AA-BB");
                if transport == Transport::Polling && number % 3 == 0 {
                    socket.upgrade(broker.public);
                }
                // Each ends in its own way: cut off, without a word, by leaving the namespace, by ending the session.
                match number / 3 {
                    0 => drop(socket.cut()),
                    1 => drop(socket),
                    2 => socket.send("41"),
                    _ => socket.send("1"),
                }
                publish(&mut publisher, ROOM, number);
                publish(&mut publisher, "price:AA-BB", number);
            }
        });
        for gauge in [
            "engineio_sessions",
            "connections",
            "sockets",
            "subscriptions",
            "outbox_bytes",
            "recoverable_sessions",
            "history_bytes",
        ] {
            broker.wait_for_metric(&format!("fanfare_{gauge}"), &[], 0.0);
        }
        assert_eq!(broker.metric("fanfare_connections_opened_total", &[]), 24.0);
        assert_eq!(broker.metric("fanfare_connections_closed_total", &[]), 24.0);
    });
}
