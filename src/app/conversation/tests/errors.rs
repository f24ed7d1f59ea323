//! What is refused, and in which words; and that nothing that comes makes a session panic.

use proptest::prelude::*;

use super::*;
use crate::proto::ingest::{self, Line};

/// The code, the details and the event of one error.
fn error(words: &[String]) -> (String, String, String) {
    let [text] = words else { panic!("one error, not {words:?}") };
    let error: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!((&error["event"], &error["timestamp"]), (&"error".into(), &TIME.into()), "{text}");
    let data = &error["data"];
    assert!(data["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
    assert_eq!(data.as_object().map(serde_json::Map::len), Some(4), "{text}");
    let code = data["code"].as_str().expect("a code").to_owned();
    (code, data["details"].to_string(), data["request_event"].to_string())
}

/// The field that an error names, after its code.
fn field(words: &[String]) -> String {
    let (code, details, _) = error(words);
    let details: serde_json::Value = serde_json::from_str(&details).expect("JSON");
    format!("{code} {}", details["field"].as_str().expect("a field"))
}

fn content(kind: &str, content: &str, metadata: &str) -> String {
    format!(r#"{{"conversation_id":"{C}","type":"{kind}","content":{content},"metadata":{metadata}}}"#)
}

/// What a session makes of a message: what is stored, or the error's field.
fn sent(kind: &str, text: &str, metadata: &str) -> Result<NewMessage, String> {
    let mut bench = Bench::new();
    let words = bench.say("message:send", &content(kind, text, metadata));
    match bench.asked.is_empty() {
        true => Err(field(&words)),
        false => match bench.write() {
            Write::Send { message, .. } => Ok(message),
            other => panic!("{other:?}"),
        },
    }
}

fn fails(kind: &str, text: &str, metadata: &str, wrong: &str) {
    assert_eq!(sent(kind, text, metadata), Err(format!("VALIDATION_ERROR {wrong}")), "{kind} {metadata}");
}

fn passes(kind: &str, text: &str, metadata: &str) -> NewMessage {
    sent(kind, text, metadata).unwrap_or_else(|wrong| panic!("{kind} {metadata}: {wrong}"))
}

#[test]
fn an_error_has_the_form_of_the_document() {
    let mut bench = Bench::new();
    let words = bench.say("message:send", &content("text", "\" \"", "{}"));
    let what = "content is empty: say something";
    let details = format!(r#"{{"field":"content","error":"{what}"}}"#);
    let data = format!(
        r#"{{"code":"VALIDATION_ERROR","message":"{what}","details":{details},"request_event":"message:send"}}"#
    );
    assert_eq!(words, [event("error", &data)]);
}

#[test]
fn texts_are_measured_in_characters() {
    let text = |text: &str, count: usize| format!("\"{}\"", text.repeat(count));
    passes("text", &text("😀", 2_000), "{}");
    fails("text", &text("😀", 2_001), "{}", "content");
    for empty in [r#""""#, r#"" \t\n""#, "null", "7"] {
        fails("text", empty, "{}", "content");
    }
}

#[test]
fn photos_have_an_address_a_size_and_a_time() {
    let photo = r#""https://example.com/a.jpg?b=1""#;
    for kind in ["photo", "photo_ephemeral"] {
        passes(kind, photo, r#"{"size":10485760}"#);
        passes(kind, r#""HTTP://example.com""#, "null");
        for size in ["10485761", "-1", "\"5\"", "{}"] {
            fails(kind, photo, &format!(r#"{{"size":{size}}}"#), "metadata.size");
        }
        for address in ["ftp://a", "https://", "//a", "a", "http:// a", "https://:1/", "javascript:alert(1)"]
        {
            fails(kind, &format!("\"{address}\""), "{}", "content");
        }
    }
    let photo = |metadata| passes("photo_ephemeral", photo, metadata);
    assert_eq!(photo(r#"{"ttl_seconds":1}"#).ttl_seconds, Some(1));
    assert_eq!(photo(r#"{"ttl_seconds":60}"#).metadata.as_deref(), Some(r#"{"ttl_seconds":60}"#));
    let default = photo(r#"{"a":1,"ttl_seconds":null}"#);
    assert_eq!(default.ttl_seconds, Some(10));
    assert_eq!(default.metadata.as_deref(), Some(r#"{"a":1,"ttl_seconds":10}"#));
    for ttl in ["0", "61", "1.5", "\"10\"", "-1"] {
        let metadata = format!(r#"{{"ttl_seconds":{ttl}}}"#);
        fails("photo_ephemeral", r#""https://a""#, &metadata, "metadata.ttl_seconds");
    }
}

#[test]
fn locations_and_gifts_say_it_in_their_metadata() {
    passes("location", "null", r#"{"latitude":-90,"longitude":180.0}"#);
    passes("location", "\"home\"", r#"{"latitude":90,"longitude":-180}"#);
    fails("location", "\"\"", r#"{"latitude":90.1,"longitude":0}"#, "metadata.latitude");
    fails("location", "\"\"", r#"{"longitude":0}"#, "metadata.latitude");
    fails("location", "\"\"", r#"{"latitude":0,"longitude":-180.5}"#, "metadata.longitude");
    fails("location", "\"\"", r#"{"latitude":0,"longitude":"0"}"#, "metadata.longitude");
    passes("gift", "\"\"", r#"{"gift_id":"rose"}"#);
    for metadata in ["{}", r#"{"gift_id":""}"#, r#"{"gift_id":null}"#, r#"{"gift_id":{}}"#] {
        fails("gift", "\"\"", metadata, "metadata.gift_id");
    }
    for metadata in ["[]", "7", "\"{}\""] {
        fails("text", "\"a\"", metadata, "metadata");
    }
}

#[test]
fn types_that_clients_may_not_send_have_a_code_of_their_own() {
    for kind in ["system", "video", ""] {
        assert_eq!(sent(kind, "\"a\"", "{}"), Err("INVALID_MESSAGE_TYPE type".to_owned()));
    }
    let mut bench = Bench::new();
    for kind in ["", r#","type":7"#, r#","type":null"#] {
        let data = format!(r#"{{"conversation_id":"{C}","content":"a"{kind}}}"#);
        assert_eq!(field(&bench.say("message:send", &data)), "VALIDATION_ERROR type");
    }
}

#[test]
fn words_and_personal_information_are_masked_unless_encrypted() {
    let text = r#""fuck, mail a@example.com""#;
    let masked = passes("text", text, r#"{"filtered":false,"a":[1, 2]}"#);
    assert_eq!(&*masked.content, "****, mail *@*******.***");
    assert_eq!(masked.metadata.as_deref(), Some(r#"{"a":[1, 2],"filtered":true}"#));
    assert_eq!(passes("text", text, "null").metadata.as_deref(), Some(r#"{"filtered":true}"#));
    let clear = passes("text", "\"hello\"", "{}");
    assert_eq!((&*clear.content, clear.metadata), ("hello", None));
    let opaque = passes("text", text, r#"{"encrypted":true}"#);
    assert_eq!(&*opaque.content, "fuck, mail a@example.com");
    assert_eq!(opaque.metadata.as_deref(), Some(r#"{"encrypted":true}"#));
    let long = format!("\"{}\"", "x".repeat(9_000));
    for kind in ["text", "photo", "location", "gift"] {
        passes(kind, &long, r#"{"encrypted":true}"#);
    }
}

#[test]
fn a_message_may_have_a_name_of_its_senders() {
    let mut bench = Bench::new();
    let mut say = |id: &str| {
        let data =
            format!(r#"{{"conversation_id":"{C}","content":"a","type":"text","client_message_id":{id}}}"#);
        bench.say("message:send", &data)
    };
    for id in [format!("\"{}\"", "x".repeat(128)), "null".to_owned()] {
        assert_eq!(say(&id), [""; 0]);
    }
    for id in
        [format!("\"{}\"", "x".repeat(129)), "\"\"".to_owned(), "7".to_owned(), r#""\u0001""#.to_owned()]
    {
        assert_eq!(field(&say(&id)), "VALIDATION_ERROR client_message_id");
    }
}

#[test]
fn ids_that_are_missing_are_wrong_and_those_that_name_nothing_are_not_found() {
    let all = [
        "message:send",
        "message:read",
        "message:delete",
        "typing:start",
        "typing:stop",
        "conversation:join",
        "conversation:leave",
    ];
    let mut bench = Bench::new();
    for name in all {
        for data in ["{}", "null", "[]", r#"{"conversation_id":7}"#, r#"{"conversation_id":""}"#] {
            assert_eq!(field(&bench.say(name, data)), "VALIDATION_ERROR conversation_id", "{name}");
        }
        let words = bench.say(name, r#"{"conversation_id":"conv-uuid-1"}"#);
        assert_eq!(field(&words), "NOT_FOUND conversation_id");
        assert_eq!(error(&words).2, format!("{name:?}"));
    }
    for name in ["message:read", "message:delete"] {
        assert_eq!(field(&bench.say(name, &here())), "VALIDATION_ERROR message_id");
        let data = format!(r#"{{"conversation_id":"{C}","message_id":"msg-uuid-1"}}"#);
        assert_eq!(field(&bench.say(name, &data)), "NOT_FOUND message_id");
    }
    assert_eq!(field(&bench.say("user:status", r#"{"status":"gone"}"#)), "VALIDATION_ERROR status");
    assert!(bench.asked.is_empty());
}

#[test]
fn what_the_store_refuses_is_said_in_the_words_of_this_app() {
    let requests = [
        ("message:send", content("text", "\"a\"", "{}")),
        ("message:read", this_message()),
        ("message:delete", this_message()),
        ("conversation:join", here()),
        ("conversation:leave", here()),
        ("typing:start", here()),
        ("typing:stop", here()),
        ("user:status", r#"{"status":"away"}"#.to_owned()),
    ];
    let error_id = Uuid::from_bytes([9; 16]);
    for (name, data) in requests {
        let mut bench = Bench::new();
        let mut refused = |refusal| {
            assert_eq!(bench.say(name, &data), [""; 0]);
            let words = bench.answer(Err(refusal));
            assert_eq!(error(&words).2, format!("{name:?}"));
            words
        };
        assert_eq!(field(&refused(Refusal::Forbidden)), "FORBIDDEN conversation_id");
        assert_eq!(field(&refused(Refusal::NotFound("conversation"))), "NOT_FOUND conversation_id");
        assert_eq!(field(&refused(Refusal::NotFound("message"))), "NOT_FOUND message_id");
        let (code, details, _) = error(&refused(Refusal::Internal { error_id }));
        assert_eq!((&*code, details), ("INTERNAL_ERROR", format!(r#"{{"error_id":"{error_id}"}}"#)));
        bench.say(name, &data);
        let (code, details, _) = error(&bench.busy());
        assert_eq!((&*code, &*details), ("RATE_LIMITED", r#"{"retry_after_ms":1000}"#));
        assert_eq!(bench.session.alarm(), None);
    }
}

#[test]
fn messages_have_rates_and_the_connection_stays() {
    let mut bench = Bench::new();
    let data = content("text", "\"a\"", "{}");
    for _ in 0..30 {
        assert_eq!(bench.say("message:send", &data), [""; 0]);
        assert_eq!(bench.answer(Ok(Answer::Done)), [""; 0]);
    }
    for _ in 0..20 {
        let (code, details, request) = error(&bench.say("message:send", &data));
        assert_eq!((&*code, &*request), ("RATE_LIMITED", r#""message:send""#));
        assert_eq!(details, r#"{"retry_after_ms":2000}"#);
    }
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.say("message:send", &data), [""; 0]);
    // What the store could not take does not count.
    bench.busy();
    assert_eq!(bench.say("message:send", &data), [""; 0]);
}

#[test]
fn changes_to_typing_have_a_rate_and_stops_have_none() {
    let mut bench = Bench::new();
    bench.settings.typing = Some(Rate::per_seconds(2, 60));
    bench.say("typing:start", &here());
    bench.answer(pair());
    for _ in 0..5 {
        assert_eq!(bench.say("typing:start", &here()), [""; 0]);
    }
    assert_eq!(bench.say("typing:stop", &here()).len(), 2);
    assert_eq!(bench.say("typing:start", &here()).len(), 2);
    assert_eq!(bench.say("typing:stop", &here()).len(), 2);
    let (code, details, request) = error(&bench.say("typing:start", &here()));
    assert_eq!((&*code, &*request), ("RATE_LIMITED", r#""typing:start""#));
    assert_eq!(details, r#"{"retry_after_ms":30000}"#);
    assert_eq!(bench.say("typing:stop", &here()), [""; 0]);
}

#[test]
fn control_events_have_a_rate_and_who_goes_on_is_closed() {
    let mut bench = Bench::new();
    bench.settings.control = Some(Rate::per_seconds(2, 60));
    assert_eq!(bench.say("conversation:join", &here()), [""; 0]);
    assert_eq!(error(&bench.say("user:status", "{}")).0, "VALIDATION_ERROR");
    for _ in 0..9 {
        assert_eq!(error(&bench.say("message:read", &this_message())).0, "RATE_LIMITED");
    }
    let words = bench.say("message:read", &this_message());
    assert_eq!((words.len(), words.last().map(String::as_str)), (2, Some("close 1008")));
}

#[test]
fn a_client_has_at_most_so_many_requests_open() {
    let mut bench = Bench::new();
    (bench.settings.control, bench.settings.messages) = (None, Vec::new());
    for _ in 0..STORE_REQUESTS {
        assert_eq!(bench.say("message:read", &this_message()), [""; 0]);
    }
    for (name, data) in [("message:read", this_message()), ("message:send", content("text", "\"a\"", "{}"))] {
        let (code, details, _) = error(&bench.say(name, &data));
        assert_eq!((&*code, &*details), ("RATE_LIMITED", r#"{"retry_after_ms":1000}"#));
    }
    bench.answer(Ok(Answer::Done));
    assert_eq!(bench.say("message:read", &this_message()), [""; 0]);
}

#[test]
fn what_is_no_event_is_invalid() {
    let mut bench = Bench::new();
    for text in ["{", "7", "[]", "{}", r#"{"event":7}"#, r#"{"event":""}"#, r#"{"type":"ping"}"#] {
        let (code, details, request) = error(&bench.input(Input::Text(text)));
        assert_eq!((&*code, &*details, &*request), ("INVALID_MESSAGE", "{}", "null"), "{text}");
    }
    let (code, _, request) = error(&bench.say("message:shout", "{}"));
    assert_eq!((&*code, &*request), ("INVALID_MESSAGE", r#""message:shout""#));
    assert_eq!(error(&bench.input(Input::TooLarge { bytes: 32_768 })).0, "MESSAGE_TOO_LARGE");
    let asked = Asked { event: "conversation:join", ack: None };
    let (code, details, request) = error(&bench.input(Input::TooManyRooms(asked)));
    assert_eq!((&*code, &*details, &*request), ("RATE_LIMITED", "{}", r#""conversation:join""#));
    assert_eq!(bench.input(Input::Binary), ["close 1003"]);
}

#[test]
fn backends_say_what_clients_may_not() {
    let mut parser = Parser::new(64);
    let mut say = |line: &str| match ingest::parse(&mut parser, line.as_bytes()) {
        Ok(Line::ConversationMessage(line)) => super::super::say(&line),
        other => panic!("{other:?}"),
    };
    let line = |rest: &str| format!(r#"{{"op":"conversation.message","conversation_id":"{C}",{rest}}}"#);
    let done = say(&line(r#""type":"system","content":"call 415-555-2671","metadata":{"a":1}"#));
    let Ok(Write::Send { by: None, conversation: CONVERSATION, message }) = done else { panic!("{done:?}") };
    assert_eq!((&*message.content, message.metadata.as_deref()), ("call 415-555-2671", Some(r#"{"a":1}"#)));
    for (rest, code) in [
        (r#""type":"video","content":"a""#, ErrorCode::InvalidMessageType),
        (r#""type":"system","content":"""#, ErrorCode::ValidationError),
        (r#""content":"a""#, ErrorCode::ValidationError),
    ] {
        assert_eq!(say(&line(rest)).expect_err(rest).code, code);
    }
    let nowhere = r#"{"op":"conversation.message","conversation_id":"x","type":"system","content":"a"}"#;
    assert_eq!(say(nowhere).expect_err("no such conversation").code, ErrorCode::NotFound);
    let refused = NotSaid::from(&Refusal::NotFound("conversation"));
    assert_eq!((refused.code, &*refused.message), (ErrorCode::NotFound, "there is no such conversation"));
}

#[derive(Clone, Debug)]
enum Step {
    Say(String, String),
    Text(String),
    Stored(u64, usize),
    Busy(u64),
    Late(u64),
    Over,
    Gone,
}

fn any_step() -> impl Strategy<Value = Step> {
    let events = [
        "message:send",
        "message:read",
        "message:delete",
        "typing:start",
        "typing:stop",
        "conversation:join",
        "conversation:leave",
        "user:status",
        "authenticate",
        "nonsense",
    ];
    let data = prop_oneof![
        Just(here()),
        Just(this_message()),
        Just(content("photo_ephemeral", "\"https://a\"", "{}")),
        Just(r#"{"status":"busy"}"#.to_owned()),
        any::<u8>().prop_map(|byte| format!(r#"{{"conversation_id":"{}"}}"#, Uuid::from_bytes([byte; 16]))),
        (".*", ".*").prop_map(|(kind, text)| {
            serde_json::json!({ "conversation_id": C, "type": kind, "content": text, "metadata": { kind: text } })
                .to_string()
        }),
    ];
    prop_oneof![
        8 => (prop::sample::select(events.to_vec()), data).prop_map(|(event, data)| Step::Say(event.to_owned(), data)),
        1 => ".*".prop_map(Step::Text),
        4 => (any::<u64>(), 0..6usize).prop_map(|(ticket, answer)| Step::Stored(ticket, answer)),
        1 => any::<u64>().prop_map(Step::Busy),
        2 => (0..10_000u64).prop_map(Step::Late),
        1 => Just(Step::Over),
        1 => Just(Step::Gone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a client says and the store answers, to what was asked or to nothing: each is taken, memory is bounded, and
    /// whoever was told that somebody types is told that he stopped.
    #[test]
    fn nothing_makes_a_session_panic(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut bench = Bench::new();
        (bench.settings.control, bench.settings.typing) = (None, None);
        let mut is_typing = std::collections::BTreeMap::new();
        for step in steps.into_iter().chain([Step::Gone]) {
            let words = match step {
                Step::Say(event, data) => bench.say(&event, &data),
                Step::Text(text) => bench.input(Input::Text(&text)),
                Step::Stored(ticket, answer) => {
                    let answer = match answer {
                        0 => Ok(Answer::Sent { message: message("hi"), first: false }),
                        1 => Ok(Answer::Contacts(vec!["bob".into()])),
                        2 => Err(Refusal::Forbidden),
                        _ => pair(),
                    };
                    let ticket = match bench.asked.is_empty() {
                        true => ticket,
                        false => bench.asked.remove(ticket as usize % bench.asked.len()).0,
                    };
                    bench.input(Input::Stored { ticket, answer: &answer })
                }
                Step::Busy(ticket) => bench.input(Input::StoreBusy { ticket }),
                Step::Late(ms) => {
                    bench.wait(Duration::from_millis(ms));
                    Vec::new()
                }
                Step::Over => bench.input(Input::Alarm),
                Step::Gone => bench.input(Input::Gone),
            };
            for word in words.iter().filter(|word| word.contains("\"typing:indicator\"")) {
                let room = word.split("typing:indicator").next().expect("a room").to_owned();
                let now = word.contains("\"is_typing\":true");
                // Only changes are told.
                prop_assert_eq!(is_typing.insert(room, now).unwrap_or(false), !now);
            }
            prop_assert!(bench.asked.len() <= 60);
        }
        prop_assert!(is_typing.values().all(|now| !now));
        prop_assert_eq!(bench.session.alarm(), None);
    }
}

#[test]
fn tickets_say_what_they_are_for() {
    let purposes = [
        Purpose::Unread,
        Purpose::Send,
        Purpose::Read,
        Purpose::Delete,
        Purpose::Join,
        Purpose::Leave,
        Purpose::TypingStart,
        Purpose::TypingStop,
    ];
    for purpose in purposes.into_iter().chain(Status::ALL.map(Purpose::Status)) {
        assert_eq!(Purpose::of(7 << Purpose::BITS | purpose.bits()), Some(purpose));
    }
    assert_eq!(Purpose::of(u64::MAX), None);
}
