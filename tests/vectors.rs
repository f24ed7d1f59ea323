//! Runs the cases of `tests/vectors/ws` and `tests/vectors/http`: bytes on one side, values on the other.
//! Each case is fed whole, byte by byte, and at random splits; the splits come from fixed seeds.
//!
//! `#` begins a comment in every file. In `ws`, `>` gives the client's bytes in hexadecimal (`61*200` repeats
//! a byte), `<` what must come out, `max N` the size limit; `write MESSAGE` and `=` check the other direction.
//! In `http`, `>` gives one line of the head (CR LF is added; `\xHH` stands for a byte), `>>` one without its
//! line end, `<` one thing the request must say.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare::proto::http::{self, HeadError, Request};
use fanfare::proto::upgrade;
use fanfare::proto::ws::{self, Decoder, Message};

const SEEDS: std::ops::Range<u64> = 1..33;

#[test]
fn websocket_frames() {
    for (path, text) in cases("ws") {
        let case = WsCase::read(&text);
        let name = path.display();
        assert!(!case.expected.is_empty() || case.written.is_some(), "{name}: expects nothing");
        for (how, pieces) in splits(&case.input) {
            assert_eq!(case.decode(&pieces), case.expected, "{name}, {how}");
        }
        if let Some((message, bytes)) = case.written {
            assert_eq!(write_message(&message), bytes, "{name}: {message}");
        }
    }
}

#[test]
fn http_heads() {
    for (path, text) in cases("http") {
        HttpCase::read(&text).run(&path);
    }
}

/// The files of one folder, in order.
fn cases(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&root)
        .expect("the vectors")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no vectors in {}", root.display());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("text"))).collect()
}

/// `input` whole, in single bytes, and cut at random places, with the name of each way.
fn splits(input: &[u8]) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut ways = vec![("whole".to_owned(), vec![input.to_vec()])];
    ways.push(("byte by byte".to_owned(), input.iter().map(|byte| vec![*byte]).collect()));
    for seed in SEEDS {
        let mut random = Random(seed);
        let mut rest = input;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let longest = if random.next().is_multiple_of(2) { 8 } else { rest.len() as u64 };
            let (piece, after) = rest.split_at((1 + random.next() % longest).min(rest.len() as u64) as usize);
            pieces.push(piece.to_vec());
            rest = after;
        }
        ways.push((format!("seed {seed}"), pieces));
    }
    ways
}

/// SplitMix64: repeatable, and enough to choose where to cut.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

struct WsCase {
    max_message: usize,
    input: Vec<u8>,
    expected: Vec<String>,
    written: Option<(String, Vec<u8>)>,
}

impl WsCase {
    fn read(text: &str) -> WsCase {
        let mut case = WsCase { max_message: 32_768, input: Vec::new(), expected: Vec::new(), written: None };
        for line in text.lines().map(without_comment).filter(|line| !line.is_empty()) {
            match line.split_once(' ').expect("a directive and what follows it") {
                (">", bytes) => case.input.extend(hexadecimal(bytes)),
                ("<", value) => case.expected.push(value.to_owned()),
                ("max", number) => case.max_message = number.parse().expect("a number"),
                ("write", message) => case.written = Some((message.to_owned(), Vec::new())),
                ("=", bytes) => {
                    let (_, written) = case.written.as_mut().expect("`write` before `=`");
                    written.extend(hexadecimal(bytes));
                }
                (other, _) => panic!("unknown directive {other}"),
            }
        }
        case
    }

    /// What comes out of the pieces, in the words of the files.
    fn decode(&self, pieces: &[Vec<u8>]) -> Vec<String> {
        let mut decoder = Decoder::new();
        let mut said = Vec::new();
        for piece in pieces {
            let mut piece = piece.clone();
            let mut input = piece.as_mut_slice();
            loop {
                match decoder.decode(input, self.max_message) {
                    Ok((consumed, Some(message))) => {
                        said.push(describe(&message));
                        input = &mut input[consumed..];
                    }
                    Ok((consumed, None)) => {
                        assert_eq!(consumed, input.len(), "None means all was taken");
                        break;
                    }
                    Err(violation) => {
                        said.push(format!("violation {}", violation.code()));
                        return said;
                    }
                }
            }
        }
        if !decoder.is_idle() {
            said.push("unfinished".to_owned());
        }
        said
    }
}

fn describe(message: &Message<'_>) -> String {
    match message {
        Message::Text(text) => format!("text {}", shortened(format!("{text:?}"), text.len())),
        Message::Binary(bytes) => format!("binary {}", shortened(spelled(bytes), bytes.len())),
        Message::Ping(bytes) => format!("ping {}", shortened(spelled(bytes), bytes.len())),
        Message::Pong(bytes) => format!("pong {}", shortened(spelled(bytes), bytes.len())),
        Message::Close { code: None, reason } => format!("close none {reason:?}"),
        Message::Close { code: Some(code), reason } => format!("close {code} {reason:?}"),
    }
}

/// Long payloads are told by their length.
fn shortened(spelled: String, length: usize) -> String {
    if length > 100 { format!("of {length} bytes") } else { spelled }
}

/// The server's frame for a message in the words of the files.
fn write_message(message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (kind, value) = message.split_once(' ').expect("a kind and a value");
    match kind {
        "text" => ws::write_text(&mut out, &[quoted(value).as_bytes()]),
        "binary" => ws::write_binary(&mut out, &[&hexadecimal(value)]),
        "ping" => ws::write_ping(&mut out, &hexadecimal(value)),
        "pong" => ws::write_pong(&mut out, &hexadecimal(value)),
        "close" => {
            let (code, reason) = value.split_once(' ').expect("a code and a reason");
            ws::write_close(&mut out, code.parse().expect("a code"), &quoted(reason));
        }
        other => panic!("unknown message {other}"),
    }
    out
}

fn quoted(value: &str) -> String {
    serde_json::from_str(value).expect("a quoted text")
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// `48 65 6c*3` → the bytes.
fn hexadecimal(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace().filter(|word| *word != "-") {
        let (byte, count) = word.split_once('*').unwrap_or((word, "1"));
        let byte = u8::from_str_radix(byte, 16).expect("two hexadecimal digits");
        bytes.extend(std::iter::repeat_n(byte, count.parse().expect("a count")));
    }
    bytes
}

fn spelled(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x} ");
    }
    text.trim_end().to_owned()
}

struct HttpCase {
    max_head: usize,
    input: Vec<u8>,
    expected: Vec<String>,
}

impl HttpCase {
    fn read(text: &str) -> HttpCase {
        let mut case = HttpCase { max_head: 16_384, input: Vec::new(), expected: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(bytes) = line.strip_prefix(">>") {
                case.input.extend(unescaped(bytes.strip_prefix(' ').unwrap_or(bytes)));
            } else if let Some(bytes) = line.strip_prefix('>') {
                case.input.extend(unescaped(bytes.strip_prefix(' ').unwrap_or(bytes)));
                case.input.extend(b"\r\n");
            } else if let Some(value) = line.strip_prefix("< ") {
                case.expected.push(value.to_owned());
            } else if let Some(number) = line.strip_prefix("max ") {
                case.max_head = number.parse().expect("a number");
            } else {
                assert!(line.is_empty(), "unknown directive {line}");
            }
        }
        case
    }

    /// The head must be complete at its last byte and not before, or fail alike however it arrives.
    fn run(&self, path: &Path) {
        let name = path.display();
        let outcome = http::parse_request(&self.input, self.max_head);
        match &outcome {
            Ok(Some((request, length))) => {
                assert!(!self.expected.is_empty(), "{name}: expects nothing");
                for expectation in &self.expected {
                    let (subject, _) = subject(expectation);
                    assert_eq!(&said(request, *length, &subject), expectation, "{name}");
                }
                for cut in 0..*length {
                    let before = http::parse_request(&self.input[..cut], self.max_head);
                    assert!(matches!(before, Ok(None)), "{name}: complete after {cut} bytes");
                }
            }
            Ok(None) => assert_eq!(self.expected, ["incomplete"], "{name}"),
            Err(error) => {
                assert_eq!(self.expected, [format!("error {}", error.status())], "{name}");
                let first = (0..=self.input.len())
                    .find_map(|cut| http::parse_request(&self.input[..cut], self.max_head).err());
                assert_eq!(first, Some(*error), "{name}: another error on the way");
            }
        }
    }
}

/// What is asked about (`header Host`) and what must be answered.
fn subject(expectation: &str) -> (String, &str) {
    let (kind, rest) = expectation.split_once(' ').expect("a subject and a value");
    match kind {
        "header" | "headers" | "param" | "origin" => {
            let (name, value) = rest.split_once(": ").expect("`name: value`");
            (format!("{kind} {name}"), value)
        }
        _ => (kind.to_owned(), rest),
    }
}

/// What the request says about a subject, in the words of the files.
fn said(request: &Request<'_>, length: usize, subject: &str) -> String {
    let (kind, name) = subject.split_once(' ').unwrap_or((subject, ""));
    let or_none = |value: Option<&str>| value.unwrap_or("(none)").to_owned();
    let value = match kind {
        "method" => request.method.to_owned(),
        "path" => request.path.to_owned(),
        "decoded-path" => http::percent_decode(request.path).into_owned(),
        "query" => request.query.to_owned(),
        "host" => or_none(request.host()),
        "head" => length.to_string(),
        "keep-alive" => request.keep_alive().to_string(),
        "continue" => request.wants_continue().to_string(),
        "header" => return format!("header {name}: {}", or_none(request.header(name))),
        "headers" => {
            return format!("headers {name}: {}", request.headers(name).collect::<Vec<_>>().join(" | "));
        }
        "param" => return format!("param {name}: {}", or_none(request.query_param(name).as_deref())),
        "length" => match request.content_length() {
            Ok(Some(length)) => length.to_string(),
            Ok(None) => "(none)".to_owned(),
            Err(error) => format!("error {}", error.status()),
        },
        "wants-upgrade" => upgrade::wants_upgrade(request).to_string(),
        "upgrade" => match upgrade::check(request) {
            Ok(upgrade) => format!("{} [{}]", upgrade.accept, upgrade.protocols.join(" | ")),
            Err(error) => format!("error {}", error.status),
        },
        "bearer" => or_none(upgrade::bearer_token(request)),
        "subprotocol" => or_none(upgrade::subprotocol_token(request)),
        "origin" => {
            let allowed: Vec<String> = name.split_whitespace().skip(1).map(str::to_owned).collect();
            let host = name.split_whitespace().next().filter(|host| *host != "-");
            let allowed = upgrade::origin_allowed(request, host, &allowed);
            return format!("origin {name}: {allowed}");
        }
        other => panic!("unknown subject {other}"),
    };
    format!("{kind} {value}")
}

/// `\xHH` → the byte.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits"));
        bytes.extend(&part.as_bytes()[2..]);
    }
    bytes
}

#[test]
fn a_head_over_the_limit_is_refused_before_it_is_complete() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100));
    assert!(http::parse_request(head.as_bytes(), head.len()).is_ok_and(|found| found.is_some()));
    let refused = http::parse_request(head.as_bytes(), head.len() - 1);
    assert_eq!(refused.err(), Some(HeadError::TooLarge));
    let partial = http::parse_request(&head.as_bytes()[..64], 64);
    assert_eq!(partial.err(), Some(HeadError::TooLarge));
}
