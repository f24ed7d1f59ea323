//! Many idle connections: what a handshake costs the server, and what a
//! connection keeps of its memory and of the kernel's.

use std::time::{Duration, Instant};

use mio::{Events, Poll};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::client::dial::{Plan, dial};
use crate::client::target::{NATIVE_ERROR, NATIVE_JOIN, SOCKETIO_ERROR, SOCKETIO_JOIN, Target, path};
use crate::client::template::{Fill, Template};
use crate::client::token::Tokens;
use crate::client::{Client, READ_BUFFER, Sink};
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};
use crate::machine;
use crate::process::{Cpu, Memory, Process, kernel_memory};

/// What the server may still do after the last handshake before its memory is
/// read.
const SETTLE: Duration = Duration::from_millis(500);

/// Options of `loadtest connect`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Connections to open
    #[arg(long)]
    connections: usize,
    /// New connections per second (default: as many as the server takes)
    #[arg(long)]
    rate: Option<f64>,
    /// How often all are dropped at once and come back
    #[arg(long, default_value_t = 0)]
    waves: u32,
    /// Time to keep them open, s
    #[arg(long, default_value_t = 0.0)]
    hold: f64,
    /// Room that each joins, with {index} for its number; empty: none
    #[arg(long, default_value = "bench:idle")]
    room: String,
    /// Where to connect
    #[arg(long, default_value = "ws://127.0.0.1:8080/feed")]
    target: String,
    /// With wss://: take any certificate, for servers on this machine
    #[arg(long)]
    tls_insecure: bool,
    /// Path and query instead of the target's
    #[arg(long)]
    path: Option<String>,
    /// Sign a token for a user of its own for each connection
    #[arg(long)]
    token_secret: Option<String>,
    /// One token for all connections
    #[arg(long, conflicts_with = "token_secret")]
    token: Option<String>,
    /// Subscribe as Socket.IO clients (namespace `/`, WebSocket transport)
    #[arg(long)]
    socketio: bool,
    /// Text frame that joins {room}
    #[arg(long, default_value_ifs = [("socketio", "true", Some(SOCKETIO_JOIN))], default_value = NATIVE_JOIN)]
    subscribe: String,
    /// Text in the message that confirms a join; empty: do not wait for it
    #[arg(long, default_value = "room_joined")]
    confirm: String,
    /// Text in a message that refuses a join
    #[arg(long, default_value_ifs = [("socketio", "true", Some(SOCKETIO_ERROR))], default_value = NATIVE_ERROR)]
    reject: String,
    /// Process whose CPU time and memory are measured
    #[arg(long)]
    server_pid: Option<i32>,
    /// Run on this core only
    #[arg(long)]
    pin: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// The server and the kernel at one moment.
struct Moment {
    at: Instant,
    cpu: Option<Cpu>,
    memory: Memory,
    kernel: u64,
}

impl Moment {
    fn now(server: Option<&Process>) -> Result<Self, Failure> {
        Ok(Self {
            at: Instant::now(),
            cpu: server.map(Process::cpu).transpose()?,
            memory: server.map(Process::memory).unwrap_or_default(),
            kernel: kernel_memory(),
        })
    }
}

/// Opens, measures, holds.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.connections == 0 {
        return Err(Failure::new("--connections must be at least 1"));
    }
    machine::pin(arguments.pin)?;
    machine::allow_connections(arguments.connections)?;
    let target = Target::parse(
        &arguments.target,
        path(arguments.path.as_deref(), arguments.socketio),
        arguments.tls_insecure,
    )?;
    let tokens = Tokens::new(arguments.token.as_deref(), arguments.token_secret.as_deref());
    let server = arguments.server_pid.map(Process::open).transpose()?;
    let mut poll = Poll::new().context(|| "epoll".to_owned())?;

    let before = Moment::now(server.as_ref())?;
    let mut clients = open(arguments, &target, &tokens, &mut poll)?;
    let ready = Moment::now(server.as_ref())?;
    rest(&mut poll, &mut clients, SETTLE)?;
    let settled = Moment::now(server.as_ref())?;
    let mut value = report(arguments, &before, &ready, &settled);

    let mut waves = Vec::new();
    for number in 1..=arguments.waves {
        let before = Moment::now(server.as_ref())?;
        drop_all(std::mem::take(&mut clients))?;
        clients = open(arguments, &target, &tokens, &mut poll)?;
        waves.push(wave(arguments, number, &before, &Moment::now(server.as_ref())?));
        rest(&mut poll, &mut clients, SETTLE)?;
    }
    if arguments.json {
        value["waves"] = waves.into();
        println!("{value}");
    }

    rest(&mut poll, &mut clients, Duration::try_from_secs_f64(arguments.hold).unwrap_or_default())
}

fn open(
    arguments: &Arguments,
    target: &Target,
    tokens: &Tokens,
    poll: &mut Poll,
) -> Result<Vec<Client>, Failure> {
    let plan = Plan {
        target,
        tokens,
        connections: arguments.connections,
        rate: arguments.rate,
        confirm: &arguments.confirm,
        reject: &arguments.reject,
        socketio: arguments.socketio,
        path: None,
    };
    let (room, subscribe) = (Template::parse(&arguments.room), Template::parse(&arguments.subscribe));
    let (mut name, mut text) = (Vec::new(), Vec::new());
    dial(poll, &plan, |index, frames| {
        if arguments.room.is_empty() {
            return 0;
        }
        name.clear();
        text.clear();
        room.fill(Fill { room: b"", index, event: b"", data: b"" }, &mut name);
        subscribe.fill(Fill { room: &name, index, event: b"", data: b"" }, &mut text);
        frame::push_client_frame(frames, TEXT, &text);
        1
    })
}

/// Messages to an idle connection are of no interest.
struct Ignore;
impl Sink for Ignore {
    fn message(&mut self, _: &[u8]) {}
}

/// Answers pings for `time`.
///
/// # Errors
/// When the server ends connections meanwhile.
fn rest(poll: &mut Poll, clients: &mut [Client], time: Duration) -> Result<(), Failure> {
    let ended = idle(poll, clients, time);
    match ended.first() {
        None => Ok(()),
        Some((connection, why)) => Err(Failure::new(format!(
            "the server ended {} of {} connections while they were idle, the first was {connection}: {why}",
            ended.len(),
            clients.len()
        ))),
    }
}

/// Answers pings for `time`; returns the connections that ended, and why.
fn idle(poll: &mut Poll, clients: &mut [Client], time: Duration) -> Vec<(usize, String)> {
    let (mut events, mut buffer, mut ended) = (Events::with_capacity(1024), vec![0; READ_BUFFER], Vec::new());
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return ended;
        }
        if poll.poll(&mut events, Some(left)).is_err() {
            continue; // interrupted; the time bounds the loop
        }
        for event in &events {
            let connection = event.token().0;
            let client = &mut clients[connection];
            if let Err(why) = client.read(&mut buffer, event.is_read_closed(), &mut Ignore) {
                let _ = poll.registry().deregister(client.stream());
                ended.push((connection, why));
            }
        }
    }
}

/// Drops all connections as when the machine between dies: by a reset, which
/// also leaves no port in TIME_WAIT, so that waves can follow each other.
fn drop_all(mut clients: Vec<Client>) -> Result<(), Failure> {
    for client in &mut clients {
        SockRef::from(&*client.stream()).set_linger(Some(Duration::ZERO)).context(|| "linger".to_owned())?;
    }
    Ok(())
}

/// Prints what one reconnect wave took. The server's share has the end of the
/// old connections in it.
fn wave(arguments: &Arguments, number: u32, before: &Moment, back: &Moment) -> Value {
    let connections = arguments.connections as f64;
    let seconds = (back.at - before.at).as_secs_f64();
    let mut value = json!({ "seconds": seconds, "handshakes_per_s": connections / seconds });
    let mut cost = String::new();
    if let (Some(from), Some(to)) = (before.cpu, back.cpu) {
        let micros = to.since(&from).0 as f64 / 1e3 / connections;
        value["server_cpu_us_per_reconnect"] = json!(micros);
        cost = format!("; server: {micros:.1} µs CPU for the end, handshake and join of each");
    }
    eprintln!("wave {number}: all back after {seconds:.2} s, {:.0} per second{cost}", connections / seconds);
    value
}

/// Prints what opening all took; returns it for JSON.
fn report(arguments: &Arguments, before: &Moment, ready: &Moment, settled: &Moment) -> Value {
    let connections = arguments.connections as f64;
    let seconds = (ready.at - before.at).as_secs_f64();
    let each = |from: u64, to: u64| (to as f64 - from as f64) / connections;
    let kernel = each(before.kernel, settled.kernel);
    let mut value = json!({
        "connections": arguments.connections,
        "seconds": seconds,
        "handshakes_per_s": connections / seconds,
        "kernel_bytes_per_connection_both_ends": kernel,
    });
    eprintln!(
        "{} connections in {seconds:.2} s, {:.0} per second; the kernel keeps {kernel:.0} bytes for the two ends of each",
        arguments.connections,
        connections / seconds,
    );
    if let (Some(from), Some(to)) = (before.cpu, ready.cpu) {
        let (all, user, system) = to.since(&from);
        let micros = |time: u64| time as f64 / 1e3 / connections;
        let resident = each(before.memory.resident, settled.memory.resident);
        let dirty = each(before.memory.private_dirty, settled.memory.private_dirty);
        value["server_cpu_us_per_handshake"] = json!(micros(all));
        value["server_user_us_per_handshake"] = json!(micros(user));
        value["server_system_us_per_handshake"] = json!(micros(system));
        value["server_resident_per_connection"] = json!(resident);
        value["server_private_dirty_per_connection"] = json!(dirty);
        eprintln!(
            "server: {:.1} µs CPU per handshake and join ({:.1} user, {:.1} system); \
             {dirty:.0} bytes of user space per connection ({resident:.0} resident)",
            micros(all),
            micros(user),
            micros(system),
        );
    }
    value
}
