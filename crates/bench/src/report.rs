//! The results of a run: figures of each repeat, their medians, and the ratio to the floor, as a table or as
//! JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::tally::Tally;
use super::{BenchError, Plan, Server, Workload, plot};

/// The figures of one repeat, by name, in display order.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    pub(super) fn add(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }

    /// Adds the CPU time in µs per item, if it is known and `count` is not 0.
    pub(super) fn add_cpu(&mut self, name: &'static str, cpu: Option<Duration>, count: f64) {
        if let Some(cpu) = cpu.filter(|_| count > 0.0) {
            self.add(name, cpu.as_secs_f64() * 1e6 / count);
        }
    }

    /// Adds the latencies, if there were any messages.
    pub(super) fn add_latency(&mut self, tally: &Tally) {
        for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0)] {
            if let Some(value) = tally.quantile(share) {
                self.add(name, value);
            }
        }
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl Serialize for Figures {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, rounded(*value))))
    }
}

/// All repeats against one server.
#[derive(Debug, Serialize)]
pub struct Outcome {
    server: String,
    /// Set if it is measured only for comparison.
    #[serde(skip)]
    peer: bool,
    /// The reason why it could not be measured, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    lost: u64,
    duplicates: u64,
    reordered: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    repeats: Vec<Figures>,
}

impl Outcome {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            server: server.name().to_owned(),
            peer: server.is_peer(),
            failed: None,
            lost: 0,
            duplicates: 0,
            reordered: 0,
            errors: 0,
            first_error: None,
            repeats: Vec::new(),
        }
    }

    pub(super) fn fail(&mut self, error: &BenchError) {
        self.failed = Some(error.to_string());
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(super) fn add(&mut self, figures: Figures, tally: &Tally) {
        self.lost += tally.lost.get();
        self.duplicates += tally.duplicates.get();
        self.reordered += tally.reordered.get();
        self.errors += tally.errors.get();
        self.first_error = self.first_error.take().or(tally.first_error.take());
        self.repeats.push(figures);
    }

    /// Formats one of its counts for people. A server that was not measured has none.
    fn count(&self, of: fn(&Self) -> u64) -> String {
        if self.repeats.is_empty() { "-".into() } else { of(self).to_string() }
    }

    /// Returns the medians of all repeats.
    fn figures(&self) -> Figures {
        let names = self.repeats.first().map(|figures| figures.0.as_slice()).unwrap_or_default();
        let of = |name: &'static str| {
            let mut values: Vec<f64> = self.repeats.iter().filter_map(|figures| figures.get(name)).collect();
            values.sort_by(f64::total_cmp);
            median(&values).map(|value| (name, value))
        };
        Figures(names.iter().filter_map(|(name, _)| of(name)).collect())
    }
}

/// The final output, for people and for programs.
pub trait Findings {
    /// Returns everything.
    fn to_json(&self) -> Value;
    /// Returns the main results for people, in 80 columns.
    fn to_table(&self) -> String;
    /// Returns the reason why the run failed, if it did.
    fn problem(&self) -> Option<String>;
    /// Draws a chart into a file.
    ///
    /// # Errors
    /// If there is no chart for these results, or the file cannot be written.
    fn plot(&self, path: &Path) -> Result<(), BenchError>;
}

/// The results of a run.
#[derive(Debug)]
pub struct Report {
    pub(super) plan: Plan,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(plan: Plan, outcomes: Vec<Outcome>) -> Self {
        Self { plan, outcomes }
    }

    /// Returns the names of the servers.
    pub(super) fn servers(&self) -> Vec<&str> {
        self.outcomes.iter().map(|outcome| outcome.server.as_str()).collect()
    }

    /// Returns a figure of each server.
    pub(super) fn values(&self, name: &str) -> Vec<Option<f64>> {
        self.outcomes.iter().map(|outcome| outcome.figures().get(name)).collect()
    }

    /// Returns the ratios of a figure of the first server to one of the last in the same repeat, in ascending
    /// order. A temporary slowdown of the machine affects both alike.
    pub(super) fn paired(&self, name: &str, by: &str) -> Vec<f64> {
        let [server, .., floor] = &self.outcomes[..] else { return Vec::new() };
        let repeats = server.repeats.iter().zip(&floor.repeats);
        let mut ratios: Vec<f64> =
            repeats.filter_map(|(server, floor)| Some(server.get(name)? / floor.get(by)?)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// Adds the repeats of another run of the same plan.
    pub(super) fn merge(&mut self, other: Self) {
        for (outcome, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            outcome.lost += more.lost;
            outcome.duplicates += more.duplicates;
            outcome.reordered += more.reordered;
            outcome.errors += more.errors;
            outcome.first_error = outcome.first_error.take().or(more.first_error);
            outcome.repeats.extend(more.repeats);
        }
    }

    /// Returns the ratios of a server's figures to those of the last one, the floor. Empty for the floor
    /// itself.
    fn ratios(&self, outcome: &Outcome) -> Figures {
        let Some(floor) = self.outcomes.last().filter(|floor| !std::ptr::eq(*floor, outcome)) else {
            return Figures::default();
        };
        let floor = floor.figures();
        let comparable = |name: &str| !name.starts_with("generator");
        let ratio = |(name, value): &(&'static str, f64)| {
            let floor = floor.get(name).filter(|floor| *floor > 0.0)?;
            Some((*name, value / floor))
        };
        Figures(outcome.figures().0.iter().filter(|(name, _)| comparable(name)).filter_map(ratio).collect())
    }

    /// Formats a column for each of these servers.
    fn columns(&self, outcomes: &[Outcome]) -> String {
        let ratios = match self.outcomes.as_slice() {
            [server, _] => Some(self.ratios(server)),
            _ => None,
        };
        let all: Vec<Figures> = outcomes.iter().map(Outcome::figures).collect();
        let mut head: Vec<String> = outcomes.iter().map(|outcome| outcome.server.clone()).collect();
        head.extend(ratios.iter().map(|_| "ratio".to_owned()));
        let mut out = line("", head);
        for (name, _) in self.outcomes.first().map(Outcome::figures).unwrap_or_default().0 {
            let value = |figures: &Figures| figures.get(name).map_or_else(|| "-".to_owned(), shown);
            let mut cells: Vec<String> = all.iter().map(value).collect();
            let ratio = ratios.as_ref().and_then(|ratios| ratios.get(name));
            cells.extend(ratio.map(|ratio| format!("{ratio:.2}")));
            out += &line(&words(name), cells);
        }
        type Count = fn(&Outcome) -> u64;
        let counts: [(&str, Count); 4] = [
            ("lost", |outcome| outcome.lost),
            ("duplicates", |outcome| outcome.duplicates),
            ("out of order", |outcome| outcome.reordered),
            ("errors", |outcome| outcome.errors),
        ];
        for (name, of) in counts {
            out += &line(name, outcomes.iter().map(|outcome| outcome.count(of)));
        }
        out
    }
}

impl Findings for Report {
    /// Returns a problem, if there was one: the figures of a server that loses messages are worthless. Losses
    /// of peers count as a figure.
    fn problem(&self) -> Option<String> {
        let bad = |outcome: &&Outcome| {
            !outcome.peer && outcome.lost + outcome.duplicates + outcome.reordered + outcome.errors > 0
        };
        let Outcome { server, lost, duplicates, reordered, errors, first_error, .. } =
            self.outcomes.iter().find(bad)?;
        let first = first_error.as_deref().map(|error| format!(", first: {error}")).unwrap_or_default();
        Some(format!(
            "{server}: {lost} lost, {duplicates} twice, {reordered} out of order, {errors} errors{first}"
        ))
    }

    /// Formats everything as JSON.
    fn to_json(&self) -> Value {
        let servers: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let mut value = json!(outcome);
                value["figures"] = json!(outcome.figures());
                value["ratios"] = json!(self.ratios(outcome));
                value
            })
            .collect();
        json!({ "plan": self.plan, "servers": servers })
    }

    /// Formats a table for people, 80 columns wide.
    fn to_table(&self) -> String {
        let Plan { workload, rate, payload, burst, window, messages, duration, repeats, .. } = &self.plan;
        let load = match workload {
            Workload::Idle => "silent".to_owned(),
            Workload::Fanout | Workload::Rooms | Workload::Durable | Workload::Slow => {
                let at_once = if *burst > 1 { format!(", {burst} at once") } else { String::new() };
                format!("{rate} messages of {payload} B a second{at_once}")
            }
            Workload::Publish => format!("{window} publishes of {payload} B in flight in each"),
            Workload::Replay => format!("{messages} messages of {payload} B"),
            Workload::Storm => format!("messages of {payload} B"),
        };
        let mut out = format!("{workload}: {}, {load}\n", self.plan.size());
        // A string takes it.
        let _ = writeln!(out, "medians of {repeats} runs of {} s\n", duration.as_secs_f64());
        // Two servers fit into one table. More are split into several.
        let tables: Vec<String> = self.outcomes.chunks(COLUMNS).map(|some| self.columns(some)).collect();
        out.push_str(&tables.join("\n"));
        let failed = |outcome: &Outcome| Some(format!("{}: {}\n", outcome.server, outcome.failed.as_ref()?));
        out.extend(self.outcomes.iter().filter_map(failed));
        out
    }

    fn plot(&self, path: &Path) -> Result<(), BenchError> {
        plot::report(self, path)
    }
}

/// Formats a line of a table: a name, and the cells beside it.
pub(super) fn line(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("{cell:>13.12}")).collect();
    format!("{name:<28}{cells}").trim_end().to_owned() + "\n"
}

/// Maximum number of servers in one table, so that it fits into 80 columns.
const COLUMNS: usize = 4;

/// Returns the middle value in order, or the mean of the two middle ones.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// Returns a figure's name for people: `server_us_per_delivery` is `server µs per delivery`.
pub(super) fn words(name: &str) -> String {
    name.replace("_us_", "_µs_").replace("_percent", "_%").replace("p999", "p99.9").replace('_', " ")
}

pub(super) fn shown(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 100.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Rounds to the significant digits.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fsync, SpawnOptions};

    fn options() -> SpawnOptions {
        SpawnOptions {
            program: None,
            nodes: 1,
            redis_url: None,
            fsync: Fsync::Everysec,
            redis: None,
            redis_address: None,
        }
    }

    fn report(values: &[&[f64]]) -> Report {
        let outcome = |(index, values): (usize, &&[f64])| {
            let name = ["roomlog", "floor", "a", "b", "a server with a long name"][index];
            let mut outcome = Outcome::new(&Server::Peer(name.into(), options()));
            outcome.repeats =
                values.iter().map(|value| Figures(vec![("server_us_per_delivery", *value)])).collect();
            outcome
        };
        Report::new(Plan::of(Workload::Fanout), values.iter().enumerate().map(outcome).collect())
    }

    #[test]
    fn the_report_compares_medians_with_the_last_run() {
        let json = report(&[&[9.0, 3.0, 1.0], &[4.0], &[8.0, 3.0, 1.0, 1.0]]).to_json();
        for (index, (figure, ratio)) in [(3.0, Some(1.5)), (4.0, Some(2.0)), (2.0, None)].iter().enumerate() {
            assert_eq!(json["servers"][index]["figures"]["server_us_per_delivery"], *figure);
            assert_eq!(json["servers"][index]["ratios"]["server_us_per_delivery"].as_f64(), *ratio);
        }
    }

    #[test]
    fn the_table_is_at_most_80_columns_wide() {
        for values in [&[&[123_456.0][..], &[2.0]][..], &[&[123_456.0], &[2.0], &[3.0], &[4.0], &[5.0]]] {
            let table = report(values).to_table();
            assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
            assert!(table.contains("server µs per delivery"), "{table}");
            assert_eq!(table.contains("ratio"), values.len() == 2, "{table}");
        }
    }
}
