//! What conformance suites are run against.
//!
//! ```text
//! cargo run --release --example conformance -- --listen 127.0.0.1:9001
//! pip install kosoku && kosoku 127.0.0.1:9001/echo -x '12.*' -x '13.*'
//! ```
//!
//! | path | |
//! |---|---|
//! | `/echo` | WebSocket (Autobahn's cases): text comes back as text and binary as binary. It is served by the codecs of `fanfare::proto` over blocking sockets, so a case that fails is a fault of the codec. Sections 12 and 13 of the suite are about compression, which is not negotiated |
//! | `/engine.io/` | the Engine.IO protocol's test suite: every message comes back |
//! | `/socket.io/` | the Socket.IO protocol's test suite: the application of `fanfare::app`'s `echo`, in the namespaces `/` and `/custom` |
//!
//! The latter two are served by a shard as the broker has it. With `--recovery` a client that asks for it can come back to
//! its session within 2 s.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use crossbeam_channel::{Sender, bounded};
use fanfare::accept::{Accepted, Acceptor};
use fanfare::app::AppSettings;
use fanfare::audience::App;
use fanfare::auth::Verifier;
use fanfare::limits::Limits;
use fanfare::metrics::{RouterMetrics, ShardMetrics};
use fanfare::proto::ws::{self, Decoder, Message};
use fanfare::proto::{http, upgrade};
use fanfare::room::pattern::RoomPatterns;
use fanfare::router::{Router, RouterSettings};
use fanfare::run::{self, Alarm, Alone, MioNet};
use fanfare::settings::{AuthSettings, Secret, SocketIo};
use fanfare::shard::turn::Command;
use fanfare::shard::{Common, Shard, ShardSettings};
use fanfare::time::Now;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// Largest message on `/echo`: the suite's largest is 16 MiB.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Largest request head.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// Answers are written when so many bytes have gathered, and whenever all that was read is answered.
const WRITE_BYTES: usize = 256 * 1024;
/// How long the peer has to read our close frame and to close.
const LINGER: Duration = Duration::from_secs(2);
/// How the requests begin that stay here.
const ECHO: &[u8; 10] = b"GET /echo ";
/// How long a connection has for the first line of its request.
const FIRST_LINE: Duration = Duration::from_secs(10);
/// Connections whose first line is awaited; further ones are let go.
const WAITING: usize = 1_024;
/// Connections to `/echo` at once; further ones are let go.
const ECHOES: usize = 64;

/// A server for conformance suites.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Connection state recovery, for clients that ask for it.
    #[arg(long)]
    recovery: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)?;
    let gateway = Gateway::start(arguments.recovery)?;
    println!("listening on {}", listener.local_addr()?);
    Front::new(listener, gateway)?.run()
}

/// Looks at the first line of each connection's first request, without taking it off the socket: `/echo` gets a thread, all
/// else is the shard's, in the order in which the requests came.
struct Front {
    poll: Poll,
    listener: mio::net::TcpListener,
    waiting: Slab<(mio::net::TcpStream, SocketAddr, Instant)>,
    echoes: Arc<AtomicUsize>,
    gateway: Gateway,
}

const LISTENER: Token = Token(usize::MAX);

impl Front {
    fn new(listener: TcpListener, gateway: Gateway) -> io::Result<Front> {
        let poll = Poll::new()?;
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Front { poll, listener, waiting: Slab::new(), echoes: Arc::default(), gateway })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            match self.poll.poll(&mut events, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                let done = match event.token() {
                    LISTENER => self.accept(),
                    Token(key) => self.look(key),
                };
                if let Err(error) = done {
                    eprintln!("{error}");
                }
            }
            self.waiting.retain(|_, (_, _, since)| since.elapsed() < FIRST_LINE);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if self.waiting.len() >= WAITING {
                continue;
            }
            stream.set_nodelay(true)?;
            let place = self.waiting.vacant_entry();
            self.poll.registry().register(&mut stream, Token(place.key()), Interest::READABLE)?;
            place.insert((stream, peer, Instant::now()));
        }
    }

    /// Sends a connection where it belongs, as soon as that can be told.
    fn look(&mut self, key: usize) -> io::Result<()> {
        let Some((stream, ..)) = self.waiting.get(key) else { return Ok(()) };
        let mut front = [0; ECHO.len()];
        let count = match stream.peek(&mut front) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            count => count.unwrap_or(0),
        };
        if count > 0 && count < ECHO.len() && ECHO.starts_with(&front[..count]) {
            return Ok(());
        }
        let (mut stream, peer, _) = self.waiting.remove(key);
        self.poll.registry().deregister(&mut stream)?;
        match &front == ECHO {
            _ if count == 0 => Ok(()),
            true => self.echo(stream.into(), peer),
            false => self.gateway.accept(stream, peer),
        }
    }

    fn echo(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let echoes = Arc::clone(&self.echoes);
        if echoes.fetch_add(1, Ordering::AcqRel) >= ECHOES {
            echoes.fetch_sub(1, Ordering::AcqRel);
            return Ok(());
        }
        thread::Builder::new().spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("{peer}: {error}");
            }
            echoes.fetch_sub(1, Ordering::AcqRel);
        })?;
        Ok(())
    }
}

/// The shard that serves Engine.IO and Socket.IO, on its own thread.
struct Gateway {
    commands: Sender<Command<mio::net::TcpStream>>,
    alarm: Alarm,
    open_sockets: Arc<AtomicUsize>,
}

impl Gateway {
    fn start(recovery: bool) -> io::Result<Gateway> {
        let (commands, from_front) = bounded(1_024);
        let (_router_commands, from_nobody) = bounded(1);
        let poll = Poll::new()?;
        let alarm = Alarm::new(&poll)?;
        let open_sockets = Arc::new(AtomicUsize::new(0));
        let gateway = Gateway { commands, alarm: alarm.clone(), open_sockets: Arc::clone(&open_sockets) };
        thread::Builder::new().name("shard-0".to_owned()).spawn(move || {
            let limits = limits();
            let recovery = recovery.then_some(Duration::from_secs(2));
            let mut router_settings = RouterSettings::new(RoomPatterns::default(), 1, &limits);
            router_settings.recovery = recovery;
            let metrics = Arc::new(ShardMetrics::default());
            let router =
                Router::new(router_settings, Arc::new(RouterMetrics::default()), vec![Arc::clone(&metrics)]);
            let common = Common { open_sockets: Arc::clone(&open_sockets), ..Common::default() };
            let served = (|| {
                let net = MioNet::new(&poll)?;
                let shard =
                    Shard::new(0, net, Arc::new(settings(limits, recovery)?), common, metrics, Now::read());
                let acceptor = Acceptor::new(Vec::new(), open_sockets, usize::MAX)?;
                let (commands, router_commands) = (from_front, from_nobody);
                let alone = Alone { router, acceptor, commands, router_commands, store: None };
                run::run_alone(poll, &alarm, shard, alone, None)
            })();
            if let Err(error) = served {
                eprintln!("the shard has failed: {error}");
                std::process::exit(1);
            }
        })?;
        Ok(gateway)
    }

    fn accept(&self, stream: mio::net::TcpStream, peer: SocketAddr) -> io::Result<()> {
        self.open_sockets.fetch_add(1, Ordering::AcqRel);
        let accepted = Accepted { stream, peer: peer.ip(), is_surplus: false };
        self.commands.send(accepted.into()).map_err(io::Error::other)?;
        self.alarm.ring();
        Ok(())
    }
}

/// What the suites expect of the server they test.
fn limits() -> Limits {
    Limits {
        message_size: 1_000_000,
        json_depth: 1_024,
        outbox: 16 * 1024 * 1024,
        connects_per_address: None,
        control: None,
        pings: None,
        ..Limits::default()
    }
}

fn settings(limits: Limits, recovery: Option<Duration>) -> io::Result<ShardSettings> {
    let secret = Secret::new("no token is ever looked at by the echo application");
    let verifier = Verifier::new(&AuthSettings { secret, ..AuthSettings::default() });
    Ok(ShardSettings {
        app: AppSettings {
            control: limits.control,
            grace: Duration::from_secs(30),
            ..AppSettings::default()
        },
        limits,
        apps: [false; App::COUNT],
        allowed_origins: vec!["http://client.test".to_owned()],
        trusted_proxies: Vec::new(),
        verifier: Arc::new(verifier.map_err(io::Error::other)?),
        anonymous: true,
        ping_interval: Duration::from_secs(30),
        pong_timeout: Duration::from_secs(60),
        tls: None,
        socketio: SocketIo {
            ping_interval: Duration::from_millis(300),
            ping_timeout: Duration::from_millis(200),
            upgrade_timeout: Duration::from_secs(1),
            recovery,
            ..SocketIo::default()
        },
        shards: 1,
        page: false,
        echo: true,
    })
}

/// One connection, from its first byte to its last.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut early = Vec::new();
    if shake_hands(&mut stream, &mut early)? {
        echo(&mut stream, &mut early)?;
    }
    linger(stream)
}

/// Answers the request; whether the connection is a WebSocket now. `early` keeps what came after the head.
fn shake_hands(stream: &mut TcpStream, early: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let mut out = Vec::new();
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        early.extend_from_slice(&buffer[..count]);
        let refusal = match http::parse_request(early, MAX_HEAD) {
            Ok(None) => continue,
            Ok(Some((request, _))) if request.path != "/echo" => (404, "the echo is at /echo"),
            Ok(Some((request, length))) => match upgrade::check(&request) {
                Ok(upgrade) => {
                    upgrade::write_switching(&mut out, &upgrade, None);
                    stream.write_all(&out)?;
                    early.drain(..length);
                    return Ok(true);
                }
                Err(error) => (error.status, error.message),
            },
            Err(error) => (error.status(), error.message()),
        };
        http::write_response(&mut out, refusal.0, &[("Connection", "close")], refusal.1.as_bytes());
        stream.write_all(&out)?;
        return Ok(false);
    }
}

/// Sends every message back until one side ends the conversation, ours with a close frame.
fn echo(stream: &mut TcpStream, early: &mut [u8]) -> io::Result<()> {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut goes_on = answer(stream, &mut decoder, early, &mut out)?;
    let mut buffer = vec![0; READ_BYTES];
    while goes_on {
        let count = stream.read(&mut buffer)?;
        goes_on = count > 0 && answer(stream, &mut decoder, &mut buffer[..count], &mut out)?;
    }
    Ok(())
}

/// Answers all messages in `input`; whether more may follow.
fn answer(
    stream: &mut TcpStream,
    decoder: &mut Decoder,
    mut input: &mut [u8],
    out: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut goes_on = true;
    while goes_on {
        match decoder.decode(input, MAX_MESSAGE) {
            Ok((_, None)) => break,
            Ok((consumed, Some(message))) => {
                goes_on = write_answer(out, &message);
                input = &mut input[consumed..];
            }
            Err(violation) => {
                ws::write_close(out, violation.code(), violation.text());
                goes_on = false;
            }
        }
        if out.len() >= WRITE_BYTES {
            stream.write_all(out)?;
            out.clear();
        }
    }
    stream.write_all(out)?;
    out.clear();
    Ok(goes_on)
}

/// Appends the answer to one message; whether more may follow.
fn write_answer(out: &mut Vec<u8>, message: &Message<'_>) -> bool {
    match message {
        Message::Text(text) => ws::write_text(out, &[text.as_bytes()]),
        Message::Binary(bytes) => ws::write_binary(out, &[bytes]),
        Message::Ping(payload) => ws::write_pong(out, payload),
        Message::Pong(_) => {}
        Message::Close { code, reason } => ws::write_close(out, code.unwrap_or(1000), reason),
    }
    !matches!(message, Message::Close { .. })
}

/// Closes so that the peer can read what was written last: bytes left unread would reset the connection.
fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write).or_else(ignore_gone)?;
    let deadline = Instant::now() + LINGER;
    let mut discarded = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut discarded) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// A peer that is gone already has nothing left to read.
fn ignore_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}
