//! A Socket.IO client over a WebSocket or over polling, whose packets a test sees and sends as texts.
//!
//! Binary messages are written as polling bodies have them, `b` and base64, on both transports.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::Message;

use super::polling::Polling;
use super::token::token;
use super::{Client, DEADLINE};

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Polling,
}

/// Runs a test on both transports.
pub fn each_transport(mut test: impl FnMut(Transport)) {
    for transport in [Transport::WebSocket, Transport::Polling] {
        eprintln!("over {transport:?}");
        test(transport);
    }
}

enum Way {
    WebSocket(Box<Client>),
    Polling(Polling),
}

/// A session with, as a rule, the namespace `/`.
pub struct Socket {
    way: Way,
    /// What the open packet said.
    pub handshake: Value,
    /// What CONNECT was answered with.
    pub sid: String,
    pub pid: Option<String>,
    /// The last offset seen.
    pub offset: Option<String>,
    /// What CONNECT was sent with.
    auth: Value,
    /// Events that came before an acknowledgement that was waited for.
    early: VecDeque<Value>,
    acks: u64,
}

impl Socket {
    /// Opens a session at `/socket.io/`.
    #[track_caller]
    pub fn open(address: SocketAddr, transport: Transport) -> Socket {
        Socket::open_with(address, transport, "", &[])
    }

    /// The same with more in the query, and with headers, which polls do not repeat.
    #[track_caller]
    pub fn open_with(
        address: SocketAddr,
        transport: Transport,
        more: &str,
        headers: &[(&str, &str)],
    ) -> Socket {
        match transport {
            Transport::Polling => {
                assert!(headers.is_empty());
                Socket::over(Polling::open(address, "/socket.io/", more))
            }
            Transport::WebSocket => {
                let path = format!("/socket.io/?EIO=4&transport=websocket{more}");
                Socket::over_websocket(Client::open(address, &path, headers))
            }
        }
    }

    /// Over a WebSocket whose open packet has not been read.
    #[track_caller]
    pub fn over_websocket(mut client: Client) -> Socket {
        let text = client.next_text();
        let handshake = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
        Socket::new(Way::WebSocket(Box::new(client)), handshake)
    }

    /// Over a WebSocket that has no open packet.
    pub fn over_silent(client: Client) -> Socket {
        Socket::new(Way::WebSocket(Box::new(client)), Value::Null)
    }

    /// Over a session that polls.
    pub fn over(polling: Polling) -> Socket {
        let handshake = polling.handshake.clone();
        Socket::new(Way::Polling(polling), handshake)
    }

    fn new(way: Way, handshake: Value) -> Socket {
        Socket {
            way,
            handshake,
            sid: String::new(),
            pid: None,
            offset: None,
            auth: Value::Null,
            early: VecDeque::new(),
            acks: 0,
        }
    }

    /// A client of the app `market`; its welcome has been taken.
    #[track_caller]
    pub fn market(address: SocketAddr, transport: Transport, user: &str) -> Socket {
        let mut socket = Socket::open(address, transport);
        socket.enter(json!({ "token": token(user) }));
        socket
    }

    /// The same, which asks for connection state recovery.
    #[track_caller]
    pub fn recoverable(address: SocketAddr, transport: Transport, user: &str) -> Socket {
        let mut socket = Socket::open(address, transport);
        socket.enter(json!({ "token": token(user), "recover": true }));
        assert!(socket.pid.is_some() && socket.offset.is_some());
        socket
    }

    /// Connects the namespace `/`, which must be allowed, and takes the welcome of `market`.
    #[track_caller]
    pub fn enter(&mut self, auth: Value) {
        self.connect(auth).unwrap_or_else(|refusal| panic!("refused: {refusal}"));
        assert_eq!(self.next()[0], "connected");
        assert_eq!(self.next()[0], "authenticated");
    }

    /// CONNECT to the namespace `/`; what it is answered with: CONNECT, or CONNECT_ERROR.
    #[track_caller]
    pub fn connect(&mut self, auth: Value) -> Result<Value, Value> {
        self.send(&format!("40{auth}"));
        self.auth = auth;
        let packet = self.packet();
        if let Some(refusal) = packet.strip_prefix("44") {
            return Err(serde_json::from_str(refusal).unwrap());
        }
        let answer: Value =
            serde_json::from_str(packet.strip_prefix("40").unwrap_or_else(|| panic!("{packet}"))).unwrap();
        self.sid = answer["sid"].as_str().unwrap().to_owned();
        self.pid = answer["pid"].as_str().map(str::to_owned);
        Ok(answer)
    }

    /// Sends an Engine.IO packet.
    #[track_caller]
    pub fn send(&mut self, packet: &str) {
        match &mut self.way {
            Way::Polling(polling) => polling.send(packet),
            Way::WebSocket(client) => match packet.strip_prefix('b') {
                Some(base64) => client.message(Message::binary(STANDARD.decode(base64).unwrap())),
                None => client.text(packet),
            },
        }
    }

    /// The next packet that is no ping and no noop, or the end of the session; pings are answered.
    #[track_caller]
    pub fn try_packet(&mut self) -> Option<String> {
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "nothing but pings");
            let packet = self.any_packet()?;
            match &*packet {
                "1" => return None,
                "2" => self.send("3"),
                "6" => {}
                _ => return Some(packet),
            }
        }
    }

    /// The next packet of any kind, or the end of the transport.
    #[track_caller]
    pub fn any_packet(&mut self) -> Option<String> {
        let client = match &mut self.way {
            Way::Polling(polling) => return polling.packet(),
            Way::WebSocket(client) => client,
        };
        loop {
            match client.try_frame() {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(Message::Binary(bytes)) => return Some(format!("b{}", STANDARD.encode(bytes))),
                Ok(Message::Close(_))
                | Err(tungstenite::Error::Protocol(_) | tungstenite::Error::ConnectionClosed) => {
                    return None;
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return None;
                }
                Err(error) => panic!("neither a packet nor the end: {error}"),
            }
        }
    }

    /// The next packet that is no ping and no noop.
    #[track_caller]
    pub fn packet(&mut self) -> String {
        self.try_packet().expect("the session has ended")
    }

    /// Waits for the end of the session; returns the packets before it.
    #[track_caller]
    pub fn closed(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.try_packet()).collect()
    }

    /// Waits for the end of the session; the packets before it, as events.
    #[track_caller]
    pub fn closed_after(&mut self) -> Vec<Value> {
        let packets = self.closed();
        packets.iter().map(|packet| self.read_event(packet)).collect()
    }

    /// The next event: its array, without the offset.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        if let Some(event) = self.early.pop_front() {
            return event;
        }
        let packet = self.packet();
        self.read_event(&packet)
    }

    /// Reads an event of the namespace `/`.
    #[track_caller]
    fn read_event(&mut self, packet: &str) -> Value {
        let array = packet.strip_prefix("42").unwrap_or_else(|| panic!("not an event: {packet}"));
        let mut event: Value = serde_json::from_str(array).unwrap_or_else(|_| panic!("not JSON: {packet}"));
        let array = event.as_array_mut().unwrap();
        if self.pid.is_some() && array.len() > 1 && array.last().unwrap().is_string() {
            self.offset = array.pop().unwrap().as_str().map(str::to_owned);
        }
        event
    }

    /// Sends an event, without asking for an acknowledgement.
    pub fn emit(&mut self, event: &str, data: Value) {
        self.send(&format!("42{}", json!([event, data])));
    }

    /// Sends an event and waits for its acknowledgement; events that come before it are kept for [`Socket::next`].
    #[track_caller]
    pub fn ask(&mut self, event: &str, data: Value) -> Value {
        self.acks += 1;
        let id = self.acks;
        self.send(&format!("42{id}{}", json!([event, data])));
        loop {
            let packet = self.packet();
            if let Some(answer) = packet.strip_prefix(&format!("43{id}[")) {
                return serde_json::from_str(answer.strip_suffix(']').unwrap()).unwrap();
            }
            let event = self.read_event(&packet);
            self.early.push_back(event);
        }
    }

    /// Sends an event whose confirming event, the last before the acknowledgement, is dropped.
    #[track_caller]
    pub fn request(&mut self, event: &str, data: Value) -> Value {
        let answer = self.ask(event, data);
        assert!(answer.get("error").is_none(), "{event}: {answer}");
        let confirming = self.early.pop_back().unwrap();
        assert_eq!(confirming[1], answer, "{confirming}");
        answer
    }

    /// Joins a room.
    #[track_caller]
    pub fn join(&mut self, room: &str) {
        assert_eq!(self.request("join_room", json!({ "room": room }))["room"], room);
    }

    /// Everything that came before the answer to a ping sent now (market).
    #[track_caller]
    pub fn before_pong(&mut self) -> Vec<Value> {
        self.request("ping", json!({}));
        std::mem::take(&mut self.early).into()
    }

    /// Asserts that nothing has come, proved by the answer to a ping sent now (market).
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        let before = self.before_pong();
        assert!(before.is_empty(), "{before:?}");
    }

    /// What the client remembers, if its transport is lost now.
    pub fn remember(&self) -> Lost {
        let mut auth = self.auth.clone();
        auth["pid"] = json!(self.pid);
        auth["offset"] = json!(self.offset);
        Lost { auth, pid: self.pid.clone(), sid: self.sid.clone(), offset: self.offset.clone() }
    }

    /// Loses the transport without a word: a WebSocket ends without a close frame, a poll is cut off.
    pub fn cut(mut self) -> Lost {
        if let Way::Polling(polling) = &mut self.way {
            polling.begin_poll();
        }
        self.remember()
    }

    /// From polling to a WebSocket, in the order in which clients do it.
    #[track_caller]
    pub fn upgrade(&mut self, address: SocketAddr) {
        let Way::Polling(polling) = &mut self.way else { panic!("it is a WebSocket already") };
        polling.begin_poll();
        let path = polling.path.replace("transport=polling", "transport=websocket");
        let mut client = Client::open(address, &path, &[]);
        client.text("2probe");
        assert_eq!(client.next_text(), "3probe");
        // The poll that is open ends; what it brings comes before all that comes over the WebSocket.
        let mut packets = polling.take_packets();
        packets.extend(polling.packets());
        client.text("5");
        for packet in packets.iter().filter(|packet| *packet != "6" && *packet != "2") {
            let event = self.read_event(packet);
            self.early.push_back(event);
        }
        if packets.iter().any(|packet| packet == "2") {
            client.text("3");
        }
        self.way = Way::WebSocket(Box::new(client));
    }

    /// Whether it polls.
    pub fn polls(&self) -> bool {
        matches!(self.way, Way::Polling(_))
    }

    /// The session below, if it polls.
    pub fn polling(&mut self) -> &mut Polling {
        match &mut self.way {
            Way::Polling(polling) => polling,
            Way::WebSocket(_) => panic!("it is a WebSocket"),
        }
    }

    /// The WebSocket below.
    pub fn websocket(&mut self) -> &mut Client {
        match &mut self.way {
            Way::WebSocket(client) => client,
            Way::Polling(_) => panic!("it polls"),
        }
    }
}

/// What a client remembers whose transport was lost.
#[derive(Clone, Debug)]
pub struct Lost {
    /// What CONNECT says when it comes back.
    pub auth: Value,
    pub pid: Option<String>,
    pub sid: String,
    pub offset: Option<String>,
}

impl Lost {
    /// Comes back; returns the client, its welcome taken, and whether it has its former session.
    #[track_caller]
    pub fn come_back(&self, address: SocketAddr, transport: Transport) -> (Socket, bool) {
        let mut socket = Socket::open(address, transport);
        socket.offset = self.offset.clone();
        socket.enter(self.auth.clone());
        let is_recovered = socket.pid.is_some() && socket.pid == self.pid;
        assert_eq!(is_recovered, socket.sid == self.sid);
        (socket, is_recovered)
    }

    /// Comes back to its former session.
    #[track_caller]
    pub fn recover(&self, address: SocketAddr, transport: Transport) -> Socket {
        let (socket, is_recovered) = self.come_back(address, transport);
        assert!(is_recovered, "not recovered: {self:?}");
        socket
    }

    /// Comes back, and has a new session.
    #[track_caller]
    pub fn begin_anew(&self, address: SocketAddr, transport: Transport) -> Socket {
        let (socket, is_recovered) = self.come_back(address, transport);
        assert!(!is_recovered, "recovered: {self:?}");
        assert!(socket.pid.is_some());
        socket
    }
}
