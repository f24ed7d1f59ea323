//! Shards, a router, clients and backends in one thread, over a network and a clock that are made up.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use fanfare::app::AppSettings;
use fanfare::audience::App;
use fanfare::auth::{Claims, Verifier};
use fanfare::limits::Limits;
use fanfare::mailbox::{ToRouter, ToShard};
use fanfare::metrics::{RouterMetrics, ShardMetrics};
use fanfare::room::pattern::RoomPatterns;
use fanfare::room::publication::Publication;
use fanfare::router::{BodyResult, Post, Router, RouterSettings};
use fanfare::settings::{AuthSettings, Secret, SocketIo};
use fanfare::shard::turn::Command;
use fanfare::shard::{Common, Shard, ShardSettings};
use fanfare::time::Now;
use fanfare::users::Users;
use serde_json::Value;

use crate::client::{Client, End, Kind, Reading};
use crate::model::{Acknowledged, Published, Target};
use crate::net::{FakeNet, FakeStream, Link, Stamp, Watched};
use crate::random::Random;

/// The first moment of every simulation.
const START: Now = Now { mono: 1_000_000_000, unix: 1_760_000_000_000_000_000 };
/// The users. The first is an administrator, who may join every room; the last one's token ends early.
pub const USERS: [&str; 5] = ["admin-0001", "ada-000001", "bob-000001", "17", "late-00001"];
/// When the last user's token ends.
const EARLY: u64 = 40;

/// The keys, and a token for each user; made once, since signing takes longer than a simulation's step.
fn tokens() -> &'static (Arc<Verifier>, Vec<String>) {
    static TOKENS: OnceLock<(Arc<Verifier>, Vec<String>)> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let secret = Secret::new("a secret that is long enough for HS256");
        let verifier = Verifier::new(&AuthSettings { secret, ..AuthSettings::default() }).expect("a key");
        let sign = |user: &&str| {
            let ends = if *user == USERS[4] { EARLY } else { 86_400 };
            let mut more = serde_json::Map::new();
            if *user == USERS[0] {
                more.insert("roles".into(), Value::from(vec!["admin"]));
            }
            let claims = Claims { sub: (*user).into(), exp: START.unix_seconds() + ends, more };
            verifier.sign(&claims).expect("a token")
        };
        let tokens = USERS.iter().map(sign).collect();
        (Arc::new(verifier), tokens)
    })
}

/// A shard and what surrounds it.
pub struct Member {
    shard: Shard<FakeNet>,
    watched: Watched,
    stamp: Rc<Cell<Stamp>>,
    accepted: Vec<FakeStream>,
    pub metrics: Arc<ShardMetrics>,
    /// The numbers of the events that it has taken from the router, in order.
    pub delivered: Vec<Option<u64>>,
}

/// Everything.
pub struct World {
    pub random: Random,
    clock: Rc<Cell<Now>>,
    pub shards: Vec<Member>,
    /// From the router to each shard.
    inboxes: Vec<VecDeque<ToShard>>,
    /// How much of an inbox is filled before the router stops reading publishers.
    lane: usize,
    control: VecDeque<ToRouter>,
    data: VecDeque<ToRouter>,
    pub router: Router,
    pub router_metrics: Arc<RouterMetrics>,
    common: Common,
    pub clients: Vec<Client>,
    /// All events in the router's order.
    pub published: Vec<Published>,
    /// What clients have asked to publish, by number.
    pub said: HashMap<u64, Published>,
    next_number: u64,
    next_id: u64,
    pub bodies: Vec<(Receiver<BodyResult>, Vec<Acknowledged>)>,
    /// Target, id, and when it was used: ids are known for two minutes.
    used_ids: Vec<(String, String, u64)>,
    most_clients: usize,
    pub ended_by_backend: u64,
}

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
    fn mark(&self, published: usize) {
        self.stamp.set(Stamp { delivered: self.delivered.len(), published });
    }
}

/// The number that the simulation gave an event.
fn number(publication: &Publication) -> Option<u64> {
    let data: Value = serde_json::from_slice(publication.data()).expect("data is JSON");
    data["n"].as_u64().or_else(|| data["message"]["n"].as_u64())
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let shards = random.between(1, 4);
        let clock = Rc::new(Cell::new(START));
        let limits = Limits {
            connections_per_user: 0,
            connects_per_user: None,
            control: None,
            pings: None,
            rooms_per_connection: *random.choose(&[6, 1_024, 1_024, 1_024]),
            outbox: *random.choose(&[3_000, 16_000, 100_000, 1 << 20]),
            ..Limits::default()
        };
        let common =
            Common { users: Arc::new(Users::default()), open_sockets: Arc::new(AtomicUsize::new(0)) };
        let settings = RouterSettings::new(RoomPatterns::default(), shards, &limits);
        let shard_settings = Arc::new(ShardSettings {
            app: AppSettings {
                patterns: RoomPatterns::default(),
                control: None,
                grace: Duration::from_secs(5),
            },
            limits,
            apps: [true; App::COUNT],
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            verifier: Arc::clone(&tokens().0),
            anonymous: true,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(60),
            tls: None,
            socketio: SocketIo::default(),
            shards,
            echo: false,
        });
        let members: Vec<Member> = (0..shards)
            .map(|id| {
                let (watched, stamp) = (Watched::default(), Rc::default());
                let metrics = Arc::new(ShardMetrics::default());
                let net =
                    FakeNet { clock: Rc::clone(&clock), watched: watched.clone(), stamp: Rc::clone(&stamp) };
                let (settings, common) = (Arc::clone(&shard_settings), common.clone());
                let shard = Shard::new(id as u8, net, settings, common, Arc::clone(&metrics), START);
                Member { shard, watched, stamp, accepted: Vec::new(), metrics, delivered: Vec::new() }
            })
            .collect();
        let router_metrics = Arc::new(RouterMetrics::default());
        let of_shards = members.iter().map(|member| Arc::clone(&member.metrics)).collect();
        World {
            router: Router::new(settings, Arc::clone(&router_metrics), of_shards),
            router_metrics,
            clock,
            inboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            lane: random.between(4, 64),
            control: VecDeque::new(),
            data: VecDeque::new(),
            shards: members,
            common,
            clients: Vec::new(),
            published: Vec::new(),
            said: HashMap::new(),
            next_number: 1,
            next_id: 1,
            bodies: Vec::new(),
            used_ids: Vec::new(),
            most_clients: random.between(2, 24),
            ended_by_backend: 0,
            random,
        }
    }

    fn now(&self) -> Now {
        self.clock.get()
    }

    pub fn advance(&mut self, by: Duration) {
        self.clock.set(self.now().plus(by));
    }

    /// A number for a new event.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// How far a shard and the router have come.
    pub fn stamp(&self, shard: usize) -> Stamp {
        Stamp { delivered: self.shards[shard].delivered.len(), published: self.published.len() }
    }

    /// One round of everything that may happen, in any order.
    pub fn round(&mut self) {
        let pause = match self.random.percent(3) {
            true => self.random.between(1_000, 20_000),
            false => self.random.below(20),
        };
        self.advance(Duration::from_millis(pause as u64));
        let open = self.clients.iter().filter(|client| client.end.is_none()).count();
        if open < self.most_clients && self.random.percent(30) {
            self.connect();
        }
        for client in 0..self.clients.len() {
            if self.random.percent(20) {
                self.act(client);
            }
            self.transfer(client);
        }
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
        for client in &mut self.clients {
            client.reading = Reading::Fast;
        }
        let mut quiet = 0;
        for _ in 0..5_000 {
            self.advance(Duration::from_millis(10));
            for client in &mut self.clients {
                client.send(usize::MAX);
                client.read(usize::MAX);
            }
            for actor in 0..=self.shards.len() {
                self.turn(actor, false);
            }
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            if quiet > 3 {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn is_quiet(&self) -> bool {
        let is_still = |client: &Client| {
            let link = client.link.borrow();
            client.end.is_some()
                || client.has_sent_all()
                    && link.to_client.is_empty()
                    && (link.to_server.is_empty() || link.server_dropped)
        };
        self.inboxes.iter().all(VecDeque::is_empty)
            && self.control.is_empty()
            && self.data.is_empty()
            && self.clients.iter().all(is_still)
            && self.shards.iter().all(|member| {
                !member.shard.has_ready() && !member.shard.has_overflowed() && member.accepted.is_empty()
            })
            && !self.router.has_ready()
    }

    /// All clients end, by their own will or at the server's word.
    pub fn end(&mut self) {
        if self.random.percent(50) {
            for client in &mut self.clients {
                client.leaving |= client.end.is_some();
            }
            for member in &mut self.shards {
                member.shard.command(Command::Drain(Duration::from_secs(1)), self.clock.get());
            }
        } else {
            for client in 0..self.clients.len() {
                if self.clients[client].end.is_none() {
                    self.leave(client);
                }
            }
        }
        for _ in 0..40 {
            self.advance(Duration::from_millis(200));
            for client in &mut self.clients {
                client.send(usize::MAX);
                client.read(usize::MAX);
            }
            for actor in 0..=self.shards.len() {
                self.turn(actor, false);
            }
        }
        self.common.users.sweep(self.now().plus(Duration::from_secs(86_400)).mono);
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
    }

    fn connect(&mut self) {
        let shard = self.random.below(self.shards.len());
        let kind = if self.random.percent(25) { Kind::Account } else { Kind::Market };
        let user = match kind == Kind::Market && self.random.percent(10) {
            true => None,
            false => Some(self.random.below(USERS.len())),
        };
        let is_over = self.now().unix_seconds() + 6 > START.unix_seconds() + EARLY;
        let user = user.map(|user| if user == 4 && is_over { 1 } else { user });
        let capacity = *self.random.choose(&[1_500, 4_096, 65_536, 262_144]);
        let link = Rc::new(RefCell::new(Link::new(capacity)));
        let name = user.map(|user| USERS[user].to_owned());
        let mut client = Client::new(shard, name, kind, Rc::clone(&link));
        client.open(user.map(|user| &*tokens().1[user]));
        if self.random.percent(20) {
            client.reading = Reading::Slow;
        }
        self.clients.push(client);
        self.common.open_sockets.fetch_add(1, Ordering::AcqRel);
        self.shards[shard].accepted.push(FakeStream(link));
    }

    /// Bytes move between a client and its shard.
    fn transfer(&mut self, client: usize) {
        let (random, client) = (&mut self.random, &mut self.clients[client]);
        let most = if random.percent(30) { random.between(1, 40) } else { usize::MAX };
        if random.percent(80) {
            client.send(most);
        }
        if random.percent(4) {
            client.link.borrow_mut().short_write = Some(random.below(300));
        }
        if random.percent(4) {
            client.reading = *random.choose(&[Reading::Fast, Reading::Fast, Reading::Slow, Reading::Stopped]);
        }
        match client.reading {
            Reading::Fast => client.read(usize::MAX),
            Reading::Slow if random.percent(30) => client.read(random.between(1, 400)),
            Reading::Slow | Reading::Stopped => {}
        }
    }

    /// Ends a client in one of the ways that clients end.
    pub fn leave(&mut self, client: usize) {
        let client = &mut self.clients[client];
        match self.random.below(3) {
            0 if client.is_open() => {
                client.leaving = true;
                let code: &[u8] = if self.random.percent(50) { &[3, 232] } else { &[] };
                client.frame(0x88, code);
            }
            1 => client.vanish(true),
            _ => client.vanish(false),
        }
    }

    /// A turn of a shard, or, for the last number, of the router. The order within a turn is that of the loops
    /// in `shard::run`.
    fn turn(&mut self, actor: usize, is_wild: bool) {
        match (actor == self.shards.len(), self.shards.len()) {
            (true, 1) => {}
            (true, _) => self.router_turn(is_wild),
            (false, 1) => self.turn_alone(is_wild),
            (false, _) => self.shard_turn(actor, is_wild),
        }
    }

    fn dispatch(&mut self, actor: usize, is_wild: bool) {
        let member = &mut self.shards[actor];
        member.mark(self.published.len());
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
        for stream in member.accepted.drain(..) {
            let peer = std::net::Ipv4Addr::LOCALHOST.into();
            member.shard.command(Command::Accept { stream, peer, is_surplus: false }, now);
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
        member.mark(self.published.len());
        member.shard.read_ready(now);
        member.shard.fire_timers(now);
        say(member, &mut self.control, &mut self.data);
        member.shard.flush(now);
        say(member, &mut self.control, &mut self.data);
        member.shard.end_turn(now, 0);
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
        member.mark(self.published.len());
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
        member.mark(self.published.len());
        member.shard.flush(now);
        member.shard.end_turn(now, 0);
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

    /// A client does something.
    fn act(&mut self, client: usize) {
        if self.clients[client].is_open() {
            crate::script::act(self, client);
        } else if self.clients[client].end.is_none() && self.random.percent(2) {
            // Before the upgrade is answered, or while it ends.
            self.clients[client].vanish(true);
        }
    }

    /// What the streams of clients ended with.
    pub fn check_ends(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            if client.end == Some(End::Torn) {
                let link = client.link.borrow();
                assert!(
                    client.leaving || link.was_blocked,
                    "client {index} was cut off inside a frame, though it has always read"
                );
            }
        }
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

impl Target {
    /// The room whose offsets count the events of this target.
    pub fn counted_as(&self) -> String {
        match self {
            Target::Room(name) => name.clone(),
            Target::User(name) => format!("user:{name}"),
            Target::All | Target::Alerts => String::new(),
        }
    }
}
