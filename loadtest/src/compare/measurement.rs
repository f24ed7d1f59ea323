//! One run of the load generator against one server, in a process of its own.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::program::{Running, own_executable, tail};
use super::targets::Figure;
use crate::failure::{Context, Failure};

/// What one run gave.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Server CPU time per delivery, ns.
    pub cpu: f64,
    /// Latencies, µs.
    pub p50: f64,
    pub p99: f64,
    pub deliveries_per_s: f64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Everything the load generator printed.
    pub whole: Value,
}

impl Measurement {
    /// Runs `loadtest fanout` with `options` against `server`, with or without
    /// TLS.
    pub fn take(server: &Running, tls: bool, options: &[String]) -> Result<Self, Failure> {
        let scheme = if tls { "wss" } else { "ws" };
        let output = Command::new(own_executable()?)
            .args(["fanout", "--json", "--quiet"])
            .args(["--target", &format!("{scheme}://{}/feed", server.ports.listen)])
            .args(["--ingest", &server.ports.ingest.to_string()])
            .args(["--server-pid", &server.pid().to_string()])
            .args(options)
            .stdin(Stdio::null())
            .output()
            .context(|| "cannot start the load generator".to_owned())?;
        if !output.status.success() {
            return Err(Failure::new(format!(
                "the load generator failed: {}",
                tail(&String::from_utf8_lossy(&output.stderr))
            )));
        }
        let value = serde_json::from_slice(&output.stdout)
            .context(|| "the load generator's result is not JSON".to_owned())?;
        Self::read(value)
    }

    fn read(value: Value) -> Result<Self, Failure> {
        let number = |place: &str| {
            value
                .pointer(place)
                .and_then(Value::as_f64)
                .ok_or_else(|| Failure::new(format!("the load generator's result has no {place}")))
        };
        Ok(Self {
            cpu: number("/server_cpu_ns_per_delivery")?,
            p50: number("/latency_us/p50")?,
            p99: number("/latency_us/p99")?,
            deliveries_per_s: number("/deliveries_per_s")?,
            lost: number("/lost")? as u64,
            duplicated: number("/duplicated")? as u64,
            reordered: number("/reordered")? as u64,
            whole: value,
        })
    }

    /// The figure that a target is about.
    pub fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Cpu => self.cpu,
            Figure::P50 => self.p50,
            Figure::P99 => self.p99,
        }
    }

    /// For the terminal.
    pub fn line(&self) -> String {
        format!(
            "{:>8.1} ns/delivery {:>10.0} deliveries/s  p50 {:>6.0} µs  p99 {:>6.0} µs  \
             lost {}  duplicated {}  reordered {}",
            self.cpu, self.deliveries_per_s, self.p50, self.p99, self.lost, self.duplicated, self.reordered
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let mut value = serde_json::json!({
            "server_cpu_ns_per_delivery": 2.5, "latency_us": { "p50": 1.0, "p99": 2.0 },
            "deliveries_per_s": 7.0, "lost": 1, "duplicated": 2, "reordered": 3,
        });
        let read = Measurement::read(value.clone()).expect("whole");
        assert_eq!((read.figure(Figure::Cpu), read.figure(Figure::P99), read.reordered), (2.5, 2.0, 3));
        value["latency_us"] = Value::Null;
        let failure = Measurement::read(value).expect_err("no latency").to_string();
        assert!(failure.contains("/latency_us/p50"), "{failure}");
    }
}
