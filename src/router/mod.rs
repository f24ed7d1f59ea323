//! The router: the publishers, and the order of each room. Every publication passes through it.
//!
//! It owns no thread: a loop hands it socket events and what the shards say, and takes what it posts to them
//! through [`Post`]. With one shard that loop is the shard's own, so that an event needs neither a hop nor a wake-up.
//! It knows no clients, frames or outboxes.

mod chat;
mod counted;
mod ids;
mod ingest;
mod keep;
mod kept;
mod living;
mod presence;
#[cfg(test)]
mod properties;
mod publish;
mod publisher;
mod recovery;
mod replies;
mod rooms;
mod support;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::audience::App;
use crate::limits::{Limits, NAME_BYTES};
use crate::mailbox::{Forward, ToRouter, ToShard};
use crate::metrics::{RouterMetrics, ShardMetrics};
use crate::proto::ingest::reply::{self, Received};
use crate::proto::json::Parser;
use crate::room::name::RoomName;
use crate::room::pattern::{Policy, RoomPatterns};
use crate::room::publication::EventType;
use crate::router::chat::Chat;
use crate::router::counted::{CountedMessages, Waiter};
use crate::router::ids::PublishIds;
use crate::router::presence::Presences;
use crate::router::publisher::{Publisher, Source, set_options};
use crate::router::recovery::Recovery;
use crate::router::replies::{CLIENTS, UNREAD_BYTES, publisher_of};
use crate::router::rooms::Rooms;
use crate::router::support::SupportSessions;
use crate::time::{self, Now};
use crate::transport::tls::TlsConfig;
use crate::transport::{ReadScratch, WriteScratch};

pub use publisher::BodyResult;

/// Most publishers at once; a further one is let go. Backends are few.
const PUBLISHERS: usize = 1_024;
/// How long to wait before a publisher is accepted that the system refused to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// The tokens of this component start here: above those of any connection.
pub const TOKENS: usize = 1 << 40;
/// The token of the ingest listener.
const LISTENER: Token = Token(TOKENS);

/// Takes what is posted to a shard.
pub trait Post {
    /// Posts a message to a shard. Never refuses: the loop stops feeding the router while a shard lags.
    fn post(&mut self, shard: u8, message: ToShard);
}

/// What the router needs of the configuration.
pub struct RouterSettings {
    /// The room prefixes.
    pub patterns: RoomPatterns,
    /// How many shards there are.
    pub shards: usize,
    /// What publishers must show; empty: nothing.
    pub token: String,
    /// Longest line, bytes.
    pub max_line: usize,
    /// Most rooms.
    pub rooms: usize,
    /// Most keys of a `latest` room.
    pub keys_per_room: usize,
    /// Deepest JSON nesting.
    pub json_depth: usize,
    /// TLS of the ingest port.
    pub tls: Option<TlsConfig>,
    /// For how long lost sessions, and the events they miss, are kept; `None`: not at all.
    pub recovery: Option<Duration>,
    /// The apps of which a store keeps something.
    pub keeps: [bool; App::COUNT],
}

impl RouterSettings {
    /// The settings without a token, TLS or recovery.
    pub fn new(patterns: RoomPatterns, shards: usize, limits: &Limits) -> RouterSettings {
        RouterSettings {
            patterns,
            shards,
            token: String::new(),
            max_line: 64 * 1024,
            rooms: limits.rooms,
            keys_per_room: limits.keys_per_room,
            json_depth: limits.json_depth,
            tls: None,
            recovery: None,
            keeps: [false; App::COUNT],
        }
    }
}

/// The router.
pub struct Router {
    settings: RouterSettings,
    metrics: Arc<RouterMetrics>,
    /// For the `rooms` operation.
    shard_metrics: Vec<Arc<ShardMetrics>>,
    listener: Option<TcpListener>,
    /// The system refused to accept a publisher that may still wait.
    accept_again: bool,
    publishers: Slab<Option<Box<Publisher>>>,
    /// Publishers of which there is something to be published.
    ready: Vec<usize>,
    rooms: Rooms,
    /// The room that counts broadcasts.
    everyone: RoomName,
    /// The rooms of the event types that are not a user's own.
    types: [RoomName; EventType::ALL.len()],
    presences: Presences,
    ids: PublishIds,
    recovery: Option<Recovery>,
    counted: CountedMessages,
    chat: Chat,
    support: SupportSessions,
    parser: Parser,
    sequence: u64,
    next_ticket: u64,
    scratch: String,
    read_scratch: Box<ReadScratch>,
    write_scratch: WriteScratch,
}

impl Router {
    /// A router without publishers.
    pub fn new(
        settings: RouterSettings,
        metrics: Arc<RouterMetrics>,
        shard_metrics: Vec<Arc<ShardMetrics>>,
    ) -> Router {
        Router {
            rooms: Rooms::new(settings.rooms),
            metrics,
            shard_metrics,
            listener: None,
            accept_again: false,
            publishers: Slab::new(),
            ready: Vec::new(),
            everyone: RoomName::everyone(),
            types: EventType::ALL.map(|kind| RoomName::event_type(kind.name(), None)),
            presences: Presences::default(),
            ids: PublishIds::default(),
            recovery: settings.recovery.map(|window| Recovery::new(window, settings.rooms)),
            counted: CountedMessages::default(),
            chat: Chat::default(),
            support: SupportSessions::default(),
            sequence: 0,
            next_ticket: 0,
            scratch: String::with_capacity(NAME_BYTES + 8),
            read_scratch: Box::default(),
            write_scratch: WriteScratch::default(),
            parser: Parser::new(settings.json_depth),
            settings,
        }
    }

    /// Starts to take publishers.
    ///
    /// # Errors
    /// The poll does not take the listener.
    pub fn listen(&mut self, listener: std::net::TcpListener, registry: &Registry) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Takes no new publishers; those that are there may go on.
    pub fn stop_listening(&mut self) {
        self.listener = None;
        self.accept_again = false;
    }

    /// Takes the configuration that can change live.
    pub fn set_tls(&mut self, tls: Option<TlsConfig>) {
        self.settings.tls = tls;
    }

    /// The poll's word on a token that is at least [`TOKENS`].
    pub fn socket_event(
        &mut self,
        token: usize,
        readable: bool,
        writable: bool,
        peer_closed: bool,
        registry: &Registry,
    ) {
        if token == LISTENER.0 {
            return self.accept(registry);
        }
        let key = token - TOKENS - 1;
        let Some(publisher) = self.publisher(key) else { return };
        publisher.peer_closed |= peer_closed;
        if readable || peer_closed {
            publisher.is_readable = true;
            self.make_ready(key);
        }
        if writable {
            self.send(key);
        }
    }

    /// Accepts publishers that could not be accepted before: the poll will not report them again.
    pub fn accept_again(&mut self, registry: &Registry) {
        if self.accept_again {
            self.accept(registry);
        }
    }

    fn accept(&mut self, registry: &Registry) {
        let was_refused = std::mem::take(&mut self.accept_again);
        loop {
            let Some(listener) = &self.listener else { return };
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer has given up already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    if !was_refused {
                        tracing::warn!(%error, "a publisher could not be accepted, trying again");
                    }
                    self.accept_again = true;
                    return;
                }
            };
            if self.publishers.len() >= PUBLISHERS && !self.make_place() {
                tracing::warn!(publishers = PUBLISHERS, "a publisher was let go: there are too many");
                continue;
            }
            set_options(&stream);
            let entry = self.publishers.vacant_entry();
            let mut stream = stream;
            let token = Token(TOKENS + 1 + entry.key());
            if registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
                continue;
            }
            let transport = match &self.settings.tls {
                None => crate::transport::Transport::Plain(stream),
                Some(tls) => match tls.accept(stream) {
                    Ok(transport) => transport,
                    Err(_) => continue,
                },
            };
            let is_trusted = self.settings.token.is_empty();
            let publisher = Publisher::new(Source::Socket(transport), self.settings.max_line, is_trusted);
            entry.insert(Some(Box::new(publisher)));
            self.metrics.ingest_connections.add(1);
        }
    }

    /// Lets a publisher go that has not shown the token, so that such cannot keep out those who will.
    fn make_place(&mut self) -> bool {
        let is_stranger =
            |publisher: &Publisher| !publisher.is_trusted && matches!(publisher.source, Source::Socket(_));
        let stranger = self
            .publishers
            .iter()
            .find(|(_, publisher)| publisher.as_deref().is_some_and(is_stranger))
            .map(|(key, _)| key);
        stranger.inspect(|key| self.let_go(*key)).is_some()
    }

    /// Publishes the lines of a `POST /publish`; the outcome goes to `reply` when all answers are in.
    pub fn publish_body(&mut self, body: Vec<u8>, reply: Sender<BodyResult>) {
        let publisher = Publisher::of_body(body, reply, self.settings.max_line);
        let key = self.publishers.insert(Some(Box::new(publisher)));
        self.make_ready(key);
    }

    fn publisher(&mut self, key: usize) -> Option<&mut Publisher> {
        self.publishers.get_mut(key)?.as_deref_mut()
    }

    fn make_ready(&mut self, key: usize) {
        if let Some(publisher) = self.publisher(key)
            && !std::mem::replace(&mut publisher.is_ready, true)
        {
            self.ready.push(key);
        }
    }

    /// Takes one message of a shard's.
    pub fn handle(&mut self, message: ToRouter, now: Now, post: &mut impl Post) {
        match message {
            ToRouter::Join { shard, room, slot, policy } => {
                let key = self.rooms.find_or_insert(&room, self.sequence);
                self.rooms.join(key, shard, slot);
                let newest = match self.rooms.get(key) {
                    Some(known) if policy == Policy::Latest => known.latest.events().to_vec(),
                    _ => Vec::new(),
                };
                post.post(shard, ToShard::Joined { room, newest, sequence: self.sequence });
            }
            ToRouter::Leave { shard, room } => {
                if let Some(key) = self.rooms.find(room.hash(), room.as_str()) {
                    self.unkeep(key, shard, now);
                    self.rooms.leave(key, shard);
                }
            }
            ToRouter::UserUp { shard, user } => {
                if self.presences.up(&user, shard) {
                    self.publish_presence(user.id(), true, now, post);
                }
            }
            ToRouter::UserDown { shard, user } => self.presences.down(&user, shard, now),
            ToRouter::ChatUp { shard, user, username } => self.chat_up(&user, username, shard, now),
            ToRouter::ChatDown { shard, user } => self.chat_down(&user, shard, now),
            ToRouter::Presence { client, users, ack } => {
                let users = users.iter().map(|user| self.presences.of(user)).collect();
                post.post(client.shard, ToShard::Presence { client, users, ack });
            }
            ToRouter::Count { ticket, count } if publisher_of(ticket) == CLIENTS => {
                self.counted.count(ticket, count, post);
                self.chat.receipts(&mut self.counted.receipts, now);
            }
            ToRouter::Count { ticket, count } => {
                let key = publisher_of(ticket);
                if let Some(publisher) = self.publisher(key) {
                    publisher.replies.count(ticket, count);
                    self.send(key);
                }
            }
            ToRouter::Keep { shard, room } => self.keep(shard, &room),
            ToRouter::Unkeep { shard, room } => {
                if let Some(key) = self.rooms.find(room.hash(), room.as_str()) {
                    self.unkeep(key, shard, now);
                }
            }
            ToRouter::Recoverable { pid, client } => self.recoverable(pid, client),
            ToRouter::Unrecoverable { pid } => self.unrecoverable(&pid, post),
            ToRouter::Save(saved) => self.save(saved, now, post),
            ToRouter::Restore { client, pid } => self.restore(client, pid, now, post),
            ToRouter::Missed(query) => {
                let (client, events) = (query.client, self.missed(&query));
                post.post(client.shard, ToShard::Missed { client, events, sequence: self.sequence });
            }
            ToRouter::Publish { publication, .. }
                if matches!(publication.app, Some(App::Conversation | App::Mobile)) =>
            {
                self.publish_chat(*publication, None, post);
            }
            ToRouter::Publish { publication, counted } => {
                let waiter = counted.map(|(client, ack)| Waiter::Client(client, ack));
                self.publish_from_client(*publication, waiter, post);
            }
            ToRouter::Tell { publication, users } => self.tell_users(&publication, &users, post),
            ToRouter::Forward(forward) => self.forward(&forward, post),
            ToRouter::Support(news) => self.support_news(news, now, post),
        }
    }

    /// Hands what a client sent to the backends that listen; if none takes it, the client is told.
    fn forward(&mut self, forward: &Forward, post: &mut impl Post) {
        let connection = forward.connection.to_string();
        let received_at = time::millis(forward.received.unix_ms());
        let received = Received {
            user: (!forward.user.is_empty()).then_some(&*forward.user),
            connection: &connection,
            app: forward.app,
            event: &forward.event,
            data: forward.data.as_bytes(),
            received_at: &received_at,
        };
        let mut heard = Vec::new();
        for (key, publisher) in &mut self.publishers {
            let Some(publisher) = publisher else { continue };
            // One that does not read what it listens for gets no more until it does.
            if publisher.hears(&forward.event, forward.app) && publisher.replies.bytes() < UNREAD_BYTES {
                publisher.replies.write(|out| reply::write_received(out, &received));
                heard.push(key);
            }
        }
        if heard.is_empty() {
            return post.post(forward.client.shard, ToShard::Unheard { client: forward.client });
        }
        self.metrics.forwarded.add(1);
        for key in heard {
            self.send(key);
        }
    }

    /// Sends a publisher its answers; lets it go when it is gone, or done.
    fn send(&mut self, key: usize) {
        let Some(publisher) = self.publishers.get_mut(key).and_then(Option::as_mut) else { return };
        if publisher.is_broken || !publisher.send(&mut self.write_scratch) {
            publisher.is_broken = true;
            publisher.is_readable = false;
            // What it said before it failed was said.
            return match publisher.is_used_up() {
                true => self.let_go(key),
                false => self.make_ready(key),
            };
        }
        if !publisher.is_held_back() && (publisher.is_readable || !publisher.is_used_up()) {
            self.make_ready(key);
        }
        self.end_if_over(key);
    }

    /// Lets a publisher go that has said everything and has all its answers.
    fn end_if_over(&mut self, key: usize) {
        let Some(publisher) = self.publisher(key) else { return };
        if !publisher.is_over || !publisher.is_used_up() || !publisher.replies.is_settled() {
            return;
        }
        match &publisher.source {
            Source::Socket(_) => {
                if publisher.replies.out.is_empty() {
                    self.let_go(key);
                }
            }
            Source::Body(reply) => {
                let replies = std::mem::take(&mut publisher.replies.out);
                let result = BodyResult { replies, lines: publisher.lines, errors: publisher.errors };
                // Who asked may have given up waiting.
                let _ = reply.send(result);
                self.let_go(key);
            }
        }
    }

    fn let_go(&mut self, key: usize) {
        if let Some(publisher) = self.publishers.try_remove(key).flatten()
            && let Source::Socket(mut transport) = publisher.source
        {
            // The peer may have gone already.
            let _ = transport.shutdown_write();
            self.metrics.ingest_connections.sub(1);
        }
    }

    /// What time brings: users whose grace is over, what is kept for longer than it should be.
    pub fn tick(&mut self, now: Now, post: &mut impl Post) {
        while let Some(user) = self.presences.next_gone(now) {
            self.publish_presence(&user, false, now, post);
        }
        self.tick_chat(now);
        if let Some(recovery) = &mut self.recovery {
            recovery.sessions.expire(now);
            recovery.histories.sweep(&mut self.rooms, now);
            self.metrics.recoverable_sessions.set(recovery.sessions.len() as u64);
            self.metrics.history_bytes.set(recovery.histories.bytes() as u64);
        }
        self.metrics.known_rooms.set(self.rooms.public() as u64);
        self.metrics.rooms_evicted.set(self.rooms.evicted());
        self.metrics.users_online.set(self.presences.len() as u64);
    }

    /// How long until [`tick`](Router::tick) has something to do.
    pub fn next_tick(&self, now: Now) -> Option<Duration> {
        let gone = self.presences.next_deadline().map(|until| until.saturating_sub(now.mono));
        let again = self.accept_again.then_some(ACCEPT_AGAIN.as_nanos() as u64);
        let over = self.recovery.as_ref().and_then(Recovery::next_deadline);
        let over = over.map(|until| until.saturating_sub(now.mono));
        let chat = self.chat.next_deadline(now).map(|until| until.saturating_sub(now.mono));
        [gone, again, over, chat].into_iter().flatten().min().map(Duration::from_nanos)
    }

    /// Counts a turn in which publishers were not read because a shard could not keep up.
    pub fn count_backpressure(&self, happened: bool) {
        self.metrics.backpressure.add(u64::from(happened));
    }

    /// Whether a publisher has something that could be published now.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}
