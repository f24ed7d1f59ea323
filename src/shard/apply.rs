//! Carries out what sessions want: answers, joins, leaves, publishes.

use std::sync::Arc;

use crate::app::outputs::{Joining, Text};
use crate::app::{Asked, Context, Input, Output};
use crate::mailbox::{Asker, Forward, ToRouter};
use crate::metrics::LimitKind;
use crate::room::latest::Latest;
use crate::room::members::Membership;
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::{ClientId, Publication};
use crate::shard::client::Client;
use crate::shard::line::{LineKey, Place, Way};
use crate::shard::rooms::{LocalRoom, LocalRooms, RoomState, Waiting};
use crate::shard::{Net, Shard};
use crate::time::Now;

impl<N: Net> Shard<N> {
    /// Hands an input to the session of a client, if it is still there, and carries out what comes of it.
    pub(super) fn session_input(&mut self, client: ClientId, input: Input<'_>, now: Now) {
        if self.clients.get_if(client.slot, client.generation).is_some() {
            self.input(client.slot, input, now);
        }
    }

    /// Hands an input to a session and carries out what comes of it.
    pub(super) fn input(&mut self, slot: u32, input: Input<'_>, now: Now) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.is_closing() {
            return;
        }
        let mut context = Context {
            now,
            settings: &self.settings.app,
            verifier: &self.settings.verifier,
            parser: &mut self.parser,
            out: &mut self.outputs,
            ack: None,
        };
        client.session.handle(input, &mut context);
        let metrics = &self.metrics;
        self.outputs.take_counts(
            |error| metrics.messages_rejected[error.index()].add(1),
            |limit| metrics.rate_limited[limit as usize].add(1),
        );
        let mut list = self.outputs.take();
        for output in list.drain(..) {
            self.apply(slot, output, now);
        }
        self.outputs.give_back(list);
    }

    fn apply(&mut self, slot: u32, output: Output, now: Now) {
        match output {
            Output::Reply(text) => self.reply(slot, &text),
            Output::Join { rooms, confirmation, asked } => self.join(slot, &rooms, &confirmation, asked, now),
            Output::Leave { room, confirmation } => self.leave(slot, &room, &confirmation),
            Output::Personal { on, confirmation } => {
                if let Some(client) = self.clients.get_mut(slot) {
                    client.is_personal = on;
                }
                self.reply(slot, &confirmation);
            }
            Output::Publish { publication, asked, counted, confirmation } => {
                self.publish(slot, publication, asked, counted, &confirmation, now);
            }
            Output::Tell { publication, users, asked } => match self.takes_data() {
                true => self.outgoing.push(ToRouter::Tell { publication: Box::new(publication), users }),
                false => self.input(slot, Input::Busy(asked), now),
            },
            Output::Presence { users, ack } => {
                if let Some(client) = self.clients.get(slot).map(|client| client.session.client()) {
                    self.outgoing.push(ToRouter::Presence { client, users, ack });
                }
            }
            Output::Forward { event, data } => self.forward(slot, event, &data, now),
            Output::Store { ticket, what } => {
                if let Some(client) = self.clients.get(slot).map(|client| client.session.client()) {
                    self.wish(Asker::Client { client, ticket }, what, now);
                }
            }
            Output::Written => {
                let key = self.clients.get(slot).map(|client| client.line_key(slot));
                if let Some(line) = key.and_then(|key| key.find(&mut self.clients, &mut self.engines)) {
                    line.tells_written = true;
                }
            }
            Output::Deadline => match self.clients.get(slot).map(|client| &client.way) {
                Some(Way::Own(line)) => self.arm(line.conn, now),
                Some(Way::Engine(engine)) => self.arm_engine(*engine, now),
                None => {}
            },
            Output::Close(reason) => self.close(slot, reason, now),
            Output::Live(live) => self.live(slot, live),
        }
    }

    fn reply(&mut self, slot: u32, text: &Text) {
        if text.is_empty() {
            return;
        }
        let outputs = std::mem::take(&mut self.outputs);
        self.push_frames(slot, |out| out.extend_from_slice(outputs.text(text)));
        self.outputs = outputs;
    }

    fn join(&mut self, slot: u32, rooms: &[Joining], confirmation: &Text, asked: Asked, now: Now) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let limit = self.settings.limits.rooms_per_connection;
        // The first membership is that of everyone.
        let is_new = |joining: &&Joining| {
            let known = self.rooms.find(joining.room.hash(), joining.room.as_str());
            !known.is_some_and(|room| client.memberships.iter().any(|membership| membership.room == room))
        };
        let new = rooms.iter().filter(is_new).count();
        if new > 0 && client.memberships.len() - 1 + client.joining as usize + new > limit {
            self.metrics.rate_limited[LimitKind::Rooms as usize].add(1);
            return self.input(slot, Input::TooManyRooms(asked), now);
        }
        let id = client.session.client();
        let client_may_return = client.recovery.is_some();
        // The router answers joins in the order they were asked for, so the confirmation waits for the last of them.
        let mut last: Option<(u64, u32)> = None;
        for joining in rooms {
            if client_may_return {
                // Before the join, so that the room's history begins before anything is sent to the client.
                self.rooms.keep_soon(self.id, joining, &mut self.outgoing);
            }
            let room = self.rooms.find_or_join(self.id, &joining.room, joining.policy, &mut self.outgoing);
            let state = self.rooms.get_mut(room).map(|room| &mut room.state);
            if let Some(RoomState::Joining { order, waiting }) = state {
                waiting.push(Waiting { client: id, join: true, confirmation: None });
                last = last.max(Some((*order, room)));
                if let Some(client) = self.clients.get_mut(slot) {
                    client.joining += 1;
                }
                continue;
            }
            let is_new = self.add_member(room, slot);
            // The newest events come after the confirmation.
            if rooms.len() == 1 {
                self.reply(slot, confirmation);
            }
            if is_new {
                self.send_latest(room, slot);
            }
            if rooms.len() == 1 {
                return;
            }
        }
        let Some((_, room)) = last else { return self.reply(slot, confirmation) };
        let text = (!confirmation.is_empty()).then(|| self.outputs.text(confirmation).into());
        if let Some(RoomState::Joining { waiting, .. }) = self.rooms.get_mut(room).map(|room| &mut room.state)
            && let Some(waiting) = waiting.last_mut()
        {
            waiting.confirmation = text;
        }
    }

    /// The router posts the room's events to this shard from here on: whoever waited is let in, in order.
    pub(super) fn joined(&mut self, name: &RoomName, newest: Vec<Arc<Publication>>) {
        let Some(slot) = self.rooms.find(name.hash(), name.as_str()) else { return };
        let Some(room) = self.rooms.get_mut(slot) else { return };
        room.latest = Latest::from_events(newest);
        let RoomState::Joining { waiting, .. } = std::mem::replace(&mut room.state, RoomState::Joined) else {
            return;
        };
        // Older events of this room may stand in the batches of event types: they come before the newest ones.
        self.seal_all();
        for wish in waiting {
            let Some(client) = self.clients.get_if(wish.client.slot, wish.client.generation) else {
                continue;
            };
            client.joining -= u32::from(wish.join);
            if client.is_closing() {
                continue;
            }
            let client = wish.client.slot;
            let is_new = match wish.join {
                true => self.add_member(slot, client),
                false => {
                    self.remove_member(slot, client);
                    false
                }
            };
            if let Some(confirmation) = wish.confirmation {
                self.push_frames(client, |out| out.extend_from_slice(&confirmation));
            }
            if is_new {
                self.send_latest(slot, client);
            }
        }
        self.rooms.leave_if_empty(self.id, slot, &mut self.outgoing);
    }

    /// Sends a newcomer the newest event of each key, if it is for the newcomer's app.
    fn send_latest(&mut self, room: u32, client: u32) {
        let Some(room) = self.rooms.get(room).filter(|room| room.policy == Policy::Latest) else { return };
        let Some(app) = self.clients.get(client).map(|client| client.wire.app()) else { return };
        let is_for = |event: &&Arc<Publication>| event.app.is_none_or(|only| only == app);
        let events: Vec<_> = room.latest.events().iter().filter(is_for).cloned().collect();
        if !events.is_empty() {
            self.push_newest(client, &events);
        }
    }

    /// Adds a client to a room. False if it is in it already.
    pub(super) fn add_member(&mut self, room: u32, slot: u32) -> bool {
        self.seal_room(room);
        let (Some(client), Some(local)) = (self.clients.get_mut(slot), self.rooms.get_mut(room)) else {
            return false;
        };
        if client.memberships.iter().any(|membership| membership.room == room) {
            return false;
        }
        let position = local.members.insert(client.wire, slot);
        client.memberships.push(Membership { room, position });
        if let Some(recovery) = &mut client.recovery {
            recovery.since.push((room, self.sequence));
            local.keep(self.id, &mut self.outgoing);
        }
        if local.name.is_public() {
            self.metrics.subscriptions.add(1);
        }
        true
    }

    /// Takes a client out of a room, if it is in it. The room stays, even if nobody is left.
    pub(super) fn remove_member(&mut self, room: u32, slot: u32) {
        self.seal_room(room);
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Some(index) = client.memberships.iter().position(|membership| membership.room == room) else {
            return;
        };
        let membership = client.memberships.swap_remove(index);
        let (wire, key) = (client.wire, client.line_key(slot));
        let is_kept =
            client.recovery.as_mut().map(|recovery| recovery.since.retain(|(of, _)| *of != room)).is_some();
        if let Some(line) = key.find(&mut self.clients, &mut self.engines) {
            line.has_left = true;
        }
        let left = self.rooms.get(room).map(|local| local.name.hash());
        self.retain_marks(key, left);
        let Some(local) = self.rooms.get_mut(room) else { return };
        if is_kept {
            local.unkeep(self.id, &mut self.outgoing);
            if !local.is_kept() {
                let name = local.name.clone();
                self.keep_for_user(&name);
            }
        }
        let Some(local) = self.rooms.get_mut(room) else { return };
        if local.name.is_public() {
            self.metrics.subscriptions.sub(1);
        }
        let moved = local.members.remove(wire, membership.position);
        if let Some(moved) = moved.and_then(|moved| self.clients.get_mut(moved)) {
            move_membership(moved, room, membership.position);
        }
    }

    /// Forgets the newest values of rooms that nobody on the line is in any more; `left`: of that room only.
    pub(super) fn retain_marks(&mut self, key: LineKey, left: Option<u64>) {
        let is_concerned =
            |event: &Publication| left.is_none_or(|left| [event.name_hash(), event.also].contains(&left));
        let rooms = &self.rooms;
        match key.place() {
            Place::Client(slot) => {
                let Some(client) = self.clients.get_mut(slot) else { return };
                let Way::Own(line) = &mut client.way else { return };
                let Some(backlog) = &mut line.backlog else { return };
                let memberships = &client.memberships;
                backlog.retain_marks(|event| !is_concerned(event) || is_member(memberships, rooms, event));
            }
            Place::Engine(engine) => {
                let Some(session) = self.engines.get_mut(engine) else { return };
                let Some(backlog) = &mut session.line.backlog else { return };
                let (clients, namespaces) = (&self.clients, &session.namespaces);
                let is_in = |event: &Publication| {
                    let mut clients = namespaces.iter().filter_map(|(_, client)| clients.get(*client));
                    clients.any(|client| is_member(&client.memberships, rooms, event))
                };
                backlog.retain_marks(|event| !is_concerned(event) || is_in(event));
            }
        }
    }

    fn leave(&mut self, slot: u32, name: &RoomName, confirmation: &Text) {
        let Some(id) = self.clients.get(slot).map(|client| client.session.client()) else { return };
        let Some(room) = self.rooms.find(name.hash(), name.as_str()) else {
            return self.reply(slot, confirmation);
        };
        if let Some(RoomState::Joining { waiting, .. }) = self.rooms.get_mut(room).map(|room| &mut room.state)
        {
            let text = (!confirmation.is_empty()).then(|| self.outputs.text(confirmation).into());
            waiting.push(Waiting { client: id, join: false, confirmation: text });
            return;
        }
        self.remove_member(room, slot);
        self.rooms.leave_if_empty(self.id, room, &mut self.outgoing);
        self.reply(slot, confirmation);
    }

    fn publish(
        &mut self,
        slot: u32,
        publication: Publication,
        asked: Asked,
        counted: bool,
        confirmation: &Text,
        now: Now,
    ) {
        if !self.takes_data() {
            return self.input(slot, Input::Busy(asked), now);
        }
        let Some(client) = self.clients.get(slot).map(|client| client.session.client()) else { return };
        let counted = asked.ack.filter(|_| counted).map(|ack| (client, ack));
        self.outgoing.push(ToRouter::Publish { publication: Box::new(publication), counted });
        self.reply(slot, confirmation);
    }

    /// Whether the router's data lane takes one more message, which is counted.
    fn takes_data(&mut self) -> bool {
        if self.data_room == 0 {
            self.metrics.rate_limited[LimitKind::Publish as usize].add(1);
            return false;
        }
        self.data_room -= 1;
        true
    }

    fn forward(&mut self, slot: u32, event: Box<str>, data: &Text, now: Now) {
        if !self.takes_data() {
            return self.input(slot, Input::Busy(Asked { event: "message", ack: None }), now);
        }
        let Some(client) = self.clients.get(slot) else { return };
        self.outgoing.push(ToRouter::Forward(Box::new(Forward {
            client: client.session.client(),
            user: client.session.user().id().clone(),
            connection: client.session.connection(),
            app: client.session.app(),
            event,
            data: std::str::from_utf8(self.outputs.text(data)).unwrap_or("null").into(),
            received: now,
        })));
    }
}

/// Whether an event is for one of these memberships.
pub(super) fn is_member(memberships: &[Membership], rooms: &LocalRooms, event: &Publication) -> bool {
    let is_its = |room: &LocalRoom| [event.name_hash(), event.also].contains(&room.name.hash());
    memberships.iter().any(|membership| rooms.get(membership.room).is_some_and(is_its))
}

/// Notes the new position of a client that another one's leaving has moved.
fn move_membership(client: &mut Client, room: u32, position: u32) {
    if let Some(membership) = client.memberships.iter_mut().find(|membership| membership.room == room) {
        membership.position = position;
    }
}
