//! Shards, a router, clients and backends in one thread, over a network and a clock that are made up.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Receiver;
use fanfare::app::AppSettings;
use fanfare::audience::App;
use fanfare::auth::{Claims, Verifier};
use fanfare::limits::Limits;
use fanfare::mailbox::{ToRouter, ToShard};
use fanfare::metrics::{RouterMetrics, ShardMetrics};
use fanfare::room::pattern::RoomPatterns;
use fanfare::router::{BodyResult, Router, RouterSettings};
use fanfare::settings::{AuthSettings, Secret, SocketIo};
use fanfare::shard::turn::Command;
use fanfare::shard::{Common, Shard, ShardSettings};
use fanfare::time::Now;
use serde_json::Value;

use crate::client::Client;
use crate::log::{Kind, Log};
use crate::model::{Acknowledged, Published};
use crate::net::{FakeNet, FakeStream, Link, Stamp, Watched};
use crate::pipe::{Pipe, Reading};
use crate::random::Random;
use crate::script;
use crate::socketio::Seen;
use crate::socketio::visitor::Visitor;

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
    pub id: usize,
    pub shard: Shard<FakeNet>,
    pub watched: Watched,
    pub stamp: Rc<Cell<Stamp>>,
    /// What it is to be told next.
    pub commands: VecDeque<Command<FakeStream>>,
    pub metrics: Arc<ShardMetrics>,
    /// The numbers of the events that it has taken from the router, in order.
    pub delivered: Vec<Option<u64>>,
}

/// Everything.
pub struct World {
    pub random: Random,
    pub clock: Rc<Cell<Now>>,
    pub shards: Vec<Member>,
    /// From the router to each shard.
    pub inboxes: Vec<VecDeque<ToShard>>,
    /// How much of an inbox is filled before the router stops reading publishers.
    pub lane: usize,
    pub control: VecDeque<ToRouter>,
    pub data: VecDeque<ToRouter>,
    pub router: Router,
    pub router_metrics: Arc<RouterMetrics>,
    pub common: Common,
    /// The lives of all clients, of either kind.
    pub logs: Vec<Log>,
    /// Those on WebSockets of their own.
    pub clients: Vec<Client>,
    /// Those of Socket.IO.
    pub visitors: Vec<Visitor>,
    /// Connections on which a next request may be sent, by whomever, as over a proxy.
    pub idle: Vec<Pipe>,
    /// Clients that may be connected, and were cut off before they were told.
    pub unanswered: usize,
    /// What is seen of Socket.IO.
    pub seen: Seen,
    /// The most bytes a client may hold up.
    pub outbox: usize,
    /// Users whose connections a backend has ended.
    pub sent_away: HashSet<String>,
    /// All events in the router's order.
    pub published: Vec<Published>,
    /// What clients have asked to publish, by number.
    pub said: HashMap<u64, Published>,
    next_number: u64,
    pub next_id: u64,
    pub bodies: Vec<(Receiver<BodyResult>, Vec<Acknowledged>)>,
    /// Target, id, and when it was used: ids are known for two minutes.
    pub used_ids: Vec<(String, String, u64)>,
    pub most_clients: usize,
    pub ended_by_backend: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let shards = random.between(1, 4);
        let clock = Rc::new(Cell::new(START));
        let outbox = *random.choose(&[3_000, 16_000, 100_000, 1 << 20]);
        let limits = Limits {
            connections_per_user: 0,
            connects_per_user: None,
            control: None,
            pings: None,
            rooms_per_connection: *random.choose(&[6, 1_024, 1_024, 1_024]),
            outbox,
            ..Limits::default()
        };
        let common = Common::default();
        let socketio = SocketIo::default();
        let settings = RouterSettings {
            recovery: socketio.recovery,
            ..RouterSettings::new(RoomPatterns::default(), shards, &limits)
        };
        let shard_settings = Arc::new(ShardSettings {
            app: AppSettings { control: None, grace: Duration::from_secs(5), ..AppSettings::default() },
            limits,
            apps: [true; App::COUNT],
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            verifier: Arc::clone(&tokens().0),
            anonymous: true,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(60),
            tls: None,
            socketio,
            shards,
            page: false,
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
                Member {
                    id,
                    shard,
                    watched,
                    stamp,
                    commands: VecDeque::new(),
                    metrics,
                    delivered: Vec::new(),
                }
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
            logs: Vec::new(),
            clients: Vec::new(),
            visitors: (0..random.below(7)).map(|_| Visitor::default()).collect(),
            idle: Vec::new(),
            unanswered: 0,
            seen: Seen::default(),
            outbox,
            sent_away: HashSet::new(),
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

    pub fn now(&self) -> Now {
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
        let delivered = self.shards[shard].delivered.len();
        Stamp { shard, delivered, published: self.published.len(), mono: self.now().mono }
    }

    /// Somebody, or nobody: the number of a user.
    pub fn choose_user(&mut self) -> Option<usize> {
        let user = self.random.below(USERS.len());
        let is_over = self.now().unix_seconds() + 6 > START.unix_seconds() + EARLY;
        (!self.random.percent(8)).then_some(if user == 4 && is_over { 1 } else { user })
    }

    /// A connection to a shard: the client's end of it.
    pub fn dial(&mut self, shard: usize) -> Pipe {
        let capacity = *self.random.choose(&[1_500, 4_096, 65_536, 262_144]);
        let link = Rc::new(RefCell::new(Link::new(capacity)));
        self.common.open_sockets.fetch_add(1, Ordering::AcqRel);
        let stream = FakeStream(Rc::clone(&link));
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        self.shards[shard].commands.push_back(Command::Accept { stream, peer, is_surplus: false });
        let mut pipe = Pipe::new(link);
        if self.random.percent(10) {
            pipe.reading = Reading::Slow;
        }
        pipe
    }

    pub fn connect(&mut self) {
        let shard = self.random.below(self.shards.len());
        let kind = if self.random.percent(25) { Kind::Account } else { Kind::Market };
        let user = match kind {
            Kind::Account => Some(self.choose_user().unwrap_or(1)),
            Kind::Market => self.choose_user(),
        };
        self.logs.push(Log::new(shard, user.map(|user| USERS[user].to_owned()), kind));
        let mut client = Client { log: self.logs.len() - 1, pipe: self.dial(shard) };
        client.open(kind, user.map(token));
        self.clients.push(client);
    }

    /// A client does what clients do. Returns the event and its data.
    pub fn request(&mut self, log: usize) -> (&'static str, Value) {
        let (number, stamp) = (self.number(), self.stamp(self.logs[log].shard));
        let request = script::request(&mut self.random, &mut self.logs[log], log, number, stamp);
        if let Some(published) = request.said {
            self.said.insert(number, published);
        }
        (request.event, request.data)
    }
}

/// A user's token.
pub fn token(user: usize) -> &'static str {
    &tokens().1[user]
}
