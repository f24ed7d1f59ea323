//! Support sessions: so many, each with so many participants who are connected
//! to it, who say something in turn on a schedule. What a connection takes of
//! the server's memory, how soon a message is with the others, what it costs.
//!
//! `people` makes the sessions and those who take part, `drive` is the loop,
//! `heard` what is told apart in messages.

mod drive;
mod heard;
mod people;

use std::time::Duration;

use serde_json::Value;

use crate::durable::server::{Options, Server};
use crate::failure::Failure;
use crate::machine;
use drive::Drive;
use people::People;

/// The server hands a message to no more participants of a session.
const PARTICIPANTS: i64 = 64;

/// Options of `loadtest support`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Options,
    /// Support sessions
    #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: u32,
    /// Participants of each, all connected: the user, then agents, the first of
    /// whom the session is given to
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=PARTICIPANTS))]
    participants: u32,
    /// Messages per second, over all sessions and participants in turn
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Measured time, s
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Time before it, s
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Starts the server, measures, prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if !(arguments.rate.is_finite() && arguments.rate > 0.0) {
        return Err(Failure::new("--rate must be more than 0"));
    }
    let people = People { sessions: arguments.sessions as usize, each: arguments.participants as usize };
    machine::allow_connections(people.connections())?;
    let server = Server::start(&arguments.server, "SUPPORT")?;
    let sessions = people.make_sessions(&server)?;
    let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let (drive, opened) = Drive::prepare(people, &sessions, &server)?;
    eprintln!("{}", opened.text());
    let report = drive.measure(arguments.rate, seconds(arguments.warmup), seconds(arguments.duration))?;
    eprintln!("{}", report.text());
    if arguments.json {
        let mut value = report.json();
        value["sessions"] = arguments.sessions.into();
        value["connections"] = people.connections().into();
        if let (Value::Object(all), Value::Object(more)) = (&mut value, opened.json()) {
            all.extend(more);
        }
        println!("{value}");
    }
    match report.messages {
        0 => Err(Failure::new("no message came back in the measured time")),
        _ => Ok(()),
    }
}
