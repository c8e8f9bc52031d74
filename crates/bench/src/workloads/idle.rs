//! `idle`: joined connections without traffic.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::load;
use super::super::process::memory;
use super::super::report::Figures;
use super::super::tally::Tally;
use super::super::{BenchError, Plan, Target};
use super::Usage;

/// Time for memory to settle after many connections were made.
const SETTLED: Duration = Duration::from_secs(1);

pub(super) async fn idle(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let mut figures = Figures::default();
    let usage = Usage::start(target);
    let started = Instant::now();
    let rooms = load::rooms(plan, target, tally, |_| false).await?;
    let took = started.elapsed();
    let cpu = usage.cpu();
    tally.doing.set("waiting");
    tokio::time::sleep(SETTLED).await;
    let connections = (plan.rooms * plan.members) as f64;
    figures.add("joins_per_s", connections / took.as_secs_f64());
    figures.add_cpu("server_us_per_join", cpu.server, connections);
    figures.add_cpu("redis_us_per_join", cpu.redis, connections);
    figures.add_cpu("generator_us_per_join", cpu.generator, connections);
    if let (Some(before), Some(after)) = (usage.memory, memory(&target.pids())) {
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1024.0 / connections;
        figures.add("rss_kb_per_connection", each(before.rss, after.rss));
        figures.add("pss_kb_per_connection", each(before.pss, after.pss));
    }
    // Idle connections cost CPU time too: the server's clock.
    let usage = Usage::start(target);
    tokio::time::sleep(plan.duration).await;
    let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / usage.since.elapsed().as_secs_f64();
    if let Some(cpu) = usage.cpu().server {
        figures.add("server_cpu_percent", share(cpu));
    }
    drop(rooms);
    Ok(figures)
}
