//! fanfare: one process that fans live events out to very many clients.
//!
//! # Threads
//!
//! ```text
//!  clients ──────▶ accept ──sockets──▶ shard 0 … shard N-1 ◀───────▶ clients
//!                                        │ ▲  bounded lanes
//!                 joins, counts, publishes ▼ │  events, answers
//!  publishers ◀──────────────────────▶ router ◀── store   admin ◀──▶ Prometheus, people
//! ```
//!
//! The store and who signs users in (`login`) have threads of their own; shards and the router ask, and never wait.
//!
//! Each thread owns what it works on; they share counters, the users map ([`users`]) and nothing else. The router and the
//! listeners have threads only where there are several shards: with one they are stepped inside the shard's loop, so that
//! an event needs neither a hop nor a wake-up.
//!
//! # Layers
//!
//! ```text
//! pure cores       proto   bytes ↔ values: HTTP heads, WebSocket frames, Engine.IO and Socket.IO packets, ingest lines, JSON
//!                  room    names, patterns, publications, members, interest, newest values, histories
//! state machines   app     one Session for each client, Input → Outputs; wires: how an event is framed
//! shells           shard   clients      router  publishers, order      store  the database      accept  admin  login  transport
//! wiring           broker, cli
//! ```
//!
//! The pure layers know no sockets, files, threads, locks, clocks or logs: time comes in as [`time::Now`], effects go out
//! as values. Imports go strictly down the ranks that `ARCHITECTURE.md` lists.
//!
//! # The life of a publication
//!
//! 1. [`router`] reads what its publishers sent, cuts and parses the lines ([`proto::ingest`]), and makes of each one
//!    [`Arc<Publication>`](room::publication::Publication), the only copy of its data.
//! 2. It stamps the room's offset, keeps the newest value where the policy is `latest`, finds the shards with members, and
//!    posts the `Arc` to each, with the room's slot there. Acknowledgements wait until every shard has counted.
//! 3. A [`shard`] encodes the event once for each wire that has members, WebSocket header included, and gathers the frames
//!    of one room and turn into one batch. Each member's list gets the batch, not the frames.
//! 4. At the end of the turn each client that has something is written to once.
//! 5. What a socket refuses becomes the client's backlog: bytes up to `limits.outbox` for `every`, the newest event of
//!    each key for `latest`.
//!
//! # The life of a client's frame
//!
//! The shard reads into its one scratch buffer ([`transport`], TLS included); the decoder ([`proto::ws`]) unmasks in place
//! and judges the size from the header; [`app::Session::handle`] turns the text into [`app::Output`]s: answers, joins,
//! leaves, publishes, a close. The shard carries them out. A join of a room that is new to the shard goes to the router, and
//! the client is a member, and told so, when the answer has come back through the same queue as the room's events.
//!
//! # Invariants
//!
//! 1. A client lives on one shard from birth to death, and so does its WebSocket. A socket that carries requests of
//!    polling sessions moves between two of them to the shard of the next one.
//! 2. A shard with a member in a room has its bit set in the router, from before the join is confirmed until after the
//!    last member left.
//! 3. Every queue, buffer, list and loop has a bound; reaching it is a value, not a panic and not a silent loss.
//! 4. A socket is flushed at most once a turn, at its end; a handshake step or a close may add one write.
//! 5. Subscribers of a room see one order. A gap happens only by policy `latest`.
//! 6. A timer that fired does not fire again at the same `Now`.
//! 7. Hostile bytes end in one [`close::CloseReason`], counted once, never a panic.
//! 8. A close gives everything back; after a drain all gauges read zero.

pub mod accept;
pub mod admin;
pub mod app;
pub mod audience;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod close;
pub mod config;
pub mod filter;
pub mod hash;
pub mod limits;
pub mod login;
pub mod mailbox;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod proto;
pub mod record;
pub mod room;
pub mod router;
pub mod run;
pub mod settings;
pub mod shard;
pub mod store;
pub mod time;
pub mod transport;
pub mod users;
