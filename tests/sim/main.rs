//! Simulations: shards and a router over a network that is made up, with a clock that is made up, against a model.
//!
//! Everything that happens follows from a seed. `FANFARE_SIM_SEED=17 cargo test --test sim` runs one seed again,
//! `FANFARE_SIM_SEEDS=100000` runs so many, from `FANFARE_SIM_FIRST` on. `FANFARE_SIM_CLIENT=3` prints what the client
//! with that log was told.

#![allow(clippy::unwrap_used)]

mod client;
mod log;
mod model;
mod net;
mod pipe;
mod play;
mod random;
mod script;
mod socketio;
mod turns;
mod world;

use model::Seen;
use world::World;

/// Simulations in a test run that nobody asked more of.
const SEEDS: u64 = 200;

fn simulate(seed: u64) -> Seen {
    let mut world = World::new(seed);
    for _ in 0..world.random.between(20, 250) {
        world.round();
    }
    world.settle();
    let seen = model::check(&mut world);
    world.end();
    world.check_ends();
    world.check_empty();
    seen
}

/// Says which seed it was that failed.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run this again with FANFARE_SIM_SEED={}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

#[test]
fn simulations_agree_with_the_model() {
    let seeds = match number("FANFARE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("FANFARE_SIM_FIRST").unwrap_or(0);
            first..first + number("FANFARE_SIM_SEEDS").unwrap_or(SEEDS)
        }
    };
    let is_whole = seeds.end - seeds.start >= SEEDS;
    let mut seen = Seen::default();
    for seed in seeds {
        let announce = Announce(seed);
        seen += simulate(seed);
        drop(announce);
    }
    println!("{seen:?}");
    if is_whole {
        let counts = [
            seen.events,
            seen.snapshots,
            seen.left,
            seen.refused,
            seen.blocked,
            seen.conflated as usize,
            seen.slow_consumers as usize,
            seen.acknowledged,
            seen.ended_by_server,
        ];
        let is_whole = counts.iter().all(|count| *count > 0) && seen.socketio.is_whole();
        assert!(is_whole, "the simulations miss something: {seen:?}");
    }
}
