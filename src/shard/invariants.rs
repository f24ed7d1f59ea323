//! What holds between two turns, swept in debug builds: the tables of a shard agree with one another.

use crate::shard::client::Client;
use crate::shard::conn::Phase;
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
        let held: usize =
            clients().filter_map(|(_, client)| client.backlog.as_ref()).map(|held| held.bytes()).sum();
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
            if let Phase::WebSocket { client, .. } = conn.phase {
                let owner = self.clients.get(client).map(|client| client.conn);
                assert_eq!(owner, Some(key), "a connection and its client know each other");
            }
        }
    }

    fn check_client(&self, slot: u32, client: &Client) {
        let phase = self.conns.get(client.conn).map(|conn| &conn.phase);
        assert!(
            matches!(phase, Some(Phase::WebSocket { client, .. }) if *client == slot),
            "a client and its connection know each other"
        );
        assert!(client.queue.is_empty(), "lists of chunks do not outlive their turn");
        for membership in &client.memberships {
            let place = self.rooms.get(membership.room).and_then(|room| {
                let group = room.members.groups().find(|group| group.wire == client.wire)?;
                group.clients.get(membership.position as usize).copied()
            });
            assert_eq!(place, Some(slot), "a membership names its place in the room");
        }
        if client.closing.is_some() {
            assert!(client.memberships.is_empty(), "who is closed is in no room");
            return;
        }
        let is_in = |room| client.memberships.iter().any(|membership| membership.room == room);
        assert!(is_in(EVERYONE), "every client is in the room of everyone");
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
        RoomState::Joined => assert!(!room.members.is_empty(), "a room without members is left"),
        RoomState::Joining { waiting, .. } => {
            assert!(room.members.is_empty(), "nobody is in a room before the router has answered");
            assert!(!waiting.is_empty(), "somebody has asked for the room");
        }
    }
}
