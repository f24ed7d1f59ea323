//! The app `market` over Socket.IO, from CONNECT to the end: who is let in, what is refused and in which words, and how the
//! server says goodbye (`spec/auth.md`, `spec/limits.md`, `spec/decisions.md` 2).

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{self, Response};
use crate::support::polling::Polling;
use crate::support::socketio::{Socket, Transport, each_transport};
use crate::support::token::{now, short_token, sign, token};
use crate::support::{Broker, Client, each_shard_count};

/// CONNECT, which must be refused; the number at the front of the message, and the code.
#[track_caller]
fn refused(socket: &mut Socket, auth: Value) -> (String, String) {
    let refusal = socket.connect(auth).expect_err("it was let in");
    let message = refusal["message"].as_str().unwrap();
    let (number, words) = message.split_once(' ').unwrap();
    assert!(words.len() > 10, "in plain words: {message}");
    (number.to_owned(), refusal["data"]["code"].as_str().unwrap().to_owned())
}

fn pair(number: &str, code: &str) -> (String, String) {
    (number.to_owned(), code.to_owned())
}

/// Ends the session from the client's side, and waits until the broker knows.
fn leave(broker: &Broker, mut socket: Socket, left: f64) {
    socket.send("41");
    broker.wait_for_metric("fanfare_connections", &[], left);
}

#[test]
fn the_welcome_comes_in_order_and_names_the_connection() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        each_transport(|transport| {
            let mut ada = Socket::open(broker.public, transport);
            assert_eq!(
                (&ada.handshake["pingInterval"], &ada.handshake["pingTimeout"]),
                (&json!(25_000), &json!(20_000))
            );
            assert_eq!(ada.handshake["maxPayload"], 32_768);
            let answer = ada.connect(json!({ "token": token("ada-0001") })).unwrap();
            let connected = ada.next();
            assert_eq!(connected[0], "connected");
            assert_eq!(connected[1]["connectionId"], answer["sid"]);
            let authenticated = ada.next();
            assert_eq!(authenticated, json!(["authenticated", { "user": { "id": "ada-0001" } }]));
            // The user's own room is joined already.
            let ack =
                broker.publisher().publish(json!({ "user": "ada-0001", "event": "hello", "data": [1.50] }));
            assert_eq!(ack["subscribers"], 1);
            assert_eq!(ada.next(), json!(["hello", [1.50]]));
            leave(&broker, ada, 0.0);
        });
    });
}

#[test]
fn a_token_may_stand_in_connect_in_the_query_or_in_a_header() {
    let broker = Broker::start(&[]);
    let good = token("ada-0001");
    let (query, bearer) = (format!("&token={good}"), format!("Bearer {good}"));
    let protocol = format!("fanfare.bearer, {good}");
    for (more, headers) in [
        (query.as_str(), vec![]),
        ("", vec![("Authorization", bearer.as_str())]),
        ("", vec![("Sec-WebSocket-Protocol", protocol.as_str())]),
    ] {
        let mut ada = Socket::open_with(broker.public, Transport::WebSocket, more, &headers);
        ada.send("40");
        assert!(ada.packet().starts_with("40{"));
        assert_eq!(ada.next()[0], "connected");
        assert_eq!(ada.next()[1]["user"]["id"], "ada-0001");
        leave(&broker, ada, 0.0);
    }
    let mut ada = Socket::over(Polling::open(broker.public, "/socket.io/", &query));
    ada.enter(json!({}));
    leave(&broker, ada, 0.0);
    // What CONNECT says counts.
    let mut bob = Socket::open_with(broker.public, Transport::WebSocket, &query, &[]);
    bob.connect(json!({ "token": token("bob-0001") })).unwrap();
    assert_eq!(bob.next()[0], "connected");
    assert_eq!(bob.next()[1]["user"]["id"], "bob-0001");
}

#[test]
fn who_has_no_good_token_is_told_and_may_try_again() {
    let broker = Broker::start(&[]);
    each_transport(|transport| {
        let mut ada = Socket::open(broker.public, transport);
        for (auth, code) in [
            (json!({}), "AUTH_REQUIRED"),
            (json!({ "token": null }), "AUTH_REQUIRED"),
            (json!({ "token": "nonsense" }), "AUTH_REQUIRED"),
            (json!({ "token": 7 }), "AUTH_REQUIRED"),
            (json!({ "token": "" }), "AUTH_REQUIRED"),
            (json!({ "token": "x".repeat(9_000) }), "AUTH_REQUIRED"),
            (json!({ "token": sign(json!({ "exp": now() + 60 })) }), "AUTH_REQUIRED"),
            (json!({ "token": short_token("ada-0001", -60) }), "TOKEN_EXPIRED"),
        ] {
            assert_eq!(refused(&mut ada, auth.clone()), pair("401", code), "{auth}");
        }
        ada.send("40");
        assert!(ada.packet().starts_with("44{\"message\":\"401 "));
        ada.enter(json!({ "token": token("ada-0001") }));
        leave(&broker, ada, 0.0);
    });
    assert_eq!(broker.metric("fanfare_connections_opened_total", &[]), 2.0);
}

#[test]
fn a_sixth_connection_and_too_many_connects_are_refused_with_429() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let connect = |transport| Socket::market(broker.public, transport, "ada-0001");
        // All transports count together, native ones too.
        let native = broker.market("ada-0001");
        let mut sockets: Vec<Socket> =
            [Transport::WebSocket, Transport::Polling].into_iter().cycle().take(4).map(connect).collect();
        each_transport(|transport| {
            let mut sixth = Socket::open(broker.public, transport);
            let auth = json!({ "token": token("ada-0001") });
            assert_eq!(refused(&mut sixth, auth.clone()), pair("429", "CONNECTION_LIMIT"));
            // Other users are not concerned, and a place that is free is given.
            Socket::market(broker.public, transport, "bob-0001");
            leave(
                &broker,
                sockets.remove(0),
                match transport {
                    Transport::WebSocket => 4.0,
                    Transport::Polling => 5.0,
                },
            );
            sixth.enter(auth);
            sockets.push(sixth);
        });
        drop(native);
    });
    let broker = Broker::start(&["limits.connects_per_user = \"2/1h\""]);
    for _ in 0..2 {
        Socket::market(broker.public, Transport::WebSocket, "ada-0001");
    }
    let mut third = Socket::open(broker.public, Transport::WebSocket);
    let refusal = third.connect(json!({ "token": token("ada-0001") })).unwrap_err();
    assert!(refusal["message"].as_str().unwrap().starts_with("429 "), "{refusal}");
    assert_eq!(refusal["data"]["code"], "RATE_LIMITED");
    assert!(refusal["data"]["retry_after_ms"].as_u64().unwrap() > 60_000, "{refusal}");
}

#[test]
fn other_namespaces_are_not_there() {
    let broker = Broker::start(&[]);
    each_transport(|transport| {
        let mut ada = Socket::open(broker.public, transport);
        for namespace in ["/custom", "/admin", "/chatty"] {
            ada.send(&format!("40{namespace},{}", json!({ "token": token("ada-0001") })));
            assert_eq!(ada.packet(), format!("44{namespace},{{\"message\":\"Invalid namespace\"}}"));
        }
    });
    let response = http::request(broker.public, "GET", "/engine.io/?EIO=4&transport=polling", &[], b"");
    assert_eq!(response.status, 404);
    let off = Broker::start(&["apps.market = false", "apps.mobile = false"]);
    let response = http::request(off.public, "GET", "/socket.io/?EIO=4&transport=polling", &[], b"");
    assert_eq!(response.status, 404);
}

#[test]
fn who_sends_no_connect_is_let_go_in_time_and_who_does_is_not() {
    let broker =
        Broker::start(&["socketio.connect_timeout = \"300ms\"", "socketio.ping_interval = \"100ms\""]);
    each_transport(|transport| {
        let mut ada = Socket::market(broker.public, transport, "ada-0001");
        let mut silent = Socket::open(broker.public, transport);
        // It answers pings: nothing else ends it.
        assert_eq!(silent.closed(), Vec::<String>::new());
        ada.expect_nothing();
        // One that is refused has not connected anything.
        let mut refused = Socket::open(broker.public, transport);
        refused.connect(json!({})).unwrap_err();
        assert_eq!(refused.closed(), Vec::<String>::new());
    });
}

#[test]
fn a_user_who_is_sent_away_gets_a_disconnect_packet() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut sockets: Vec<Socket> = [Transport::WebSocket, Transport::Polling, Transport::Polling]
            .map(|transport| Socket::market(broker.public, transport, "ada-0001"))
            .into();
        sockets[2].upgrade(broker.public);
        // Answered over the WebSocket: it has taken over.
        sockets[2].expect_nothing();
        let mut bob = Socket::market(broker.public, Transport::Polling, "bob-0001");
        let line = json!({ "op": "disconnect", "user": "ada-0001", "code": 4001, "reason": "enough" });
        assert_eq!(broker.publisher().ask(line), json!({ "ok": true, "connections": 3 }));
        for socket in &mut sockets {
            assert_eq!(socket.closed(), ["41"]);
        }
        bob.expect_nothing();
        bob.send("1");
        drop(sockets);
        broker.wait_for_zero();
    });
}

#[test]
fn who_should_come_back_gets_no_disconnect_packet() {
    each_shard_count(|shards| {
        let mut broker = Broker::start(&[shards, "auth.grace = \"1s\""]);
        each_transport(|transport| {
            let mut ada = Socket::open(broker.public, transport);
            ada.enter(json!({ "token": short_token("ada-0001", 0) }));
            assert_eq!(ada.next(), json!(["token_expired", {}]));
            let answer = ada.ask("authenticate", json!({ "token": token("bob-0001") }));
            assert_eq!(answer["error"]["code"], "AUTH_REQUIRED");
            assert_eq!(ada.next()[0], "auth_error");
            assert_eq!(ada.closed(), Vec::<String>::new(), "the grace is over");
        });
        broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"token_expired\""], 2.0);
        // In time, it goes on.
        let mut ada = Socket::open(broker.public, Transport::Polling);
        ada.enter(json!({ "token": short_token("ada-0001", 0) }));
        assert_eq!(ada.next()[0], "token_expired");
        ada.request("authenticate", json!({ "token": token("ada-0001") }));
        ada.expect_nothing();
        let mut bob = Socket::market(broker.public, Transport::WebSocket, "bob-0001");
        ada.polling().begin_poll();
        // When this is answered, the poll is open.
        ada.send("3");
        broker.signal(Signal::TERM);
        assert_eq!(bob.closed(), Vec::<String>::new());
        assert_eq!(ada.polling().poll().text(), "1");
        drop((ada, bob));
        assert_eq!(broker.wait().code(), Some(0));
    });
}

#[test]
fn a_client_may_leave_and_come_back_on_the_same_session() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        each_transport(|transport| {
            let mut ada = Socket::market(broker.public, transport, "ada-0001");
            ada.join("trade:BTC-USDC");
            ada.send("41");
            let mut publisher = broker.publisher();
            broker.wait_for_metric("fanfare_subscriptions", &[], 0.0);
            assert_eq!(
                publisher.publish(json!({ "user": "ada-0001", "event": "e", "data": 1 }))["subscribers"],
                0
            );
            ada.enter(json!({ "token": token("ada-0001") }));
            ada.expect_nothing();
            leave(&broker, ada, 0.0);
        });
        let closed = broker.metric("fanfare_connections_closed_total", &["reason=\"client_left\""]);
        assert_eq!(closed, 4.0);
    });
}

/// The two headers by which a browser lets a page read an answer.
fn cors(response: &Response) -> (Option<&str>, Option<&str>) {
    (response.header("access-control-allow-origin"), response.header("access-control-allow-credentials"))
}

#[test]
fn origins_are_checked_and_browsers_are_told() {
    let broker = Broker::start(&["allowed_origins = [\"https://app.example\"]"]);
    let path = "/socket.io/?EIO=4&transport=polling";
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        http::request(broker.public, method, path, headers, body)
    };
    let (allowed, foreign) = (("Origin", "https://app.example"), ("Origin", "https://elsewhere.example"));
    let yes = (Some("https://app.example"), Some("true"));
    let response = ask("GET", path, &[allowed], b"");
    assert_eq!((response.status, cors(&response)), (200, yes));
    assert_eq!(response.header("vary"), Some("Origin"));
    let open: Value = serde_json::from_str(&response.text()[1..]).unwrap();
    let session = format!("{path}&sid={}", open["sid"].as_str().unwrap());
    // Every answer says so, errors too.
    let connect = format!("40{}", json!({ "token": token("ada-0001") }));
    for response in [
        ask("POST", &session, &[allowed], connect.as_bytes()),
        ask("GET", &session, &[allowed], b""),
        ask("GET", &format!("{path}&sid=x"), &[allowed], b""),
        ask("GET", "/socket.io/?EIO=3&transport=polling", &[allowed], b""),
    ] {
        assert_eq!(cors(&response), yes, "{response:?}");
    }
    // Asked before a post of a page: nothing of the session is touched.
    let asked = [
        allowed,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,x-more"),
    ];
    let response = ask("OPTIONS", &session, &asked, b"");
    assert_eq!((response.status, cors(&response)), (204, yes));
    assert!(response.header("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(response.header("access-control-allow-headers"), Some("content-type,x-more"));
    for (method, path) in [("GET", path), ("GET", &session), ("POST", &session), ("OPTIONS", &session)] {
        let response = ask(method, path, &[foreign], b"");
        assert_eq!((response.status, cors(&response)), (403, (None, None)), "{method} {path}");
        assert_eq!(response.json()["code"], 4);
    }
    let path = "/socket.io/?EIO=4&transport=websocket";
    assert_eq!(Client::try_open(broker.public, path, &[foreign]).err().unwrap().status, 403);
    Client::open(broker.public, path, &[allowed]);
    // Without an origin it is no browser.
    Socket::market(broker.public, Transport::Polling, "bob-0001");
    let any = Broker::start(&["allowed_origins = [\"*\"]"]);
    let response = http::request(any.public, "GET", "/socket.io/?EIO=4&transport=polling", &[foreign], b"");
    assert_eq!((response.status, cors(&response)), (200, (Some("*"), None)));
}

#[test]
fn a_page_of_the_same_origin_may_connect_by_default() {
    let broker = Broker::start(&[]);
    let path = "/socket.io/?EIO=4&transport=polling";
    let own = format!("http://{}", broker.public);
    assert_eq!(http::request(broker.public, "GET", path, &[("Origin", &own)], b"").status, 200);
    assert_eq!(
        http::request(broker.public, "GET", path, &[("Origin", "http://elsewhere.test")], b"").status,
        403
    );
}

#[test]
fn messages_between_transports_arrive_and_are_counted() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut ada = Socket::market(broker.public, Transport::WebSocket, "ada-0001");
        let mut bobs = [Transport::WebSocket, Transport::Polling]
            .map(|transport| Socket::market(broker.public, transport, "bob-0001"));
        let mut feed = broker.market("bob-0001");
        let answer = ada.ask("direct_message", json!({ "to": "bob-0001", "message": "hello" }));
        assert_eq!(answer, json!({ "delivered": 3 }));
        for bob in &mut bobs {
            let message = bob.next();
            assert_eq!((&message[0], &message[1]["message"]), (&json!("direct_message"), &json!("hello")));
        }
        assert_eq!(feed.next()["data"]["message"], "hello");
        assert_eq!(
            ada.ask("direct_message", json!({ "to": "nobody-1", "message": "x" })),
            json!({ "delivered": 0 })
        );
        let users = json!({ "userIds": ["bob-0001", "nobody-1"] });
        let presence = ada.request("presence", users);
        assert_eq!(
            (&presence["users"][0]["online"], &presence["users"][1]["online"]),
            (&json!(true), &json!(false))
        );
        ada.expect_nothing();
    });
}
