//! An Engine.IO session that polls: blocking, one poll and one post at a time.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::Value;

use super::http::{Connection, Response};

/// What stands between the packets of a body.
pub const SEPARATOR: char = '\u{1e}';

/// A session.
pub struct Polling {
    address: SocketAddr,
    /// `/socket.io/?EIO=4&transport=polling&sid=…`
    pub path: String,
    /// What the open packet said.
    pub handshake: Value,
    /// Each request comes on a new TCP connection.
    pub is_scattered: bool,
    polls: Option<Connection>,
    posts: Option<Connection>,
    /// A poll has been sent and not been answered.
    is_open: bool,
    /// Packets that came in one answer with the one that was asked for.
    waiting: VecDeque<String>,
}

impl Polling {
    /// Opens a session at `path`, for example `/socket.io/`; `more` goes into the query of the first request.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str, more: &str) -> Polling {
        Polling::try_open(address, path, more).unwrap_or_else(|response| panic!("refused: {response:?}"))
    }

    /// As [`Polling::open`], or the refusal.
    #[track_caller]
    pub fn try_open(address: SocketAddr, path: &str, more: &str) -> Result<Polling, Response> {
        let mut connection = Connection::open(address);
        let query = format!("{path}?EIO=4&transport=polling");
        let response = connection.ask("GET", &format!("{query}{more}"), &[], b"");
        if response.status != 200 {
            return Err(response);
        }
        let text = response.text();
        let handshake: Value = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
        let path = format!("{query}&sid={}", handshake["sid"].as_str().unwrap());
        Ok(Polling {
            address,
            path,
            handshake,
            is_scattered: false,
            polls: Some(connection),
            posts: None,
            is_open: false,
            waiting: VecDeque::new(),
        })
    }

    /// The session's id.
    pub fn sid(&self) -> &str {
        self.handshake["sid"].as_str().unwrap()
    }

    /// The shard that has the session: the first byte of its id.
    pub fn shard(&self) -> u8 {
        shard_of(self.sid())
    }

    /// Sends a poll, if none is open.
    pub fn begin_poll(&mut self) {
        if std::mem::replace(&mut self.is_open, true) {
            return;
        }
        let fresh = || Connection::open(self.address);
        let mut connection = self.polls.take().filter(|_| !self.is_scattered).unwrap_or_else(fresh);
        connection.send("GET", &self.path, &[], b"");
        self.polls = Some(connection);
    }

    /// The answer to the open poll, or to one sent now.
    #[track_caller]
    pub fn poll(&mut self) -> Response {
        self.begin_poll();
        self.is_open = false;
        let response = self.polls.as_mut().unwrap().response();
        if response.header("connection") == Some("close") {
            self.polls = None;
        }
        response
    }

    /// The packets of the next answer that has more in it than pings, which are answered.
    #[track_caller]
    pub fn packets(&mut self) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.is_empty() {
            let response = self.poll();
            assert_eq!(response.status, 200, "{response:?}");
            let text = response.text();
            let (pings, others): (Vec<&str>, Vec<&str>) =
                text.split(SEPARATOR).partition(|packet| *packet == "2");
            if !pings.is_empty() {
                self.post("3");
            }
            packets.extend(others.into_iter().map(str::to_owned));
        }
        packets
    }

    /// The next packet of any kind, from as many polls as it takes; `None`: the session is over.
    #[track_caller]
    pub fn packet(&mut self) -> Option<String> {
        while self.waiting.is_empty() {
            let response = self.poll();
            if response.status != 200 {
                assert_eq!(
                    (response.status, response.json()["code"].as_u64()),
                    (400, Some(1)),
                    "{response:?}"
                );
                return None;
            }
            self.waiting.extend(response.text().split(SEPARATOR).map(str::to_owned));
        }
        self.waiting.pop_front()
    }

    /// Sends a post.
    #[track_caller]
    pub fn post(&mut self, body: &str) -> Response {
        let fresh = || Connection::open(self.address);
        let mut connection = self.posts.take().filter(|_| !self.is_scattered).unwrap_or_else(fresh);
        let response = connection.ask(
            "POST",
            &self.path,
            &[("Content-Type", "text/plain;charset=UTF-8")],
            body.as_bytes(),
        );
        self.posts = Some(connection).filter(|_| response.header("connection") != Some("close"));
        response
    }

    /// Sends packets, which must be taken.
    #[track_caller]
    pub fn send(&mut self, body: &str) {
        let response = self.post(body);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{response:?}");
    }

    /// The rest of the packets that have been polled.
    pub fn take_packets(&mut self) -> VecDeque<String> {
        std::mem::take(&mut self.waiting)
    }
}

/// The shard that has the session of that id.
pub fn shard_of(sid: &str) -> u8 {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(sid).unwrap()[0]
}
