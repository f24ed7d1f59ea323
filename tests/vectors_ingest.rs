//! The lines of `tests/vectors/ingest`, and random ones; the splitter against a simpler one.
//!
//! In a vector, `> ` is a line that is sent, `< ` what comes of it, `# ` a remark. A blank line has no outcome.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare::audience::App;
use fanfare::proto::ingest::{self, Line, LineError, Piece, Publish, Splitter, Target, reply};
use fanfare::proto::json::{Parser, Raw};
use proptest::prelude::*;
use serde_json::{Value, json};

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
        Ok(Line::ConversationCreate(line)) => {
            format!("conversation.create participants={:?} id={:?}", line.participants, line.id)
        }
        Ok(Line::ConversationMessage(line)) => {
            let text = |value: Option<Raw<'_>>| value.map_or("-".to_owned(), |value| value.to_string());
            let fields = [line.kind, line.content, line.metadata, line.client_message_id].map(text);
            let conversation = line.conversation;
            format!(
                "conversation.message conversation={conversation:?} id={:?} {}",
                line.id,
                fields.join(" ")
            )
        }
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
            text.lines()
                .filter_map(|line| line.strip_prefix(mark).or((line == mark.trim()).then_some("")))
                .collect()
        };
        for end in ["\n", "\r\n"] {
            let input: String = lines_of("> ").into_iter().flat_map(|line| [line, end]).collect();
            let input = input.as_bytes();
            let whole = outcomes(input, []);
            for (found, expected) in whole.iter().zip(lines_of("< ")) {
                assert_eq!(found, expected, "{}", name(&file));
            }
            assert_eq!(whole.len(), lines_of("< ").len(), "{}", name(&file));
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
    let id = "07070707-0707-0707-0707-070707070707";
    let uuid = id.parse().expect("a UUID");
    assert_eq!(
        written(&|out| reply::write_conversation(out, Some("c"), uuid, true)),
        format!(r#"{{"id":"c","ok":true,"conversation_id":"{id}","duplicate":true}}"#)
    );
    assert_eq!(
        written(&|out| reply::write_message(out, None, uuid, uuid, false)),
        format!(r#"{{"ok":true,"conversation_id":"{id}","message_id":"{id}"}}"#)
    );
    assert_eq!(written(&|out| reply::write_disconnected(out, 2)), r#"{"ok":true,"connections":2}"#);
    assert_eq!(written(&|out| reply::write_rooms(out, 3, 40)), r#"{"ok":true,"rooms":3,"subscribers":40}"#);
    assert_eq!(
        written(&|out| reply::write_presence(out, "1234", 2)),
        r#"{"ok":true,"user":"1234","online":true,"connections":2}"#
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

/// What a field may hold, right or wrong.
fn any_field_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        proptest::sample::select(vec![
            json!(null),
            json!(true),
            json!(false),
            json!(7),
            json!(-1.5),
            json!("user:1"),
            json!("market"),
            json!("ping"),
            json!(""),
            json!({"a": [1, "}"]}),
            json!(["a"]),
            json!("x".repeat(129)),
        ]),
        any::<String>().prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_lines_are_published_as_written_or_answered(
        fields in proptest::collection::vec((
            proptest::sample::select(vec![
                "room", "user", "broadcast", "event", "data", "app", "id", "ts", "key", "op", "code", "other",
            ]),
            any_field_value(),
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
