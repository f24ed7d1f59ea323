//! What all runs together say: medians, ratios of the pairs, and whether the
//! targets are met.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::measurement::Measurement;
use super::statistics::{Summary, Verdict, judge, ratios, spread};
use super::targets::{Against, Conditions, Figure, Target, targets};
use super::{AGAIN, FLOOR, PEER, SERVER};
use crate::fanout::Named;

/// Fewer pairs decide nothing (`spec/performance.md`).
const ENOUGH_PAIRS: usize = 10;
/// A floor that differs from itself by more allows the server too much.
const QUIET: f64 = 1.10;
/// In the order in which they are shown.
const PROGRAMS: [&str; 4] = [FLOOR, SERVER, PEER, AGAIN];
/// Ratios that are shown, as (numerator, denominator).
const RATIOS: [(&str, &str); 4] = [(SERVER, FLOOR), (SERVER, PEER), (PEER, FLOOR), (AGAIN, FLOOR)];

/// One run.
pub struct Run {
    pub program: &'static str,
    pub measured: Measurement,
}

/// All runs, in the order in which they were made.
pub struct Report {
    workload: Named,
    conditions: Conditions,
    /// Of server and load generator.
    cores: Option<(usize, usize)>,
    pub runs: Vec<Run>,
}

/// A target, what was measured for it, and the judgement.
struct Judged {
    target: Target,
    /// Median of the pair ratios, or µs.
    value: Option<f64>,
    /// What one program against itself differs by; 1 for an absolute target.
    spread: f64,
    verdict: Verdict,
}

impl Report {
    /// Nothing is measured yet.
    pub fn new(workload: Named, conditions: Conditions, cores: Option<(usize, usize)>) -> Self {
        Self { workload, conditions, cores, runs: Vec::new() }
    }

    /// The runs of one program, pair by pair.
    fn of<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a Measurement> + 'a {
        self.runs.iter().filter(move |run| run.program == program).map(|run| &run.measured)
    }

    fn figures(&self, program: &str, figure: Figure) -> Vec<f64> {
        self.of(program).map(|measured| measured.figure(figure)).collect()
    }

    fn pair_ratios(&self, upper: &str, lower: &str, figure: Figure) -> Vec<f64> {
        ratios(&self.figures(upper, figure), &self.figures(lower, figure))
    }

    /// How far the floor is from itself.
    fn spread(&self, figure: Figure) -> f64 {
        spread(&self.pair_ratios(AGAIN, FLOOR, figure))
    }

    /// Events lost, duplicated and reordered in all runs of a program.
    fn faults(&self, program: &str) -> (u64, u64, u64) {
        self.of(program)
            .fold((0, 0, 0), |sum, run| (sum.0 + run.lost, sum.1 + run.duplicated, sum.2 + run.reordered))
    }

    fn judged(&self) -> Vec<Judged> {
        if self.of(SERVER).next().is_none() {
            return Vec::new();
        }
        let faulty = self.faults(SERVER) != (0, 0, 0);
        let judge_one = |target: Target| {
            let (values, spread) = match target.against {
                Against::Floor => {
                    (self.pair_ratios(SERVER, FLOOR, target.figure), self.spread(target.figure))
                }
                Against::Peer => (self.pair_ratios(SERVER, PEER, target.figure), self.spread(target.figure)),
                Against::Nothing => (self.figures(SERVER, target.figure), 1.0),
            };
            let value = Summary::of(&values).map(|summary| summary.median);
            let verdict = match judge(&values, target.limit, spread) {
                Verdict::Reached if faulty => Verdict::Missed,
                verdict => verdict,
            };
            Judged { target, value, spread, verdict }
        };
        targets(self.workload, self.conditions).into_iter().map(judge_one).collect()
    }

    /// Why the verdicts do not count as final, if so.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let pairs = self.of(FLOOR).count();
        if pairs < ENOUGH_PAIRS {
            doubts.push(format!("{pairs} pairs only: {ENOUGH_PAIRS} decide"));
        }
        let spread = self.spread(Figure::Cpu);
        if spread > QUIET {
            doubts.push(format!(
                "the floor differs from itself by {spread:.3}: too noisy, repeat on a quieter machine"
            ));
        }
        if self.cores.is_none() {
            doubts.push("nothing was pinned".to_owned());
        }
        let (lost, duplicated, reordered) = self.faults(SERVER);
        if lost + duplicated + reordered > 0 {
            doubts.push(format!(
                "the server lost {lost}, duplicated {duplicated} and reordered {reordered} events: \
                 no target counts as reached"
            ));
        }
        doubts
    }

    /// The end of what the terminal shows.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("workload {:?}, medians (least to greatest)", self.workload)];
        for program in PROGRAMS {
            let summary = |figure| Summary::of(&self.figures(program, figure));
            let all = summary(Figure::Cpu).zip(summary(Figure::P50)).zip(summary(Figure::P99));
            let Some(((cpu, p50), p99)) = all else { continue };
            let (lost, duplicated, reordered) = self.faults(program);
            lines.push(format!(
                "{program:<11} {:.1} ns/delivery ({:.1} to {:.1})  p50 {:.0} µs  p99 {:.0} µs  \
                 lost {lost}  duplicated {duplicated}  reordered {reordered}",
                cpu.median, cpu.least, cpu.greatest, p50.median, p99.median
            ));
        }
        for (upper, lower) in RATIOS {
            if let Some(ratio) = Summary::of(&self.pair_ratios(upper, lower, Figure::Cpu)) {
                let name = format!("{upper} / {lower}");
                lines.push(format!(
                    "{name:<19} {:.3} ({:.3} to {:.3})",
                    ratio.median, ratio.least, ratio.greatest
                ));
            }
        }
        lines.push(format!("spread of the floor {:.3}", self.spread(Figure::Cpu)));
        for judged in self.judged() {
            let target = judged.target.text();
            lines.push(match judged.value {
                Some(value) => format!(
                    "{target}: {} with {value:.3}, allowed {:.3}",
                    judged.verdict.word(),
                    judged.target.limit * judged.spread
                ),
                None => format!("{target}: {} (--peer)", judged.verdict.word()),
            });
        }
        lines.extend(self.doubts());
        lines.join("\n")
    }

    /// One object, every run in it.
    pub fn json(&self) -> Value {
        let (mut programs, mut pairs) = (Map::new(), Map::new());
        for program in PROGRAMS {
            let summary = |figure| Summary::of(&self.figures(program, figure)).map(|summary| summary.json());
            let Some(cpu) = summary(Figure::Cpu) else { continue };
            let (lost, duplicated, reordered) = self.faults(program);
            let value = json!({
                "cpu_ns_per_delivery": cpu,
                "p50_us": summary(Figure::P50),
                "p99_us": summary(Figure::P99),
                "lost": lost,
                "duplicated": duplicated,
                "reordered": reordered,
            });
            programs.insert(program.to_owned(), value);
        }
        for (upper, lower) in RATIOS {
            if let Some(ratio) = Summary::of(&self.pair_ratios(upper, lower, Figure::Cpu)) {
                pairs.insert(format!("{upper}/{lower}"), ratio.json());
            }
        }
        let judged: Vec<Value> = self
            .judged()
            .iter()
            .map(|judged| {
                json!({
                    "target": judged.target.text(),
                    "value": judged.value,
                    "allowed": judged.target.limit * judged.spread,
                    "verdict": judged.verdict.word(),
                })
            })
            .collect();
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| json!({ "program": run.program, "result": run.measured.whole }))
            .collect();
        let name = self.workload.to_possible_value().map(|value| value.get_name().to_owned());
        json!({
            "workload": name,
            "paced": self.conditions.paced,
            "tls": self.conditions.tls,
            "pairs": self.of(FLOOR).count(),
            "server_core": self.cores.map(|(server, _)| server),
            "load_core": self.cores.map(|(_, load)| load),
            "programs": programs,
            "cpu_ratios": pairs,
            "floor_spread": self.spread(Figure::Cpu),
            "targets": judged,
            "doubts": self.doubts(),
            "runs": runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(runs: &[(&'static str, f64)]) -> Report {
        let mut report = Report::new(Named::A, Conditions::default(), Some((0, 1)));
        for &(program, cpu) in runs {
            let measured = Measurement {
                cpu,
                p50: 10.0,
                p99: 20.0,
                deliveries_per_s: 1e6,
                lost: 0,
                duplicated: 0,
                reordered: 0,
                whole: Value::Null,
            };
            report.runs.push(Run { program, measured });
        }
        report
    }

    #[test]
    fn pairs_are_judged_whatever_their_order() {
        let report = report(&[
            (FLOOR, 100.0),
            (SERVER, 104.0),
            (AGAIN, 102.0),
            // the second round runs backwards
            (AGAIN, 200.0),
            (SERVER, 212.0),
            (FLOOR, 200.0),
        ]);
        let value = report.json();
        assert_eq!(value["cpu_ratios"]["server/floor"]["median"], 1.05);
        assert_eq!(value["floor_spread"], 1.01);
        assert_eq!(value["targets"][0]["verdict"], "reached");
        assert_eq!(value["targets"][1]["verdict"], "not measured");
        assert_eq!(value["pairs"], 2);
        let text = report.text();
        assert!(text.contains("CPU ≤ 1.05 × floor: reached with 1.050, allowed 1.060"), "{text}");
        assert!(text.contains("2 pairs only"), "{text}");
    }

    #[test]
    fn a_lost_event_is_said() {
        let mut report = report(&[(FLOOR, 1.0), (SERVER, 1.0), (AGAIN, 1.0)]);
        report.runs[1].measured.lost = 3;
        let text = report.text();
        assert!(text.contains("the server lost 3") && text.contains("missed"), "{text}");
    }

    #[test]
    fn without_a_server_nothing_is_judged() {
        let report = report(&[(FLOOR, 1.0), (PEER, 2.0), (AGAIN, 1.0)]);
        assert!(report.judged().is_empty());
        assert_eq!(report.json()["cpu_ratios"]["peer/floor"]["median"], 2.0);
    }
}
