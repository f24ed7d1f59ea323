//! One connection of a client of Socket.IO: an HTTP request and its answer, or a WebSocket.

use crate::net::Stamp;
use crate::pipe::Pipe;

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The first request of a session.
    Handshake,
    Poll,
    Post,
    /// A request for a session that is over.
    Ghost,
    /// A request that ought not to be.
    Fault,
    /// A WebSocket; `is_open`: the upgrade is answered.
    WebSocket {
        is_open: bool,
    },
}

/// One connection.
pub struct Conn {
    pub pipe: Pipe,
    pub purpose: Purpose,
}

/// The answer to a request.
pub struct Response {
    pub status: u16,
    /// Another request may follow.
    pub keep: bool,
    pub body: String,
    pub stamp: Stamp,
}

impl Conn {
    /// The answer, once it is whole.
    pub fn response(&mut self) -> Option<Response> {
        let stamp = self.pipe.stamp();
        let (head, start) = self.pipe.head()?;
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no head of a response: {head}"));
        let length: usize = field("Content-Length:").map_or(0, |length| length.parse().expect("a number"));
        let body = self.pipe.inbox.get(start..start + length)?;
        let body = String::from_utf8(body.to_vec()).expect("a response is text");
        self.pipe.taken(start + length);
        assert!(self.pipe.inbox.is_empty(), "more than the answer: {:?}", self.pipe.inbox);
        let keep = field("Connection:").as_deref() == Some("keep-alive");
        Some(Response { status, keep, body, stamp })
    }
}
