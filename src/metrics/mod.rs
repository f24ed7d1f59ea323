//! What is counted. Each block of counters has one writing thread, so counting is a plain load and store;
//! the admin thread adds the blocks up when it is scraped.
//!
//! Names of families stand in `expose`, latencies in `latency`.

pub mod expose;
pub mod latency;
mod process;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::audience::{App, TransportKind, Wire};
use crate::close::{CloseReason, ErrorCode};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this: a concurrent `add` can lose counts, never corrupt them.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off again, for gauges. Only the owning thread may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the owning thread may call this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a handshake was refused (`fanfare_handshakes_rejected_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rejection {
    /// Not a request, or not an upgrade this server serves.
    BadRequest,
    /// No such endpoint.
    NotFound,
    /// No or a bad token.
    Unauthorized,
    /// A token whose time is over.
    TokenExpired,
    /// An origin that is not allowed.
    Origin,
    /// The user has too many connections.
    ConnectionLimit,
    /// Too many new connections.
    RateLimited,
    /// The head is too large.
    HeadTooLarge,
    /// The head took too long.
    Timeout,
    /// The server is full or drains.
    Overloaded,
}

impl Rejection {
    /// How many there are.
    pub const COUNT: usize = 10;
    /// The labels, in index order.
    pub const LABELS: [&'static str; Rejection::COUNT] = [
        "bad_request",
        "not_found",
        "unauthorized",
        "token_expired",
        "origin",
        "connection_limit",
        "rate_limited",
        "head_too_large",
        "timeout",
        "overloaded",
    ];
}

/// A limit that was hit (`fanfare_rate_limited_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LimitKind {
    /// New connections of one user.
    ConnectsPerUser,
    /// New connections from one address.
    ConnectsPerAddress,
    /// Connections of one user.
    ConnectionsPerUser,
    /// Control events.
    Control,
    /// Ping and pong frames.
    Pings,
    /// Rooms of one connection.
    Rooms,
    /// A client's publish that found the router's lane full.
    Publish,
    /// Chat messages of one user.
    Messages,
    /// Typing events of one user.
    Typing,
    /// New conversations of one user.
    Conversations,
    /// A request that found the store's queue full.
    Store,
}

impl LimitKind {
    /// How many there are.
    pub const COUNT: usize = 11;
    /// The labels, in index order.
    pub const LABELS: [&'static str; LimitKind::COUNT] = [
        "connects_per_user",
        "connects_per_address",
        "connections_per_user",
        "control",
        "pings",
        "rooms_per_connection",
        "publish",
        "messages",
        "typing",
        "conversations",
        "store",
    ];
}

/// What one shard counts.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Open clients by app and transport.
    pub connections: [[Counter; TransportKind::COUNT]; App::COUNT],
    /// Clients ever opened, likewise.
    pub connections_opened: [[Counter; TransportKind::COUNT]; App::COUNT],
    /// Clients closed, by app, transport and reason.
    pub connections_closed: [[[Counter; CloseReason::LABELS.len()]; TransportKind::COUNT]; App::COUNT],
    /// TCP connections of this shard, upgraded or not.
    pub sockets: Counter,
    /// Handshakes refused, by [`Rejection`].
    pub handshakes_rejected: [Counter; Rejection::COUNT],
    /// Messages received by app.
    pub messages_received: [Counter; App::COUNT],
    /// Messages refused by error code.
    pub messages_rejected: [Counter; ErrorCode::ALL.len()],
    /// Events written, by wire.
    pub deliveries: [Counter; Wire::COUNT],
    /// Bytes of those events, by wire.
    pub delivered_bytes: [Counter; Wire::COUNT],
    /// Write calls, by wire.
    pub socket_writes: [Counter; Wire::COUNT],
    /// Events that a newer one of the same key replaced before a blocked subscriber could be sent it.
    pub events_conflated: Counter,
    /// Clients closed because their outbox was full.
    pub slow_consumers: Counter,
    /// Bytes held up in outboxes.
    pub outbox_bytes: Counter,
    /// Open Engine.IO sessions, polling or not.
    pub engines: Counter,
    /// Sessions that went from polling to a WebSocket.
    pub upgrades: Counter,
    /// Clients that came back and were given all they had missed.
    pub recovered: Counter,
    /// Rooms with local members.
    pub rooms: Counter,
    /// Memberships: room joins in force.
    pub subscriptions: Counter,
    /// Limits hit, by [`LimitKind`].
    pub rate_limited: [Counter; LimitKind::COUNT],
    /// Turns made.
    pub turns: Counter,
    /// Monotonic nanoseconds when the last turn ended: what `/healthz` looks at.
    pub last_turn: Counter,
    /// Socket events taken from the poll.
    pub loop_events: Counter,
}

/// What became of an ingest line (`fanfare_ingest_messages_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IngestResult {
    /// Published to at least one shard.
    Accepted,
    /// Published to nobody; kept as a newest value where the policy is `latest`.
    NoSubscribers,
    /// Its id was seen before.
    Duplicate,
    /// Answered with an error.
    Rejected,
    /// An operation, not a publish.
    Operation,
    /// The half-written last line of a connection that ended.
    Truncated,
}

impl IngestResult {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// The labels, in index order.
    pub const LABELS: [&'static str; IngestResult::COUNT] =
        ["accepted", "no_subscribers", "duplicate", "rejected", "operation", "truncated"];
}

/// What the router counts.
#[derive(Debug, Default)]
pub struct RouterMetrics {
    /// Publishers connected.
    pub ingest_connections: Counter,
    /// Lines by [`IngestResult`].
    pub ingest_messages: [Counter; IngestResult::COUNT],
    /// Bytes read from publishers.
    pub ingest_bytes: Counter,
    /// Rooms the router knows.
    pub known_rooms: Counter,
    /// Rooms forgotten because the table was full.
    pub rooms_evicted: Counter,
    /// Times reading was stopped because a shard could not keep up.
    pub backpressure: Counter,
    /// Messages of clients handed to listening publishers.
    pub forwarded: Counter,
    /// Users with at least one connection.
    pub users_online: Counter,
    /// Lost sessions that may come back.
    pub recoverable_sessions: Counter,
    /// Bytes of events kept for them.
    pub history_bytes: Counter,
}

/// What the store counts, on its writing thread.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Transactions that are on the disk.
    pub commits: Counter,
    /// Requests that were in them.
    pub requests: Counter,
    /// Transactions that failed.
    pub failures: Counter,
}
