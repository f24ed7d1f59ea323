//! HTTP itself: bodies, connections that are kept, requests that are wrong, half, or late.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::json;

use super::{COLLECTION, bearer, get};
use crate::support::http::{self, Connection, Response};
use crate::support::{Broker, Client, each_shard_count, eventually};

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
        let response = expect_last(&mut connection, &[413]);
        assert_eq!(response.code(), "MESSAGE_TOO_LARGE");
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
            expect_last(&mut connection, &[400, 413]);
        }
    });
}

#[test]
fn a_request_that_is_ambiguous_is_refused_and_is_the_last_one() {
    let broker = Broker::start(&[]);
    let authorization = bearer("ada");
    for more in [
        &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")][..],
        &[("Content-Length", "5"), ("Content-Length", "6")],
        &[("Content-Length", "-1")],
        &[("Content-Length", "+5")],
        &[("Content-Length", "x")],
        &[("Transfer-Encoding", "gzip, chunked")],
    ] {
        let headers =
            [&[("Authorization", &*authorization), ("Content-Type", "application/json")], more].concat();
        let mut connection = Connection::open(broker.public);
        connection.raw(&http::head("POST", COLLECTION, "localhost", &headers, 0));
        expect_last(&mut connection, &[400, 411]);
    }
}

/// The next answer has one of these statuses, and says that it is the last one, which it is.
#[track_caller]
fn expect_last(connection: &mut Connection, statuses: &[u16]) -> Response {
    let response = connection.response();
    assert!(statuses.contains(&response.status), "{response:?}");
    let said = response.header("connection").map(str::to_ascii_lowercase);
    assert_eq!(said.as_deref(), Some("close"), "{response:?}");
    connection.expect_end();
    response
}

#[test]
fn a_body_that_is_not_read_is_never_the_next_request() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let authorization = bearer("ada");
        let inner = http::head("GET", COLLECTION, "localhost", &[("Authorization", &authorization)], 0);
        let json = ("Content-Type", "application/json");
        let preflight = [("Origin", "http://localhost"), ("Access-Control-Request-Method", "POST")];
        // All of the body is there, and half of it.
        for there in [inner.len(), 10] {
            for (method, headers, status) in
                [("PUT", &[json][..], 405), ("POST", &[], 401), ("OPTIONS", &preflight, 204)]
            {
                let mut connection = Connection::open(broker.public);
                connection.raw(&http::head(method, COLLECTION, "localhost", headers, inner.len()));
                connection.raw(&inner[..there]);
                if there < inner.len() && status == 401 {
                    // Its body is waited for before the token is looked at.
                    connection.raw(&inner[there..]);
                }
                let response = connection.response();
                assert_eq!(response.status, status, "{method} {there}");
                match response.header("connection").map(str::to_ascii_lowercase).as_deref() {
                    Some("close") => connection.expect_end(),
                    // What was sent as a body is not answered; the next request is.
                    _ => assert_eq!(
                        connection.ask("GET", "/nothing", &[], b"").status,
                        404,
                        "{method} {there}"
                    ),
                }
            }
        }
        broker.wait_for_zero();
    });
}

#[test]
fn a_head_request_has_no_body_in_its_answer() {
    let broker = Broker::start(&[]);
    let mut stream = http::connect(broker.public);
    stream.write_all(&http::head("HEAD", COLLECTION, "localhost", &[("Connection", "close")], 0)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
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
    expect_last(&mut connection, &[408]);
    broker.wait_for_zero();
}

#[test]
fn while_it_drains_open_connections_are_told_to_come_again() {
    // One shard, so that an answer on one connection tells that what came before on the other has been read.
    let mut broker = Broker::start(&["shards = 1", "drain.seconds = 3"]);
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
    let response = expect_last(&mut half, &[201, 503]);
    assert_eq!(response.status == 503, response.header("retry-after").is_some());
    for client in &mut clients {
        client.expect_close(1001);
    }
    drop((clients, connection));
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn many_requests_in_a_row_are_answered_and_too_many_take_no_memory() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.control = \"off\""]);
        let authorization = bearer("ada");
        let id = broker.conversation("ada", "bob");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let get = http::head("GET", COLLECTION, "localhost", &headers, 0);
        let mut connection = Connection::open(broker.public);
        for _ in 0..10 {
            connection.raw(&get.repeat(100));
            for _ in 0..100 {
                let response = connection.response();
                assert_eq!((response.status, &response.json()["conversations"][0]["id"]), (200, &json!(id)));
            }
        }
        // The largest one behind another that waits for the store.
        let empty = json!({ "participant_id": "bob", "more": "" }).to_string();
        let body = json!({ "participant_id": "bob", "more": "x".repeat(65_536 - empty.len()) }).to_string();
        let mut both = get.clone();
        both.extend(http::head("POST", COLLECTION, "localhost", &headers, body.len()));
        both.extend(body.as_bytes());
        connection.raw(&both);
        assert_eq!(connection.response().status, 200);
        assert_eq!(connection.response().json()["id"], json!(id));
        // Whoever sends without end and reads nothing is let go.
        let before = broker.memory();
        let mut stream = http::connect(broker.public);
        eventually("the end of the connection", || stream.write_all(&get.repeat(100)).is_err().then_some(()));
        let grown = broker.memory().saturating_sub(before);
        assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
        drop((connection, stream));
        broker.wait_for_zero();
    });
}
