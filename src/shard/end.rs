//! How clients and connections end: everything they had is given back, and counted once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::app::Input;
use crate::audience::TransportKind;
use crate::close::CloseReason;
use crate::mailbox::ToRouter;
use crate::proto::ws;
use crate::shard::conn::Phase;
use crate::shard::wheel::{self, Tick};
use crate::shard::{Net, Shard};
use crate::time::Now;

/// How long a closed client has to take its last bytes.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// How long what still comes from a closed connection is thrown away before it is cut off.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// A drain in progress: the clients are closed a few at a time, so that they do not all come back at once.
pub(super) struct Drain {
    /// The clients still to be told, in no order.
    pub clients: Vec<u32>,
    /// How many there were.
    pub total: usize,
    /// When it began.
    pub began: Tick,
    /// Over how long they are told.
    pub over: Tick,
}

impl<N: Net> Shard<N> {
    /// The server closes a client: it is told why, what is queued goes out, then the connection ends.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, now: Now) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.closing.is_some() {
            return;
        }
        // What was published before comes before.
        self.seal_all();
        let Some(client) = self.clients.get_mut(slot) else { return };
        if reason == CloseReason::SlowConsumer {
            self.metrics.slow_consumers.add(1);
            if let Some(backlog) = &mut client.backlog {
                let before = backlog.bytes();
                backlog.cut_to_frame();
                self.metrics.outbox_bytes.sub((before - backlog.bytes()) as u64);
            }
        } else {
            self.input(slot, Input::Closing(&reason), now);
        }
        self.push_frames(slot, |out| ws::write_close(out, reason.code(), reason.text()));
        self.begin_end(slot, &reason, now);
    }

    /// The client closes: its close frame is answered (RFC 6455 §5.5.1).
    pub(super) fn client_closes(&mut self, slot: u32, code: Option<u16>, now: Now) {
        self.seal_all();
        self.push_frames(slot, |out| match code {
            Some(code) => ws::write_close(out, code, ""),
            None => ws::write_close(out, CloseReason::ClientClosed.code(), ""),
        });
        self.begin_end(slot, &CloseReason::ClientClosed, now);
    }

    /// Takes the client out of everything; only its last bytes are still to go out.
    fn begin_end(&mut self, slot: u32, reason: &CloseReason, now: Now) {
        self.log_end(slot, reason, now);
        self.depart(slot, reason);
        let Some(client) = self.clients.get_mut(slot) else { return };
        let key = client.conn;
        client.closing = Some(wheel::tick(now.mono) + wheel::ticks(LAST_BYTES));
        self.arm(key, now);
    }

    /// Gives back all that the client had among others: rooms, user, counts.
    fn depart(&mut self, slot: u32, reason: &CloseReason) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if let Some(backlog) = &mut client.backlog {
            backlog.forget_marks();
        }
        let rooms: Vec<u32> = client.memberships.iter().map(|membership| membership.room).collect();
        for room in rooms {
            self.remove_member(room, slot);
            self.rooms.leave_if_empty(self.id, room, &mut self.outgoing);
        }
        let Some(client) = self.clients.get(slot) else { return };
        let (app, user) = (client.session.app(), std::sync::Arc::clone(client.session.user()));
        let kind = TransportKind::WebSocket as usize;
        self.metrics.connections[app.index()][kind].sub(1);
        self.metrics.connections_closed[app.index()][kind][reason.index()].add(1);
        if user.is_anonymous() {
            return;
        }
        user.leave(app);
        if self.local_users.remove(&mut self.clients, slot) {
            self.outgoing.push(ToRouter::UserDown { shard: self.id, user });
        }
    }

    /// The connection is over: the peer is gone, or there is nothing more to say to it.
    pub(super) fn lost(&mut self, key: u32, reason: CloseReason) {
        if let Some(conn) = self.conns.get(key)
            && let Phase::WebSocket { client, .. } = conn.phase
        {
            if self.clients.get(client).is_some_and(|client| client.closing.is_none()) {
                self.depart(client, &reason);
            }
            self.forget_client(client);
        }
        self.drop_conn(key);
    }

    /// All that was to be said is said: shuts our direction down and waits for the peer to do the same.
    pub(super) fn finish(&mut self, slot: u32, now: Now) {
        let Some(key) = self.clients.get(slot).map(|client| client.conn) else { return };
        self.forget_client(slot);
        self.linger(key, now);
    }

    fn forget_client(&mut self, slot: u32) {
        if let Some(client) = self.clients.remove(slot)
            && let Some(backlog) = client.backlog
        {
            self.metrics.outbox_bytes.sub(backlog.bytes() as u64);
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
        let mut slots = Vec::new();
        let mut at = self.local_users.first(crate::room::name::hash(user), user);
        while let Some(client) = self.clients.get(at) {
            slots.push(at);
            at = client.next_of_user;
        }
        self.outgoing.push(ToRouter::Count { ticket, count: slots.len() as u32 });
        for slot in slots {
            self.close(slot, CloseReason::Disconnected { code, reason: reason.into() }, now);
        }
    }

    /// Begins to close all clients, spread over `over`; connections without a client end at once.
    pub fn drain(&mut self, over: Duration, now: Now) {
        if self.drain.is_some() {
            return;
        }
        let keys: Vec<u32> = self.conns.keys().collect();
        for key in keys {
            if matches!(self.conns.get(key).map(|conn| &conn.phase), Some(Phase::Head(_))) {
                self.linger(key, now);
            }
        }
        let clients: Vec<u32> = self.clients.keys().collect();
        let (total, began) = (clients.len(), wheel::tick(now.mono));
        self.drain = Some(Drain { clients, total, began, over: wheel::ticks(over) });
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
        let due = drain.clients.split_off(left.min(drain.clients.len()));
        for slot in due {
            self.close(slot, CloseReason::GoingAway, now);
        }
    }

    /// Whether a drain has been asked for and nothing is left.
    pub fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.clients.is_empty()) && self.conns.is_empty()
    }

    fn log_end(&mut self, slot: u32, reason: &CloseReason, now: Now) {
        if !reason.is_abnormal() {
            return;
        }
        let Some(kept_back) = self.log_limit.allow(now) else { return };
        let Some(client) = self.clients.get(slot) else { return };
        let peer = self.conns.get(client.conn).map(|conn| conn.peer.to_string()).unwrap_or_default();
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
