//! A Socket.IO client of the namespaces `/chat` and `/wallet` on one connection.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{self, Response};
use super::socketio::{Socket, Transport};
use super::token::token;

/// The namespaces.
pub const CHAT: &str = "/chat";
pub const WALLET: &str = "/wallet";

/// A connection.
pub struct Mobile {
    /// Until it is cut.
    socket: Option<Socket>,
    /// Events that came while something else was waited for, each with its namespace.
    early: VecDeque<(String, Value)>,
    acks: u64,
}

impl Mobile {
    /// A connection without namespaces.
    #[track_caller]
    pub fn open(address: SocketAddr, transport: Transport) -> Mobile {
        Mobile { socket: Some(Socket::open(address, transport)), early: VecDeque::new(), acks: 0 }
    }

    /// The session below.
    pub fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().unwrap()
    }

    /// Loses the transport without a word.
    pub fn cut(mut self) {
        self.socket.take().unwrap().cut();
    }

    /// A user's connection with one namespace, whose welcome has been taken.
    #[track_caller]
    pub fn enter(address: SocketAddr, transport: Transport, namespace: &str, user: &str) -> Mobile {
        let mut mobile = Mobile::open(address, transport);
        mobile.join(namespace, user);
        mobile
    }

    /// A user's connection with the namespace `/chat`, whose welcome has been taken.
    #[track_caller]
    pub fn chat(address: SocketAddr, transport: Transport, user: &str) -> Mobile {
        Mobile::enter(address, transport, CHAT, user)
    }

    /// Connects a namespace and takes its welcome, which is returned.
    #[track_caller]
    pub fn join(&mut self, namespace: &str, user: &str) -> Value {
        self.connect(namespace, json!({ "token": token(user) })).unwrap();
        let welcome = self.next(namespace);
        assert_eq!(welcome[0], format!("{}:connected", &namespace[1..]), "{welcome}");
        welcome[1].clone()
    }

    /// CONNECT to a namespace; what it is answered with: CONNECT, or CONNECT_ERROR.
    #[track_caller]
    pub fn connect(&mut self, namespace: &str, auth: Value) -> Result<Value, Value> {
        self.socket().send(&format!("40{namespace},{auth}"));
        loop {
            let packet = self.socket().packet();
            let of = |kind: &str| packet.strip_prefix(&format!("{kind}{namespace},")).map(str::to_owned);
            if let Some(answer) = of("40") {
                return Ok(serde_json::from_str(&answer).unwrap());
            }
            if let Some(refusal) = of("44") {
                return Err(serde_json::from_str(&refusal).unwrap());
            }
            self.keep(&packet);
        }
    }

    /// Leaves a namespace.
    pub fn leave(&mut self, namespace: &str) {
        self.socket().send(&format!("41{namespace},"));
    }

    #[track_caller]
    fn keep(&mut self, packet: &str) {
        let event = packet.strip_prefix("42").and_then(|packet| packet.split_once(','));
        let (namespace, array) = event.unwrap_or_else(|| panic!("not an event: {packet}"));
        let array = serde_json::from_str(array).unwrap_or_else(|_| panic!("not JSON: {packet}"));
        self.early.push_back((namespace.to_owned(), array));
    }

    /// The next event of a namespace: its array.
    #[track_caller]
    pub fn next(&mut self, namespace: &str) -> Value {
        loop {
            let at = self.early.iter().position(|(of, _)| of == namespace);
            if let Some((_, event)) = at.and_then(|at| self.early.remove(at)) {
                return event;
            }
            let packet = self.socket().packet();
            self.keep(&packet);
        }
    }

    /// The data of the next event of a namespace, which has this name.
    #[track_caller]
    pub fn expect(&mut self, namespace: &str, event: &str) -> Value {
        let next = self.next(namespace);
        assert_eq!(next[0], event, "{next}");
        next[1].clone()
    }

    /// Sends an event, without asking for an acknowledgement.
    pub fn emit(&mut self, namespace: &str, event: &str, data: Value) {
        self.socket().send(&format!("42{namespace},{}", json!([event, data])));
    }

    /// Sends an event and waits for its acknowledgement; events that come before it are kept.
    #[track_caller]
    pub fn ask(&mut self, namespace: &str, event: &str, data: Value) -> Value {
        self.acks += 1;
        let id = self.acks;
        self.socket().send(&format!("42{namespace},{id}{}", json!([event, data])));
        loop {
            let packet = self.socket().packet();
            if let Some(answer) = packet.strip_prefix(&format!("43{namespace},{id}[")) {
                return serde_json::from_str(answer.strip_suffix(']').unwrap()).unwrap();
            }
            self.keep(&packet);
        }
    }

    /// Sends an event whose confirming event, with this name, says the same as the acknowledgement.
    #[track_caller]
    pub fn request(&mut self, namespace: &str, event: &str, data: Value, confirming: &str) -> Value {
        let answer = self.ask(namespace, event, data);
        let event = self.early.pop_back().unwrap_or_else(|| panic!("nothing confirms {answer}"));
        assert_eq!(event, (namespace.to_owned(), json!([confirming, answer])));
        answer
    }

    /// Sends an event that is refused, and returns the error, which the acknowledgement has too.
    #[track_caller]
    pub fn refused(&mut self, namespace: &str, event: &str, data: Value) -> Value {
        let answer = self.ask(namespace, event, data);
        let error = self.early.pop_back().unwrap_or_else(|| panic!("no error: {answer}"));
        assert_eq!(error, (namespace.to_owned(), json!(["message:error", answer["error"]])));
        assert_eq!(error.1[1]["event"], event, "{error:?}");
        answer["error"].clone()
    }

    /// Everything that came in a namespace before the answer to a heartbeat sent now.
    #[track_caller]
    pub fn before_heartbeat(&mut self, namespace: &str) -> Vec<Value> {
        self.request(namespace, "heartbeat", json!({}), "heartbeat:ack");
        let is_its = |(of, _): &(String, Value)| of == namespace;
        let (its, others) = std::mem::take(&mut self.early).into_iter().partition(is_its);
        self.early = others;
        let its: VecDeque<(String, Value)> = its;
        its.into_iter().map(|(_, event)| event).collect()
    }

    /// Asserts that nothing has come in a namespace.
    #[track_caller]
    pub fn expect_nothing(&mut self, namespace: &str) {
        let before = self.before_heartbeat(namespace);
        assert!(before.is_empty(), "{before:?}");
    }

    /// The contents of the next messages, as many as there are to be.
    #[track_caller]
    pub fn contents(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| self.expect(CHAT, "message:received")["content"].as_str().unwrap().into())
            .collect()
    }
}

impl Drop for Mobile {
    /// A session that polls is ended, or it would stay for a while.
    fn drop(&mut self) {
        if let Some(socket) = &mut self.socket
            && socket.polls()
            && !std::thread::panicking()
        {
            socket.polling().post("1");
        }
    }
}

/// A request over HTTP with the token of a user.
#[track_caller]
pub fn rest(address: SocketAddr, user: &str, method: &str, path: &str, body: Option<Value>) -> Response {
    let bearer = format!("Bearer {}", token(user));
    let mut headers = vec![("Authorization", bearer.as_str())];
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    http::request(address, method, path, &headers, body.as_bytes())
}

/// The body of a GET, which must be answered.
#[track_caller]
pub fn get(address: SocketAddr, user: &str, path: &str) -> Value {
    let response = rest(address, user, "GET", path, None);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// Sends a message over HTTP, which must be stored; returns it.
#[track_caller]
pub fn say(address: SocketAddr, from: &str, to: &str, content: &str) -> Value {
    let body = json!({ "recipientId": to, "content": content });
    let response = rest(address, from, "POST", "/api/chat/personal/messages", Some(body));
    assert_eq!(response.status, 201, "{response:?}");
    response.json()
}
