//! Engine.IO sessions (protocol v4) and the Socket.IO namespaces on them (`spec/market.md`, "Socket.IO, completely").
//!
//! A session outlives its sockets: while it polls, each request may come on another one. Its id names the shard, so a
//! request that comes elsewhere is handed over with its socket. A session has one outgoing [`Line`], which all its
//! namespaces share: WebSocket frames, made once for each event like those of native clients. A poll is answered with the
//! same bytes, without the frames' headers. While no poll is open, the line is held up like one whose socket is full.
//!
//! | file | |
//! |---|---|
//! | `request` | HTTP requests: which session, which transport, errors, CORS |
//! | `polling` | polls and posts |
//! | `upgrade` | a WebSocket takes over from polling |
//! | `packets` | Engine.IO packets, heartbeat |
//! | `namespaces` | Socket.IO packets: CONNECT, EVENT, DISCONNECT |

mod namespaces;
mod packets;
mod polling;
mod request;
mod upgrade;

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::audience::{TransportKind, Wire};
use crate::auth::Once;
use crate::close::CloseReason;
use crate::proto::socketio::Assembly;
use crate::proto::ws;
use crate::shard::client::Client;
use crate::shard::conn::Phase;
use crate::shard::line::{Line, LineKey, NO_CONN, Way};
use crate::shard::wheel::Tick;
use crate::shard::{Net, Shard, wheel};
use crate::time::Now;

/// Random bytes in a session id: nobody can guess another one's.
const ID_BYTES: usize = 16;
/// The shard, the slot, the random bytes.
const SID_BYTES: usize = 1 + 4 + ID_BYTES;

/// An Engine.IO session.
pub struct Engine {
    /// The secret part of its id.
    id: [u8; ID_BYTES],
    /// What is on its way to it.
    pub line: Line,
    /// How its packets travel.
    link: Link,
    /// What its messages are.
    protocol: Protocol,
    /// The connected namespaces, each with its client.
    pub namespaces: Vec<(&'static str, u32)>,
    /// A packet whose attachments are still to come.
    assembly: Option<Box<Assembly>>,
    /// What the first request said.
    handshake: Handshake,
    /// When it was opened, or the last ping was answered.
    alive: Tick,
    /// When the unanswered ping was sent; 0: none.
    ping_sent: Tick,
    /// By when a namespace must be connected; 0: one has been.
    connect_by: Tick,
    /// It is to be told on the next poll that the session is over. What was said before goes into a poll of its own: clients
    /// carry out a close before what stands in front of it in the same answer.
    farewell: bool,
    /// The socket did not take the answer to the last poll at once: whether it took the rest shows on the next poll.
    cut: bool,
    /// The client has left by a post, which is answered when a poll has come that it has overtaken.
    leaving: bool,
    /// When the wheel will fire for it; 0: not armed.
    pub armed: Tick,
    /// The meters of WebSocket pings and of packets that are no events (`Rate::check`).
    pings: u64,
    control: u64,
}

/// How a session's packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// By polls and posts.
    Polling {
        /// The WebSocket that is to take over, or [`NO_CONN`].
        probe: u32,
        /// It has said so, and been answered: polls are answered at once from here on.
        is_probed: bool,
        /// The connection whose body is awaited, or [`NO_CONN`].
        posting: u32,
    },
    /// By the WebSocket of the line.
    WebSocket,
}

/// What a session's messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Socket.IO packets.
    SocketIo,
    /// Anything; all is sent back. For conformance suites.
    Echo,
}

/// What the first request said that later CONNECT packets may need.
struct Handshake {
    token: Option<Box<str>>,
    /// It asked for connection state recovery in the query.
    recover: bool,
    peer: IpAddr,
    /// The single-use token that a namespace has shown.
    once: Option<Box<Once>>,
}

/// Where a session is.
enum Whereabouts {
    /// Here.
    Here(u32),
    /// On another shard.
    Elsewhere(u8),
    /// Nowhere.
    Unknown,
}

impl Engine {
    /// Its clients.
    pub fn clients(&self) -> Vec<u32> {
        self.namespaces.iter().map(|(_, client)| *client).collect()
    }

    /// The connection whose body is awaited, or whose post is not answered yet.
    #[cfg(debug_assertions)]
    pub fn posting(&self) -> Option<u32> {
        match self.link {
            Link::Polling { posting, .. } if posting != NO_CONN => Some(posting),
            _ => None,
        }
    }

    /// Whether the connection is its WebSocket, or the one that is to become it.
    fn has(&self, conn: u32) -> bool {
        match self.link {
            Link::Polling { probe, .. } => probe == conn,
            Link::WebSocket => self.line.conn == conn,
        }
    }

    fn is_polling(&self) -> bool {
        self.link != Link::WebSocket
    }
}

/// Sixteen random bytes.
pub(super) fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Fails only on a system without a generator, where nothing here is safe.
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "the system has no random numbers, the process ends");
        std::process::exit(1);
    }
    bytes
}

impl<N: Net> Shard<N> {
    /// Opens a session. Its first packet is still to be sent.
    fn open_engine(
        &mut self,
        conn: u32,
        link: Link,
        protocol: Protocol,
        handshake: Handshake,
        now: Now,
    ) -> u32 {
        let tick = wheel::tick(now.mono);
        let connect_by = match protocol {
            Protocol::SocketIo => tick + wheel::ticks(self.settings.socketio.connect_timeout),
            Protocol::Echo => 0,
        };
        let mut line = Line::new(conn, Wire::SocketIo);
        if link != Link::WebSocket {
            line.backlog = Some(Box::default());
        }
        let slot = self.engines.insert(Engine {
            id: random_bytes(),
            line,
            link,
            protocol,
            namespaces: Vec::new(),
            assembly: None,
            handshake,
            alive: tick,
            ping_sent: 0,
            connect_by,
            farewell: false,
            cut: false,
            leaving: false,
            armed: 0,
            pings: 0,
            control: 0,
        });
        self.metrics.engines.set(self.engines.len() as u64);
        self.arm_engine(slot, now);
        slot
    }

    /// The session's id as the client knows it.
    fn sid(&self, slot: u32) -> String {
        let mut bytes = [0; SID_BYTES];
        bytes[0] = self.id;
        bytes[1..5].copy_from_slice(&slot.to_be_bytes());
        if let Some(engine) = self.engines.get(slot) {
            bytes[5..].copy_from_slice(&engine.id);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where the session of that id is.
    fn find_engine(&self, sid: &str) -> Whereabouts {
        let mut bytes = [0; SID_BYTES + 2];
        let Ok(SID_BYTES) = URL_SAFE_NO_PAD.decode_slice(sid, &mut bytes) else {
            return Whereabouts::Unknown;
        };
        let (shard, rest) = (bytes[0], &bytes[1..SID_BYTES]);
        if shard != self.id {
            return match usize::from(shard) < self.settings.shards {
                true => Whereabouts::Elsewhere(shard),
                false => Whereabouts::Unknown,
            };
        }
        let slot = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
        match self.engines.get(slot) {
            Some(engine) if bool::from(engine.id[..].ct_eq(&rest[4..])) => Whereabouts::Here(slot),
            _ => Whereabouts::Unknown,
        }
    }

    /// Whether the session polls.
    pub(super) fn is_polling(&self, slot: u32) -> bool {
        self.engines.get(slot).is_some_and(Engine::is_polling)
    }

    /// How a client's bytes travel.
    pub(super) fn kind_of(&self, client: &Client) -> TransportKind {
        match client.way {
            Way::Engine(engine) if self.is_polling(engine) => TransportKind::Polling,
            _ => TransportKind::WebSocket,
        }
    }

    /// The other end of a client's connection.
    pub(super) fn peer_of(&self, client: &Client) -> Option<IpAddr> {
        match &client.way {
            Way::Own(line) => self.conns.get(line.conn).map(|conn| conn.peer),
            Way::Engine(engine) => self.engines.get(*engine).map(|engine| engine.handshake.peer),
        }
    }

    /// A session that is over has been sent what was queued for it. True: it is still to be told that it is over.
    pub(super) fn says_farewell(&mut self, slot: u32) -> bool {
        let Some(engine) = self.engines.get_mut(slot) else { return false };
        let is_due = std::mem::take(&mut engine.farewell);
        if is_due {
            self.push_end(slot);
        }
        is_due
    }

    /// The packet that ends a session. A poll that is still to come finds a NOOP before it, as with the reference.
    fn push_end(&mut self, slot: u32) {
        if self.engines.get(slot).is_some_and(|engine| engine.line.conn == NO_CONN) {
            self.push_packet(slot, |out| out.push(b'6'));
        }
        self.push_packet(slot, |out| out.push(b'1'));
    }

    /// Ends a session at once: its clients depart, an open poll is answered, its WebSocket is closed.
    fn end_engine(&mut self, slot: u32, reason: CloseReason, now: Now) {
        let key = LineKey::engine(slot);
        if self.engines.get(slot).is_some_and(|engine| engine.line.closing.is_some()) {
            return;
        }
        self.close_line(key, reason, now);
        if self.is_polling(slot) && self.engines.get(slot).is_some_and(|engine| engine.line.conn == NO_CONN) {
            self.forget_engine(slot, now);
        }
    }

    /// One of a session's connections is gone without a word.
    pub(super) fn lost_engine_conn(&mut self, slot: u32, conn: u32, reason: &CloseReason) {
        let now = self.net.now();
        let Some(engine) = self.engines.get_mut(slot) else { return };
        match &mut engine.link {
            Link::Polling { probe, is_probed, .. } if *probe == conn => {
                (*probe, *is_probed) = (NO_CONN, false);
                return;
            }
            // A poll or a post that was cut off, or the session's WebSocket.
            Link::Polling { posting, .. } if engine.line.conn != conn && *posting != conn => return,
            Link::Polling { .. } => {}
            Link::WebSocket if engine.line.conn != conn => return,
            Link::WebSocket => {}
        }
        if engine.line.conn == conn {
            engine.line.conn = NO_CONN;
        }
        self.begin_end(LineKey::engine(slot), reason, now);
        self.forget_engine(slot, now);
    }

    /// Forgets a session; nothing more can be said to it.
    pub(super) fn forget_engine(&mut self, slot: u32, now: Now) {
        self.end_probe(slot, now);
        let Some(engine) = self.engines.remove(slot) else { return };
        debug_assert!(engine.namespaces.is_empty());
        self.metrics.outbox_bytes.sub(engine.line.held() as u64);
        self.metrics.engines.set(self.engines.len() as u64);
        let Link::Polling { posting, .. } = engine.link else { return };
        if engine.line.conn != NO_CONN {
            self.answer_poll(engine.line.conn, b"6", now);
        }
        if engine.leaving {
            self.answer_leave(posting, slot, now);
        }
        // A post that has not come whole has nobody to go to.
        if matches!(self.conns.get(posting).map(|conn| &conn.phase), Some(Phase::Body(body)) if body.engine == slot)
        {
            self.linger(posting, now);
        }
    }

    /// A session's last words: a DISCONNECT for those who should stay away (`spec/decisions.md` 2), and the end of the
    /// transport. Who is only to come back gets no DISCONNECT, since after one no client does.
    pub(super) fn say_goodbye(&mut self, slot: u32, reason: &CloseReason) {
        let key = LineKey::engine(slot);
        let Some(engine) = self.engines.get(slot) else { return };
        let is_polling = engine.is_polling();
        if matches!(reason, CloseReason::Disconnected { .. } | CloseReason::Abuse) {
            for (namespace, _) in engine.namespaces.clone() {
                self.push_packet(slot, |out| namespaces::write_disconnect(out, namespace));
            }
        }
        let stays_away = matches!(reason, CloseReason::Disconnected { .. } | CloseReason::Abuse);
        match is_polling {
            true if stays_away => {
                if let Some(engine) = self.engines.get_mut(slot) {
                    engine.farewell = true;
                }
            }
            true => self.push_end(slot),
            false => self.push_to_line(key, |out| ws::write_close(out, reason.code(), reason.text())),
        }
    }

    /// A WebSocket that was to take over is let go.
    pub(super) fn end_probe(&mut self, slot: u32, now: Now) {
        let Some(engine) = self.engines.get_mut(slot) else { return };
        let Link::Polling { probe, is_probed, .. } = &mut engine.link else { return };
        *is_probed = false;
        let conn = std::mem::replace(probe, NO_CONN);
        if matches!(self.conns.get(conn).map(|conn| &conn.phase), Some(Phase::WebSocket { .. }))
            && self.write_now(conn, |out| ws::write_close(out, 1000, ""))
        {
            self.linger(conn, now);
        }
    }

    /// Sends one Engine.IO packet, written as its text.
    fn push_packet(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::new();
        write(&mut text);
        self.push_to_line(LineKey::engine(slot), |out| ws::write_text(out, &[&text]));
    }
}
