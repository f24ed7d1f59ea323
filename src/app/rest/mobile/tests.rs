//! Requests as they come, and the bodies that go back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::auth::Identity;
use crate::limits::Rate;
use crate::record::mobile::{Balance, NewPersonalMessage, PersonalMessage, Transaction};
use crate::time::Now;

const JSON: Option<&str> = Some("application/json");
const ID: Uuid = Uuid::from_bytes([0x3e; 16]);
const M: &str = "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e";
const AT: u64 = 1_747_751_400_123;
const TIME: &str = "2025-05-20T14:30:00.123Z";

struct Bench {
    identity: Identity,
    user: Arc<User>,
    settings: AppSettings,
    parser: Parser,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            identity: Identity { user: "ada".into(), expires_at: u64::MAX, details: None },
            user: User::anonymous(),
            settings: AppSettings { messages: vec![Rate::per_seconds(1, 60)], ..AppSettings::default() },
            parser: Parser::new(64),
        }
    }

    fn ask(
        &mut self,
        endpoint: Endpoint,
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

    fn refuse(&mut self, endpoint: Endpoint, query: &[(&str, &str)], body: &str) -> (u16, String) {
        let error = self.ask(endpoint, query, JSON, body).expect_err("refused");
        let field = error.details.map(|(field, _)| field.into_owned());
        (error.status, field.unwrap_or_else(|| error.code.as_str().to_owned()))
    }

    fn query(&mut self, endpoint: Endpoint, query: &[(&str, &str)]) -> MobileQuery {
        match self.ask(endpoint, query, None, "") {
            Ok(StoreRequest::Query(Query::Mobile(query))) => query,
            other => panic!("no question: {other:?}"),
        }
    }

    fn body(&self, endpoint: Endpoint, answer: MobileAnswer) -> (u16, String) {
        let answer = endpoint.response(&Ok(Answer::Mobile(answer)), &self.ada()).expect("an answer");
        (answer.status, String::from_utf8(answer.body).expect("UTF-8"))
    }

    fn ada(&self) -> Arc<User> {
        crate::users::Users::default().user("ada")
    }
}

fn message() -> PersonalMessage {
    PersonalMessage {
        number: 7,
        id: ID,
        sender: "ada".into(),
        recipient: "bob".into(),
        kind: "text".into(),
        content: "hi".into(),
        media_url: None,
        client_message_id: None,
        created_at: AT,
    }
}

fn written() -> String {
    format!(
        r#"{{"id":"{M}","senderId":"ada","recipientId":"bob","roomId":"ada~bob","content":"hi","type":"text","createdAt":"{TIME}"}}"#
    )
}

#[test]
fn paths_and_methods() {
    let found = |method, path| endpoint(method, path).map(|found| found.map_err(|error| error.allow));
    assert_eq!(found("POST", MESSAGES), Some(Ok(Endpoint::Send)));
    assert_eq!(found("GET", MESSAGES), Some(Ok(Endpoint::Messages)));
    assert_eq!(found("GET", CONVERSATIONS), Some(Ok(Endpoint::Conversations)));
    assert_eq!(found("GET", BALANCE), Some(Ok(Endpoint::Balance)));
    assert_eq!(found("GET", TRANSACTIONS), Some(Ok(Endpoint::Transactions)));
    assert_eq!(found("PUT", MESSAGES), Some(Err(Some("GET, POST"))));
    assert_eq!(found("POST", BALANCE), Some(Err(Some("GET"))));
    assert_eq!(found("GET", "/api/wallet"), None);
}

#[test]
fn a_message_is_checked_counted_and_sent() {
    let mut bench = Bench::new();
    let (send, body) = (Endpoint::Send, r#"{"recipientId":"bob","content":"hi","clientMessageId":"c1"}"#);
    for (bad, field) in [
        ("{", "VALIDATION_ERROR"),
        ("[]", "VALIDATION_ERROR"),
        (r#"{"recipientId":"ada","content":"hi"}"#, "recipientId"),
        (r#"{"recipientId":"","content":"hi"}"#, "recipientId"),
        (r#"{"recipientId":"bob"}"#, "content"),
        (r#"{"recipientId":"bob","content":" \n"}"#, "content"),
        (r#"{"recipientId":"bob","content":7}"#, "content"),
        (r#"{"recipientId":"bob","content":"hi","type":"a b"}"#, "type"),
        (r#"{"recipientId":"bob","content":"hi","mediaUrl":"javascript:1"}"#, "mediaUrl"),
        (r#"{"recipientId":"bob","content":"hi","clientMessageId":""}"#, "clientMessageId"),
    ] {
        assert_eq!(bench.refuse(send, &[], bad), (400, field.to_owned()), "{bad}");
    }
    let long = format!(r#"{{"recipientId":"bob","content":"{}"}}"#, "ä".repeat(4_001));
    assert_eq!(bench.refuse(send, &[], &long).1, "content");
    let text = bench.ask(send, &[], Some("text/plain"), body).expect_err("no JSON");
    assert_eq!(text.status, 415);
    let Ok(StoreRequest::Write(Write::Mobile(write))) = bench.ask(send, &[], JSON, body) else {
        panic!("nothing is asked");
    };
    let message = NewPersonalMessage {
        recipient: "bob".into(),
        kind: "text".into(),
        content: "hi".into(),
        media_url: None,
        client_message_id: Some("c1".into()),
    };
    assert_eq!(write, MobileWrite::Send { by: "ada".into(), message });
    let error = bench.ask(send, &[], JSON, body).expect_err("one a minute");
    assert!(error.status == 429 && error.retry_after.is_some());
    send.not_done(&bench.user, &bench.settings);
    let media = r#"{"recipientId":12,"mediaUrl":"https://example.com/a.png"}"#;
    let Ok(StoreRequest::Write(Write::Mobile(MobileWrite::Send { message, .. }))) =
        bench.ask(send, &[], JSON, media)
    else {
        panic!("nothing is asked");
    };
    assert_eq!((&*message.recipient, &*message.kind, &*message.content), ("12", "media", ""));
}

#[test]
fn pages_are_asked_for_by_their_last_row() {
    let mut bench = Bench::new();
    let user = || SmolStr::new("ada");
    let asked = bench.query(Endpoint::Messages, &[("with", "bob"), ("limit", "7"), ("before", M)]);
    let with = "bob".into();
    assert_eq!(asked, MobileQuery::Messages { user: user(), with, limit: 7, before: Some(ID) });
    let asked = bench.query(Endpoint::Transactions, &[("limit", "1000"), ("before", "t1")]);
    assert_eq!(asked, MobileQuery::Transactions { user: user(), limit: 100, before: Some("t1".into()) });
    let asked = bench.query(Endpoint::Conversations, &[]);
    assert_eq!(asked, MobileQuery::Conversations { user: user(), limit: 500, before: None });
    assert_eq!(bench.query(Endpoint::Balance, &[]), MobileQuery::Balances { user: user() });
    for (query, field) in [
        (&[][..], "with"),
        (&[("with", "ada")], "with"),
        (&[("with", "bob"), ("before", "7")], "before"),
        (&[("with", "bob"), ("limit", "0")], "limit"),
    ] {
        assert_eq!(bench.refuse(Endpoint::Messages, query, ""), (400, field.to_owned()));
    }
    assert_eq!(bench.refuse(Endpoint::Conversations, &[("limit", "x")], "").1, "limit");
}

#[test]
fn bodies() {
    let bench = Bench::new();
    let sent = |first| MobileAnswer::Sent { message: message(), first };
    assert_eq!(bench.body(Endpoint::Send, sent(true)), (201, written()));
    assert_eq!(bench.body(Endpoint::Send, sent(false)), (200, written()));
    let page = |has_more| MobileAnswer::Messages(PersonalPage { messages: vec![message()], has_more });
    let expected = format!(r#"{{"messages":[{}],"nextBefore":null}}"#, written());
    assert_eq!(bench.body(Endpoint::Messages, page(false)), (200, expected));
    let expected = format!(
        r#"{{"conversations":[{{"userId":"bob","roomId":"ada~bob","lastMessage":{}}}],"nextBefore":"{M}"}}"#,
        written()
    );
    assert_eq!(bench.body(Endpoint::Conversations, page(true)), (200, expected));
    let balance = Balance { currency: "BTC".into(), balance: "0.10".into(), updated_at: AT };
    let expected = format!(r#"{{"balances":[{{"currency":"BTC","balance":0.10,"updatedAt":"{TIME}"}}]}}"#);
    assert_eq!(bench.body(Endpoint::Balance, MobileAnswer::Balances(vec![balance])), (200, expected));
    let transaction = |id: &str| Transaction { id: id.into(), data: format!(r#"{{"id":"{id}"}}"#).into() };
    let transactions = vec![transaction("t2"), transaction("t1")];
    let page = MobileAnswer::Transactions(TransactionPage { transactions, has_more: true });
    let expected = r#"{"transactions":[{"id":"t2"},{"id":"t1"}],"nextBefore":"t1"}"#;
    assert_eq!(bench.body(Endpoint::Transactions, page), (200, expected.to_owned()));
    let missing = Endpoint::Messages.response(&Err(Refusal::NotFound("message")), &bench.ada());
    assert_eq!(missing.expect_err("missing").status, 404);
}
