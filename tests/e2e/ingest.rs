//! The ingest port and `POST /publish`: acknowledgements, repeated ids, bad lines, operations (`spec/ingest.md`).

use std::net::Shutdown;

use serde_json::{Value, json};

use crate::support::{Broker, Publisher, each_shard_count, http};

#[test]
fn acknowledgements_come_in_order_with_offsets_and_subscribers() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut clients: Vec<_> = (0..6).map(|n| broker.market(&format!("user-{n:04}"))).collect();
        for client in &mut clients {
            client.join("trade:BTC-USDC");
        }
        clients[0].join("trade:ETH-USDC");
        let mut publisher = broker.publisher();
        for n in 0..300 {
            let room = ["trade:BTC-USDC", "trade:ETH-USDC", "trade:ADA-USDC"][n % 3];
            publisher.send(
                json!({ "id": format!("id-{n}"), "room": room, "event": "trade_notification", "data": n }),
            );
            if n % 7 == 0 {
                publisher.send(json!({ "room": room, "event": "unnumbered", "data": n }));
            }
        }
        let mut offsets = [0u64; 3];
        for n in 0..300 {
            let ack = publisher.reply();
            assert_eq!((&ack["id"], &ack["ok"]), (&json!(format!("id-{n}")), &json!(true)), "{ack}");
            assert_eq!(ack["room"], ["trade:BTC-USDC", "trade:ETH-USDC", "trade:ADA-USDC"][n % 3]);
            assert_eq!(ack["subscribers"], [6, 1, 0][n % 3]);
            offsets[n % 3] += 1;
            assert_eq!(ack["offset"], offsets[n % 3], "{ack}");
            // The line without an id counts too.
            offsets[n % 3] += u64::from(n % 7 == 0);
        }
    });
}

#[test]
fn a_repeated_id_is_not_delivered_again() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut first, mut second) =
            (broker.market("ada-0001"), broker.publisher(), broker.publisher());
        ada.join("trade:BTC-USDC");
        ada.join("trade:ETH-USDC");
        let line = |room: &str, data: u64| json!({ "id": "7f3a", "room": room, "event": "t", "data": data });
        let ack = first.ask(line("trade:BTC-USDC", 1));
        assert_eq!((&ack["offset"], &ack["duplicate"]), (&json!(1), &Value::Null), "{ack}");
        first.publish(json!({ "room": "trade:BTC-USDC", "event": "t", "data": 2 }));
        for publisher in [&mut first, &mut second] {
            let ack = publisher.ask(line("trade:BTC-USDC", 3));
            assert_eq!(ack["ok"], true);
            assert_eq!((&ack["offset"], &ack["duplicate"]), (&json!(1), &json!(true)), "{ack}");
        }
        // The same id for another target is another publish.
        let ack = second.ask(line("trade:ETH-USDC", 4));
        assert_eq!((&ack["offset"], &ack["duplicate"]), (&json!(1), &Value::Null), "{ack}");
        let ack = second.ask(json!({ "id": "7f3a", "user": "ada-0001", "event": "t", "data": 5 }));
        assert_eq!(ack["duplicate"], Value::Null, "{ack}");
        // `user:X` as a room is the user X (decision 11), so this is a repetition.
        let ack = second.ask(json!({ "id": "7f3a", "room": "user:ada-0001", "event": "t", "data": 6 }));
        assert_eq!(ack["duplicate"], true, "{ack}");
        let data: Vec<Value> = (0..4).map(|_| ada.next()["data"].clone()).collect();
        assert_eq!(data, [json!(1), json!(2), json!(4), json!(5)]);
        ada.expect_nothing();
    });
}

#[test]
fn a_repeated_id_of_a_refused_line_is_new() {
    let broker = Broker::start(&["limits.keys_per_room = 1"]);
    let mut publisher = broker.publisher();
    let line = |id: &str, key: &str| json!({ "id": id, "room": "price:BTC-USDC", "event": "p", "key": key, "data": 1 });
    assert_eq!(publisher.ask(line("1", "a"))["ok"], true);
    for _ in 0..2 {
        let error = publisher.ask(line("2", "b"));
        assert_eq!((&error["ok"], &error["id"]), (&json!(false), &json!("2")), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("keys"), "{error}");
    }
    // A known key may come again.
    assert_eq!(publisher.ask(line("3", "a"))["ok"], true);
}

#[test]
fn bad_lines_are_answered_and_the_others_count() {
    let broker = Broker::start(&["ingest.max_line = 4096"]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    ada.join("trade:BTC-USDC");
    let good = json!({ "room": "trade:BTC-USDC", "event": "t", "data": 1 }).to_string();
    let long = "x".repeat(129);
    let bad = [
        ("not json".to_owned(), "INVALID_MESSAGE"),
        ("{".to_owned(), "INVALID_MESSAGE"),
        ("[]".to_owned(), "INVALID_MESSAGE"),
        ("7".to_owned(), "INVALID_MESSAGE"),
        (format!("{good}{good}"), "INVALID_MESSAGE"),
        ("{}".to_owned(), "INVALID_MESSAGE"),
        (r#"{"event":"t","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","user":"ada-0001","event":"t","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"broadcast":false,"event":"t","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","event":"","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (format!(r#"{{"room":"trade:BTC-USDC","event":"{long}","data":1}}"#), "INVALID_MESSAGE"),
        (r#"{"room":7,"event":"t","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"","event":"t","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:a\u0007b","event":"t","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (format!(r#"{{"room":"trade:{long}","event":"t","data":1}}"#), "INVALID_MESSAGE"),
        (r#"{"user":"","event":"t","data":1}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","event":"t","data":1,"app":"nothing"}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","event":"t","data":1,"id":7}"#.to_owned(), "INVALID_MESSAGE"),
        (format!(r#"{{"room":"trade:BTC-USDC","event":"t","data":1,"id":"{long}"}}"#), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","event":"t","data":1,"ts":"now"}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","event":"t","data":1,"ts":1.5}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","event":"t","data":{"a":01}}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"trade:BTC-USDC","event":"t","data":nul}"#.to_owned(), "INVALID_MESSAGE"),
        (
            format!(r#"{{"room":"trade:BTC-USDC","event":"t","data":{}{}}}"#, "[".repeat(70), "]".repeat(70)),
            "INVALID_MESSAGE",
        ),
        (r#"{"op":"nothing"}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"op":"disconnect"}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"op":"disconnect","user":"a","code":999}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"op":"listen"}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"op":"listen","events":[7]}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"op":"presence"}"#.to_owned(), "INVALID_MESSAGE"),
        (r#"{"room":"nonsense:BTC","event":"t","data":1}"#.to_owned(), "ROOM_NOT_FOUND"),
        (r#"{"room":"nonsense","event":"t","data":1}"#.to_owned(), "ROOM_NOT_FOUND"),
        (
            format!(r#"{{"room":"trade:BTC-USDC","event":"t","data":"{}"}}"#, "x".repeat(4096)),
            "MESSAGE_TOO_LARGE",
        ),
        (format!("{}{}", "x".repeat(300_000), "not json"), "MESSAGE_TOO_LARGE"),
    ];
    let mut number = 0;
    for (line, code) in &bad {
        publisher.send(line);
        publisher.send(&good);
        let error = publisher.reply();
        assert_eq!((&error["ok"], &error["error"]["code"]), (&json!(false), &json!(code)), "{line}: {error}");
        assert_eq!(error["line"], number + 1, "{line}: {error}");
        assert!(error["error"]["message"].as_str().unwrap().len() > 10, "{error}");
        number += 2;
        assert_eq!(ada.next()["data"], 1);
    }
    // An error names the id of its line.
    let error = publisher.ask(json!({ "id": "mine", "room": "nonsense:BTC", "event": "t" }));
    assert_eq!((&error["id"], &error["line"]), (&json!("mine"), &json!(number + 1)));
    let error = publisher.ask(json!({ "id": "mine", "event": "t" }));
    assert_eq!(error["id"], "mine");
    // Lines that are not UTF-8.
    publisher.raw(b"{\"room\":\"trade:BTC-USDC\",\"event\":\"t\",\"data\":\"\xFF\"}\n");
    assert_eq!(publisher.reply()["error"]["code"], "INVALID_MESSAGE");
    assert!(broker.metric("fanfare_ingest_messages_total", &["result=\"rejected\""]) >= bad.len() as f64);
    ada.expect_nothing();
}

#[test]
fn lines_may_end_with_carriage_return_and_come_in_pieces() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    let line = "{\"id\":\"1\",\"user\":\"ada-0001\",\"event\":\"t\",\"data\":1}\r\n";
    for byte in line.as_bytes() {
        publisher.raw(&[*byte]);
    }
    assert_eq!(publisher.reply()["id"], "1");
    assert_eq!(ada.next()["data"], 1);
    // Empty lines between are no reason for an error; a numeric user is its digits.
    let mut seven = broker.market("7");
    publisher.raw(b"{\"user\":7,\"event\":\"t\",\"data\":2}\n");
    assert_eq!(seven.next()["data"], 2);
}

#[test]
fn a_room_a_backend_names_needs_no_pattern() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.publisher();
    for room in ["price:btc/usdc", "trade:ä ö", "portfolio:x", "orders:1", "chart:btc"] {
        let ack = publisher.publish(json!({ "room": room, "event": "t", "data": 1 }));
        assert_eq!(ack["room"], room);
    }
}

#[test]
fn a_half_line_at_the_end_is_discarded_and_counted() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    let stream = http::connect(broker.ingest);
    let mut publisher = Publisher::over(stream.try_clone().unwrap());
    publisher.raw(b"{\"user\":\"ada-0001\",\"event\":\"whole\",\"data\":1}\n{\"user\":\"ada-0001\",\"event\":\"half\",\"data\":1}");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ada.next()["event"], "whole");
    broker.wait_for_metric("fanfare_ingest_messages_total", &["result=\"truncated\""], 1.0);
    publisher.expect_end();
    broker.wait_for_metric("fanfare_ingest_connections", &[], 0.0);
    ada.expect_nothing();
}

#[test]
fn acknowledgements_still_come_after_the_publisher_shut_its_side() {
    let broker = Broker::start(&[]);
    let stream = http::connect(broker.ingest);
    let mut publisher = Publisher::over(stream.try_clone().unwrap());
    // As `nc` does at the end of its input.
    for n in 0..100 {
        publisher.send(json!({ "id": format!("{n}"), "room": "trade:BTC-USDC", "event": "t", "data": n }));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    for n in 0..100 {
        assert_eq!(publisher.reply()["id"], format!("{n}"));
    }
    publisher.expect_end();
}

#[test]
fn a_token_must_come_first_where_one_is_configured() {
    let broker = Broker::start(&["ingest.token = \"open sesame\""]);
    let mut ada = broker.market("ada-0001");
    let publish = json!({ "user": "ada-0001", "event": "t", "data": 1 });
    for first in
        [publish.clone(), json!({ "op": "ping" }), json!({ "op": "auth", "token": "wrong" }), json!({})]
    {
        let mut publisher = broker.publisher();
        let error = publisher.ask(first);
        assert_eq!(
            (&error["ok"], &error["error"]["code"]),
            (&json!(false), &json!("AUTH_REQUIRED")),
            "{error}"
        );
        publisher.expect_end();
    }
    let mut publisher = broker.publisher();
    assert_eq!(publisher.ask(json!({ "op": "auth", "token": "open sesame" })), json!({ "ok": true }));
    publisher.publish(publish);
    assert_eq!(ada.next()["data"], 1);
    ada.expect_nothing();
    assert!(!broker.log().join("\n").contains("sesame"));
}

#[test]
fn operations_answer() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut clients: Vec<_> = (0..4).map(|_| broker.market("ada-0001")).collect();
        clients[0].join("trade:BTC-USDC");
        let mut publisher = broker.publisher();
        assert_eq!(publisher.ask(json!({ "op": "ping" })), json!({ "op": "pong" }));
        let presence = publisher.ask(json!({ "op": "presence", "user": "ada-0001" }));
        assert_eq!(presence["connections"], 4, "{presence}");
        assert_eq!(publisher.ask(json!({ "op": "presence", "user": "nobody-1" }))["connections"], 0);
        let rooms = publisher.ask(json!({ "op": "rooms" }));
        assert!(rooms["rooms"].as_u64().unwrap() >= 1, "{rooms}");
        assert!(rooms["subscribers"].as_u64().unwrap() >= 1, "{rooms}");
        let operation =
            json!({ "op": "disconnect", "user": "ada-0001", "code": 4001, "reason": "account locked" });
        assert_eq!(publisher.ask(&operation), json!({ "ok": true, "connections": 4 }));
        for mut client in clients {
            let (code, reason, _) = client.closed();
            assert_eq!((code, reason.as_str()), (4001, "account locked"));
        }
        broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"disconnected\""], 4.0);
        assert_eq!(publisher.ask(&operation), json!({ "ok": true, "connections": 0 }));
        broker.wait_for_zero();
    });
}

#[test]
fn listeners_receive_what_clients_send_to_backends() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut first, mut second, mut other) =
            (broker.account("ada-0001"), broker.publisher(), broker.publisher(), broker.publisher());
        ada.text(json!({ "type": "message", "text": "anybody?" }));
        let error = ada.next();
        assert_eq!(
            (&error["type"], &error["data"]["code"]),
            (&json!("error"), &json!("CONNECTION_ERROR")),
            "{error}"
        );
        let listen = |events: Value, app: Value| json!({ "op": "listen", "events": events, "app": app });
        assert_eq!(first.ask(listen(json!(["message"]), json!("account"))), json!({ "ok": true }));
        assert_eq!(
            second.ask(json!({ "op": "listen", "events": ["other", "message"] })),
            json!({ "ok": true })
        );
        assert_eq!(other.ask(listen(json!(["message"]), json!("mobile"))), json!({ "ok": true }));
        ada.text(r#"{"type":"message","text":"hello","timestamp":"2025-05-20T14:30:00Z","n":1.50}"#);
        for listener in [&mut first, &mut second] {
            let received = listener.reply();
            assert_eq!(
                (&received["from"]["user"], &received["from"]["app"]),
                (&json!("ada-0001"), &json!("account"))
            );
            assert!(!received["from"]["connection"].as_str().unwrap().is_empty());
            assert_eq!((&received["event"], &received["data"]["text"]), (&json!("message"), &json!("hello")));
            assert!(received["received_at"].as_str().unwrap().ends_with('Z'));
        }
        assert_eq!(other.ask(json!({ "op": "ping" })), json!({ "op": "pong" }));
    });
}

#[test]
fn posting_publishes_and_answers_each_id_and_a_summary() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut ada = broker.market("ada-0001");
        ada.join("trade:BTC-USDC");
        let body = "{\"id\":\"a\",\"room\":\"trade:BTC-USDC\",\"event\":\"t\",\"data\":1}\r\n\
                    {\"room\":\"trade:BTC-USDC\",\"event\":\"t\",\"data\":2}\n\
                    {\"id\":\"b\",\"room\":\"nonsense:X\",\"event\":\"t\",\"data\":3}\n\
                    not json\n\
                    {\"id\":\"c\",\"room\":\"trade:BTC-USDC\",\"event\":\"t\",\"data\":4}";
        let response = http::request(broker.admin, "POST", "/publish", &[], body.as_bytes());
        assert_eq!(response.status, 200);
        let lines: Vec<Value> =
            response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |id: &str| lines.iter().find(|line| line["id"] == id).unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!(
            (&of("a")["ok"], &of("a")["subscribers"], &of("a")["offset"]),
            (&json!(true), &json!(1), &json!(1))
        );
        assert_eq!((&of("b")["ok"], &of("b")["error"]["code"]), (&json!(false), &json!("ROOM_NOT_FOUND")));
        assert_eq!((&of("c")["ok"], &of("c")["offset"]), (&json!(true), &json!(3)));
        let summary = lines.last().unwrap();
        assert_eq!((&summary["accepted"], &summary["rejected"]), (&json!(3), &json!(2)), "{summary}");
        let data: Vec<Value> = (0..3).map(|_| ada.next()["data"].clone()).collect();
        assert_eq!(data, [json!(1), json!(2), json!(4)]);
        assert_eq!(http::request(broker.admin, "GET", "/publish", &[], b"").status, 405);
        let chunked = [("Transfer-Encoding", "chunked")];
        assert_eq!(http::request(broker.admin, "POST", "/publish", &chunked, b"").status, 411);
        let huge = [("Content-Length", "99999999999")];
        assert_eq!(http::request(broker.admin, "POST", "/publish", &huge, b"").status, 413);
        assert_eq!(http::request(broker.admin, "POST", "/publish", &[], b"").status, 200);
    });
}

#[test]
fn a_long_body_is_published_in_order_and_every_line_answered() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut clients: Vec<_> = (0..4).map(|n| broker.market(&format!("user-{n:04}"))).collect();
        for client in &mut clients {
            client.join("trade:BTC-USDC");
        }
        let body: String = (0..3_000)
            .map(|n| format!("{{\"id\":\"{n}\",\"room\":\"trade:BTC-USDC\",\"event\":\"t\",\"data\":{n}}}\n"))
            .collect();
        let response = http::request(broker.admin, "POST", "/publish", &[], body.as_bytes());
        assert_eq!(response.status, 200);
        let text = response.text();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        for n in 0..3_000 {
            let ack = lines.next().unwrap();
            assert_eq!(
                (&ack["id"], &ack["offset"], &ack["subscribers"]),
                (&json!(format!("{n}")), &json!(n + 1), &json!(4))
            );
        }
        assert_eq!(lines.next().unwrap()["accepted"], 3_000);
        for client in &mut clients {
            for n in 0..3_000 {
                assert_eq!(client.next()["data"], n);
            }
        }
    });
}
