//! All that the OpenAPI document describes, asked by schemathesis: its examples, the edges of its schemas, random data that
//! they allow and that they forbid, and answers used in further requests. Every answer must be one that the document has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::install;
use crate::support::Broker;
use crate::support::broker::Process;
use crate::support::http::{self, Response};
use crate::support::token::token;

/// How long a run may take. Only one that hangs takes so long.
const LIMIT: Duration = Duration::from_secs(300);

/// The rates would be met at once.
const NO_RATES: [&str; 4] = [
    "limits.control = \"off\"",
    "limits.messages = \"off\"",
    "limits.conversations = \"off\"",
    "limits.login = \"off\"",
];

/// Somebody who has signed in.
struct User<'a> {
    broker: &'a Broker,
    access: String,
    refresh: String,
}

impl<'a> User<'a> {
    /// The one that `--dev` makes.
    fn sign_in(broker: &'a Broker) -> User<'a> {
        let body = json!({ "email": "user@example.com", "password": "password123" }).to_string();
        let headers = [("Content-Type", "application/json")];
        let answer =
            http::request(broker.public, "POST", "/api/auth/login", &headers, body.as_bytes()).json();
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        User { broker, access: text("accessToken"), refresh: text("refreshToken") }
    }

    /// Another one, whose tokens come from elsewhere.
    fn other(broker: &'a Broker, name: &str) -> User<'a> {
        User { broker, access: token(name), refresh: String::new() }
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Response {
        let authorization = format!("Bearer {}", self.access);
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = http::request(self.broker.public, method, path, &headers, body.as_bytes());
        assert!(matches!(response.status, 200 | 201), "{method} {path}: {response:?}");
        response
    }

    /// Posts; returns the id of what was made.
    #[track_caller]
    fn make(&self, path: &str, body: &Value) -> String {
        self.ask("POST", path, body).json()["id"].as_str().unwrap().to_owned()
    }
}

/// What is there before anything is asked: the ids that a schema does not tell.
struct Data {
    sessions: Vec<String>,
    /// To be closed.
    ending: Vec<String>,
    session_messages: Vec<String>,
    conversations: Vec<String>,
    conversation_messages: Vec<String>,
    personal_messages: Vec<String>,
}

impl Data {
    fn make(broker: &Broker, user: &User<'_>) -> Data {
        let (bob, eve) = (User::other(broker, "bob"), User::other(broker, "eve"));
        let sessions = "/api/v1/chat/sessions";
        let begin = |user: &User<'_>, title: &str| user.make(sessions, &json!({ "title": title }));
        let session = begin(user, "Support Chat");
        let id = user.ask("GET", &format!("{sessions}/{session}"), &Value::Null).json();
        let id = id["initiator_id"].as_str().unwrap();
        let messages = format!("{sessions}/{session}/messages");
        let first = user.make(&messages, &json!({ "content": "Hello", "mentions": [id] }));
        let second = user.make(&messages, &json!({ "content": "again", "reply_to_id": first }));
        let file = json!({ "message_type": "file", "file_url": "https://example.com/a", "file_name": "a", "file_size": 1 });
        let third = user.make(&messages, &file);

        let mut publisher = broker.publisher();
        let conversation = user.make("/api/v1/conversations", &json!({ "participant_id": "bob" }));
        let strangers = bob.make("/api/v1/conversations", &json!({ "participant_id": "eve" }));
        for (kind, content) in [("system", "welcome"), ("system", "and again")] {
            let line = json!({ "op": "conversation.message", "conversation_id": conversation, "type": kind, "content": content });
            publisher.publish(line);
        }
        let history = format!("/api/v1/conversations/{}/messages", conversation);
        let history = user.ask("GET", &history, &Value::Null).json();
        let ids = history["messages"].as_array().unwrap().iter();
        let conversation_messages = ids.map(|message| message["id"].as_str().unwrap().to_owned()).collect();

        for (event, data) in [
            ("balance:updated", json!({ "currency": "USDC", "balance": "12.50" })),
            ("balance:updated", json!({ "currency": "EUR", "balance": 3 })),
            ("transaction:added", json!({ "id": "t-1", "amount": 5, "currency": "USDC" })),
            ("transaction:added", json!({ "id": "t-2", "amount": 7.5 })),
        ] {
            publisher.publish(json!({ "user": id, "event": event, "data": data }));
        }
        let personal = "/api/chat/personal/messages";
        let media = json!({ "recipientId": "bob", "mediaUrl": "https://example.com/p.jpg", "clientMessageId": "c-1" });
        let said = [
            user.make(personal, &json!({ "recipientId": "bob", "content": "hi" })),
            user.make(personal, &media),
        ];
        Data {
            ending: (0..3).map(|_| begin(user, "Over soon")).collect(),
            // One of somebody else, too.
            sessions: vec![session.clone(), session.clone(), session, begin(&eve, "Mine")],
            session_messages: vec![first, second, third],
            conversations: vec![conversation.clone(), conversation, strangers],
            conversation_messages,
            personal_messages: said.to_vec(),
        }
    }

    /// The configuration of schemathesis: the tokens, and the data among what it makes up.
    fn configuration(&self, user: &User<'_>) -> String {
        let list = |values: &[String]| json!({ "values": values }).to_string().replace("\":", "\"=");
        let operation = |name: &str, parameter: &str, dictionary: &str| {
            format!(
                "[[operations]]\ninclude-name = \"{name}\"\n[operations.parameters]\n\
                 \"{parameter}\" = {{ dictionary = \"{dictionary}\", probability = 0.5 }}\n"
            )
        };
        let User { access, refresh, .. } = user;
        [
            format!(
                "seed = 1\n[auth.openapi]\nbearer = {{ bearer = \"{access}\" }}\n\
                 refreshToken = {{ bearer = \"{refresh}\" }}\nqueryToken = {{ api_key = \"{access}\" }}\n[dictionaries]\n"
            ),
            format!("sessions = {}\n", list(&self.sessions)),
            format!("ending = {}\n", list(&self.ending)),
            format!("session_messages = {}\n", list(&self.session_messages)),
            format!("conversations = {}\n", list(&self.conversations)),
            format!("conversation_messages = {}\n", list(&self.conversation_messages)),
            format!("personal_messages = {}\n", list(&self.personal_messages)),
            "users = { values = [\"bob\", \"eve\"] }\n".to_owned(),
            "transactions = { values = [\"t-1\", \"t-2\"] }\n".to_owned(),
            "[parameters]\n\
             \"path.session_id\" = { dictionary = \"sessions\", probability = 0.8 }\n\
             \"path.conversation_id\" = { dictionary = \"conversations\", probability = 0.8 }\n\
             \"query.with\" = { dictionary = \"users\", probability = 0.5 }\n\
             \"body.up_to_message_id\" = { dictionary = \"session_messages\", probability = 0.8 }\n\
             \"body.reply_to_id\" = { dictionary = \"session_messages\", probability = 0.5 }\n\
             \"body.participant_id\" = { dictionary = \"users\", probability = 0.3 }\n\
             \"body.user_id\" = { dictionary = \"users\", probability = 0.3 }\n\
             \"body.recipientId\" = { dictionary = \"users\", probability = 0.3 }\n"
                .to_owned(),
            operation("POST /api/v1/chat/sessions/{session_id}/close", "path.session_id", "ending"),
            operation(
                "GET /api/v1/conversations/{conversation_id}/messages",
                "query.before",
                "conversation_messages",
            ),
            operation("GET /api/chat/personal/messages", "query.before", "personal_messages"),
            operation("GET /api/chat/personal/conversations", "query.before", "personal_messages"),
            operation("GET /api/wallet/transactions", "query.before", "transactions"),
        ]
        .concat()
    }
}

/// A request that was made, and its answer's status.
struct Exchange {
    /// `GET /path/{with}/parameters`
    operation: String,
    status: u64,
}

/// Runs schemathesis against a broker; it must find nothing. Returns what it asked of the document's operations.
fn run(broker: &Broker, arguments: &[&str]) -> Vec<Exchange> {
    let user = User::sign_in(broker);
    let configuration = Data::make(broker, &user).configuration(&user);
    let directory = broker.directory();
    let configuration = directory.write("schemathesis.toml", &configuration);
    let document = http::request(broker.public, "GET", "/openapi.json", &[], b"");
    // From a file: it leaves the address out that it has its document from.
    let file = directory.write("openapi.json", &document.text());
    let (log, exchanges) = (directory.path("schemathesis.log"), directory.path("exchanges.har"));
    let output = File::create(&log).unwrap();
    let child = Command::new(install::python().with_file_name("st"))
        .arg("--config-file")
        .arg(&configuration)
        .arg("run")
        .arg(&file)
        .args(["--url", &format!("http://{}", broker.public), "--no-color"])
        .args(["--checks", "all", "--generation-database", "none", "--report-har-path"])
        .arg(&exchanges)
        .args(arguments)
        .current_dir(directory.path("."))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn();
    let mut child = Process(child.unwrap());
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "schemathesis hangs: {}", fs::read_to_string(&log).unwrap());
        thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "{}", fs::read_to_string(&log).unwrap());
    read_exchanges(&exchanges, &document.json())
}

fn read_exchanges(file: &Path, document: &Value) -> Vec<Exchange> {
    let har: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let operations: Vec<(String, Vec<String>, String)> = operations(document)
        .into_iter()
        .map(|operation| {
            let (method, path) = operation.split_once(' ').unwrap();
            (method.to_owned(), path.split('/').map(str::to_owned).collect(), operation.clone())
        })
        .collect();
    let entries = har["log"]["entries"].as_array().unwrap().iter();
    entries
        .filter_map(|entry| {
            let status = entry["response"]["status"].as_u64().unwrap();
            let method = entry["request"]["method"].as_str().unwrap();
            let url = entry["request"]["url"].as_str().unwrap().strip_prefix("http://").unwrap();
            let path = &url[url.find('/').unwrap()..];
            let path: Vec<&str> = path.split(['?', '#']).next().unwrap().split('/').collect();
            assert!(status < 500, "{entry}");
            let is_like = |(known, parts): (&String, &&str)| known.starts_with('{') || known == parts;
            let found = operations.iter().find(|(known, parts, _)| {
                known == method && parts.len() == path.len() && parts.iter().zip(&path).all(is_like)
            });
            found.map(|(_, _, operation)| Exchange { operation: operation.clone(), status })
        })
        .collect()
}

/// `GET /path` of each operation.
fn operations(document: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        all.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    all
}

#[test]
fn every_answer_is_in_the_document() {
    let broker = Broker::start_dev(&NO_RATES);
    // Some that a schema allows are refused: an address that nobody has, oneself as the other user, a GET that asks for no
    // WebSocket.
    let exchanges = run(
        &broker,
        &["--mode", "all", "--max-examples", "12", "--exclude-checks", "positive_data_acceptance"],
    );
    let mut statuses: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for exchange in &exchanges {
        statuses.entry(&exchange.operation).or_default().insert(exchange.status);
    }
    let document = http::request(broker.public, "GET", "/openapi.json", &[], b"").json();
    for operation in operations(&document) {
        let statuses =
            statuses.get(operation.as_str()).unwrap_or_else(|| panic!("{operation} was not asked"));
        let is_done = |status: &u64| matches!(status, 200 | 201);
        assert!(operation.ends_with("/chat/ws") || statuses.iter().any(is_done), "{operation}: {statuses:?}");
    }
    let all: BTreeSet<u64> = statuses.values().flatten().copied().collect();
    for status in [200, 201, 400, 401, 403, 404, 426] {
        assert!(all.contains(&status), "{status} never came: {statuses:?}");
    }
}

#[test]
fn so_is_what_is_said_to_those_who_ask_too_often() {
    let broker = Broker::start_dev(&["limits.control = \"60/1m\"", "limits.messages = [\"20/1m\"]"]);
    let exchanges = run(
        &broker,
        &[
            "--mode",
            "positive",
            "--phases",
            "fuzzing",
            "--max-examples",
            "12",
            "--exclude-checks",
            "positive_data_acceptance",
        ],
    );
    let refused: BTreeSet<&str> = exchanges
        .iter()
        .filter(|exchange| exchange.status == 429)
        .map(|exchange| exchange.operation.as_str())
        .collect();
    assert!(refused.len() > 3, "{refused:?}");
}
