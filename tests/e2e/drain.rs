//! The graceful shutdown (`spec/operations.md`, "Shutdown").

use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Broker, Client, each_shard_count, eventually, http};

#[test]
fn a_drain_tells_the_clients_and_ends_with_0_and_the_ports_are_free_at_once() {
    each_shard_count(|shards| {
        let mut broker = Broker::start(&[shards]);
        let mut feeds: Vec<Client> = (0..6).map(|n| broker.market(&format!("user-{n:04}"))).collect();
        let mut phone = broker.account("1234");
        let _idle = http::connect(broker.public);
        let mut publisher = broker.publisher();
        feeds[0].join("trade:BTC-USDC");
        publisher.publish(json!({ "room": "trade:BTC-USDC", "event": "t", "data": 1 }));
        broker.signal(Signal::TERM);
        assert_eq!(feeds[0].next()["data"], 1);
        for feed in &mut feeds {
            let (code, _, texts) = feed.closed();
            assert_eq!(code, 1001);
            assert_eq!(texts.len(), 1, "{texts:?}");
            assert_eq!(
                (&texts[0]["event"], &texts[0]["data"]["code"]),
                (&json!("connection:closed"), &json!(1001))
            );
        }
        assert!(phone.expect_close(1001).is_empty());
        drop((feeds, phone));
        assert_eq!(broker.wait().code(), Some(0));
        let again = Broker::start(&[
            shards,
            &format!("listen = [\"{}\"]", broker.public),
            &format!("ingest.listen = \"{}\"", broker.ingest),
            &format!("admin.listen = \"{}\"", broker.admin),
        ]);
        assert_eq!(again.public, broker.public);
        again.market("user-0001");
    });
}

#[test]
fn while_it_drains_it_is_not_ready_and_takes_nobody_in() {
    each_shard_count(|shards| {
        let mut broker = Broker::start(&[shards, "drain.seconds = 3"]);
        assert_eq!(broker.get("/readyz").status, 200);
        let mut feeds: Vec<Client> = (0..30).map(|n| broker.market(&format!("user-{n:04}"))).collect();
        let response = http::request(broker.admin, "POST", "/drain", &[], b"");
        assert_eq!(response.status, 202);
        assert_eq!(broker.get("/readyz").status, 503);
        assert_eq!(broker.get("/healthz").status, 200);
        let response = http::request(broker.admin, "POST", "/publish", &[], b"{}");
        assert_eq!((response.status, response.code().as_str()), (503, "DRAINING"));
        eventually("closed listeners", || TcpStream::connect(broker.public).is_err().then_some(()));
        eventually("a closed ingest listener", || TcpStream::connect(broker.ingest).is_err().then_some(()));
        // They are told one after the other: the first at once, the last at the end.
        let started = std::time::Instant::now();
        let mut times: Vec<_> = feeds
            .iter_mut()
            .map(|feed| {
                feed.expect_close(1001);
                started.elapsed()
            })
            .collect();
        times.sort();
        drop(feeds);
        assert!(times[29].as_millis() > 1_000, "{times:?}");
        assert_eq!(broker.wait().code(), Some(0));
    });
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut broker = Broker::start(&["drain.seconds = 3600"]);
    let _clients: Vec<Client> = (0..10).map(|n| broker.market(&format!("user-{n:04}"))).collect();
    broker.signal(Signal::INT);
    eventually("the drain", || (broker.get("/readyz").status == 503).then_some(()));
    broker.signal(Signal::TERM);
    assert!(broker.wait().code().is_some_and(|code| code != 0));
}

#[test]
fn a_client_that_does_not_read_does_not_keep_the_broker_from_ending() {
    let mut broker = Broker::start(&[]);
    let mut slow = broker.market("slow-0001");
    slow.join("trade:BTC-USDC");
    let mut publisher = broker.publisher();
    let text = "x".repeat(30_000);
    while broker.metric("fanfare_outbox_bytes", &[]) == 0.0 {
        for _ in 0..10 {
            publisher.publish(json!({ "room": "trade:BTC-USDC", "event": "t", "data": text }));
        }
    }
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait().code(), Some(0));
}
