//! What texts may contain: sizes, escapes, odd numbers, odd names; and how much the broker remembers.

use serde_json::{Value, json};

use crate::support::token::sign;
use crate::support::{Broker, Client, each_shard_count};

#[test]
fn payloads_of_every_size_arrive_whole() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut phone, mut publisher) =
            (broker.market("42"), broker.account("42"), broker.publisher());
        ada.join("price:BTC-USDC");
        for size in [0, 1, 60, 70, 100, 120, 125, 126, 127, 1_000, 16_384, 32_768, 60_000, 65_400] {
            let text = "y".repeat(size);
            publisher.publish(json!({ "user": "42", "event": "e", "data": text }));
            assert_eq!(ada.next()["data"], text);
            assert_eq!(phone.next()["data"], text);
        }
        // The largest line there may be, and one byte more.
        let frame = json!({ "room": "price:BTC-USDC", "event": "e", "data": "" }).to_string();
        let line = |size: usize| {
            json!({ "room": "price:BTC-USDC", "event": "e", "data": "z".repeat(size - frame.len()) })
                .to_string()
        };
        publisher.send(line(65_536));
        assert_eq!(ada.next()["data"].as_str().unwrap().len(), 65_536 - frame.len());
        assert_eq!(publisher.ask(line(65_537))["error"]["code"], "MESSAGE_TOO_LARGE");
    });
}

#[test]
fn names_with_quotes_and_letters_of_any_script_are_escaped_where_they_must_be() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let user = "a\"b\\c/ж😀";
        let token = sign(
            json!({ "sub": user, "exp": crate::support::token::now() + 60, "username": "A \"quoted\" ü" }),
        );
        let mut ada = Client::open(broker.public, &format!("/feed?token={token}"), &[]);
        assert_eq!(ada.next()["event"], "connected");
        assert_eq!(ada.next()["data"]["user"], json!({ "id": user, "username": "A \"quoted\" ü" }));
        let mut bob = broker.market("bob-0001");
        ada.send("direct_message", json!({ "to": "bob-0001", "message": "\u{1F600} \" \\ \n" }));
        let data = bob.next()["data"].clone();
        assert_eq!((&data["from"], &data["message"]), (&json!(user), &json!("\u{1F600} \" \\ \n")));
        bob.send("direct_message", json!({ "to": user, "message": "back" }));
        assert_eq!(ada.next()["data"]["message"], "back");
        bob.send("presence", json!({ "userIds": [user] }));
        assert_eq!(bob.next()["data"]["users"][0], json!({ "userId": user, "online": true }));
        ada.join("orders:a\"b\\c/ж😀");
        let mut publisher = broker.publisher();
        let ack = publisher.publish(json!({ "user": user, "event": "q\"uote \\ ж", "data": 1 }));
        assert_eq!((&ack["user"], &ack["subscribers"]), (&json!(user), &json!(1)), "{ack}");
        assert_eq!(ada.next()["event"], "q\"uote \\ ж");
        let ack = publisher.publish(json!({ "room": "trade:a\"b\\", "event": "e", "data": 1 }));
        assert_eq!(ack["room"], "trade:a\"b\\");
        let ack = publisher.publish(json!({ "broadcast": true, "event": "e", "data": 1 }));
        assert_eq!(ack["subscribers"], 2, "{ack}");
        assert_eq!(publisher.ask(json!({ "op": "presence", "user": user }))["connections"], 1);
        // An id with quotes comes back as it was.
        let ack = publisher.ask(json!({ "id": "i\"d \\", "room": "trade:X", "event": "e", "data": 1 }));
        assert_eq!(ack["id"], "i\"d \\");
        let error =
            publisher.ask(json!({ "id": "i\"d \\", "room": "nothing \"here\"", "event": "e", "data": 1 }));
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!("i\"d \\"), &json!("ROOM_NOT_FOUND")));
    });
}

#[test]
fn an_event_whose_name_is_written_with_escapes_is_the_same_event() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    ada.ask("subscribe", json!({ "types": ["price_updates"] }), "subscribed");
    publisher.send(r#"{"id":"1","room":"price:BTC-USDC","event":"price\u005fupdate","data":1}"#);
    assert_eq!(publisher.reply()["subscribers"], 1);
    assert_eq!(ada.next()["event"], "price_update");
    // So are members of a client's message.
    ada.text(r#"{"ev\u0065nt":"p\u0069ng","data":{"timestamp":7}}"#);
    assert_eq!(ada.next()["data"]["timestamp"], 7);
}

#[test]
fn clocks_of_publishers_may_be_wrong() {
    let mut broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    for ts in ["0", "-1", "9223372036854775807", "-9223372036854775808", "1723161254347673567"] {
        publisher.send(format!("{{\"user\":\"ada-0001\",\"event\":\"e\",\"data\":1,\"ts\":{ts}}}"));
        assert_eq!(ada.next()["event"], "e", "{ts}");
    }
    for ts in ["9223372036854775808", "1e3", "\"1\"", "true"] {
        let error =
            publisher.ask(format!("{{\"user\":\"ada-0001\",\"event\":\"e\",\"data\":1,\"ts\":{ts}}}"));
        assert_eq!(error["error"]["code"], "INVALID_MESSAGE", "{ts}");
    }
    broker.wait_for_metric("fanfare_end_to_end_seconds_count", &[], 5.0);
    assert!(broker.is_running());
}

#[test]
fn nesting_is_allowed_to_64_and_no_deeper() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    let line = |depth: usize| {
        format!(
            "{{\"user\":\"ada-0001\",\"event\":\"e\",\"data\":{}{}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    // The line itself is one level.
    publisher.send(line(63));
    assert_eq!(ada.next()["event"], "e");
    assert_eq!(publisher.ask(line(64))["error"]["code"], "INVALID_MESSAGE");
    assert_eq!(publisher.ask(line(30_000))["error"]["code"], "INVALID_MESSAGE");
    for (depth, answer) in [(63, "pong"), (64, "error"), (16_000, "error")] {
        ada.text(format!("{{\"event\":\"ping\",\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth)));
        assert_eq!(ada.next()["event"], answer, "{depth}");
    }
}

#[test]
fn of_too_many_rooms_the_one_published_longest_ago_is_forgotten() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.rooms = 4"]);
        let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
        let mut publish = |n: usize| {
            publisher.publish(json!({ "room": format!("price:A{}-USDC", char::from(b'A' + n as u8)), "event": "p", "data": n }))
        };
        publish(0);
        ada.join("price:AA-USDC");
        assert_eq!(ada.next()["data"], 0);
        (1..10).for_each(|n| drop(publish(n)));
        // The room with a member is not forgotten, nor its offset.
        assert_eq!(publish(0)["offset"], 2);
        assert_eq!(ada.next()["data"], 0);
        let mut bob = broker.market("bob-0001");
        bob.join("price:AA-USDC");
        assert_eq!(bob.next()["data"], 0);
        bob.join("price:AJ-USDC");
        assert_eq!(bob.next()["data"], 9);
        bob.join("price:AB-USDC");
        bob.expect_nothing();
        assert_eq!(publish(2)["offset"], 1);
    });
}

#[test]
fn keys_of_a_room_are_bounded_and_each_gives_its_newest() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut publisher = broker.publisher();
        for round in 0..2 {
            for key in 0..64 {
                let line = json!({ "room": "price:BTC-USDC", "event": "p", "key": format!("{key}"), "data": [key, round] });
                publisher.publish(line);
            }
        }
        let error = publisher
            .ask(json!({ "id": "x", "room": "price:BTC-USDC", "event": "p", "key": "one more", "data": 0 }));
        assert_eq!((&error["ok"], &error["id"]), (&json!(false), &json!("x")), "{error}");
        let error = publisher.ask(json!({ "id": "y", "room": "price:BTC-USDC", "event": "p", "data": 0 }));
        assert_eq!(error["ok"], false, "{error}");
        // Rooms of policy `every` have no keys.
        for key in 0..100 {
            publisher.publish(
                json!({ "room": "trade:BTC-USDC", "event": "t", "key": format!("{key}"), "data": key }),
            );
        }
        for user in ["ada-0001", "bob-0001"] {
            let mut client = broker.market(user);
            client.join("price:BTC-USDC");
            let mut got: Vec<Value> =
                client.before_pong().iter().map(|message| message["data"].clone()).collect();
            got.sort_by_key(|data| data[0].as_u64());
            let expected: Vec<Value> = (0..64).map(|key| json!([key, 1])).collect();
            assert_eq!(got, expected);
        }
    });
}
