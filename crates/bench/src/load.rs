//! Rooms full of members, and the two ways to load them: open, at an offered rate regardless of the answers,
//! and closed, with a window of publishes in flight.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::member::{Join, Member, Record};
use super::tally::{Tally, count};
use super::{BenchError, Plan, Target, Workload};

/// Maximum number of joins in flight: enough to keep any server busy, and below the accept backlog, which is
/// 511 in many servers.
const JOINS: usize = 256;

#[derive(Debug)]
pub(super) struct Room {
    /// Its name, different in each run.
    pub name: String,
    /// Its members. The first one publishes.
    pub members: Vec<Member>,
    /// The record of each member.
    pub records: Vec<Rc<Record>>,
}

impl Room {
    /// Returns the number of messages published to it.
    fn published(&self) -> u64 {
        self.members.first().map_or(0, Member::published)
    }
}

/// Creates the rooms and joins all members. The predicate on the index selects the slow members.
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

/// Publishes at this rate until stopped, round robin over the rooms, and records its maximum delay.
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
        // The timer's own resolution is a millisecond.
        let late = start.elapsed().saturating_sub(due + Duration::from_millis(2));
        tally.late.set(tally.late.get().max(late));
        publisher.publish(plan.burst as u64, plan.payload).await;
        sent += plan.burst as u64;
        if index % 64 == 63 {
            // Received bytes are read, whether the generator is behind or not.
            tokio::task::yield_now().await;
        }
    }
}

/// Keeps the window of each room's publisher full until stopped, or until it has published `most` messages.
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

/// Waits for messages still in flight, and adds up each receiver's losses, duplicates and messages out of
/// order.
pub(super) async fn check(rooms: &[Room], tally: &Tally) {
    tally.doing.set("checking");
    tally.settle(expected(rooms)).await;
    count_up(rooms, tally);
}

/// Adds up each receiver's losses, duplicates and messages out of order.
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

/// Returns the number of messages that all members of all rooms will have received once everything published
/// has arrived.
pub(super) fn expected(rooms: &[Room]) -> u64 {
    rooms.iter().map(|room| room.records.len() as u64 * room.published()).sum()
}
