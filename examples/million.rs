//! Very many connections in one process, over sockets that take everything: what a connection costs in user space, what
//! an idle turn, a tick of the timers and an event to all cost, and how that grows.
//!
//! `cargo run --release --example million -- [--connections 1000000]`
//!
//! Each size runs in a process of its own, so that none is measured in the memory that another one has left.

#[path = "../benches/null/mod.rs"]
mod null;

use std::process::Command;
use std::time::{Duration, Instant};

use null::World;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pings come this long after the last byte received.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// What the wheel turns by.
const TICK: Duration = Duration::from_millis(10);

/// Private memory of the process, bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this example needs /proc of Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux names it since 4.5");
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.expect("a number of kB") * 1024
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1_000.0
}

fn measure(connections: usize) {
    let mut world = World::new();
    // A first one brings what is made once: buffers, histograms, the tables' first parts.
    world.connect(&["trade:BTC-USDC".to_owned()]);
    let (before, began) = (memory(), Instant::now());
    let room = ["trade:BTC-USDC".to_owned()];
    let gap = PING_INTERVAL / connections as u32;
    let mut slowest = Duration::ZERO;
    for _ in 1..connections {
        let began = Instant::now();
        world.connect(&room);
        slowest = slowest.max(began.elapsed());
        world.advance(gap);
    }
    let connecting = began.elapsed();
    let bytes = memory().saturating_sub(before) / connections as u64;
    assert_eq!(world.connections(), connections, "all have stayed");

    let began = Instant::now();
    const IDLE_TURNS: u32 = 10_000;
    for _ in 0..IDLE_TURNS {
        world.turn();
    }
    let idle = began.elapsed() / IDLE_TURNS;

    let (writes, mut longest, mut ticking) = (world.writes(), Duration::ZERO, Duration::ZERO);
    let ticks = (PING_INTERVAL.as_millis() / TICK.as_millis()) as u32;
    for _ in 0..ticks {
        world.advance(TICK);
        let began = Instant::now();
        world.turn();
        let took = began.elapsed();
        ticking += took;
        longest = longest.max(took);
    }
    let pings = (world.writes() - writes).max(1);

    let mut events = Vec::new();
    for number in 0..7 {
        world.publish(&null::line(&room[0], number));
        let began = Instant::now();
        world.turn();
        events.push(began.elapsed());
    }
    events.sort();
    let event = events[events.len() / 2];

    println!(
        "{connections:>9} {bytes:>8} {:>11.2} {:>9.0} {:>9.2} {:>10.1} {:>10.0} {:>8.0} {:>12.0} {:>8.1}",
        microseconds(connecting) / connections as f64,
        microseconds(slowest),
        microseconds(idle),
        microseconds(ticking / ticks),
        microseconds(longest),
        ticking.as_nanos() as f64 / pings as f64,
        microseconds(event),
        event.as_nanos() as f64 / connections as f64,
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [flag, number] if flag == "--only" => {
            measure(number.parse().expect("--only takes a number"));
        }
        [] => compare(1_000_000),
        [flag, number] if flag == "--connections" => {
            compare(number.parse().expect("--connections takes a number"));
        }
        _ => eprintln!("usage: million [--connections N]"),
    }
}

fn compare(most: usize) {
    println!(
        "{:>9} {:>8} {:>11} {:>9} {:>9} {:>10} {:>10} {:>8} {:>12} {:>8}",
        "conns",
        "B/conn",
        "connect µs",
        "worst µs",
        "idle µs",
        "tick µs",
        "worst µs",
        "ns/ping",
        "event all µs",
        "ns/conn"
    );
    let this = std::env::current_exe().expect("the example knows where it is");
    for connections in [most / 100, most / 10, most] {
        let status = Command::new(&this).args(["--only", &connections.max(2).to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "the run of {connections} failed");
    }
}
