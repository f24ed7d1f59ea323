//! Requests over HTTP beside the sockets: the conversations of a user, and what HTTP itself asks of an API
//! (`spec/conversation.md`, "REST beside it"; `spec/decisions.md` 16).

use std::io::Write;
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::chat::chat_token;
use crate::support::http::{self, Connection, Response};
use crate::support::token::short_token;
use crate::support::{Broker, Chat, Client, each_shard_count, eventually};

const COLLECTION: &str = "/api/v1/conversations";

fn get(broker: &Broker, user: &str, path: &str) -> Value {
    let response = broker.rest(user, "GET", path, &Value::Null);
    assert_eq!(response.status, 200, "{path}: {response:?}");
    response.json()
}

/// The strings at a pointer of each object.
fn all(list: &Value, pointer: &str) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item.pointer(pointer).unwrap().as_str().unwrap().to_owned())
        .collect()
}

fn bearer(user: &str) -> String {
    format!("Bearer {}", chat_token(user))
}

#[test]
fn a_conversation_is_made_once_whoever_of_the_two_makes_it() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let create =
            |by: &str, with: Value| broker.rest(by, "POST", COLLECTION, &json!({ "participant_id": with }));
        let made = create("ada", json!("17"));
        assert_eq!(made.status, 201);
        for again in [create("ada", json!("17")), create("ada", json!(17)), create("17", json!("ada"))] {
            assert_eq!((again.status, &again.json()["id"]), (200, &made.json()["id"]));
        }
        assert_eq!(create("ada", json!("bob")).status, 201);
        assert_eq!(get(&broker, "ada", COLLECTION)["conversations"].as_array().unwrap().len(), 2);
        assert_eq!(get(&broker, "17", COLLECTION)["conversations"].as_array().unwrap().len(), 1);
        for wrong in [
            json!("ada"),
            json!(""),
            json!(null),
            json!(1.5),
            json!(-1),
            json!([]),
            json!("x".repeat(129)),
            json!("a\u{0}b"),
        ] {
            let response = create("ada", wrong.clone());
            assert_eq!((response.status, response.code().as_str()), (400, "VALIDATION_ERROR"), "{wrong}");
            assert_eq!(response.json()["error"]["details"]["field"], "participant_id", "{wrong}");
        }
    });
}

#[test]
fn conversations_are_listed_in_pages_those_with_the_newest_message_first() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.conversations = \"off\""]);
        let ids: Vec<String> = (0..7).map(|n| broker.conversation("ada", &format!("user-{n}"))).collect();
        let mut publisher = broker.publisher();
        // All said within one second or less: their order must not depend on it.
        for at in [3, 0, 5, 1, 6, 2, 4, 0] {
            let line = json!({ "op": "conversation.message", "conversation_id": ids[at], "type": "system", "content": format!("{at}") });
            assert_eq!(publisher.ask(line)["ok"], true);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let expected: Vec<String> = [0, 4, 2, 6, 1, 5, 3].map(|at| ids[at].clone()).to_vec();
        for limit in [1, 2, 3, 7, 50] {
            let (mut found, mut path) = (Vec::new(), format!("{COLLECTION}?limit={limit}"));
            loop {
                let page = get(&broker, "ada", &path);
                let list = all(&page["conversations"], "/id");
                assert!(list.len() <= limit);
                found.extend(list);
                let Some(next) = page["next_before"].as_str() else { break };
                path = format!("{COLLECTION}?limit={limit}&before={next}");
                assert!(found.len() <= 7, "it has no end");
            }
            assert_eq!(found, expected, "{limit}");
        }
        let first = &get(&broker, "ada", COLLECTION)["conversations"][0];
        assert_eq!((&first["unread_count"], &first["last_message"]["content"]), (&json!(2), &json!("0")));
    });
}

#[test]
fn messages_are_read_in_pages_the_newest_first() {
    each_shard_count(|shards| {
        let chat = Chat::start(&[shards]);
        let mut publisher = chat.broker.publisher();
        for n in 0..120 {
            publisher.send(json!({ "op": "conversation.message", "conversation_id": chat.id, "type": "system", "content": format!("{n}") }));
        }
        (0..120).for_each(|_| assert_eq!(publisher.reply()["ok"], true));
        let messages = format!("{COLLECTION}/{}/messages", chat.id);
        let expected: Vec<String> = (0..120).rev().map(|n| n.to_string()).collect();
        let page = get(&chat.broker, "bob", &messages);
        assert_eq!(all(&page["messages"], "/content"), expected[..50]);
        assert_eq!(page["next_before"], page["messages"][49]["id"]);
        for limit in [7, 40, 100, 1_000] {
            let (mut found, mut path) = (Vec::new(), format!("{messages}?limit={limit}"));
            loop {
                let page = get(&chat.broker, "ada", &path);
                let list = all(&page["messages"], "/content");
                assert!(list.len() <= limit.min(100));
                found.extend(list);
                let Some(next) = page["next_before"].as_str() else { break };
                path = format!("{messages}?limit={limit}&before={next}");
                assert!(found.len() <= 120, "it has no end");
            }
            assert_eq!(found, expected, "{limit}");
        }
        // A page goes on where it ended, whatever was said since or was deleted in between.
        let next = page["next_before"].as_str().unwrap().to_owned();
        let mut ada = chat.ada;
        ada.send("message:delete", json!({ "conversation_id": chat.id, "message_id": next }));
        ada.until_event("message:deleted");
        let page = get(&chat.broker, "bob", &format!("{messages}?before={next}"));
        assert_eq!(all(&page["messages"], "/content"), expected[50..100]);
    });
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = broker.conversation("ada", "bob");
        let messages = format!("{COLLECTION}/{id}/messages");
        let ask = |method: &str, path: &str| broker.rest("ada", method, path, &Value::Null);
        for query in ["limit=0", "limit=-1", "limit=x", "limit=", "limit=1.5"] {
            for path in [COLLECTION, &messages] {
                let response = ask("GET", &format!("{path}?{query}"));
                assert_eq!(
                    (response.status, response.code().as_str()),
                    (400, "VALIDATION_ERROR"),
                    "{path}?{query}"
                );
                assert_eq!(response.json()["error"]["details"]["field"], "limit");
            }
        }
        for path in [COLLECTION, &messages] {
            let response = ask("GET", &format!("{path}?before=yesterday"));
            assert_eq!((response.status, response.code().as_str()), (400, "VALIDATION_ERROR"), "{path}");
            assert_eq!(response.json()["error"]["details"]["field"], "before");
        }
        for (method, path, allow) in [
            ("PUT", COLLECTION, "GET, POST"),
            ("DELETE", COLLECTION, "GET, POST"),
            ("POST", &messages, "GET"),
        ] {
            let response = ask(method, path);
            assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{method} {path}");
            response.code();
        }
        for path in ["/api/v1/conversations/", "/api/v1/conversation", "/api/v1/conversations/x/y", "/api"] {
            assert_eq!(ask("GET", path).status, 404, "{path}");
        }
        assert_eq!(ask("GET", "/api/v1/conversations/conv-uuid-1/messages").code(), "NOT_FOUND");
        let authorization = bearer("ada");
        let post = |content_type: Option<&str>, body: &[u8]| {
            let mut headers = vec![("Authorization", authorization.as_str())];
            headers.extend(content_type.map(|content_type| ("Content-Type", content_type)));
            http::request(broker.public, "POST", COLLECTION, &headers, body)
        };
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            assert_eq!(post(content_type, br#"{"participant_id":"bob"}"#).status, 415, "{content_type:?}");
        }
        let json = Some("application/json; charset=utf-8");
        for body in [&b""[..], b"{", b"[]", b"7", b"{\"participant_id\":\"\xff\"}", &b"[".repeat(10_000)] {
            let response = post(json, body);
            assert_eq!(
                (response.status, response.code().as_str()),
                (400, "VALIDATION_ERROR"),
                "{:?}",
                &body[..body.len().min(30)]
            );
        }
        assert_eq!(post(json, br#"{"participant_id":"bob"}"#).status, 200);
        broker.wait_for_zero();
    });
}

#[test]
fn without_a_good_token_nothing_is_told() {
    let broker = Broker::start(&[]);
    let id = broker.conversation("ada", "bob");
    let expired = format!("Bearer {}", short_token("ada", -60));
    for (method, path) in [
        ("GET", COLLECTION.to_owned()),
        ("POST", COLLECTION.to_owned()),
        ("GET", format!("{COLLECTION}/{id}/messages")),
    ] {
        for (header, code) in [
            (None, "AUTH_REQUIRED"),
            (Some("Bearer a.b.c"), "AUTH_REQUIRED"),
            (Some("Basic YTpi"), "AUTH_REQUIRED"),
            (Some(&*expired), "TOKEN_EXPIRED"),
        ] {
            let headers: Vec<(&str, &str)> =
                header.map(|header| ("Authorization", header)).into_iter().collect();
            let response = http::request(broker.public, method, &path, &headers, b"");
            assert_eq!(
                (response.status, response.code().as_str()),
                (401, code),
                "{method} {path} {header:?}"
            );
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        }
        // A token in the query is for sockets.
        let response =
            http::request(broker.public, method, &format!("{path}?token={}", chat_token("ada")), &[], b"");
        assert_eq!(response.status, 401, "{method} {path}");
    }
}

#[test]
fn a_body_of_64_kib_is_read_and_no_larger_one() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let authorization = bearer("ada");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let body = |size: usize| {
            let empty = json!({ "participant_id": "bob", "more": "" }).to_string();
            json!({ "participant_id": "bob", "more": "x".repeat(size - empty.len()) })
                .to_string()
                .into_bytes()
        };
        assert_eq!(http::request(broker.public, "POST", COLLECTION, &headers, &body(65_536)).status, 201);
        // Refused by its length alone: nothing of the body is sent.
        let mut connection = Connection::open(broker.public);
        let mut head = http::head("POST", COLLECTION, "localhost", &headers, 65_537);
        connection.raw(&head);
        let response = connection.response();
        assert_eq!((response.status, response.code().as_str()), (413, "MESSAGE_TOO_LARGE"));
        connection.expect_end();
        // And in chunks, by what has come.
        let mut connection = Connection::open(broker.public);
        head = http::head(
            "POST",
            COLLECTION,
            "localhost",
            &[&headers[..], &[("Transfer-Encoding", "chunked")]].concat(),
            0,
        );
        connection.raw(&head);
        connection.raw(b"10001\r\n");
        connection.raw(&b"x".repeat(30_000));
        assert_eq!(connection.response().status, 413);
        broker.wait_for_metric("fanfare_connections", &[], 0.0);
    });
}

#[test]
fn several_requests_follow_each_other_on_one_connection() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let authorization = bearer("ada");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let mut connection = Connection::open(broker.public);
        for n in 0..5 {
            let body = json!({ "participant_id": format!("user-{n}") }).to_string();
            assert_eq!(connection.ask("POST", COLLECTION, &headers, body.as_bytes()).status, 201);
            let list = connection.ask("GET", COLLECTION, &headers, b"").json();
            assert_eq!(list["conversations"].as_array().unwrap().len(), n + 1);
            // What is refused does not end it, as long as it is known where the body ends.
            assert_eq!(connection.ask("GET", COLLECTION, &[], b"").status, 401);
            assert_eq!(connection.ask("POST", COLLECTION, &headers, b"{}").status, 400);
        }
        // All at once: the answers come in order, each when the one before is there.
        let mut bytes = Vec::new();
        for n in 0..20 {
            let body = json!({ "participant_id": format!("user-{n}") }).to_string();
            bytes.extend(http::head("POST", COLLECTION, "localhost", &headers, body.len()));
            bytes.extend(body.as_bytes());
            bytes.extend(http::head("GET", &format!("{COLLECTION}?limit=100"), "localhost", &headers, 0));
        }
        connection.raw(&bytes);
        for n in 0..20 {
            assert_eq!(connection.response().status, if n < 5 { 200 } else { 201 }, "{n}");
            let list = connection.response().json();
            assert_eq!(list["conversations"].as_array().unwrap().len(), (n + 1).max(5));
        }
        // The last one says that it is.
        let response = connection.ask("GET", COLLECTION, &[headers[0], ("Connection", "close")], b"");
        assert_eq!(response.status, 200);
        connection.expect_end();
        broker.wait_for_zero();
    });
}

#[test]
fn the_same_connection_may_become_a_socket() {
    let broker = Broker::start(&[]);
    let id = broker.conversation("ada", "bob");
    let authorization = bearer("ada");
    let mut stream = http::connect(broker.public);
    stream
        .write_all(&http::head("GET", COLLECTION, "localhost", &[("Authorization", &authorization)], 0))
        .unwrap();
    let (response, rest) = http::read_response(&mut stream);
    assert_eq!((response.status, rest.len()), (200, 0));
    let host = broker.public.to_string();
    let mut client = Client::over(stream, &host, "/ws", &[("Authorization", &authorization)]).unwrap();
    assert_eq!(client.next()["event"], "connection:established");
    assert_eq!(
        client.ask("conversation:join", json!({ "conversation_id": id }), "conversation:joined")["conversation_id"],
        id
    );
}

#[test]
fn a_body_may_come_in_chunks_and_byte_by_byte() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let authorization = bearer("ada");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let chunked = [&headers[..], &[("Transfer-Encoding", "chunked")]].concat();
        let mut connection = Connection::open(broker.public);
        let mut request = http::head("POST", COLLECTION, "localhost", &chunked, 0);
        request
            .extend(b"9\r\n{\"partici\r\nE;x=\"y\"\r\npant_id\":\"bob\"\r\n1\r\n}\r\n0\r\nX-More: 1\r\n\r\n");
        connection.raw(&request);
        assert_eq!(connection.response().status, 201);
        for byte in &request {
            connection.raw(&[*byte]);
        }
        assert_eq!(connection.response().status, 200);
        let body = br#"{"participant_id":"bob"}"#;
        let mut request = http::head("POST", COLLECTION, "localhost", &headers, body.len());
        request.extend(body);
        for byte in request.iter().chain(&http::head("GET", COLLECTION, "localhost", &headers, 0)) {
            connection.raw(&[*byte]);
        }
        assert_eq!(connection.response().status, 200);
        assert_eq!(connection.response().json()["conversations"].as_array().unwrap().len(), 1);
        for wrong in [&b"x\r\n"[..], b"-1\r\n", b"5\r\nabcdefg", b"ffffffffffffffffff\r\n"] {
            let mut connection = Connection::open(broker.public);
            connection.raw(&http::head("POST", COLLECTION, "localhost", &chunked, 0));
            connection.raw(wrong);
            assert!(
                matches!(connection.response().status, 400 | 413),
                "{:?}",
                String::from_utf8_lossy(wrong)
            );
            connection.expect_end();
        }
    });
}

#[test]
fn a_request_that_is_ambiguous_is_refused() {
    let broker = Broker::start(&[]);
    let authorization = bearer("ada");
    for (more, status) in [
        (&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")][..], 400),
        (&[("Content-Length", "5"), ("Content-Length", "6")], 400),
        (&[("Content-Length", "-1")], 400),
        (&[("Content-Length", "+5")], 400),
        (&[("Content-Length", "x")], 400),
        (&[("Transfer-Encoding", "gzip, chunked")], 501),
    ] {
        let headers =
            [&[("Authorization", &*authorization), ("Content-Type", "application/json")], more].concat();
        let mut connection = Connection::open(broker.public);
        connection.raw(&http::head("POST", COLLECTION, "localhost", &headers, 0));
        let response = connection.response();
        assert!(response.status == status || response.status == 400, "{more:?}: {response:?}");
        connection.expect_end();
    }
}

#[test]
fn half_a_request_leaves_nothing_behind() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let authorization = bearer("ada");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let mut half = http::head("POST", COLLECTION, "localhost", &headers, 100);
        half.extend(b"{\"participant_id\":");
        for _ in 0..10 {
            let mut stream = http::connect(broker.public);
            stream.write_all(&half).unwrap();
            drop(stream);
        }
        // A whole one whose answer nobody waits for.
        let body = br#"{"participant_id":"bob"}"#;
        for _ in 0..10 {
            let mut stream = http::connect(broker.public);
            let mut request = http::head("POST", COLLECTION, "localhost", &headers, body.len());
            request.extend(body);
            stream.write_all(&request).unwrap();
            drop(stream);
        }
        broker.wait_for_zero();
        assert_eq!(
            broker.conversation("bob", "ada"),
            get(&broker, "ada", COLLECTION)["conversations"][0]["id"]
        );
        assert!(!broker.log().iter().any(|line| line.contains("panic")));
    });
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let broker = Broker::start(&["limits.handshake = \"1s\""]);
    let authorization = bearer("ada");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let mut connection = Connection::open(broker.public);
    connection.raw(&http::head("POST", COLLECTION, "localhost", &headers, 100));
    assert_eq!(connection.response().status, 408);
    connection.expect_end();
    broker.wait_for_zero();
}

fn cors(response: &Response) -> (Option<&str>, Option<&str>) {
    (response.header("access-control-allow-origin"), response.header("access-control-allow-credentials"))
}

#[test]
fn browsers_are_told_whether_their_page_may() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "allowed_origins = [\"https://app.example\"]"]);
        let authorization = bearer("ada");
        let origin = ("Origin", "https://app.example");
        let yes = (Some("https://app.example"), Some("true"));
        for (path, method) in [
            (COLLECTION, "POST"),
            (COLLECTION, "GET"),
            ("/api/auth/login", "POST"),
            ("/api/websocket/token", "POST"),
        ] {
            let headers = [
                origin,
                ("Access-Control-Request-Method", method),
                ("Access-Control-Request-Headers", "authorization,content-type"),
            ];
            let response = http::request(broker.public, "OPTIONS", path, &headers, b"");
            assert_eq!((response.status, cors(&response)), (204, yes), "{method} {path}");
            assert!(response.header("access-control-allow-methods").unwrap().contains(method));
            assert_eq!(response.header("access-control-allow-headers"), Some("authorization,content-type"));
            let wrong = [("Origin", "https://evil.example"), headers[1], headers[2]];
            let response = http::request(broker.public, "OPTIONS", path, &wrong, b"");
            assert_eq!((response.status, cors(&response)), (403, (None, None)), "{method} {path}");
        }
        // The answers themselves say so too, those that are errors included.
        let auth = ("Authorization", authorization.as_str());
        for (headers, status) in [(&[origin, auth][..], 200), (&[origin], 401)] {
            let response = http::request(broker.public, "GET", COLLECTION, headers, b"");
            assert_eq!((response.status, cors(&response)), (status, yes));
            assert!(response.header("vary").unwrap().to_ascii_lowercase().contains("origin"));
        }
        let response =
            http::request(broker.public, "GET", COLLECTION, &[("Origin", "https://evil.example"), auth], b"");
        assert_eq!((response.status, response.code().as_str()), (403, "ACCESS_DENIED"));
        assert_eq!(cors(&response), (None, None));
        // A refused page makes no conversation.
        let evil = [("Origin", "https://evil.example"), auth, ("Content-Type", "application/json")];
        let response =
            http::request(broker.public, "POST", COLLECTION, &evil, br#"{"participant_id":"bob"}"#);
        assert_eq!(response.status, 403);
        assert_eq!(get(&broker, "ada", COLLECTION)["conversations"], json!([]));
    });
}

#[test]
fn while_it_drains_open_connections_are_told_to_come_again() {
    each_shard_count(|shards| {
        let mut broker = Broker::start(&[shards, "drain.seconds = 3"]);
        let mut clients = [broker.chat("ada"), broker.chat("bob")];
        let authorization = bearer("ada");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let mut connection = Connection::open(broker.public);
        assert_eq!(connection.ask("GET", COLLECTION, &headers, b"").status, 200);
        // Half a request, whose other half comes in the drain.
        let body = br#"{"participant_id":"bob"}"#;
        let mut half = Connection::open(broker.public);
        let head = http::head("POST", COLLECTION, "localhost", &headers, body.len());
        half.raw(&head);
        half.raw(&body[..5]);
        assert_eq!(connection.ask("GET", COLLECTION, &headers, b"").status, 200);
        broker.signal(Signal::TERM);
        eventually("closed listeners", || TcpStream::connect(broker.public).is_err().then_some(()));
        half.raw(&body[5..]);
        let response = half.response();
        assert!(matches!(response.status, 201 | 503), "{response:?}");
        assert_eq!(response.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
        half.expect_end();
        for client in &mut clients {
            client.expect_close(1001);
        }
        drop((clients, connection));
        assert_eq!(broker.wait().code(), Some(0));
    });
}
