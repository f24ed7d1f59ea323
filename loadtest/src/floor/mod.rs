//! The floor: what fan-out over WebSocket costs when nothing but the system
//! calls is done. It accepts upgrades, knows who joined which room, builds
//! each frame once, and sends it to each member in a loop: no authentication,
//! limits, timers, metrics or policies. Whoever uses one socket write per
//! flush cannot be below it, so ratios against it are comparable across
//! machines.

mod fan;
mod peers;
mod publish;
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::parse_duration;
use crate::failure::Failure;
use crate::machine;
use crate::tls::Files;

/// Options of `loadtest floor`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where clients connect (any path)
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where publishers connect
    #[arg(long, default_value = "127.0.0.1:7400")]
    ingest: SocketAddr,
    /// Waiting events that are sent with one call; 1: one call for each event
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Copy what a connection gets from several rooms together, one call a turn
    #[arg(long)]
    gather: bool,
    /// Wait this long before a turn that follows one with work
    #[arg(long, value_parser = parse_duration)]
    pace: Option<Duration>,
    #[command(flatten)]
    tls: Files,
    /// Run on this core only
    #[arg(long)]
    pin: Option<usize>,
}

/// Runs until it is killed.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    machine::pin(arguments.pin)?;
    machine::raise_open_files()?;
    let settings = server::Settings {
        batch: arguments.batch as usize,
        gather: arguments.gather,
        pace: arguments.pace,
        tls: arguments.tls.server()?,
    };
    server::Server::bind(arguments.listen, arguments.ingest, settings)?.run()
}
