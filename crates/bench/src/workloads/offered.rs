//! Rooms at an offered rate: `fanout`, `rooms`, `durable`, and `slow`, in which some readers stop during the
//! measurement. Also the search for the highest rate that a server holds.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::load::{self, Room};
use super::super::report::Figures;
use super::super::tally::Tally;
use super::super::{BenchError, Plan, Target, Workload};
use super::measure;

/// One in this many readers stops in `slow`.
const ONE_STOPS_OF: usize = 100;

/// A rate holds if the 99th percentile of the latency and the delay of the generator are below this.
const IN_TIME: Duration = Duration::from_millis(50);

/// Maximum time for which each rate of the search is offered.
const STEP: Duration = Duration::from_secs(2);

/// Relative precision of the search.
const NEAR: f64 = 0.05;

pub(super) async fn offered(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    // The first member publishes, and needs its confirmations. The second of each hundred stops.
    let slow = |index: usize| plan.workload == Workload::Slow && index % ONE_STOPS_OF == 1;
    let rooms = load::rooms(plan, target, tally, slow).await?;
    let slow_ones = || rooms.iter().flat_map(|room| &room.members).filter(|member| member.is_slow());
    let stop = Cell::new(false);
    let measuring = async {
        let stop_readers = || slow_ones().for_each(|member| member.pause(true));
        let measured = measure(plan, target, tally, stop_readers).await;
        // Continues until a little after the end, so that the end is under the same load.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.set(true);
        let (usage, mut figures) = measured?;
        if plan.workload == Workload::Slow {
            usage.growth(&mut figures);
        }
        Ok::<_, BenchError>(figures)
    };
    let (figures, ()) = tokio::join!(measuring, load::open(plan, plan.rate, &rooms, &stop, tally));
    let mut figures = figures?;
    slow_ones().for_each(|member| member.pause(false));
    let resumed = Instant::now();
    tally.settle(load::expected(&rooms)).await;
    if plan.workload == Workload::Slow {
        figures.add("stopped_caught_up_s", resumed.elapsed().as_secs_f64());
    }
    if plan.highest {
        figures.add("highest_rate_per_s", highest(plan, &rooms, tally).await);
    }
    load::check(&rooms, tally).await;
    Ok(figures)
}

/// Returns the highest rate that holds. Doubles the rate until it does not, then bisects.
async fn highest(plan: &Plan, rooms: &[Room], tally: &Tally) -> f64 {
    tally.doing.set("searching the highest rate");
    let (mut holding, mut failing) = (0.0, plan.rate);
    while holds(plan, failing, rooms, tally).await {
        (holding, failing) = (failing, failing * 2.0);
    }
    while failing - holding > NEAR * failing && failing > 1.0 {
        let middle = f64::midpoint(holding, failing);
        if holds(plan, middle, rooms, tally).await {
            holding = middle;
        } else {
            failing = middle;
        }
    }
    holding
}

/// Returns whether a rate holds. A second attempt is made in case something else disturbed the first.
async fn holds(plan: &Plan, rate: f64, rooms: &[Room], tally: &Tally) -> bool {
    for _ in 0..2 {
        let stop = Cell::new(false);
        tally.measure();
        let waiting = async {
            tokio::time::sleep(STEP.min(plan.duration)).await;
            stop.set(true);
        };
        tokio::join!(waiting, load::open(plan, rate, rooms, &stop, tally));
        tally.measure_no_more();
        // Clears the backlog of a rate that is too high before the next one.
        tally.settle(load::expected(rooms)).await;
        let p99 = tally.quantile(0.99).unwrap_or(f64::INFINITY);
        let complete = tally.received.get() == load::expected(rooms) && tally.errors.get() == 0;
        if complete && p99 < IN_TIME.as_secs_f64() * 1000.0 && tally.late.get() < IN_TIME {
            return true;
        }
    }
    false
}
