//! Socket.IO, protocol v5: the behaviours that the protocol's test suite asks for, and some that it does not, on the
//! conformance example.

use serde_json::{Value, json};

use crate::support::conformance::Conformance;
use crate::support::socketio::{Socket, Transport, each_transport};

/// A session with the namespace `/`.
#[track_caller]
fn connect(server: &Conformance, transport: Transport) -> Socket {
    let mut socket = Socket::open(server.address, transport);
    socket.send("40");
    assert!(socket.packet().starts_with("40{"));
    assert_eq!(socket.packet(), r#"42["auth",{}]"#);
    socket
}

/// What stands behind the head of a packet.
#[track_caller]
fn data(packet: &str, head: &str) -> Value {
    let json = packet.strip_prefix(head).unwrap_or_else(|| panic!("{packet}"));
    serde_json::from_str(json).unwrap_or_else(|_| panic!("{packet}"))
}

#[test]
fn namespaces_are_connected_with_and_without_a_payload() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        for (sent, head, auth) in [
            ("40", "40", r#"42["auth",{}]"#),
            (r#"40{"token":"123"}"#, "40", r#"42["auth",{"token":"123"}]"#),
            ("40/custom,", "40/custom,", r#"42/custom,["auth",{}]"#),
            ("40/custom", "40/custom,", r#"42/custom,["auth",{}]"#),
            (r#"40/custom,{"token":"abc"}"#, "40/custom,", r#"42/custom,["auth",{"token":"abc"}]"#),
        ] {
            let mut socket = Socket::open(server.address, transport);
            socket.send(sent);
            let answer = data(&socket.packet(), head);
            assert_eq!(answer.as_object().unwrap().len(), 1, "only those who ask get more: {answer}");
            assert!(!answer["sid"].as_str().unwrap().is_empty());
            assert_ne!(answer["sid"], socket.handshake["sid"], "the session's id is a secret");
            assert_eq!(socket.packet(), auth);
        }
    });
}

#[test]
fn an_unknown_namespace_is_refused_and_the_others_go_on() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = Socket::open(server.address, transport);
        socket.send("40/random");
        assert_eq!(socket.packet(), r#"44/random,{"message":"Invalid namespace"}"#);
        socket.send("40");
        assert!(socket.packet().starts_with("40{"));
        assert_eq!(socket.packet(), r#"42["auth",{}]"#);
    });
}

#[test]
fn namespaces_of_one_session_are_apart() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = connect(&server, transport);
        socket.send("40/custom");
        assert!(socket.packet().starts_with("40/custom,{"));
        assert_eq!(socket.packet(), r#"42/custom,["auth",{}]"#);
        socket.send(r#"42/custom,7["message-with-ack",1]"#);
        assert_eq!(socket.packet(), "43/custom,7[1]");
        socket.send(r#"451-/custom,["message",{"_placeholder":true,"num":0}]"#);
        socket.send("bAQID");
        assert_eq!(socket.packet(), r#"451-/custom,["message-back",{"_placeholder":true,"num":0}]"#);
        assert_eq!(socket.packet(), "bAQID");
        // One is left, the other stays; and it may be connected again.
        socket.send("41/custom");
        socket.send(r#"42["message","to the main namespace"]"#);
        assert_eq!(socket.packet(), r#"42["message-back","to the main namespace"]"#);
        socket.send("40/custom");
        assert!(socket.packet().starts_with("40/custom,{"));
        assert_eq!(socket.packet(), r#"42/custom,["auth",{}]"#);
    });
}

#[test]
fn a_session_without_namespaces_goes_on() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = connect(&server, transport);
        socket.send("41");
        assert_eq!(socket.any_packet().as_deref(), Some("2"), "the next is the heartbeat");
        socket.send("3");
        socket.send("40");
        assert!(socket.packet().starts_with("40{"));
    });
}

#[test]
fn who_never_connects_a_namespace_is_let_go() {
    let server = Conformance::start(&[]);
    let mut socket = Socket::open(server.address, Transport::WebSocket);
    while socket.any_packet().is_some() {}
}

#[test]
fn arguments_come_back_byte_for_byte() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = connect(&server, transport);
        for arguments in [
            r#"1,"2",{"3":[true]}"#,
            r#"1.10,1e3,-0.0,123456789012345678901234567890"#,
            r#""\u00e9\/é€😀","\ud83d\ude00",null"#,
            r#"{"b":1,"a":2,"b":3}"#,
            r#"{ "spaces" : [ 1 , 2 ] }"#,
            r#""42[\"message\"]""#,
        ] {
            socket.send(&format!("42[\"message\",{arguments}]"));
            assert_eq!(socket.packet(), format!("42[\"message-back\",{arguments}]"));
            socket.send(&format!("42456[\"message-with-ack\",{arguments}]"));
            assert_eq!(socket.packet(), format!("43456[{arguments}]"));
        }
        socket.send(r#"42["message"]"#);
        assert_eq!(socket.packet(), r#"42["message-back"]"#);
        socket.send(r#"420["message-with-ack"]"#);
        assert_eq!(socket.packet(), "430[]");
    });
}

#[test]
fn attachments_come_back_with_their_packet() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = connect(&server, transport);
        let two = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
        for (sent, found) in [
            (format!("452-[\"message\",{two}]"), format!("452-[\"message-back\",{two}]")),
            (format!("452-789[\"message-with-ack\",{two}]"), format!("462-789[{two}]")),
        ] {
            for packet in [&*sent, "bAQID", "bBAUG"] {
                socket.send(packet);
            }
            for packet in [&*found, "bAQID", "bBAUG"] {
                assert_eq!(socket.packet(), packet);
            }
        }
    });
}

/// A packet with so many attachments.
fn with_attachments(count: usize) -> String {
    let places: Vec<Value> = (0..count).map(|num| json!({ "_placeholder": true, "num": num })).collect();
    let all: Vec<Value> = [json!("message")].into_iter().chain(places).collect();
    format!("45{count}-{}", json!(all))
}

#[test]
fn ten_attachments_are_taken_and_eleven_are_not() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = connect(&server, transport);
        socket.send(&with_attachments(10));
        (0..10).for_each(|_| socket.send("bAQ=="));
        assert_eq!(socket.packet(), with_attachments(10).replace("\"message\"", "\"message-back\""));
        (0..10).for_each(|_| assert_eq!(socket.packet(), "bAQ=="));
    });
    expect_end(&server, &with_attachments(11));
}

/// A packet that the session does not survive, on both transports. What is refused of a post is answered with 400.
fn expect_end(server: &Conformance, packet: &str) {
    each_transport(|transport| {
        let mut socket = connect(server, transport);
        match transport {
            Transport::WebSocket => socket.send(packet),
            Transport::Polling => {
                socket.polling().post(packet);
            }
        }
        assert!(socket.closed().is_empty(), "{packet}");
    });
}

#[test]
fn what_is_no_packet_ends_the_connection() {
    let server = Conformance::start(&[]);
    for packet in [
        "4abc",
        "4",
        "42{}",
        "42[]",
        "42[null]",
        r#"42abc["message-with-ack",1]"#,
        r#"42["message""#,
        // A namespace that is not connected, or is connected twice.
        r#"42/custom,["message"]"#,
        "40",
        // Attachments that do not come, come too early, or were not announced.
        "bAQ==",
        r#"45["message",{"_placeholder":true,"num":0}]"#,
    ] {
        expect_end(&server, packet);
    }
    let mut socket = connect(&server, Transport::WebSocket);
    socket.send(r#"451-["message",{"_placeholder":true,"num":0}]"#);
    socket.send(r#"42["message"]"#);
    assert!(socket.closed().is_empty());
    let mut socket = Socket::open(server.address, Transport::WebSocket);
    socket.send("4abc");
    assert!(socket.closed().is_empty());
}

/// A packet whose JSON is nested so deep.
fn nested(depth: usize) -> String {
    format!("42[\"message\",{}{}]", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

#[test]
fn arguments_may_be_nested_1024_deep() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = connect(&server, transport);
        for depth in [2, 64, 65, 1_023, 1_024] {
            socket.send(&nested(depth));
            assert_eq!(socket.packet(), nested(depth).replace("\"message\"", "\"message-back\""));
        }
    });
    expect_end(&server, &nested(1_025));
    expect_end(&server, &nested(300_000));
}

#[test]
fn large_packets_come_back_whole() {
    let server = Conformance::start(&[]);
    each_transport(|transport| {
        let mut socket = connect(&server, transport);
        for length in [100, 70_000, 900_000] {
            let text = "x€".repeat(length / 4);
            socket.send(&format!("42[\"message\",\"{text}\"]"));
            assert!(socket.packet() == format!("42[\"message-back\",\"{text}\"]"));
        }
    });
}

/// Connects with recovery.
#[track_caller]
fn recoverable(server: &Conformance, transport: Transport, auth: Value) -> (Socket, Value) {
    let mut socket = Socket::open(server.address, transport);
    let answer = socket.connect(auth).unwrap();
    let welcome = socket.next();
    assert_eq!(welcome[0], "auth");
    (socket, answer)
}

#[test]
fn rooms_and_missed_events_come_back_with_recovery() {
    let server = Conformance::start(&["--recovery"]);
    each_transport(|transport| {
        let mut speaker = connect(&server, Transport::WebSocket);
        let (mut listener, first) = recoverable(&server, transport, json!({ "recover": true }));
        listener.send(r#"421["room-join","hall"]"#);
        assert_eq!(listener.packet(), "431[]");
        let mut number = 0;
        let mut say = |speaker: &mut Socket| {
            number += 1;
            speaker.send(&format!("42{number}[\"room-say\",\"hall\",\"said\",{number}]"));
            assert_eq!(speaker.packet(), format!("43{number}[]"));
            number
        };
        let heard = say(&mut speaker);
        assert_eq!(listener.next(), json!(["said", heard]));
        for _ in 0..3 {
            let lost = listener.cut();
            let missed = [say(&mut speaker), say(&mut speaker)];
            let (back, again) = recoverable(&server, transport, lost.auth.clone());
            listener = back;
            assert_eq!((&again["sid"], &again["pid"]), (&first["sid"], &first["pid"]));
            for number in missed {
                assert_eq!(listener.next(), json!(["said", number]));
            }
            let heard = say(&mut speaker);
            assert_eq!(listener.next(), json!(["said", heard]));
        }
    });
}

#[test]
fn without_the_switch_there_is_no_recovery() {
    let server = Conformance::start(&[]);
    let (_, answer) = recoverable(&server, Transport::WebSocket, json!({ "recover": true }));
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
}
