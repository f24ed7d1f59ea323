//! Requests as they come, and the bodies that go back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::auth::Identity;
use crate::limits::Rate;
use crate::record::{Conversation, Cursor, Message, MessageType, Page, Person};
use crate::time::Now;

const ID: Uuid = Uuid::from_bytes([0xc0; 16]);
const C: &str = "c0c0c0c0-c0c0-c0c0-c0c0-c0c0c0c0c0c0";
/// How 1,747,751,400,000 is written.
const TIME: &str = "2025-05-20T14:30:00Z";
const AT: u64 = 1_747_751_400_000;

struct Bench {
    identity: Identity,
    user: std::sync::Arc<User>,
    settings: AppSettings,
    parser: Parser,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            identity: Identity { user: "ada".into(), expires_at: u64::MAX, details: None },
            user: User::anonymous(),
            settings: AppSettings {
                conversations: Some(Rate::per_seconds(1, 86_400)),
                ..AppSettings::default()
            },
            parser: Parser::new(64),
        }
    }

    fn ask(
        &mut self,
        endpoint: &mut Endpoint,
        query: &[(&str, &str)],
        content_type: Option<&str>,
        body: &str,
    ) -> Result<StoreRequest, RestError> {
        let query: BTreeMap<_, _> = query.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let call = Call {
            identity: &self.identity,
            user: &self.user,
            query: &|name: &str| query.get(name).cloned().map(Cow::Owned),
            content_type,
            body: body.as_bytes(),
            settings: &self.settings,
            now: Now { mono: 0, unix: 0 },
        };
        endpoint.request(&call, &mut self.parser)
    }

    fn create(&mut self, body: &str) -> Result<StoreRequest, RestError> {
        self.ask(&mut Endpoint::Create, &[], Some("application/json; charset=utf-8"), body)
    }

    fn answer(
        &self,
        endpoint: Endpoint,
        answer: Result<Answer, Refusal>,
    ) -> Result<(u16, String), RestError> {
        let answer = endpoint.response(&answer, &self.user, &self.settings)?;
        Ok((answer.status, String::from_utf8(answer.body).expect("UTF-8")))
    }
}

fn conversation(last_message: Option<Message>) -> Conversation {
    let ada = Person { username: Some("Ada".into()), ..Person::unknown("ada") };
    Conversation {
        id: ID,
        participants: [ada, Person::unknown("bob")],
        created_at: AT,
        last_activity: AT,
        unread: 2,
        last_message,
        cursor: Cursor { last_activity: AT, conversation: 9 },
    }
}

fn message() -> Message {
    Message {
        id: ID,
        conversation: ID,
        sender: Some("bob".into()),
        kind: MessageType::Text,
        content: "hi \"ada\"".into(),
        metadata: Some(r#"{ "a":1.0 }"#.into()),
        client_message_id: None,
        created_at: AT,
        updated_at: AT,
        is_read: true,
        deleted_at: None,
    }
}

fn written(last_message: &str) -> String {
    let participants =
        r#"[{"id":"ada","username":"Ada","avatar_url":null},{"id":"bob","username":null,"avatar_url":null}]"#;
    format!(
        r#"{{"id":"{C}","participants":{participants},"created_at":"{TIME}","updated_at":"{TIME}","unread_count":2,"last_message":{last_message}}}"#
    )
}

fn written_message() -> String {
    format!(
        r#"{{"id":"{C}","conversation_id":"{C}","sender_id":"bob","content":"hi \"ada\"","type":"text","created_at":"{TIME}","updated_at":"{TIME}","is_read":true,"metadata":{{ "a":1.0 }}}}"#
    )
}

#[test]
fn paths_and_methods() {
    let messages = format!("/api/v1/conversations/{C}/messages");
    assert_eq!(endpoint("POST", COLLECTION), Some(Ok(Endpoint::Create)));
    assert_eq!(endpoint("GET", COLLECTION), Some(Ok(Endpoint::List { limit: 50 })));
    assert_eq!(endpoint("GET", &messages), Some(Ok(Endpoint::Messages(ID))));
    for other in ["/api/v1/conversation", "/api/v1/conversationsx", "/api/v1/conversations/", "/", ""] {
        assert_eq!(endpoint("GET", other), None, "{other}");
    }
    assert_eq!(endpoint("GET", &format!("{COLLECTION}/{C}")), None);
    assert_eq!(endpoint("GET", &format!("{COLLECTION}/{C}/x/messages")), None);
    let wrong = |method, path: &str| match endpoint(method, path) {
        Some(Err(error)) => (error.status, error.code, error.allow),
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong("PUT", COLLECTION), (405, ErrorCode::InvalidMessage, Some("GET, POST")));
    assert_eq!(wrong("POST", &messages), (405, ErrorCode::InvalidMessage, Some("GET")));
    let nowhere = wrong("GET", "/api/v1/conversations/conv-uuid-1/messages");
    assert_eq!(nowhere, (404, ErrorCode::NotFound, None));
}

#[test]
fn a_conversation_is_made_or_found() {
    let mut bench = Bench::new();
    let asked = bench.create(r#"{"participant_id":"bob"}"#).expect("within the rate");
    let StoreRequest::Write(Write::CreateConversation { by: Some(by), participants }) = asked else {
        panic!("{asked:?}")
    };
    assert_eq!((by, participants), (Person::unknown("ada"), ["ada".into(), "bob".into()]));
    let refused = bench.create(r#"{"participant_id":7}"#).expect_err("over the rate");
    assert_eq!((refused.status, refused.code), (429, ErrorCode::RateLimited));
    assert_eq!(refused.retry_after, Some(Duration::from_secs(86_400)));
    let answer = |first| Ok(Answer::Conversation { conversation: Box::new(conversation(None)), first });
    assert_eq!(bench.answer(Endpoint::Create, answer(true)), Ok((201, written("null"))));
    assert!(bench.create(r#"{"participant_id":"eve"}"#).is_err());
    // One that was there is not counted.
    assert_eq!(bench.answer(Endpoint::Create, answer(false)), Ok((200, written("null"))));
    bench.create(r#"{"participant_id":7}"#).expect("given back");
}

#[test]
fn bodies_that_make_no_sense() {
    let mut bench = Bench::new();
    for content_type in [None, Some("text/plain"), Some("application/jsonp")] {
        let body = r#"{"participant_id":"bob"}"#;
        let error = bench.ask(&mut Endpoint::Create, &[], content_type, body).expect_err("no JSON");
        assert_eq!(error.status, 415);
    }
    let long = format!(r#"{{"participant_id":"{}"}}"#, "x".repeat(129));
    let wrong = ["", "{", "[]", "{}", r#"{"participant_id":""}"#, r#"{"participant_id":null}"#, &long];
    for body in wrong.into_iter().chain([r#"{"participant_id":"ada"}"#, r#"{"participant_id":"a\n"}"#]) {
        let error = bench.create(body).expect_err(body);
        assert_eq!((error.status, error.code), (400, ErrorCode::ValidationError), "{body}");
    }
    let error = bench.create("{}").expect_err("no participant");
    let mut body = Vec::new();
    error.write_body(&mut body);
    let what = "participant_id is a user id of 1 to 128 bytes without control characters";
    let expected = format!(
        r#"{{"error":{{"code":"VALIDATION_ERROR","message":"{what}","details":{{"field":"participant_id","error":"{what}"}}}},"detail":"{what}"}}"#
    );
    assert_eq!(String::from_utf8(body).expect("UTF-8"), expected);
}

#[test]
fn conversations_come_in_pages() {
    let mut bench = Bench::new();
    let mut ask = |query: &[(&str, &str)]| {
        let mut endpoint = Endpoint::List { limit: 50 };
        bench.ask(&mut endpoint, query, None, "").map(|asked| match asked {
            StoreRequest::Query(Query::Conversations { user, limit, before }) => {
                assert_eq!((&*user, endpoint), ("ada", Endpoint::List { limit }));
                (limit, before)
            }
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(ask(&[]), Ok((50, None)));
    let before = Cursor { last_activity: 12, conversation: 3 };
    assert_eq!(ask(&[("limit", "7"), ("before", "12-3")]), Ok((7, Some(before))));
    assert_eq!(ask(&[("limit", "1000")]), Ok((100, None)));
    for query in [("limit", "0"), ("limit", "x"), ("limit", "-1"), ("before", "x"), ("before", "")] {
        let error = ask(&[query]).expect_err(query.1);
        assert_eq!((error.status, error.code), (400, ErrorCode::ValidationError));
        assert_eq!(error.details.map(|(field, _)| field), Some(query.0.into()));
    }
    let list = |limit| {
        let answer = Answer::Conversations(vec![conversation(Some(message())), conversation(None)]);
        bench.answer(Endpoint::List { limit }, Ok(answer))
    };
    let page = |next: &str| {
        let (first, second) = (written(&written_message()), written("null"));
        Ok((200, format!(r#"{{"conversations":[{first},{second}],"next_before":{next}}}"#)))
    };
    assert_eq!(list(3), page("null"));
    assert_eq!(list(2), page(&format!("\"{AT}-9\"")));
}

#[test]
fn messages_come_in_pages() {
    let mut bench = Bench::new();
    let asked = bench.ask(&mut Endpoint::Messages(ID), &[("before", C)], None, "").expect("good");
    assert!(matches!(
        asked,
        StoreRequest::Query(Query::Messages { user, conversation: ID, limit: 50, before: Some(ID) }) if user == "ada"
    ));
    let error = bench.ask(&mut Endpoint::Messages(ID), &[("before", "x")], None, "").expect_err("no id");
    assert_eq!((error.status, error.code), (400, ErrorCode::ValidationError));
    let page = |next_before| Ok(Answer::Messages(Page { messages: vec![message()], next_before }));
    let written =
        |next: &str| Ok((200, format!(r#"{{"messages":[{}],"next_before":{next}}}"#, written_message())));
    assert_eq!(bench.answer(Endpoint::Messages(ID), page(None)), written("null"));
    assert_eq!(bench.answer(Endpoint::Messages(ID), page(Some(ID))), written(&format!("\"{C}\"")));
}

#[test]
fn what_the_store_refuses_has_a_status() {
    let bench = Bench::new();
    let error_id = Uuid::from_bytes([9; 16]);
    let invalid = Refusal::Invalid { field: "participant_id", error: "no" };
    for (refusal, status, code) in [
        (Refusal::NotFound("conversation"), 404, ErrorCode::NotFound),
        (Refusal::Forbidden, 403, ErrorCode::Forbidden),
        (invalid, 400, ErrorCode::ValidationError),
        (Refusal::Internal { error_id }, 500, ErrorCode::InternalError),
    ] {
        for endpoint in [Endpoint::Create, Endpoint::List { limit: 1 }, Endpoint::Messages(ID)] {
            let error = bench.answer(endpoint, Err(refusal.clone())).expect_err("refused");
            assert_eq!((error.status, error.code), (status, code));
        }
    }
    let odd = bench.answer(Endpoint::Create, Ok(Answer::Done)).expect_err("no conversation");
    assert_eq!(odd.status, 500);
}
