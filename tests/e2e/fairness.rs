//! Nobody keeps the router to itself, and nothing that was asked of it is forgotten.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::support::{Broker, Client, each_shard_count, http, token::token};

/// Sends the same bytes again and again while the test runs.
fn flood<T>(mut stream: TcpStream, bytes: &[u8], test: impl FnOnce() -> T) -> T {
    use std::io::Write;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        scope.spawn(move || while !is_over.load(Ordering::Relaxed) && stream.write_all(bytes).is_ok() {});
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        is_over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_publisher_that_never_pauses_does_not_keep_others_from_publishing() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        // More lines in what is read at once than a turn may take, so that there is always something left over.
        let lines = "{\"room\":\"trade:A-B\",\"event\":\"e\"}\n".repeat(20_000);
        flood(http::connect(broker.ingest), lines.as_bytes(), || {
            let mut other = broker.publisher();
            for number in 0..20 {
                other.publish(json!({ "room": "trade:AA-BB", "event": "e", "data": number }));
            }
        });
    });
}

#[test]
fn a_long_posting_is_answered_whole() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let _ada = broker.market("ada-0001");
        let lines: String = (0..10_000)
            .map(|id| format!("{{\"id\":\"{id}\",\"user\":\"ada-0001\",\"event\":\"e\",\"data\":{id}}}\n"))
            .collect();
        let answer = http::request(broker.admin, "POST", "/publish", &[], lines.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        // One for each line, and the summary.
        assert_eq!(answer.text().lines().count(), 10_001);
    });
}

#[test]
fn of_several_forwarded_addresses_the_last_one_counts() {
    let broker =
        Broker::start(&["trusted_proxies = [\"127.0.0.0/8\"]", "limits.connects_per_address = \"2/1h\""]);
    let path = format!("/feed?token={}", token("ada-0001"));
    let open = |own_word: &str| {
        // A proxy may add a field of its own behind the client's.
        let fields = [("X-Forwarded-For", own_word), ("X-Forwarded-For", "203.0.113.9")];
        Client::try_open(broker.public, &path, &fields).map(drop).map_err(|response| response.status)
    };
    assert_eq!((open("198.51.100.1"), open("198.51.100.2")), (Ok(()), Ok(())));
    assert_eq!(open("198.51.100.3"), Err(429));
}

#[test]
fn nonsense_is_answered_only_so_often() {
    let broker = Broker::start(&["limits.control = \"5/1h\""]);
    for mut client in [broker.market("ada-0001"), broker.account("bob-0001")] {
        // No JSON, no object, no event.
        for text in ["{", "[]", "{}", "1", "\"\""].iter().cycle().take(15) {
            client.text(text);
        }
        let errors = client.expect_close(1008);
        let codes = errors.iter().filter_map(|error| error["data"]["code"].as_str());
        let (invalid, limited): (Vec<_>, Vec<_>) = codes.partition(|code| *code == "INVALID_MESSAGE");
        assert_eq!((invalid.len(), limited.len()), (5, 10), "{errors:?}");
    }
}

#[test]
fn alerts_come_in_order_whoever_they_are_for() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut clients: Vec<_> = (0..12).map(|user| broker.market(&format!("user-{user:04}"))).collect();
        for client in &mut clients {
            client.ask("subscribe", json!({ "types": ["system_alerts"] }), "subscribed");
        }
        let lines: String = (0..100)
            .map(|number| {
                let level = if number % 3 == 1 { "critical" } else { "info" };
                let data = json!({ "level": level, "number": number });
                format!("{}\n", json!({ "broadcast": true, "event": "system_alert", "data": data }))
            })
            .collect();
        assert_eq!(http::request(broker.admin, "POST", "/publish", &[], lines.as_bytes()).status, 200);
        for client in &mut clients {
            let numbers: Vec<u64> =
                (0..100).map(|_| client.next()["data"]["number"].as_u64().unwrap()).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
        }
    });
}
