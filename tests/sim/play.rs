//! What happens in a simulation, round after round; how it comes to rest, and how it ends.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare::shard::turn::Command;

use crate::client::Client;
use crate::log::End;
use crate::socketio::visitor::{Pace, Visitor};
use crate::world::World;

impl World {
    /// One round of everything that may happen, in any order.
    pub fn round(&mut self) {
        let pause = match self.random.percent(3) {
            true => self.random.between(1_000, 20_000),
            false => self.random.below(20),
        };
        self.advance(Duration::from_millis(pause as u64));
        let open = self.clients.iter().filter(|client| self.logs[client.log].end.is_none()).count();
        if open < self.most_clients && self.random.percent(30) {
            self.connect();
        }
        for client in 0..self.clients.len() {
            if self.random.percent(20) {
                self.act(client);
            }
            let client = &mut self.clients[client];
            client.transfer(&mut self.logs[client.log], Some(&mut self.random));
        }
        self.step_visitors(Pace::Wild);
        let actors = self.shards.len() + 1;
        let first = self.random.below(actors);
        for actor in (0..actors).map(|actor| (actor + first) % actors) {
            if self.random.percent(70) {
                self.turn(actor, true);
            }
        }
    }

    /// Lets everything go on, with nothing new and everybody reading, until nothing moves any more.
    pub fn settle(&mut self) {
        self.step_visitors(Pace::Settle);
        let mut quiet = 0;
        for _ in 0..5_000 {
            self.advance(Duration::from_millis(10));
            self.step(Pace::Tame);
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            if quiet > 3 {
                return self.note_blocked();
            }
        }
        for (index, visitor) in self.visitors.iter().enumerate().filter(|(_, visitor)| !visitor.is_still()) {
            eprintln!("visitor {index}: {visitor:?}");
        }
        panic!("it does not come to rest");
    }

    fn is_quiet(&self) -> bool {
        let is_still = |client: &Client| self.logs[client.log].end.is_some() || client.pipe.is_still();
        self.inboxes.iter().all(VecDeque::is_empty)
            && self.control.is_empty()
            && self.data.is_empty()
            && self.clients.iter().all(is_still)
            && self.visitors.iter().all(Visitor::is_still)
            && self.shards.iter().all(|member| {
                !member.shard.has_ready() && !member.shard.has_overflowed() && member.commands.is_empty()
            })
            && !self.router.has_ready()
    }

    /// One step of everybody's, with nothing left to chance.
    fn step(&mut self, pace: Pace) {
        for client in &mut self.clients {
            client.transfer(&mut self.logs[client.log], None);
        }
        self.step_visitors(pace);
        for actor in 0..=self.shards.len() {
            self.turn(actor, false);
        }
    }

    fn step_visitors(&mut self, pace: Pace) {
        for index in 0..self.visitors.len() {
            let mut visitor = std::mem::take(&mut self.visitors[index]);
            visitor.step(self, pace);
            self.visitors[index] = visitor;
        }
    }

    /// Notes whose socket was full at times.
    fn note_blocked(&mut self) {
        for client in &self.clients {
            self.logs[client.log].was_blocked |= client.pipe.link.borrow().was_blocked;
        }
    }

    /// All clients end, by their own will or at the server's word.
    pub fn end(&mut self) {
        if self.random.percent(50) {
            for log in &mut self.logs {
                log.leaving |= log.end.is_some();
            }
            for member in &mut self.shards {
                member.shard.command(Command::Drain(Duration::from_secs(1)), self.clock.get());
            }
        } else {
            for client in 0..self.clients.len() {
                if self.logs[self.clients[client].log].end.is_none() {
                    self.leave(client);
                }
            }
            self.step_visitors(Pace::Leave);
        }
        for _ in 0..40 {
            self.advance(Duration::from_millis(200));
            self.step(Pace::Ending);
        }
        // Who has left without a word is found out, and what is kept for those who might come back is given up.
        for _ in 0..30 {
            self.advance(Duration::from_secs(10));
            self.step(Pace::Ending);
        }
        self.common.users.sweep(self.now().plus(Duration::from_secs(86_400)).mono);
    }

    /// Ends a client in one of the ways that clients end.
    fn leave(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let log = &mut self.logs[client.log];
        match self.random.below(3) {
            0 if log.is_open() => {
                log.leaving = true;
                let code: &[u8] = if self.random.percent(50) { &[3, 232] } else { &[] };
                client.pipe.frame(0x88, code);
            }
            1 => client.vanish(log, true),
            _ => client.vanish(log, false),
        }
    }

    /// A client does something.
    fn act(&mut self, client: usize) {
        let log = self.clients[client].log;
        if self.logs[log].is_open() {
            if self.random.percent(3) {
                return self.leave(client);
            }
            let (event, data) = self.request(log);
            self.clients[client].say(self.logs[log].kind, event, &data, &mut self.random);
        } else if self.logs[log].end.is_none() && self.random.percent(2) {
            // Before the upgrade is answered, or while it ends.
            self.clients[client].vanish(&mut self.logs[log], true);
        }
    }

    /// What the streams of clients ended with.
    pub fn check_ends(&self) {
        for client in &self.clients {
            let log = &self.logs[client.log];
            if log.end == Some(End::Torn) {
                assert!(
                    log.leaving || client.pipe.link.borrow().was_blocked,
                    "client {} was cut off inside a frame, though it has always read",
                    client.log
                );
            }
        }
    }

    /// Everything that was taken has been given back.
    pub fn check_empty(&self) {
        for (id, member) in self.shards.iter().enumerate() {
            let metrics = &member.metrics;
            let connections: u64 =
                metrics.connections.iter().flatten().map(|connections| connections.get()).sum();
            let gauges = [
                ("connections", connections),
                ("sockets", metrics.sockets.get()),
                ("subscriptions", metrics.subscriptions.get()),
                ("rooms", metrics.rooms.get()),
                ("engines", metrics.engines.get()),
                ("outbox_bytes", metrics.outbox_bytes.get()),
                ("conns", member.shard.connections() as u64),
                ("watched", {
                    member.watched.events();
                    member.watched.len()
                } as u64),
            ];
            for (name, value) in gauges {
                assert_eq!(value, 0, "{name} of shard {id} after the end of all clients");
            }
            let opened: u64 = metrics.connections_opened.iter().flatten().map(|count| count.get()).sum();
            let closed: u64 =
                metrics.connections_closed.iter().flatten().flatten().map(|count| count.get()).sum();
            assert_eq!(opened, closed, "clients opened and closed on shard {id}");
        }
        assert_eq!(self.common.open_sockets.load(Ordering::Acquire), 0, "open sockets");
        assert_eq!(self.common.users.sizes().0, 0, "users");
        assert_eq!(self.router_metrics.users_online.get(), 0, "users online");
        assert_eq!(self.router_metrics.recoverable_sessions.get(), 0, "sessions that may be recovered");
        assert_eq!(self.router_metrics.history_bytes.get(), 0, "histories");
    }
}
