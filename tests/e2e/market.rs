//! The app `market` beyond rooms: event types, presence, messages between users, broadcasts (`spec/market.md`).

use serde_json::{Value, json};

use crate::support::token::token_with;
use crate::support::{Broker, Client, each_shard_count};

/// The data of what has come so far.
fn data(messages: &[Value]) -> Vec<Value> {
    messages.iter().map(|message| message["data"].clone()).collect()
}

#[test]
fn the_welcome_says_who_is_connected() {
    let broker = Broker::start(&[]);
    let token = token_with("ada-0001", json!({ "username": "Ada", "roles": ["agent"] }));
    let mut ada = Client::open(broker.public, &format!("/feed?token={token}"), &[]);
    let connected = ada.next();
    assert_eq!(connected["event"], "connected");
    let fields = &connected["data"];
    assert_eq!(fields["connectionId"].as_str().unwrap().as_bytes()[14], b'7', "a UUIDv7: {fields}");
    assert!(fields["serverVersion"].is_string());
    let timestamp = fields["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
    let authenticated = ada.next();
    assert_eq!(authenticated["event"], "authenticated");
    assert_eq!(
        authenticated["data"]["user"],
        json!({ "id": "ada-0001", "username": "Ada", "roles": ["agent"] })
    );
    ada.expect_nothing();
}

#[test]
fn ping_is_answered_with_both_times() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    for timestamp in [json!("2025-05-20T14:30:00Z"), json!(1747751400000u64)] {
        let pong = ada.ask("ping", json!({ "timestamp": timestamp }), "pong");
        assert_eq!(pong["timestamp"], timestamp);
        assert!(pong["serverTime"].is_string(), "{pong}");
    }
    assert!(ada.ask("ping", json!({}), "pong")["serverTime"].is_string());
    // `data` may be missing altogether; unknown fields do not matter.
    ada.text(r#"{"event":"ping","more":[1,2]}"#);
    assert_eq!(ada.next()["event"], "pong");
}

#[test]
fn malformed_messages_are_answered_and_never_end_the_connection() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    let deep = format!("{{\"event\":\"ping\",\"data\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let fits = format!("{{\"event\":\"ping\",\"data\":{}{}}}", "[".repeat(60), "]".repeat(60));
    for text in [
        "",
        " ",
        "nonsense",
        "{",
        "[]",
        "7",
        "null",
        "\"ping\"",
        "{}",
        "{\"event\":7}",
        "{\"event\":null}",
        "{\"type\":\"ping\"}",
        "{\"event\":\"ping\"",
        "{\"event\":\"ping\"}}",
        "{\"event\":\"ping\",}",
        "{'event':'ping'}",
        "{\"event\":\"p\u{1}ing\"}",
        "{\"event\":\"\\ud800\"}",
        &deep,
    ] {
        ada.text(text);
        let error = ada.next();
        assert_eq!(
            (&error["event"], &error["data"]["code"]),
            (&json!("error"), &json!("INVALID_MESSAGE")),
            "{text}"
        );
        assert!(error["data"]["message"].as_str().unwrap().len() > 5, "{error}");
    }
    ada.text(fits);
    assert_eq!(ada.next()["event"], "pong");
    ada.refused("no_such_event", json!({}), "INVALID_MESSAGE");
    ada.expect_nothing();
}

#[test]
fn event_types_gather_events_of_all_rooms() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut bob, mut publisher) =
            (broker.market("ada-0001"), broker.market("bob-0001"), broker.publisher());
        let types = json!(["price_updates", "trade_notifications", "portfolio_updates", "order_updates"]);
        assert_eq!(ada.ask("subscribe", json!({ "types": types }), "subscribed"), json!({ "types": types }));
        let mut publish = |room: &str, event: &str, data: u64| {
            publisher.publish(json!({ "room": room, "event": event, "data": data }))["subscribers"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(publish("price:BTC-USDC", "price_update", 1), 1);
        assert_eq!(publish("price:ETH-USDC", "price_update", 2), 1);
        assert_eq!(publish("price:ETH-USDC", "other", 3), 0);
        assert_eq!(publish("trade:ETH-USDC", "trade_notification", 4), 1);
        assert_eq!(publish("orderbook:ETH-USDC", "order_book_update", 5), 0);
        assert_eq!(publish("portfolio:ada-0001", "portfolio_update", 6), 1);
        assert_eq!(publish("portfolio:bob-0001", "portfolio_update", 7), 0);
        assert_eq!(publish("orders:ada-0001", "order_update", 8), 1);
        assert_eq!(publish("orders:bob-0001", "order_update", 9), 0);
        assert_eq!(publish("user:ada-0001", "trade_notification", 10), 1);
        assert_eq!(publish("user:bob-0001", "trade_notification", 11), 1);
        assert_eq!(publish("user:bob-0001", "price_update", 12), 1);
        assert_eq!(data(&ada.before_pong()), [1, 2, 4, 6, 8, 10]);
        assert_eq!(data(&bob.before_pong()), [11, 12]);
        let stop = json!({ "type": "price_updates", "identifier": "" });
        assert_eq!(ada.ask("unsubscribe", stop.clone(), "unsubscribed"), stop);
        assert_eq!(publish("price:BTC-USDC", "price_update", 13), 0);
        assert_eq!(publish("trade:BTC-USDC", "trade_notification", 14), 1);
        assert_eq!(data(&ada.before_pong()), [14]);
    });
}

#[test]
fn own_events_come_by_their_type_even_when_the_own_room_was_left() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
        ada.ask(
            "subscribe",
            json!({ "types": ["trade_notifications", "order_updates", "portfolio_updates"] }),
            "subscribed",
        );
        let mut publish = |event: &str, data: u64| {
            publisher.publish(json!({ "user": "ada-0001", "event": event, "data": data }))["subscribers"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(
            (publish("trade_notification", 1), publish("order_update", 2), publish("portfolio_update", 3)),
            (1, 1, 1)
        );
        ada.send("leave_room", json!({ "room": "user:ada-0001" }));
        let before = ada.until_event("room_left");
        assert_eq!(before["data"]["room"], "user:ada-0001");
        assert_eq!(publish("notification", 4), 0);
        assert_eq!(
            (publish("trade_notification", 5), publish("order_update", 6), publish("portfolio_update", 7)),
            (1, 1, 1)
        );
        assert_eq!(data(&ada.before_pong()), [5, 6, 7]);
    });
}

#[test]
fn an_event_that_comes_two_ways_comes_once() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
        let types = json!(["price_updates", "trade_notifications", "portfolio_updates", "system_alerts"]);
        ada.join("price:BTC-USDC");
        ada.join("trade:BTC-USDC");
        ada.join("portfolio:ada-0001");
        ada.join("user:ada-0001");
        ada.ask("subscribe", json!({ "types": types }), "subscribed");
        for (target, name, event) in [
            ("room", json!("price:BTC-USDC"), "price_update"),
            ("room", json!("trade:BTC-USDC"), "trade_notification"),
            ("room", json!("portfolio:ada-0001"), "portfolio_update"),
            ("user", json!("ada-0001"), "trade_notification"),
            ("user", json!("ada-0001"), "portfolio_update"),
            ("broadcast", json!(true), "trade_notification"),
        ] {
            let ack = publisher.publish(json!({ target: name, "event": event, "data": 1 }));
            assert_eq!(ack["subscribers"], 1, "{target} {name} {event}");
            assert_eq!(ada.before_pong().len(), 1, "{target} {name} {event}");
        }
        let alert = json!({ "broadcast": true, "event": "system_alert", "data": { "level": "critical" } });
        assert_eq!(publisher.publish(alert)["subscribers"], 1);
        assert_eq!(ada.before_pong().len(), 1);
    });
}

#[test]
fn an_unknown_type_subscribes_to_none_of_the_list() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    for types in [
        json!(["price_updates", "weather"]),
        json!(["price_updates", 7]),
        json!("price_updates"),
        Value::Null,
    ] {
        ada.refused("subscribe", json!({ "types": types }), "INVALID_MESSAGE");
    }
    let ack = publisher.publish(json!({ "room": "price:BTC-USDC", "event": "price_update", "data": 1 }));
    assert_eq!(ack["subscribers"], 0);
    ada.expect_nothing();
}

#[test]
fn alerts_go_to_those_who_want_them_and_critical_ones_to_all() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut bob, mut phone, mut publisher) = (
            broker.market("ada-0001"),
            broker.market("bob-0001"),
            broker.account("eve-0001"),
            broker.publisher(),
        );
        ada.ask("subscribe", json!({ "types": ["system_alerts"] }), "subscribed");
        let mut alert = |level: &str| {
            let line = json!({ "broadcast": true, "event": "system_alert", "data": { "level": level, "message": "…" } });
            publisher.publish(line)["subscribers"].as_u64().unwrap()
        };
        assert_eq!((alert("info"), alert("warning"), alert("critical")), (1, 1, 3));
        let levels: Vec<Value> =
            ada.before_pong().iter().map(|alert| alert["data"]["level"].clone()).collect();
        assert_eq!(levels, ["info", "warning", "critical"]);
        let levels: Vec<Value> =
            bob.before_pong().iter().map(|alert| alert["data"]["level"].clone()).collect();
        assert_eq!(levels, ["critical"]);
        assert_eq!(
            phone.next(),
            json!({ "type": "system_alert", "data": { "level": "critical", "message": "…" } })
        );
    });
}

#[test]
fn a_broadcast_reaches_every_connection_and_app_narrows_it() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut feeds: Vec<Client> = (0..4).map(|n| broker.market(&format!("feed-{n:04}"))).collect();
        let mut phones: Vec<Client> = (0..4).map(|n| broker.account(&format!("{n}"))).collect();
        let mut publisher = broker.publisher();
        let mut publish = |line: Value| publisher.publish(line)["subscribers"].as_u64().unwrap();
        assert_eq!(publish(json!({ "broadcast": true, "event": "a", "data": 1 })), 8);
        assert_eq!(publish(json!({ "broadcast": true, "event": "b", "data": 2, "app": "market" })), 4);
        assert_eq!(publish(json!({ "broadcast": true, "event": "c", "data": 3, "app": "account" })), 4);
        assert_eq!(publish(json!({ "broadcast": true, "event": "d", "data": 4, "app": "mobile" })), 0);
        assert_eq!(publish(json!({ "user": "0", "event": "e", "data": 5, "app": "market" })), 0);
        assert_eq!(publish(json!({ "broadcast": true, "event": "end", "data": 6 })), 8);
        for feed in &mut feeds {
            assert_eq!(data(&feed.before_pong()), [1, 2, 6]);
        }
        for phone in &mut phones {
            let events: Vec<Value> = (0..3).map(|_| phone.next()["type"].clone()).collect();
            assert_eq!(events, ["a", "c", "end"]);
        }
    });
}

#[test]
fn messages_between_users_arrive_with_their_sender() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut ada = broker.market("ada-0001");
        let mut bobs = [broker.market("bob-0001"), broker.market("bob-0001")];
        ada.send("direct_message", json!({ "to": "bob-0001", "message": { "text": "hello", "n": 1 } }));
        for bob in &mut bobs {
            let message = bob.next();
            assert_eq!(message["event"], "direct_message");
            let data = &message["data"];
            assert_eq!(
                (&data["from"], &data["message"]),
                (&json!("ada-0001"), &json!({ "text": "hello", "n": 1 }))
            );
            assert_eq!(data["timestamp"].as_str().unwrap().len(), 24);
            bob.expect_nothing();
        }
        ada.expect_nothing();
        for bad in [
            json!({}),
            json!({ "to": "bob-0001" }),
            json!({ "message": "x" }),
            json!({ "to": "", "message": "x" }),
        ] {
            ada.refused("direct_message", bad, "INVALID_MESSAGE");
        }
    });
}

#[test]
fn room_messages_reach_the_other_members_of_rooms_that_allow_them() {
    each_shard_count(|shards| {
        let rooms = "rooms = [{ prefix = \"desk\", pattern = \"[a-z]{2,20}\", policy = \"every\", join = \"authenticated\" }]";
        let broker = Broker::start(&[shards, rooms]);
        let trader = |user: &str| {
            Client::market_with(broker.public, &token_with(user, json!({ "rooms": ["desk:*", "price:*"] })))
        };
        let (mut ada, mut bob, mut eve) = (trader("ada-0001"), trader("bob-0001"), broker.market("eve-0001"));
        for client in [&mut ada, &mut bob, &mut eve] {
            client.join("desk:fx");
        }
        ada.send("room_message", json!({ "roomId": "desk:fx", "message": "hi" }));
        for other in [&mut bob, &mut eve] {
            let message = other.next();
            assert_eq!(message["event"], "room_message");
            let data = &message["data"];
            assert_eq!(
                (&data["room"], &data["from"], &data["message"]),
                (&json!("desk:fx"), &json!("ada-0001"), &json!("hi"))
            );
            assert_eq!(data["timestamp"].as_str().unwrap().len(), 24);
        }
        ada.expect_nothing();
        // No claim, no word; and never in market data rooms, whatever the claim says.
        eve.refused("room_message", json!({ "room": "desk:fx", "message": "hi" }), "ACCESS_DENIED");
        for room in ["price:BTC-USDC", "trade:BTC-USDC", "orderbook:BTC-USDC", "chart:BTC", "user:bob-0001"] {
            ada.refused("room_message", json!({ "room": room, "message": "hi" }), "ACCESS_DENIED");
        }
        ada.refused("room_message", json!({ "room": "nothing:X", "message": "hi" }), "ROOM_NOT_FOUND");
        ada.refused("room_message", json!({ "room": "desk:fx" }), "INVALID_MESSAGE");
        ada.refused("room_message", json!({ "message": "hi" }), "INVALID_MESSAGE");
        // The own room: the user's other connections.
        let mut tablet = broker.market("ada-0001");
        ada.send("room_message", json!({ "room": "user:ada-0001", "message": "note to self" }));
        let message = tablet.next();
        assert_eq!(
            (&message["event"], &message["data"]["room"]),
            (&json!("room_message"), &json!("user:ada-0001"))
        );
        for client in [&mut ada, &mut bob, &mut eve, &mut tablet] {
            client.expect_nothing();
        }
    });
}

#[test]
fn presence_tells_now_and_from_then_on() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, bob) = (broker.market("ada-0001"), broker.market("bob-0001"));
        ada.send("presence", json!({ "userIds": ["bob-0001", "eve-0001", "ada-0001"] }));
        let presence = ada.next();
        assert_eq!(presence["event"], "presence");
        let users = presence["data"]["users"].as_array().unwrap();
        let online =
            |user: &str| users.iter().find(|entry| entry["userId"] == user).unwrap()["online"].clone();
        assert_eq!(
            (users.len(), online("bob-0001"), online("eve-0001"), online("ada-0001")),
            (3, json!(true), json!(false), json!(true))
        );
        let eve = broker.account("eve-0001");
        let update = ada.next();
        assert_eq!(update["event"], "presence_update");
        assert_eq!(
            (&update["data"]["userId"], &update["data"]["online"]),
            (&json!("eve-0001"), &json!(true))
        );
        assert!(update["data"]["timestamp"].is_string());
        // A second connection changes nothing; nor does a reconnect within the grace.
        let second = broker.market("eve-0001");
        eve.close();
        second.close();
        let back = broker.market("eve-0001");
        ada.expect_nothing();
        bob.close();
        let update = ada.next();
        assert_eq!(
            (&update["event"], &update["data"]["userId"]),
            (&json!("presence_update"), &json!("bob-0001"))
        );
        assert_eq!(update["data"]["online"], false);
        ada.send("presence", json!({ "userIds": ["bob-0001", "eve-0001"] }));
        let presence = ada.next();
        let users = presence["data"]["users"].as_array().unwrap();
        let entry = |user: &str| users.iter().find(|entry| entry["userId"] == user).unwrap().clone();
        assert_eq!(entry("bob-0001")["online"], false);
        assert!(entry("bob-0001")["lastSeen"].as_str().unwrap().ends_with('Z'), "{presence}");
        assert_eq!(entry("eve-0001")["online"], true);
        drop(back);
    });
}

#[test]
fn presence_takes_at_most_a_hundred_users() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    let ids = |count: usize| (0..count).map(|n| format!("user-{n:04}")).collect::<Vec<_>>();
    ada.send("presence", json!({ "userIds": ids(100) }));
    assert_eq!(ada.next()["data"]["users"].as_array().unwrap().len(), 100);
    ada.refused("presence", json!({ "userIds": ids(101) }), "INVALID_MESSAGE");
    for bad in [json!({}), json!({ "userIds": "ada" }), json!({ "userIds": [true] })] {
        ada.refused("presence", bad, "INVALID_MESSAGE");
    }
    assert_eq!(ada.ask("presence", json!({ "userIds": [] }), "presence")["users"], json!([]));
}
