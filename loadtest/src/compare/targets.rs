//! What the performance contract demands of each workload
//! (`spec/performance.md`, "Targets"), and in which form the floor stands
//! against it.

use crate::fanout::Named;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Server CPU time per delivery.
    Cpu,
    P50,
    P99,
}

/// With what the server is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    Floor,
    Peer,
    /// A latency in µs: the limit itself.
    Nothing,
}

/// One demand on the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    pub figure: Figure,
    pub against: Against,
    /// At most this ratio, or this latency in µs.
    pub limit: f64,
}

impl Target {
    const fn new(figure: Figure, against: Against, limit: f64) -> Self {
        Self { figure, against, limit }
    }

    /// Such as `CPU ≤ 1.05 × floor`.
    pub fn text(&self) -> String {
        let figure = match self.figure {
            Figure::Cpu => "CPU",
            Figure::P50 => "p50",
            Figure::P99 => "p99",
        };
        match self.against {
            Against::Floor => format!("{figure} ≤ {:.2} × floor", self.limit),
            Against::Peer => format!("{figure} ≤ {:.2} × peer", self.limit),
            Against::Nothing => format!("{figure} ≤ {:.0} µs", self.limit),
        }
    }
}

/// Under which conditions the server was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// Its turns may wait, which only P asks for.
    pub paced: bool,
    pub tls: bool,
}

/// The targets of a workload. The peer that the contract means is uWebSockets.
pub fn targets(workload: Named, conditions: Conditions) -> Vec<Target> {
    use Against::{Floor, Nothing, Peer};
    use Figure::{Cpu, P50, P99};
    if conditions.tls {
        return vec![Target::new(Cpu, Floor, 1.15)];
    }
    match workload {
        Named::A | Named::C => vec![Target::new(Cpu, Floor, 1.05), Target::new(Cpu, Peer, 1.0)],
        Named::B => vec![Target::new(Cpu, Floor, 1.20)],
        Named::D => vec![Target::new(Cpu, Floor, 1.05)],
        Named::E => vec![Target::new(Cpu, Peer, 1.0)],
        Named::F => vec![Target::new(Cpu, Peer, 0.95)],
        Named::G => vec![Target::new(P99, Peer, 1.2), Target::new(Cpu, Peer, 1.0)],
        Named::P if conditions.paced => {
            vec![Target::new(Cpu, Peer, 0.70), Target::new(P50, Nothing, 5_000.0)]
        }
        Named::P => vec![Target::new(P50, Peer, 1.0)],
    }
}

/// Options of the floor: the form that suits the workload best.
pub fn floor_options(workload: Named) -> &'static [&'static str] {
    match workload {
        Named::A | Named::C | Named::F | Named::G => &[],
        Named::B | Named::P => &["--batch", "64"],
        Named::D => &["--batch", "16"],
        Named::E => &["--batch", "256", "--gather"],
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_workload_has_a_target_that_reads_well() {
        for workload in Named::value_variants() {
            assert!(!targets(*workload, Conditions::default()).is_empty());
        }
        assert_eq!(targets(Named::A, Conditions::default())[0].text(), "CPU ≤ 1.05 × floor");
        let paced = Conditions { paced: true, tls: false };
        assert_eq!(targets(Named::P, paced)[1].text(), "p50 ≤ 5000 µs");
        let tls = Conditions { paced: true, tls: true };
        assert_eq!(targets(Named::B, tls)[0].text(), "CPU ≤ 1.15 × floor");
    }
}
