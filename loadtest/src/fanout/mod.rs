//! The fan-out measurement: many subscribers, one publisher, one thread.
//!
//! `workload` says what is subscribed and published, `drive` is the loop,
//! `receive` the hot path, `report` what comes out. Loss is found by exact
//! accounting: each connection has a shadow count for each of its rooms.

mod drive;
mod payload;
mod receive;
mod report;
mod sequence;
mod window;
mod workload;
mod zipf;

use clap::ValueEnum;

use crate::client::target::{
    NATIVE_ERROR, NATIVE_JOIN, SOCKETIO_ERROR, SOCKETIO_JOIN, Target, path, resolve,
};
use crate::client::template::Template;
use crate::client::token::Tokens;
use crate::failure::Failure;
use crate::machine;
use crate::publisher::Publisher;
pub use workload::Named;
use workload::{Pressure, Workload};

/// Options of `loadtest fanout`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A named workload; the options below change parts of it
    #[arg(long, value_enum)]
    workload: Option<Named>,
    /// Subscribing connections
    #[arg(long)]
    connections: Option<usize>,
    /// Rooms; as many as connections and no skew: private ones
    #[arg(long)]
    rooms: Option<usize>,
    /// Different rooms that each connection joins
    #[arg(long)]
    rooms_per_connection: Option<usize>,
    /// Skew of the rooms that connections choose
    #[arg(long)]
    zipf: Option<f64>,
    /// Skew of the rooms that are published to (default: all in turn)
    #[arg(long)]
    publish_zipf: Option<f64>,
    /// Publish whenever fewer events than this are outstanding
    #[arg(long, conflicts_with = "rate")]
    window: Option<usize>,
    /// Publish so many events per second, on a schedule
    #[arg(long)]
    rate: Option<f64>,
    /// Length of an event's data, bytes
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(..60_000))]
    payload: u32,
    /// Measured time, s
    #[arg(long, default_value_t = 8.0)]
    duration: f64,
    /// Time before it, s
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Percentage of connections that read nothing
    #[arg(long, default_value_t = 0.0)]
    stalled: f64,
    /// For the random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where subscribers connect
    #[arg(long, default_value = "ws://127.0.0.1:8080/feed")]
    target: String,
    /// With wss://: take any certificate, for servers on this machine
    #[arg(long)]
    tls_insecure: bool,
    /// Path and query instead of the target's
    #[arg(long)]
    path: Option<String>,
    /// Where to publish lines
    #[arg(long, default_value = "127.0.0.1:7400")]
    ingest: String,
    /// Token for the ingest connection
    #[arg(long)]
    ingest_token: Option<String>,
    /// Sign a token for a user of its own for each connection
    #[arg(long)]
    token_secret: Option<String>,
    /// One token for all connections
    #[arg(long, conflicts_with = "token_secret")]
    token: Option<String>,
    /// In front of a room's number
    #[arg(long, default_value = "bench:")]
    room_prefix: String,
    /// Name of the events
    #[arg(long, default_value = "price_update")]
    event: String,
    /// Subscribe as Socket.IO clients (namespace `/`, WebSocket transport)
    #[arg(long)]
    socketio: bool,
    /// Text frame that joins {room}; empty: none is sent
    #[arg(long, default_value_ifs = [("socketio", "true", Some(SOCKETIO_JOIN))], default_value = NATIVE_JOIN)]
    subscribe: String,
    /// Text in the message that confirms a join; empty: do not wait for it
    #[arg(long, default_value = "room_joined")]
    confirm: String,
    /// Text in a message that refuses a join
    #[arg(long, default_value_ifs = [("socketio", "true", Some(SOCKETIO_ERROR))], default_value = NATIVE_ERROR)]
    reject: String,
    /// Ingest line, with {room}, {index}, {event}, {data}
    #[arg(long, default_value = r#"{"room":"{room}","event":"{event}","data":{data}}"#)]
    publish_line: String,
    /// Publish by a text frame on a WebSocket of its own instead
    #[arg(long)]
    publish_frame: Option<String>,
    /// Process whose CPU time and memory are measured
    #[arg(long)]
    server_pid: Option<i32>,
    /// Run on this core only
    #[arg(long)]
    pin: Option<usize>,
    /// Poll without sleeping; auto: with --rate only
    #[arg(long, value_enum, default_value_t = Spin::Auto)]
    spin: Spin,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// No progress lines
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spin {
    Auto,
    Always,
    Never,
}

impl Arguments {
    /// The named workload, changed by the options that are set.
    fn workload(&self) -> Result<Workload, Failure> {
        let mut workload = self.workload.unwrap_or(Named::A).workload();
        let set = |place: &mut usize, value: Option<usize>| *place = value.unwrap_or(*place);
        set(&mut workload.connections, self.connections);
        set(&mut workload.rooms, self.rooms);
        set(&mut workload.rooms_per_connection, self.rooms_per_connection);
        workload.zipf = self.zipf.or(workload.zipf);
        workload.publish_zipf = self.publish_zipf.unwrap_or(workload.publish_zipf);
        match (self.window, self.rate) {
            (Some(window), _) => workload.pressure = Pressure::Window(window),
            (None, Some(rate)) => workload.pressure = Pressure::Rate(rate),
            (None, None) => {}
        }
        workload.check().map_err(Failure::new)?;
        Ok(workload)
    }

    fn publisher(&self, target: &Target, tokens: &Tokens, user: usize) -> Result<Publisher, Failure> {
        match &self.publish_frame {
            Some(template) => {
                let token = tokens.of(user)?;
                Publisher::websocket(target, token.as_deref(), Template::parse(template))
            }
            None => {
                let address = resolve(&self.ingest)?;
                Publisher::ingest(address, self.ingest_token.as_deref(), Template::parse(&self.publish_line))
            }
        }
    }
}

/// Runs one measurement and prints its result.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let workload = arguments.workload()?;
    machine::pin(arguments.pin)?;
    machine::allow_connections(workload.connections)?;
    let target = Target::parse(
        &arguments.target,
        path(arguments.path.as_deref(), arguments.socketio),
        arguments.tls_insecure,
    )?;
    let tokens = Tokens::new(arguments.token.as_deref(), arguments.token_secret.as_deref());
    let publisher = arguments.publisher(&target, &tokens, workload.connections)?;
    let result = drive::Drive::prepare(arguments, workload, &target, &tokens, publisher)?.measure()?;
    eprintln!("{}", result.summary());
    if arguments.json {
        println!("{}", result.json());
    }
    if result.deliveries == 0 {
        return Err(Failure::new("nothing was delivered in the measured time"));
    }
    Ok(())
}
