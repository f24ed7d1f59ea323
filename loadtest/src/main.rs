//! Load generator for fanfare and for any other WebSocket server.
//!
//! It measures from outside: nothing here depends on the fanfare crate, so a
//! fault in the server's code cannot hide itself in the measurement. The
//! sub-commands:
//!
//! | command | does |
//! |---|---|
//! | `floor` | the smallest server that fans out, the yardstick of the ratios |
//! | `fanout` | subscribes many connections, publishes, and counts every delivery |
//! | `connect` | opens many idle connections: handshake cost and memory |
//! | `ingest` | publishes lines that nobody gets: what reading them costs |
//! | `compare` | alternates the floor, a server and a peer: the ratios, and whether targets are met |
//! | `chat` | durable messages of many senders: how many a second, how soon |
//! | `support` | support sessions with connected participants: memory, latency, cost |
//! | `replay` | publishes a recorded exchange feed, and can check its delivery |

mod chat;
mod client;
mod clock;
mod compare;
mod connect;
mod durable;
mod failure;
mod fanout;
mod floor;
mod frame;
mod ingest;
mod link;
mod machine;
mod process;
mod publisher;
mod replay;
mod support;
mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "loadtest", about = "Load generator and yardstick for WebSocket fan-out servers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the floor: a server that only builds frames and calls send
    Floor(floor::Arguments),
    /// Measure fan-out: CPU per delivery, latency, loss
    Fanout(Box<fanout::Arguments>),
    /// Open idle connections: CPU per handshake, memory per connection
    Connect(connect::Arguments),
    /// Measure how many publish lines a server takes in
    Ingest(ingest::Arguments),
    /// Measure servers alternately: ratios, and whether targets are met
    Compare(Box<compare::Arguments>),
    /// Measure one-to-one chat: durable messages per second, latency
    Chat(Box<chat::Arguments>),
    /// Measure support sessions: memory per connection, latency
    Support(support::Arguments),
    /// Publish a recorded exchange feed
    Replay(replay::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Floor(arguments) => floor::run(&arguments),
        Command::Fanout(arguments) => fanout::run(&arguments),
        Command::Connect(arguments) => connect::run(&arguments),
        Command::Ingest(arguments) => ingest::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Support(arguments) => support::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("loadtest: {failure}");
            ExitCode::FAILURE
        }
    }
}
