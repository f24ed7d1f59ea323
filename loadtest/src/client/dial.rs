//! Opens many connections at once: a bounded number in flight, each through
//! TCP connect, upgrade and joining its rooms, in one thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::handshake::derive_accept_key;

use super::target::Target;
use super::token::Tokens;
use super::{Client, READ_BUFFER, Sink};
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};
use crate::link::Link;

/// Connections in flight at once: enough to keep a server busy, and below any
/// usual listen backlog.
const IN_FLIGHT: usize = 256;
/// Connections from one source address: fewer than the kernel's range of
/// ephemeral ports (28,232 by default), with room for those in TIME_WAIT.
const PER_ADDRESS: usize = 25_000;
/// Without any progress for this long, dialling has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A longer response head than this is not one.
const MAX_HEAD: usize = 16 * 1024;
/// The key of every handshake. Any 16 bytes in base64 do (RFC 6455 §4.1).
const KEY: &str = "ZmFuZmFyZSBsb2FkdGVzdA==";

/// Answers to a Socket.IO CONNECT packet: Engine.IO message, then CONNECT or
/// CONNECT_ERROR. No message of a plain WebSocket server starts so.
const NAMESPACE_ENTERED: &[u8] = b"40";
const NAMESPACE_REFUSED: &[u8] = b"44";

/// What to open.
pub struct Plan<'a> {
    pub target: &'a Target,
    pub tokens: &'a Tokens,
    pub connections: usize,
    /// New connections per second; unlimited without.
    pub rate: Option<f64>,
    /// A message with this text in it confirms one join; empty: nothing is
    /// waited for.
    pub confirm: &'a str,
    /// A message with this text in it, while joining, is a refusal.
    pub reject: &'a str,
    /// Connect to the Socket.IO namespace `/` before joining.
    pub socketio: bool,
    /// Path and query of connection `index`, where they are not the target's.
    pub path: Option<&'a dyn Fn(usize) -> String>,
}

/// How far a connection has come.
enum Stage {
    Connecting(TcpStream),
    /// With the TLS handshake, if there is one.
    Upgrading(Link, Vec<u8>),
    /// Waits for the Socket.IO namespace.
    Entering(Client),
    /// With the number of confirmations still to come.
    Joining(Client, usize),
    Ready(Client),
}

/// Counts confirmations and keeps the first refusal.
struct Confirmations<'a> {
    confirm: Option<memmem::Finder<'a>>,
    reject: memmem::Finder<'a>,
    seen: usize,
    /// The namespace has let this connection in.
    entered: bool,
    refusal: Option<String>,
}

impl Sink for Confirmations<'_> {
    fn message(&mut self, payload: &[u8]) {
        if payload.starts_with(NAMESPACE_ENTERED) {
            self.entered = true;
        } else if payload.starts_with(NAMESPACE_REFUSED) {
            self.refusal = Some(String::from_utf8_lossy(payload).into_owned());
        } else if self.confirm.as_ref().is_some_and(|text| text.find(payload).is_some()) {
            self.seen += 1;
        } else if self.reject.find(payload).is_some() && self.refusal.is_none() {
            self.refusal = Some(String::from_utf8_lossy(payload).into_owned());
        }
    }
}

struct Dialer<'a, J> {
    plan: &'a Plan<'a>,
    registry: &'a Registry,
    /// Appends the frames that connection `index` sends after its upgrade;
    /// returns how many confirmations they will get.
    joins: J,
    accept_key: String,
    stages: Vec<Option<Stage>>,
    ready: usize,
    confirmations: Confirmations<'a>,
    scratch: Vec<u8>,
}

/// Opens all connections of `plan`, registered with `poll` for reading under
/// the tokens `0..connections`. `joins` appends the frames that a connection
/// sends after its upgrade, and returns how many confirmations they will get.
///
/// # Errors
/// The first connection that is refused, and why; or no progress for 30 s.
pub fn dial<J>(poll: &mut Poll, plan: &Plan, joins: J) -> Result<Vec<Client>, Failure>
where
    J: FnMut(usize, &mut Vec<u8>) -> usize,
{
    let registry = poll.registry().try_clone().context(|| "epoll".to_owned())?;
    let mut dialer = Dialer {
        plan,
        registry: &registry,
        joins,
        accept_key: derive_accept_key(KEY.as_bytes()),
        stages: Vec::with_capacity(plan.connections),
        ready: 0,
        confirmations: Confirmations {
            confirm: (!plan.confirm.is_empty()).then(|| memmem::Finder::new(plan.confirm)),
            reject: memmem::Finder::new(plan.reject),
            seen: 0,
            entered: false,
            refusal: None,
        },
        scratch: vec![0; READ_BUFFER],
    };
    let mut events = Events::with_capacity(1024);
    let (start, mut progress) = (Instant::now(), (Instant::now(), 0));
    while dialer.ready < plan.connections {
        dialer.start_some(start.elapsed())?;
        poll.poll(&mut events, Some(Duration::from_millis(10))).context(|| "epoll".to_owned())?;
        for event in &events {
            dialer.advance(event.token().0)?;
        }
        let steps = dialer.ready + dialer.stages.len();
        if steps > progress.1 {
            progress = (Instant::now(), steps);
        } else if progress.0.elapsed() > PATIENCE && dialer.stages.len() > dialer.ready {
            return Err(dialer.stuck());
        }
    }
    let clients = dialer.stages.into_iter().flatten().filter_map(|stage| match stage {
        Stage::Ready(client) => Some(client),
        _ => None,
    });
    Ok(clients.collect())
}

impl<J: FnMut(usize, &mut Vec<u8>) -> usize> Dialer<'_, J> {
    /// Starts as many connections as may be in flight and as the rate allows.
    fn start_some(&mut self, elapsed: Duration) -> Result<(), Failure> {
        let due = self.plan.rate.map_or(usize::MAX, |rate| (rate * elapsed.as_secs_f64()) as usize);
        while self.stages.len() < self.plan.connections.min(due) && self.stages.len() - self.ready < IN_FLIGHT
        {
            let index = self.stages.len();
            let mut stream = connect(self.plan.target.address, self.source(index))
                .context(|| format!("connection {index} to {}", self.plan.target.address))?;
            self.registry
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .context(|| "epoll".to_owned())?;
            self.stages.push(Some(Stage::Connecting(stream)));
        }
        Ok(())
    }

    /// 127.0.0.1, 127.0.0.2, … so that each has enough ports; only on loopback.
    fn source(&self, index: usize) -> Option<IpAddr> {
        let spread = self.plan.connections > PER_ADDRESS && self.plan.target.address.ip().is_loopback();
        let address = u32::from(Ipv4Addr::LOCALHOST) + (index / PER_ADDRESS) as u32;
        spread.then(|| IpAddr::V4(Ipv4Addr::from(address)))
    }

    /// Carries one connection as far as it goes without waiting.
    fn advance(&mut self, index: usize) -> Result<(), Failure> {
        while let Some(stage) = self.stages[index].take() {
            let joining = matches!(stage, Stage::Joining(..));
            let (stage, more) = self.step(index, stage).map_err(|why| {
                Failure::new(format!("connection {index} to {}: {why}", self.plan.target.address))
            })?;
            if joining && matches!(stage, Stage::Ready(_)) {
                self.ready += 1;
            }
            self.stages[index] = Some(stage);
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// One step; whether another may follow at once.
    fn step(&mut self, index: usize, stage: Stage) -> Result<(Stage, bool), String> {
        match stage {
            Stage::Connecting(stream) => {
                if let Some(error) = stream.take_error().map_err(words)? {
                    return Err(format!("{error} (is the server running?)"));
                }
                if stream.peer_addr().is_err() {
                    return Ok((Stage::Connecting(stream), false)); // not connected yet
                }
                let token = self.plan.tokens.of(index).map_err(words)?;
                let path = self.plan.path.map(|path| path(index));
                let request = self.plan.target.request(path.as_deref(), KEY, token.as_deref());
                let mut link = self.plan.target.link(stream).map_err(words)?;
                link.write_all(request.as_bytes()).map_err(words)?;
                Ok((Stage::Upgrading(link, Vec::new()), true))
            }
            Stage::Upgrading(link, head) => self.upgrade(index, link, head),
            Stage::Entering(mut client) => {
                self.listen(&mut client)?;
                if std::mem::take(&mut self.confirmations.entered) {
                    return self.join(index, client);
                }
                Ok((Stage::Entering(client), false))
            }
            Stage::Joining(mut client, left) => {
                self.listen(&mut client)?;
                let left = left.saturating_sub(std::mem::take(&mut self.confirmations.seen));
                if left > 0 {
                    return Ok((Stage::Joining(client, left), false));
                }
                self.registry.reregister(client.stream(), Token(index), Interest::READABLE).map_err(words)?;
                Ok((Stage::Ready(client), false))
            }
            Stage::Ready(mut client) => {
                self.listen(&mut client)?;
                self.confirmations.seen = 0;
                Ok((Stage::Ready(client), false))
            }
        }
    }

    /// Reads the response head; once it is whole, goes on.
    fn upgrade(&mut self, index: usize, mut link: Link, mut head: Vec<u8>) -> Result<(Stage, bool), String> {
        match link.read(&mut self.scratch) {
            Ok(0) => return Err(format!("closed during the upgrade; it said: {}", first_line(&head))),
            Ok(taken) => head.extend_from_slice(&self.scratch[..taken]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok((Stage::Upgrading(link, head), false));
            }
            Err(error) => return Err(words(error)),
        }
        let Some(end) = memmem::find(&head, b"\r\n\r\n") else {
            if head.len() > MAX_HEAD {
                return Err("the response head does not end".to_owned());
            }
            return Ok((Stage::Upgrading(link, head), true));
        };
        let text = String::from_utf8_lossy(&head[..end]);
        if !text.starts_with("HTTP/1.1 101") {
            let body = String::from_utf8_lossy(&head[end + 4..]);
            return Err(format!("upgrade refused: {} {}", first_line(&head), body.trim()));
        }
        if !text.contains(self.accept_key.as_str()) {
            return Err("the Sec-WebSocket-Accept header is wrong or missing".to_owned());
        }
        let mut client = Client::new(link, head.split_off(end + 4));
        client.take_carry(&mut self.confirmations)?;
        if !self.plan.socketio {
            return self.join(index, client);
        }
        let token = self.plan.tokens.of(index).map_err(words)?;
        let auth = token.map(|token| serde_json::json!({ "token": token }).to_string());
        let mut packet = Vec::new();
        let text = format!("40{}", auth.unwrap_or_default());
        frame::push_client_frame(&mut packet, TEXT, text.as_bytes());
        client.write_all(&packet).map_err(words)?;
        Ok((Stage::Entering(client), true))
    }

    /// Sends the joins.
    fn join(&mut self, index: usize, mut client: Client) -> Result<(Stage, bool), String> {
        let mut frames = Vec::new();
        let joins = (self.joins)(index, &mut frames);
        client.write_all(&frames).map_err(words)?;
        let expected = if self.confirmations.confirm.is_some() { joins } else { 0 };
        Ok((Stage::Joining(client, expected), true))
    }

    fn listen(&mut self, client: &mut Client) -> Result<(), String> {
        client.read(&mut self.scratch, true, &mut self.confirmations)?;
        match self.confirmations.refusal.take() {
            Some(refusal) => Err(format!("refused: {refusal}")),
            None => Ok(()),
        }
    }

    fn stuck(&self) -> Failure {
        let waiting = self.stages.iter().flatten().find_map(|stage| match stage {
            Stage::Connecting(_) => Some("waits for the TCP connection"),
            Stage::Upgrading(..) => Some("waits for the answer to its upgrade"),
            Stage::Entering(_) => Some("waits for the Socket.IO namespace"),
            Stage::Joining(..) => Some("waits for its joins to be confirmed (see --confirm)"),
            Stage::Ready(_) => None,
        });
        Failure::new(format!(
            "{} of {} connections are ready and nothing happened for {} s; the first of the others {}",
            self.ready,
            self.plan.connections,
            PATIENCE.as_secs(),
            waiting.unwrap_or("is unknown"),
        ))
    }
}

/// Starts a TCP connection without waiting for it.
fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Linux' number for "the connection is on its way", connect(2).
const EINPROGRESS: i32 = nix::errno::Errno::EINPROGRESS as i32;

fn first_line(head: &[u8]) -> String {
    String::from_utf8_lossy(head).lines().next().unwrap_or("nothing").to_owned()
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
