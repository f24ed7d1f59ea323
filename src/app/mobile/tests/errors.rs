//! What is refused, and in which words; and that nothing that comes makes a session panic.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// The error of a request in `/chat`, which is said twice: as an event and to the acknowledgement.
fn error(words: &[String]) -> Value {
    let [event, ack] = words else { panic!("one error, not {words:?}") };
    let json = |text: &str, start: &str| -> Value {
        serde_json::from_str(text.strip_prefix(start).expect(start)).expect("JSON")
    };
    let event = json(event, "42/chat,");
    let error = &event[1];
    assert_eq!((&event[0], &json(ack, "43/chat,5")[0]["error"]), (&"message:error".into(), error));
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    error.clone()
}

/// Its code, and the field that is wrong, or how long to wait.
fn code(words: &[String], event: &str) -> String {
    let error = error(words);
    assert_eq!(error["event"], event, "{error}");
    let code = error["code"].as_str().expect("a code");
    match (&error["details"]["field"], &error["retry_after_ms"]) {
        (Value::String(field), Value::Null) => {
            assert_eq!(error["details"]["error"], error["message"]);
            format!("{code} {field}")
        }
        (Value::Null, Value::Number(wait)) => format!("{code} {wait}"),
        (Value::Null, Value::Null) => code.to_owned(),
        _ => panic!("{error}"),
    }
}

#[test]
fn an_error_says_what_to_do() {
    let mut bench = Bench::live();
    let what = "recipientId is missing: say to whom the message goes";
    let data = format!(
        r#"{{"code":"VALIDATION_ERROR","message":"{what}","event":"message:send","details":{{"field":"recipientId","error":"{what}"}}}}"#
    );
    let words = bench.ask("message:send", r#"{"content":"hi"}"#);
    assert_eq!(words, [event("message:error", &data), ack(&format!(r#"{{"error":{data}}}"#))]);
    assert_eq!(bench.say("message:send", r#"{"content":"hi"}"#), words[..1]);
}

#[test]
fn what_may_not_be_said() {
    let mut bench = Bench::live();
    let mut refused = |data: &str| code(&bench.ask("message:send", data), "message:send");
    for (data, expected) in [
        ("{}", "VALIDATION_ERROR recipientId"),
        ("null", "VALIDATION_ERROR recipientId"),
        ("[1]", "VALIDATION_ERROR recipientId"),
        (r#"{"recipientId":"ada","content":"hi"}"#, "VALIDATION_ERROR recipientId"),
        (r#"{"recipientId":"","content":"hi"}"#, "VALIDATION_ERROR recipientId"),
        (r#"{"recipientId":"a\nb","content":"hi"}"#, "VALIDATION_ERROR recipientId"),
        (r#"{"recipientId":["bob"],"content":"hi"}"#, "VALIDATION_ERROR recipientId"),
        (TO_BOB, "VALIDATION_ERROR content"),
        (r#"{"recipientId":"bob","content":" \t\n"}"#, "VALIDATION_ERROR content"),
        (r#"{"recipientId":"bob","content":{}}"#, "VALIDATION_ERROR content"),
        (r#"{"recipientId":"bob","content":"a","type":"a b"}"#, "INVALID_MESSAGE_TYPE type"),
        (r#"{"recipientId":"bob","content":"a","type":7}"#, "INVALID_MESSAGE_TYPE type"),
        (r#"{"recipientId":"bob","content":"a","mediaUrl":"ftp://a/b"}"#, "VALIDATION_ERROR mediaUrl"),
        (r#"{"recipientId":"bob","content":"a","mediaUrl":1}"#, "VALIDATION_ERROR mediaUrl"),
        (r#"{"recipientId":"bob","content":"a","clientMessageId":""}"#, "VALIDATION_ERROR clientMessageId"),
        (r#"{"recipientId":"bob","content":"a","clientMessageId":1}"#, "VALIDATION_ERROR clientMessageId"),
    ] {
        assert_eq!(refused(data), expected, "{data}");
    }
    let many = "x".repeat(129);
    let data = format!(r#"{{"recipientId":"{many}","content":"hi"}}"#);
    assert_eq!(refused(&data), "VALIDATION_ERROR recipientId");
    let data = format!(r#"{{"recipientId":"bob","content":"hi","clientMessageId":"{many}"}}"#);
    assert_eq!(refused(&data), "VALIDATION_ERROR clientMessageId");
    let data = format!(r#"{{"recipientId":"bob","content":"{}"}}"#, "😀".repeat(4_001));
    assert_eq!(refused(&data), "VALIDATION_ERROR content");
    assert!(bench.asked.is_empty());
    // As long as may be.
    let most = "😀".repeat(4_000);
    let data = format!(r#"{{"recipientId":"{}","content":"{most}"}}"#, "x".repeat(128));
    assert_eq!(bench.ask("message:send", &data), [""; 0]);
}

#[test]
fn who_one_is_and_what_is_others() {
    for (data, expected) in [
        ("{}", "VALIDATION_ERROR userId"),
        (r#"{"userId":""}"#, "VALIDATION_ERROR userId"),
        (r#"{"userId":"bob"}"#, "ACCESS_DENIED userId"),
        (r#"{"userId":12}"#, "ACCESS_DENIED userId"),
    ] {
        assert_eq!(code(&Bench::live().ask("user:register", data), "user:register"), expected, "{data}");
    }
    for event in ["room:join", "room:leave", "typing:start", "typing:stop"] {
        for (data, expected) in [
            (r#"{"roomId":""}"#, "VALIDATION_ERROR roomId"),
            (r#"{"roomId":[]}"#, "VALIDATION_ERROR roomId"),
            (r#"{"roomId":"ada"}"#, "VALIDATION_ERROR roomId"),
            (r#"{"roomId":"a\u0000b"}"#, "VALIDATION_ERROR roomId"),
            (r#"{"roomId":"bob~carol"}"#, "ACCESS_DENIED roomId"),
        ] {
            assert_eq!(code(&Bench::live().ask(event, data), event), expected, "{event} {data}");
        }
    }
    for event in ["room:join", "room:leave"] {
        assert_eq!(code(&Bench::live().ask(event, "{}"), event), "VALIDATION_ERROR roomId");
    }
    for event in ["typing:start", "typing:stop"] {
        for data in ["{}", r#"{"recipientId":"ada"}"#, r#"{"recipientId":""}"#] {
            assert_eq!(code(&Bench::live().ask(event, data), event), "VALIDATION_ERROR recipientId");
        }
    }
}

#[test]
fn what_is_no_event_is_invalid() {
    let mut bench = Bench::live();
    for event in ["message:shout", "price:subscribe", "", "message:received"] {
        assert_eq!(code(&bench.ask(event, "{}"), event), "INVALID_MESSAGE");
    }
    for args in ["[]", "[{}]", "[null,1]"] {
        let error = error(&bench.packet(args, Some(5)));
        assert_eq!((&error["code"], &error["event"]), (&"INVALID_MESSAGE".into(), &Value::Null));
    }
    let mut parser = Parser::new(64);
    let args = parser.parse(br#"["message:send",{"_placeholder":true,"num":0}]"#).expect("JSON");
    let attachments = [Box::from(&b"a"[..])];
    let words = bench.input(Input::Event { args, is_binary: true, attachments: &attachments, ack: Some(5) });
    assert_eq!(code(&words, "message:send"), "INVALID_MESSAGE");
    // A wallet is no chat.
    let mut wallet = Bench::wallet();
    for event in ["message:send", "typing:start", "typing:stop", "room:join", "room:leave"] {
        let words = wallet.say(event, r#"{"recipientId":"bob","roomId":"bob","content":"a"}"#);
        assert!(words[0].starts_with(r#"42/wallet,["message:error",{"code":"INVALID_MESSAGE""#), "{words:?}");
    }
    assert!(wallet.asked.is_empty());
}

#[test]
fn what_the_store_refuses() {
    let mut bench = Bench::live();
    let data = r#"{"recipientId":"bob","content":"hi"}"#;
    bench.ask("message:send", data);
    let error_id = Uuid::from_bytes([9; 16]);
    let error = error(&bench.answer(Err(Refusal::Internal { error_id })));
    assert_eq!((&error["code"], &error["event"]), (&"INTERNAL_ERROR".into(), &"message:send".into()));
    assert_eq!(error["error_id"], error_id.to_string());
    bench.ask("message:send", data);
    let refusal = Refusal::Invalid { field: "recipientId", error: "name somebody else" };
    assert_eq!(code(&bench.answer(Err(refusal)), "message:send"), "VALIDATION_ERROR recipientId");
    bench.ask("message:send", data);
    assert_eq!(code(&bench.busy(), "message:send"), "RATE_LIMITED 1000");
}

#[test]
fn messages_have_rates_and_the_connection_stays() {
    let mut bench = Bench::live();
    let data = r#"{"recipientId":"bob","content":"hi"}"#;
    let sent = || Ok(MobileAnswer::Sent { message: message(7, "hi"), first: true });
    for _ in 0..30 {
        assert_eq!(bench.ask("message:send", data), [""; 0]);
        assert_eq!(bench.answer(sent()).len(), 1);
    }
    for _ in 0..20 {
        assert_eq!(code(&bench.ask("message:send", data), "message:send"), "RATE_LIMITED 2000");
    }
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.ask("message:send", data), [""; 0]);
    // What the store could not take does not count.
    bench.busy();
    assert_eq!(bench.ask("message:send", data), [""; 0]);
}

#[test]
fn changes_to_typing_have_a_rate_and_stops_have_none() {
    let mut bench = Bench::live();
    bench.settings.typing = Some(Rate::per_seconds(2, 60));
    assert_eq!(bench.ask("typing:start", TO_BOB).len(), 3);
    for _ in 0..5 {
        assert_eq!(bench.ask("typing:start", TO_BOB).len(), 1);
    }
    assert_eq!(bench.ask("typing:stop", TO_BOB).len(), 3);
    assert_eq!(bench.ask("typing:start", TO_BOB).len(), 3);
    assert_eq!(bench.ask("typing:stop", TO_BOB).len(), 3);
    assert_eq!(code(&bench.ask("typing:start", TO_BOB), "typing:start"), "RATE_LIMITED 30000");
    assert_eq!(bench.ask("typing:stop", TO_BOB).len(), 3);
}

#[test]
fn control_events_have_a_rate_and_who_goes_on_is_closed() {
    for event in ["heartbeat", "message:send", "typing:start", "nonsense"] {
        let mut bench = Bench::live();
        bench.settings.control = Some(Rate::per_seconds(2, 60));
        // Whether it makes sense or not.
        assert_eq!(bench.ask("room:join", r#"{"roomId":"bob"}"#).len(), 2);
        assert_eq!(bench.ask(event, "{}").len(), 2);
        for _ in 0..9 {
            assert!(code(&bench.ask(event, "{}"), event).starts_with("RATE_LIMITED "));
        }
        let words = bench.ask(event, "{}");
        assert_eq!((words.len(), words.last().map(String::as_str)), (3, Some("close 1008")));
    }
}

#[test]
fn a_client_has_at_most_so_many_requests_open() {
    let mut bench = Bench::live();
    bench.settings.messages = Vec::new();
    let data = r#"{"recipientId":"bob","content":"hi"}"#;
    for _ in 0..STORE_REQUESTS {
        assert_eq!(bench.ask("message:send", data), [""; 0]);
    }
    assert_eq!(code(&bench.ask("message:send", data), "message:send"), "RATE_LIMITED 1000");
    // What it has been given is noted later.
    assert!(bench.session.takes_message(9));
    bench.input(Input::Heard { all: true });
    assert!(bench.session.awaits_word() && bench.asked.len() == STORE_REQUESTS as usize);
    bench.answer(Ok(MobileAnswer::Sent { message: message(7, "hi"), first: true }));
    bench.input(Input::Heard { all: true });
    assert_eq!(bench.written(), given(9));
}

#[derive(Clone, Debug)]
enum Step {
    Say(String, String),
    Packet(Value, bool),
    Stored(u64, usize),
    Busy(u64),
    Live,
    Heard,
    Late(u64),
    Over,
}

fn any_step() -> impl Strategy<Value = Step> {
    let events = [
        "message:send",
        "typing:start",
        "typing:stop",
        "room:join",
        "room:leave",
        "user:register",
        "heartbeat",
        "authenticate",
        "nonsense",
    ];
    let data = prop_oneof![
        (0..30u8).prop_map(|n| format!(r#"{{"recipientId":"bob-{n}","content":"hi"}}"#)),
        (0..30u8).prop_map(|n| format!(r#"{{"roomId":"ada~bob-{n}"}}"#)),
        (".*", ".*").prop_map(|(one, other)| {
            serde_json::json!({ "recipientId": one, "roomId": other, "content": other, "type": one, "userId": one })
                .to_string()
        }),
    ];
    prop_oneof![
        8 => (prop::sample::select(events.to_vec()), data).prop_map(|(event, data)| Step::Say(event.to_owned(), data)),
        1 => (prop::collection::vec(".*", 0..3), any::<bool>()).prop_map(|(args, is_binary)| Step::Packet(args.into(), is_binary)),
        4 => (any::<u64>(), 0..6usize).prop_map(|(ticket, answer)| Step::Stored(ticket, answer)),
        1 => any::<u64>().prop_map(Step::Busy),
        2 => Just(Step::Live),
        4 => Just(Step::Heard),
        2 => (0..10_000u64).prop_map(Step::Late),
        1 => Just(Step::Over),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a client says and the store answers, to what was asked or to nothing: each is taken, what is open is
    /// bounded, and whoever was told that somebody types is told that he stopped.
    #[test]
    fn nothing_makes_a_session_panic(steps in prop::collection::vec(any_step(), 0..80)) {
        let mut bench = Bench::chat();
        (bench.settings.control, bench.settings.typing) = (None, None);
        bench.input(Input::Opened { offset: None });
        let mut is_typing = BTreeMap::new();
        let mut number = 0;
        for step in steps.into_iter().map(Some).chain([None]) {
            let words = match step {
                Some(Step::Say(event, data)) => bench.ask(&event, &data),
                Some(Step::Packet(args, is_binary)) => {
                    let mut parser = Parser::new(64);
                    let args = args.to_string();
                    let args = parser.parse(args.as_bytes()).expect("JSON");
                    bench.input(Input::Event { args, is_binary, attachments: &[], ack: None })
                }
                Some(Step::Stored(ticket, answer)) => {
                    let answer = match answer {
                        0 => Ok(MobileAnswer::Sent { message: message(number, "hi"), first: false }),
                        1 => Ok(MobileAnswer::Queued(Queued { messages: vec![message(number, "hi")], place: place(number), has_more: true })),
                        2 => Err(Refusal::Internal { error_id: MESSAGE }),
                        _ => Ok(MobileAnswer::Queued(Queued { messages: vec![], place: place(0), has_more: false })),
                    };
                    let ticket = match bench.asked.is_empty() {
                        true => ticket,
                        false => bench.asked.remove(ticket as usize % bench.asked.len()).0,
                    };
                    bench.input(Input::Stored { ticket, answer: &answer.map(Answer::Mobile) })
                }
                Some(Step::Busy(ticket)) => bench.input(Input::StoreBusy { ticket }),
                Some(Step::Live) => {
                    number += 1;
                    bench.session.takes_message(number);
                    Vec::new()
                }
                Some(Step::Heard) => bench.input(Input::Heard { all: true }),
                Some(Step::Late(ms)) => {
                    bench.wait(Duration::from_millis(ms));
                    Vec::new()
                }
                Some(Step::Over) => bench.input(Input::Alarm),
                None => bench.input(Input::Gone),
            };
            for word in words.iter().filter(|word| word.starts_with("publish")) {
                let (to, event) = word.split_once(" \"typing:").expect("only typing is published");
                is_typing.insert(to.to_owned(), event.starts_with("start"));
            }
            prop_assert!(bench.asked.len() <= STORE_REQUESTS as usize);
        }
        prop_assert!(is_typing.values().all(|now| !now));
        prop_assert_eq!(bench.session.alarm(), None);
    }
}
