//! `sweep`: `rooms` with growing numbers of rooms and `fanout` with growing numbers of members, to see
//! whether a delivery costs the same at any size.

use std::path::Path;

use serde_json::{Value, json};

use super::report::{Findings, Report, line, shown};
use super::{BenchError, Plan, Server, Workload, connections_at_most, plot, run};

/// The first size. Each further one is ten times the previous one.
const FIRST: usize = 10;

/// The size with which the largest is compared.
const COMPARED: usize = 100;

/// The figure that is compared.
const COST: &str = "server_us_per_delivery";

/// The results for each size.
#[derive(Debug)]
pub struct Sweep {
    reports: Vec<Report>,
    /// Sizes that cannot be measured here, with the reasons.
    left_out: Vec<String>,
}

impl Sweep {
    /// Returns the default plan of a sweep: its maximum number of rooms, and as many members as open files
    /// allow.
    pub fn plan() -> Plan {
        const ROOMS: usize = 10_000;
        let members = [4, 2].into_iter().find(|members| ROOMS * members <= connections_at_most());
        Plan { rooms: ROOMS, members: members.unwrap_or(1), ..Plan::of(Workload::Rooms) }
    }

    /// Measures all sizes up to the plan's rooms.
    ///
    /// # Errors
    /// If a server cannot be started or reached, or refuses.
    pub async fn run(plan: &Plan, servers: &[Server]) -> Result<Self, BenchError> {
        let mut sweep = Self { reports: Vec::new(), left_out: Vec::new() };
        for step in steps(plan) {
            if step.connections() > connections_at_most() {
                sweep.left_out.push(format!(
                    "{}: of {} connections, files that may be open are enough for {} (ulimit -Hn)",
                    step.size(),
                    step.connections(),
                    connections_at_most()
                ));
            } else {
                sweep.reports.push(run(&step, servers).await?);
            }
        }
        Ok(sweep)
    }

    /// Returns the sizes of one workload, with the cost of a delivery for each server.
    pub(super) fn costs(&self, workload: Workload) -> Vec<(usize, Vec<Option<f64>>)> {
        let of = self.reports.iter().filter(|report| report.plan.workload == workload);
        of.map(|report| (size(&report.plan), report.values(COST))).collect()
    }

    /// Returns the names of the servers.
    pub(super) fn servers(&self) -> Vec<&str> {
        self.reports.first().map(Report::servers).unwrap_or_default()
    }

    /// Returns the cost of a delivery at the largest size, relative to the cost at size 100, for each server.
    /// `None` if one of them is missing.
    fn growth(&self, workload: Workload) -> Option<Vec<Option<f64>>> {
        let costs = self.costs(workload);
        let (_, compared) = costs.iter().find(|(size, _)| *size == COMPARED)?;
        let (_, largest) = costs.last().filter(|(size, _)| *size > COMPARED)?;
        Some(
            largest
                .iter()
                .zip(compared)
                .map(|(largest, compared)| Some((*largest)? / (*compared)?))
                .collect(),
        )
    }
}

impl Findings for Sweep {
    fn to_json(&self) -> Value {
        let reports: Vec<Value> = self.reports.iter().map(Report::to_json).collect();
        let growth = |workload| self.growth(workload).map(|growth| json!(growth));
        json!({
            "sweep": reports,
            "largest_by_100": { "rooms": growth(Workload::Rooms), "fanout": growth(Workload::Fanout) },
            "left_out": self.left_out,
        })
    }

    fn to_table(&self) -> String {
        let mut out = "sweep: what a delivery costs the server, µs of CPU\n\n".to_owned();
        out += &line("", self.servers().into_iter().map(str::to_owned));
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), shown);
        for workload in [Workload::Rooms, Workload::Fanout] {
            let of = self.reports.iter().filter(|report| report.plan.workload == workload);
            for report in of {
                out += &line(&report.plan.size(), report.values(COST).into_iter().map(cell));
            }
            if let Some(growth) = self.growth(workload) {
                out += &line("largest by 100", growth.into_iter().map(cell));
            }
        }
        self.left_out.iter().for_each(|what| out += &format!("left out: {what}\n"));
        out
    }

    fn problem(&self) -> Option<String> {
        self.reports.iter().find_map(Report::problem)
    }

    fn plot(&self, path: &Path) -> Result<(), BenchError> {
        plot::sweep(self, path)
    }
}

/// Returns the steps: rooms at a constant rate, and members of one room at a constant rate of deliveries.
fn steps(plan: &Plan) -> Vec<Plan> {
    let sizes: Vec<usize> = std::iter::successors(Some(FIRST), |size| Some(size * 10))
        .take_while(|size| *size <= plan.rooms)
        .collect();
    let rooms = sizes.iter().map(|size| Plan { workload: Workload::Rooms, rooms: *size, ..plan.clone() });
    let fanout = sizes.iter().map(|size| Plan {
        workload: Workload::Fanout,
        rooms: 1,
        members: *size,
        rate: plan.rate * FIRST as f64 / *size as f64,
        ..plan.clone()
    });
    rooms.chain(fanout).collect()
}

fn size(plan: &Plan) -> usize {
    if plan.workload == Workload::Rooms { plan.rooms } else { plan.members }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delivery_rate_is_the_same_for_every_size() {
        let steps = steps(&Plan { rooms: 1000, members: 4, rate: 2000.0, ..Plan::of(Workload::Rooms) });
        let sizes: Vec<usize> = steps.iter().map(size).collect();
        assert_eq!(sizes, [10, 100, 1000, 10, 100, 1000]);
        let rates: Vec<f64> = steps.iter().map(|step| step.rate * step.members as f64).collect();
        assert_eq!(rates, [8000.0, 8000.0, 8000.0, 20_000.0, 20_000.0, 20_000.0]);
    }
}
