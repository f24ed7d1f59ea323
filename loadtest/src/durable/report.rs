//! The result, for people and as JSON.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::clock::SECOND;

/// Everything that was measured, of the measured time.
pub struct Report {
    pub senders: usize,
    /// Messages per second that were asked for.
    pub rate: Option<f64>,
    /// Messages of the schedule that were not sent.
    pub late: u64,
    /// ns.
    pub elapsed: u64,
    /// Messages that came back to their senders.
    pub messages: u64,
    /// Messages that came to those to whom they were said, once for each.
    pub received: u64,
    /// Receipts that came to senders, where there are any.
    pub receipts: Option<u64>,
    /// ns, from sending until the sender has it.
    pub acknowledged: Histogram<u64>,
    /// ns, from sending until a recipient has it.
    pub delivered: Histogram<u64>,
    pub commits_per_s: f64,
    /// Changes in them.
    pub requests_per_s: f64,
    /// Of the server, ns: all, user, system.
    pub cpu: (u64, u64, u64),
    /// Of this program, ns.
    pub own_cpu: u64,
}

/// p50, p99 and the longest, ms.
fn quantiles(latency: &Histogram<u64>) -> [f64; 3] {
    [latency.value_at_quantile(0.5), latency.value_at_quantile(0.99), latency.max()]
        .map(|nanoseconds| nanoseconds as f64 / 1e6)
}

impl Report {
    fn per_second(&self, count: u64) -> f64 {
        count as f64 * SECOND as f64 / self.elapsed.max(1) as f64
    }

    /// Server CPU time for a message, µs: all, user, system.
    fn cost(&self) -> [f64; 3] {
        let (all, user, system) = self.cpu;
        [all, user, system].map(|time| time as f64 / 1e3 / self.messages.max(1) as f64)
    }

    fn share(&self, cpu: u64) -> f64 {
        cpu as f64 / self.elapsed.max(1) as f64
    }

    /// A few lines for the terminal.
    pub fn text(&self) -> String {
        let messages = self.per_second(self.messages);
        let [p50, p99, max] = quantiles(&self.acknowledged);
        let [cost, user, system] = self.cost();
        let mut text = format!(
            "{} senders: {messages:.0} durable messages/s, none lost, doubled or out of order\n\
             acknowledged after ms: p50 {p50:.1}, p99 {p99:.1}, max {max:.1}",
            self.senders
        );
        if self.received > 0 {
            let [p50, p99, max] = quantiles(&self.delivered);
            text.push_str(&format!(
                "\nreceived after ms: p50 {p50:.1}, p99 {p99:.1}, max {max:.1}; {:.0} deliveries/s",
                self.per_second(self.received)
            ));
        }
        if let Some(receipts) = self.receipts.filter(|receipts| *receipts > 0) {
            text.push_str(&format!("; {:.0} receipts/s", self.per_second(receipts)));
        }
        text.push_str(&format!(
            "\n{:.0} commits/s, {:.1} messages and {:.1} changes in each\n\
             server: {cost:.1} µs CPU per message ({user:.1} user, {system:.1} system), {:.2} of a core; \
             load generator: {:.2} of a core",
            self.commits_per_s,
            messages / self.commits_per_s.max(1e-9),
            self.requests_per_s / self.commits_per_s.max(1e-9),
            self.share(self.cpu.0),
            self.share(self.own_cpu),
        ));
        if self.late > 0 {
            text.push_str(&format!("\n{} messages were not sent: the schedule was not kept", self.late));
        }
        text
    }

    /// One object.
    pub fn json(&self) -> Value {
        let latency = |latency: &Histogram<u64>| {
            let [p50, p99, max] = quantiles(latency);
            json!({ "p50": p50, "p99": p99, "max": max })
        };
        let messages = self.per_second(self.messages);
        let [cost, user, system] = self.cost();
        json!({
            "senders": self.senders,
            "rate": self.rate,
            "messages_not_sent": self.late,
            "seconds": self.elapsed as f64 / SECOND as f64,
            "messages": self.messages,
            "messages_per_s": messages,
            "acknowledged_ms": latency(&self.acknowledged),
            "received_per_s": self.per_second(self.received),
            "received_ms": latency(&self.delivered),
            "receipts_per_s": self.receipts.map(|receipts| self.per_second(receipts)),
            "commits_per_s": self.commits_per_s,
            "messages_per_commit": messages / self.commits_per_s.max(1e-9),
            "changes_per_commit": self.requests_per_s / self.commits_per_s.max(1e-9),
            "server_cpu_us_per_message": cost,
            "server_user_us_per_message": user,
            "server_system_us_per_message": system,
            "server_cpu_share": self.share(self.cpu.0),
            "load_cpu_share": self.share(self.own_cpu),
        })
    }
}
