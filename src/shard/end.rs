//! How clients and connections end: everything they had is given back, and counted once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::app::{self, Input};
use crate::close::CloseReason;
use crate::mailbox::ToRouter;
use crate::proto::ws;
use crate::shard::admit::Refusal;
use crate::shard::conn::{NO_ENGINE, Owner, Phase};
use crate::shard::engine::Engine;
use crate::shard::line::{LineKey, Place};
use crate::shard::wheel::{self, Tick};
use crate::shard::{Net, Shard};
use crate::time::Now;

/// How long a closed client has to take its last bytes.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// How long what still comes from a closed connection is thrown away before it is cut off.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// A drain in progress: the clients are closed a few at a time, so that they do not all come back at once.
pub(super) struct Drain {
    /// The lines of those still to be told, in no order.
    pub lines: Vec<LineKey>,
    /// How many there were.
    pub total: usize,
    /// When it began.
    pub began: Tick,
    /// Over how long they are told.
    pub over: Tick,
}

impl<N: Net> Shard<N> {
    /// The server closes a client: it is told why, what is queued goes out, then the connection ends. A namespace takes its
    /// whole session with it.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, now: Now) {
        if let Some(key) = self.clients.get(slot).map(|client| client.line_key(slot)) {
            self.close_line(key, reason, now);
        }
    }

    /// The server closes whoever has that line.
    pub(super) fn close_line(&mut self, key: LineKey, reason: CloseReason, now: Now) {
        let Some(line) = key.find(&mut self.clients, &mut self.engines) else { return };
        if line.closing.is_some() {
            return;
        }
        // What was published before comes before.
        self.seal_all();
        if reason == CloseReason::SlowConsumer {
            self.metrics.slow_consumers.add(1);
            self.cut_line(key);
        } else {
            for client in self.clients_of(key) {
                self.input(client, Input::Closing(&reason), now);
            }
        }
        match key.place() {
            Place::Client(_) => {
                self.push_to_line(key, |out| ws::write_close(out, reason.code(), reason.text()));
            }
            Place::Engine(engine) => self.say_goodbye(engine, &reason),
        }
        self.begin_end(key, &reason, now);
    }

    /// A slow consumer gets the rest of the frame it has in part, nothing else.
    fn cut_line(&mut self, key: LineKey) {
        let Some(line) = key.find(&mut self.clients, &mut self.engines) else { return };
        if let Some(backlog) = &mut line.backlog {
            let before = backlog.bytes();
            line.has_conflated |= backlog.has_marks();
            backlog.cut_to_frame();
            self.metrics.outbox_bytes.sub((before - backlog.bytes()) as u64);
        }
    }

    /// The clients that share a line.
    fn clients_of(&self, key: LineKey) -> Vec<u32> {
        match key.place() {
            Place::Client(slot) => vec![slot],
            Place::Engine(engine) => self.engines.get(engine).map(Engine::clients).unwrap_or_default(),
        }
    }

    /// The client closes: its close frame is answered (RFC 6455 §5.5.1).
    pub(super) fn client_closes(&mut self, key: LineKey, code: Option<u16>, now: Now) {
        self.seal_all();
        let code = code.unwrap_or(CloseReason::ClientClosed.code());
        self.push_to_line(key, |out| ws::write_close(out, code, ""));
        self.begin_end(key, &CloseReason::ClientClosed, now);
    }

    /// Takes the clients out of everything; only their last bytes are still to go out.
    pub(super) fn begin_end(&mut self, key: LineKey, reason: &CloseReason, now: Now) {
        for client in self.clients_of(key) {
            self.log_end(client, reason, now);
            self.depart(client, reason);
            if let Place::Engine(_) = key.place() {
                self.clients.remove(client);
            }
        }
        let Some(line) = key.find(&mut self.clients, &mut self.engines) else { return };
        if let Some(backlog) = &mut line.backlog {
            backlog.forget_marks();
        }
        line.closing = Some(wheel::tick(now.mono) + wheel::ticks(LAST_BYTES));
        let conn = line.conn;
        match key.place() {
            Place::Client(_) => self.arm(conn, now),
            Place::Engine(engine) => {
                if let Some(engine) = self.engines.get_mut(engine) {
                    engine.namespaces.clear();
                }
                self.arm_engine(engine, now);
                self.end_probe(engine, now);
            }
        }
    }

    /// Gives back all that the client had among others: rooms, user, counts.
    pub(super) fn depart(&mut self, slot: u32, reason: &CloseReason) {
        self.stop_typing(slot);
        self.leave_support(slot);
        if self.is_only_chat(slot)
            && let Some(client) = self.clients.get(slot)
        {
            let user = std::sync::Arc::clone(client.session.user());
            self.outgoing.push(ToRouter::ChatDown { shard: self.id, user });
        }
        let saved = self.leave_behind(slot, reason);
        self.forget_users_own(slot);
        let Some(client) = self.clients.get_mut(slot) else { return };
        if let Some(backlog) = client.line_mut().and_then(|line| line.backlog.as_mut()) {
            backlog.forget_marks();
        }
        let rooms: Vec<u32> = client.memberships.iter().map(|membership| membership.room).collect();
        for room in rooms {
            self.remove_member(room, slot);
            self.rooms.leave_if_empty(self.id, room, &mut self.outgoing);
        }
        if let Some(saved) = saved {
            self.outgoing.push(ToRouter::Save(saved));
        }
        let Some(client) = self.clients.get(slot) else { return };
        let (app, user) = (client.session.app(), std::sync::Arc::clone(client.session.user()));
        let kind = self.kind_of(client) as usize;
        self.metrics.connections[app.index()][kind].sub(1);
        self.metrics.connections_closed[app.index()][kind][reason.index()].add(1);
        if user.is_anonymous() {
            return;
        }
        self.leave_user(slot);
        if self.local_users.remove(&mut self.clients, slot) {
            self.outgoing.push(ToRouter::UserDown { shard: self.id, user });
        }
    }

    /// A client that goes while it types has stopped.
    fn stop_typing(&mut self, slot: u32) {
        if self.clients.get(slot).is_some_and(|client| client.session.alarm().is_some()) {
            // Nobody would try again when the lane has room.
            self.data_room = self.data_room.saturating_add(app::MOST_STOPS);
            let now = self.net.now();
            self.input(slot, Input::Gone, now);
        }
    }

    /// The connection is over: the peer is gone, or there is nothing more to say to it.
    pub(super) fn lost(&mut self, key: u32, reason: CloseReason) {
        let line = match self.conns.get(key).map(|conn| &conn.phase) {
            Some(Phase::WebSocket { owner: Owner::Client(client), .. }) => Some(LineKey::client(*client)),
            Some(Phase::WebSocket { owner: Owner::Engine(engine), .. }) => Some(LineKey::engine(*engine)),
            Some(Phase::Polling(poll)) => Some(LineKey::engine(poll.engine)),
            Some(Phase::Body(body)) if body.engine != NO_ENGINE => Some(LineKey::engine(body.engine)),
            _ => None,
        };
        self.drop_conn(key);
        if let Some(line) = line {
            self.lost_line(line, key, &reason);
        }
    }

    /// A connection of a line is gone.
    fn lost_line(&mut self, line: LineKey, conn: u32, reason: &CloseReason) {
        match line.place() {
            Place::Client(client) => {
                if self.clients.get(client).is_some_and(|client| !client.is_closing()) {
                    self.depart(client, reason);
                }
                self.forget_client(client);
            }
            Place::Engine(engine) => self.lost_engine_conn(engine, conn, reason),
        }
    }

    /// All that was to be said is said: shuts our direction down and waits for the peer to do the same.
    pub(super) fn finish(&mut self, key: LineKey, now: Now) {
        let Some(conn) = key.find(&mut self.clients, &mut self.engines).map(|line| line.conn) else { return };
        if let Place::Engine(engine) = key.place()
            && self.says_farewell(engine)
        {
            return;
        }
        match key.place() {
            Place::Client(client) => self.forget_client(client),
            Place::Engine(engine) => self.forget_engine(engine, now),
        }
        if matches!(self.conns.get(conn).map(|conn| &conn.phase), Some(Phase::WebSocket { .. })) {
            self.linger(conn, now);
        }
    }

    fn forget_client(&mut self, slot: u32) {
        if let Some(mut client) = self.clients.remove(slot)
            && let Some(line) = client.line_mut()
        {
            self.metrics.outbox_bytes.sub(line.held() as u64);
        }
    }

    /// Shuts our direction down and throws away what still comes, so that the peer reads our last bytes.
    pub(super) fn linger(&mut self, key: u32, now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.phase = Phase::Lingering { discarded: 0 };
        conn.received = wheel::tick(now.mono);
        if conn.transport.shutdown_write().is_err() {
            return self.drop_conn(key);
        }
        self.arm(key, now);
    }

    /// Closes the socket.
    pub(super) fn drop_conn(&mut self, key: u32) {
        if self.conns.remove(key).is_some() {
            self.metrics.sockets.sub(1);
            self.common.open_sockets.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Ends a user's connections at a backend's word, and counts them.
    pub(super) fn disconnect(&mut self, user: &str, code: u16, reason: &str, ticket: u64, now: Now) {
        // Several namespaces may share a connection.
        let mut lines: Vec<LineKey> = Vec::new();
        let mut at = self.local_users.first(crate::room::name::hash(user), user);
        while let Some(client) = self.clients.get(at) {
            let line = client.line_key(at);
            if !lines.contains(&line) {
                lines.push(line);
            }
            at = client.next_of_user;
        }
        self.outgoing.push(ToRouter::Count { ticket, count: lines.len() as u32 });
        for line in lines {
            self.close_line(line, CloseReason::Disconnected { code, reason: reason.into() }, now);
        }
    }

    /// Begins to close all clients, spread over `over`; connections without a client end at once.
    pub fn drain(&mut self, over: Duration, now: Now) {
        if self.drain.is_some() {
            return;
        }
        let keys: Vec<u32> = self.conns.keys().collect();
        for key in keys {
            match self.conns.get(key).map(|conn| &conn.phase) {
                // Sessions that poll are told on the connections they use.
                Some(Phase::Head(_)) if self.conns.get(key).is_some_and(|conn| !conn.was_answered) => {
                    self.linger(key, now);
                }
                Some(Phase::Body(_)) => {
                    let refusal = Refusal::full("the server is going away: try again");
                    self.give_up_body(key, &refusal, CloseReason::GoingAway, now);
                }
                _ => {}
            }
        }
        let natives = self
            .clients
            .keys()
            .filter(|slot| self.clients.get(*slot).is_some_and(|client| client.line().is_some()));
        let mut lines: Vec<LineKey> = natives.map(LineKey::client).collect();
        lines.extend(self.engines.keys().map(LineKey::engine));
        let (total, began) = (lines.len(), wheel::tick(now.mono));
        self.drain = Some(Drain { lines, total, began, over: wheel::ticks(over) });
        self.drain_some(now);
    }

    /// Closes as many clients as are due.
    pub(super) fn drain_some(&mut self, now: Now) {
        let Some(drain) = &mut self.drain else { return };
        let elapsed = (wheel::tick(now.mono) - drain.began + 1) as usize;
        let over = drain.over.max(1) as usize;
        // Rounded up: a single client need not wait for the end.
        let told = (drain.total * elapsed.min(over)).div_ceil(over);
        let left = drain.total - told;
        let due = drain.lines.split_off(left.min(drain.lines.len()));
        for line in due {
            self.close_line(line, CloseReason::GoingAway, now);
        }
        if self.engines.is_empty() {
            let keys: Vec<u32> = self.conns.keys().collect();
            for key in keys {
                if matches!(self.conns.get(key).map(|conn| &conn.phase), Some(Phase::Head(_))) {
                    self.linger(key, now);
                }
            }
        }
    }

    /// Whether a drain has been asked for and nothing is left.
    pub fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.lines.is_empty())
            && self.conns.is_empty()
            && self.engines.is_empty()
    }

    fn log_end(&mut self, slot: u32, reason: &CloseReason, now: Now) {
        if !reason.is_abnormal() {
            return;
        }
        let Some(kept_back) = self.log_limit.allow(now) else { return };
        let Some(client) = self.clients.get(slot) else { return };
        let peer = self.peer_of(client).map(|peer| peer.to_string()).unwrap_or_default();
        let labels = client.session.labels();
        let label = |label: Option<&Box<str>>| label.map(ToString::to_string).unwrap_or_default();
        tracing::info!(
            peer,
            app = client.session.app().name(),
            user = %client.session.user().id(),
            connection = %client.session.connection(),
            platform = label(labels.and_then(|labels| labels.platform.as_ref())),
            version = label(labels.and_then(|labels| labels.version.as_ref())),
            device = label(labels.and_then(|labels| labels.device.as_ref())),
            reason = reason.label(),
            code = reason.code(),
            kept_back,
            "closed"
        );
    }
}
