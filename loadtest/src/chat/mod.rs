//! One-to-one chat: so many senders, each of whom says the next thing when what
//! it said has come back to it as `message:new`, which means that it is durable.
//!
//! `conversations` makes them, `drive` is the loop, `heard` what is told apart in
//! messages.

mod conversations;
mod drive;
mod heard;

use std::thread;
use std::time::Duration;

use crate::compare::measurement::Measurement;
use crate::compare::program::Running;
use crate::compare::settings::SECRET;
use crate::durable::report::Report;
use crate::durable::server::{Options, Server};
use crate::failure::Failure;
use crate::machine;
use drive::Drive;

/// The server answers no more requests of one client at once.
const WINDOW: i64 = 64;

/// Options of `loadtest chat`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Options,
    /// Users who send, each to a user of its own
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: u32,
    /// Messages that a sender has under way at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=WINDOW))]
    window: u32,
    /// Send so many messages per second, on a schedule, instead of as many as
    /// are acknowledged
    #[arg(long)]
    rate: Option<f64>,
    /// Leave those away to whom it is said: nobody receives, and no receipts
    #[arg(long)]
    absent: bool,
    /// Measured time, s
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Time before it, s
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Measure a feed too: alone, and while messages are sent
    #[arg(long)]
    beside_feed: bool,
    /// Subscribers of the feed's one room
    #[arg(long, default_value_t = 1_000, requires = "beside_feed")]
    feed_subscribers: u32,
    /// Events of the feed per second
    #[arg(long, default_value_t = 1_000.0, requires = "beside_feed")]
    feed_rate: f64,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Starts the server, measures, prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    machine::allow_connections(2 * arguments.senders as usize)?;
    let server = Server::start(&arguments.server, "CONVERSATION")?;
    let alone = match arguments.beside_feed {
        true => Some(feed(arguments, server.running())?),
        false => None,
    };
    if let Some(feed) = &alone {
        eprintln!("feed alone:       {}", feed.line());
    }
    let drive = Drive::prepare(arguments, &server)?;
    let Some(alone) = alone else {
        let duration = Duration::try_from_secs_f64(arguments.duration).unwrap_or_default();
        return show(arguments, &drive.measure(|elapsed| elapsed < duration)?, None);
    };
    let (chat, beside) = thread::scope(|scope| {
        let feed = scope.spawn(|| feed(arguments, server.running()));
        let chat = drive.measure(|_| !feed.is_finished());
        let feed = feed.join().unwrap_or_else(|_| Err(Failure::new("the feed's thread failed")));
        (chat, feed)
    });
    let beside = beside?;
    eprintln!("feed beside chat: {}", beside.line());
    show(arguments, &chat?, Some((&alone, &beside)))
}

fn show(
    arguments: &Arguments,
    report: &Report,
    feed: Option<(&Measurement, &Measurement)>,
) -> Result<(), Failure> {
    eprintln!("{}", report.text());
    if arguments.json {
        let mut value = report.json();
        if let Some((alone, beside)) = feed {
            value["feed_alone"] = alone.whole.clone();
            value["feed_beside"] = beside.whole.clone();
        }
        println!("{value}");
    }
    if report.messages == 0 {
        return Err(Failure::new("no message was acknowledged in the measured time"));
    }
    Ok(())
}

/// One measurement of the feed, by a process of its own.
fn feed(arguments: &Arguments, server: &Running) -> Result<Measurement, Failure> {
    let options = [
        ("--workload", "A".to_owned()),
        ("--connections", arguments.feed_subscribers.to_string()),
        ("--rate", arguments.feed_rate.to_string()),
        ("--duration", arguments.duration.to_string()),
        ("--warmup", arguments.warmup.to_string()),
        ("--token-secret", SECRET.to_owned()),
        // A core that spins is one that the server does not have.
        ("--spin", "never".to_owned()),
    ];
    let options: Vec<String> =
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    Measurement::take(server, false, &options)
}
