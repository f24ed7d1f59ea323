//! Everything counted, as Prometheus text (exposition format 0.0.4): the names of the families stand here and
//! nowhere else (`spec/operations.md`, "Metrics").
//!
//! Families of fanfare begin with `fanfare_`; `process_*` have the names every Prometheus client library gives
//! them, without the prefix, so that existing dashboards and alerts find them.
//!
//! Every combination of label values is written from the start, zero or not: `rate()` and `increase()` miss the
//! first event of a series that appears only with it. The sets are fixed at compile time, so the text stays
//! small: below 60 KB with 16 shards.
//!
//! Gauges of the last minute carry `percentile`, since the label `quantile` is reserved for summaries.

mod store;

use std::fmt::{Display, Write};
use std::sync::Arc;

use super::latency::{BUCKET_BOUNDS, Cumulative, LastMinute, LatencyStore};
use super::process::Process;
use super::{Counter, IngestResult, LimitKind, Rejection, RouterMetrics, ShardMetrics};
use crate::audience::{App, TransportKind, Wire};
use crate::close::{CloseReason, ErrorCode};

pub use store::expose_store;

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The values of `percentile`, in the order of [`super::latency::QUANTILES`].
const PERCENTILES: [&str; 4] = ["50", "90", "99", "99.9"];

/// All families. `latencies` should just have been collected.
pub fn expose(shards: &[Arc<ShardMetrics>], router: &RouterMetrics, latencies: &LatencyStore) -> String {
    let mut text = Text { out: String::with_capacity(64 * 1024), family: "" };
    clients(&mut text, shards);
    messages(&mut text, shards);
    delivery(&mut text, shards);
    ingest(&mut text, router);
    rooms(&mut text, shards, router);
    times(&mut text, latencies);
    turns(&mut text, shards, latencies);
    process(&mut text, Process::read());
    text.out
}

/// The sum of one counter over all shards. A gauge's blocks may be read at slightly different times.
pub fn total(shards: &[Arc<ShardMetrics>], counter: impl Fn(&ShardMetrics) -> &Counter) -> u64 {
    shards.iter().fold(0, |sum, shard| sum.wrapping_add(counter(shard).get()))
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text so far, and the family whose rows are being written.
struct Text {
    out: String,
    family: &'static str,
}

impl Text {
    /// Begins a family; its rows follow.
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn row(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// A row whose name is the family's and `suffix`. Label values are names of ours, numbers and versions:
    /// nothing in them needs an escape.
    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let _ = write!(self.out, "{}{suffix}", self.family);
        let mut before = '{';
        for (name, label) in labels {
            let _ = write!(self.out, "{before}{name}=\"{label}\"");
            before = ',';
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{close} {value}");
    }

    /// A family of one row without labels.
    fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.row(&[], value);
    }

    /// As `single`, or nothing at all if the value is not known.
    fn known(&mut self, name: &'static str, kind: Kind, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.single(name, kind, help, value);
        }
    }

    /// The rows of one histogram. `labels` come before `le`.
    fn histogram(&mut self, labels: &[(&str, &dyn Display)], counts: &Cumulative) {
        for (bound, at_most) in BUCKET_BOUNDS.iter().zip(counts.at_most()) {
            let bound = *bound as f64 / 1e9;
            self.suffixed("_bucket", &[labels, &[("le", &bound)]].concat(), at_most);
        }
        let count = counts.count();
        self.suffixed("_bucket", &[labels, &[("le", &"+Inf")]].concat(), count);
        self.suffixed("_sum", labels, counts.sum_seconds());
        self.suffixed("_count", labels, count);
    }

    /// The rows of a `percentile` gauge; NaN, which graphs leave blank, when nothing happened.
    fn percentiles(&mut self, minute: Option<LastMinute>) {
        for (index, percentile) in PERCENTILES.iter().enumerate() {
            let value = minute.map_or(f64::NAN, |minute| minute.quantiles[index]);
            self.row(&[("percentile", percentile)], value);
        }
    }
}

fn clients(text: &mut Text, shards: &[Arc<ShardMetrics>]) {
    text.family("fanfare_connections", Kind::Gauge, "Open clients.");
    per_transport(text, shards, |shard| &shard.connections);
    text.family("fanfare_connections_opened_total", Kind::Counter, "Clients ever opened.");
    per_transport(text, shards, |shard| &shard.connections_opened);
    text.family("fanfare_connections_closed_total", Kind::Counter, "Clients closed, by why they ended.");
    for (app, transport) in apps_and_transports() {
        for (reason, label) in CloseReason::LABELS.iter().enumerate() {
            let value =
                total(shards, |shard| &shard.connections_closed[app.index()][transport as usize][reason]);
            let labels: [(&str, &dyn Display); 3] =
                [("app", &app.name()), ("transport", &transport.name()), ("reason", label)];
            text.row(&labels, value);
        }
    }
    let help = "TCP connections on the public listeners, upgraded or not.";
    text.single("fanfare_sockets", Kind::Gauge, help, total(shards, |shard| &shard.sockets));
    text.family("fanfare_handshakes_rejected_total", Kind::Counter, "Requests refused before the upgrade.");
    labelled(text, "reason", &Rejection::LABELS, |index| {
        total(shards, |shard| &shard.handshakes_rejected[index])
    });
    text.family("fanfare_rate_limited_total", Kind::Counter, "Limits hit.");
    labelled(text, "limit", &LimitKind::LABELS, |index| total(shards, |shard| &shard.rate_limited[index]));
}

fn messages(text: &mut Text, shards: &[Arc<ShardMetrics>]) {
    text.family("fanfare_messages_received_total", Kind::Counter, "Messages received from clients.");
    labelled(text, "app", &App::ALL.map(App::name), |index| {
        total(shards, |shard| &shard.messages_received[index])
    });
    let help = "Messages of clients answered with an error.";
    text.family("fanfare_messages_rejected_total", Kind::Counter, help);
    labelled(text, "code", &ErrorCode::ALL.map(ErrorCode::as_str), |index| {
        total(shards, |shard| &shard.messages_rejected[index])
    });
}

fn delivery(text: &mut Text, shards: &[Arc<ShardMetrics>]) {
    let wires = Wire::ALL.map(Wire::name);
    let help = "Events written to clients: one event to one connection is one.";
    text.family("fanfare_deliveries_total", Kind::Counter, help);
    labelled(text, "wire", &wires, |index| total(shards, |shard| &shard.deliveries[index]));
    text.family("fanfare_delivered_bytes_total", Kind::Counter, "Bytes of the events written to clients.");
    labelled(text, "wire", &wires, |index| total(shards, |shard| &shard.delivered_bytes[index]));
    text.family("fanfare_socket_writes_total", Kind::Counter, "System calls that wrote to clients.");
    labelled(text, "wire", &wires, |index| total(shards, |shard| &shard.socket_writes[index]));
    text.single(
        "fanfare_events_conflated_total",
        Kind::Counter,
        "Events replaced by a newer one of their key before a blocked subscriber could be sent them.",
        total(shards, |shard| &shard.events_conflated),
    );
    text.single(
        "fanfare_slow_consumers_total",
        Kind::Counter,
        "Clients closed because their outbox was full.",
        total(shards, |shard| &shard.slow_consumers),
    );
    text.single(
        "fanfare_engineio_sessions",
        Kind::Gauge,
        "Open Engine.IO sessions, polling or not.",
        total(shards, |shard| &shard.engines),
    );
    text.single(
        "fanfare_engineio_upgrades_total",
        Kind::Counter,
        "Engine.IO sessions that went from polling to a WebSocket.",
        total(shards, |shard| &shard.upgrades),
    );
    text.single(
        "fanfare_connections_recovered_total",
        Kind::Counter,
        "Clients that came back and were given all they had missed.",
        total(shards, |shard| &shard.recovered),
    );
    text.single(
        "fanfare_outbox_bytes",
        Kind::Gauge,
        "Bytes held up for clients whose sockets are full.",
        total(shards, |shard| &shard.outbox_bytes),
    );
}

fn ingest(text: &mut Text, router: &RouterMetrics) {
    let publishers = router.ingest_connections.get();
    text.single("fanfare_ingest_connections", Kind::Gauge, "Publishers connected.", publishers);
    text.family(
        "fanfare_ingest_messages_total",
        Kind::Counter,
        "Lines from publishers, by what became of them.",
    );
    labelled(text, "result", &IngestResult::LABELS, |index| router.ingest_messages[index].get());
    let bytes = router.ingest_bytes.get();
    text.single("fanfare_ingest_bytes_total", Kind::Counter, "Bytes read from publishers.", bytes);
    text.single(
        "fanfare_ingest_backpressure_total",
        Kind::Counter,
        "Times reading from publishers was stopped because a shard could not keep up.",
        router.backpressure.get(),
    );
    text.single(
        "fanfare_messages_forwarded_total",
        Kind::Counter,
        "Messages of clients handed to listening publishers.",
        router.forwarded.get(),
    );
}

fn rooms(text: &mut Text, shards: &[Arc<ShardMetrics>], router: &RouterMetrics) {
    let help = "Rooms the broker knows, with and without members.";
    text.single("fanfare_rooms", Kind::Gauge, help, router.known_rooms.get());
    let help = "Rooms with members on the shard.";
    per_shard(text, "fanfare_shard_rooms", Kind::Gauge, help, shards, |shard| &shard.rooms);
    let evicted = router.rooms_evicted.get();
    let help = "Rooms forgotten because the broker knew too many.";
    text.single("fanfare_rooms_evicted_total", Kind::Counter, help, evicted);
    let subscriptions = total(shards, |shard| &shard.subscriptions);
    text.single("fanfare_subscriptions", Kind::Gauge, "Room joins in force.", subscriptions);
    let users = router.users_online.get();
    text.single("fanfare_users_online", Kind::Gauge, "Users with at least one connection.", users);
    let sessions = router.recoverable_sessions.get();
    let help = "Lost sessions that may come back.";
    text.single("fanfare_recoverable_sessions", Kind::Gauge, help, sessions);
    let help = "Bytes of events kept for sessions that may come back.";
    text.single("fanfare_history_bytes", Kind::Gauge, help, router.history_bytes.get());
}

fn times(text: &mut Text, latencies: &LatencyStore) {
    let help = "From a publisher's line read to the write to its last subscriber.";
    text.family("fanfare_fanout_seconds", Kind::Histogram, help);
    text.histogram(&[], latencies.fanout().cumulative());
    let minute = latencies.fanout().last_minute();
    let help = "Percentiles of fanfare_fanout_seconds in the last minute.";
    text.family("fanfare_fanout_recent_seconds", Kind::Gauge, help);
    text.percentiles(minute);
    let help = "Longest of fanfare_fanout_seconds in the last minute.";
    text.single("fanfare_fanout_recent_max_seconds", Kind::Gauge, help, longest(minute));

    let help = "From a publisher's timestamp to the write, weighted by subscribers.";
    text.family("fanfare_end_to_end_seconds", Kind::Histogram, help);
    text.histogram(&[], latencies.end_to_end().cumulative());
    let minute = latencies.end_to_end().last_minute();
    let help = "Percentiles of fanfare_end_to_end_seconds in the last minute.";
    text.family("fanfare_end_to_end_recent_seconds", Kind::Gauge, help);
    text.percentiles(minute);
    let help = "Longest of fanfare_end_to_end_seconds in the last minute.";
    text.single("fanfare_end_to_end_recent_max_seconds", Kind::Gauge, help, longest(minute));
}

fn longest(minute: Option<LastMinute>) -> f64 {
    minute.map_or(f64::NAN, |minute| minute.max)
}

fn turns(text: &mut Text, shards: &[Arc<ShardMetrics>], latencies: &LatencyStore) {
    let help = "Turns of a shard's loop, without the wait for events.";
    text.family("fanfare_loop_turn_seconds", Kind::Histogram, help);
    for (shard, turns) in latencies.loop_turns().enumerate() {
        text.histogram(&[("shard", &shard)], turns);
    }
    let help = "Percentiles of fanfare_loop_turn_seconds over all shards in the last minute.";
    text.family("fanfare_loop_turn_recent_seconds", Kind::Gauge, help);
    text.percentiles(latencies.loop_turn_last_minute());
    let help = "Longest turn of each shard in the last minute.";
    text.family("fanfare_loop_turn_recent_max_seconds", Kind::Gauge, help);
    for (shard, longest) in latencies.longest_turns().enumerate() {
        text.row(&[("shard", &shard)], longest);
    }
    let help = "Turns of a shard's loop.";
    per_shard(text, "fanfare_loop_turns_total", Kind::Counter, help, shards, |shard| &shard.turns);
    let help = "Socket events a shard took from its poll.";
    per_shard(text, "fanfare_loop_events_total", Kind::Counter, help, shards, |shard| &shard.loop_events);
}

fn process(text: &mut Text, process: Process) {
    text.family("fanfare_build_info", Kind::Gauge, "Which build runs; always 1.");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    text.row(&[("version", &env!("CARGO_PKG_VERSION")), ("profile", &profile)], 1);
    let help = "User and system time of all threads.";
    text.known("process_cpu_seconds_total", Kind::Counter, help, process.cpu_seconds);
    let help = "When the process started, seconds since the Unix epoch.";
    text.known("process_start_time_seconds", Kind::Gauge, help, process.start_time_seconds);
    text.known("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", process.resident_bytes);
    text.known("process_virtual_memory_bytes", Kind::Gauge, "Address space.", process.virtual_bytes);
    text.known("process_open_fds", Kind::Gauge, "Open file descriptors.", process.open_descriptors);
    text.known("process_max_fds", Kind::Gauge, "Most file descriptors allowed.", process.max_descriptors);
    text.known("process_threads", Kind::Gauge, "Threads of the process.", process.threads);
}

fn apps_and_transports() -> impl Iterator<Item = (App, TransportKind)> {
    App::ALL.into_iter().flat_map(|app| TransportKind::ALL.map(|transport| (app, transport)))
}

/// One row for each app and transport.
fn per_transport(
    text: &mut Text,
    shards: &[Arc<ShardMetrics>],
    counters: fn(&ShardMetrics) -> &[[Counter; TransportKind::COUNT]; App::COUNT],
) {
    for (app, transport) in apps_and_transports() {
        let value = total(shards, |shard| &counters(shard)[app.index()][transport as usize]);
        text.row(&[("app", &app.name()), ("transport", &transport.name())], value);
    }
}

/// One row for each value of `label`.
fn labelled(text: &mut Text, label: &str, names: &[&'static str], value: impl Fn(usize) -> u64) {
    for (index, name) in names.iter().enumerate() {
        text.row(&[(label, name)], value(index));
    }
}

/// A family with one row for each shard.
fn per_shard(
    text: &mut Text,
    name: &'static str,
    kind: Kind,
    help: &str,
    shards: &[Arc<ShardMetrics>],
    counter: fn(&ShardMetrics) -> &Counter,
) {
    text.family(name, kind, help);
    for (index, shard) in shards.iter().enumerate() {
        text.row(&[("shard", &index)], counter(shard).get());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::metrics::StoreMetrics;
    use crate::metrics::latency::{LatencyRecorder, Timing};

    /// What a busy broker with two shards might show.
    fn sample(shard_count: usize) -> String {
        let shards: Vec<Arc<ShardMetrics>> = (0..shard_count).map(|_| Arc::default()).collect();
        let mut store = LatencyStore::new(shard_count, 0);
        for (index, shard) in shards.iter().enumerate() {
            shard.connections[App::Market.index()][0].add(3 + index as u64);
            shard.connections_closed[App::Account.index()][0][CloseReason::SlowConsumer.index()].add(1);
            shard.deliveries[Wire::Typed.index()].add(u64::MAX / 1_000);
            shard.loop_events.add(17);
            let mut recorder = LatencyRecorder::new();
            for step in 0..2_000u64 {
                recorder.loop_turn(step * 1_000);
                recorder.fanout(step * step * 10_000);
                recorder.end_to_end(step * 5_000, step);
            }
            store.merge(index, recorder.swap(Box::default()));
        }
        let router = RouterMetrics::default();
        router.ingest_messages[IngestResult::Duplicate as usize].add(5);
        let database = StoreMetrics::default();
        database.commits.add(7);
        let mut commits = Timing::new();
        commits.record_n(1_500_000, 7);
        store.merge_commits(&commits);
        expose(&shards, &router, &store) + &expose_store(&database, 3, &store)
    }

    /// Reads the text as a scraper would; panics on anything irregular. Rows by name and labels.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let (mut rows, mut seen, mut family, mut kind) =
            (BTreeMap::new(), BTreeSet::new(), String::new(), String::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(seen.insert(name.to_owned()), "{name} twice");
                assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
                let declared = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("a type");
                let (typed, of) = declared.split_once(' ').expect("a kind");
                assert_eq!(typed, name);
                (family, kind) = (name.to_owned(), of.to_owned());
                assert_eq!(name.ends_with("_total"), of == "counter", "{name}");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{name} in {family}"));
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            let value: f64 = value.parse().expect("a number");
            assert!(rows.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
        rows
    }

    #[test]
    fn every_row_has_a_family_and_no_row_comes_twice() {
        let rows = parse(&sample(2));
        assert_eq!(rows["fanfare_connections{app=\"market\",transport=\"websocket\"}"], 7.0);
        let closed = "fanfare_connections_closed_total{app=\"account\",transport=\"websocket\",reason=\"slow_consumer\"}";
        assert_eq!(rows[closed], 2.0);
        assert_eq!(rows["fanfare_loop_events_total{shard=\"1\"}"], 17.0);
        assert_eq!(rows["fanfare_ingest_messages_total{result=\"duplicate\"}"], 5.0);
        assert_eq!(rows["fanfare_store_commits_total"], 7.0);
        assert_eq!(rows["fanfare_store_queue_length"], 3.0);
        assert_eq!(rows["fanfare_store_commit_seconds_bucket{le=\"0.0025\"}"], 7.0);
        for name in rows.keys() {
            assert!(name.starts_with("fanfare_") || name.starts_with("process_"), "{name}");
        }
    }

    #[test]
    fn histograms_are_cumulative_and_end_in_their_count() {
        let text = sample(2);
        let rows = parse(&text);
        for (prefix, count) in [
            ("fanfare_fanout_seconds_bucket{le=", "fanfare_fanout_seconds_count"),
            ("fanfare_end_to_end_seconds_bucket{le=", "fanfare_end_to_end_seconds_count"),
            (
                "fanfare_loop_turn_seconds_bucket{shard=\"1\",le=",
                "fanfare_loop_turn_seconds_count{shard=\"1\"}",
            ),
        ] {
            let buckets: Vec<f64> = text
                .lines()
                .filter(|line| line.starts_with(prefix))
                .map(|line| rows[line.rsplit_once(' ').expect("a value").0])
                .collect();
            assert_eq!(buckets.len(), BUCKET_BOUNDS.len() + 1);
            assert!(buckets.is_sorted(), "{prefix} {buckets:?}");
            assert!(buckets[0] > 0.0);
            assert_eq!(buckets.last(), Some(&rows[count]));
        }
        assert_eq!(rows["fanfare_fanout_seconds_count"], 4_000.0);
        let median = rows["fanfare_loop_turn_recent_seconds{percentile=\"50\"}"];
        assert!((median - 0.001).abs() < 0.00001, "{median}");
    }

    #[test]
    fn the_text_stays_small() {
        let length = sample(16).len();
        assert!(length < 60_000, "{length} bytes for 16 shards");
    }

    /// Runs where Prometheus' own checker is installed, and says so where it is not.
    #[test]
    fn promtool_has_nothing_to_say() {
        let started = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = started else {
            eprintln!("promtool is not installed: not checked");
            return;
        };
        let mut input = promtool.stdin.take().expect("piped");
        input.write_all(sample(2).as_bytes()).expect("promtool reads");
        drop(input);
        let output = promtool.wait_with_output().expect("promtool ends");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
