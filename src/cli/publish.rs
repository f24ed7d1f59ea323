//! `fanfare publish`: one event through the real ingest port, as any backend would send it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Failure, print};
use crate::config::{Config, Flag, Sources};
use crate::settings::Secret;

/// How long to wait for the broker at each step.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest reply line, bytes; an acknowledgement repeats an id and a room, at most 128 bytes each.
const REPLY_BYTES: u64 = 64 * 1024;

#[derive(Args)]
#[command(group(ArgGroup::new("target").required(true).args(["room", "user", "broadcast"])))]
pub(super) struct Arguments {
    /// The room whose members get the event.
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,
    /// The user whose connections get the event.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Every connection gets the event.
    #[arg(long)]
    broadcast: bool,
    /// The event's name.
    #[arg(long, value_name = "EVENT")]
    event: String,
    /// The event's data; `-` reads it from standard input.
    #[arg(long, value_name = "JSON|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// Only connections of this app get the event.
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// The id that makes a repeated publish harmless; a fresh one by default.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The ingest port, instead of the configured one.
    #[arg(long, value_name = "ADDRESS")]
    ingest: Option<String>,
    /// The configuration file with the ingest port and its token.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut sources = Sources::of_process(arguments.config.clone());
    let flag = |text: &String| Flag { flag: "--ingest", key: "ingest.listen", text: text.clone() };
    sources.flags.extend(arguments.ingest.as_ref().map(flag));
    let config = Config::read(&sources).map_err(Failure::usage)?;
    if config.ingest.tls.server.is_on() {
        return Err(Failure::usage(
            "the ingest port speaks TLS, which this command does not: use POST /publish on the admin port",
        ));
    }
    let line = line(arguments)?;
    let mut connection = Connection::open(reachable(config.ingest.listen), &config.ingest.token)?;
    let reply = connection.ask(&line)?;
    if !is_ok(&reply) {
        return Err(Failure::Run(format!("the broker refused the event: {reply}")));
    }
    print(&format!("{reply}\n"));
    Ok(())
}

/// The ingest line, its end included.
fn line(arguments: &Arguments) -> Result<String, Failure> {
    let text = |text: &str| Value::from(text).to_string();
    let id = arguments.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let target = match (&arguments.room, &arguments.user) {
        (Some(room), _) => format!("\"room\":{}", text(room)),
        (_, Some(user)) => format!("\"user\":{}", text(user)),
        _ => "\"broadcast\":true".to_owned(),
    };
    let mut line = format!("{{\"id\":{},{target},\"event\":{}", text(&id), text(&arguments.event));
    if let Some(app) = &arguments.app {
        line.push_str(&format!(",\"app\":{}", text(app)));
    }
    if let Some(data) = &arguments.data {
        line.push_str(&format!(",\"data\":{}", one_line(&read_data(data)?)?));
    }
    line.push_str("}\n");
    Ok(line)
}

fn read_data(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut data = String::new();
    std::io::stdin()
        .read_to_string(&mut data)
        .map_err(|error| Failure::Run(format!("standard input cannot be read: {error}")))?;
    Ok(data)
}

/// The data as it was written, numbers and order of keys untouched, but on one line: a line end can only stand
/// between the parts of valid JSON.
fn one_line(data: &str) -> Result<String, Failure> {
    let data: &RawValue = serde_json::from_str(data)
        .map_err(|error| Failure::Usage(format!("--data is not JSON: {error}; a text needs its quotes")))?;
    Ok(data.get().replace(['\n', '\r'], " "))
}

fn is_ok(reply: &str) -> bool {
    serde_json::from_str::<Value>(reply).is_ok_and(|reply| reply["ok"] == true)
}

/// Where a listener on all addresses is reached from this machine.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// A connection to the ingest port that waits for each reply.
struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr, token: &Secret) -> Result<Connection, Failure> {
        let failed =
            |error| Failure::Run(format!("no broker at {address}: {error}; is `fanfare serve` running?"));
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut connection = Connection { address, stream: BufReader::new(stream) };
        if !token.is_empty() {
            let reply = connection.ask(&auth_line(token))?;
            if !is_ok(&reply) {
                return Err(Failure::Run(format!("the broker refused ingest.token: {reply}")));
            }
        }
        Ok(connection)
    }

    fn ask(&mut self, line: &str) -> Result<String, Failure> {
        let address = self.address;
        let failed = |error| Failure::Run(format!("the broker at {address} does not answer: {error}"));
        self.stream.get_mut().write_all(line.as_bytes()).map_err(failed)?;
        let mut reply = String::new();
        let read = self.stream.by_ref().take(REPLY_BYTES).read_line(&mut reply).map_err(failed)?;
        if read == 0 {
            return Err(Failure::Run(format!("the broker at {address} closed the connection")));
        }
        Ok(reply.trim_end().to_owned())
    }
}

/// The first line when a token is configured.
pub(super) fn auth_line(token: &Secret) -> String {
    format!("{}\n", json!({"op": "auth", "token": token.expose()}))
}
