//! What holds between two turns, swept in debug builds: the tables of a shard agree with one another.

use crate::shard::client::Client;
use crate::shard::conn::{Owner, Phase};
use crate::shard::engine::Engine;
use crate::shard::line::{NO_CONN, Way};
use crate::shard::rooms::{EVERYONE, LocalRoom, NO_BATCH, RoomState};
use crate::shard::{Net, Shard};

/// Connections up to which every turn is followed by a sweep; beyond, every thousandth is.
const SWEPT_ALWAYS: usize = 256;
const SWEPT_SELDOM: u64 = 1_000;

impl<N: Net> Shard<N> {
    /// Sweeps, if it is time.
    pub(super) fn sweep_invariants(&self) {
        if self.conns.len() <= SWEPT_ALWAYS || self.metrics.turns.get().is_multiple_of(SWEPT_SELDOM) {
            self.check_invariants();
        }
    }

    /// Compares all tables with one another; to be called between two turns.
    ///
    /// # Panics
    /// They do not agree.
    pub fn check_invariants(&self) {
        assert!(
            !self.fanout.has_open() && self.fanout.dirty.is_empty(),
            "a turn ends with nothing to be written"
        );
        assert_eq!(self.metrics.sockets.get(), self.conns.len() as u64, "sockets are counted");
        self.check_conns();
        self.check_rooms();
        let clients = || self.clients.keys().filter_map(|slot| Some((slot, self.clients.get(slot)?)));
        clients().for_each(|(slot, client)| self.check_client(slot, client));
        let engines = || self.engines.keys().filter_map(|slot| Some(&self.engines.get(slot)?.line));
        self.engines.keys().for_each(|slot| self.check_engine(slot));
        let held: usize =
            clients().filter_map(|(_, client)| client.line()).chain(engines()).map(|line| line.held()).sum();
        assert_eq!(self.metrics.outbox_bytes.get(), held as u64, "what is held up is counted");
        let memberships: usize = clients().map(|(_, client)| client.memberships.len()).sum();
        let members: usize =
            self.rooms.keys().filter_map(|room| self.rooms.get(room)).map(|room| room.members.len()).sum();
        assert_eq!(memberships, members, "each membership is one member");
    }

    fn check_conns(&self) {
        for key in self.conns.keys() {
            let Some(conn) = self.conns.get(key) else { continue };
            assert_ne!(conn.armed, 0, "each connection has a deadline");
            if let Phase::WebSocket { owner: Owner::Client(client), .. } = conn.phase {
                let owner = self.clients.get(client).and_then(|client| Some(client.line()?.conn));
                assert_eq!(owner, Some(key), "a connection and its client know each other");
            }
            if let Phase::Polling(poll) = &conn.phase {
                let knows = |engine: &Engine| engine.line.conn == key || engine.posting() == Some(key);
                let is_known = self.engines.get(poll.engine).is_some_and(knows);
                assert!(is_known, "an open poll and its session know each other");
            }
        }
    }

    fn check_client(&self, slot: u32, client: &Client) {
        match &client.way {
            Way::Own(line) => {
                let phase = self.conns.get(line.conn).map(|conn| &conn.phase);
                assert!(
                    matches!(phase, Some(Phase::WebSocket { owner, .. }) if *owner == Owner::Client(slot)),
                    "a client and its connection know each other"
                );
                assert!(line.queue.is_empty(), "lists of chunks do not outlive their turn");
            }
            Way::Engine(engine) => {
                let clients = self.engines.get(*engine).map(Engine::clients).unwrap_or_default();
                assert!(clients.contains(&slot), "a session knows its namespaces");
            }
        }
        for membership in &client.memberships {
            let place = self.rooms.get(membership.room).and_then(|room| {
                let group = room.members.groups().find(|group| group.wire == client.wire)?;
                group.clients.get(membership.position as usize).copied()
            });
            assert_eq!(place, Some(slot), "a membership names its place in the room");
        }
        if client.is_closing() {
            assert!(client.memberships.is_empty(), "who is closed is in no room");
            return;
        }
        let is_in = |room| client.memberships.iter().any(|membership| membership.room == room);
        let is_restoring = client.recovery.as_ref().is_some_and(|recovery| recovery.restoring.is_some());
        assert!(is_in(EVERYONE) != is_restoring, "every client that is connected is in the room of everyone");
        let user = client.session.user();
        if !user.is_anonymous() {
            let mut at = self.local_users.first(user.hash(), user.id());
            while at != slot
                && let Some(other) = self.clients.get(at)
            {
                at = other.next_of_user;
            }
            assert_eq!(at, slot, "a user's list leads to each of its clients");
        }
    }

    fn check_engine(&self, slot: u32) {
        let Some(engine) = self.engines.get(slot) else { return };
        assert!(engine.line.queue.is_empty(), "lists of chunks do not outlive their turn");
        assert_ne!(engine.armed, 0, "each session has a deadline");
        if self.is_polling(slot) {
            let has_poll = engine.line.conn != NO_CONN;
            let waits = engine.line.backlog.is_some();
            assert!(
                has_poll != waits,
                "what there is goes to an open poll, and waits for one if there is none"
            );
        }
        assert!(engine.clients().iter().all(|client| self.clients.get(*client).is_some()));
    }

    fn check_rooms(&self) {
        for slot in self.rooms.keys().filter(|slot| *slot != EVERYONE) {
            let Some(room) = self.rooms.get(slot) else { continue };
            assert_eq!(room.open_batch, NO_BATCH, "no batch outlives its turn");
            assert_eq!(
                self.rooms.find(room.name.hash(), room.name.as_str()),
                Some(slot),
                "a room is found by its name"
            );
            check_state(room);
        }
    }
}

fn check_state(room: &LocalRoom) {
    match &room.state {
        RoomState::Joined => {
            assert!(!room.members.is_empty() || room.held > 0, "a room without members is left")
        }
        // Who has asked for it may be gone, which is seen when the router has answered.
        RoomState::Joining { .. } => {
            assert!(room.members.is_empty(), "nobody is in a room before the router has answered");
        }
    }
}
