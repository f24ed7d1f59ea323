//! A connection: a socket, and how far its conversation has come.

use std::net::IpAddr;

use crate::proto::ws::Decoder;
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
    /// When the phase began; on a WebSocket, when something was last received.
    pub received: Tick,
    /// When the wheel will fire for it; 0: not armed.
    pub armed: Tick,
    /// It is on the ready list.
    pub is_ready: bool,
    /// The poll said that the peer will send no more, which it says only once: read to the end.
    pub peer_closed: bool,
    /// There were too many connections when it came: it is told so and let go.
    pub is_surplus: bool,
}

/// How far a connection has come.
pub enum Phase {
    /// A request head is awaited; what has come of it.
    Head(Vec<u8>),
    /// Upgraded.
    WebSocket {
        /// Its client.
        client: u32,
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
