//! `storm`: all connections drop at once, miss messages, and reconnect.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::super::load;
use super::super::member::{Join, Member};
use super::super::process::memory;
use super::super::report::Figures;
use super::super::resp::Resp;
use super::super::tally::{PATIENCE, Tally, count};
use super::super::{BenchError, Plan, Target};
use super::Usage;

/// Number of messages in each room that everybody misses. [`AWAY`] is the minimum time away.
const MISSED: u64 = 100;
const AWAY: Duration = Duration::from_secs(2);

/// Maximum wait without any message while some members have not been confirmed as back.
const NOT_BACK: Duration = Duration::from_secs(40);

pub(super) async fn storm(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let mut rooms = load::rooms(plan, target, tally, |_| false).await?;
    // One message, so that each member has a position to resume from.
    let once = Cell::new(false);
    load::closed(plan, &rooms, &once, 1).await;
    tally.settle((plan.rooms * plan.members) as u64).await;

    tally.doing.set("away");
    let left = Instant::now();
    // All members except the publishers, which stay.
    for room in &mut rooms {
        room.members.truncate(1);
    }
    load::closed(plan, &rooms, &once, MISSED + 1).await;
    tokio::time::sleep(AWAY.saturating_sub(left.elapsed())).await;

    tally.doing.set("coming back");
    let calls = redis_calls(target).await?;
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
    // A member that is not confirmed as back may have a long answer in flight. One that is confirmed, and
    // still misses messages, will never get them.
    let patience = || if joined.get() < away.len() as u64 { NOT_BACK } else { PATIENCE };
    let all_are_back = tokio::select! {
        back = back => match back {
            Err(BenchError::Late(..)) => false,
            back => back.map(|_all| true)?,
        },
        () = tally.nothing_for(patience) => false,
    };
    let took = started.elapsed();
    let cpu = usage.cpu();
    let calls = calls
        .zip(redis_calls(target).await?)
        // The query itself is one of the calls.
        .map(|(before, after)| after - before - 1);
    let caught_up = (tally.received.get() - received) as f64;
    let mut figures = Figures::default();
    if all_are_back {
        load::check(&rooms, tally).await;
        figures.add("all_caught_up_s", took.as_secs_f64());
        figures.add("caught_up_per_s", caught_up / took.as_secs_f64());
        figures.add_cpu("server_us_per_delivery", cpu.server, caught_up);
        figures.add_cpu("redis_us_per_delivery", cpu.redis, caught_up);
        figures.add_cpu("generator_us_per_delivery", cpu.generator, caught_up);
    } else {
        load::count_up(&rooms, tally);
    }
    if let Some(calls) = calls {
        figures.add("redis_calls", calls as f64);
    }
    figures.add_latency(tally);
    if let Some(memory) = memory(&target.pids()) {
        figures.add("server_peak_mb", memory.peak as f64 / 1048576.0);
    }
    Ok(figures)
}

/// Returns the number of commands that the target's Redis has executed, including those inside functions.
async fn redis_calls(target: &Target) -> Result<Option<u64>, BenchError> {
    let Some(address) = target.redis_address else { return Ok(None) };
    Resp::connect(address).await?.commands().await.map(Some)
}
