//! The program's options.

use std::path::PathBuf;

use clap::Parser;

use crate::model::plan::Topology;

/// Runs Roomlog under load while everything fails, and checks that its promises hold.
///
/// Each run starts its own Redis servers and nodes, carries out a schedule of faults that follows from its
/// seed, and afterwards checks everything that was published and delivered. A run with a violation is written
/// into a directory, from which it can be run again. Without options, a short set over all topologies is run.
#[derive(Debug, Parser)]
#[command(name = "torture")]
pub struct Options {
    /// Seed of the first run; each further run has the next one
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Number of runs, in turn over the topologies
    #[arg(long)]
    pub runs: Option<u64>,

    /// Seconds of faults in each run; it takes some 20 s more
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,

    /// Topology of Redis; all of them by default
    #[arg(long, value_enum)]
    pub topology: Option<Topology>,

    /// Runs in parallel
    #[arg(long, default_value_t = 2)]
    pub parallel: usize,

    /// Runs a plan again: the plan.json of a run that failed
    #[arg(long, value_name = "FILE", conflicts_with = "runs")]
    pub replay: Option<PathBuf>,

    /// Checks the record of a run again: the directory of a run that failed
    #[arg(long, value_name = "DIR", conflicts_with_all = ["runs", "replay"])]
    pub check: Option<PathBuf>,

    /// Prints the schedules, and runs nothing
    #[arg(long)]
    pub plan: bool,

    /// Writes the summary as Markdown
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Where failing runs are written
    #[arg(long, value_name = "DIR", default_value = "target/torture")]
    pub out: PathBuf,

    /// Names of tests, as `cargo test NAME` hands them on: one that is no part of "torture" runs nothing
    #[arg(hide = true)]
    pub filter: Option<String>,
}

/// Number of runs in the short set.
const SHORT: u64 = 8;

impl Options {
    /// Returns the number of runs.
    pub fn count(&self) -> u64 {
        self.runs.unwrap_or(SHORT)
    }

    /// Returns the topology of the run with this number.
    pub fn topology_of(&self, run: u64) -> Topology {
        self.topology.unwrap_or(Topology::ALL[run as usize % Topology::ALL.len()])
    }

    /// Returns whether the name filter of `cargo test` excludes this program.
    pub fn is_filtered_out(&self) -> bool {
        self.filter.as_deref().is_some_and(|filter| !"torture".contains(filter))
    }
}
