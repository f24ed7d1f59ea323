//! `GET /ws-stats`: who is connected and types, over all shards, right whatever comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{BASE, agent_token, call, connect, connect_with, feed, next, session};
use crate::support::{Broker, Client, DEADLINE, each_shard_count, eventually, http};

fn stats(broker: &Broker) -> Value {
    call(broker, "ada", "GET", "/ws-stats", Value::Null, 200)
}

#[test]
fn the_numbers_are_those_of_the_document() {
    each_shard_count(|shards| {
        // To look again and again is more than a user may.
        let broker = Broker::start(&[shards, "limits.control = \"off\""]);
        let nobody = json!({ "total_sessions": 0, "total_connections": 0, "average_users_per_session": 0.0, "sessions": {} });
        assert_eq!(stats(&broker), nobody);
        let (one, two) = (session(&broker, "ada", Some("gus")), session(&broker, "eve", None));
        let mut ada = connect(&broker, "ada", &one);
        let gus = connect_with(&broker, &agent_token("gus"), &one);
        let eve = connect(&broker, "eve", &two);
        let second = connect(&broker, "eve", &two);
        // One who is connected to all is connected to none.
        let _all = feed(&broker, "ada");
        ada.text(json!({ "message_type": "typing", "content": "true" }));
        let expected = json!({
            "total_sessions": 2, "total_connections": 4, "average_users_per_session": 1.5,
            "sessions": {
                one.as_str(): { "user_count": 2, "typing_count": 1 },
                two.as_str(): { "user_count": 1, "typing_count": 0 },
            },
        });
        eventually("the numbers", || (stats(&broker) == expected).then_some(()));
        for client in [ada, gus, eve, second] {
            client.close();
        }
        eventually("nobody", || (stats(&broker) == nobody).then_some(()));
    });
}

/// A few random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

const USERS: [&str; 4] = ["ada", "bob", "cleo", "dan"];
/// Connections of one user to one session, at most.
const OWN: usize = 5;

/// A connection that is open, as far as this side knows.
struct Open {
    user: usize,
    session: usize,
    is_typing: bool,
    client: Client,
}

/// What happens to the connections of a few users to a few sessions, and what must come of it.
struct Churn<'a> {
    broker: &'a Broker,
    dice: Dice,
    sessions: Vec<String>,
    open: Vec<Open>,
    /// Sockets of which this side has closed its half: for the server they are gone.
    half: Vec<TcpStream>,
}

impl Churn<'_> {
    fn step(&mut self) {
        let at = self.dice.throw(self.open.len() + 1);
        match self.dice.throw(8) {
            0..=3 => self.come(),
            4 | 5 if at < self.open.len() => self.go(at),
            _ if at < self.open.len() => {
                let one = &mut self.open[at];
                one.is_typing = !one.is_typing;
                one.client.text(json!({ "message_type": "typing", "content": one.is_typing.to_string() }));
            }
            _ => {}
        }
    }

    fn come(&mut self) {
        let (user, session) = (self.dice.throw(USERS.len()), self.dice.throw(self.sessions.len()));
        let own = self.open.iter().filter(|one| (one.user, one.session) == (user, session)).count();
        if own == OWN {
            return;
        }
        let path = format!("{BASE}/ws/{}?token={}", self.sessions[session], agent_token(USERS[user]));
        let stream = http::connect(self.broker.public);
        let half = stream.try_clone().unwrap();
        // The places of those who have gone are free when the server knows that they are.
        let client = match Client::over(stream, "localhost", &path, &[]) {
            Ok(client) => client,
            Err(refusal) => {
                assert_eq!(refusal.status, 429, "{refusal:?}");
                return;
            }
        };
        self.half.push(half);
        self.open.push(Open { user, session, is_typing: false, client });
        // Some are gone before they are counted.
        if self.dice.throw(4) == 0 {
            return self.go(self.open.len() - 1);
        }
        if let Some(one) = self.open.last_mut() {
            one.client.until(|frame| frame["message_type"] == "user_joined");
        }
    }

    fn go(&mut self, at: usize) {
        let (one, half) = (self.open.swap_remove(at), self.half.swap_remove(at));
        match self.dice.throw(4) {
            0 => one.client.close(),
            // Without a word.
            1 => drop(one.client),
            // With half of a frame.
            2 => half.try_clone().unwrap().write_all(&[0x81, 0xfe, 1]).unwrap(),
            // Half-closed: this side goes on listening until the server is done with it.
            _ => {
                half.shutdown(Shutdown::Write).unwrap();
                let mut client = one.client;
                while client.try_frame().is_ok() {}
            }
        }
    }

    /// Counted anew.
    fn recount(&self) -> Value {
        let mut sessions: BTreeMap<&str, [BTreeSet<usize>; 2]> = BTreeMap::new();
        for one in &self.open {
            let [here, typing] = sessions.entry(&self.sessions[one.session]).or_default();
            here.insert(one.user);
            typing.extend(one.is_typing.then_some(one.user));
        }
        let users: usize = sessions.values().map(|[here, _]| here.len()).sum();
        let average = users as f64 / sessions.len().max(1) as f64;
        let counts: BTreeMap<&str, Value> = sessions
            .iter()
            .map(|(id, [here, typing])| {
                (*id, json!({ "user_count": here.len(), "typing_count": typing.len() }))
            })
            .collect();
        json!({
            "total_sessions": sessions.len(), "total_connections": self.open.len(),
            "average_users_per_session": (average * 100.0).round() / 100.0, "sessions": counts,
        })
    }

    /// Nothing more happens: in a moment the numbers are those of a recount.
    fn rest(&mut self) {
        let (expected, until) = (self.recount(), Instant::now() + DEADLINE);
        loop {
            // What types for long stops by itself: it is begun anew before it does.
            for one in self.open.iter_mut().filter(|one| one.is_typing) {
                one.client.text(json!({ "message_type": "typing", "content": "true" }));
            }
            let stats = stats(self.broker);
            if stats == expected {
                return;
            }
            assert!(Instant::now() < until, "{stats} is not the recount {expected}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn the_numbers_are_right_under_churn() {
    each_shard_count(|shards| {
        let limits = [shards, "limits.typing = \"off\"", "limits.control = \"off\""];
        let broker = Broker::start(&limits);
        for seed in [0x2545_F491_4F6C_DD1D, 7, 1_000_003] {
            eprintln!("with the seed {seed}");
            let sessions = USERS.iter().map(|user| session(&broker, user, None)).collect();
            let mut churn =
                Churn { broker: &broker, dice: Dice(seed), sessions, open: Vec::new(), half: Vec::new() };
            for _ in 0..6 {
                (0..40).for_each(|_| churn.step());
                churn.rest();
            }
            while !churn.open.is_empty() {
                churn.go(0);
            }
            churn.rest();
        }
        broker.wait_for_metric("fanfare_connections", &["app=\"support\""], 0.0);
    });
}

#[test]
fn a_broker_that_drains_lets_all_go() {
    let mut broker = Broker::start(&["shards = 3"]);
    let id = session(&broker, "ada", None);
    let mut clients: Vec<Client> = (0..3).map(|_| connect(&broker, "ada", &id)).collect();
    clients[0].text(json!({ "message_type": "text", "content": "bye" }));
    clients.iter_mut().for_each(|client| drop(next(client, "message")));
    broker.signal(rustix::process::Signal::TERM);
    for mut client in clients {
        client.expect_close(1001);
    }
    assert!(broker.wait().success());
}
