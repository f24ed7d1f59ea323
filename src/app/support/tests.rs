//! Transcripts of a session of `support`, with the store's answers played by hand.

use std::ops::{Deref, DerefMut};

use super::*;
use crate::app::tests::bench::{Stand, connected};
use crate::app::{AppOpening, Asked};
use crate::audience::App;
use crate::auth::{Details as Claims, Identity};
use crate::limits::Rate;
use crate::record::support::{ChatMessage, File, NewChatMessage, Progress, SupportEffect};
use crate::room::publication::{Publication, Target};
use crate::time::Now;
use crate::users::Seats;

/// 2025-12-29T10:05:00, with a fraction that is not shown.
const AT: u64 = 1_767_002_700_123;
const TIME: &str = "2025-12-29T10:05:00";
/// A session, and how it is written.
const SESSION: Uuid = Uuid::from_bytes([0xc0; 16]);
const S: &str = "c0c0c0c0-c0c0-c0c0-c0c0-c0c0c0c0c0c0";
const MESSAGE: Uuid = Uuid::from_bytes([0x3e; 16]);
const M: &str = "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e";

/// A session of ada's.
struct Bench {
    stand: Stand,
    /// What the session has asked the store.
    asked: Vec<(u64, SupportWrite)>,
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
    fn new(place: Place, is_agent: bool) -> Bench {
        Bench::opened(SupportOpening { place, seat: None, refused: None }, is_agent)
    }

    fn opened(opening: SupportOpening, is_agent: bool) -> Bench {
        let claims = Claims { agent: is_agent, ..Claims::default() };
        let identity = Identity { user: "ada".into(), expires_at: u64::MAX, details: Some(Box::new(claims)) };
        let now = Now { mono: 1_000_000_000, unix: AT * 1_000_000 };
        let opening = AppOpening::Support(opening);
        Bench {
            stand: Stand::new(connected("ada", App::Support), Some(identity), opening, now),
            asked: Vec::new(),
        }
    }

    /// One that the store has let in.
    fn here() -> Bench {
        let mut bench = Bench::new(Place::Session(SESSION), false);
        bench.input(Input::Opened { offset: None });
        assert_eq!(bench.entered(false), ["Came"]);
        bench
    }

    fn say(&mut self, text: &str) -> Vec<String> {
        self.input(Input::Text(text))
    }

    fn types(&mut self, is_typing: bool) -> Vec<String> {
        self.say(&format!(r#"{{"message_type":"typing","content":"{is_typing}"}}"#))
    }

    fn answer(&mut self, answer: Result<SupportAnswer, Refusal>) -> Vec<String> {
        let (ticket, _) = self.asked.remove(0);
        let answer = answer.map(|answer| Answer::Support(Box::new(answer)));
        self.input(Input::Stored { ticket, answer: &answer })
    }

    fn entered(&mut self, is_closed: bool) -> Vec<String> {
        self.answer(Ok(SupportAnswer::Entered { is_closed }))
    }

    fn busy(&mut self) -> Vec<String> {
        let (ticket, _) = self.asked.remove(0);
        self.input(Input::StoreBusy { ticket })
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.plus(by);
    }

    /// The effects of an input, in words; questions to the store are kept.
    fn input(&mut self, input: Input<'_>) -> Vec<String> {
        let Bench { stand, asked } = self;
        stand.drive(input, |output, words| {
            match output {
                Output::Reply(text) => return text,
                Output::Join { rooms, confirmation, .. } => {
                    assert!(confirmation.is_empty());
                    words.push(format!("join {:?}", rooms[0].room.as_str()));
                }
                Output::Store { ticket, what: StoreRequest::Write(Write::Support(write)) } => {
                    asked.push((ticket, write));
                }
                Output::Live(Live::Came) => words.push("Came".to_owned()),
                Output::Live(Live::Types { session, is_typing }) => {
                    assert_eq!(session, SESSION);
                    words.push(format!("types {is_typing}"));
                }
                Output::Deadline => {}
                Output::Close(reason) => words.push(format!("close {} {}", reason.code(), reason.text())),
                other => panic!("{other:?}"),
            }
            0..0
        })
    }
}

/// An event of the server's to ada, with this metadata.
fn event(name: &str, metadata: &str) -> String {
    format!(
        r#"{{"message_type":"{name}","chat_session_id":"{S}","user_id":"ada","timestamp":"{TIME}","metadata":{metadata}}}"#
    )
}

fn code(words: &[String]) -> &str {
    let [error] = words else { panic!("{words:?}") };
    let (_, rest) = error.split_once(r#""metadata":{"code":""#).unwrap_or_else(|| panic!("{error}"));
    rest.split('"').next().unwrap_or_default()
}

#[test]
fn a_client_joins_its_room_then_asks_then_is_counted() {
    let mut bench = Bench::new(Place::Session(SESSION), true);
    assert_eq!(bench.input(Input::Opened { offset: None }), [format!("join \"\\u{{4}}{S}:ada\"")]);
    let [(_, SupportWrite::Enter { by, session })] = &bench.asked[..] else { panic!("{:?}", bench.asked) };
    assert_eq!((&*by.user, by.is_agent, *session), ("ada", true, SESSION));
    assert_eq!(bench.session.leave_support(), None);
    let mut bench = Bench::here();
    let joined = event("user_joined", r#"{"total_users":3}"#);
    assert_eq!(bench.input(Input::Here { users: 3 }), [joined]);
    assert_eq!(bench.session.leave_support(), Some(SESSION));
    assert_eq!(bench.session.leave_support(), None);
}

#[test]
fn a_client_that_may_not_be_there_is_closed() {
    for (answer, closed) in [
        (Refusal::NotFound("session"), "close 1008 there is no such session"),
        (Refusal::Forbidden, "close 1008 you take no part in this session"),
        (Refusal::Closed, "close 1008 you take no part in this session"),
        (Refusal::Full, "close 1008 the session is full"),
        (Refusal::Internal { error_id: MESSAGE }, "close 1011 internal error"),
    ] {
        let mut bench = Bench::new(Place::Session(SESSION), false);
        bench.input(Input::Opened { offset: None });
        assert_eq!(bench.answer(Err(answer)), [closed]);
        assert_eq!(bench.session.leave_support(), None);
    }
    let mut bench = Bench::new(Place::Session(SESSION), false);
    bench.input(Input::Opened { offset: None });
    assert_eq!(bench.busy(), ["close 1013 overloaded, try again later"]);
    let mut bench = Bench::new(Place::Nowhere, false);
    assert_eq!(bench.input(Input::Opened { offset: None }), ["close 1008 there is no such session"]);
    let refused = Some(CloseReason::Policy("no"));
    let mut bench = Bench::opened(SupportOpening { place: Place::Feed, seat: None, refused }, false);
    assert_eq!(bench.input(Input::Opened { offset: None }), ["close 1008 no"]);
}

#[test]
fn a_place_is_given_back_when_the_client_is_gone() {
    let seats = std::sync::Arc::new(Seats::default());
    let seat = seats.take("ada", Some(SESSION), 1);
    let opening = SupportOpening { place: Place::Session(SESSION), seat, refused: None };
    let mut bench = Bench::opened(opening, false);
    assert!(seats.take("ada", Some(SESSION), 1).is_none());
    bench.session.leave_support();
    assert!(seats.take("ada", Some(SESSION), 1).is_some());
}

#[test]
fn what_is_said_is_stored_and_answered_only_by_what_all_are_told() {
    let mut bench = Bench::here();
    let text = r#"{"message_type":"text","content":"Hi","mentions":["bob"],"reply_to_id":null,"else":1}"#;
    assert_eq!(bench.say(text), [""; 0]);
    let (_, SupportWrite::Send { by, session, message }) = &bench.asked[0] else { panic!() };
    assert_eq!((&*by.user, *session, &*message.content), ("ada", SESSION, "Hi"));
    assert_eq!(
        (message.kind, &message.mentions[..], message.reply_to),
        (ChatType::Text, &["bob".into()][..], None)
    );
    assert_eq!(bench.answer(Ok(SupportAnswer::Done)), [""; 0]);
    for (refusal, expected) in [
        (Refusal::Closed, "FORBIDDEN"),
        (Refusal::Forbidden, "FORBIDDEN"),
        (Refusal::Full, "CONVERSATION_FULL"),
        (Refusal::NotFound("message"), "NOT_FOUND"),
        (Refusal::Internal { error_id: MESSAGE }, "INTERNAL_ERROR"),
    ] {
        bench.say(text);
        let words = bench.answer(Err(refusal));
        assert_eq!(code(&words), expected);
        assert!(words[0].contains(r#""request_event":"text""#), "{words:?}");
    }
    bench.say(text);
    let busy = event(
        "error",
        r#"{"code":"RATE_LIMITED","message":"the server is busy: send this again in a moment","retry_after_ms":1000,"request_event":"text"}"#,
    );
    assert_eq!(bench.busy(), [busy]);
}

#[test]
fn what_came_to_nothing_is_not_counted() {
    let mut bench = Bench::here();
    bench.settings.messages = vec![Rate::per_seconds(1, 60)];
    let text = r#"{"message_type":"text","content":"Hi"}"#;
    for _ in 0..3 {
        assert_eq!(bench.say(text), [""; 0]);
        bench.busy();
    }
    bench.say(text);
    assert_eq!(code(&bench.say(text)), "RATE_LIMITED");
}

#[test]
fn a_client_asks_not_more_than_it_may() {
    let mut bench = Bench::here();
    bench.settings.messages = Vec::new();
    let text = r#"{"message_type":"text","content":"Hi"}"#;
    for _ in 0..STORE_REQUESTS {
        assert_eq!(bench.say(text), [""; 0]);
    }
    assert_eq!(code(&bench.say(text)), "RATE_LIMITED");
    bench.answer(Ok(SupportAnswer::Done));
    assert_eq!(bench.say(text), [""; 0]);
}

#[test]
fn typing_changes_once_and_ends_by_itself() {
    let mut bench = Bench::here();
    assert_eq!(bench.types(true), ["types true"]);
    bench.wait(Duration::from_secs(4));
    assert_eq!(bench.types(true), [""; 0]);
    bench.wait(Duration::from_secs(4));
    assert_eq!(bench.input(Input::Alarm), [""; 0]);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.session.alarm(), Some(bench.now.mono));
    assert_eq!(bench.input(Input::Alarm), ["types false"]);
    assert_eq!(bench.session.alarm(), None);
    assert_eq!(bench.types(false), [""; 0]);
    assert_eq!(bench.types(true), ["types true"]);
    assert_eq!(bench.types(false), ["types false"]);
    assert_eq!(bench.say(r#"{"message_type":"typing","content":true}"#), ["types true"]);
    assert_eq!(bench.input(Input::Gone), ["types false"]);
    assert_eq!(bench.input(Input::Gone), [""; 0]);
}

#[test]
fn changes_to_typing_have_a_rate_and_a_stop_is_never_refused() {
    let mut bench = Bench::here();
    bench.settings.typing = Some(Rate::per_seconds(2, 60));
    for _ in 0..2 {
        assert_eq!(bench.types(true), ["types true"]);
        assert_eq!(bench.types(true), [""; 0]);
        assert_eq!(bench.types(false), ["types false"]);
    }
    assert_eq!(code(&bench.types(true)), "RATE_LIMITED");
    assert_eq!(bench.types(false), [""; 0]);
}

#[test]
fn one_who_is_connected_to_all_asks_before_it_types() {
    let mut bench = Bench::new(Place::Feed, false);
    assert_eq!(bench.input(Input::Opened { offset: None }), ["join \"\\u{5}ada\""]);
    assert!(bench.asked.is_empty());
    let typing =
        |what: bool| format!(r#"{{"message_type":"typing","content":"{what}","chat_session_id":"{S}"}}"#);
    assert_eq!(code(&bench.types(true)), "VALIDATION_ERROR");
    assert_eq!(bench.say(&typing(true)), [""; 0]);
    // While it waits, a further start is the same one.
    assert_eq!(bench.say(&typing(true)), [""; 0]);
    assert_eq!(bench.asked.len(), 1);
    assert_eq!(bench.entered(false), ["types true"]);
    assert_eq!(bench.say(&typing(false)), ["types false"]);
    // What was stopped meanwhile does not begin.
    bench.say(&typing(true));
    assert_eq!(bench.say(&typing(false)), [""; 0]);
    assert_eq!(bench.entered(false), [""; 0]);
    bench.say(&typing(true));
    assert_eq!(code(&bench.answer(Err(Refusal::Forbidden))), "FORBIDDEN");
    bench.say(&typing(true));
    assert_eq!(code(&bench.entered(true)), "FORBIDDEN");
    bench.say(&typing(true));
    assert_eq!(code(&bench.busy()), "RATE_LIMITED");
    assert!(bench.session.alarm().is_none() && bench.asked.is_empty());
    assert_eq!(bench.session.leave_support(), None);
}

#[test]
fn in_a_closed_session_nobody_types() {
    let mut bench = Bench::new(Place::Session(SESSION), false);
    bench.input(Input::Opened { offset: None });
    bench.entered(true);
    assert_eq!(code(&bench.types(true)), "FORBIDDEN");
}

#[test]
fn a_token_that_ends_has_no_grace() {
    let mut bench = Bench::here();
    assert_eq!(bench.input(Input::TokenOver), ["close 1008 token expired, connect with a new one"]);
}

#[test]
fn what_all_apps_refuse_has_this_apps_form() {
    let mut bench = Bench::here();
    let large = r#"{"code":"MESSAGE_TOO_LARGE","message":"a message has at most 7 bytes"}"#;
    assert_eq!(bench.input(Input::TooLarge { bytes: 7 }), [event("error", large)]);
    assert_eq!(code(&bench.say("nonsense")), "INVALID_MESSAGE");
    assert_eq!(code(&bench.say(r#"{"content":"x"}"#)), "INVALID_MESSAGE");
    assert_eq!(code(&bench.say(r#"{"message_type":"join","content":"x"}"#)), "INVALID_MESSAGE_TYPE");
    let asked = Asked { event: "connect", ack: None };
    assert_eq!(code(&bench.input(Input::TooManyRooms(asked))), "RATE_LIMITED");
    bench.settings.control = Some(Rate::per_seconds(1, 60));
    let mut last = Vec::new();
    for _ in 0..30 {
        last = bench.say("nonsense");
    }
    assert!(last.iter().any(|word| word.starts_with("close 1008")), "{last:?}");
}

fn said(publication: &Publication) -> String {
    assert_eq!((publication.app, publication.target), (Some(App::Support), Target::Room));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("publications are texts");
    format!("{} {}", text(publication.event()), text(publication.data()))
}

#[test]
fn a_message_goes_to_those_it_is_for_and_is_delivered_by_the_others() {
    let file = File { url: "https://a.example/f".into(), name: "f".into(), size: Some(7), kind: None };
    let message = ChatMessage {
        id: MESSAGE,
        session: SESSION,
        sender: "ada".into(),
        said: NewChatMessage {
            kind: ChatType::File,
            content: "\"f\"".into(),
            reply_to: Some(SESSION),
            mentions: vec!["bob".into()],
            file: Some(file),
        },
        created_at: AT,
        progress: Progress::Sent,
        read_by: 0,
    };
    let effect = SupportEffect::Message { to: vec!["ada".into(), "bob".into()], message };
    let now = Now { mono: 1, unix: 0 };
    let told = tell(&effect, now);
    let rooms: Vec<_> = told.iter().map(|told| (told.publication.name(), told.also.as_str())).collect();
    let names = [(format!("\u{4}{S}:ada"), "\u{5}ada"), (format!("\u{4}{S}:bob"), "\u{5}bob")];
    assert_eq!(rooms, names.each_ref().map(|(room, feed)| (room.as_str(), *feed)));
    assert_eq!((told[0].counts, told[1].counts), (false, true));
    let receipt = receipt(&effect);
    assert!(matches!(receipt, Some(Write::Support(SupportWrite::Delivered { message: MESSAGE }))));
    let expected = format!(
        r#""message" {{"chat_session_id":"{S}","user_id":"ada","content":"\"f\"","timestamp":"{TIME}","metadata":{{"message_id":"{M}","reply_to_id":"{S}","mentions":["bob"],"file_url":"https://a.example/f","file_name":"f","file_size":7,"file_type":null}}}}"#
    );
    assert!(told.iter().all(|told| said(&told.publication) == expected), "{}", said(&told[0].publication));
}

#[test]
fn what_changes_for_nobody_is_told_nobody() {
    let now = Now::default();
    let members = SupportEffect::Members { session: SESSION, members: Vec::new() };
    let blocked = SupportEffect::Blocked { user: "ada".into(), blocked: "bob".into(), is_blocked: true };
    assert!(tell(&members, now).is_empty() && tell(&blocked, now).is_empty());
    let closed = SupportEffect::Closed { session: SESSION, to: vec!["bob".into()], by: "ada".into(), at: AT };
    let expected = format!(
        r#""session_closed" {{"chat_session_id":"{S}","user_id":"ada","timestamp":"{TIME}","metadata":{{"closed_at":"{TIME}"}}}}"#
    );
    assert_eq!(said(&tell(&closed, now)[0].publication), expected);
    assert!(receipt(&closed).is_none());
}
