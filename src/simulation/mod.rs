//! A deterministic simulation of whole nodes: the real hub, sessions, appender and functions, under schedules
//! that follow from a seed. Random draws order the tasks, the network and the clock. Redis is an in-memory
//! data set, and everything that can fail does.
//!
//! One thread runs one schedule at a time. Any difference between two runs of a seed is a bug of the
//! simulation.

pub(crate) mod bugs;
mod check;
mod clients;
mod data;
pub(crate) mod executor;
mod library;
pub(crate) mod network;
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

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub violations: Vec<String>,
    /// The reason why the schedule proves nothing, if it does not.
    pub void: Option<&'static str>,
    pub trace: Vec<String>,
    pub steps: usize,
}

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
}

thread_local! {
    static PAGE: Cell<usize> = const { Cell::new(usize::MAX) };
}

pub(crate) fn page() -> usize {
    PAGE.get()
}

fn set_page(most: usize) {
    PAGE.set(most);
}

pub(crate) fn run(seed: u64, bug: Option<Bug>, traced: bool) -> Outcome {
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
    // The world still exists at this point, for tasks that use it while they are dropped.
    RUNTIME.with(|runtime| {
        let _guard = runtime.enter();
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
