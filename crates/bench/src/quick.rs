//! `quick`: short runs of the main workloads beside the floor, whose ratios are compared with recorded ones.
//! Ratios within one run are comparable across machines and under other load, unlike absolute figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::report::{Findings, Report, line, median, words};
use super::{BenchError, Plan, Server, Workload, run};

/// The compared figures of each workload: only costs, since latencies and rates depend on the machine's other
/// load.
const COMPARED: [(Workload, &[&str]); 5] = [
    (Workload::Fanout, &["server_us_per_delivery"]),
    (Workload::Rooms, &["server_us_per_publish", "redis_us_per_publish"]),
    (Workload::Publish, &["server_us_per_publish", "redis_us_per_publish"]),
    (Workload::Durable, &["server_us_per_publish", "redis_us_per_publish"]),
    (Workload::Idle, &["server_us_per_join", "pss_kb_per_connection"]),
];

/// A ratio has become worse if it grew by more than this factor in three of four repeats.
const WORSE: f64 = 1.1;

/// Ratios to the floor, by workload and figure.
pub type Ratios = BTreeMap<String, BTreeMap<String, f64>>;

/// The results, and the recorded ones.
#[derive(Debug)]
pub struct Quick {
    reports: Vec<Report>,
    recorded: Ratios,
}

impl Quick {
    /// Returns the default plan of a workload: short, and repeated often, since medians of interleaved
    /// repeats are steadier than long runs.
    pub fn plan(workload: Workload) -> Plan {
        let plan = Plan {
            duration: Duration::from_secs(1),
            warmup: Duration::from_millis(300),
            repeats: 5,
            ..Plan::of(workload)
        };
        match workload {
            Workload::Idle => Plan { members: 2000, duration: Duration::from_millis(100), ..plan },
            _ => plan,
        }
    }

    pub fn workloads() -> impl Iterator<Item = Workload> {
        COMPARED.iter().map(|(workload, _)| *workload)
    }

    /// Measures these plans against a server and the floor. Ratios that seem worse than recorded are measured
    /// again, and both measurements count.
    ///
    /// # Errors
    /// If a server cannot be started or reached, or refuses.
    pub async fn run(plans: &[Plan], server: Server, recorded: Ratios) -> Result<Self, BenchError> {
        let servers = [server, Server::Floor];
        let mut quick = Self { reports: Vec::new(), recorded };
        for plan in plans {
            let mut report = run(plan, &servers).await?;
            if compare(&report, &quick.recorded).any(|compared| compared.is_worse()) {
                report.merge(run(plan, &servers).await?);
            }
            quick.reports.push(report);
        }
        Ok(quick)
    }

    /// Reads the recorded ratios. Empty if there is no such file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn recorded(path: &Path) -> Result<Ratios, BenchError> {
        let failed = |error| BenchError::Io(path.display().to_string(), error);
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ratios::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Records the results for later runs.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn record(&self, path: &Path) -> Result<(), BenchError> {
        let text = format!("{:#}\n", json!(self.ratios()));
        std::fs::write(path, text).map_err(|error| BenchError::Io(path.display().to_string(), error))
    }

    fn compared(&self) -> impl Iterator<Item = Compared> {
        self.reports.iter().flat_map(|report| compare(report, &self.recorded))
    }

    fn ratios(&self) -> Ratios {
        let mut ratios = Ratios::new();
        for Compared { workload, figure, now, .. } in self.compared() {
            let rounded = (now * 1000.0).round() / 1000.0;
            ratios.entry(workload).or_default().insert(figure.to_owned(), rounded);
        }
        ratios
    }
}

/// A ratio now and before.
#[derive(Debug)]
struct Compared {
    workload: String,
    figure: &'static str,
    now: f64,
    /// The lower quartile: three of four repeats exceed it.
    surely: f64,
    before: Option<f64>,
}

impl Compared {
    fn is_worse(&self) -> bool {
        self.before.is_some_and(|before| self.surely > before * WORSE)
    }

    fn change(&self) -> String {
        self.before.map_or_else(String::new, |before| format!("{:+.0} %", 100.0 * (self.now / before - 1.0)))
    }
}

fn compare<'a>(report: &'a Report, recorded: &'a Ratios) -> impl Iterator<Item = Compared> + use<'a> {
    let measured = report.plan.workload;
    let figures = COMPARED.iter().filter(move |(workload, _)| *workload == measured);
    let workload = measured.to_string();
    let before = recorded.get(&workload);
    figures.flat_map(|(_, figures)| *figures).filter_map(move |figure| {
        // The floor has no Redis, so Redis's cost is measured relative to the floor's own.
        let ratios = report.paired(figure, &figure.replace("redis_", "server_"));
        let (now, surely) = (median(&ratios)?, ratios[ratios.len() / 4]);
        let before = before.and_then(|before| before.get(*figure)).copied();
        Some(Compared { workload: workload.clone(), figure, now, surely, before })
    })
}

impl Findings for Quick {
    fn to_json(&self) -> Value {
        let worse: Vec<String> =
            self.compared().filter(Compared::is_worse).map(|it| it.to_string()).collect();
        let reports: Vec<Value> = self.reports.iter().map(Report::to_json).collect();
        json!({ "ratios": self.ratios(), "recorded": self.recorded, "worse": worse, "reports": reports })
    }

    fn to_table(&self) -> String {
        let mut out = line("ratio to the floor", ["recorded", "now", "change"].map(str::to_owned));
        for compared in self.compared() {
            let before = compared.before.map_or_else(|| "-".to_owned(), |before| format!("{before:.2}"));
            let figure = words(compared.figure).replace(" per ", "/");
            let name = format!("{} {figure}", compared.workload);
            out += &line(&name, [before, format!("{:.2}", compared.now), compared.change()]);
        }
        out
    }

    fn problem(&self) -> Option<String> {
        let worse: Vec<String> =
            self.compared().filter(Compared::is_worse).map(|it| it.to_string()).collect();
        let worse = (!worse.is_empty()).then(|| format!("worse than recorded: {}", worse.join(", ")));
        self.reports.iter().find_map(Report::problem).or(worse)
    }

    fn plot(&self, _path: &Path) -> Result<(), BenchError> {
        Err(BenchError::Plan("--plot is for one workload, or sweep".into()))
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:.2} ({})", self.workload, self.figure, self.now, self.change())
    }
}
