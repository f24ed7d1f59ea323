//! A shard: the connections and clients of one thread, and its part of the room tables. Start at [`turn`].
//!
//! A shard is passive and owns no thread: a loop ([`crate::run`]) hands it socket events, commands and what the router
//! posts, and takes away what it has to say to the router. So the same code runs over real sockets and over a fake
//! network with a virtual clock. Nothing of a shard is shared; there is no lock here.

mod admit;
mod api;
mod apply;
mod asking;
mod backlog;
mod client;
mod conn;
mod deliver;
mod end;
mod engine;
mod fanout;
mod flush;
mod handover;
mod http;
#[cfg(debug_assertions)]
mod invariants;
mod line;
mod outbox;
mod page;
#[cfg(test)]
mod properties;
mod read;
mod recovery;
mod rooms;
#[cfg(test)]
mod sizes;
mod slots;
mod support;
mod timers;
pub mod turn;
mod wheel;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub use flush::Flow;
pub use handover::HandedOver;

use crate::app::{AppSettings, Outputs};
use crate::audience::App;
use crate::auth::{UsedTokens, Verifier};
use crate::limits::{AddressRange, Limits};
use crate::login::Login;
use crate::mailbox::ToRouter;
use crate::metrics::ShardMetrics;
use crate::metrics::latency::LatencyRecorder;
use crate::proto::json::Parser;
use crate::settings::SocketIo;
use crate::shard::asking::Wish;
use crate::shard::client::{Client, LocalUsers};
use crate::shard::conn::Conn;
use crate::shard::end::Drain;
use crate::shard::engine::Engine;
use crate::shard::fanout::Fanout;
use crate::shard::line::LineKey;
use crate::shard::rooms::LocalRooms;
use crate::shard::slots::Slots;
use crate::shard::wheel::Wheel;
use crate::store::Store;
use crate::time::Now;
use crate::transport::tls::TlsConfig;
use crate::transport::{ReadScratch, Stream, WriteScratch};
use crate::users::Users;

/// Where sockets come from and how their events are asked for.
pub trait Net {
    /// A connection's bytes.
    type Stream: Stream;

    /// The time, where a turn needs it more precisely than at its start.
    fn now(&self) -> Now;

    /// Asks for the edge-triggered events of a stream, to be handed to [`Shard::socket_event`] with `key`.
    ///
    /// # Errors
    /// Those of the operating system.
    fn register(&mut self, stream: &mut Self::Stream, key: u32) -> io::Result<()>;

    /// Asks for no more events of a stream, which goes to another shard.
    ///
    /// # Errors
    /// Those of the operating system.
    fn deregister(&mut self, stream: &mut Self::Stream) -> io::Result<()>;
}

/// What a shard needs of the configuration. Replaced whole at a reload.
pub struct ShardSettings {
    /// The limits.
    pub limits: Limits,
    /// Which apps are served.
    pub apps: [bool; App::COUNT],
    /// Origins that browsers may come from.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-*` headers count.
    pub trusted_proxies: Vec<AddressRange>,
    /// What sessions need.
    pub app: AppSettings,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Whether `market` takes clients without a token.
    pub anonymous: bool,
    /// Silence after which a WebSocket ping is sent.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection.
    pub pong_timeout: Duration,
    /// TLS of the public listeners.
    pub tls: Option<TlsConfig>,
    /// Engine.IO and Socket.IO.
    pub socketio: SocketIo,
    /// How many shards there are.
    pub shards: usize,
    /// Whether the test page is served.
    pub page: bool,
    /// Serve what the protocols' conformance suites expect instead of the apps: `/engine.io/` sends every message back,
    /// `/socket.io/` has the namespaces `/` and `/custom` of the echo application. No configuration sets it.
    pub echo: bool,
}

impl ShardSettings {
    /// Whether any app is served over Socket.IO.
    fn serves_socketio(&self) -> bool {
        self.echo || [App::Market, App::Mobile].iter().any(|app| self.apps[app.index()])
    }
}

/// What the shards of a process have in common.
#[derive(Clone, Default)]
pub struct Common {
    /// All users.
    pub users: Arc<Users>,
    /// Open sockets of all shards; the accept thread counts up, the shards count down.
    pub open_sockets: Arc<AtomicUsize>,
    /// Single-use tokens that were used.
    pub used: Arc<UsedTokens>,
    /// The store, where an app or the identity provider needs it.
    pub store: Option<Store>,
    /// The identity provider, where it is on.
    pub login: Option<Login>,
    /// The OpenAPI document.
    pub document: Arc<str>,
}

/// The shard.
pub struct Shard<N: Net> {
    id: u8,
    net: N,
    settings: Arc<ShardSettings>,
    common: Common,
    metrics: Arc<ShardMetrics>,
    latencies: LatencyRecorder,
    conns: Slots<Conn<N::Stream>>,
    clients: Slots<Client>,
    engines: Slots<Engine>,
    local_users: LocalUsers,
    rooms: LocalRooms,
    fanout: Fanout,
    /// Connections to be read in this turn.
    ready: Vec<u32>,
    /// Connections of which more is to be read next turn.
    ready_next: Vec<u32>,
    /// Connections whose next request is here already, now that the one before is answered.
    resumed: Vec<u32>,
    /// The newest sequence number of the router's that has been seen.
    sequence: u64,
    /// Connections that belong to other shards.
    handovers: Vec<(u8, Box<HandedOver<N::Stream>>)>,
    wheel: Wheel,
    fired: Vec<u32>,
    /// What is to be said to the router.
    outgoing: Vec<ToRouter>,
    /// What is to be asked of the store.
    wishes: Vec<Wish>,
    /// Lines whose clients are to be told that all is written.
    written: Vec<LineKey>,
    /// How many messages the router's data lane takes until the next turn.
    data_room: usize,
    drain: Option<Drain>,
    parser: Parser,
    outputs: Outputs,
    /// Requests that other threads were asked to answer, so far.
    requests: u32,
    read_scratch: Option<Box<ReadScratch>>,
    write_scratch: WriteScratch,
    gather: Vec<u8>,
    log_limit: LogLimit,
}

impl<N: Net> Shard<N> {
    /// A shard without connections.
    pub fn new(
        id: u8,
        net: N,
        settings: Arc<ShardSettings>,
        common: Common,
        metrics: Arc<ShardMetrics>,
        now: Now,
    ) -> Shard<N> {
        let parser = Parser::new(settings.limits.json_depth);
        Shard {
            id,
            net,
            common,
            metrics,
            latencies: LatencyRecorder::new(),
            conns: Slots::default(),
            clients: Slots::default(),
            engines: Slots::default(),
            local_users: LocalUsers::default(),
            rooms: LocalRooms::new(),
            fanout: Fanout::new(settings.limits.outbox),
            ready: Vec::new(),
            ready_next: Vec::new(),
            resumed: Vec::new(),
            sequence: 0,
            handovers: Vec::new(),
            wheel: Wheel::new(wheel::tick(now.mono)),
            fired: Vec::new(),
            outgoing: Vec::new(),
            wishes: Vec::new(),
            written: Vec::new(),
            data_room: usize::MAX,
            drain: None,
            parser,
            outputs: Outputs::default(),
            requests: 0,
            read_scratch: Some(Box::default()),
            write_scratch: WriteScratch::default(),
            gather: Vec::new(),
            log_limit: LogLimit::default(),
            settings,
        }
    }

    /// Connections that are open, upgraded or not.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }
}

/// Lets a few lines a second into the log, and says how many it kept back.
#[derive(Debug, Default)]
struct LogLimit {
    second: u64,
    lines: u32,
    kept_back: u64,
}

impl LogLimit {
    /// Lines of one kind in a second: enough to see what goes on, too few to fill a disk.
    const LINES: u32 = 10;

    /// Whether this line may be written, and how many were kept back since the last one.
    fn allow(&mut self, now: Now) -> Option<u64> {
        if self.second != now.unix_seconds() {
            self.second = now.unix_seconds();
            self.lines = 0;
        }
        self.lines += 1;
        if self.lines > LogLimit::LINES {
            self.kept_back += 1;
            return None;
        }
        Some(std::mem::take(&mut self.kept_back))
    }
}
