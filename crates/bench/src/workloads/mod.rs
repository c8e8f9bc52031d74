//! The workloads, each a sequence of steps that ends in figures.

mod idle;
mod offered;
mod publish;
mod replay;
mod storm;

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::process::{Cpu, memory};
use super::report::Figures;
use super::tally::Tally;
use super::{BenchError, Plan, Target, Workload, strace};
use roomlog_testkit::Memory;

/// Runs the plan's workload once.
pub(super) async fn run(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    match plan.workload {
        Workload::Idle => idle::idle(plan, target, tally).await,
        Workload::Fanout | Workload::Rooms | Workload::Durable | Workload::Slow => {
            offered::offered(plan, target, tally).await
        }
        Workload::Publish => publish::publish(plan, target, tally).await,
        Workload::Storm => storm::storm(plan, target, tally).await,
        Workload::Replay => replay::replay(plan, target, tally).await,
    }
}

/// Warms up, prepares, and measures for the plan's duration while the load continues. System calls are
/// counted after that, since counting slows the server down.
async fn measure<'a>(
    plan: &Plan,
    target: &'a Target,
    tally: &Tally,
    before: impl FnOnce(),
) -> Result<(Usage<'a>, Figures), BenchError> {
    tally.doing.set("warming up");
    tokio::time::sleep(plan.warmup).await;
    tally.doing.set("measuring");
    before();
    tally.measure();
    let usage = Usage::start(target);
    let (confirmed, received) = (tally.confirmed.get(), tally.received.get());
    tokio::time::sleep(plan.duration).await;
    let mut figures = Figures::default();
    usage.end(tally.confirmed.get() - confirmed, tally.received.get() - received, &mut figures);
    tally.measure_no_more();
    figures.add("generator_late_ms", tally.late.get().as_secs_f64() * 1000.0);
    // The last messages published in that time are still in flight.
    tokio::time::sleep(Duration::from_millis(100)).await;
    figures.add_latency(tally);
    if plan.syscalls {
        tally.doing.set("counting system calls");
        let (calls, received) = strace::count(&target.pids(), &tally.received).await?;
        figures.add("syscalls_per_delivery", calls as f64 / received.max(1) as f64);
    }
    Ok((usage, figures))
}

/// The resource usage of processes when a measurement began.
struct Usage<'a> {
    target: &'a Target,
    since: Instant,
    cpu: Cpu,
    memory: Option<Memory>,
}

impl<'a> Usage<'a> {
    fn start(target: &'a Target) -> Self {
        let memory = memory(&target.pids());
        Self { target, since: Instant::now(), cpu: Cpu::now(target), memory }
    }

    /// Returns the CPU time since then.
    fn cpu(&self) -> Cpu {
        Cpu::now(self.target).since(self.cpu)
    }

    /// Adds the rates since then, per second, and their cost.
    fn end(&self, confirmed: u64, received: u64, figures: &mut Figures) {
        let (seconds, cpu) = (self.since.elapsed().as_secs_f64(), self.cpu());
        let (confirmed, received) = (confirmed as f64, received as f64);
        figures.add("confirmed_per_s", confirmed / seconds);
        figures.add("delivered_per_s", received / seconds);
        figures.add_cpu("server_us_per_delivery", cpu.server, received);
        figures.add_cpu("server_us_per_publish", cpu.server, confirmed);
        figures.add_cpu("redis_us_per_delivery", cpu.redis, received);
        figures.add_cpu("redis_us_per_publish", cpu.redis, confirmed);
        figures.add_cpu("generator_us_per_delivery", cpu.generator, received);
        if let Some(generator) = cpu.generator {
            figures.add("generator_cpu_percent", 100.0 * generator.as_secs_f64() / seconds);
        }
    }

    /// Adds the growth of the server's memory.
    fn growth(&self, figures: &mut Figures) {
        if let (Some(before), Some(after)) = (self.memory, memory(&self.target.pids())) {
            let growth = after.rss.saturating_sub(before.rss) as f64 / 1048576.0;
            figures.add("server_growth_mb", growth);
        }
    }
}
