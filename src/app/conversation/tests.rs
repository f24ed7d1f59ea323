//! Transcripts of a session of `conversation`, with the store's answers played by hand.

mod errors;
mod told;

use std::ops::{Deref, DerefMut};

use super::*;
use crate::app::tests::bench::{Stand, connected};
use crate::app::{AppOpening, AppSettings};
use crate::auth::{Details as Claims, Identity};
use crate::limits::Rate;
use crate::proto::json::Parser;
use crate::record::{Conversation, Cursor, Message, MessageType, NewMessage, Person, Write};
use crate::room::publication::{Publication, Target};
use crate::time::Now;

/// 2025-05-20T14:30:00Z.
const AT: u64 = 1_747_751_400_000;
/// How [`AT`] is written.
const TIME: &str = "2025-05-20T14:30:00Z";
/// A conversation, and how it is written.
const CONVERSATION: Uuid = Uuid::from_bytes([0xc0; 16]);
const C: &str = "c0c0c0c0-c0c0-c0c0-c0c0-c0c0c0c0c0c0";
/// A message, and how it is written.
const MESSAGE: Uuid = Uuid::from_bytes([0x3e; 16]);
const M: &str = "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e";

/// A session of ada's, who talks to bob.
struct Bench {
    stand: Stand,
    /// What the session has asked the store.
    asked: Vec<(u64, StoreRequest)>,
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
    fn new() -> Bench {
        let claims = Claims { username: Some("Ada".into()), ..Claims::default() };
        let identity = Identity { user: "ada".into(), expires_at: u64::MAX, details: Some(Box::new(claims)) };
        let now = Now { mono: 1_000_000_000, unix: AT * 1_000_000 };
        let user = connected("ada", App::Conversation);
        Bench { stand: Stand::new(user, Some(identity), AppOpening::Conversation, now), asked: Vec::new() }
    }

    /// A client's event with this data.
    fn say(&mut self, event: &str, data: &str) -> Vec<String> {
        self.input(Input::Text(&format!(r#"{{"event":"{event}","data":{data}}}"#)))
    }

    /// The store's answer to what was asked first.
    fn answer(&mut self, answer: Result<Answer, Refusal>) -> Vec<String> {
        let (ticket, _) = self.asked.remove(0);
        self.input(Input::Stored { ticket, answer: &answer })
    }

    fn busy(&mut self) -> Vec<String> {
        let (ticket, _) = self.asked.remove(0);
        self.input(Input::StoreBusy { ticket })
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.plus(by);
    }

    /// The change that was asked for last.
    fn write(&mut self) -> Write {
        match self.asked.pop() {
            Some((ticket, StoreRequest::Write(write))) => {
                // Its answer tells the client nothing.
                assert_eq!(self.input(Input::Stored { ticket, answer: &Ok(Answer::Done) }), [""; 0]);
                write
            }
            other => panic!("no change: {other:?}"),
        }
    }

    /// The effects of an input, in words; questions to the store are kept.
    fn input(&mut self, input: Input<'_>) -> Vec<String> {
        let Bench { stand, asked } = self;
        stand.drive(input, |output, words| {
            let (word, text) = match output {
                Output::Reply(text) => (None, text),
                Output::Join { rooms, confirmation, .. } => {
                    let rooms: Vec<_> = rooms.iter().map(|joining| joining.room.as_str()).collect();
                    (Some(format!("join {rooms:?}")), confirmation)
                }
                Output::Leave { room, confirmation } => {
                    (Some(format!("leave {:?}", room.as_str())), confirmation)
                }
                Output::Publish { publication, .. } => (Some(said(&publication)), 0..0),
                Output::Tell { publication, users, .. } => {
                    words.extend(users.iter().map(|user| said(&publication.to_user(user))));
                    (None, 0..0)
                }
                Output::Store { ticket, what } => {
                    asked.push((ticket, what));
                    (None, 0..0)
                }
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
    assert_eq!(publication.app, Some(App::Conversation));
    assert!(matches!(publication.target, Target::Room | Target::User));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("publications are texts");
    let (event, data) = (text(publication.event()), text(publication.data()));
    format!("publish {:?} {:?} {event} {data}", publication.target, publication.name())
}

/// An event of the server's.
fn event(name: &str, data: &str) -> String {
    format!(r#"{{"event":"{name}","data":{data},"timestamp":"{TIME}"}}"#)
}

fn message(content: &str) -> Message {
    Message {
        id: MESSAGE,
        conversation: CONVERSATION,
        sender: Some("ada".into()),
        kind: MessageType::Text,
        content: content.into(),
        metadata: None,
        client_message_id: None,
        created_at: AT,
        updated_at: AT,
        is_read: false,
        deleted_at: None,
    }
}

/// How [`message`] is written in `message:new`.
fn new_message(content: &str, username: &str) -> String {
    let message = format!(
        r#"{{"id":"{M}","conversation_id":"{C}","sender_id":"ada","content":"{content}","type":"text","created_at":"{TIME}","updated_at":"{TIME}","is_read":false,"metadata":{{}}}}"#
    );
    format!(r#"{{"message":{message},"sender":{{"id":"ada","username":{username},"avatar_url":null}}}}"#)
}

fn unread(last: &str) -> String {
    format!(r#"{{"conversation_id":"{C}","unread_count":3,"last_message":{last}}}"#)
}

fn last_message(content: &str) -> String {
    format!(r#"{{"id":"{M}","content":"{content}","type":"text","sender_id":"ada","created_at":"{TIME}"}}"#)
}

fn here() -> String {
    format!(r#"{{"conversation_id":"{C}"}}"#)
}

fn this_message() -> String {
    format!(r#"{{"conversation_id":"{C}","message_id":"{M}"}}"#)
}

fn pair() -> Result<Answer, Refusal> {
    Ok(Answer::Participants(["ada".into(), "bob".into()]))
}

fn indicator(is_typing: bool) -> String {
    format!(
        r#"publish Room "\u{{3}}{C}:bob" "typing:indicator" {{"conversation_id":"{C}","user_id":"ada","username":"Ada","is_typing":{is_typing},"timestamp":"{TIME}"}}"#
    )
}

fn joined() -> [String; 2] {
    let data = format!(r#"{{"conversation_id":"{C}","joined_at":"{TIME}"}}"#);
    [format!(r#"join ["\u{{3}}{C}:ada"]"#), event("conversation:joined", &data)]
}

#[test]
fn a_client_is_told_who_it_is_and_what_it_has_not_read() {
    let mut bench = Bench::new();
    let id = "07070707-0707-0707-0707-070707070707";
    let data = format!(r#"{{"user_id":"ada","connection_id":"{id}","timestamp":"{TIME}"}}"#);
    assert_eq!(bench.input(Input::Opened { offset: None }), [event("connection:established", &data)]);
    assert!(matches!(
        &bench.asked[0].1,
        StoreRequest::Query(Query::Unread { user, limit: Query::MOST_UNREAD }) if user == "ada"
    ));
    let conversation = |last_message| Conversation {
        id: CONVERSATION,
        participants: [Person::unknown("ada"), Person::unknown("bob")],
        created_at: AT,
        last_activity: AT,
        unread: 3,
        last_message,
        cursor: Cursor { last_activity: AT, conversation: 1 },
    };
    let long = "x".repeat(AppSettings::default().unread_bytes);
    let list =
        vec![conversation(Some(message("hi"))), conversation(None), conversation(Some(message(&long)))];
    let said = bench.answer(Ok(Answer::Conversations(list)));
    let expected = [unread(&last_message("hi")), unread("null"), unread("null")];
    assert_eq!(said, expected.map(|data| event("conversation:unread", &data)));
}

#[test]
fn a_message_goes_to_the_store_and_a_repeated_one_is_answered() {
    let mut bench = Bench::new();
    let data = format!(
        r#"{{"conversation_id":"{C}","content":"hi \u0041","type":"text","metadata":{{ "a":1.0 }},"client_message_id":"k1"}}"#
    );
    assert_eq!(bench.say("message:send", &data), [""; 0]);
    assert_eq!(bench.answer(Ok(Answer::Sent { message: message("hi A"), first: true })), [""; 0]);
    bench.say("message:send", &data);
    let StoreRequest::Write(Write::Send { by: Some(by), conversation, message: new }) = &bench.asked[0].1
    else {
        panic!("no message")
    };
    assert_eq!(*by, Person { username: Some("Ada".into()), ..Person::unknown("ada") });
    assert_eq!(*conversation, CONVERSATION);
    let expected = NewMessage {
        kind: MessageType::Text,
        content: "hi A".into(),
        metadata: Some(r#"{ "a":1.0 }"#.into()),
        client_message_id: Some("k1".into()),
        ttl_seconds: None,
    };
    assert_eq!(*new, expected);
    let said = bench.answer(Ok(Answer::Sent { message: message("hi A"), first: false }));
    assert_eq!(said, [event("message:new", &new_message("hi A", r#""Ada""#))]);
}

#[test]
fn what_was_read_or_deleted_before_is_answered() {
    let mut bench = Bench::new();
    let ids = format!(r#""message_id":"{M}","conversation_id":"{C}""#);
    let viewed = |first| {
        Ok(Answer::Viewed { conversation: CONVERSATION, message: MESSAGE, viewed_at: AT, unread: 0, first })
    };
    assert_eq!(bench.say("message:read", &this_message()), [""; 0]);
    assert_eq!(bench.answer(viewed(true)), [""; 0]);
    bench.say("message:read", &this_message());
    let data = format!(r#"{{{ids},"viewed_at":"{TIME}"}}"#);
    assert_eq!(bench.answer(viewed(false)), [event("message:viewed", &data)]);
    let deleted = |first| {
        let by = Some("bob".into());
        Ok(Answer::Deleted { conversation: CONVERSATION, message: MESSAGE, by, at: AT, first })
    };
    assert_eq!(bench.say("message:delete", &this_message()), [""; 0]);
    assert!(matches!(
        &bench.asked[0].1,
        StoreRequest::Write(Write::Delete { by, conversation: CONVERSATION, message: MESSAGE }) if by.id == "ada"
    ));
    assert_eq!(bench.answer(deleted(true)), [""; 0]);
    bench.say("message:delete", &this_message());
    let data = format!(r#"{{{ids},"deleted_by":"bob","deleted_at":"{TIME}"}}"#);
    assert_eq!(bench.answer(deleted(false)), [event("message:deleted", &data)]);
}

#[test]
fn conversations_are_joined_and_left_by_participants() {
    let mut bench = Bench::new();
    assert_eq!(bench.say("conversation:join", &here()), [""; 0]);
    assert!(matches!(
        &bench.asked[0].1,
        StoreRequest::Query(Query::Participants { user: Some(user), conversation: CONVERSATION }) if user == "ada"
    ));
    assert_eq!(bench.answer(pair()), joined());
    // From now on it is known who talks to whom.
    let data = format!(r#"{{"conversation_id":"{C}","left_at":"{TIME}"}}"#);
    let left = [format!(r#"leave "\u{{3}}{C}:ada""#), event("conversation:left", &data)];
    assert_eq!(bench.say("conversation:leave", &here()), left);
    assert_eq!(bench.say("conversation:join", &here()), joined());
    let mut other = Bench::new();
    assert_eq!(other.say("conversation:leave", &here()), [""; 0]);
    assert_eq!(other.answer(pair()), left);
}

#[test]
fn typing_is_told_when_it_changes() {
    let mut bench = Bench::new();
    assert_eq!(bench.say("typing:start", &here()), [""; 0]);
    assert_eq!(bench.session.alarm(), None);
    assert_eq!(bench.answer(pair()), [indicator(true), "deadline".to_owned()]);
    assert_eq!(bench.say("typing:start", &here()), [""; 0]);
    assert_eq!(bench.say("typing:stop", &here()), [indicator(false), "deadline".to_owned()]);
    assert_eq!(bench.session.alarm(), None);
    assert_eq!(bench.say("typing:stop", &here()), [""; 0]);
    assert_eq!(bench.say("typing:start", &here()), [indicator(true), "deadline".to_owned()]);
}

#[test]
fn a_start_and_a_stop_keep_their_order_while_the_store_is_asked() {
    let mut bench = Bench::new();
    assert_eq!(bench.say("typing:start", &here()), [""; 0]);
    assert_eq!(bench.say("typing:stop", &here()), [""; 0]);
    let deadline = "deadline".to_owned();
    assert_eq!(bench.answer(pair()), [indicator(true), deadline.clone(), indicator(false), deadline]);
    assert!(bench.asked.is_empty());
}

#[test]
fn typing_ends_by_itself_and_with_the_client() {
    let mut bench = Bench::new();
    bench.say("typing:start", &here());
    bench.answer(pair());
    let start = bench.now.mono;
    assert_eq!(bench.session.alarm(), Some(start + 5_000_000_000));
    assert_eq!(bench.input(Input::Alarm), ["deadline"]);
    bench.wait(Duration::from_millis(900));
    bench.say("typing:start", &here());
    assert_eq!(bench.session.alarm(), Some(start + 5_900_000_000));
    bench.now.mono = start + 5_900_000_000;
    assert_eq!(bench.input(Input::Alarm), [indicator(false), "deadline".to_owned()]);
    bench.say("typing:start", &here());
    assert_eq!(bench.input(Input::Gone), [indicator(false)]);
    assert_eq!(bench.input(Input::Gone), [""; 0]);
}

#[test]
fn a_stop_that_could_not_be_published_is_tried_again() {
    let mut bench = Bench::new();
    bench.say("typing:start", &here());
    bench.answer(pair());
    bench.say("typing:stop", &here());
    let asked = Asked { event: "typing:stop", ack: Some(CONVERSATION.as_u64_pair().1) };
    assert_eq!(bench.input(Input::Busy(asked)), ["deadline"]);
    bench.now.mono = bench.session.alarm().expect("it is due again");
    assert_eq!(bench.input(Input::Alarm), [indicator(false), "deadline".to_owned()]);
}

#[test]
fn a_start_that_could_not_be_published_is_none() {
    let mut bench = Bench::new();
    bench.settings.typing = Some(Rate::per_seconds(1, 60));
    bench.say("typing:start", &here());
    assert_eq!(bench.answer(pair())[0], indicator(true));
    let asked = Asked { event: "typing:start", ack: Some(CONVERSATION.as_u64_pair().1) };
    for _ in 0..3 {
        let words = bench.input(Input::Busy(asked));
        assert_eq!(words[0], "deadline");
        assert!(words[1].contains("RATE_LIMITED"), "{words:?}");
        assert_eq!(bench.session.alarm(), None);
        // It is published again, as it was not, and counts as the first.
        assert_eq!(bench.say("typing:start", &here())[0], indicator(true));
    }
}

#[test]
fn a_status_is_told_to_the_user_and_the_contacts() {
    for status in Status::ALL.map(Status::name) {
        let mut bench = Bench::new();
        assert_eq!(bench.say("user:status", &format!(r#"{{"status":"{status}"}}"#)), [""; 0]);
        let data = format!(r#"{{"user_id":"ada","status":"{status}","timestamp":"{TIME}"}}"#);
        let told = ["ada", "bob", "eve"]
            .map(|user| format!(r#"publish User "{user}" "user:status_updated" {data}"#));
        assert_eq!(bench.answer(Ok(Answer::Contacts(vec!["bob".into(), "eve".into()]))), told);
        let busy = Asked { event: "user:status", ack: None };
        assert_eq!(bench.input(Input::Busy(busy)).len(), 1);
    }
}

#[test]
fn a_close_is_said_before() {
    let mut bench = Bench::new();
    let closed = |reason: &str, code| {
        let data = format!(r#"{{"reason":"{reason}","code":{code},"timestamp":"{TIME}"}}"#);
        [event("connection:closed", &data)]
    };
    assert_eq!(bench.input(Input::Closing(&CloseReason::GoingAway)), closed("going_away", 1001));
    let normal = CloseReason::Disconnected { code: 1000, reason: "".into() };
    assert_eq!(bench.input(Input::Closing(&normal)), closed("normal_closure", 1000));
}

#[test]
fn tokens_end_and_are_renewed_as_on_the_native_wire() {
    let mut bench = Bench::new();
    assert_eq!(bench.input(Input::TokenOver), [event("token_expired", "{}"), "deadline".to_owned()]);
    let said = bench.say("authenticate", r#"{"token":"x"}"#);
    assert!(said[0].starts_with(r#"{"event":"auth_error","data":{"error":""#), "{said:?}");
    assert!(said[0].contains(r#""code":"UNAUTHORIZED""#), "{said:?}");
    assert_eq!(bench.input(Input::TokenOver), ["close 1008"]);
}
