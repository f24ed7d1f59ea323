//! `--demo`: a synthetic market of five pairs, published by a thread through the real ingest port.
//!
//! [`Market`] is pure: it turns steps into ingest lines. The rest is one connection that comes back when it is lost.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::cli::publish::auth_line;
use crate::settings::Secret;
use crate::time::{self, Now};

/// How long a step is: a pair's price changes two to three times a second, its book twice.
const STEP: Duration = Duration::from_millis(100);
/// How long to wait before connecting again.
const PAUSE: Duration = Duration::from_secs(1);
/// Levels of each side of the book.
const LEVELS: i64 = 5;

/// Starts the feed; it ends with the process.
pub(super) fn start(address: SocketAddr, token: Secret) -> io::Result<()> {
    let seed = getrandom::u64().unwrap_or(1);
    thread::Builder::new().name("demo".to_owned()).spawn(move || run(address, &token, seed)).map(drop)
}

fn run(address: SocketAddr, token: &Secret, seed: u64) {
    let mut market = Market::new(seed);
    loop {
        if let Err(error) = feed(address, token, &mut market) {
            tracing::debug!(%address, %error, "demo feed lost the ingest port, connecting again");
        }
        thread::sleep(PAUSE);
    }
}

/// Publishes until the connection fails.
fn feed(address: SocketAddr, token: &Secret, market: &mut Market) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PAUSE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP))?;
    if !token.is_empty() {
        stream.write_all(auth_line(token).as_bytes())?;
    }
    let mut lines = String::new();
    loop {
        lines.clear();
        market.step(Now::read(), &mut lines);
        stream.write_all(lines.as_bytes())?;
        pause_reading(&mut stream)?;
    }
}

/// Waits one step and takes what the broker says meanwhile: only complaints, since no line has an id.
fn pause_reading(stream: &mut TcpStream) -> io::Result<()> {
    let mut reply = [0; 1024];
    match stream.read(&mut reply) {
        Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
        Ok(length) => {
            tracing::debug!(reply = %String::from_utf8_lossy(&reply[..length]), "demo feed was answered");
            thread::sleep(STEP);
            Ok(())
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A pair whose price walks at random, in units of its smallest decimal.
struct Pair {
    symbol: &'static str,
    decimals: u32,
    open: i64,
    price: i64,
    /// Traded since the start, in hundredths.
    volume: u64,
}

/// All pairs.
struct Market {
    pairs: [Pair; 5],
    steps: u64,
    random: u64,
}

impl Market {
    fn new(seed: u64) -> Market {
        let pair = |symbol, decimals, price| Pair { symbol, decimals, open: price, price, volume: 0 };
        Market {
            pairs: [
                pair("BTC-USDC", 2, 6_183_763),
                pair("ETH-USDC", 2, 268_210),
                pair("SOL-USDC", 2, 15_342),
                pair("LINK-USDC", 3, 10_427),
                pair("DOGE-USDC", 5, 10_215),
            ],
            steps: 0,
            // Xorshift stays at zero once there.
            random: seed | 1,
        }
    }

    /// Xorshift (Marsaglia 2003): good enough for a picture of a market.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    /// Appends what happens in one step as ingest lines.
    fn step(&mut self, now: Now, out: &mut String) {
        self.steps += 1;
        for index in 0..self.pairs.len() {
            let turn = self.steps + index as u64;
            let trades = self.random(4) == 0;
            if trades {
                self.trade(index, now, out);
            }
            if trades || turn.is_multiple_of(10) {
                self.pairs[index].write_price(now, out);
            }
            if turn.is_multiple_of(5) {
                self.write_book(index, now, out);
            }
        }
    }

    fn trade(&mut self, index: usize, now: Now, out: &mut String) {
        let open = self.pairs[index].open;
        let reach = (open / 2_000).max(2) as u64;
        let move_by = self.random(2 * reach + 1) as i64 - reach as i64;
        let amount = 1 + self.random(500);
        let pair = &mut self.pairs[index];
        // It may wander, but neither vanish nor explode.
        pair.price = (pair.price + move_by).clamp(open / 2, open * 2);
        pair.volume += amount;
        let data = format!(
            "\"price\":{},\"amount\":{},\"side\":\"{}\"",
            decimal(pair.price, pair.decimals),
            decimal(amount as i64, 2),
            if move_by < 0 { "sell" } else { "buy" },
        );
        write_line(out, "trade", pair.symbol, "trade_notification", &data, now);
    }

    fn write_book(&mut self, index: usize, now: Now, out: &mut String) {
        let mut side = |sign: i64| {
            let mut levels = String::new();
            for level in 1..=LEVELS {
                let amount = 1 + self.random(900) as i64;
                let pair = &self.pairs[index];
                let price = decimal(pair.price + sign * level, pair.decimals);
                let comma = if level > 1 { "," } else { "" };
                let _ = write!(levels, "{comma}[{price},{}]", decimal(amount, 2));
            }
            levels
        };
        let data = format!("\"bids\":[{}],\"asks\":[{}]", side(-1), side(1));
        write_line(out, "orderbook", self.pairs[index].symbol, "order_book_update", &data, now);
    }
}

impl Pair {
    fn write_price(&self, now: Now, out: &mut String) {
        let change = (self.price - self.open) * 10_000 / self.open;
        let data = format!(
            "\"price\":{},\"change\":{},\"volume\":{}",
            decimal(self.price, self.decimals),
            decimal(change, 2),
            decimal(self.volume as i64, 2),
        );
        write_line(out, "price", self.symbol, "price_update", &data, now);
    }
}

fn write_line(out: &mut String, room: &str, symbol: &str, event: &str, data: &str, now: Now) {
    let _ = writeln!(
        out,
        "{{\"room\":\"{room}:{symbol}\",\"event\":\"{event}\",\"data\":{{\"symbol\":\"{symbol}\",{data},\
         \"timestamp\":\"{}\"}},\"ts\":{}}}",
        time::millis(now.unix_ms()),
        now.unix,
    );
}

/// `6183763` with 2 decimals → `61837.63`.
fn decimal(units: i64, decimals: u32) -> String {
    let one = 10_u64.pow(decimals);
    let sign = if units < 0 { "-" } else { "" };
    let (whole, part) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
    format!("{sign}{whole}.{part:0width$}", width = decimals as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_line_is_an_event_of_a_market_room() {
        let mut market = Market::new(7);
        let mut lines = String::new();
        let now = Now { mono: 0, unix: 1_750_000_000_123_456_789 };
        for _ in 0..1_000 {
            market.step(now, &mut lines);
        }
        let mut counts: HashMap<String, u32> = HashMap::new();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).expect(line);
            let room = line["room"].as_str().expect("a room");
            let (prefix, symbol) = room.split_once(':').expect("a prefix");
            let event = match prefix {
                "price" => "price_update",
                "trade" => "trade_notification",
                "orderbook" => "order_book_update",
                _ => panic!("{room}"),
            };
            assert_eq!((&line["event"], &line["data"]["symbol"]), (&event.into(), &symbol.into()));
            assert_eq!(line["data"]["timestamp"], "2025-06-15T15:06:40.123Z");
            assert_eq!(line["ts"], 1_750_000_000_123_456_789_u64);
            if prefix == "orderbook" {
                let best = |side: &str| line["data"][side][0][0].as_f64().expect("a price");
                assert!(best("bids") < best("asks"));
            } else {
                assert!(line["data"]["price"].as_f64().expect("a price") > 0.0);
            }
            *counts.entry(room.to_owned()).or_default() += 1;
        }
        assert_eq!(counts.len(), 15);
        assert!(counts.values().all(|count| (150..600).contains(count)), "{counts:?}");
    }

    #[test]
    fn decimals_are_written_out() {
        assert_eq!(decimal(6_183_763, 2), "61837.63");
        assert_eq!(decimal(10_215, 5), "0.10215");
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(0, 2), "0.00");
    }

    #[test]
    fn it_signs_in_and_comes_back_when_the_connection_is_lost() {
        use std::io::{BufRead, BufReader};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        start(listener.local_addr().expect("an address"), Secret::new("t\"1")).expect("started");
        for _ in 0..2 {
            let (stream, _) = listener.accept().expect("the feed");
            let mut lines = BufReader::new(stream).lines();
            let first = lines.next().expect("a line").expect("readable");
            assert_eq!(first, r#"{"op":"auth","token":"t\"1"}"#);
            assert!(lines.next().expect("a line").expect("readable").contains("-USDC"));
        }
    }
}
