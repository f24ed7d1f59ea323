//! Conversations with the apps, written down in `tests/apps/<app>/*.txt`, held over a real socket and, as far as they
//! need no shard, with a pure `Session`.
//!
//! | line | means |
//! |---|---|
//! | `# text` | a comment |
//! | `= key = value` | a setting of the broker; before anything else |
//! | `+ NAME [APP] {claims}` | connects a client of that name; `{}`: the user is the name; `anonymous`: without a token |
//! | `> text` | the first client sends this |
//! | `< text` | the first client is sent exactly this next |
//! | `NAME> text`, `NAME< text` | the same for another client |
//! | `< close CODE` | the server closes |
//! | `! line` | a backend sends this line to the ingest port; it must be answered with `"ok":true` |
//! | `!< line` | a backend is sent this |
//!
//! APP is `market`, `account`, or `market-socketio`, whose lines are packets of Socket.IO within Engine.IO messages
//! (`> 421["ping",{}]`); `market-socketio-offset` asks for connection state recovery, so that events carry offsets.
//!
//! In what is sent, `<token USER>`, `<expired USER>` and `<many N>` are replaced. In what is expected, the whole text
//! of a JSON string may be `<millis>` or `<seconds>` (a time with or without milliseconds), `<uuid>`, `<sid>`,
//! `<offset>`, `<text>`, or `<number>` for a positive number. Objects must have the same members; their order does not matter.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use fanfare::app::{AppOpening, AppSettings, Context, Input, Labels, Opening, Output, Outputs, Session};
use fanfare::audience::{App, Wire};
use fanfare::auth::Verifier;
use fanfare::proto::json::Parser;
use fanfare::proto::ws;
use fanfare::room::publication::ClientId;
use fanfare::settings::{AuthSettings, Secret};
use fanfare::time::Now;
use fanfare::users::{User, UserLimits, Users};
use serde_json::{Value, json};
use uuid::Uuid;

use support::token::{SECRET, now, short_token, sign, token};
use support::{Broker, Client};

/// A transcript's line, with its number for messages.
struct Line {
    number: usize,
    step: Step,
}

enum Step {
    Setting(String),
    Connect { name: String, app: String, claims: Option<Value> },
    Client(String, String),
    Server(String, String),
    Backend(String),
    ToBackend(String),
}

/// What the names of the apps over Socket.IO begin with.
const SOCKET_IO: &str = "market-socketio";

/// Whether shards serve Socket.IO; its transcripts are held with pure sessions either way.
const SOCKET_IO_IS_SERVED: bool = true;

/// The name of the client that needs none.
const FIRST: &str = "";

fn read(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with("# ") {
            continue;
        }
        let step = if let Some(setting) = line.strip_prefix("= ") {
            Step::Setting(setting.to_owned())
        } else if let Some(rest) = line.strip_prefix("+ ") {
            connect(rest)
        } else if let Some(rest) = line.strip_prefix("!< ") {
            Step::ToBackend(rest.to_owned())
        } else if let Some(rest) = line.strip_prefix("! ") {
            Step::Backend(rest.to_owned())
        } else {
            let at = line.find(['>', '<']).unwrap_or_else(|| panic!("line {}: what is this?", index + 1));
            let (name, rest) = (line[..at].to_owned(), line[at + 1..].trim_start().to_owned());
            match line.as_bytes()[at] {
                b'>' => Step::Client(name, rest),
                _ => Step::Server(name, rest),
            }
        };
        lines.push(Line { number: index + 1, step });
    }
    lines
}

fn connect(text: &str) -> Step {
    let at = text.find(['{']).unwrap_or(text.len());
    let mut words = text[..at].split_whitespace();
    let (name, app) = (words.next().unwrap_or(FIRST), words.next().unwrap_or("market"));
    let claims = (!text.ends_with("anonymous")).then(|| serde_json::from_str(&text[at..]).unwrap());
    let name = if name == "-" { FIRST } else { name };
    Step::Connect { name: name.to_owned(), app: app.to_owned(), claims }
}

/// The claims of a client: what the transcript says, and what it leaves out.
fn claims(name: &str, said: &Value) -> Value {
    let mut claims = json!({ "sub": if name == FIRST { "ada-0001" } else { name }, "exp": now() + 3600 });
    let members = claims.as_object_mut().unwrap();
    members.extend(said.as_object().unwrap().clone());
    if let Some(seconds) = members.remove("ttl") {
        members.insert("exp".to_owned(), json!(now() + seconds.as_u64().unwrap()));
    }
    claims
}

/// Puts tokens in their places.
fn filled(text: &str) -> String {
    let mut filled = text.to_owned();
    for (mark, make) in [
        ("<token ", (|user| token(user)) as fn(&str) -> String),
        ("<expired ", |user| short_token(user, -60)),
        ("<many ", |count| "x".repeat(count.parse().unwrap())),
    ] {
        while let Some(start) = filled.find(mark) {
            let end = start + filled[start..].find('>').unwrap();
            let made = make(&filled[start + mark.len()..end]);
            filled.replace_range(start..=end, &made);
        }
    }
    filled
}

fn is_time(text: &str, length: usize) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == if length == 20 { "0000-00-00T00:00:00Z" } else { "0000-00-00T00:00:00.000Z" }
}

/// 16 bytes in base64url.
fn is_sid(text: &str) -> bool {
    text.len() == 22 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn matches(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::String(mark), found) if mark.starts_with('<') && mark.ends_with('>') => match &mark[..] {
            "<millis>" => found.as_str().is_some_and(|text| is_time(text, 24)),
            "<seconds>" => found.as_str().is_some_and(|text| is_time(text, 20)),
            "<sid>" => found.as_str().is_some_and(is_sid),
            "<offset>" => found.as_str().is_some_and(|text| text.parse::<u64>().is_ok()),
            "<uuid>" => found.as_str().is_some_and(|text| Uuid::parse_str(text).is_ok()),
            "<text>" => found.as_str().is_some_and(|text| !text.is_empty()),
            "<number>" => found.as_u64().is_some_and(|number| number > 0),
            other => panic!("unknown mark {other}"),
        },
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected
                    .iter()
                    .all(|(key, value)| found.get(key).is_some_and(|found| matches(value, found)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| matches(a, b))
        }
        (expected, found) => expected == found,
    }
}

/// What stands before the JSON, which is nothing but in packets of Socket.IO, and the JSON.
fn packet(text: &str) -> (&str, &str) {
    text.split_at(text.find(['{', '[']).unwrap_or(0))
}

#[track_caller]
fn expect(place: &str, expected: &str, found: &str) {
    let (head, json) = packet(expected);
    let value: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{place}: {error}"));
    let (found_head, json) = packet(found);
    let is_it = head == found_head && serde_json::from_str(json).is_ok_and(|found| matches(&value, &found));
    assert!(is_it, "{place}\n  expected {expected}\n  found    {found}");
}

/// Opens a connection of Engine.IO and connects the namespace `/`.
fn socket_io(broker: &Broker, token: Option<&str>, recover: bool) -> Client {
    let mut client = Client::open(broker.public, "/socket.io/?EIO=4&transport=websocket", &[]);
    assert!(client.next_text().starts_with("0{"), "the open packet of Engine.IO");
    let mut auth = json!({ "recover": recover });
    if let Some(token) = token {
        auth["token"] = json!(token);
    }
    client.text(format!("40{auth}"));
    assert!(client.next_text().starts_with("40{"), "the CONNECT packet of Socket.IO");
    client
}

/// Whether the broker that is built serves the app.
fn is_served(step: &Step) -> bool {
    !matches!(step, Step::Connect { app, .. } if app.starts_with(SOCKET_IO)) || SOCKET_IO_IS_SERVED
}

/// Holds a conversation with the real binary.
fn over_sockets(file: &str, lines: &[Line], shards: &str) {
    let mut settings = vec![shards];
    settings.extend(lines.iter().filter_map(|line| match &line.step {
        Step::Setting(setting) => Some(setting.as_str()),
        _ => None,
    }));
    let broker = Broker::start(&settings);
    let mut publisher = broker.publisher();
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    for line in lines {
        let place = format!("{file}:{} over a socket with {shards}", line.number);
        let lost = || panic!("{place}: no client of that name");
        match &line.step {
            Step::Setting(_) => {}
            Step::Connect { name, app, claims: said } => {
                let token = said.as_ref().map(|said| sign(claims(name, said)));
                let client = match app.strip_prefix(SOCKET_IO) {
                    Some(more) => socket_io(&broker, token.as_deref(), more == "-offset"),
                    None => {
                        let path = if app == "account" { "/ws" } else { "/feed" };
                        let path = token.map_or(path.to_owned(), |token| format!("{path}?token={token}"));
                        Client::open(broker.public, &path, &[])
                    }
                };
                clients.insert(name, client);
            }
            Step::Client(name, text) => clients.get_mut(&**name).unwrap_or_else(lost).text(filled(text)),
            Step::Server(name, text) => {
                let client = clients.get_mut(&**name).unwrap_or_else(lost);
                match text.strip_prefix("close ") {
                    Some(code) => {
                        let (found, reason, before) = client.closed();
                        assert!(before.is_empty(), "{place}: {before:?} comes before");
                        assert_eq!(found.to_string(), code, "{place}: {reason}");
                    }
                    None => expect(&place, text, &client.next_text()),
                }
            }
            Step::Backend(text) => {
                let mut text = text.clone();
                // Asks for an acknowledgement, so that what follows comes after it.
                if !text.contains("\"op\"") && !text.contains("\"id\"") {
                    text.insert_str(1, &format!("\"id\":\"line {}\",", line.number));
                }
                let reply = publisher.ask(text);
                assert_eq!(reply["ok"], true, "{place}: {reply}");
            }
            Step::ToBackend(text) => expect(&place, text, &publisher.reply().to_string()),
        }
    }
}

/// What a pure session is run with.
struct Bench {
    settings: AppSettings,
    verifier: Verifier,
    parser: Parser,
    out: Outputs,
    now: Now,
}

impl Bench {
    fn new(lines: &[Line]) -> Option<Bench> {
        // Rates that a file sets count here too; other settings are not the session's.
        let mut control = "120/10s".to_owned();
        for line in lines {
            if let Step::Setting(setting) = &line.step {
                match setting.split_once(" = ")? {
                    ("limits.control", rate) => control = rate.trim_matches('"').to_owned(),
                    // What these do is the shard's business, or the broker's.
                    ("rooms" | "limits.message_size" | "limits.rooms_per_connection", _) => return None,
                    _ => {}
                }
            }
        }
        let auth = AuthSettings { secret: Secret::new(SECRET), ..AuthSettings::default() };
        Some(Bench {
            settings: AppSettings { control: Some(control.parse().unwrap()), ..AppSettings::default() },
            verifier: Verifier::new(&auth).unwrap(),
            parser: Parser::new(64),
            out: Outputs::default(),
            now: Now::read(),
        })
    }

    fn open(&mut self, app: &str, name: &str, said: Option<&Value>) -> Session {
        let users = Users::default();
        let identity = said.map(|said| {
            let token = sign(claims(name, said));
            self.verifier.verify(&token, self.now.unix_seconds()).unwrap()
        });
        let (app, opening) = match app {
            "account" => (App::Account, AppOpening::Account(Labels::default())),
            "market-socketio" => (App::Market, AppOpening::Market(Wire::SocketIo)),
            "market-socketio-offset" => (App::Market, AppOpening::Market(Wire::SocketIoOffset)),
            "market" => (App::Market, AppOpening::Market(Wire::Native)),
            other => panic!("no app {other}"),
        };
        let limits = UserLimits { connections: 0, connects: None };
        let user = match &identity {
            Some(identity) => users.connect(&identity.user, app, limits, 0).unwrap(),
            None => User::anonymous(),
        };
        let client = ClientId { shard: 0, slot: 0, generation: 0 };
        Session::new(Opening { user, identity, connection: Uuid::now_v7(), client, app: opening })
    }

    /// A message of the client's, as its wire has it.
    fn say(&mut self, session: &mut Session, text: &str) -> Option<Vec<String>> {
        if session.wire().namespace().is_none() {
            return self.step(session, Input::Text(text));
        }
        let (head, args) = packet(text);
        let ack = head.strip_prefix("42").unwrap_or_else(|| panic!("{text} is no event"));
        let ack = (!ack.is_empty()).then(|| ack.parse().unwrap());
        // The session has the bench's own parser.
        let mut parser = Parser::new(64);
        let args = parser.parse(args.as_bytes()).unwrap();
        self.step(session, Input::Event { args, is_binary: false, attachments: &[], ack })
    }

    /// One input; what the client is sent, where joins are granted at once. `None`: the answer needs a shard.
    fn step(&mut self, session: &mut Session, input: Input<'_>) -> Option<Vec<String>> {
        let mut context = Context {
            now: self.now,
            settings: &self.settings,
            verifier: &self.verifier,
            parser: &mut self.parser,
            out: &mut self.out,
            ack: None,
        };
        session.handle(input, &mut context);
        let mut list = self.out.take();
        let (mut sent, mut closing) = (Some(Vec::new()), None);
        for output in list.drain(..) {
            let text = match output {
                Output::Reply(text) => text,
                Output::Join { confirmation, .. }
                | Output::Leave { confirmation, .. }
                | Output::Personal { confirmation, .. } => confirmation,
                Output::Close(reason) => {
                    closing = Some(reason);
                    continue;
                }
                Output::Publish { confirmation, counted: false, .. } => confirmation,
                Output::Deadline | Output::Written => continue,
                Output::Publish { .. }
                | Output::Tell { .. }
                | Output::Presence { .. }
                | Output::Forward { .. }
                | Output::Live(_)
                | Output::Store { .. } => {
                    sent = None;
                    continue;
                }
            };
            let texts = payloads(self.out.text(&text));
            sent.iter_mut().for_each(|sent| sent.extend(texts.clone()));
        }
        self.out.give_back(list);
        if let (Some(sent), Some(reason)) = (&mut sent, closing) {
            sent.extend(self.step(session, Input::Closing(&reason))?);
            sent.push(format!("close {}", reason.code()));
        }
        sent
    }
}

/// What whole WebSocket text frames say.
fn payloads(mut frames: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(length) = ws::frame_length(frames) {
        let header =
            [2, 4, 10].into_iter().find(|header| ws::header_length(length - header) == *header).unwrap();
        let (frame, rest) = frames.split_at(length);
        texts.push(String::from_utf8(frame[header..].to_vec()).unwrap());
        frames = rest;
    }
    assert!(frames.is_empty(), "half a frame");
    texts
}

/// Holds a conversation with a session alone, as far as the first line that needs more. Returns how many lines.
fn with_a_session(file: &str, lines: &[Line]) -> usize {
    let Some(mut bench) = Bench::new(lines) else { return 0 };
    let mut session: Option<Session> = None;
    let mut sent: std::collections::VecDeque<String> = std::collections::VecDeque::new();
    let mut held = 0;
    for line in lines {
        let place = format!("{file}:{} with a session", line.number);
        match &line.step {
            Step::Setting(_) => continue,
            Step::Connect { name, app, claims } if name == FIRST => {
                let mut opened = bench.open(app, name, claims.as_ref());
                let offset = opened.wire().has_offset().then_some(7);
                sent.extend(bench.step(&mut opened, Input::Opened { offset }).unwrap());
                session = Some(opened);
            }
            Step::Client(name, text) if name == FIRST => {
                assert!(sent.is_empty(), "{place}: something was sent before: {sent:?}");
                match bench.say(session.as_mut().unwrap(), &filled(text)) {
                    Some(texts) => sent.extend(texts),
                    None => return held,
                }
            }
            // What has no cause here comes from a shard or a clock.
            Step::Server(name, text) if name == FIRST => match (sent.pop_front(), text) {
                (None, _) => return held,
                (Some(found), text) if text.starts_with("close ") => assert_eq!(*text, found, "{place}"),
                (Some(found), text) => expect(&place, text, &found),
            },
            _ => return held,
        }
        held += 1;
    }
    held
}

/// All transcripts: name and lines.
fn transcripts() -> Vec<(String, Arc<Vec<Line>>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/apps");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .flat_map(|app| fs::read_dir(app.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let name = |path: &PathBuf| path.strip_prefix(&folder).unwrap().display().to_string();
    files.iter().map(|path| (name(path), Arc::new(read(&fs::read_to_string(path).unwrap())))).collect()
}

#[test]
fn over_a_socket_with_one_shard() {
    for (file, lines) in transcripts() {
        if lines.iter().all(|line| is_served(&line.step)) {
            over_sockets(&file, &lines, "shards = 1");
        }
    }
}

#[test]
fn over_a_socket_with_three_shards() {
    for (file, lines) in transcripts() {
        if lines.iter().all(|line| is_served(&line.step)) {
            over_sockets(&file, &lines, "shards = 3");
        }
    }
}

#[test]
fn with_a_pure_session() {
    let held: usize = transcripts().iter().map(|(file, lines)| with_a_session(file, lines)).sum();
    // Most of them need no shard for the most part; were it none, this test would test nothing.
    assert!(held > 300, "{held}");
}
