//! The families of the store.

use super::{Kind, Text, longest};
use crate::metrics::StoreMetrics;
use crate::metrics::latency::LatencyStore;

/// The store's families, to stand behind all others where there is a store. `queue_length`: requests that wait.
/// `latencies` should just have been given the newest times of commits.
pub fn expose_store(store: &StoreMetrics, queue_length: usize, latencies: &LatencyStore) -> String {
    let mut text = Text { out: String::with_capacity(4 * 1024), family: "" };
    let help = "Transactions of the store that are on the disk.";
    text.single("fanfare_store_commits_total", Kind::Counter, help, store.commits.get());
    let help = "Requests that were in them: divided by the transactions, how many share one.";
    text.single("fanfare_store_requests_total", Kind::Counter, help, store.requests.get());
    let help = "Transactions of the store that failed.";
    text.single("fanfare_store_failures_total", Kind::Counter, help, store.failures.get());
    let help = "Requests that wait for the store.";
    text.single("fanfare_store_queue_length", Kind::Gauge, help, queue_length);
    let help = "Commits of the store, from the end of their work to the disk's word.";
    text.family("fanfare_store_commit_seconds", Kind::Histogram, help);
    text.histogram(&[], latencies.commits().cumulative());
    let minute = latencies.commits().last_minute();
    let help = "Percentiles of fanfare_store_commit_seconds in the last minute.";
    text.family("fanfare_store_commit_recent_seconds", Kind::Gauge, help);
    text.percentiles(minute);
    let help = "Longest of fanfare_store_commit_seconds in the last minute.";
    text.single("fanfare_store_commit_recent_max_seconds", Kind::Gauge, help, longest(minute));
    text.out
}
