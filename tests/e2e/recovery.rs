//! Connection state recovery (`spec/market.md`, "Socket.IO, completely"; `spec/decisions.md` 9): who comes back in time has
//! its rooms, and gets each event it missed once and in order.

use serde_json::{Value, json};

use crate::support::polling::Polling;
use crate::support::raw::Random;
use crate::support::socketio::{Socket, Transport, each_transport};
use crate::support::token::{token, token_with};
use crate::support::{Broker, Publisher, each_shard_count, eventually};

const ROOM: &str = "trade:BTC-USDC";

/// With one shard and with three, on both transports; each has a broker of its own.
fn each_way(lines: &[&str], test: impl Fn(&Broker, Transport)) {
    each_shard_count(|shards| {
        each_transport(|transport| {
            let mut all = vec![shards, "limits.control = \"off\"", "limits.connections_per_user = \"off\""];
            all.extend(lines);
            test(&Broker::start(&all), transport);
        });
    });
}

fn publish(publisher: &mut Publisher, room: &str, data: u64) {
    publisher.publish(json!({ "room": room, "event": "numbered", "data": data }));
}

/// The numbers of the next events.
#[track_caller]
fn numbers(socket: &mut Socket, count: usize) -> Vec<u64> {
    (0..count).map(|_| socket.next()[1].as_u64().unwrap()).collect()
}

/// Waits until the broker has noticed that a client is lost.
#[track_caller]
fn wait_for_loss(broker: &Broker) {
    broker.wait_for_metric("fanfare_recoverable_sessions", &[], 1.0);
}

#[test]
fn a_client_that_is_cut_off_again_and_again_misses_nothing() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join(ROOM);
        publish(&mut publisher, ROOM, 0);
        assert_eq!(numbers(&mut ada, 1), [0]);
        for round in 1..=3 {
            let lost = ada.cut();
            // Noticed or not when the events come: both must do.
            if round != 2 {
                wait_for_loss(broker);
            }
            (0..4).for_each(|n| publish(&mut publisher, ROOM, round * 10 + n));
            ada = lost.recover(broker.public, transport);
            publish(&mut publisher, ROOM, round * 10 + 4);
            assert_eq!(numbers(&mut ada, 5), Vec::from_iter(round * 10..round * 10 + 5));
        }
        ada.expect_nothing();
        assert_eq!(broker.metric("fanfare_connections_recovered_total", &[]), 3.0);
        drop(ada);
    });
}

#[test]
fn a_client_may_change_its_transport_when_it_comes_back() {
    each_way(&[], |broker, transport| {
        let other = match transport {
            Transport::WebSocket => Transport::Polling,
            Transport::Polling => Transport::WebSocket,
        };
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join(ROOM);
        let lost = ada.cut();
        publish(&mut publisher, ROOM, 1);
        let mut ada = lost.recover(broker.public, other);
        assert_eq!(numbers(&mut ada, 1), [1]);
        ada.expect_nothing();
    });
}

#[test]
fn a_client_that_is_cut_off_right_after_its_first_connect_is_recovered() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let lost = Socket::recoverable(broker.public, transport, "ada-0001").cut();
        publisher.publish(json!({ "user": "ada-0001", "event": "numbered", "data": 1 }));
        let mut ada = lost.recover(broker.public, transport);
        assert_eq!(numbers(&mut ada, 1), [1]);
        // And again, with nothing missed.
        let lost = ada.cut();
        lost.recover(broker.public, transport).expect_nothing();
    });
}

#[test]
fn what_cannot_be_recovered_whole_is_not_recovered() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join(ROOM);
        let mut publish_many = |count: u64| {
            for number in 1..count {
                publisher.send(json!({ "room": ROOM, "event": "n", "data": number }));
            }
            publisher.publish(json!({ "room": ROOM, "event": "n", "data": count }));
        };
        let lost = ada.cut();
        wait_for_loss(broker);
        publish_many(1_000);
        let mut ada = lost.recover(broker.public, transport);
        assert_eq!(numbers(&mut ada, 1_000), Vec::from_iter(1..=1_000));
        let lost = ada.cut();
        wait_for_loss(broker);
        publish_many(1_001);
        // A new session, without any of the events and without the rooms.
        let mut ada = lost.begin_anew(broker.public, transport);
        publish_many(1);
        ada.expect_nothing();
        assert_eq!(broker.metric("fanfare_connections_recovered_total", &[]), 1.0);
    });
}

#[test]
fn who_does_not_ask_gets_no_pid_and_no_further_argument() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::open(broker.public, transport);
        let answer = ada.connect(json!({ "token": token("ada-0001") })).unwrap();
        assert_eq!(Vec::from_iter(answer.as_object().unwrap().keys()), ["sid"]);
        assert_eq!(ada.next().as_array().unwrap().len(), 2);
        assert_eq!(ada.next().as_array().unwrap().len(), 2);
        ada.join(ROOM);
        publish(&mut publisher, ROOM, 1);
        assert_eq!(ada.next(), json!(["numbered", 1]));
        // It may show any name: there is nothing to come back to.
        let mut lost = ada.cut();
        lost.auth["recover"] = json!(true);
        lost.auth["pid"] = json!("AAAAAAAAAAAAAAAAAAAAAA");
        lost.begin_anew(broker.public, transport);
    });
}

#[test]
fn the_query_may_ask_for_recovery_too() {
    let broker = Broker::start(&[]);
    each_transport(|transport| {
        let mut ada = match transport {
            Transport::Polling => Socket::over(Polling::open(broker.public, "/socket.io/", "&recover=1")),
            Transport::WebSocket => Socket::open_with(broker.public, transport, "&recover=1", &[]),
        };
        ada.enter(json!({ "token": token("ada-0001") }));
        assert!(ada.pid.is_some() && ada.offset.is_some());
    });
}

#[test]
fn recovery_can_be_switched_off() {
    for line in ["socketio.recovery = \"off\"", "socketio.recovery_namespaces = []"] {
        let broker = Broker::start(&[line]);
        let mut ada = Socket::open(broker.public, Transport::WebSocket);
        ada.enter(json!({ "token": token("ada-0001"), "recover": true }));
        assert_eq!((&ada.pid, &ada.offset), (&None, &None));
    }
}

#[test]
fn nobody_gets_the_session_of_another_user() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join(ROOM);
        let lost = ada.cut();
        wait_for_loss(broker);
        publish(&mut publisher, ROOM, 1);
        publisher.publish(json!({ "user": "ada-0001", "event": "numbered", "data": 2 }));
        let mut thief = lost.clone();
        thief.auth["token"] = json!(token("eve-0001"));
        let mut eve = thief.begin_anew(broker.public, transport);
        publish(&mut publisher, ROOM, 3);
        eve.expect_nothing();
        // Whose it is has it yet.
        let mut ada = lost.recover(broker.public, transport);
        assert_eq!(numbers(&mut ada, 3), [1, 2, 3]);
    });
}

#[test]
fn a_client_comes_back_before_its_former_connection_is_known_to_be_dead() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join(ROOM);
        publish(&mut publisher, ROOM, 1);
        assert_eq!(numbers(&mut ada, 1), [1]);
        let memory = ada.remember();
        if transport == Transport::Polling {
            ada.polling().begin_poll();
        }
        // Sent to the former connection, which the client does not read any more.
        publish(&mut publisher, ROOM, 2);
        let mut again = memory.recover(broker.public, transport);
        publish(&mut publisher, ROOM, 3);
        assert_eq!(numbers(&mut again, 2), [2, 3]);
        let before = ada.closed_after();
        assert_eq!(before, [json!(["numbered", 2])], "the former connection ends");
        again.expect_nothing();
        broker.wait_for_metric("fanfare_connections", &[], 1.0);
    });
}

#[test]
fn rooms_are_back_and_those_that_were_left_are_not() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        for room in ["trade:AA-BB", "price:AA-BB", "portfolio:ada-0001", "trade:CC-DD"] {
            ada.join(room);
        }
        ada.request("leave_room", json!({ "room": "trade:CC-DD" }));
        let lost = ada.cut();
        wait_for_loss(broker);
        let rooms = ["trade:AA-BB", "price:AA-BB", "portfolio:ada-0001", "trade:CC-DD", "trade:EE-FF"];
        for (room, number) in rooms.into_iter().zip(1..) {
            publish(&mut publisher, room, number);
        }
        let mut ada = lost.recover(broker.public, transport);
        for (room, number) in rooms.into_iter().zip(11..) {
            publish(&mut publisher, room, number);
        }
        assert_eq!(numbers(&mut ada, 6), [1, 2, 3, 11, 12, 13]);
        ada.expect_nothing();
        // They can be left like any others.
        ada.request("leave_room", json!({ "room": "trade:AA-BB" }));
        publish(&mut publisher, "trade:AA-BB", 21);
        ada.expect_nothing();
    });
}

#[test]
fn a_room_that_a_new_token_does_not_grant_is_not_back() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.publisher();
    let mut ada = Socket::open(broker.public, Transport::WebSocket);
    let granted = token_with("ada-0001", json!({ "rooms": ["portfolio:bob-0001"] }));
    ada.enter(json!({ "token": granted, "recover": true }));
    ada.join("portfolio:bob-0001");
    ada.join(ROOM);
    let mut lost = ada.cut();
    wait_for_loss(&broker);
    publish(&mut publisher, "portfolio:bob-0001", 1);
    publish(&mut publisher, ROOM, 2);
    lost.auth["token"] = json!(token("ada-0001"));
    let mut ada = lost.recover(broker.public, Transport::WebSocket);
    publish(&mut publisher, "portfolio:bob-0001", 3);
    assert_eq!(numbers(&mut ada, 1), [2]);
    ada.expect_nothing();
}

#[test]
fn what_a_client_has_said_itself_is_not_said_to_it_when_it_is_back() {
    let rooms = "rooms = [{ prefix = \"desk\", pattern = \"[a-z]{2,20}\", policy = \"every\", join = \"authenticated\" }]";
    each_way(&[rooms], |broker, transport| {
        let trader = |user: &str| {
            let mut socket = Socket::open(broker.public, transport);
            let token = token_with(user, json!({ "rooms": ["desk:*"] }));
            socket.enter(json!({ "token": token, "recover": true }));
            socket.join("desk:fx");
            socket
        };
        let (mut ada, mut bob) = (trader("ada-0001"), trader("bob-0001"));
        let say = |socket: &mut Socket, message: &str| {
            let answer = socket.ask("room_message", json!({ "room": "desk:fx", "message": message }));
            assert_eq!(answer["message"], message, "{answer}");
        };
        say(&mut ada, "hello");
        say(&mut ada, "bob?");
        assert_eq!([bob.next()[1]["message"].clone(), bob.next()[1]["message"].clone()], ["hello", "bob?"]);
        let lost = ada.cut();
        wait_for_loss(broker);
        say(&mut bob, "ada?");
        let mut ada = lost.recover(broker.public, transport);
        let message = ada.next();
        assert_eq!((&message[0], &message[1]["message"]), (&json!("room_message"), &json!("ada?")));
        // It is who it was: it does not hear itself.
        say(&mut ada, "here");
        assert_eq!(bob.next()[1]["message"], "here");
        ada.expect_nothing();
    });
}

#[test]
fn rooms_of_policy_latest_give_their_newest_values() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join("price:AA-BB");
        ada.join("price:CC-DD");
        ada.join("orderbook:AA-BB");
        publish(&mut publisher, "price:AA-BB", 1);
        publish(&mut publisher, "price:CC-DD", 2);
        assert_eq!(numbers(&mut ada, 2), [1, 2]);
        let lost = ada.cut();
        wait_for_loss(broker);
        // More than any history holds.
        for number in 10..2_000 {
            publisher.send(json!({ "room": "price:AA-BB", "event": "numbered", "data": number }));
        }
        for (key, number) in [("bids", 3), ("asks", 4), ("bids", 5)] {
            let line = json!({ "room": "orderbook:AA-BB", "event": "numbered", "key": key, "data": number });
            publisher.publish(line);
        }
        publish(&mut publisher, "price:AA-BB", 6);
        let mut ada = lost.recover(broker.public, transport);
        let mut found = numbers(&mut ada, 3);
        // Where values had been replaced before it was lost, all are given again: values of a room have no order to keep.
        if transport == Transport::Polling && found[0] == 2 {
            found.remove(0);
            found.extend(numbers(&mut ada, 1));
        }
        assert_eq!(found, [4, 5, 6]);
        ada.expect_nothing();
    });
}

#[test]
fn who_leaves_does_not_come_back() {
    each_way(&[], |broker, transport| {
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.send("41");
        broker.wait_for_metric("fanfare_connections", &[], 0.0);
        let lost = ada.cut();
        lost.begin_anew(broker.public, transport);
        // Nor who was sent away.
        let mut bob = Socket::recoverable(broker.public, transport, "bob-0001");
        let memory = bob.remember();
        let line = json!({ "op": "disconnect", "user": "bob-0001", "code": 4001, "reason": "enough" });
        assert_eq!(broker.publisher().ask(line)["connections"], 1);
        assert_eq!(bob.closed(), ["41"]);
        memory.begin_anew(broker.public, transport);
    });
}

#[test]
fn events_by_type_and_events_of_the_user_are_recovered_too() {
    each_way(&[], |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        let types = ["trade_notifications", "order_updates", "system_alerts", "price_updates"];
        ada.request("subscribe", json!({ "types": types }));
        ada.request("presence", json!({ "userIds": ["bob-0001"] }));
        let lost = ada.cut();
        wait_for_loss(broker);
        let mut bob = broker.market("bob-0001");
        let alert = |level: &str| json!({ "broadcast": true, "event": "system_alert", "data": level });
        let critical = json!({ "broadcast": true, "event": "system_alert", "data": { "level": "critical" } });
        for line in [
            json!({ "room": "trade:AA-BB", "event": "trade_notification", "data": 1 }),
            json!({ "room": "trade:AA-BB", "event": "other", "data": "not hers" }),
            json!({ "room": "orders:ada-0001", "event": "order_update", "data": 2 }),
            json!({ "room": "orders:bob-0001", "event": "order_update", "data": "not hers" }),
            json!({ "user": "ada-0001", "event": "notification", "data": 3 }),
            json!({ "user": "bob-0001", "event": "notification", "data": "not hers" }),
            alert("info"),
            critical.clone(),
            json!({ "broadcast": true, "event": "news", "data": 4 }),
            json!({ "broadcast": true, "event": "news", "data": "not hers", "app": "account" }),
            json!({ "user": "ada-0001", "event": "trade_notification", "data": 5 }),
            json!({ "room": "price:AA-BB", "event": "price_update", "data": 6 }),
        ] {
            publisher.publish(line);
        }
        bob.until_event("notification");
        let mut ada = lost.recover(broker.public, transport);
        let found: Vec<Value> = (0..9).map(|_| ada.next()).collect();
        let (presence, found): (Vec<Value>, Vec<Value>) =
            found.into_iter().partition(|event| event[0] == "presence_update");
        assert_eq!(presence.len(), 1, "{presence:?}");
        assert_eq!(
            (&presence[0][1]["userId"], &presence[0][1]["online"]),
            (&json!("bob-0001"), &json!(true))
        );
        let expected = [
            json!(["trade_notification", 1]),
            json!(["order_update", 2]),
            json!(["notification", 3]),
            json!(["system_alert", "info"]),
            json!(["system_alert", { "level": "critical" }]),
            json!(["news", 4]),
            json!(["trade_notification", 5]),
            json!(["price_update", 6]),
        ];
        assert_eq!(found, expected);
        // And they go on.
        publisher.publish(json!({ "room": "trade:CC-DD", "event": "trade_notification", "data": 7 }));
        assert_eq!(ada.next(), json!(["trade_notification", 7]));
        ada.expect_nothing();
    });
}

#[test]
fn events_of_several_rooms_come_once_and_in_order_through_any_number_of_cuts() {
    const LAST: u64 = 800;
    each_way(&[], |broker, transport| {
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join("trade:AA-BB");
        ada.join("trade:CC-DD");
        ada.request("subscribe", json!({ "types": ["trade_notifications"] }));
        let mut publisher = broker.publisher();
        let publishing = std::thread::spawn(move || {
            for number in 1..=LAST {
                let line = match number % 5 {
                    0 => json!({ "user": "ada-0001", "event": "n", "data": number }),
                    1 => json!({ "room": "trade:AA-BB", "event": "n", "data": number }),
                    // By its room and by its type.
                    2 => json!({ "room": "trade:CC-DD", "event": "trade_notification", "data": number }),
                    3 => json!({ "broadcast": true, "event": "n", "data": number }),
                    _ => json!({ "room": "trade:EE-FF", "event": "trade_notification", "data": number }),
                };
                publisher.publish(line);
            }
        });
        let mut random = Random(0x5EED);
        let mut found = Vec::new();
        while found.len() < LAST as usize {
            let count = random.below(40).min(LAST as usize - found.len());
            found.extend(numbers(&mut ada, count));
            assert!(found.iter().copied().eq(1..=found.len() as u64), "{found:?}");
            let other = [Transport::WebSocket, transport][random.below(2)];
            ada = ada.cut().recover(broker.public, other);
        }
        publishing.join().unwrap();
        ada.expect_nothing();
    });
}

#[test]
fn a_client_that_was_silent_for_too_long_is_recovered() {
    let times = ["socketio.ping_interval = \"200ms\"", "socketio.ping_timeout = \"200ms\""];
    each_way(&times, |broker, transport| {
        let mut publisher = broker.publisher();
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join(ROOM);
        let memory = ada.remember();
        broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"ping_timeout\""], 1.0);
        wait_for_loss(broker);
        publish(&mut publisher, ROOM, 1);
        let mut again = memory.recover(broker.public, transport);
        assert_eq!(numbers(&mut again, 1), [1]);
        again.expect_nothing();
    });
}

#[test]
fn a_slow_consumer_begins_anew() {
    each_way(&["limits.outbox = 65536"], |broker, _| {
        let mut publisher = broker.publisher();
        let mut slow = Socket::recoverable(broker.public, Transport::Polling, "slow-0001");
        slow.join(ROOM);
        let text = "x".repeat(1_000);
        let mut count = 0;
        while broker.metric("fanfare_slow_consumers_total", &[]) == 0.0 {
            let data = json!({ "number": count, "text": text });
            publisher.publish(json!({ "room": ROOM, "event": "numbered", "data": data }));
            count += 1;
        }
        assert!(slow.closed().is_empty());
        // At most half an outbox is given to who comes back, and it has missed a whole one.
        slow.remember().begin_anew(broker.public, Transport::Polling);
    });
}

#[test]
fn after_its_time_a_session_is_gone() {
    each_way(&["socketio.recovery = \"3s\""], |broker, transport| {
        let mut ada = Socket::recoverable(broker.public, transport, "ada-0001");
        ada.join(ROOM);
        let lost = ada.cut();
        wait_for_loss(broker);
        broker.publisher().publish(json!({ "room": ROOM, "event": "n", "data": 1 }));
        // The router tells at the end of its turn.
        eventually("a history", || (broker.metric("fanfare_history_bytes", &[]) > 0.0).then_some(()));
        broker.wait_for_metric("fanfare_recoverable_sessions", &[], 0.0);
        lost.begin_anew(broker.public, transport).expect_nothing();
        broker.wait_for_metric("fanfare_history_bytes", &[], 0.0);
    });
}
