//! Transcripts of sessions of `mobile`, with the store's answers played by hand.

mod errors;
mod told;

use std::ops::{Deref, DerefMut};

use super::*;
use crate::app::tests::bench::{Stand, connected};
use crate::app::{AppOpening, AppSettings, Asked};
use crate::audience::App;
use crate::auth::Identity;
use crate::limits::Rate;
use crate::proto::json::Parser;
use crate::record::mobile::{NewPersonalMessage, PersonalMessage, Place, Queued};
use crate::room::publication::{Publication, Target};
use crate::time::Now;

/// 2025-05-20T14:30:00.123Z.
const AT: u64 = 1_747_751_400_123;
/// How [`AT`] is written.
const TIME: &str = "2025-05-20T14:30:00.123Z";
/// A message, and how it is written.
const MESSAGE: Uuid = Uuid::from_bytes([0x3e; 16]);
const M: &str = "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e";
/// The id of a session whose bytes are all 7.
const SID: &str = "BwcHBwcHBwcHBwcHBwcHBw";
const TO_BOB: &str = r#"{"recipientId":"bob"}"#;

/// A session of ada's, who talks to bob.
struct Bench {
    stand: Stand,
    /// What the session has asked the store.
    asked: Vec<(u64, MobileWrite)>,
}

impl Deref for Bench {
    type Target = Stand;

    fn deref(&self) -> &Stand {
        &self.stand
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Stand {
        &mut self.stand
    }
}

impl Bench {
    fn new(wire: Wire) -> Bench {
        let identity = Identity { user: "ada".into(), expires_at: u64::MAX, details: None };
        let opening = AppOpening::Mobile { wire };
        let now = Now { mono: 1_000_000_000, unix: AT * 1_000_000 };
        Bench {
            stand: Stand::new(connected("ada", App::Mobile), Some(identity), opening, now),
            asked: Vec::new(),
        }
    }

    fn chat() -> Bench {
        Bench::new(Wire::SocketIoChat)
    }

    fn wallet() -> Bench {
        Bench::new(Wire::SocketIoWallet)
    }

    /// One that has been given all that waited.
    fn live() -> Bench {
        let mut bench = Bench::chat();
        bench.input(Input::Opened { offset: None });
        assert_eq!(bench.give(vec![], false), [""; 0]);
        bench
    }

    /// A client's event, with an acknowledgement.
    fn ask(&mut self, event: &str, data: &str) -> Vec<String> {
        self.packet(&format!("[{event:?},{data}]"), Some(5))
    }

    /// A client's event.
    fn say(&mut self, event: &str, data: &str) -> Vec<String> {
        self.packet(&format!("[{event:?},{data}]"), None)
    }

    fn packet(&mut self, args: &str, ack: Option<u64>) -> Vec<String> {
        let mut parser = Parser::new(64);
        let args = parser.parse(args.as_bytes()).expect("valid JSON");
        self.input(Input::Event { args, is_binary: false, attachments: &[], ack })
    }

    /// The store's answer to what was asked first.
    fn answer(&mut self, answer: Result<MobileAnswer, Refusal>) -> Vec<String> {
        let (ticket, _) = self.asked.remove(0);
        self.input(Input::Stored { ticket, answer: &answer.map(Answer::Mobile) })
    }

    /// What waits, for what was asked first.
    fn give(&mut self, messages: Vec<PersonalMessage>, has_more: bool) -> Vec<String> {
        assert!(matches!(self.asked[0].1, MobileWrite::Queued { .. }), "{:?}", self.asked);
        let place = place(messages.last().map_or(0, |last| last.number));
        self.answer(Ok(MobileAnswer::Queued(Queued { messages, place, has_more })))
    }

    fn busy(&mut self) -> Vec<String> {
        let (ticket, _) = self.asked.remove(0);
        self.input(Input::StoreBusy { ticket })
    }

    /// The change that was asked for last; the store has carried it out.
    fn written(&mut self) -> MobileWrite {
        let (ticket, write) = self.asked.pop().expect("a change");
        assert_eq!(self.input(Input::Stored { ticket, answer: &Ok(Answer::Done) }), [""; 0]);
        write
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.plus(by);
    }

    /// The effects of an input, in words; what is asked of the store is kept.
    fn input(&mut self, input: Input<'_>) -> Vec<String> {
        let Bench { stand, asked } = self;
        stand.drive(input, |output, words| {
            let (word, text) = match output {
                Output::Reply(text) => (None, text),
                Output::Publish { publication, confirmation, .. } => (Some(said(&publication)), confirmation),
                Output::Store { ticket, what: StoreRequest::Write(Write::Mobile(write)) } => {
                    asked.push((ticket, write));
                    (None, 0..0)
                }
                Output::Written => (Some("written".to_owned()), 0..0),
                Output::Deadline => (Some("deadline".to_owned()), 0..0),
                Output::Close(reason) => (Some(format!("close {}", reason.code())), 0..0),
                other => panic!("{other:?}"),
            };
            words.extend(word);
            text
        })
    }
}

fn said(publication: &Publication) -> String {
    assert_eq!((publication.app, publication.target), (Some(App::Mobile), Target::User));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("publications are texts");
    let (event, data) = (text(publication.event()), text(publication.data()));
    format!("publish {:?} {event} {data}", publication.name())
}

/// An event of the server's in `/chat`.
fn event(name: &str, data: &str) -> String {
    format!("42/chat,[{name:?},{data}]")
}

/// The acknowledgement of what was asked in `/chat`.
fn ack(data: &str) -> String {
    format!("43/chat,5[{data}]")
}

/// An event, and the acknowledgement that says the same.
fn confirmed(name: &str, data: &str) -> [String; 2] {
    [event(name, data), ack(data)]
}

/// A message of ada's.
fn message(number: u64, content: &str) -> PersonalMessage {
    PersonalMessage {
        number,
        id: MESSAGE,
        sender: "ada".into(),
        recipient: "bob".into(),
        kind: "text".into(),
        content: content.into(),
        media_url: None,
        client_message_id: Some("c1".into()),
        created_at: AT,
    }
}

/// One that shows something, to ada.
fn media(number: u64) -> PersonalMessage {
    PersonalMessage {
        sender: "bob".into(),
        recipient: "ada".into(),
        kind: "image".into(),
        media_url: Some("https://example.com/1.png".into()),
        client_message_id: None,
        ..message(number, "")
    }
}

/// How [`message`] is written.
fn written(content: &str) -> String {
    format!(
        r#"{{"id":"{M}","senderId":"ada","recipientId":"bob","roomId":"ada~bob","content":"{content}","type":"text","clientMessageId":"c1","createdAt":"{TIME}"}}"#
    )
}

/// How [`media`] is written.
fn written_media() -> String {
    format!(
        r#"{{"id":"{M}","senderId":"bob","recipientId":"ada","roomId":"ada~bob","content":"","type":"image","mediaUrl":"https://example.com/1.png","createdAt":"{TIME}"}}"#
    )
}

fn typing(event: &str) -> String {
    format!(r#"publish "bob" "{event}" {}"#, typing_data())
}

fn typing_data() -> String {
    format!(r#"{{"userId":"ada","roomId":"ada~bob","timestamp":"{TIME}"}}"#)
}

fn deadline() -> String {
    "deadline".to_owned()
}

/// Where a client is that has all up to a message.
fn place(after: u64) -> Place {
    Place { after, until: 2, left: 400 }
}

fn queued(place: Option<Place>) -> MobileWrite {
    let bytes = AppSettings::default().queued_bytes;
    MobileWrite::Queued { user: "ada".into(), place, bytes }
}

fn given(up_to: u64) -> MobileWrite {
    MobileWrite::Given { user: "ada".into(), up_to }
}

#[test]
fn a_client_is_welcomed_in_each_namespace_and_in_chat_given_what_waits() {
    let welcome = format!(r#"{{"userId":"ada","socketId":"{SID}","timestamp":"{TIME}"}}"#);
    let mut wallet = Bench::wallet();
    let said = wallet.input(Input::Opened { offset: None });
    assert_eq!(said, [format!(r#"42/wallet,["wallet:connected",{welcome}]"#)]);
    assert!(wallet.asked.is_empty());
    let mut chat = Bench::chat();
    assert_eq!(chat.input(Input::Opened { offset: None }), [event("chat:connected", &welcome)]);
    let said = chat.give(vec![message(7, "hi"), media(8)], false);
    assert_eq!(said, [event("message:received", &written("hi")), event("media:received", &written_media())]);
}

#[test]
fn what_was_given_is_noted_when_the_client_is_heard() {
    let mut bench = Bench::chat();
    bench.input(Input::Opened { offset: None });
    // What comes live meanwhile will be in the answer.
    assert!(!bench.session.takes_message(6));
    assert!(!bench.session.awaits_word());
    bench.give(vec![message(5, "a"), message(6, "b")], false);
    assert!(bench.session.awaits_word());
    assert_eq!(bench.input(Input::Heard { all: true }), [""; 0]);
    assert_eq!(bench.written(), given(6));
    assert!(!bench.session.awaits_word());
    for number in [9, 12] {
        assert!(bench.session.takes_message(number));
    }
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.asked[0].1, given(12));
    // The store could not note it: said again, with what has come since.
    assert!(bench.session.takes_message(13));
    assert_eq!(bench.busy(), [""; 0]);
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.asked[0].1, given(13));
    assert_eq!(bench.answer(Err(Refusal::Internal { error_id: MESSAGE })), [""; 0]);
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.written(), given(13));
    bench.input(Input::Heard { all: true });
    assert!(bench.asked.is_empty());
}

#[test]
fn much_is_given_in_parts_each_when_the_one_before_is_written() {
    let mut bench = Bench::chat();
    bench.input(Input::Opened { offset: None });
    assert_eq!(bench.asked[0].1, queued(None));
    let words = bench.give(vec![message(1, "a")], true);
    assert_eq!(words, [event("message:received", &written("a")), "written".to_owned()]);
    assert!(!bench.session.takes_message(3));
    // Nobody has said anything, and need not.
    assert_eq!(bench.input(Input::Written), [""; 0]);
    assert_eq!(bench.asked[0].1, queued(Some(place(1))));
    assert_eq!(bench.input(Input::Written), [""; 0]);
    assert_eq!(bench.asked.len(), 1);
    assert_eq!(bench.give(vec![message(2, "b"), message(3, "c")], false).len(), 2);
    assert!(bench.session.takes_message(4));
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.written(), given(4));
    assert_eq!(bench.input(Input::Written), [""; 0]);
    assert!(bench.asked.is_empty());
}

#[test]
fn a_part_begins_where_this_connection_is_whatever_was_noted() {
    let mut bench = Bench::chat();
    bench.input(Input::Opened { offset: None });
    bench.give(vec![message(1, "a")], true);
    // The client is heard before it is known that all is written; the store notes nothing.
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.asked[0].1, given(1));
    assert_eq!(bench.busy(), [""; 0]);
    bench.input(Input::Written);
    assert_eq!(bench.asked[0].1, queued(Some(place(1))));
    assert_eq!(bench.give(vec![message(2, "b")], false).len(), 1);
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.written(), given(2));
}

#[test]
fn each_part_counts_as_given_while_the_next_is_on_its_way() {
    let mut bench = Bench::chat();
    bench.input(Input::Opened { offset: None });
    for number in 1..4 {
        bench.give(vec![message(number, "a")], number < 3);
        // What is on its way the client need not have; what was written before that it has.
        bench.input(Input::Heard { all: false });
        let noted: Vec<_> = bench.asked.iter().map(|(_, write)| write.clone()).collect();
        let expected = if number > 1 { vec![given(number - 1)] } else { vec![] };
        assert_eq!(noted, expected);
        if number > 1 {
            bench.written();
        }
        if number < 3 {
            bench.input(Input::Written);
            assert_eq!(bench.asked[0].1, queued(Some(place(number))));
        }
    }
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.written(), given(3));
    assert!(!bench.session.awaits_word());
}

#[test]
fn the_store_is_asked_again_for_what_waits() {
    let mut bench = Bench::chat();
    bench.input(Input::Opened { offset: None });
    assert!(bench.busy().contains(&"deadline".to_owned()));
    assert!(!bench.session.takes_message(1));
    for _ in 0..2 {
        let at = bench.session.alarm().expect("it is to be asked again");
        bench.now.mono = at - 1;
        bench.input(Input::Alarm);
        assert!(bench.asked.is_empty());
        bench.now.mono = at;
        bench.input(Input::Alarm);
        assert_eq!(bench.asked[0].1, queued(None));
        bench.answer(Err(Refusal::Internal { error_id: MESSAGE }));
    }
    bench.now.mono = bench.session.alarm().expect("it is to be asked again");
    bench.input(Input::Alarm);
    assert_eq!(bench.session.alarm(), None);
    assert_eq!(bench.give(vec![message(1, "a")], false).len(), 1);
}

#[test]
fn users_are_registered_and_heartbeats_answered_in_both_namespaces() {
    for (mut bench, namespace) in [(Bench::chat(), "/chat"), (Bench::wallet(), "/wallet")] {
        let mut confirmed = |event: &str, data: &str, confirming: &str, expected: &str| {
            let expected = [
                format!("42{namespace},[{confirming:?},{expected}]"),
                format!("43{namespace},5[{expected}]"),
            ];
            assert_eq!(bench.ask(event, data), expected);
            assert_eq!(bench.say(event, data), expected[..1]);
        };
        let registered = format!(r#"{{"userId":"ada","socketId":"{SID}"}}"#);
        confirmed("user:register", r#"{"userId":"ada"}"#, "user:registered", &registered);
        confirmed("heartbeat", "{}", "heartbeat:ack", &format!(r#"{{"timestamp":"{TIME}"}}"#));
        // Data are not needed for it.
        confirmed("heartbeat", "null", "heartbeat:ack", &format!(r#"{{"timestamp":"{TIME}"}}"#));
    }
}

#[test]
fn rooms_are_joined_and_left_by_either_name() {
    let mut bench = Bench::chat();
    for room in [r#""bob""#, r#""ada~bob""#] {
        let (data, room) = (format!(r#"{{"roomId":{room}}}"#), r#""ada~bob""#);
        let expected = format!(r#"{{"roomId":{room},"timestamp":"{TIME}"}}"#);
        assert_eq!(bench.ask("room:join", &data), confirmed("room:joined", &expected));
        assert_eq!(bench.ask("room:leave", &data), confirmed("room:left", &expected));
    }
    let expected = format!(r#"{{"roomId":"12~ada","timestamp":"{TIME}"}}"#);
    assert_eq!(bench.ask("room:join", r#"{"roomId":12}"#), confirmed("room:joined", &expected));
    // Ids that hold what stands between two of them.
    let expected = format!(r#"{{"roomId":"ada~a%7Eb","timestamp":"{TIME}"}}"#);
    let data = r#"{"roomId":"ada~a%7Eb"}"#;
    assert_eq!(bench.ask("room:join", data), confirmed("room:joined", &expected));
}

#[test]
fn a_message_goes_to_the_store_and_its_acknowledgement_is_the_message() {
    let mut bench = Bench::live();
    let data = r#"{"recipientId":"bob","content":"hi","clientMessageId":"c1","more":1}"#;
    assert_eq!(bench.ask("message:send", data), [""; 0]);
    let new = NewPersonalMessage {
        recipient: "bob".into(),
        kind: "text".into(),
        content: "hi".into(),
        media_url: None,
        client_message_id: Some("c1".into()),
    };
    assert_eq!(bench.asked[0].1, MobileWrite::Send { by: "ada".into(), message: new });
    let sent = |first| Ok(MobileAnswer::Sent { message: message(7, "hi"), first });
    // The event comes to all connections, this one too, from the router.
    assert_eq!(bench.answer(sent(true)), [ack(&written("hi"))]);
    // Nobody is told of one that was said before; who asks is answered.
    bench.ask("message:send", data);
    assert_eq!(bench.answer(sent(false)), [ack(&written("hi"))]);
    for first in [true, false] {
        bench.say("message:send", data);
        assert_eq!(bench.answer(sent(first)), [""; 0]);
    }
    bench.say("message:send", r#"{"recipientId":12,"mediaUrl":"https://example.com/1.png","type":"image"}"#);
    let MobileWrite::Send { message, .. } = &bench.asked[0].1 else { panic!() };
    assert_eq!((&*message.recipient, &*message.kind, &*message.content), ("12", "image", ""));
}

#[test]
fn answers_find_the_acknowledgement_they_are_for() {
    let mut bench = Bench::live();
    let data = r#"{"recipientId":"bob","content":"hi"}"#;
    for ack in [11, 12] {
        bench.packet(&format!(r#"["message:send",{data}]"#), Some(ack));
    }
    for (at, ack) in [(1, 12), (0, 11)] {
        let (ticket, _) = bench.asked.remove(at);
        let answer = Ok(Answer::Mobile(MobileAnswer::Sent { message: message(7, "hi"), first: true }));
        let said = bench.input(Input::Stored { ticket, answer: &answer });
        assert_eq!(said, [format!("43/chat,{ack}[{}]", written("hi"))]);
        // Said twice, or what was never asked.
        assert_eq!(bench.input(Input::Stored { ticket, answer: &answer }), [""; 0]);
    }
}

#[test]
fn typing_is_told_to_the_other_and_confirmed() {
    let mut bench = Bench::live();
    for to in [TO_BOB, r#"{"roomId":"bob"}"#, r#"{"roomId":"ada~bob","recipientId":null}"#] {
        for event in ["typing:start", "typing:stop"] {
            let expected = [typing(event), ack(&typing_data()), deadline()];
            assert_eq!(bench.ask(event, to), expected, "{to}");
        }
    }
    // What changes nothing is confirmed.
    bench.say("typing:start", TO_BOB);
    assert_eq!(bench.ask("typing:start", TO_BOB), [ack(&typing_data())]);
    assert_eq!(bench.say("typing:stop", TO_BOB), [typing("typing:stop"), deadline()]);
    // Another connection may have started it.
    assert_eq!(bench.say("typing:stop", TO_BOB), [typing("typing:stop"), deadline()]);
}

#[test]
fn typing_ends_by_itself_and_with_the_client() {
    let mut bench = Bench::live();
    bench.say("typing:start", TO_BOB);
    let start = bench.now.mono;
    assert_eq!(bench.session.alarm(), Some(start + 5_000_000_000));
    assert_eq!(bench.input(Input::Alarm), ["deadline"]);
    bench.now.mono += 900_000_000;
    bench.say("typing:start", TO_BOB);
    assert_eq!(bench.session.alarm(), Some(start + 5_900_000_000));
    bench.now.mono = start + 5_900_000_000;
    assert_eq!(bench.input(Input::Alarm), [typing("typing:stop"), deadline()]);
    bench.say("typing:start", TO_BOB);
    assert_eq!(bench.input(Input::Gone), [typing("typing:stop")]);
    assert_eq!(bench.input(Input::Gone), [""; 0]);
}

#[test]
fn a_client_types_to_so_many_at_once() {
    let mut bench = Bench::live();
    (bench.settings.typing, bench.settings.control) = (None, None);
    let to = |n: usize| format!(r#"{{"recipientId":"bob-{n}"}}"#);
    for n in 0..16 {
        assert_eq!(bench.say("typing:start", &to(n)).len(), 2);
    }
    // The first is stopped.
    let words = bench.say("typing:start", &to(16));
    assert_eq!(words.len(), 3);
    assert!(words[0].starts_with(r#"publish "bob-0" "typing:stop""#), "{words:?}");
    assert!(words[1].starts_with(r#"publish "bob-16" "typing:start""#), "{words:?}");
    assert_eq!(bench.input(Input::Gone).len(), 16);
}

#[test]
fn a_stop_that_could_not_be_published_is_tried_again() {
    let mut bench = Bench::live();
    bench.say("typing:start", TO_BOB);
    bench.say("typing:stop", TO_BOB);
    let asked = Asked { event: "typing:stop", ack: None };
    assert_eq!(bench.input(Input::Busy(asked)), ["deadline"]);
    bench.now.mono = bench.session.alarm().expect("it is due again");
    assert_eq!(bench.input(Input::Alarm), [typing("typing:stop"), deadline()]);
    assert_eq!(bench.session.alarm(), None);
}

#[test]
fn a_start_that_could_not_be_published_is_none() {
    let mut bench = Bench::live();
    bench.settings.typing = Some(Rate::per_seconds(1, 60));
    let asked = Asked { event: "typing:start", ack: Some(5) };
    for _ in 0..3 {
        // Each is published, as none was, and none is counted.
        assert_eq!(bench.ask("typing:start", TO_BOB)[0], typing("typing:start"));
        let words = bench.input(Input::Busy(asked));
        assert_eq!(words[0], "deadline");
        assert!(words[1].contains("RATE_LIMITED") && words[2].starts_with("43/chat,5["), "{words:?}");
        assert_eq!(bench.session.alarm(), None);
    }
    // One that goes on is not taken back by what is refused elsewhere.
    assert_eq!(bench.ask("typing:start", TO_BOB)[0], typing("typing:start"));
    assert!(bench.ask("typing:start", r#"{"recipientId":"eve"}"#)[0].contains("RATE_LIMITED"));
    assert!(bench.session.alarm().is_some());
}

#[test]
fn a_token_that_is_over_is_told() {
    let mut bench = Bench::live();
    bench.now.unix += 1;
    let words = bench.input(Input::TokenOver);
    assert_eq!(words[0], event("token_expired", "{}"));
    let words = bench.ask("authenticate", r#"{"token":"x"}"#);
    assert!(words[0].starts_with(r#"42/chat,["auth_error",{"error":""#), "{words:?}");
    assert!(words[0].contains(r#""code":"AUTH_REQUIRED""#), "{words:?}");
}
