//! A connection: a socket, and how far its conversation has come.

use std::net::IpAddr;

use crate::proto::ws::Decoder;
use crate::shard::api::Awaited;
use crate::shard::wheel::Tick;
use crate::transport::{Stream, Transport};

/// One socket.
pub struct Conn<S: Stream> {
    /// Its bytes.
    pub transport: Transport<S>,
    /// How far it has come.
    pub phase: Phase,
    /// The other end.
    pub peer: IpAddr,
    /// When the request under way, or the phase, began; on a native WebSocket, when something was last received.
    pub received: Tick,
    /// When the wheel will fire for it; 0: not armed.
    pub armed: Tick,
    /// It is on the ready list.
    pub is_ready: bool,
    /// The poll said that the peer will send no more, which it says only once: read to the end.
    pub peer_closed: bool,
    /// There were too many connections when it came: it is told so and let go.
    pub is_surplus: bool,
    /// It has been answered a request: silence is no fault any more.
    pub was_answered: bool,
}

/// How far a connection has come.
pub enum Phase {
    /// A request head is awaited; what has come of it.
    Head(Vec<u8>),
    /// A request's head is known, its body is awaited.
    Body(Box<Body>),
    /// A poll that is open: the answer waits for something to be said.
    Polling(Box<OpenPoll>),
    /// A request that waits for the store, or for a token.
    Waiting(Box<Waiting>),
    /// An answer that the socket has not taken whole.
    Answering(Box<Answer>),
    /// Upgraded.
    WebSocket {
        /// Whose it is.
        owner: Owner,
        /// Reads frames.
        decoder: Decoder,
    },
    /// Our direction is shut down. What still comes is thrown away, so that the peer reads the close frame
    /// and not a reset.
    Lingering {
        /// Bytes thrown away so far.
        discarded: usize,
    },
}

/// A request whose body is awaited.
pub struct Body {
    /// The request so far, head included.
    pub bytes: Vec<u8>,
    /// Its whole length.
    pub needed: usize,
    /// The Engine.IO session it is for, or [`NO_ENGINE`] where that is not known yet.
    pub engine: u32,
}

/// No Engine.IO session.
pub const NO_ENGINE: u32 = u32::MAX;

/// Whose a WebSocket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A native client's.
    Client(u32),
    /// An Engine.IO session's.
    Engine(u32),
}

/// An open poll of an Engine.IO session.
pub struct OpenPoll {
    /// The session.
    pub engine: u32,
    /// How to answer.
    pub reply: Reply,
    /// What has come behind the request.
    pub pending: Vec<u8>,
}

/// A request whose answer another thread works on.
pub struct Waiting {
    /// Which: the answer comes with it.
    pub serial: u32,
    /// What it waits for.
    pub awaited: Awaited,
    /// How to answer.
    pub reply: Reply,
    /// What has come behind the request.
    pub pending: Vec<u8>,
}

/// How a request is answered.
#[derive(Clone, Default)]
pub struct Reply {
    /// The request was HEAD: the answer has no body (RFC 9110 §9.3.2).
    pub is_head: bool,
    /// Another request may follow on the connection.
    pub keep: bool,
    /// What `Access-Control-Allow-Origin` says.
    pub cors: Cors,
}

/// What a browser is told about the origin of its page.
#[derive(Clone, Default)]
pub enum Cors {
    /// Nothing: the request has no origin, or the server's own.
    #[default]
    Silent,
    /// Any origin may read the answer.
    Any,
    /// This one may, credentials included.
    Origin(Box<str>),
}

/// An answer on its way.
pub struct Answer {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What the socket has taken.
    pub written: usize,
    /// Another request may follow.
    pub keep: bool,
    /// What has come behind the request.
    pub pending: Vec<u8>,
}
