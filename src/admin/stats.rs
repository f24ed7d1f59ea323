//! `/stats`: the state of the broker on one page of JSON, for people. Dashboards take `/metrics`.
//!
//! Names of apps, transports and rooms only: no users' tokens, no addresses.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Control;
use crate::audience::{App, TransportKind};
use crate::metrics::expose::total;
use crate::metrics::{Counter, IngestResult, ShardMetrics};
use crate::time::{self, Now};

/// How many rooms are named.
const TOP_ROOMS: usize = 20;

#[derive(Serialize)]
pub(super) struct Stats {
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    draining: bool,
    connections: Connections,
    users_online: u64,
    publishers: u64,
    rooms: Rooms,
    rates_per_second: Rates,
}

#[derive(Serialize)]
struct Connections {
    total: u64,
    by_app: BTreeMap<&'static str, u64>,
    by_transport: BTreeMap<&'static str, u64>,
    /// In shard order.
    by_shard: Vec<u64>,
}

#[derive(Serialize)]
struct Rooms {
    known: u64,
    subscriptions: u64,
    /// Those with most subscribers, the largest first.
    top: Vec<Room>,
}

#[derive(Serialize)]
struct Room {
    room: String,
    subscribers: u64,
}

impl Stats {
    pub fn gather(control: &dyn Control, started: Now, now: Now, rates: Rates) -> Stats {
        let (shards, router) = (control.shards(), control.router());
        let by_shard: Vec<u64> = shards.iter().map(|shard| open(shard, |_, _| true)).collect();
        let open_in_all = |wanted: &dyn Fn(App, TransportKind) -> bool| -> u64 {
            shards.iter().map(|shard| open(shard, wanted)).sum()
        };
        let top = control.top_rooms(TOP_ROOMS).into_iter().take(TOP_ROOMS);
        Stats {
            version: env!("CARGO_PKG_VERSION"),
            started_at: time::millis(started.unix_ms()),
            uptime_seconds: now.mono.saturating_sub(started.mono) / 1_000_000_000,
            draining: control.draining(),
            connections: Connections {
                total: by_shard.iter().sum(),
                by_app: App::ALL.map(|app| (app.name(), open_in_all(&|found, _| found == app))).into(),
                by_transport: TransportKind::ALL
                    .map(|transport| (transport.name(), open_in_all(&|_, found| found == transport)))
                    .into(),
                by_shard,
            },
            users_online: router.users_online.get(),
            publishers: router.ingest_connections.get(),
            rooms: Rooms {
                known: router.known_rooms.get(),
                subscriptions: total(shards, |shard| &shard.subscriptions),
                top: top.map(|(room, subscribers)| Room { room, subscribers }).collect(),
            },
            rates_per_second: rates,
        }
    }
}

/// Open clients of one shard among those wanted.
fn open(shard: &ShardMetrics, wanted: impl Fn(App, TransportKind) -> bool) -> u64 {
    let pairs = App::ALL.into_iter().flat_map(|app| TransportKind::ALL.map(|transport| (app, transport)));
    pairs
        .filter(|(app, transport)| wanted(*app, *transport))
        .map(|(app, transport)| shard.connections[app.index()][transport as usize].get())
        .sum()
}

/// What is counted for the rates, in the order of the fields of [`Rates`].
type Totals = [u64; 6];

/// Counts per second over the last whole interval; all zero before there was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// How long that interval was.
    interval_seconds: f64,
    connections_opened: f64,
    messages_received: f64,
    /// Lines of publishers, whatever became of them, operations aside.
    published: f64,
    deliveries: f64,
    delivered_bytes: f64,
    socket_writes: f64,
}

/// Turns counters into rates: sampled by the ticker.
pub(super) struct RateSampler {
    sampled_at: u64,
    totals: Totals,
    rates: Rates,
}

impl RateSampler {
    /// `now`: monotonic nanoseconds, here and below.
    pub fn new(control: &dyn Control, now: u64) -> RateSampler {
        RateSampler { sampled_at: now, totals: totals(control), rates: Rates::default() }
    }

    /// Ends an interval.
    pub fn sample(&mut self, control: &dyn Control, now: u64) {
        let totals = totals(control);
        let seconds = now.saturating_sub(self.sampled_at) as f64 / 1e9;
        if seconds <= 0.0 {
            return;
        }
        let rate = |index: usize| totals[index].wrapping_sub(self.totals[index]) as f64 / seconds;
        self.rates = Rates {
            interval_seconds: seconds,
            connections_opened: rate(0),
            messages_received: rate(1),
            published: rate(2),
            deliveries: rate(3),
            delivered_bytes: rate(4),
            socket_writes: rate(5),
        };
        (self.sampled_at, self.totals) = (now, totals);
    }

    pub fn rates(&self) -> Rates {
        self.rates
    }
}

fn totals(control: &dyn Control) -> Totals {
    let mut totals = [0; 6];
    let sum = |counters: &[Counter]| counters.iter().map(Counter::get).sum::<u64>();
    for shard in control.shards() {
        totals[0] += shard.connections_opened.iter().map(|app| sum(app)).sum::<u64>();
        totals[1] += sum(&shard.messages_received);
        totals[3] += sum(&shard.deliveries);
        totals[4] += sum(&shard.delivered_bytes);
        totals[5] += sum(&shard.socket_writes);
    }
    for (result, lines) in control.router().ingest_messages.iter().enumerate() {
        totals[2] += if result == IngestResult::Operation as usize { 0 } else { lines.get() };
    }
    totals
}
