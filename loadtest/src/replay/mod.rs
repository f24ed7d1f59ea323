//! Publishes a recorded exchange feed, at the speed it was recorded, faster,
//! or as fast as the server takes it; and can prove that all trades arrive.

mod book;
mod check;
mod decimal;
mod feed;
mod market;

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use mio::{Poll, Token};

use crate::client::target::{Target, resolve};
use crate::client::template::Template;
use crate::client::token::Tokens;
use crate::clock::unix_now;
use crate::failure::{Context, Failure};
use crate::machine;
use crate::publisher::Publisher;
use check::Check;
use feed::Recorded;
use market::{Event, Markets};

/// How long acknowledgements and unsent bytes are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines between two flushes at full speed.
const FLUSH_EVERY: u64 = 64;

/// Options of `loadtest replay`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Recording, plain or gzip; `-` is standard input
    file: String,
    /// Where to publish
    #[arg(long, default_value = "127.0.0.1:7400")]
    ingest: String,
    /// Token for the ingest connection
    #[arg(long)]
    ingest_token: Option<String>,
    /// How many times faster than recorded, or `max`
    #[arg(long, default_value = "1", value_parser = parse_speed)]
    speed: Speed,
    /// Pairs, as BTCUSDT=BTC-USDT,… (default: split before the currency)
    #[arg(long, value_delimiter = ',')]
    symbols: Vec<String>,
    /// Give every line an id, and wait for its acknowledgement
    #[arg(long)]
    ids: bool,
    /// Recorded messages to replay at most
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Subscribers of the trade rooms, with --check
    #[arg(long, default_value_t = 1, requires = "check")]
    subscribers: usize,
    /// Verify that every subscriber gets every trade once and in order
    #[arg(long)]
    check: bool,
    /// Where subscribers connect
    #[arg(long, default_value = "ws://127.0.0.1:8080/feed")]
    target: String,
    /// Sign a token for a user of its own for each subscriber
    #[arg(long)]
    token_secret: Option<String>,
    /// One token for all subscribers
    #[arg(long, conflicts_with = "token_secret")]
    token: Option<String>,
}

/// How fast the recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if times > 0.0 && times.is_finite() => Ok(Speed::Times(times)),
        _ => Err("must be a number above 0, or `max`".to_owned()),
    }
}

/// What was done.
#[derive(Default)]
struct Totals {
    messages: u64,
    published: HashMap<&'static str, u64>,
    /// Messages of streams that are not replayed.
    skipped: u64,
}

/// A replay under way.
struct Replay<'a> {
    arguments: &'a Arguments,
    markets: Markets,
    publisher: Publisher,
    check: Option<Check>,
    totals: Totals,
    /// Wall time and capture time (ns) of the first message.
    start: Option<(Instant, u64)>,
    /// In front of each id: ids must not repeat those of an earlier replay,
    /// or the broker takes the line for a repetition.
    id_prefix: String,
    line: Vec<u8>,
}

/// Replays, and prints what was done.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let names = pair_names(&arguments.symbols)?;
    let mut publisher = Publisher::ingest(
        resolve(&arguments.ingest)?,
        arguments.ingest_token.as_deref(),
        Template::parse(""),
    )?;
    let poll = Poll::new().context(|| "epoll".to_owned())?;
    publisher.register(poll.registry(), Token(0))?;
    let markets = Markets::new(names);
    let check = arguments.check.then(|| subscribe(arguments, &markets)).transpose()?;
    let mut replay = Replay {
        arguments,
        markets,
        publisher,
        check,
        totals: Totals::default(),
        start: None,
        id_prefix: format!("{:x}", unix_now()),
        line: Vec::new(),
    };
    let began = Instant::now();
    replay.read_all()?;
    replay.finish(began)
}

/// Reads `BTCUSDT=BTC-USDT` pairs.
fn pair_names(options: &[String]) -> Result<HashMap<String, String>, Failure> {
    let split = |option: &String| {
        let (symbol, pair) = option.split_once('=')?;
        Some((symbol.to_owned(), pair.to_owned()))
    };
    let wrong = |option: &String| Failure::new(format!("--symbols {option}: must be like BTCUSDT=BTC-USDT"));
    options.iter().map(|option| split(option).ok_or_else(|| wrong(option))).collect()
}

fn subscribe(arguments: &Arguments, markets: &Markets) -> Result<Check, Failure> {
    let named = pair_names(&arguments.symbols)?;
    let pairs: Vec<String> = if !named.is_empty() {
        named.into_values().collect()
    } else if arguments.file == "-" {
        return Err(Failure::new(
            "--check with standard input needs --symbols, to know the rooms beforehand",
        ));
    } else {
        let symbols = feed::symbols(&arguments.file, arguments.limit)?;
        symbols.iter().map(|symbol| markets.pair(symbol)).collect()
    };
    if pairs.is_empty() || arguments.subscribers == 0 {
        return Err(Failure::new("--check: no pairs in the recording, or no subscribers"));
    }
    machine::allow_connections(arguments.subscribers)?;
    let target = Target::parse(&arguments.target, None, false)?;
    let tokens = Tokens::new(arguments.token.as_deref(), arguments.token_secret.as_deref());
    Check::subscribe(&target, &tokens, arguments.subscribers, &pairs)
}

impl Replay<'_> {
    fn read_all(&mut self) -> Result<(), Failure> {
        let file = &self.arguments.file;
        let (mut input, mut line) = (feed::open(file)?, String::new());
        while self.totals.messages < self.arguments.limit {
            line.clear();
            if input.read_line(&mut line).context(|| format!("cannot read {file}"))? == 0 {
                break;
            }
            self.totals.messages += 1;
            let place = self.totals.messages;
            self.replay(line.trim_end())
                .map_err(|failure| Failure::new(format!("{file} line {place}: {failure}")))?;
        }
        Ok(())
    }

    fn replay(&mut self, line: &str) -> Result<(), Failure> {
        let recorded = Recorded::parse(line).context(|| "not a recorded message".to_owned())?;
        let Some(message) = recorded.message().context(|| "not a message of its stream".to_owned())? else {
            self.totals.skipped += 1;
            return Ok(());
        };
        self.wait_for(recorded.recv_ns)?;
        let event = self
            .markets
            .apply(&message, recorded.recv_ns)
            .map_err(|text| Failure::new(format!("`{text}` is not a plain decimal number")))?;
        let id = self.arguments.ids.then(|| format!("{}-{}", self.id_prefix, self.totals.messages));
        self.line.clear();
        write_line(&event, id.as_deref(), &mut self.line);
        if let Some(check) = self.check.as_mut().filter(|_| event.prefix == "trade") {
            check.expect(event.pair, event.data);
        }
        *self.totals.published.entry(event.name).or_default() += 1;
        self.publisher.line(&self.line);
        if self.arguments.speed != Speed::Max || self.totals.messages.is_multiple_of(FLUSH_EVERY) {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits until a message captured at `recv_ns` is due.
    fn wait_for(&mut self, recv_ns: u64) -> Result<(), Failure> {
        let (start, first) = *self.start.get_or_insert((Instant::now(), recv_ns));
        let Speed::Times(times) = self.arguments.speed else { return Ok(()) };
        let due = start + Duration::from_nanos((recv_ns.saturating_sub(first) as f64 / times) as u64);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            match &mut self.check {
                Some(check) if left >= Duration::from_millis(1) => check.listen(Duration::from_millis(1))?,
                _ => std::thread::sleep(left.min(Duration::from_millis(100))),
            }
            self.publisher.flush()?;
        }
    }

    /// Writes what waits, and hears publisher and subscribers.
    fn turn(&mut self) -> Result<(), Failure> {
        self.publisher.flush()?;
        self.publisher.listen()?;
        if let Some(check) = &mut self.check {
            check.listen(Duration::ZERO)?;
            check.keep_up(&mut self.publisher)?;
        }
        while self.publisher.is_full() {
            std::thread::sleep(Duration::from_millis(1));
            self.publisher.flush()?;
            self.publisher.listen()?;
        }
        Ok(())
    }

    fn finish(mut self, began: Instant) -> Result<(), Failure> {
        let published: u64 = self.totals.published.values().sum();
        let deadline = Instant::now() + PATIENCE;
        let wanted = if self.arguments.ids { published } else { 0 };
        while !self.publisher.is_flushed() || self.publisher.acknowledged() < wanted {
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "{} of {wanted} acknowledgements came within {} s of the end",
                    self.publisher.acknowledged(),
                    PATIENCE.as_secs()
                )));
            }
            self.publisher.flush()?;
            self.publisher.listen()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let seconds = began.elapsed().as_secs_f64();
        let trades = match self.check {
            Some(check) => Some(check.finish(&mut self.publisher)?),
            None => None,
        };
        let of = |name| self.totals.published.get(name).copied().unwrap_or(0);
        println!(
            "{} messages in {seconds:.2} s; {published} published, {:.0} per second: {} trades, {} prices, {} books; {} skipped",
            self.totals.messages,
            published as f64 / seconds,
            of("trade_notification"),
            of("price_update"),
            of("order_book_update"),
            self.totals.skipped,
        );
        if self.arguments.ids {
            println!("{} acknowledged", self.publisher.acknowledged());
        }
        if let Some(trades) = trades {
            println!(
                "checked: {} subscribers received every trade once and in order, {trades} in all",
                self.arguments.subscribers
            );
        }
        Ok(())
    }
}

/// The ingest line of an event; `ts` is the wall clock at this moment.
fn write_line(event: &Event, id: Option<&str>, out: &mut Vec<u8>) {
    let Event { prefix, name, pair, data } = event;
    // A vector takes all that is written.
    let _ = write!(out, r#"{{"room":"{prefix}:{pair}","event":"{name}","data":"#);
    out.extend_from_slice(data);
    let _ = write!(out, r#","ts":{}"#, unix_now());
    if let Some(id) = id {
        let _ = write!(out, r#","id":"{id}""#);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_with_everything() {
        let event = Event {
            prefix: "trade",
            name: "trade_notification",
            pair: "BTC-USDT",
            data: br#"{"price":1.50}"#,
        };
        let mut line = Vec::new();
        write_line(&event, Some("7"), &mut line);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!((&value["room"], &value["id"]), (&"trade:BTC-USDT".into(), &"7".into()));
        assert!(value["ts"].as_u64() > Some(1_700_000_000_000_000_000));
        assert!(String::from_utf8_lossy(&line).contains(r#""data":{"price":1.50}"#));
    }

    #[test]
    fn options_are_checked() {
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert_eq!(parse_speed("2.5"), Ok(Speed::Times(2.5)));
        assert!(parse_speed("0").is_err() && parse_speed("inf").is_err() && parse_speed("x").is_err());
        assert!(pair_names(&["BTCUSDT".to_owned()]).is_err());
    }
}
