//! Subscribers that do not read, and publishers that write faster than anybody can (`spec/limits.md`, "Slow consumers").

use serde_json::{Value, json};

use crate::support::tls::Authority;
use crate::support::token::token;
use crate::support::{Broker, Client, Publisher, each_shard_count, eventually, http};

/// A market client whose kernel takes little, so that it is soon stuck when it does not read.
fn slow_client(broker: &Broker, user: &str) -> Client {
    let stream = http::connect_narrow(broker.public);
    let path = format!("/feed?token={}", token(user));
    let mut client = Client::over(stream, &broker.public.to_string(), &path, &[]).unwrap();
    assert_eq!(client.next()["event"], "connected");
    assert_eq!(client.next()["event"], "authenticated");
    client
}

fn numbered(room: &str, number: u64) -> Value {
    json!({ "room": room, "event": "numbered", "data": { "number": number, "padding": "x".repeat(2_000) } })
}

fn number_of(message: &Value) -> u64 {
    message["data"]["number"].as_u64().unwrap()
}

/// Publishes numbers from `first` on, a hundred at a time, until `done`; returns the first number not published.
fn publish_until(publisher: &mut Publisher, room: &str, first: u64, mut done: impl FnMut() -> bool) -> u64 {
    let mut next = first;
    while !done() {
        assert!(next < 100_000, "never happened");
        for _ in 0..99 {
            publisher.send(numbered(room, next));
            next += 1;
        }
        publisher.publish(numbered(room, next));
        next += 1;
    }
    next
}

#[test]
fn a_stuck_subscriber_of_latest_gets_what_the_kernel_held_and_then_the_newest() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut slow, mut quick, mut publisher) =
            (slow_client(&broker, "slow-0001"), broker.market("quick-001"), broker.publisher());
        slow.join("price:BTC-USDC");
        quick.join("orderbook:BTC-USDC");
        // Until it is certainly stuck: a whole round of publishes is conflated.
        let mut conflated = 0.0;
        let next = publish_until(&mut publisher, "price:BTC-USDC", 1, || {
            let before =
                std::mem::replace(&mut conflated, broker.metric("fanfare_events_conflated_total", &[]));
            conflated >= before + 100.0
        });
        let mut last = publish_until(&mut publisher, "price:BTC-USDC", next, {
            let mut rounds = 0;
            move || {
                rounds += 1;
                rounds > 20
            }
        });
        last -= 1;
        // It holds up the rest of one frame at most, whatever was published.
        assert!(broker.metric("fanfare_outbox_bytes", &[]) < 3_000.0);
        assert_eq!(broker.metric("fanfare_slow_consumers_total", &[]), 0.0);
        // Nobody else was kept waiting.
        publisher.publish(json!({ "room": "orderbook:BTC-USDC", "event": "other", "data": 1 }));
        assert_eq!(quick.next()["event"], "other");
        let mut numbers = vec![number_of(&slow.next())];
        while *numbers.last().unwrap() != last {
            numbers.push(number_of(&slow.next()));
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let held = numbers[..numbers.len() - 1].to_vec();
        assert!(held.iter().all(|number| *number < next), "a backlog was sent: {held:?}");
        let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert_eq!(gaps, 1, "{numbers:?}");
        slow.expect_nothing();
        // And all is as before.
        publisher.publish(numbered("price:BTC-USDC", last + 1));
        assert_eq!(number_of(&slow.next()), last + 1);
        broker.wait_for_metric("fanfare_outbox_bytes", &[], 0.0);
    });
}

#[test]
fn each_key_of_a_stuck_subscriber_keeps_its_newest() {
    let broker = Broker::start(&[]);
    let (mut slow, mut publisher) = (slow_client(&broker, "slow-0001"), broker.publisher());
    slow.join("orderbook:BTC-USDC");
    publish_until(&mut publisher, "orderbook:BTC-USDC", 1, || {
        broker.metric("fanfare_events_conflated_total", &[]) > 0.0
    });
    for round in 0..50 {
        for key in ["bids", "asks", "depth"] {
            let data = json!({ "key": key, "round": round, "padding": "x".repeat(500) });
            publisher
                .publish(json!({ "room": "orderbook:BTC-USDC", "event": "book", "key": key, "data": data }));
        }
    }
    publisher.publish(json!({ "user": "slow-0001", "event": "end", "data": null }));
    let mut last = std::collections::BTreeMap::new();
    let mut count = 0;
    loop {
        let message = slow.next();
        if message["event"] == "book" {
            last.insert(message["data"]["key"].to_string(), message["data"]["round"].as_u64().unwrap());
            count += 1;
        }
        if last.len() == 3 && last.values().all(|round| *round == 49) {
            break;
        }
    }
    assert!(count < 60, "{count}");
}

#[test]
fn a_stuck_subscriber_of_every_is_closed_with_1013_and_the_others_get_all() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.outbox = 65536"]);
        let (mut slow, mut publisher) = (slow_client(&broker, "slow-0001"), broker.publisher());
        slow.join("trade:BTC-USDC");
        let mut others: Vec<Client> = (0..3).map(|n| broker.market(&format!("quick-{n:04}"))).collect();
        for other in &mut others {
            other.join("trade:BTC-USDC");
        }
        let readers: Vec<_> = others
            .into_iter()
            .map(|mut other| {
                std::thread::spawn(move || {
                    for expected in 1.. {
                        match other.next() {
                            message if message["event"] == "end" => return expected - 1,
                            message => assert_eq!(number_of(&message), expected),
                        }
                    }
                    0
                })
            })
            .collect();
        let next = publish_until(&mut publisher, "trade:BTC-USDC", 1, || {
            broker.metric("fanfare_slow_consumers_total", &[]) == 1.0
        });
        publisher.publish(json!({ "room": "trade:BTC-USDC", "event": "end", "data": null }));
        for reader in readers {
            assert_eq!(reader.join().unwrap(), next - 1);
        }
        let (code, reason, texts) = slow.closed();
        assert_eq!((code, reason.as_str()), (1013, "slow consumer"));
        // What came was whole and in order; what was queued was not sent.
        let numbers: Vec<u64> = texts.iter().map(number_of).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
        assert!((numbers.len() as u64) < next - 20);
        broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"slow_consumer\""], 1.0);
        broker.wait_for_zero();
    });
}

#[test]
fn a_publisher_is_never_blocked_for_good_and_memory_stays_bounded() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut slow: Vec<Client> = (0..4).map(|n| slow_client(&broker, &format!("slow-{n:04}"))).collect();
        for (n, client) in slow.iter_mut().enumerate() {
            client.join(["trade:BTC-USDC", "price:BTC-USDC"][n % 2]);
        }
        let before = broker.memory();
        let mut publisher = broker.publisher();
        let text = "x".repeat(30_000);
        // 60 MB, to subscribers that never read.
        for n in 0..1_000 {
            for room in ["trade:BTC-USDC", "price:BTC-USDC"] {
                publisher.send(format!(
                    "{{\"room\":\"{room}\",\"event\":\"e\",\"key\":\"{}\",\"data\":\"{text}\"}}",
                    n % 64
                ));
            }
        }
        publisher.publish(json!({ "room": "trade:BTC-USDC", "event": "e", "data": 1 }));
        let after = broker.memory();
        // 64 keys of 30 KB, an outbox of 1 MiB for each of two, and what the turns need.
        assert!(after < before + 40 * 1024 * 1024, "{before} → {after}");
        broker.wait_for_metric("fanfare_slow_consumers_total", &[], 2.0);
        drop(slow);
        broker.wait_for_zero();
    });
}

#[test]
fn a_publisher_that_does_not_read_its_acknowledgements_is_held_back_but_nobody_else() {
    let broker = Broker::start(&[]);
    let stream = crate::support::http::connect(broker.ingest);
    stream.set_nonblocking(true).unwrap();
    let mut line = 0u64;
    let mut rest: Vec<u8> = Vec::new();
    let mut silent = std::time::Instant::now();
    // Until it has been refused for half a second; bounded at 200 MB.
    while silent.elapsed().as_millis() < 500 && line < 1_000_000 {
        if rest.is_empty() {
            line += 1;
            rest = format!(
                "{{\"id\":\"greedy-{line}\",\"room\":\"trade:BTC-USDC\",\"event\":\"e\",\"data\":1}}\n"
            )
            .into_bytes();
        }
        match std::io::Write::write(&mut &stream, &rest) {
            Ok(count) => {
                rest.drain(..count);
                silent = std::time::Instant::now();
            }
            Err(_) => std::thread::yield_now(),
        }
    }
    assert!(line < 1_000_000, "nothing held it back");
    let mut other = broker.publisher();
    for n in 0..100 {
        other.publish(json!({ "room": "trade:ETH-USDC", "event": "e", "data": n }));
    }
    // When it reads at last, every line is answered in order.
    stream.set_nonblocking(false).unwrap();
    let mut greedy = Publisher::over(stream);
    for expected in 1..line {
        assert_eq!(greedy.reply()["id"], format!("greedy-{expected}"));
    }
    eventually("the publisher goes on", || greedy.try_raw(&rest).ok());
    assert_eq!(greedy.reply()["id"], format!("greedy-{line}"));
}

#[test]
fn over_tls_too_the_stuck_get_the_newest_or_are_closed() {
    each_shard_count(|shards| {
        let authority = Authority::new();
        let broker = Broker::start(&[
            shards,
            "limits.outbox = 65536",
            &format!("tls.cert = {}", authority.path("server.pem")),
            &format!("tls.key = {}", authority.path("server.key")),
        ]);
        let open = |user: &str, room: &str| {
            let stream = authority.over(http::connect_narrow(broker.public), false).unwrap();
            let path = format!("/feed?token={}", token(user));
            let mut client = Client::over(stream, "localhost", &path, &[]).unwrap();
            client.until_event("authenticated");
            client.join(room);
            client
        };
        let (mut newest, mut every) =
            (open("newest-01", "price:BTC-USDC"), open("every-001", "trade:BTC-USDC"));
        let mut publisher = broker.publisher();
        let next = publish_until(&mut publisher, "price:BTC-USDC", 1, || {
            broker.metric("fanfare_events_conflated_total", &[]) >= 200.0
        });
        publish_until(&mut publisher, "trade:BTC-USDC", 1, || {
            broker.metric("fanfare_slow_consumers_total", &[]) == 1.0
        });
        let mut numbers = vec![number_of(&newest.next())];
        while *numbers.last().unwrap() != next - 1 {
            numbers.push(number_of(&newest.next()));
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        newest.expect_nothing();
        let (code, _, texts) = every.closed();
        assert_eq!(code, 1013);
        assert!(texts.iter().map(number_of).eq(1..=texts.len() as u64));
        drop((newest, every));
        broker.wait_for_zero();
    });
}
