//! Sessions over Socket.IO: what transcripts cannot say, because it has attachments or an answer of the router's.

pub(super) mod bench;

use std::ops::Deref;

use super::*;
use crate::room::publication::{Publication, Target};
use bench::{Stand, connected};

/// 2025-05-20T14:30:00.000Z.
const NOW: Now = Now { mono: 0, unix: 1_747_751_400_000_000_000 };
/// How [`NOW`] is written.
const TIME: &str = "2025-05-20T14:30:00.000Z";

struct Bench(Stand);

impl Deref for Bench {
    type Target = Stand;

    fn deref(&self) -> &Stand {
        &self.0
    }
}

impl Bench {
    fn new(app: AppOpening, user: Option<&str>) -> Bench {
        let identity = user.map(|user| Identity { user: user.into(), expires_at: u64::MAX, details: None });
        let user = user.map_or_else(User::anonymous, |user| connected(user, App::Market));
        let mut stand = Stand::new(user, identity, app, NOW);
        stand.settings.control = None;
        Bench(stand)
    }

    fn market(wire: Wire) -> Bench {
        Bench::new(AppOpening::Market(wire), Some("ada-0001"))
    }

    fn echo(wire: Wire) -> Bench {
        Bench::new(AppOpening::Echo { wire, auth: "".into() }, None)
    }

    /// An event without attachments.
    fn event(&mut self, args: &str, ack: Option<u64>) -> Vec<String> {
        let mut parser = Parser::new(64);
        let args = parser.parse(args.as_bytes()).expect("valid JSON");
        self.input(Input::Event { args, is_binary: false, attachments: &[], ack })
    }

    fn binary_event(&mut self, args: &str, attachments: &[Box<[u8]>], ack: Option<u64>) -> Vec<String> {
        let mut parser = Parser::new(64);
        let args = parser.parse(args.as_bytes()).expect("valid JSON");
        self.input(Input::Event { args, is_binary: true, attachments, ack })
    }

    /// The effects of an input, in words; texts frame by frame.
    fn input(&mut self, input: Input<'_>) -> Vec<String> {
        self.0.drive(input, |output, words| {
            let (word, text) = match output {
                Output::Reply(text) => (None, text),
                Output::Join { rooms, confirmation, asked } => {
                    let rooms: Vec<_> = rooms.iter().map(|joining| joining.room.as_str()).collect();
                    (Some(format!("join {rooms:?} for {:?}", asked.ack)), confirmation)
                }
                Output::Leave { room, confirmation } => (Some(format!("leave {room:?}")), confirmation),
                Output::Personal { on, confirmation } => (Some(format!("personal {on}")), confirmation),
                Output::Publish { publication, asked, confirmation, counted } => (
                    Some(format!("{} for {:?} counted {counted}", said(&publication), asked.ack)),
                    confirmation,
                ),
                Output::Presence { users, ack } => (Some(format!("presence {users:?} for {ack:?}")), 0..0),
                Output::Forward { event, .. } => (Some(format!("forward {event}")), 0..0),
                Output::Tell { publication, users, .. } => {
                    (Some(format!("tell {users:?} {publication:?}")), 0..0)
                }
                Output::Store { ticket, what } => (Some(format!("store {ticket} {what:?}")), 0..0),
                Output::Deadline => (Some("deadline".to_owned()), 0..0),
                Output::Close(reason) => (Some(format!("close {}", reason.code())), 0..0),
                Output::Live(live) => (Some(format!("{live:?}")), 0..0),
                Output::Written => (Some("written".to_owned()), 0..0),
            };
            words.extend(word);
            text
        })
    }
}

fn said(publication: &Publication) -> String {
    assert!(matches!(publication.target, Target::Room | Target::User));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("publications are texts");
    let (event, data) = (text(publication.event()), text(publication.data()));
    format!("publish {:?} {} {event} {data}", publication.target, publication.name())
}

#[test]
fn a_socket_io_client_is_welcomed_with_its_sid_and_its_first_offset() {
    let sid = "BwcHBwcHBwcHBwcHBwcHBw";
    let connected = |end: &str| {
        let version = env!("CARGO_PKG_VERSION");
        let data = format!(r#"{{"connectionId":"{sid}","timestamp":"{TIME}","serverVersion":"{version}"}}"#);
        format!(r#"42["connected",{data}{end}]"#)
    };
    let authenticated = r#"42["authenticated",{"user":{"id":"ada-0001"}}]"#.to_owned();
    let mut bench = Bench::market(Wire::SocketIo);
    assert_eq!(bench.session.connection_id(), sid);
    assert_eq!(bench.input(Input::Opened { offset: None }), [connected(""), authenticated.clone()]);
    let mut bench = Bench::market(Wire::SocketIoOffset);
    assert_eq!(
        bench.input(Input::Opened { offset: Some(123) }),
        [connected(",\"123\""), authenticated.clone()]
    );
    assert_eq!(bench.input(Input::Opened { offset: None }), [connected(""), authenticated]);
}

#[test]
fn a_native_client_knows_its_connection_as_a_uuid() {
    let mut bench = Bench::market(Wire::Native);
    let said = bench.input(Input::Opened { offset: None });
    assert!(said[0].contains(r#""connectionId":"07070707-0707-0707-0707-070707070707""#), "{said:?}");
}

#[test]
fn a_direct_message_is_acknowledged_once_it_is_counted() {
    let mut bench = Bench::market(Wire::SocketIo);
    let args = r#"["direct_message",{"to":"bob","message":"hi"}]"#;
    let data = format!(r#"{{"from":"ada-0001","message":"hi","timestamp":"{TIME}"}}"#);
    let publish = format!(r#"publish User bob "direct_message" {data}"#);
    assert_eq!(bench.event(args, None), [format!("{publish} for None counted false")]);
    assert_eq!(bench.event(args, Some(5)), [format!("{publish} for Some(5) counted true")]);
    assert_eq!(bench.input(Input::Delivered { count: 3, ack: 5 }), [r#"435[{"delivered":3}]"#]);
}

#[test]
fn a_room_message_is_acknowledged_with_what_is_published() {
    let mut bench = Bench::market(Wire::SocketIo);
    let args = r#"["room_message",{"roomId":"user-ada-0001","message":[1]}]"#;
    let data = format!(r#"{{"room":"user:ada-0001","from":"ada-0001","message":[1],"timestamp":"{TIME}"}}"#);
    let publish = format!(r#"publish User ada-0001 "room_message" {data}"#);
    assert_eq!(bench.event(args, None), [format!("{publish} for None counted false")]);
    let acknowledged = [format!("{publish} for Some(0) counted false"), format!("430[{data}]")];
    assert_eq!(bench.event(args, Some(0)), acknowledged);
}

#[test]
fn presence_is_acknowledged_with_the_answer() {
    let mut bench = Bench::market(Wire::SocketIo);
    let words = bench.event(r#"["presence",{"userIds":["bob",7]}]"#, Some(9));
    assert_eq!(
        words,
        ["join [\"\\u{2}bob\", \"\\u{2}7\"] for None", "presence [\"bob\", \"7\"] for Some(9)"]
    );
    let users = [Presence { user: "bob".into(), online: true, last_seen: None }];
    let object = r#"{"users":[{"userId":"bob","online":true}]}"#;
    let event = format!(r#"42["presence",{object}]"#);
    assert_eq!(
        bench.input(Input::Presence { users: &users, ack: Some(9) }),
        [event.clone(), format!("439[{object}]")]
    );
    assert_eq!(bench.input(Input::Presence { users: &users, ack: None }), [event]);
}

#[test]
fn refusals_that_come_later_are_acknowledged_too() {
    let mut bench = Bench::market(Wire::SocketIoOffset);
    let asked = Asked { event: "join_room", ack: Some(1) };
    for (input, wait) in [(Input::TooManyRooms(asked), ""), (Input::Busy(asked), r#","retry_after_ms":100"#)]
    {
        let words = bench.input(input);
        let object = words[0].strip_prefix(r#"42["error","#).and_then(|rest| rest.strip_suffix(']'));
        let object = object.expect("an error event");
        assert!(object.starts_with(r#"{"code":"RATE_LIMITED","message":""#), "{words:?}");
        assert!(object.ends_with(&format!(r#","event":"join_room"{wait}}}"#)), "{words:?}");
        assert_eq!(words[1..], [format!(r#"431[{{"error":{object}}}]"#)]);
    }
}

#[test]
fn market_takes_no_binary_data() {
    let mut bench = Bench::market(Wire::SocketIo);
    let args = r#"["room_message",{"room":"user:ada-0001","message":{"_placeholder":true,"num":0}}]"#;
    let words = bench.binary_event(args, &[Box::from([1u8])], Some(2));
    assert!(words[0].starts_with(r#"42["error",{"code":"INVALID_MESSAGE","#), "{words:?}");
    assert!(words[1].starts_with(r#"432[{"error":{"code":"INVALID_MESSAGE","#), "{words:?}");
    assert_eq!(words.len(), 2);
}

#[test]
fn names_of_events_are_texts() {
    let mut bench = Bench::market(Wire::SocketIo);
    for (args, event) in
        [("[7]", r#","event":"7"}]"#), ("[]", r#"}]"#), ("[null]", r#"}]"#), (r#"[{},"ping"]"#, r#"}]"#)]
    {
        let words = bench.event(args, None);
        assert_eq!(words.len(), 1, "{args}: {words:?}");
        assert!(words[0].starts_with(r#"42["error",{"code":"INVALID_MESSAGE","#), "{args}: {words:?}");
        assert!(words[0].ends_with(event), "{args}: {words:?}");
    }
}

#[test]
fn what_is_no_object_counts_as_no_data() {
    let mut bench = Bench::market(Wire::SocketIo);
    let pong = format!(r#"42["pong",{{"timestamp":"{TIME}","serverTime":"{TIME}"}}]"#);
    for args in [r#"["ping"]"#, r#"["ping",null]"#, r#"["ping","x",{"timestamp":1}]"#, r#"["ping",[1]]"#] {
        assert_eq!(bench.event(args, None), std::slice::from_ref(&pong), "{args}");
    }
    assert_eq!(
        bench.event(r#"["ping",{"timestamp":1},"more"]"#, None),
        [pong.replacen(&format!("\"{TIME}\""), "1", 1)]
    );
}

#[test]
fn socket_io_clients_learn_of_a_close_from_its_packets_alone() {
    let reason = CloseReason::TokenExpired;
    assert_eq!(Bench::market(Wire::SocketIo).input(Input::Closing(&reason)), [""; 0]);
    assert_eq!(Bench::market(Wire::Native).input(Input::Closing(&reason)).len(), 1);
}

#[test]
fn a_token_that_ends_is_said_without_an_acknowledgement() {
    let mut bench = Bench::market(Wire::SocketIo);
    assert_eq!(bench.input(Input::TokenOver), [r#"42["token_expired",{}]"#, "deadline"]);
    assert_eq!(bench.input(Input::TokenOver), ["close 1008"]);
}

#[test]
fn echo_says_what_connect_carried() {
    let mut bench = Bench::echo(Wire::SocketIo);
    assert_eq!(bench.input(Input::Opened { offset: None }), [r#"42["auth",{}]"#]);
    let auth = r#"{ "token" : "123" }"#;
    let app = |wire| AppOpening::Echo { wire, auth: auth.into() };
    let mut bench = Bench::new(app(Wire::SocketIoCustom), None);
    assert_eq!(bench.input(Input::Opened { offset: None }), [format!(r#"42/custom,["auth",{auth}]"#)]);
    let mut bench = Bench::new(app(Wire::SocketIoOffset), None);
    assert_eq!(bench.input(Input::Opened { offset: Some(0) }), [format!(r#"42["auth",{auth},"0"]"#)]);
}

#[test]
fn echo_sends_arguments_back_as_they_were_written() {
    let mut bench = Bench::echo(Wire::SocketIo);
    assert_eq!(bench.event(r#"["message"]"#, None), [r#"42["message-back"]"#]);
    let args = r#"1, "2,]" ,{"3":[true]},1.0,"\u00e9""#;
    let said = bench.event(&format!(r#" [ "message" , {args} ] "#), Some(1));
    assert_eq!(said, [format!(r#"42["message-back",{args}]"#)]);
    let said = bench.event(&format!(r#"["message-with-ack",{args}]"#), Some(456));
    assert_eq!(said, [format!("43456[{args}]")]);
    assert_eq!(bench.event(r#"["message-with-ack"]"#, Some(u64::MAX)), ["4318446744073709551615[]"]);
    assert_eq!(bench.event(r#"["message-with-ack",1]"#, None), [""; 0]);
    for unknown in [r#"["nothing",1]"#, "[1]", "[]", "[null]"] {
        assert_eq!(bench.event(unknown, Some(1)), [""; 0], "{unknown}");
    }
}

#[test]
fn echo_sends_attachments_back_in_order() {
    let attachments = [Box::from([1u8, 2, 3]), Box::from([]), vec![0; 300].into_boxed_slice()];
    let binaries: Vec<String> = attachments.iter().map(|bytes| format!("{bytes:?}")).collect();
    let args = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1},{"_placeholder":true,"num":2}"#;
    let with = |text: String| [vec![text], binaries.clone()].concat();
    let mut bench = Bench::echo(Wire::SocketIo);
    let said = bench.binary_event(&format!(r#"["message",{args}]"#), &attachments, None);
    assert_eq!(said, with(format!(r#"453-["message-back",{args}]"#)));
    let said = bench.binary_event(&format!(r#"["message-with-ack",{args}]"#), &attachments, Some(789));
    assert_eq!(said, with(format!("463-789[{args}]")));
    let mut bench = Bench::echo(Wire::SocketIoCustom);
    let said = bench.binary_event(&format!(r#"["message-with-ack",{args}]"#), &attachments, Some(789));
    assert_eq!(said, with(format!("463-/custom,789[{args}]")));
    let said = bench.binary_event(&format!(r#"["message",{args}]"#), &attachments, Some(789));
    assert_eq!(said, with(format!(r#"453-/custom,["message-back",{args}]"#)));
    assert_eq!(bench.binary_event(r#"["message"]"#, &[], None), [r#"450-/custom,["message-back"]"#]);
}

#[test]
fn echo_has_rooms() {
    let mut bench = Bench::echo(Wire::SocketIo);
    assert_eq!(bench.event(r#"["room-join","lobby"]"#, Some(3)), [r#"join ["lobby"] for Some(3)"#, "433[]"]);
    assert_eq!(bench.event(r#"["room-join","lobby"]"#, None), [r#"join ["lobby"] for None"#]);
    let said = bench.event(r#"["room-say","lobby","say \u0041",1, {"b":2}]"#, Some(4));
    let publish = r#"publish Room lobby "say \u0041" 1, {"b":2} for Some(4) counted false"#;
    assert_eq!(said, [publish, "434[]"]);
    let said = bench.event(r#"["room-say","lobby","hi"]"#, None);
    assert_eq!(said, [r#"publish Room lobby "hi"  for None counted false"#]);
    let long = format!(r#"["room-join","{}"]"#, "x".repeat(129));
    for nonsense in [&long, r#"["room-join"]"#, r#"["room-join",""]"#, r#"["room-join","a\u0000"]"#] {
        assert_eq!(bench.event(nonsense, Some(1)), [""; 0], "{nonsense}");
    }
    for nonsense in [r#"["room-say"]"#, r#"["room-say","lobby"]"#, r#"["room-say","lobby",1]"#] {
        assert_eq!(bench.event(nonsense, Some(1)), [""; 0], "{nonsense}");
    }
    let busy = Asked { event: "room-say", ack: Some(1) };
    assert!(bench.input(Input::Busy(busy))[0].starts_with(r#"431[{"error":{"code":"RATE_LIMITED""#));
}
