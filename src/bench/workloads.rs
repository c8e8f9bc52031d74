//! The workloads, each a sequence of steps that ends in figures.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::load;
use super::member::{Join, Member};
use super::process::{Cpu, Memory, memory};
use super::report::Figures;
use super::tally::{PATIENCE, Tally, count};
use super::{BenchError, Plan, Target, Workload};

/// Messages of each room that everybody misses in a storm, and how long they are away at least.
const MISSED: u64 = 100;
const AWAY: Duration = Duration::from_secs(2);

/// How long nothing may come in a storm while some have not been told that they are back.
const NOT_BACK: Duration = Duration::from_secs(40);

/// Time in which memory settles after many connections have come.
const SETTLED: Duration = Duration::from_secs(1);

/// One reader of so many stops in `slow`.
const ONE_STOPS_OF: usize = 100;

/// Does it once.
pub(super) async fn run(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    match plan.workload {
        Workload::Idle => idle(plan, target, tally).await,
        Workload::Fanout | Workload::Rooms | Workload::Durable | Workload::Slow => {
            offered(plan, target, tally).await
        }
        Workload::Publish => publish(plan, target, tally).await,
        Workload::Storm => storm(plan, target, tally).await,
    }
}

async fn idle(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
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
    if let (Some(before), Some(after)) = (usage.memory, memory(&target.pids())) {
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1024.0 / connections;
        figures.add("rss_kb_per_connection", each(before.rss, after.rss));
        figures.add("pss_kb_per_connection", each(before.pss, after.pss));
    }
    // Silent connections cost something too: the server's clock.
    let usage = Usage::start(target);
    tokio::time::sleep(plan.duration).await;
    let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / usage.since.elapsed().as_secs_f64();
    if let Some(cpu) = usage.cpu().server {
        figures.add("server_cpu_percent", share(cpu));
    }
    drop(rooms);
    Ok(figures)
}

/// Rooms at an offered rate: `fanout`, `rooms`, and `slow`, where some readers stop while it is measured.
async fn offered(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    if !plan.rate.is_finite() || plan.rate <= 0.0 {
        return Err(BenchError::Plan("--rate is more than 0".into()));
    }
    // The first member publishes, and needs its confirmations; the second of each hundred stops.
    let slow = |index: usize| plan.workload == Workload::Slow && index % ONE_STOPS_OF == 1;
    let rooms = load::rooms(plan, target, tally, slow).await?;
    let slow_ones = || rooms.iter().flat_map(|room| &room.members).filter(|member| member.is_slow());
    let measuring = async {
        let stop_readers = || slow_ones().for_each(|member| member.pause(true));
        let (usage, mut figures) = measure(plan, target, tally, stop_readers).await;
        if plan.workload == Workload::Slow {
            usage.growth(&mut figures);
        }
        figures
    };
    // Until a little after the end, so that the end is as the rest.
    let time = plan.warmup + plan.duration + Duration::from_millis(100);
    let (mut figures, behind) = tokio::join!(measuring, load::open(plan, &rooms, time));
    slow_ones().for_each(|member| member.pause(false));
    let resumed = Instant::now();
    load::check(&rooms, &load::published(&rooms), tally).await;
    if plan.workload == Workload::Slow {
        figures.add("stopped_caught_up_s", resumed.elapsed().as_secs_f64());
    }
    figures.add_latency(tally);
    figures.add("generator_late_ms", behind.as_secs_f64() * 1000.0);
    Ok(figures)
}

/// Warms up, does what is to be done before figures count, and measures for as long as the plan says, while the load goes
/// on beside it.
async fn measure<'a>(
    plan: &Plan,
    target: &'a Target,
    tally: &Tally,
    before: impl FnOnce(),
) -> (Usage<'a>, Figures) {
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
    (usage, figures)
}

async fn publish(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let rooms = load::rooms(plan, target, tally, |_| false).await?;
    let stop = Cell::new(false);
    let measuring = async {
        let (_, figures) = measure(plan, target, tally, || {}).await;
        stop.set(true);
        figures
    };
    let (mut figures, ()) = tokio::join!(measuring, load::closed(plan, &rooms, &stop, u64::MAX));
    load::check(&rooms, &load::published(&rooms), tally).await;
    figures.add_latency(tally);
    Ok(figures)
}

async fn storm(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let mut rooms = load::rooms(plan, target, tally, |_| false).await?;
    // One message, so that each has a position to come back to.
    let once = Cell::new(false);
    load::closed(plan, &rooms, &once, 1).await;
    tally.settle((plan.rooms * plan.members) as u64).await;

    tally.doing.set("away");
    let left = Instant::now();
    // All but the publishers, who stay.
    for room in &mut rooms {
        room.members.truncate(1);
    }
    load::closed(plan, &rooms, &once, MISSED + 1).await;
    tokio::time::sleep(AWAY.saturating_sub(left.elapsed())).await;

    tally.doing.set("coming back");
    let usage = Usage::start(target);
    let started = Instant::now();
    let away = rooms.iter().flat_map(|room| {
        let records = room.records.iter().enumerate().skip(1);
        records.map(move |(index, record)| (index, room, record, record.last_id.borrow().clone()))
    });
    let away: Vec<_> = away.collect();
    let (joined, received) = (Cell::new(0), tally.received.get());
    let members = RefCell::new(Vec::with_capacity(away.len()));
    let back = try_join_all(away.iter().map(async |(index, room, record, since)| {
        let join = Join {
            node: *index,
            room: &room.name,
            encoding: plan.encoding,
            since: Some(since),
            durable: None,
            slow: false,
        };
        let member = Member::join(target, join, (*record).clone(), tally).await?;
        members.borrow_mut().push(member);
        count(&joined, 1);
        record.has(MISSED + 1).await;
        tally.record(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok::<_, BenchError>(())
    }));
    // Who has not been told that it is back may have a long answer on the way. Who has, and still misses messages, does so
    // for ever.
    let patience = || if joined.get() < away.len() as u64 { NOT_BACK } else { PATIENCE };
    let all_are_back = tokio::select! {
        back = back => match back {
            Err(BenchError::Late(..)) => false,
            back => back.map(|_| true)?,
        },
        () = tally.nothing_for(patience) => false,
    };
    let took = started.elapsed();
    let cpu = usage.cpu();
    if all_are_back {
        tally.settle((rooms.len() * plan.members) as u64 * (MISSED + 1)).await;
    }
    load::count_up(&rooms, &load::published(&rooms), tally);
    let mut figures = Figures::default();
    let caught_up = (tally.received.get() - received) as f64;
    if all_are_back {
        figures.add("all_caught_up_s", took.as_secs_f64());
        figures.add("caught_up_per_s", caught_up / took.as_secs_f64());
        figures.add_cpu("server_us_per_delivery", cpu.server, caught_up);
        figures.add_cpu("redis_us_per_delivery", cpu.redis, caught_up);
        figures.add_cpu("generator_us_per_delivery", cpu.generator, caught_up);
    }
    figures.add_latency(tally);
    if let Some(memory) = memory(&target.pids()) {
        figures.add("server_peak_mb", memory.peak as f64 / 1048576.0);
    }
    Ok(figures)
}

/// What processes had used when something began.
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

    /// CPU time since.
    fn cpu(&self) -> Cpu {
        Cpu::now(self.target).since(self.cpu)
    }

    /// What was done meanwhile, a second, and what it cost.
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
    }

    /// How the server's memory grew.
    fn growth(&self, figures: &mut Figures) {
        if let (Some(before), Some(after)) = (self.memory, memory(&self.target.pids())) {
            let growth = after.rss.saturating_sub(before.rss) as f64 / 1048576.0;
            figures.add("server_growth_mb", growth);
        }
    }
}
