//! Turns of shards and of the router: the order within one is that of the loops in `run`.

use std::collections::VecDeque;

use crossbeam_channel::bounded;
use fanfare::mailbox::{ToRouter, ToShard};
use fanfare::room::publication::Publication;
use fanfare::router::Post;
use fanfare::shard::HandedOver;
use fanfare::shard::turn::Command;
use fanfare::time::Now;
use serde_json::Value;

use crate::model::Acknowledged;
use crate::net::{FakeStream, Stamp};
use crate::world::{Member, World};

/// Takes what the router posts.
enum Poster<'a> {
    /// For several shards: into their inboxes.
    Lanes(&'a mut [VecDeque<ToShard>]),
    /// For one: straight into it.
    Here(&'a mut Member, Now),
}

impl Post for Poster<'_> {
    fn post(&mut self, shard: u8, message: ToShard) {
        match self {
            Poster::Lanes(inboxes) => inboxes[usize::from(shard)].push_back(message),
            Poster::Here(member, now) => member.deliver(message, *now),
        }
    }
}

impl Member {
    fn deliver(&mut self, message: ToShard, now: Now) {
        if let ToShard::Event { publication, .. } = &message {
            self.delivered.push(number(publication));
        }
        self.shard.deliver(message, now);
    }

    /// From here on, what is written was written after the shard and the router had come so far.
    fn mark(&self, published: usize, now: Now) {
        let (shard, delivered, mono) = (self.id, self.delivered.len(), now.mono);
        self.stamp.set(Stamp { shard, delivered, published, mono });
    }
}

/// The number that the simulation gave an event.
fn number(publication: &Publication) -> Option<u64> {
    let data: Value = serde_json::from_slice(publication.data()).expect("data is JSON");
    data["n"].as_u64().or_else(|| data["message"]["n"].as_u64())
}

impl World {
    /// A turn of a shard, or, for the last number, of the router. The order within a turn is that of the loops
    /// in `shard::run`.
    pub fn turn(&mut self, actor: usize, is_wild: bool) {
        match (actor == self.shards.len(), self.shards.len()) {
            (true, 1) => {}
            (true, _) => self.router_turn(is_wild),
            (false, 1) => self.turn_alone(is_wild),
            (false, _) => self.shard_turn(actor, is_wild),
        }
    }

    fn dispatch(&mut self, actor: usize, is_wild: bool) {
        let member = &mut self.shards[actor];
        member.mark(self.published.len(), self.clock.get());
        for (key, readable, writable, closed) in member.watched.events() {
            member.shard.socket_event(key, readable, writable, closed);
        }
        if is_wild && self.random.percent(5) {
            // The poll may say something of a connection that has just gone, and whose place another one has.
            let key = self.random.below(4) as u32;
            let writable = self.random.percent(50);
            member.shard.socket_event(key, !writable, writable, false);
        }
        let now = self.clock.get();
        while let Some(command) = member.commands.pop_front() {
            member.shard.command(command, now);
            if is_wild && self.random.percent(10) {
                break;
            }
        }
    }

    /// Connections go to the shards of the sessions that they have requests for.
    fn hand_over(&mut self, handed: Vec<(u8, Box<HandedOver<FakeStream>>)>) {
        self.seen.handed_over += handed.len();
        for (to, handed) in handed {
            self.shards[usize::from(to)].commands.push_back(Command::HandOver(handed));
        }
    }

    fn shard_turn(&mut self, actor: usize, is_wild: bool) {
        self.dispatch(actor, is_wild);
        let now = self.clock.get();
        let most = match is_wild {
            true => *self.random.choose(&[0, 1, 1, 3, 20, 256]),
            false => 256,
        };
        let data_room = if is_wild && self.random.percent(10) { self.random.below(2) } else { 64 };
        let member = &mut self.shards[actor];
        for _ in 0..most {
            if member.shard.is_turn_full() {
                break;
            }
            let Some(message) = self.inboxes[actor].pop_front() else { break };
            member.deliver(message, now);
        }
        member.shard.seal_all();
        member.shard.set_data_room(data_room);
        member.mark(self.published.len(), self.clock.get());
        member.shard.read_ready(now);
        member.shard.fire_timers(now);
        say(member, &mut self.control, &mut self.data);
        member.shard.flush(now);
        say(member, &mut self.control, &mut self.data);
        let handed: Vec<_> = member.shard.handovers().drain(..).collect();
        member.shard.end_turn(now, 0);
        self.hand_over(handed);
    }

    fn router_turn(&mut self, is_wild: bool) {
        let now = self.clock.get();
        let is_clear = self.inboxes.iter().all(|inbox| inbox.len() < self.lane);
        while let Some(message) = self.control.pop_front() {
            self.router.handle(message, now, &mut Poster::Lanes(&mut self.inboxes));
        }
        self.router.tick(now, &mut Poster::Lanes(&mut self.inboxes));
        if !is_clear {
            return;
        }
        let most = if is_wild { self.random.below(4) } else { 64 };
        for _ in 0..most {
            let Some(message) = self.data.pop_front() else { break };
            self.note_client_event(&message);
            self.router.handle(message, now, &mut Poster::Lanes(&mut self.inboxes));
        }
        if is_wild && self.random.percent(60) {
            self.feed();
        }
        self.router.read_publishers();
        self.router.publish_lines(now, &mut Poster::Lanes(&mut self.inboxes));
        assert!(!self.router.has_ready(), "what is fed fits a turn");
    }

    fn turn_alone(&mut self, is_wild: bool) {
        self.dispatch(0, is_wild);
        let now = self.clock.get();
        if is_wild && self.random.percent(50) {
            self.feed();
        }
        self.router.read_publishers();
        self.router.publish_lines(now, &mut Poster::Here(&mut self.shards[0], now));
        let member = &mut self.shards[0];
        member.shard.seal_all();
        member.mark(self.published.len(), self.clock.get());
        member.shard.read_ready(now);
        member.shard.fire_timers(now);
        loop {
            let said = std::mem::take(self.shards[0].shard.outgoing());
            if said.is_empty() {
                break;
            }
            for message in said {
                self.note_client_event(&message);
                self.router.handle(message, now, &mut Poster::Here(&mut self.shards[0], now));
            }
        }
        let member = &mut self.shards[0];
        self.router.tick(now, &mut Poster::Here(member, now));
        member.mark(self.published.len(), self.clock.get());
        member.shard.flush(now);
        member.shard.end_turn(now, 0);
        assert!(member.shard.handovers().is_empty(), "there is nobody else to hand a connection to");
    }

    /// What a client publishes takes its place in the router's order now.
    fn note_client_event(&mut self, message: &ToRouter) {
        if let ToRouter::Publish { publication, .. } = message {
            let number = number(publication).expect("clients number what they publish");
            let published = self.said.remove(&number).expect("a client has said this once");
            self.published.push(published);
        }
    }

    /// A backend publishes some lines.
    fn feed(&mut self) {
        let mut body = String::new();
        let mut acknowledged = Vec::new();
        for _ in 0..self.random.between(1, 12) {
            let (line, published) = crate::script::line(self);
            let Some(mut line) = line.as_object().cloned() else { continue };
            let target = published.as_ref().map(|published| published.target.clone());
            if let (Some(target), true) = (&target, self.random.percent(40)) {
                let target = format!("{target:?}");
                let (id, is_new) = match self.used_ids.iter().rev().find(|(known, ..)| *known == target) {
                    Some((_, id, used))
                        if used + 100_000_000_000 > self.clock.get().mono && self.random.percent(10) =>
                    {
                        (id.clone(), false)
                    }
                    _ => {
                        self.next_id += 1;
                        (format!("id-{}", self.next_id), true)
                    }
                };
                line.insert("id".into(), Value::from(&*id));
                acknowledged.push(match is_new {
                    true => Acknowledged::Publish { id: id.clone(), position: self.published.len() },
                    false => Acknowledged::Duplicate { id: id.clone() },
                });
                if is_new {
                    self.used_ids.push((target, id, self.clock.get().mono));
                } else {
                    body.push_str(&Value::from(line).to_string());
                    body.push('\n');
                    continue;
                }
            }
            if published.is_none() {
                acknowledged.push(Acknowledged::Operation);
            }
            self.published.extend(published);
            body.push_str(&Value::from(line).to_string());
            body.push('\n');
        }
        let (sender, receiver) = bounded(1);
        self.router.publish_body(body.into_bytes(), sender);
        self.bodies.push((receiver, acknowledged));
    }
}

/// What a shard has to say to the router goes onto the lanes.
fn say(member: &mut Member, control: &mut VecDeque<ToRouter>, data: &mut VecDeque<ToRouter>) {
    for message in member.shard.outgoing().drain(..) {
        match message.is_data() {
            true => data.push_back(message),
            false => control.push_back(message),
        }
    }
}
