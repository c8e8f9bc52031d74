//! A deterministic simulation of whole nodes: the real hub, sessions, appender and functions, under schedules that a seed
//! decides. Tasks, the network and the clock move as the dice say; Redis is a data set in memory; all that can fail does.
//!
//! One thread runs one schedule at a time. Whatever differs between two runs of a seed is a bug of the simulation.

pub mod bugs;
mod check;
mod clients;
mod data;
pub mod executor;
mod library;
pub mod network;
mod record;
mod schedule;
mod tests;
mod world;

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Builder, Runtime};
use tokio::task::coop::unconstrained;

use self::bugs::Bug;
use self::schedule::Schedule;

/// What came of a schedule.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Promises that were broken.
    pub violations: Vec<String>,
    /// Why it tells nothing, if it does not.
    pub void: Option<&'static str>,
    /// What happened, where that was asked for.
    pub trace: Vec<String>,
    /// How much happened, as a check that a seed always does the same.
    pub steps: usize,
}

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
}

thread_local! {
    static PAGE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Most entries of a page in this thread's simulation.
pub fn page() -> usize {
    PAGE.get()
}

fn set_page(most: usize) {
    PAGE.set(most);
}

/// Runs the schedule of a seed, with a bug if one is given.
pub fn run(seed: u64, bug: Option<Bug>, traced: bool) -> Outcome {
    bugs::plant(bug);
    executor::begin();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        RUNTIME.with(|runtime| {
            runtime.block_on(unconstrained(async {
                let mut schedule = Schedule::new(seed, traced);
                poll_fn(|context| schedule.poll(context)).await;
                schedule.steps
            }))
        })
    }));
    // The world is still there, for what tasks do when they are dropped.
    RUNTIME.with(|runtime| {
        let _clock = runtime.enter();
        executor::end();
    });
    let mut outcome = Outcome { steps: *ran.as_ref().unwrap_or(&0), ..Outcome::default() };
    if let Some(world) = world::end() {
        outcome.void = world.void;
        if ran.is_ok() && world.void.is_none() {
            outcome.violations = check::check(&world);
        }
        outcome.trace = world.trace.unwrap_or_default();
    }
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something");
        outcome.violations = vec![format!("a panic: {text}")];
    }
    bugs::plant(None);
    set_page(usize::MAX);
    outcome
}
