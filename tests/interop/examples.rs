//! The clients in `examples/clients` against a broker with `--dev`, as a reader of them would start them.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::install;
use crate::support::Broker;
use crate::support::http::{self, Response};

/// How long a line may take to come. Only with a client that hangs it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that runs. It does not outlive the test.
struct Client {
    child: Child,
    lines: Receiver<String>,
    /// Lines that nobody has waited for.
    said: VecDeque<String>,
}

impl Client {
    fn start(broker: &Broker, file: &str, arguments: &[&str]) -> Client {
        Client::start_as(broker, "user@example.com", file, arguments)
    }

    fn start_as(broker: &Broker, email: &str, file: &str, arguments: &[&str]) -> Client {
        let program = match Path::new(file).extension().unwrap().to_str().unwrap() {
            "py" => install::python().to_owned(),
            "mjs" => PathBuf::from("node"),
            _ => PathBuf::from("bash"),
        };
        let mut child = Command::new(program)
            .arg(beside_the_packages().join(file))
            .args(arguments)
            .env("BROKER_URL", format!("http://{}", broker.public))
            .env("EMAIL", email)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || output.map_while(Result::ok).try_for_each(|line| send.send(line)));
        Client { child, lines, said: VecDeque::new() }
    }

    /// Waits for the next line of this name, wherever it stands among others; returns its data.
    #[track_caller]
    fn until(&mut self, name: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        let parts = |line: &str| {
            let (name, data) = line.split_once(' ').unwrap_or((line, "null"));
            (name.to_owned(), data.to_owned())
        };
        loop {
            if let Some(at) = self.said.iter().position(|line| parts(line).0 == name) {
                let line = self.said.remove(at).unwrap();
                return serde_json::from_str(&parts(&line).1).unwrap_or_else(|_| panic!("{line}"));
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push_back(line),
                Err(_) => panic!("no {name} among {:#?}", self.said),
            }
        }
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clients, copied to where Node.js finds the packages that are installed for these tests.
fn beside_the_packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = install::node_modules().join("clients");
        fs::create_dir_all(&folder).unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients");
        for file in fs::read_dir(sources).unwrap() {
            let file = file.unwrap().path();
            // Another test program may be reading the same file: it is replaced whole.
            let copy = folder.join(format!("copy-{}", std::process::id()));
            fs::copy(&file, &copy).unwrap();
            fs::rename(copy, folder.join(file.file_name().unwrap())).unwrap();
        }
        folder
    })
}

fn post(broker: &Broker, path: &str, token: &str, body: &Value) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    http::request(broker.public, "POST", path, &headers, body.to_string().as_bytes())
}

/// The access token and the id of a user of `--dev`.
fn sign_in(broker: &Broker, email: &str) -> (String, String) {
    let body = json!({"email": email, "password": "password123"});
    let answer = post(broker, "/api/v1/auth/login", "", &body).json();
    let token = answer["access_token"].as_str().unwrap().to_owned();
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    (token, claims["sub"].as_str().unwrap().to_owned())
}

const USER: &str = "user@example.com";
const AGENT: &str = "agent@example.com";

#[test]
fn account_in_python() {
    let broker = Broker::start_dev(&[]);
    let (_, user) = sign_in(&broker, USER);
    let mut client = Client::start(&broker, "account.py", &[]);
    client.until("connected");
    assert!(client.until("pong")["timestamp"].is_string());
    let data = json!({"currency": "BTC", "balance": 0.05432, "previous": 0.05});
    let mut publisher = broker.publisher();
    publisher.publish(json!({"user": user, "event": "balanceUpdated", "data": data}));
    assert_eq!(client.until("balanceUpdated"), json!({"userId": user, "data": data}));
    let ended = publisher.ask(json!({"op": "disconnect", "user": user, "code": 4001, "reason": "try again"}));
    assert_eq!(ended["connections"], 1);
    client.until("connected");
    client.until("pong");
}

#[test]
fn market_in_javascript() {
    let broker = Broker::start_dev(&[]);
    let mut client = Client::start(&broker, "market.mjs", &["BTC-USDC"]);
    assert_eq!(client.until("authenticated")["user"]["username"], "user");
    assert_eq!(client.until("price_subscribed"), json!({"symbol": "BTC-USDC"}));
    assert_eq!(client.until("trades_subscribed"), json!({"pair": "BTC-USDC"}));
    let data = json!({"symbol": "BTC-USDC", "price": 61837.63});
    let mut publisher = broker.publisher();
    publisher.publish(json!({"room": "price:BTC-USDC", "event": "price_update", "data": data}));
    assert_eq!(client.until("price_update"), data);
}

#[test]
fn market_goes_on_with_a_new_token() {
    let broker = Broker::start_dev(&["auth.access_ttl = \"3s\"", "limits.connects_per_user = \"off\""]);
    let mut client = Client::start(&broker, "market.mjs", &[]);
    client.until("authenticated");
    client.until("token_expired");
    client.until("authenticated");
}

#[test]
fn conversation_in_javascript() {
    let broker = Broker::start_dev(&[]);
    let ((_, ann), (_, bob)) = (sign_in(&broker, USER), sign_in(&broker, AGENT));
    let mut first = Client::start_as(&broker, USER, "conversation.mjs", &[&bob]);
    first.until("conversation:joined");
    first.type_line("hello");
    let sent = first.until("message:new");
    let mut second = Client::start_as(&broker, AGENT, "conversation.mjs", &[&ann]);
    assert_eq!(second.until("history"), sent["message"]);
    second.until("conversation:joined");
    first.type_line("are you there?");
    assert_eq!(second.until("message:new")["message"]["content"], "are you there?");
    first.until("message:viewed");
}

#[test]
fn support_in_the_shell() {
    let broker = Broker::start_dev(&[]);
    let (_, user) = sign_in(&broker, USER);
    let mut client = Client::start(&broker, "support.sh", &["it's \"me\""]);
    let session = client.until("session");
    assert_eq!(session["initiator_id"], json!(user));
    let sent = client.until("sent");
    assert_eq!(sent["content"], "it's \"me\"");
    assert_eq!(client.until("messages").as_array().unwrap().len(), 1);
    assert_eq!(client.until("read")["success"], true);
    assert_eq!(client.until("participants")[0]["user_id"], json!(user));
    assert_eq!(client.until("stats")["total_connections"], 0);
    assert_eq!(client.until("closed"), json!({"success": true, "message": "Session closed"}));
    assert!(client.child.wait().unwrap().success());
}

#[test]
fn support_in_javascript() {
    let broker = Broker::start_dev(&[]);
    let mut user = Client::start_as(&broker, USER, "support.mjs", &[]);
    let session = user.until("session")["id"].as_str().unwrap().to_owned();
    user.until("user_joined");
    let mut agent = Client::start_as(&broker, AGENT, "support.mjs", &[&session]);
    assert_eq!(agent.until("user_joined")["metadata"]["total_users"], 2);
    user.type_line("hello");
    assert_eq!(agent.until("message")["content"], "hello");
    let (token, _) = sign_in(&broker, USER);
    assert_eq!(
        post(&broker, &format!("/api/v1/chat/sessions/{session}/close"), &token, &json!({})).status,
        200
    );
    agent.until("session_closed");
    assert!(agent.child.wait().unwrap().success());
}

#[test]
fn mobile_in_javascript() {
    let broker = Broker::start_dev(&[]);
    let ((_, ann), (_, bob)) = (sign_in(&broker, USER), sign_in(&broker, AGENT));
    let mut publisher = broker.publisher();
    publisher.publish(
        json!({"user": ann, "event": "balance:updated", "data": {"currency": "BTC", "balance": 0.5}}),
    );
    let mut first = Client::start_as(&broker, USER, "mobile.mjs", &[&bob]);
    assert_eq!(first.until("balance")["balances"][0]["balance"], 0.5);
    first.until("user:registered");
    first.until("user:registered");
    first.type_line("hello");
    let sent = first.until("sent");
    assert_eq!(sent["content"], "hello");
    assert_eq!(first.until("message:received"), sent);
    let mut second = Client::start_as(&broker, AGENT, "mobile.mjs", &[&ann]);
    assert_eq!(second.until("message:received"), sent);
    second.until("user:registered");
    second.until("user:registered");
    second.type_line("hello yourself");
    assert_eq!(first.until("message:received")["content"], "hello yourself");
    let data = json!({"id": "t-1", "amount": 5});
    publisher.publish(json!({"user": ann, "event": "transaction:added", "data": data}));
    assert_eq!(first.until("transaction:added"), data);
}
