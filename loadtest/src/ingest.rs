//! How many publish lines a server takes in: lines for rooms without
//! subscribers, as fast as the socket takes them, then a ping. Its answer says
//! that every line before it was read.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;
use serde_json::json;

use crate::client::target::resolve;
use crate::failure::{Context, Failure};
use crate::machine;
use crate::process::{Cpu, Process};

/// Bytes that are written with one call: a few times what a socket's buffer
/// takes, so that this program costs little.
const BLOCK: usize = 1024 * 1024;
/// So long without any byte taken or answered, and the run has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of `loadtest ingest`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where to publish
    #[arg(long, default_value = "127.0.0.1:7400")]
    ingest: String,
    /// Token for the ingest connection
    #[arg(long)]
    ingest_token: Option<String>,
    /// Lines to publish
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    lines: u64,
    /// Different rooms, all in turn
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// In front of a room's number
    #[arg(long, default_value = "bench:")]
    room_prefix: String,
    /// Length of an event's data, bytes
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(..60_000))]
    payload: u32,
    /// Process whose CPU time is measured
    #[arg(long)]
    server_pid: Option<i32>,
    /// Run on this core only
    #[arg(long)]
    pin: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Publishes, waits for the answer, prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    machine::pin(arguments.pin)?;
    let address = resolve(&arguments.ingest)?;
    let place = || format!("ingest connection to {address}");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context(place)?;
    stream.set_nodelay(true).context(place)?;
    stream.set_write_timeout(Some(PATIENCE)).context(place)?;
    stream.set_read_timeout(Some(PATIENCE)).context(place)?;
    if let Some(token) = &arguments.ingest_token {
        writeln!(stream, "{}", json!({ "op": "auth", "token": token })).context(place)?;
    }
    let server = arguments.server_pid.map(Process::open).transpose()?;
    let lines = Lines::new(arguments);
    let answers = stream.try_clone().context(place)?;

    let before = server.as_ref().map(Process::cpu).transpose()?;
    let start = Instant::now();
    exchange(&lines, arguments.lines, stream, answers)?;
    let elapsed = start.elapsed();
    let after = server.as_ref().map(Process::cpu).transpose()?;
    report(arguments, lines.bytes(arguments.lines), elapsed, before.zip(after));
    Ok(())
}

/// Writes all lines and the ping, while another thread reads what comes back:
/// a server whose answers nobody reads would stop reading too.
fn exchange(lines: &Lines, count: u64, stream: TcpStream, answers: TcpStream) -> Result<(), Failure> {
    let written = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| listen(answers, &written));
        let sent = lines.write(count, &stream);
        written.store(true, Ordering::Release);
        if sent.is_err() {
            // The reader knows better why, and must not wait for more.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let heard = reader.join().unwrap_or_else(|_| Err(Failure::new("the reading thread failed")));
        // A refusal explains why the connection broke.
        heard.and(sent.map_err(|error| Failure::new(format!("ingest connection: {error}"))))
    })
}

/// Reads answers until the pong.
fn listen(stream: TcpStream, written: &AtomicBool) -> Result<(), Failure> {
    let mut answers = BufReader::new(stream);
    let (mut line, mut refused, mut first) = (String::new(), 0u64, String::new());
    loop {
        match answers.read_line(&mut line) {
            Ok(0) => {
                let why = if first.is_empty() { "" } else { ", after: " };
                return Err(Failure::new(format!("ingest connection: closed by the server{why}{first}")));
            }
            Ok(_) => {}
            // While lines are still written, silence is what should be heard.
            Err(error) if is_time_out(&error) && !written.load(Ordering::Acquire) => continue,
            Err(error) if is_time_out(&error) => {
                return Err(Failure::new(format!(
                    "all lines are written, and {} s later the ping behind them has no answer",
                    PATIENCE.as_secs()
                )));
            }
            Err(error) => return Err(Failure::new(format!("ingest connection: {error}"))),
        }
        if memmem::find(line.as_bytes(), br#""pong""#).is_some() {
            break;
        }
        if memmem::find(line.as_bytes(), br#""ok":false"#).is_some() {
            refused += 1;
            if refused == 1 {
                first = line.trim().to_owned();
            }
        }
        line.clear();
    }
    if refused > 0 {
        return Err(Failure::new(format!("{refused} lines were refused, the first so: {first}")));
    }
    Ok(())
}

fn is_time_out(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Ready lines, one for each room, repeated up to about [`BLOCK`] bytes.
struct Lines {
    block: Vec<u8>,
    /// Where each line ends in `block`.
    ends: Vec<usize>,
}

impl Lines {
    fn new(arguments: &Arguments) -> Self {
        let fixed = json!({ "symbol": "BTC-USDC", "fill": "" }).to_string().len();
        let fill = "x".repeat((arguments.payload as usize).saturating_sub(fixed));
        let data = json!({ "symbol": "BTC-USDC", "fill": fill });
        let (mut block, mut ends) = (Vec::new(), Vec::new());
        while block.len() < BLOCK {
            for room in 0..arguments.rooms {
                let prefix = &arguments.room_prefix;
                let room = json!(format!("{prefix}{room}"));
                block.extend_from_slice(
                    format!("{{\"room\":{room},\"event\":\"price_update\",\"data\":{data}}}\n").as_bytes(),
                );
                ends.push(block.len());
            }
        }
        Self { block, ends }
    }

    /// Writes `count` lines, beginning again at the first when all are through,
    /// and the ping.
    fn write(&self, count: u64, mut stream: &TcpStream) -> std::io::Result<()> {
        let each = self.ends.len() as u64;
        for _ in 0..count / each {
            for piece in self.block.chunks(BLOCK) {
                stream.write_all(piece)?;
            }
        }
        stream.write_all(&self.block[..self.end_of(count % each)])?;
        stream.write_all(b"{\"op\":\"ping\"}\n")
    }

    /// Bytes of the first `count` lines of a block.
    fn end_of(&self, count: u64) -> usize {
        (count as usize).checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// Bytes of `count` lines.
    fn bytes(&self, count: u64) -> u64 {
        let each = self.ends.len() as u64;
        count / each * self.block.len() as u64 + self.end_of(count % each) as u64
    }
}

fn report(arguments: &Arguments, bytes: u64, elapsed: Duration, cpu: Option<(Cpu, Cpu)>) {
    let (lines, seconds) = (arguments.lines as f64, elapsed.as_secs_f64());
    eprintln!(
        "{} lines in {seconds:.2} s, {:.0} lines/s, {:.0} MB/s",
        arguments.lines,
        lines / seconds,
        bytes as f64 / seconds / 1e6
    );
    let mut value = json!({
        "lines": arguments.lines,
        "bytes": bytes,
        "rooms": arguments.rooms,
        "seconds": seconds,
        "lines_per_s": lines / seconds,
    });
    if let Some((from, to)) = cpu {
        let (all, user, system) = to.since(&from);
        let each = |time: u64| time as f64 / lines;
        let share = all as f64 / elapsed.as_nanos() as f64;
        eprintln!(
            "server: {:.0} ns CPU per line ({:.0} user, {:.0} system), {share:.2} of a core, \
             {:.0} lines per second of CPU",
            each(all),
            each(user),
            each(system),
            1e9 / each(all).max(1e-9),
        );
        value["server_cpu_ns_per_line"] = json!(each(all));
        value["server_user_ns_per_line"] = json!(each(user));
        value["server_system_ns_per_line"] = json!(each(system));
        value["server_cpu_share"] = json!(share);
    }
    if arguments.json {
        println!("{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_round_and_have_their_length() {
        let arguments = Arguments {
            ingest: String::new(),
            ingest_token: None,
            lines: 1,
            rooms: 3,
            room_prefix: "bench:".to_owned(),
            payload: 150,
            server_pid: None,
            pin: None,
            json: false,
        };
        let lines = Lines::new(&arguments);
        assert_eq!(lines.ends.len() % 3, 0);
        let first: serde_json::Value = serde_json::from_slice(&lines.block[..lines.ends[0]]).expect("JSON");
        assert_eq!((first["room"].as_str(), first["data"].to_string().len()), (Some("bench:0"), 150));
        let each = lines.ends.len() as u64;
        assert_eq!(lines.bytes(0), 0);
        assert_eq!(lines.bytes(each), lines.block.len() as u64);
        assert_eq!(lines.bytes(each + 1), (lines.block.len() + lines.ends[0]) as u64);
    }
}
