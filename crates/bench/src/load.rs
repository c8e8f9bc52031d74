//! Rooms full of members, and the two ways of loading them: at an offered rate, whatever comes back, or with a window of
//! publishes in flight.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::member::{Join, Member, Record};
use super::tally::{Tally, count};
use super::{BenchError, Plan, Target, Workload};

/// Joins that are under way at a time: enough to keep any server busy, and fewer than connections that may wait to be accepted, of which
/// many servers allow 511.
const JOINS: usize = 256;

/// A room of the run.
#[derive(Debug)]
pub(super) struct Room {
    /// Its name, new in each run.
    pub name: String,
    /// Who is in it; the first publishes.
    pub members: Vec<Member>,
    /// What each has had.
    pub records: Vec<Rc<Record>>,
}

impl Room {
    /// Messages that were published to it.
    fn published(&self) -> u64 {
        self.members.first().map_or(0, Member::published)
    }
}

/// Makes the rooms and joins all members. Which members are slow is said by their index.
pub(super) async fn rooms(
    plan: &Plan,
    target: &Target,
    tally: &Rc<Tally>,
    slow: impl Fn(usize) -> bool + Copy,
) -> Result<Vec<Room>, BenchError> {
    let run = Uuid::new_v4().simple().to_string();
    let mut rooms: Vec<Room> = (0..plan.rooms)
        .map(|index| Room {
            name: format!("bench.{}.{index}", &run[..8]),
            members: Vec::with_capacity(plan.members),
            records: (0..plan.members).map(|_| Rc::default()).collect(),
        })
        .collect();
    let joins = rooms.iter().flat_map(|room| {
        let records = room.records.iter().enumerate();
        records.map(move |(index, record)| (room, record, index))
    });
    let joined: Vec<Member> = stream::iter(joins)
        .map(async |(room, record, index)| {
            let name = format!("bench-{index}");
            let join = Join {
                node: index,
                room: &room.name,
                encoding: plan.encoding,
                since: None,
                durable: (plan.workload == Workload::Durable).then_some(&*name),
                slow: slow(index),
            };
            Member::join(target, join, record.clone(), tally).await
        })
        .buffered(JOINS)
        .try_collect()
        .await?;
    let mut joined = joined.into_iter();
    for room in &mut rooms {
        room.members.extend(joined.by_ref().take(plan.members));
    }
    Ok(rooms)
}

/// Publishes at this rate until told to stop, round the rooms, and notes how late it was at worst.
pub(super) async fn open(plan: &Plan, rate: f64, rooms: &[Room], stop: &Cell<bool>, tally: &Tally) {
    let start = Instant::now();
    let mut sent = 0u64;
    let publishers: Vec<&Member> = rooms.iter().filter_map(|room| room.members.first()).collect();
    for (index, publisher) in publishers.iter().cycle().enumerate() {
        let due = Duration::from_secs_f64(sent as f64 / rate);
        if start.elapsed() < due {
            tokio::time::sleep_until((start + due).into()).await;
        }
        if stop.get() {
            break;
        }
        // The timer's own grain is a millisecond.
        let late = start.elapsed().saturating_sub(due + Duration::from_millis(2));
        tally.late.set(tally.late.get().max(late));
        publisher.publish(plan.burst as u64, plan.payload).await;
        sent += plan.burst as u64;
        if index % 64 == 63 {
            // Behind or not, what has come is read.
            tokio::task::yield_now().await;
        }
    }
}

/// Each room's publisher keeps its window full until told to stop, or until it has published so many.
pub(super) async fn closed(plan: &Plan, rooms: &[Room], stop: &Cell<bool>, most: u64) {
    let publishers = rooms.iter().filter_map(|room| room.members.first());
    let each = publishers.map(async |publisher| {
        while !stop.get() && publisher.published() < most && !publisher.is_broken() {
            let more = publisher.window(plan.window as u64).await;
            publisher.publish(more.min(most - publisher.published()), plan.payload).await;
        }
    });
    futures_util::future::join_all(each).await;
}

/// Waits for what is still on its way, and adds up what each receiver missed, had twice, or had in the wrong order.
pub(super) async fn check(rooms: &[Room], tally: &Tally) {
    tally.doing.set("checking");
    tally.settle(expected(rooms)).await;
    count_up(rooms, tally);
}

/// Adds up what each receiver missed, had twice, or had in the wrong order.
pub(super) fn count_up(rooms: &[Room], tally: &Tally) {
    for room in rooms {
        for record in &room.records {
            let track = record.track.borrow();
            count(&tally.lost, track.lost(room.published()));
            count(&tally.duplicates, track.duplicates);
            count(&tally.reordered, track.reordered);
        }
    }
}

/// What all members of all rooms will have had, once all that was published has come.
pub(super) fn expected(rooms: &[Room]) -> u64 {
    rooms.iter().map(|room| room.records.len() as u64 * room.published()).sum()
}
