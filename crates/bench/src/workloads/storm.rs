//! `storm`: all connections drop at once, miss messages, and reconnect.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::super::load::{self, Room};
use super::super::member::{Join, Member};
use super::super::process::{Cpu, memory};
use super::super::report::Figures;
use super::super::tally::{PATIENCE, Tally, count};
use super::super::{BenchError, Plan, Target};
use super::Usage;
use roomlog_testkit::{Connection, DEADLINE, Reply};

/// Number of messages in each room that everybody misses. [`AWAY`] is the minimum time away.
const MISSED: u64 = 100;
const AWAY: Duration = Duration::from_secs(2);

/// Maximum wait without any message while some members have not been confirmed as back.
const NOT_BACK: Duration = Duration::from_secs(40);

/// How everybody came back.
struct Return {
    /// Set unless some are still missing messages.
    complete: bool,
    took: Duration,
    cpu: Cpu,
    /// Number of messages that were delivered meanwhile.
    caught_up: u64,
    /// The members. Their leaving must not count as work of the server.
    _members: Vec<Member>,
}

pub(super) async fn storm(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let mut rooms = load::rooms(plan, target, tally, |_| false).await?;
    // One message, so that each member has a position to resume from.
    load::closed(plan, &rooms, &Cell::new(false), 1).await;
    tally.settle((plan.rooms * plan.members) as u64).await;
    away(plan, &mut rooms, tally).await;

    let calls = redis_calls(target).await?;
    let back = back(plan, target, &rooms, tally).await?;
    // The query itself is one of the calls.
    let calls = calls.zip(redis_calls(target).await?).map(|(before, after)| after - before - 1);

    let mut figures = Figures::default();
    add(&mut figures, &back);
    if back.complete {
        load::check(&rooms, tally).await;
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

/// Cuts all members off, except the publishers, and publishes what they miss.
async fn away(plan: &Plan, rooms: &mut [Room], tally: &Tally) {
    tally.doing.set("away");
    let left = Instant::now();
    for room in rooms.iter_mut() {
        room.members.truncate(1);
    }
    load::closed(plan, rooms, &Cell::new(false), MISSED + 1).await;
    tokio::time::sleep(AWAY.saturating_sub(left.elapsed())).await;
}

/// Lets all members return at once, and waits until each has everything, or nothing more comes.
async fn back(plan: &Plan, target: &Target, rooms: &[Room], tally: &Rc<Tally>) -> Result<Return, BenchError> {
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
    // A member that is not confirmed as back may have a long answer in flight. One that is confirmed, and
    // still misses messages, will never get them.
    let patience = || if joined.get() < away.len() as u64 { NOT_BACK } else { PATIENCE };
    let complete = tokio::select! {
        back = back => match back {
            Err(BenchError::Late(..)) => false,
            back => back.map(|_all| true)?,
        },
        () = tally.nothing_for(patience) => false,
    };
    let (took, cpu) = (started.elapsed(), usage.cpu());
    let caught_up = tally.received.get() - received;
    Ok(Return { complete, took, cpu, caught_up, _members: members.into_inner() })
}

/// Adds the duration of the return and its cost, if it was complete.
fn add(figures: &mut Figures, back: &Return) {
    if !back.complete {
        return;
    }
    let (seconds, caught_up) = (back.took.as_secs_f64(), back.caught_up as f64);
    figures.add("all_caught_up_s", seconds);
    figures.add("caught_up_per_s", caught_up / seconds);
    figures.add_cpu("server_us_per_delivery", back.cpu.server, caught_up);
    figures.add_cpu("redis_us_per_delivery", back.cpu.redis, caught_up);
    figures.add_cpu("generator_us_per_delivery", back.cpu.generator, caught_up);
}

/// Returns the number of commands that the target's Redis has executed, including those inside functions.
async fn redis_calls(target: &Target) -> Result<Option<u64>, BenchError> {
    let Some(address) = target.redis_address else { return Ok(None) };
    let asked = tokio::task::spawn_blocking(move || calls(address)).await;
    let calls = asked.unwrap_or_else(|error| Err(error.into()));
    calls.map(Some).map_err(|error| BenchError::Io(format!("Redis at {address}"), error))
}

fn calls(address: SocketAddr) -> io::Result<u64> {
    let mut redis = Connection::open(address, DEADLINE)?;
    redis.send(&["INFO", "stats"])?;
    let info = match redis.reply()? {
        Reply::Bytes(info) => String::from_utf8_lossy(&info).into_owned(),
        other => return Err(io::Error::other(format!("no statistics: {other:?}"))),
    };
    let count = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    count.ok_or_else(|| io::Error::other("it does not say its commands"))
}
