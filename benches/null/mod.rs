//! A shard and its router over sockets that take everything, for measuring what the code itself costs.

#![allow(dead_code, missing_docs, reason = "each program uses its part")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use fanfare::app::AppSettings;
use fanfare::audience::App;
use fanfare::auth::{Claims, Verifier};
use fanfare::limits::Limits;
use fanfare::mailbox::ToShard;
use fanfare::metrics::{RouterMetrics, ShardMetrics};
use fanfare::room::pattern::RoomPatterns;
use fanfare::router::{Post, Router, RouterSettings};
use fanfare::settings::{AuthSettings, Secret, SocketIo};
use fanfare::shard::turn::Command;
use fanfare::shard::{Common, Net, Shard, ShardSettings};
use fanfare::time::Now;
use fanfare::transport::Stream;

/// The first moment.
pub const START: Now = Now { mono: 1_000_000_000, unix: 1_760_000_000_000_000_000 };

thread_local! {
    /// What the sockets have to be read, in the order in which they are.
    static INPUT: RefCell<VecDeque<Vec<u8>>> = const { RefCell::new(VecDeque::new()) };
    static WRITES: Cell<u64> = const { Cell::new(0) };
}

/// As large as a real socket is to the process: a descriptor.
pub struct NullStream {
    _descriptor: u32,
}

impl Stream for NullStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let input = INPUT.with_borrow_mut(VecDeque::pop_front).ok_or(ErrorKind::WouldBlock)?;
        buf[..input.len()].copy_from_slice(&input);
        Ok(input.len())
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        WRITES.set(WRITES.get() + 1);
        Ok(buf.len())
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        WRITES.set(WRITES.get() + 1);
        Ok(bufs.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The network of the one shard.
pub struct NullNet(Rc<Cell<Now>>);

impl Net for NullNet {
    type Stream = NullStream;

    fn now(&self) -> Now {
        self.0.get()
    }

    fn register(&mut self, _: &mut NullStream, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &mut NullStream) -> io::Result<()> {
        Ok(())
    }
}

struct Here<'a>(&'a mut Shard<NullNet>, Now);

impl Post for Here<'_> {
    fn post(&mut self, _: u8, message: ToShard) {
        self.0.deliver(message, self.1);
    }
}

/// A broker of one shard, without threads.
pub struct World {
    shard: Shard<NullNet>,
    router: Router,
    clock: Rc<Cell<Now>>,
    verifier: Arc<Verifier>,
    next: u32,
}

impl World {
    /// Without connections.
    pub fn new() -> World {
        let limits = Limits {
            connections_per_user: 0,
            connects_per_user: None,
            control: None,
            pings: None,
            ..Limits::default()
        };
        let secret = Secret::new("a secret that is long enough for HS256");
        let verifier = Verifier::new(&AuthSettings { secret, ..AuthSettings::default() });
        let verifier = Arc::new(verifier.expect("a secret is all that is needed"));
        let clock = Rc::new(Cell::new(START));
        let settings = RouterSettings::new(RoomPatterns::default(), 1, &limits);
        let shard_settings = ShardSettings {
            app: AppSettings { control: None, grace: Duration::from_secs(30), ..AppSettings::default() },
            limits,
            apps: [true; App::COUNT],
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            verifier: Arc::clone(&verifier),
            anonymous: false,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(60),
            tls: None,
            socketio: SocketIo::default(),
            shards: 1,
            page: false,
            echo: false,
        };
        let common = Common::default();
        let metrics = Arc::new(ShardMetrics::default());
        let net = NullNet(Rc::clone(&clock));
        let shard = Shard::new(0, net, Arc::new(shard_settings), common, Arc::clone(&metrics), START);
        let router = Router::new(settings, Arc::new(RouterMetrics::default()), vec![metrics]);
        World { shard, router, clock, verifier, next: 0 }
    }

    pub fn advance(&mut self, by: Duration) {
        self.clock.set(self.clock.get().plus(by));
    }

    pub fn connections(&self) -> usize {
        self.shard.connections()
    }

    pub fn writes(&self) -> u64 {
        WRITES.get()
    }

    /// Connects a user of its own, who joins these rooms; `market` over `/feed`.
    pub fn connect(&mut self, rooms: &[String]) {
        let key = self.next;
        self.next += 1;
        let claims = Claims { sub: format!("user-{key:08}"), exp: 4_000_000_000, more: Default::default() };
        let token = self.verifier.sign(&claims).expect("a secret signs");
        let head = format!(
            "GET /feed HTTP/1.1\r\nHost: null\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        let now = self.clock.get();
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let accept = Command::Accept { stream: NullStream { _descriptor: key }, peer, is_surplus: false };
        self.shard.command(accept, now);
        self.say(key, head.into_bytes());
        self.turn();
        if !rooms.is_empty() {
            let mut frames = Vec::new();
            for room in rooms {
                frame(&mut frames, &format!("{{\"event\":\"join_room\",\"data\":{{\"room\":\"{room}\"}}}}"));
            }
            self.say(key, frames);
            self.turn();
        }
    }

    fn say(&mut self, key: u32, bytes: Vec<u8>) {
        INPUT.with_borrow_mut(|input| input.push_back(bytes));
        self.shard.socket_event(key, true, false, false);
    }

    /// Publishes lines in the next turn.
    pub fn publish(&mut self, lines: &str) {
        let (sender, _) = bounded(1);
        self.router.publish_body(lines.as_bytes().to_vec(), sender);
    }

    /// One turn, as in `shard::run::run_alone`.
    pub fn turn(&mut self) {
        let now = self.clock.get();
        self.router.read_publishers();
        self.router.publish_lines(now, &mut Here(&mut self.shard, now));
        self.shard.seal_all();
        self.shard.read_ready(now);
        self.shard.fire_timers(now);
        while !self.shard.outgoing().is_empty() {
            for message in std::mem::take(self.shard.outgoing()) {
                self.router.handle(message, now, &mut Here(&mut self.shard, now));
            }
        }
        self.router.tick(now, &mut Here(&mut self.shard, now));
        self.shard.flush(now);
        self.shard.end_turn(now, 0);
    }
}

/// A masked text frame of less than 126 bytes.
fn frame(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 126);
    out.extend_from_slice(&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
    out.extend_from_slice(text.as_bytes());
}

/// A line that publishes 150 bytes of data to a room.
pub fn line(room: &str, number: usize) -> String {
    let data =
        format!("{{\"n\":{},\"symbol\":\"BTC-USDC\",\"pad\":\"{}\"}}", number + 10_000_000, "x".repeat(101));
    format!("{{\"room\":\"{room}\",\"event\":\"price_update\",\"data\":{data}}}\n")
}
