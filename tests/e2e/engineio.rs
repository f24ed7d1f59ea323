//! Engine.IO, protocol v4: the behaviours that the protocol's test suite asks for, and some that it does not, on the
//! conformance example, where `/engine.io/` sends every message back.

use serde_json::{Value, json};

use crate::support::client::UPGRADE;
use crate::support::conformance::Conformance;
use crate::support::http::{self, Connection, Response};
use crate::support::polling::Polling;
use crate::support::socketio::{Socket, Transport, each_transport};
use crate::support::{Client, eventually};

/// The same below Socket.IO as alone.
const PATHS: [&str; 2] = ["/engine.io/", "/socket.io/"];

/// A session at `/engine.io/`.
fn open(server: &Conformance, transport: Transport) -> Socket {
    match transport {
        Transport::Polling => Socket::over(Polling::open(server.address, "/engine.io/", "")),
        Transport::WebSocket => {
            let path = "/engine.io/?EIO=4&transport=websocket";
            Socket::over_websocket(Client::open(server.address, path, &[]))
        }
    }
}

/// A refusal: its status, and the code in its body.
#[track_caller]
fn refusal(response: &Response) -> (u16, u64) {
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(!response.json()["message"].as_str().unwrap().is_empty());
    (response.status, response.json()["code"].as_u64().unwrap())
}

/// Waits until the session is no longer known. A post of a noop says nothing to it.
fn wait_for_end(session: &mut Polling) {
    eventually("the end of the session", || (session.post("6").status == 400).then_some(()));
    assert_eq!(refusal(&session.poll()), (400, 1));
}

#[test]
fn a_session_is_opened_on_both_transports() {
    let server = Conformance::start(&[]);
    for path in PATHS {
        let polling = Polling::open(server.address, path, "").handshake;
        let mut client = Client::open(server.address, &format!("{path}?EIO=4&transport=websocket"), &[]);
        let text = client.next_text();
        let websocket: Value = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
        for (handshake, upgrades) in [(&polling, json!(["websocket"])), (&websocket, json!([]))] {
            let mut rest = handshake.clone();
            // At least 128 random bits.
            assert!(rest["sid"].take().as_str().unwrap().len() >= 22);
            let expected = json!({
                "sid": null, "upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000,
            });
            assert_eq!(rest, expected);
        }
        assert_ne!(polling["sid"], websocket["sid"]);
    }
}

#[test]
fn requests_that_cannot_be_served_are_told_why() {
    let server = Conformance::start(&[]);
    for path in PATHS {
        let session = Polling::open(server.address, path, "");
        let sid = session.sid();
        let cases = [
            ("GET", "EIO=4".to_owned(), 0),
            ("GET", "EIO=4&transport=abc".to_owned(), 0),
            ("GET", "EIO=4&transport=polling&sid=abc".to_owned(), 1),
            ("POST", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), 1),
            ("POST", "EIO=4&transport=polling".to_owned(), 2),
            ("PUT", "EIO=4&transport=polling".to_owned(), 2),
            ("GET", "EIO=4&transport=websocket".to_owned(), 3),
            ("GET", format!("EIO=4&transport=websocket&sid={sid}"), 3),
            ("GET", "transport=polling".to_owned(), 5),
            ("GET", "EIO=abc&transport=polling".to_owned(), 5),
            ("GET", "EIO=3&transport=polling".to_owned(), 5),
        ];
        for (method, query, code) in cases {
            let response = http::request(server.address, method, &format!("{path}?{query}"), &[], b"");
            assert_eq!(refusal(&response), (400, code), "{method} {query}");
        }
        let foreign = [("Origin", "http://elsewhere.test")];
        let query = format!("{path}?EIO=4&transport=polling");
        assert_eq!(refusal(&http::request(server.address, "GET", &query, &foreign, b"")), (403, 4));
        for (query, code) in [
            ("EIO=4", 0),
            ("EIO=4&transport=abc", 0),
            ("EIO=4&transport=websocket&sid=abc", 1),
            ("transport=websocket", 5),
            ("EIO=abc&transport=websocket", 5),
            ("EIO=4&transport=polling", 3),
        ] {
            let refused = Client::try_open(server.address, &format!("{path}?{query}"), &[]).err().unwrap();
            assert_eq!(refusal(&refused), (400, code), "a WebSocket at {query}");
        }
    }
}

#[test]
fn several_packets_travel_in_one_body() {
    let server = Conformance::start(&[]);
    let mut session = Polling::open(server.address, "/engine.io/", "");
    for body in ["4hello", "4test1\u{1e}4test2\u{1e}4test3", "4hello\u{1e}bAQIDBA==", "4", "4ü€😀\u{1e}b"]
    {
        session.send(body);
        assert_eq!(session.packets().join("\u{1e}"), body);
    }
    session.send("4a");
    assert_eq!(session.poll().header("content-type"), Some("text/plain; charset=UTF-8"));
    // What comes while no poll is open waits, in order.
    for number in 0..50 {
        session.send(&format!("3\u{1e}4{number}\u{1e}bAQ=="));
    }
    let expected: Vec<String> =
        (0..50).flat_map(|number| [format!("4{number}"), "bAQ==".to_owned()]).collect();
    let mut found = Vec::new();
    while found.len() < expected.len() {
        found.extend(session.packets());
    }
    assert_eq!(found, expected);
}

#[test]
fn a_large_body_comes_in_many_parts_and_goes_back_whole() {
    let server = Conformance::start(&[]);
    let mut session = Polling::open(server.address, "/engine.io/", "");
    let body = format!("4{}", "x".repeat(999_999));
    session.send(&body);
    assert!(session.packets() == [body.as_str()]);
    // One byte more is refused before it comes.
    let mut connection = Connection::open(server.address);
    connection.raw(&http::head("POST", &session.path, "x", &[], 1_000_001));
    assert_eq!(connection.response().status, 413);
    session.send("4still here");
    assert_eq!(session.packets(), ["4still here"]);
}

#[test]
fn messages_come_back_over_a_websocket() {
    let server = Conformance::start(&[]);
    let mut session = open(&server, Transport::WebSocket);
    for packet in ["4hello", "bAQIDBA==", "4", "4\u{1e}", "b"] {
        session.send(packet);
        assert_eq!(session.packet(), packet);
    }
}

#[test]
fn what_is_no_packet_ends_the_session() {
    let server = Conformance::start(&[]);
    for body in ["abc", "", "4a\u{1e}", "4a\u{1e}\u{1e}4b", "b!", "b*AQI", "7", "2"] {
        let mut session = Polling::open(server.address, "/engine.io/", "");
        let response = session.post(body);
        // Of several packets those before the bad one have been taken.
        assert!(
            matches!(response.status, 400 | 200) && (response.status == 400) != (body == "2"),
            "{body:?} {response:?}"
        );
        wait_for_end(&mut session);
    }
    for text in ["abc", "7", "2", ""] {
        let mut session = open(&server, Transport::WebSocket);
        session.send(text);
        assert!(session.closed().is_empty(), "{text}");
    }
}

#[test]
fn two_polls_at_once_end_the_session() {
    let server = Conformance::start(&[]);
    for path in PATHS {
        let mut session = Polling::open(server.address, path, "");
        session.begin_poll();
        let other = http::request(server.address, "GET", &session.path, &[], b"");
        let mut answers = [session.poll(), other].map(|answer| (answer.status, answer.text()));
        // Whichever came second is refused; the first is told of the end.
        answers.sort();
        assert_eq!((answers[0].0, answers[0].1.as_str()), (200, "1"));
        assert_eq!(answers[1].0, 400);
        wait_for_end(&mut session);
    }
}

#[test]
fn a_cancelled_poll_ends_the_session() {
    let server = Conformance::start(&[]);
    for path in PATHS {
        let mut session = Polling::open(server.address, path, "");
        let mut poll = Connection::open(server.address);
        poll.send("GET", &session.path, &[], b"");
        drop(poll);
        // The pongs keep it from ending for another reason.
        eventually("the end of the session", || (session.post("3").status == 400).then_some(()));
        assert_eq!(refusal(&session.poll()), (400, 1));
    }
}

#[test]
fn a_session_that_answers_pings_goes_on_and_one_that_does_not_ends() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut session = open(&server, transport);
        for _ in 0..3 {
            assert_eq!(session.any_packet().as_deref(), Some("2"));
            session.send("3");
        }
        assert_eq!(session.any_packet().as_deref(), Some("2"));
        // No answer now. A session that polls is told by a packet, unless its end comes between two polls.
        let last = session.any_packet();
        assert!(last.is_none() || last.as_deref() == Some("1"), "{last:?}");
        if transport == Transport::Polling {
            wait_for_end(session.polling());
        }
    });
    // Nor does one stay that never polls.
    wait_for_end(&mut Polling::open(server.address, "/socket.io/", ""));
}

#[test]
fn a_client_may_end_its_session() {
    let server = Conformance::start(&[]);
    for path in PATHS {
        let mut session = Polling::open(server.address, path, "");
        session.begin_poll();
        session.send("1");
        assert_eq!(session.packets(), ["6"]);
        wait_for_end(&mut session);
        // Without an open poll too.
        let mut session = Polling::open(server.address, path, "");
        session.send("1");
        wait_for_end(&mut session);
        let mut client = Client::open(server.address, &format!("{path}?EIO=4&transport=websocket"), &[]);
        client.next_text();
        client.text("1");
        client.expect_close(1000);
    }
}

/// A WebSocket for the session that polls.
fn probe(server: &Conformance, session: &Polling) -> Client {
    let path = session.path.replace("transport=polling", "transport=websocket");
    Client::open(server.address, &path, &[])
}

#[test]
fn a_session_goes_from_polling_to_a_websocket() {
    let server = Conformance::start(&[]);
    let mut session = Polling::open(server.address, "/engine.io/", "");
    session.begin_poll();
    let mut websocket = probe(&server, &session);
    websocket.text("2probe");
    assert_eq!(websocket.next_text(), "3probe");
    // The open poll ends, and so does another one.
    assert_eq!(session.packets(), ["6"]);
    assert_eq!(session.packets(), ["6"]);
    websocket.text("5");
    websocket.text("4hello");
    assert_eq!(websocket.next_text(), "4hello");
    // From here on neither requests nor another WebSocket have anything to do with it.
    let other = probe(&server, &session);
    assert!(Socket::over_silent(other).closed().is_empty());
    assert_eq!(refusal(&session.poll()), (400, 3));
    assert_eq!(refusal(&session.post("4lost")), (400, 3));
    websocket.text("4again");
    assert_eq!(websocket.next_text(), "4again");
}

#[test]
fn what_waits_for_a_poll_comes_over_the_websocket() {
    let server = Conformance::start(&[]);
    let mut session = Polling::open(server.address, "/engine.io/", "");
    session.send("4a\u{1e}bAQI=");
    let mut websocket = probe(&server, &session);
    websocket.text("2probe");
    assert_eq!(websocket.next_text(), "3probe");
    session.send("4b");
    websocket.text("5");
    websocket.text("4c");
    let mut upgraded = Socket::over_silent(websocket);
    let packets: Vec<String> = (0..4).map(|_| upgraded.packet()).collect();
    assert_eq!(packets, ["4a", "bAQI=", "4b", "4c"]);
}

#[test]
fn a_websocket_that_does_not_probe_leaves_the_session_alone() {
    let server = Conformance::start(&[]);
    let mut session = Polling::open(server.address, "/engine.io/", "");
    for text in ["4hello", "2", "2else", "abc"] {
        let mut websocket = probe(&server, &session);
        websocket.text(text);
        assert!(Socket::over_silent(websocket).closed().is_empty(), "{text}");
        session.send("4still\u{1e}3");
        assert_eq!(session.packets(), ["4still"]);
    }
    // One at a time; when it goes, the next may come.
    let first = probe(&server, &session);
    assert!(Socket::over_silent(probe(&server, &session)).closed().is_empty());
    drop(first);
    eventually("another probe", || {
        let mut websocket = probe(&server, &session);
        websocket.text("2probe");
        Socket::over_silent(websocket).try_packet().filter(|packet| packet == "3probe")
    });
    session.send("4polling still\u{1e}3");
    assert_eq!(session.packets(), ["4polling still"]);
}

#[test]
fn an_upgrade_of_an_unknown_session_is_refused() {
    let server = Conformance::start(&[]);
    let session = Polling::open(server.address, "/engine.io/", "");
    // The id of a session on a slot that is taken, its secret wrong.
    let mut sid = session.sid().to_owned();
    let last = if sid.ends_with('A') { 'B' } else { 'A' };
    sid.replace_range(sid.len() - 4..sid.len() - 3, &last.to_string());
    let path = format!("/engine.io/?EIO=4&transport=websocket&sid={sid}");
    let response = http::request(server.address, "GET", &path, &UPGRADE, b"");
    assert_eq!(refusal(&response), (400, 1));
}
