//! A WebSocket client: blocking, over TCP or TLS, with tungstenite's framing.

use std::io::ErrorKind;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

use super::http::{self, Response};
use super::ingest::Stream;
use super::token::token;

/// The headers of an upgrade.
pub const UPGRADE: [(&str, &str); 4] = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A connected client.
pub struct Client {
    socket: WebSocket<Box<dyn Stream>>,
    /// The answer to the upgrade.
    pub response: Response,
    markers: u64,
}

impl Client {
    /// `GET /feed` with the user's token.
    #[track_caller]
    pub fn market(address: SocketAddr, user: &str) -> Client {
        Client::market_with(address, &token(user))
    }

    /// `GET /feed` with this token; `connected` and `authenticated` have been taken.
    #[track_caller]
    pub fn market_with(address: SocketAddr, token: &str) -> Client {
        let mut client = Client::open(address, "/feed", &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(client.next()["event"], "connected");
        assert_eq!(client.next()["event"], "authenticated");
        client
    }

    /// `GET /ws?token=…`.
    #[track_caller]
    pub fn account(address: SocketAddr, user: &str) -> Client {
        Client::open(address, &format!("/ws?token={}", token(user)), &[])
    }

    /// Opens a WebSocket that must be accepted.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Client {
        Client::try_open(address, path, headers).unwrap_or_else(|response| panic!("refused: {response:?}"))
    }

    /// Opens a WebSocket, or returns the refusal.
    #[track_caller]
    pub fn try_open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Client, Response> {
        Client::over(http::connect(address), &address.to_string(), path, headers)
    }

    /// Opens a WebSocket over any stream.
    #[track_caller]
    pub fn over(
        mut stream: impl Stream + 'static,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Client, Response> {
        let mut all = UPGRADE.to_vec();
        all.extend_from_slice(headers);
        stream.write_all(&http::head("GET", path, host, &all, 0)).unwrap();
        stream.flush().unwrap();
        let (response, rest) = http::read_response(&mut stream);
        if response.status != 101 {
            return Err(response);
        }
        // The answer to the example key of RFC 6455 §1.3.
        assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let stream: Box<dyn Stream> = Box::new(stream);
        let socket = WebSocket::from_partially_read(stream, rest, Role::Client, None);
        Ok(Client { socket, response, markers: 0 })
    }

    /// Sends a text.
    pub fn text(&mut self, text: impl ToString) {
        self.socket.send(Message::text(text.to_string())).unwrap();
    }

    /// As [`Client::text`], where the broker may have gone.
    pub fn try_text(&mut self, text: impl ToString) -> Result<(), Error> {
        self.socket.send(Message::text(text.to_string()))
    }

    /// Sends any message.
    pub fn message(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    /// Sends an event in the wire `native`.
    pub fn send(&mut self, event: &str, data: Value) {
        self.text(json!({ "event": event, "data": data }));
    }

    /// Sends an event and waits for the answer of that name; nothing else may come before.
    #[track_caller]
    pub fn ask(&mut self, event: &str, data: Value, answer: &str) -> Value {
        self.send(event, data);
        let message = self.next();
        assert_eq!(message["event"], answer, "{message}");
        message["data"].clone()
    }

    /// Sends an event that must be refused with this code; the error names the event.
    #[track_caller]
    pub fn refused(&mut self, event: &str, data: Value, code: &str) {
        let error = self.ask(event, data, "error");
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["event"], event, "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }

    /// Joins a room.
    #[track_caller]
    pub fn join(&mut self, room: &str) {
        let joined = self.ask("join_room", json!({ "room": room }), "room_joined");
        assert_eq!(joined["room"], room);
    }

    /// The next frame of any kind.
    #[track_caller]
    pub fn frame(&mut self) -> Message {
        self.read().unwrap()
    }

    /// Reads on where a signal has interrupted it, which a read with a deadline does not do by itself.
    fn read(&mut self) -> Result<Message, Error> {
        loop {
            match self.socket.read() {
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// The next frame of any kind, or the end of the connection.
    pub fn try_frame(&mut self) -> Result<Message, Error> {
        self.read()
    }

    /// The next text, as JSON; pings are answered on the way.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        loop {
            match self.read().unwrap() {
                Message::Text(text) => {
                    return serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    /// The next text as it came.
    #[track_caller]
    pub fn next_text(&mut self) -> String {
        loop {
            match self.read().unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    /// Takes messages until one matches, and returns it.
    #[track_caller]
    pub fn until(&mut self, matches: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.next();
            if matches(&message) {
                return message;
            }
        }
    }

    /// Takes messages until an event of that name, in either wire.
    #[track_caller]
    pub fn until_event(&mut self, name: &str) -> Value {
        self.until(|message| message["event"] == name || message["type"] == name)
    }

    /// Everything that came before the answer to a ping sent now (market).
    #[track_caller]
    pub fn before_pong(&mut self) -> Vec<Value> {
        self.markers += 1;
        let marker = format!("marker {}", self.markers);
        self.send("ping", json!({ "timestamp": marker }));
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message["event"] == "pong" && message["data"]["timestamp"] == marker.as_str() {
                return before;
            }
            before.push(message);
        }
    }

    /// Asserts that nothing has come, proved by the answer to a ping sent now (market).
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        let before = self.before_pong();
        assert!(before.is_empty(), "{before:?}");
    }

    /// Waits for the close frame; returns its code and reason, and the texts before it.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String, Vec<Value>) {
        let mut texts = Vec::new();
        loop {
            match self.read() {
                Ok(Message::Text(text)) => texts.push(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(Some(frame))) => {
                    return (frame.code.into(), frame.reason.to_string(), texts);
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("no close frame: {other:?} after {texts:?}"),
            }
        }
    }

    /// Waits for the close frame and checks its code.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> Vec<Value> {
        let (found, reason, texts) = self.closed();
        assert_eq!(found, code, "{reason} after {texts:?}");
        texts
    }

    /// Closes, and waits for the server's answer.
    #[track_caller]
    pub fn close(mut self) {
        self.socket.close(None).unwrap();
        loop {
            match self.read() {
                Err(Error::ConnectionClosed) => return,
                Ok(_) => {}
                Err(error) => panic!("no clean close: {error}"),
            }
        }
    }

    /// The stream below, for bytes that are not WebSocket frames.
    pub fn stream(&mut self) -> &mut dyn Stream {
        &mut **self.socket.get_mut()
    }
}
