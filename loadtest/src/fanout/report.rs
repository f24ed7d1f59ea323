//! The result of one measurement, for people and as JSON.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::receive::Counts;
use super::workload::{Pressure, Workload};
use crate::clock::SECOND;

/// Everything that was measured. Counts are of the measured time, unless they
/// say otherwise.
pub struct Report {
    pub workload: Workload,
    pub payload: usize,
    pub stalled: usize,
    /// Measured time, ns.
    pub elapsed: u64,
    pub deliveries: u64,
    pub published: u64,
    /// ns.
    pub latency: Histogram<u64>,
    /// Over the whole run, drain included.
    pub counts: Counts,
    /// Over the whole run.
    pub lost: u64,
    /// Publications that a full ring or socket held back, fixed rate only.
    pub late: u64,
    pub server: Option<Server>,
    /// CPU time of this program, ns.
    pub own_cpu: u64,
    /// Connections ready per second.
    pub connect_rate: f64,
}

/// What the server process spent.
pub struct Server {
    /// User and system time, ns, and its parts.
    pub cpu: (u64, u64, u64),
    /// Growth of resident memory per connection by connecting, bytes.
    pub resident_each: i64,
    pub private_dirty_each: i64,
    /// Resident memory at the end, bytes.
    pub resident: u64,
    pub proportional: u64,
}

impl Report {
    fn per_second(&self, count: u64) -> f64 {
        count as f64 * SECOND as f64 / self.elapsed.max(1) as f64
    }

    fn per_delivery(&self, nanoseconds: u64) -> f64 {
        nanoseconds as f64 / self.deliveries.max(1) as f64
    }

    /// A latency quantile, µs.
    fn quantile(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// A few lines for the terminal.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "{:.0} deliveries/s, {:.0} events/s; lost {}, duplicated {}, reordered {}\n\
             latency µs: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}\n\
             load generator: {:.2} of a core, {:.0} ns per delivery",
            self.per_second(self.deliveries),
            self.per_second(self.published),
            self.lost,
            self.counts.duplicated,
            self.counts.reordered,
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999),
            self.latency.max() as f64 / 1e3,
            self.own_cpu as f64 / self.elapsed.max(1) as f64,
            self.per_delivery(self.own_cpu),
        );
        if let Some(server) = &self.server {
            let (all, user, system) = server.cpu;
            text.push_str(&format!(
                "\nserver: {:.0} ns per delivery ({:.0} user, {:.0} system), {:.2} of a core; \
                 {} bytes per connection (resident)",
                self.per_delivery(all),
                self.per_delivery(user),
                self.per_delivery(system),
                all as f64 / self.elapsed.max(1) as f64,
                server.resident_each,
            ));
        }
        if self.late > 0 {
            text.push_str(&format!("\n{} publications were held back: the schedule was not kept", self.late));
        }
        text
    }

    /// One object.
    pub fn json(&self) -> Value {
        let (window, rate) = match self.workload.pressure {
            Pressure::Window(window) => (Some(window), None),
            Pressure::Rate(rate) => (None, Some(rate)),
        };
        let mut value = json!({
            "connections": self.workload.connections,
            "rooms": self.workload.rooms,
            "rooms_per_connection": self.workload.rooms_per_connection,
            "zipf": self.workload.zipf,
            "window": window,
            "rate": rate,
            "payload": self.payload,
            "stalled": self.stalled,
            "seconds": self.elapsed as f64 / SECOND as f64,
            "deliveries": self.deliveries,
            "deliveries_per_s": self.per_second(self.deliveries),
            "published": self.published,
            "publish_rate": self.per_second(self.published),
            "latency_us": {
                "p50": self.quantile(0.5),
                "p99": self.quantile(0.99),
                "p999": self.quantile(0.999),
                "max": self.latency.max() as f64 / 1e3,
            },
            "lost": self.lost,
            "duplicated": self.counts.duplicated,
            "reordered": self.counts.reordered,
            "misdirected": self.counts.misdirected,
            "other_messages": self.counts.other,
            "publications_held_back": self.late,
            "connects_per_s": self.connect_rate,
            "load_cpu_share": self.own_cpu as f64 / self.elapsed.max(1) as f64,
            "load_cpu_ns_per_delivery": self.per_delivery(self.own_cpu),
        });
        if let Some(server) = &self.server {
            let (all, user, system) = server.cpu;
            value["server_cpu_ns_per_delivery"] = json!(self.per_delivery(all));
            value["server_user_ns_per_delivery"] = json!(self.per_delivery(user));
            value["server_system_ns_per_delivery"] = json!(self.per_delivery(system));
            value["server_cpu_share"] = json!(all as f64 / self.elapsed.max(1) as f64);
            value["memory_per_connection"] = json!({
                "resident": server.resident_each,
                "private_dirty": server.private_dirty_each,
            });
            value["server_resident"] = json!(server.resident);
            value["server_proportional"] = json!(server.proportional);
        }
        value
    }
}
