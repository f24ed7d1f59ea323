//! What operators see and do: metrics, health, statistics, the admin token, reload, refused starts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::token::{now, sign_with, token};
use crate::support::{Broker, Client, each_shard_count, eventually, http};

#[test]
fn metrics_count_what_happened() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (mut ada, mut phone) = (broker.market("ada-0001"), broker.account("1234"));
        ada.join("price:BTC-USDC");
        ada.join("trade:BTC-USDC");
        ada.refused("join_room", json!({ "room": "nothing" }), "ROOM_NOT_FOUND");
        phone.text("nonsense");
        phone.next();
        let mut publisher = broker.publisher();
        let ts = now() * 1_000_000_000;
        for n in 0..10 {
            publisher
                .publish(json!({ "room": "price:BTC-USDC", "event": "price_update", "data": n, "ts": ts }));
            ada.next();
        }
        publisher.publish(json!({ "user": "1234", "event": "e", "data": 1 }));
        phone.next();
        publisher.publish(json!({ "room": "trade:ETH-USDC", "event": "e", "data": 1 }));
        publisher.ask("nonsense");
        publisher.ask(json!({ "op": "ping" }));
        Client::try_open(broker.public, "/feed", &[]).err().unwrap();
        let is = |name: &str, labels: &[&str], value: f64| {
            broker.wait_for_metric(&format!("fanfare_{name}"), labels, value)
        };
        is("connections", &["app=\"market\"", "transport=\"websocket\""], 1.0);
        is("connections", &["app=\"account\""], 1.0);
        is("connections_opened_total", &[], 2.0);
        is("handshakes_rejected_total", &["reason=\"unauthorized\""], 1.0);
        is("messages_received_total", &["app=\"market\""], 3.0);
        is("messages_received_total", &["app=\"account\""], 1.0);
        is("messages_rejected_total", &["code=\"ROOM_NOT_FOUND\""], 1.0);
        is("messages_rejected_total", &["code=\"INVALID_MESSAGE\""], 1.0);
        is("ingest_connections", &[], 1.0);
        is("ingest_messages_total", &["result=\"accepted\""], 11.0);
        is("ingest_messages_total", &["result=\"rejected\""], 1.0);
        assert!(broker.metric("fanfare_ingest_bytes_total", &[]) > 500.0);
        is("deliveries_total", &["wire=\"native\""], 10.0);
        is("deliveries_total", &["wire=\"typed\""], 1.0);
        assert!(broker.metric("fanfare_delivered_bytes_total", &["wire=\"native\""]) > 500.0);
        assert!(broker.metric("fanfare_socket_writes_total", &["wire=\"native\""]) >= 10.0);
        assert!(broker.metric("fanfare_rooms", &[]) >= 2.0);
        is("subscriptions", &[], 2.0);
        is("fanout_seconds_count", &[], 11.0);
        is("end_to_end_seconds_count", &[], 10.0);
        assert!(broker.metric("fanfare_loop_turn_seconds_count", &[]) > 0.0);
        is("build_info", &[], 1.0);
        assert!(broker.metric("process_resident_memory_bytes", &[]) > 1_000_000.0);
        ada.close();
        drop((phone, publisher));
        broker.wait_for_zero();
        is("ingest_connections", &[], 0.0);
        is("sockets", &[], 0.0);
        is("connections_closed_total", &["app=\"market\"", "reason=\"client_closed\""], 1.0);
        is("connections_closed_total", &["app=\"account\"", "reason=\"connection_lost\""], 1.0);
    });
}

#[test]
fn metrics_have_the_form_prometheus_wants() {
    let broker = Broker::start(&[]);
    let response = broker.get("/metrics");
    assert!(response.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = response.text();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} stands twice");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(kinds.contains_key(name) || kinds.get(family) == Some(&"histogram"), "{line}");
        }
    }
    for name in [
        "connections",
        "connections_opened_total",
        "connections_closed_total",
        "handshakes_rejected_total",
        "messages_received_total",
        "messages_rejected_total",
        "ingest_connections",
        "ingest_messages_total",
        "ingest_bytes_total",
        "deliveries_total",
        "delivered_bytes_total",
        "socket_writes_total",
        "events_conflated_total",
        "slow_consumers_total",
        "outbox_bytes",
        "rooms",
        "subscriptions",
        "rate_limited_total",
        "fanout_seconds",
        "end_to_end_seconds",
        "loop_turn_seconds",
        "loop_events_total",
        "build_info",
    ] {
        assert!(kinds.contains_key(format!("fanfare_{name}").as_str()), "{name} is missing");
    }
}

#[test]
fn statistics_describe_the_broker() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut clients: Vec<Client> = (0..3).map(|n| broker.market(&format!("user-{n:04}"))).collect();
        let _phone = broker.account("1234");
        for client in &mut clients {
            client.join("price:BTC-USDC");
        }
        clients[0].join("trade:BTC-USDC");
        clients[0].ask("subscribe", json!({ "types": ["price_updates"] }), "subscribed");
        let stats = eventually("all in the statistics", || {
            let stats = broker.get("/stats").json();
            (stats["connections"]["total"] == 4 && stats["users_online"] == 4).then_some(stats)
        });
        assert_eq!(stats["connections"]["by_app"]["market"], 3);
        assert_eq!(stats["connections"]["by_app"]["account"], 1);
        assert_eq!(stats["connections"]["by_transport"]["websocket"], 4);
        let by_shard = stats["connections"]["by_shard"].as_array().unwrap();
        assert_eq!(by_shard.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 4);
        assert_eq!(stats["rooms"]["top"][0], json!({ "room": "price:BTC-USDC", "subscribers": 3 }));
        // Rooms by the names that clients know, nothing internal.
        let top = stats["rooms"]["top"].as_array().unwrap();
        assert!(top.iter().all(|room| room["room"].as_str().unwrap().contains(':')), "{top:?}");
        assert!(stats["version"].is_string() && stats["uptime_seconds"].is_u64());
    });
}

#[test]
fn the_admin_port_wants_its_token_and_no_browser() {
    let broker = Broker::start(&["admin.token = \"open sesame\""]);
    for path in ["/metrics", "/stats"] {
        let response = broker.get(path);
        assert_eq!((response.status, response.code().as_str()), (401, "AUTH_REQUIRED"), "{path}");
    }
    let ask = |method: &str, path: &str, token: &str| {
        http::request(broker.admin, method, path, &[("Authorization", token)], b"").status
    };
    assert_eq!(ask("GET", "/stats", "Bearer open sesame"), 200);
    for wrong in ["Bearer open", "Bearer open sesame!", "Basic open sesame", "Bearer ", "open sesame"] {
        assert_eq!(ask("GET", "/stats", wrong), 401, "{wrong}");
        assert_eq!(ask("POST", "/drain", wrong), 401, "{wrong}");
        assert_eq!(ask("POST", "/publish", wrong), 401, "{wrong}");
    }
    assert_eq!(ask("GET", "/nothing", "Bearer open sesame"), 404);
    assert_eq!(ask("DELETE", "/stats", "Bearer open sesame"), 405);
    let headers = [("Authorization", "Bearer open sesame"), ("Origin", "https://evil.example")];
    assert_eq!(http::request(broker.admin, "POST", "/publish", &headers, b"").status, 403);
    assert!(!broker.log().join("\n").contains("sesame"));
}

#[test]
fn a_reload_changes_keys_rates_and_origins_and_drops_nobody() {
    each_shard_count(|shards| {
        let mut broker = Broker::start(&[shards]);
        let mut ada = broker.market("ada-0001");
        let second = "another secret of at least thirty-two bytes";
        let by_second = |user: &str| {
            sign_with(
                json!({ "sub": user, "exp": now() + 60 }),
                second.as_bytes(),
                jsonwebtoken::Algorithm::HS256,
            )
        };
        let knock = |broker: &Broker, token: String, origin: &str| {
            Client::try_open(broker.public, &format!("/feed?token={token}"), &[("Origin", origin)])
                .map_or_else(|refusal| refusal.status, |_| 101)
        };
        let own = format!("http://{}", broker.public);
        assert_eq!(knock(&broker, by_second("bob-0001"), &own), 401);
        assert_eq!(knock(&broker, token("bob-0001"), "https://app.example"), 403);
        broker.reload(&[
            &format!("auth.secret = \"{second}\""),
            "allowed_origins = [\"https://app.example\"]",
            "limits.control = \"3/1h\"",
            "limits.connects_per_user = \"1/1h\"",
            "shards = 7",
        ]);
        eventually("the new key", || {
            (knock(&broker, by_second("bob-0001"), "https://app.example") == 101).then_some(())
        });
        assert_eq!(knock(&broker, by_second("bob-0001"), "https://app.example"), 429);
        assert_eq!(knock(&broker, token("eve-0001"), "https://app.example"), 401);
        assert_eq!(knock(&broker, by_second("eve-0001"), "https://other.example"), 403);
        // The client from before is there still, under the new rates.
        for _ in 0..3 {
            ada.ask("ping", json!({}), "pong");
        }
        ada.refused("ping", json!({}), "RATE_LIMITED");
        let log = broker.log().join("\n");
        assert!(log.contains("shards"), "what needs a restart is named: {log}");
        assert!(!log.contains(second));
        // A configuration with a fault changes nothing.
        broker.reload(&["limits.control = \"many\""]);
        assert_eq!(knock(&broker, by_second("fay-0001"), "https://app.example"), 101);
        assert!(broker.log().join("\n").contains("limits.control"));
    });
}

#[test]
fn a_start_that_would_be_unsafe_or_wrong_is_refused_in_plain_words() {
    let cases = [
        ("auth.secret = \"\"", "auth.secret"),
        ("auth.secret = \"short\"", "auth.secret"),
        ("ingest.listen = \"0.0.0.0:0\"", "ingest.token"),
        ("admin.listen = \"0.0.0.0:0\"", "admin.token"),
        ("limits.contrl = \"1/1s\"", "limits.control"),
        ("limits.message_size = \"big\"", "limits.message_size"),
        ("tls.cert = \"/nothing/here.pem\"", "tls.key"),
        ("listen = []", "listen"),
    ];
    for (line, named) in cases {
        let error = Broker::try_start(&[line]).err().unwrap_or_else(|| panic!("started with {line}"));
        assert!(error.contains(named) && error.contains("fanfare.toml"), "{line}: {error}");
    }
    // A port that is taken.
    let first = Broker::start(&[]);
    let error = Broker::try_start(&[&format!("listen = [\"{}\"]", first.public)]).err().unwrap();
    assert!(error.contains(&first.public.to_string()), "{error}");
}

#[test]
fn the_log_names_addresses_refusals_and_ends_and_nothing_per_message() {
    let broker = Broker::start(&[]);
    let (mut ada, mut publisher) = (broker.market("ada-0001"), broker.publisher());
    ada.join("trade:BTC-USDC");
    for n in 0..100 {
        publisher.publish(json!({ "room": "trade:BTC-USDC", "event": "t", "data": n }));
    }
    assert_eq!(broker.log().len(), 1, "{:?}", broker.log());
    Client::try_open(broker.public, "/feed", &[]).err().unwrap();
    publisher.ask(json!({ "op": "disconnect", "user": "ada-0001", "code": 4001, "reason": "bye" }));
    let lines: Vec<Value> = eventually("two lines more", || {
        let log = broker.log();
        (log.len() >= 3).then(|| log.iter().map(|line| serde_json::from_str(line).unwrap()).collect())
    });
    assert!(lines[0]["public"].as_str().unwrap().contains(&broker.public.to_string()));
    assert_eq!((&lines[1]["message"], &lines[1]["status"]), (&json!("refused"), &json!(401)));
    assert_eq!(
        (&lines[2]["message"], &lines[2]["reason"], &lines[2]["code"]),
        (&json!("closed"), &json!("disconnected"), &json!(4001))
    );
    assert_eq!(lines[2]["user"], "ada-0001");
}

#[test]
fn several_listeners_serve_the_same_clients() {
    let broker = Broker::start(&["listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]"]);
    let log = broker.log();
    let line: Value = serde_json::from_str(&log[0]).unwrap();
    let addresses: Vec<std::net::SocketAddr> = line["public"]
        .as_str()
        .unwrap()
        .trim_matches(['[', ']'])
        .split(", ")
        .map(|address| address.parse().unwrap())
        .collect();
    assert_eq!(addresses.len(), 2);
    let mut clients: Vec<Client> =
        addresses.iter().map(|address| Client::market(*address, "ada-0001")).collect();
    let mut publisher = broker.publisher();
    assert_eq!(publisher.publish(json!({ "user": "ada-0001", "event": "e", "data": 1 }))["subscribers"], 2);
    for client in &mut clients {
        assert_eq!(client.next()["event"], "e");
    }
}

#[test]
fn listeners_may_be_of_the_newer_internet_protocol() {
    let all = ["listen = [\"[::1]:0\"]", "ingest.listen = \"[::1]:0\"", "admin.listen = \"[::1]:0\""];
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // A machine without IPv6.
        return;
    }
    let broker = Broker::start(&[all[0], all[1], all[2], "limits.connects_per_address = \"1/1h\""]);
    let (mut ada, mut again) = (broker.market("ada-0001"), broker.market("ada-0001"));
    let ack = broker.publisher().publish(json!({ "user": "ada-0001", "event": "e", "data": 1 }));
    assert_eq!(ack["subscribers"], 2);
    assert_eq!((ada.next()["event"].clone(), again.next()["event"].clone()), (json!("e"), json!("e")));
}
