//! The JSON texts of `tests/vectors/json`, the ingest lines of `tests/vectors/ingest`, and both against simpler
//! implementations on random input.
//!
//! JSON: `valid_*`, `invalid_*`, and `wide_*`, which are valid though some parsers refuse them.
//! Lines: `> ` a line that is sent, `< ` what comes of it, `# ` a remark. A line without an outcome is ignored.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare::audience::App;
use fanfare::proto::ingest::{self, Line, LineError, Piece, Publish, Splitter, Target, reply};
use fanfare::proto::json::{JsonError, Parser, Raw, write_str};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value, json};

const MAX_DEPTH: usize = 64;

fn vectors(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no vectors in {}", folder.display());
    files
}

fn name(file: &Path) -> Cow<'_, str> {
    file.file_name().expect("a name").to_string_lossy()
}

/// The tree that serde_json would build, found by navigation.
fn tree(raw: Raw<'_>) -> Value {
    if raw.is_object() {
        Value::Object(raw.members().map(|(key, value)| (key.into_owned(), tree(value))).collect())
    } else if raw.is_array() {
        Value::Array(raw.items().map(tree).collect())
    } else if let Some(text) = raw.as_str() {
        Value::String(text.into_owned())
    } else if let Some(flag) = raw.as_bool() {
        Value::Bool(flag)
    } else if raw.is_null() {
        Value::Null
    } else if let Some(number) = raw.as_u64() {
        number.into()
    } else if let Some(number) = raw.as_i64().filter(|number| *number != 0) {
        number.into()
    } else {
        Value::Number(raw.as_f64().and_then(Number::from_f64).expect("a number"))
    }
}

#[test]
fn json_vectors() {
    let mut parser = Parser::new(MAX_DEPTH);
    for file in vectors("json") {
        let text = fs::read(&file).expect("readable");
        let result = parser.parse(&text);
        if name(&file).starts_with("invalid_") {
            let error = result.expect_err(&name(&file));
            assert!(!error.explain(&text).is_empty());
            continue;
        }
        let raw = result.unwrap_or_else(|error| panic!("{}: {}", name(&file), error.explain(&text)));
        assert_eq!(raw.bytes(), text.trim_ascii(), "{}", name(&file));
        if name(&file).starts_with("valid_") {
            let expected: Value = serde_json::from_slice(&text).expect("valid");
            assert_eq!(tree(raw), expected, "{}", name(&file));
        }
    }
}

#[test]
fn errors_say_what_and_where() {
    let mut parser = Parser::new(MAX_DEPTH);
    let mut explain = |text: &[u8]| {
        let error = parser.parse(text).expect_err("wrong");
        (error, error.explain(text))
    };
    let (error, message) = explain(b"{\"a\":1,}");
    assert_eq!(error, JsonError::Syntax);
    assert_eq!(message, "not valid JSON: key must be a string at column 8");
    let (error, message) = explain(b"[\"\xff\"]");
    assert_eq!(error, JsonError::NotUtf8);
    assert_eq!(message, "not UTF-8: send JSON as UTF-8 (byte 3)");
    for text in ["[".repeat(65) + &"]".repeat(65), "[".repeat(65) + "1e999" + &"]".repeat(65), "[".repeat(5000)] {
        assert_eq!(explain(text.as_bytes()).0, JsonError::TooDeep);
    }
    assert_eq!(explain(("[\"".to_owned() + &"[".repeat(65) + "\",1e999,]").as_bytes()).0, JsonError::Syntax);
}

#[test]
fn values_answer_as_what_they_are() {
    let mut parser = Parser::new(MAX_DEPTH);
    let text = br#" {"n":12,"m":-3,"f":1.50,"big":1e999,"wei":18446744073709551616,"s":"a\ud83d\ude00\u00e9","cut":"x\ud83d","t":true,"z":null,"n":13,"a":[1,"2",{}],"\u006b":7} "#;
    let raw = parser.parse(text).expect("valid");
    let get = |key| raw.get(key).expect(key);
    assert_eq!((get("n").as_u64(), get("n").as_i64(), get("n").text()), (Some(13), Some(13), "13"));
    assert_eq!((get("m").as_u64(), get("m").as_i64(), get("m").as_f64()), (None, Some(-3), Some(-3.0)));
    assert_eq!((get("f").as_i64(), get("f").as_f64(), get("f").text()), (None, Some(1.5), "1.50"));
    assert_eq!((get("big").as_f64(), get("big").text()), (None, "1e999"));
    assert_eq!((get("wei").as_u64(), get("wei").as_f64()), (None, Some(18_446_744_073_709_551_616.0)));
    assert_eq!(get("s").as_str().as_deref(), Some("a😀é"));
    assert_eq!(get("cut").as_str().as_deref(), Some("x\u{fffd}"));
    assert_eq!((get("t").as_bool(), get("z").is_null(), get("z").as_bool()), (Some(true), true, None));
    assert_eq!(get("k").as_u64(), Some(7));
    assert!(raw.get("none").is_none() && get("a").get("n").is_none() && get("n").items().next().is_none());
    assert_eq!(get("a").items().map(Raw::text).collect::<Vec<_>>(), ["1", "\"2\"", "{}"]);
    assert!(matches!(get("a").items().nth(1).and_then(Raw::as_str), Some(Cow::Borrowed("2"))));
    assert!(get("s").as_f64().is_none() && get("n").as_str().is_none() && get("a").as_str().is_none());
}

/// What came of a line, as the vectors write it.
fn outcome(number: u64, result: Result<Line<'_>, LineError<'_>>) -> String {
    match result {
        Ok(Line::Publish(publish)) => describe(&publish),
        Ok(Line::Auth { token }) => format!("auth token={token:?}"),
        Ok(Line::Listen { events, app }) => format!("listen events={events:?} app={app:?}"),
        Ok(Line::Disconnect { user, code, reason }) => {
            format!("disconnect user={user:?} code={code} reason={reason:?}")
        }
        Ok(Line::Rooms) => "rooms".to_owned(),
        Ok(Line::Presence { user }) => format!("presence user={user:?}"),
        Ok(Line::Ping) => "ping".to_owned(),
        Err(error) => {
            let mut out = Vec::new();
            reply::write_error(&mut out, number, error.id.as_deref(), error.code, &error.message);
            reply_text(out)
        }
    }
}

fn describe(publish: &Publish<'_>) -> String {
    let mut text = match &publish.target {
        Target::Room(name) => format!("publish room={name:?}"),
        Target::User(id) => format!("publish user={id:?}"),
        Target::Broadcast => "publish broadcast".to_owned(),
    };
    text += &format!(" event={} name={:?} data={}", publish.event, publish.event_name, publish.data);
    text += &publish.app.map_or(String::new(), |app| format!(" app={}", app.name()));
    text += &publish.id.as_ref().map_or(String::new(), |id| format!(" id={id:?}"));
    text += &publish.ts.map_or(String::new(), |ts| format!(" ts={ts}"));
    text + &publish.key.as_ref().map_or(String::new(), |key| format!(" key={key:?}"))
}

/// A reply, which must be one line of JSON, without its line feed.
fn reply_text(out: Vec<u8>) -> String {
    let text = String::from_utf8(out).expect("UTF-8");
    let line = text.strip_suffix('\n').expect("a line feed").to_owned();
    assert!(!line.contains('\n') && serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    line
}

/// What comes of `input` when it is read in pieces that end at `cuts`.
fn outcomes(input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Vec<String> {
    let mut parser = Parser::new(MAX_DEPTH);
    let mut splitter = Splitter::new(65_536);
    let mut outcomes = Vec::new();
    let mut start = 0;
    for cut in cuts.into_iter().chain([input.len()]) {
        let mut rest = &input[start..cut];
        start = cut;
        while let Some(piece) = splitter.next(&mut rest) {
            let Piece::Line { number, text } = piece else { panic!("too long") };
            outcomes.push(outcome(number, ingest::parse(&mut parser, text)));
        }
    }
    assert!(!splitter.is_mid_line());
    outcomes
}

#[test]
fn ingest_vectors() {
    for file in vectors("ingest") {
        let text = fs::read_to_string(&file).expect("readable");
        let lines_of = |mark: &str| -> Vec<&str> {
            text.lines().filter_map(|line| line.strip_prefix(mark).or((line == mark.trim()).then_some(""))).collect()
        };
        for end in ["\n", "\r\n"] {
            let input: String = lines_of("> ").into_iter().flat_map(|line| [line, end]).collect();
            let input = input.as_bytes();
            let whole = outcomes(input, []);
            assert_eq!(whole, lines_of("< "), "{}", name(&file));
            assert_eq!(outcomes(input, 1..input.len()), whole, "{} byte by byte", name(&file));
            let halves = (7..input.len()).step_by(31);
            assert_eq!(outcomes(input, halves), whole, "{} in pieces", name(&file));
        }
    }
}

#[test]
fn replies_are_single_lines_of_json() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        reply_text(out)
    };
    let room = Target::Room("trade:BTC-USDC".into());
    assert_eq!(
        written(&|out| reply::write_ack(out, "7f3a", &room, 118, 2041, false)),
        r#"{"id":"7f3a","ok":true,"room":"trade:BTC-USDC","offset":118,"subscribers":2041}"#
    );
    assert_eq!(
        written(&|out| reply::write_ack(out, "\"\n", &Target::User("1234".into()), 1, 0, true)),
        r#"{"id":"\"\n","ok":true,"user":"1234","offset":1,"subscribers":0,"duplicate":true}"#
    );
    assert_eq!(
        written(&|out| reply::write_ack(out, "a", &Target::Broadcast, u64::MAX, 9, false)),
        r#"{"id":"a","ok":true,"broadcast":true,"offset":18446744073709551615,"subscribers":9}"#
    );
    assert_eq!(written(&reply::write_ok), r#"{"ok":true}"#);
    assert_eq!(written(&reply::write_pong), r#"{"op":"pong"}"#);
    assert_eq!(written(&|out| reply::write_disconnected(out, 2)), r#"{"ok":true,"connections":2}"#);
    assert_eq!(written(&|out| reply::write_rooms(out, 3, 40)), r#"{"ok":true,"rooms":3,"subscribers":40}"#);
    assert_eq!(
        written(&|out| reply::write_presence(out, "1234", 2)),
        r#"{"ok":true,"user":"1234","online":true,"connections":2}"#
    );
    assert_eq!(
        written(&|out| reply::write_summary(out, 10, 3)),
        r#"{"ok":false,"lines":10,"accepted":7,"errors":3}"#
    );
    let received = reply::Received {
        user: Some("1234"),
        connection: "0190",
        app: App::Account,
        event: "message",
        data: b"{\r\n \"a\": \"b\\n\"\n}",
        received_at: "2025-05-20T14:30:00.000Z",
    };
    assert_eq!(
        written(&|out| reply::write_received(out, &received)),
        r#"{"from":{"user":"1234","connection":"0190","app":"account"},"event":"message","data":{   "a": "b\n" },"received_at":"2025-05-20T14:30:00.000Z"}"#
    );
    let received = reply::Received { user: None, ..received };
    assert!(written(&|out| reply::write_received(out, &received)).starts_with(r#"{"from":{"user":null,"#));
}

/// A piece, owned.
type Found = (u64, Option<Vec<u8>>);

fn found(piece: Piece<'_>) -> Found {
    match piece {
        Piece::Line { number, text } => (number, Some(text.to_vec())),
        Piece::TooLong { number } => (number, None),
    }
}

fn split(max_line: usize, input: &[u8], cuts: &[usize]) -> Vec<Found> {
    let mut splitter = Splitter::new(max_line);
    let mut pieces = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&input.len()]) {
        let mut rest = &input[start..cut];
        start = cut;
        while let Some(piece) = splitter.next(&mut rest) {
            pieces.push(found(piece));
        }
        assert!(rest.is_empty());
    }
    let unfinished = input.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    assert_eq!(splitter.is_mid_line(), !unfinished.is_empty());
    pieces.extend(splitter.finish().map(found));
    pieces
}

fn naive_split(max_line: usize, input: &[u8]) -> Vec<Found> {
    let lines = input.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let numbered = (1..).zip(lines);
    let pieces = numbered.map(|(number, line)| (number, (line.len() <= max_line).then(|| line.to_vec())));
    pieces.filter(|(_, line)| line.as_ref().is_none_or(|line| !line.trim_ascii().is_empty())).collect()
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    for end in ["\n", "\r\n", ""] {
        for (length, fits) in [(16, true), (17, false)] {
            let line = "x".repeat(length);
            let input = format!("a\n{line}{end}");
            for cut in 0..input.len() {
                let pieces = split(16, input.as_bytes(), &[cut]);
                assert_eq!(pieces[0], (1, Some(b"a".to_vec())));
                assert_eq!(pieces[1..], [(2, fits.then(|| line.clone().into_bytes()))], "{input:?} at {cut}");
            }
        }
    }
}

#[test]
fn whole_lines_are_not_copied() {
    let input = b"one\ntwo\nthr";
    let mut splitter = Splitter::new(16);
    let mut rest = &input[..];
    while let Some(Piece::Line { text, .. }) = splitter.next(&mut rest) {
        assert!(input.as_ptr_range().contains(&text.as_ptr()));
    }
    assert!(splitter.is_mid_line());
    let mut rest = &b"ee\n"[..];
    assert_eq!(splitter.next(&mut rest), Some(Piece::Line { number: 3, text: b"three" }));
    assert_eq!(splitter.next(&mut rest), None);
    assert!(!splitter.is_mid_line());
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,6}",
        any::<String>(),
        proptest::collection::vec(
            prop_oneof![Just('"'), Just('\\'), Just('\n'), Just('{'), Just(']'), Just(','), Just('😀'), Just('x')],
            0..70
        )
        .prop_map(String::from_iter),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000i32..1000).prop_map(|number| Value::from(f64::from(number) / 8.0 + 0.0625)),
        any_string().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::vec((any_string(), inner), 0..8)
                .prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    })
}

/// Bytes that are often nearly JSON.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        proptest::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u", "d83d", "\\udE00", "null", "true", "false", "-", "0",
            "1", "12", ".", "e", "E+", "1e999", "18446744073709551616", " ", "\n", "\t", "\"a\"", "\"b\":", "\u{1}",
            "é", "/", "tru",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    let damaged = (any_value(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(value, at, byte)| {
        let mut text = value.to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        text
    });
    prop_oneof![
        proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat()),
        proptest::collection::vec(any::<u8>(), 0..200),
        damaged,
    ]
}

/// Reads everything there is to read.
fn visit(raw: Raw<'_>) -> usize {
    let _ = (raw.as_str(), raw.as_u64(), raw.as_i64(), raw.as_f64(), raw.as_bool(), raw.get("a"));
    let members: usize = raw.members().map(|(key, value)| key.len() + visit(value)).sum();
    members + raw.items().map(visit).sum::<usize>() + 1
}

fn agrees(parser: &mut Parser, text: &[u8]) -> TestCaseResult {
    let expected = std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match parser.parse(text) {
        Ok(raw) => {
            prop_assert!(expected, "only serde_json refuses it");
            visit(raw);
            if let Ok(value) = serde_json::from_slice::<Value>(text) {
                prop_assert_eq!(tree(raw), value);
            }
        }
        Err(JsonError::TooDeep) => {}
        Err(error) => prop_assert!(!expected, "only serde_json takes it: {}", error),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_printed_navigates_to_the_same(value in any_value()) {
        let mut parser = Parser::new(MAX_DEPTH);
        for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("printable")] {
            let raw = parser.parse(text.as_bytes()).expect("valid");
            prop_assert_eq!(raw.text(), &text);
            prop_assert_eq!(tree(raw), value.clone());
            if let Value::Object(members) = &value {
                for (key, value) in members {
                    prop_assert_eq!(raw.get(key).map(tree), Some(value.clone()));
                }
            }
        }
    }

    #[test]
    fn random_text_is_judged_as_serde_json_judges_it(texts in proptest::collection::vec(any_text(), 1..8)) {
        let mut parser = Parser::new(MAX_DEPTH);
        for text in texts {
            agrees(&mut parser, &text)?;
        }
    }

    #[test]
    fn strings_are_written_as_they_are_read(text in any_string()) {
        let mut out = Vec::new();
        write_str(&mut out, &text);
        let read = Parser::new(MAX_DEPTH).parse(&out).expect("valid").as_str().map(Cow::into_owned);
        prop_assert_eq!(read, Some(text.clone()));
        prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("valid"), text);
    }

    #[test]
    fn random_lines_are_published_as_written_or_answered(
        fields in proptest::collection::vec((
            proptest::sample::select(vec![
                "room", "user", "broadcast", "event", "data", "app", "id", "ts", "key", "op", "code", "other",
            ]),
            prop_oneof![any_value(), Just(json!(true)), Just(json!("user:1")), Just(json!("market"))],
        ), 0..8)
    ) {
        let members = fields.iter().map(|(key, value)| format!("{}:{value}", json!(key)));
        let line = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        let mut parser = Parser::new(MAX_DEPTH);
        match ingest::parse(&mut parser, line.as_bytes()) {
            Ok(Line::Publish(publish)) => {
                let last = |key: &str| fields.iter().rfind(|(name, _)| *name == key).map(|(_, value)| value.to_string());
                prop_assert_eq!(Some(publish.event.to_string()), last("event"));
                prop_assert_eq!(publish.data.to_string(), last("data").unwrap_or("null".to_owned()));
            }
            Ok(_) => {}
            Err(error) => {
                reply_text({
                    let mut out = Vec::new();
                    reply::write_error(&mut out, 1, error.id.as_deref(), error.code, &error.message);
                    out
                });
            }
        }
    }

    #[test]
    fn lines_do_not_depend_on_where_reads_end(
        input in proptest::collection::vec(
            proptest::sample::select(vec![b'\n', b'\n', b'\r', b' ', b'a', b'b', b'c', b'd']), 0..120),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        max_line in 1usize..12,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(split(max_line, &input, &cuts), naive_split(max_line, &input));
    }
}
