//! The output: a line for each run, and the summary, for a terminal and as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::model::plan::{Plan, Topology};
use crate::model::record::{Event, Ms, Outcome};
use crate::model::recovery::spread;
use crate::run::Outcomes;

/// The figures of several runs.
#[derive(Debug, Default)]
pub struct Summary {
    topologies: BTreeMap<Topology, Figures>,
    /// By the name of the fault: number of faults, number of faults in runs with a violation, and recovery
    /// times.
    faults: BTreeMap<(&'static str, Topology), (u64, u64, Vec<Ms>)>,
    rules: BTreeMap<String, u64>,
    /// The runs with a violation.
    pub failed: Vec<(Topology, u64)>,
}

#[derive(Debug, Default)]
struct Figures {
    runs: u64,
    failed: u64,
    faults: u64,
    confirmed: u64,
    delivered: u64,
    gaps: u64,
    acks: u64,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, run: &Outcomes) {
        let (topology, bad) = (run.plan.topology, !run.violations.is_empty());
        let figures = self.topologies.entry(topology).or_default();
        figures.runs += 1;
        figures.failed += u64::from(bad);
        for event in &run.events {
            match event {
                Event::Publish(publish) if matches!(publish.outcome, Outcome::Ok(_)) => {
                    figures.confirmed += 1
                }
                Event::Message { .. } => figures.delivered += 1,
                Event::Gap { .. } => figures.gaps += 1,
                Event::Ack { outcome: Outcome::Ok(_), .. } => figures.acks += 1,
                Event::Fault { index, .. } => {
                    figures.faults += 1;
                    let name = run.plan.faults[*index].fault.name();
                    let (count, in_bad, times) = self.faults.entry((name, topology)).or_default();
                    *count += 1;
                    *in_bad += u64::from(bad);
                    times.extend(run.recoveries.iter().filter(|time| time.0 == *index).map(|time| time.1));
                }
                _ => {}
            }
        }
        let mut rules: Vec<_> = run.violations.iter().map(|found| found.rule.clone()).collect();
        rules.sort();
        rules.dedup();
        rules.into_iter().for_each(|rule| *self.rules.entry(rule).or_default() += 1);
        if bad {
            self.failed.push((topology, run.plan.seed));
        }
    }

    /// Formats the summary in at most 80 columns.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:10} {:>5} {:>5} {:>7} {:>10} {:>10} {:>7} {:>8}\n",
            "topology", "runs", "bad", "faults", "confirmed", "delivered", "acks", "gaps"
        );
        for (topology, f) in &self.topologies {
            let name = topology.name();
            let (runs, failed, faults) = (f.runs, f.failed, f.faults);
            let _ = writeln!(
                text,
                "{name:10} {runs:>5} {failed:>5} {faults:>7} {:>10} {:>10} {:>7} {:>8}",
                f.confirmed, f.delivered, f.acks, f.gaps
            );
        }
        let _ = writeln!(
            text,
            "\n{:27} {:9} {:>5} {:>6}  {:>8} {:>8} {:>8}",
            "fault", "topology", "times", "in bad", "p50", "p90", "max"
        );
        for ((name, topology), (count, bad, times)) in &self.faults {
            let (p50, p90, max) = columns(times);
            let topology = topology.name();
            let _ = writeln!(text, "{name:27} {topology:9} {count:>5} {bad:>6}  {p50:>8} {p90:>8} {max:>8}");
        }
        for (rule, count) in &self.rules {
            let _ = writeln!(text, "\nbroken in {count} runs: {rule}");
        }
        text
    }

    /// Formats the summary as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| Topology | Runs | With a violation | Faults | Confirmed | Delivered | Acks | Gaps told |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for (topology, f) in &self.topologies {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                topology.name(),
                f.runs,
                f.failed,
                f.faults,
                f.confirmed,
                f.delivered,
                f.acks,
                f.gaps
            );
        }
        text.push_str(
            "\n| Fault | Topology | Times | Recovery: median | 90 % | longest |\n|---|---|---|---|---|---|\n",
        );
        for ((name, topology), (count, _, times)) in &self.faults {
            let (p50, p90, max) = columns(times);
            let _ = writeln!(text, "| {name} | {} | {count} | {p50} | {p90} | {max} |", topology.name());
        }
        text
    }
}

fn columns(times: &[Ms]) -> (String, String, String) {
    let seconds = |ms: Ms| format!("{:.2} s", ms as f64 / 1000.0);
    match spread(times.to_vec()) {
        Some((p50, p90, max)) => (seconds(p50), seconds(p90), seconds(max)),
        None => ("–".into(), "–".into(), "–".into()),
    }
}

/// Describes the setup of a run.
pub fn heading(plan: &Plan) -> String {
    format!(
        "{} {}: {} nodes, {}, fsync {}, {} faults",
        plan.topology.name(),
        plan.seed,
        plan.nodes,
        plan.durability.name(),
        plan.sync.name(),
        plan.faults.len()
    )
}

/// Formats a plan, with a line for each fault.
pub fn schedule(plan: &Plan) -> String {
    let lines = plan.faults.iter().map(|planned| {
        let (at, lasts) = (planned.at as f64 / 1000.0, planned.lasts as f64 / 1000.0);
        format!("    {at:>6.1} s for {lasts:>4.1} s  {:?}\n", planned.fault)
    });
    lines.collect()
}
