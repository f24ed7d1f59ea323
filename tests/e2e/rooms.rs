//! Rooms of the app `market`: joining, leaving, names, who may join, policies, delivery (`spec/market.md`).

use serde_json::{Value, json};

use crate::support::token::token_with;
use crate::support::{Broker, Client, each_shard_count};

fn price(symbol: &str, price: f64) -> Value {
    json!({ "room": format!("price:{symbol}"), "event": "price_update", "data": { "symbol": symbol, "price": price } })
}

fn trade(pair: &str, number: u64) -> Value {
    json!({ "room": format!("trade:{pair}"), "event": "trade_notification", "data": { "number": number } })
}

#[test]
fn a_subscriber_gets_what_is_published_until_it_leaves() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut bob, mut publisher) =
            (broker.market("ada-0001"), broker.market("bob-0001"), broker.publisher());
        ada.join("trade:BTC-USDC");
        bob.join("trade:BTC-USDC");
        assert_eq!(publisher.publish(trade("BTC-USDC", 1))["subscribers"], 2);
        for client in [&mut ada, &mut bob] {
            let message = client.next();
            assert_eq!(message["event"], "trade_notification");
            assert_eq!(message["data"], json!({ "number": 1 }));
            let timestamp = message["timestamp"].as_str().unwrap();
            // RFC 3339, UTC, milliseconds: 2025-05-20T14:30:00.000Z
            assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
        }
        assert_eq!(
            ada.ask("leave_room", json!({ "room": "trade:BTC-USDC" }), "room_left")["room"],
            "trade:BTC-USDC"
        );
        assert_eq!(publisher.publish(trade("BTC-USDC", 2))["subscribers"], 1);
        assert_eq!(bob.next()["data"]["number"], 2);
        publisher.publish(json!({ "user": "ada-0001", "event": "marker", "data": null }));
        assert_eq!(ada.next()["event"], "marker");
    });
}

#[test]
fn data_arrives_byte_for_byte() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    ada.join("trade:BTC-USDC");
    for data in [
        "{\"b\":1.50,\"a\":1e3,  \"c\":[ 1 ,2],\"é\":\"\\u00e9\\/\"}",
        "0.1000000000000000055511151231257827",
        "-0",
        "\"text\"",
        "[]",
        "null",
        "{\"a\":1,\"a\":2}",
    ] {
        publisher.send(format!(
            "{{\"room\":\"trade:BTC-USDC\",\"event\":\"trade_notification\",\"data\":{data}}}"
        ));
        let text = ada.next_text();
        assert!(text.contains(&format!("\"data\":{data}")), "{text} for {data}");
    }
}

#[test]
fn joining_twice_and_leaving_what_was_not_joined_are_answered() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    ada.join("trade:BTC-USDC");
    ada.join("trade:BTC-USDC");
    assert_eq!(publisher.publish(trade("BTC-USDC", 1))["subscribers"], 1);
    assert_eq!(ada.next()["data"]["number"], 1);
    ada.expect_nothing();
    for _ in 0..2 {
        ada.ask("leave_room", json!({ "roomId": "trade:BTC-USDC" }), "room_left");
    }
    assert_eq!(
        ada.ask("leave_room", json!({ "room": "trade:NEVER-JOINED" }), "room_left")["room"],
        "trade:NEVER-JOINED"
    );
    assert_eq!(publisher.publish(trade("BTC-USDC", 2))["subscribers"], 0);
}

#[test]
fn names_that_fit_no_pattern_are_not_found() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    for good in [
        "chart:BT",
        "chart:ABCDEFGHIJ",
        "trade:AA-BB",
        "price:ABCDEFGHIJ-ABCDEFGHIJ",
        "orderbook:BTC-USDC",
        "user:ada-0001",
        "portfolio:ada-0001",
        "orders:ada-0001",
    ] {
        ada.join(good);
    }
    for bad in [
        "",
        ":",
        "price",
        "price:",
        "price:BTC",
        "price:btc-usdc",
        "price:BTC-U",
        "price:B-USDC",
        "price:BTC-USDC ",
        " price:BTC-USDC",
        "price:ABCDEFGHIJK-USDC",
        "price:BTC-USDC-EUR",
        "price:BTC_USDC",
        "Price:BTC-USDC",
        "price:BTC-USDC\n",
        "price:ÄB-USDC",
        "chart:B",
        "chart:ABCDEFGHIJK",
        "chart:BTC-USDC",
        "news:abc",
        "user:short",
        "user:under_score",
        "portfolio:short",
        "orders:short",
        "conversation:123456789",
        "*",
        "price:*",
    ] {
        ada.refused("join_room", json!({ "room": bad }), "ROOM_NOT_FOUND");
    }
    let long = "x".repeat(200);
    ada.refused("join_room", json!({ "room": format!("user:{long}") }), "ROOM_NOT_FOUND");
    for bad in [json!({}), json!({ "room": 7 }), json!({ "room": null }), json!([]), json!("price:BTC-USDC")]
    {
        ada.refused("join_room", bad, "INVALID_MESSAGE");
    }
    ada.refused("subscribe_price", json!({ "symbol": "btc" }), "ROOM_NOT_FOUND");
    ada.refused("subscribe_price", json!({}), "INVALID_MESSAGE");
    ada.refused("subscribe_trades", json!({ "symbol": "BTC-USDC" }), "INVALID_MESSAGE");
}

#[test]
fn rooms_of_other_users_need_a_grant() {
    let broker = Broker::start(&[]);
    let mut ada = broker.market("ada-0001");
    for room in ["user:bob-0001", "user-bob-0001", "portfolio:bob-0001", "orders:bob-0001"] {
        ada.refused("join_room", json!({ "room": room }), "ACCESS_DENIED");
    }
    let mut admin =
        Client::market_with(broker.public, &token_with("root-0001", json!({ "roles": ["admin"] })));
    for room in ["user:bob-0001", "portfolio:bob-0001", "orders:bob-0001"] {
        admin.join(room);
    }
    let claims = json!({ "rooms": ["portfolio:bob-0001", "orders:*"], "roles": ["agent"] });
    let mut auditor = Client::market_with(broker.public, &token_with("audit-001", claims));
    auditor.join("portfolio:bob-0001");
    auditor.join("orders:bob-0001");
    auditor.join("orders:eve-0001");
    auditor.refused("join_room", json!({ "room": "portfolio:eve-0001" }), "ACCESS_DENIED");
    auditor.refused("join_room", json!({ "room": "user:bob-0001" }), "ACCESS_DENIED");
    let mut publisher = broker.publisher();
    let ack = publisher.publish(json!({ "room": "orders:bob-0001", "event": "order_update", "data": 1 }));
    assert_eq!(ack["subscribers"], 2);
    for client in [&mut admin, &mut auditor] {
        assert_eq!(client.next()["event"], "order_update");
    }
    // What is published to the user reaches whoever was let into the user's room.
    let ack = publisher.publish(json!({ "user": "bob-0001", "event": "note", "data": 1 }));
    assert_eq!(ack["subscribers"], 1);
    assert_eq!(admin.next()["event"], "note");
    auditor.expect_nothing();
}

#[test]
fn the_own_room_is_joined_from_the_start_and_can_be_left_and_joined() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        // Own rooms accept any id (decision 10), even one too short for the pattern.
        let (mut ada, mut publisher) = (broker.market("7"), broker.publisher());
        let note = || json!({ "user": "7", "event": "notification", "data": {} });
        assert_eq!(publisher.publish(note())["subscribers"], 1);
        assert_eq!(ada.next()["event"], "notification");
        assert_eq!(ada.ask("leave_room", json!({ "roomId": "user-7" }), "room_left")["room"], "user:7");
        assert_eq!(publisher.publish(note())["subscribers"], 0);
        let personal = json!({ "roomId": "user-7", "roomType": "personal" });
        assert_eq!(ada.ask("join_room", personal, "room_joined")["room"], "user:7");
        ada.join("user:7");
        ada.join("portfolio:7");
        ada.join("orders:7");
        assert_eq!(
            publisher.publish(json!({ "room": "user:7", "event": "notification", "data": 2 }))["subscribers"],
            1
        );
        assert_eq!(ada.next()["data"], 2);
        ada.expect_nothing();
    });
}

#[test]
fn a_user_has_several_connections_and_each_gets_all() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut clients: Vec<Client> = (0..4).map(|_| broker.market("ada-0001")).collect();
        let mut phone = broker.account("ada-0001");
        let mut publisher = broker.publisher();
        let ack = publisher.publish(json!({ "user": "ada-0001", "event": "note", "data": 5 }));
        assert_eq!(ack["subscribers"], 5);
        for client in &mut clients {
            assert_eq!(client.next()["data"], 5);
        }
        assert_eq!(phone.next(), json!({ "type": "note", "userId": "ada-0001", "data": 5 }));
    });
}

#[test]
fn rooms_of_policy_latest_give_the_newest_to_a_newcomer() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut publisher = broker.publisher();
        publisher.publish(price("BTC-USDC", 1.0));
        publisher.publish(price("BTC-USDC", 2.0));
        publisher.publish(trade("BTC-USDC", 1));
        publisher.publish(
            json!({ "room": "orderbook:BTC-USDC", "event": "order_book_update", "key": "bids", "data": 1 }),
        );
        publisher.publish(
            json!({ "room": "orderbook:BTC-USDC", "event": "order_book_update", "key": "asks", "data": 2 }),
        );
        publisher.publish(
            json!({ "room": "orderbook:BTC-USDC", "event": "order_book_update", "key": "bids", "data": 3 }),
        );
        // The first member brings the value from the router, later ones may have it from their shard.
        for user in ["ada-0001", "bob-0001", "eve-0001", "fay-0001"] {
            let mut client = broker.market(user);
            client.join("price:BTC-USDC");
            assert_eq!(client.next()["data"]["price"], 2.0);
            client.join("trade:BTC-USDC");
            client.expect_nothing();
            client.join("orderbook:BTC-USDC");
            let mut values =
                [client.next()["data"].as_u64().unwrap(), client.next()["data"].as_u64().unwrap()];
            values.sort_unstable();
            assert_eq!(values, [2, 3]);
            client.expect_nothing();
            // A second join says so again, and sends nothing twice that matters.
            client.send("join_room", json!({ "room": "price:BTC-USDC" }));
            assert_eq!(client.next()["event"], "room_joined");
        }
    });
}

#[test]
fn the_confirmation_comes_before_the_snapshot_and_live_events_after_it() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let address = broker.ingest;
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let feed = std::thread::spawn(move || {
            let mut publisher = crate::support::Publisher::connect(address);
            let mut number = 0;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                publisher.publish(price("BTC-USDC", f64::from(number)));
            }
        });
        let mut ada = broker.market("ada-0001");
        for _ in 0..50 {
            ada.join("price:BTC-USDC");
            let mut last = 0.0;
            for _ in 0..5 {
                let price = ada.next()["data"]["price"].as_f64().unwrap();
                assert!(price > last, "{price} after {last}");
                last = price;
            }
            ada.send("leave_room", json!({ "room": "price:BTC-USDC" }));
            ada.until_event("room_left");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        feed.join().unwrap();
    });
}

#[test]
fn a_configured_prefix_has_its_pattern_policy_and_owner() {
    let rooms = "rooms = [{ prefix = \"news\", pattern = \"[a-z]{2,20}\", policy = \"latest\", join = \"authenticated\" }, \
                 { prefix = \"diary\", pattern = \"[a-z0-9-]{4,20}\", policy = \"every\", join = \"owner\" }]";
    let broker = Broker::start(&[rooms]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    publisher.publish(json!({ "room": "news:world", "event": "headline", "data": "first" }));
    publisher.publish(json!({ "room": "news:world", "event": "headline", "data": "second" }));
    ada.join("news:world");
    assert_eq!(ada.next()["data"], "second");
    ada.refused("join_room", json!({ "room": "news:WORLD" }), "ROOM_NOT_FOUND");
    ada.join("diary:ada-0001");
    ada.refused("join_room", json!({ "room": "diary:bob-0001" }), "ACCESS_DENIED");
    ada.refused("join_room", json!({ "room": "diary:B" }), "ROOM_NOT_FOUND");
}

#[test]
fn each_subscription_event_joins_its_room() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    for (event, field, value, answer, room, kind) in [
        ("subscribe_price", "symbol", "BTC-USDC", "price_subscribed", "price:BTC-USDC", "price"),
        ("subscribe_trades", "pair", "BTC-USDC", "trades_subscribed", "trade:BTC-USDC", "trades"),
        (
            "subscribe_orderbook",
            "symbol",
            "BTC-USDC",
            "orderbook_subscribed",
            "orderbook:BTC-USDC",
            "orderbook",
        ),
        (
            "subscribe_portfolio",
            "userId",
            "ada-0001",
            "portfolio_subscribed",
            "portfolio:ada-0001",
            "portfolio",
        ),
        ("subscribe_orders", "userId", "ada-0001", "orders_subscribed", "orders:ada-0001", "orders"),
    ] {
        assert_eq!(ada.ask(event, json!({ field: value }), answer), json!({ field: value }));
        let publish = || json!({ "room": room, "event": "something", "data": event });
        assert_eq!(publisher.publish(publish())["subscribers"], 1);
        let message = ada.next();
        assert_eq!((&message["event"], &message["data"]), (&json!("something"), &json!(event)));
        let stop = json!({ "type": kind, "identifier": value });
        assert_eq!(ada.ask("unsubscribe", stop.clone(), "unsubscribed"), stop);
        assert_eq!(publisher.publish(publish())["subscribers"], 0);
    }
    ada.refused("unsubscribe", json!({ "type": "nothing", "identifier": "x" }), "INVALID_MESSAGE");
    ada.refused("unsubscribe", json!({}), "INVALID_MESSAGE");
    ada.refused("unsubscribe", json!({ "type": "price" }), "INVALID_MESSAGE");
}
