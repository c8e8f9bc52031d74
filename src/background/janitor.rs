//! The janitor trims rooms. One node at a time is the janitor, under a lease. Every few seconds it looks at
//! the rooms that are due: rooms in which something happened, and rooms where something has become too old.
//! Idle rooms cost nothing.

mod brake;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use self::brake::Brake;
use super::pause;
use crate::config::{RetentionConfig, RoomPolicies, RoomPolicy};
use crate::log::Unavailable;
use crate::log::retention::{Limits, RoomFacts, is_empty_room_expired, overrun, plan};
use crate::protocol::{MessageId, RoomName};
use crate::redis::{RoomCursor, Store};
use crate::telemetry::Metrics;
use crate::util::time::now_ms;

/// Duration of the lease, in intervals. After a janitor dies, another one follows within this time.
const LEASE_INTERVALS: u32 = 3;

const ROOMS_AT_ONCE: usize = 8;

/// Time after which a room is examined again even if nothing happened in it.
const LATEST: Duration = Duration::from_secs(24 * 3600);

/// Like [`LATEST`], for a room with a durable subscription that is behind, so that a new janitor learns of
/// it.
const LATEST_BEHIND: Duration = Duration::from_secs(600);

const SWEEP: Duration = Duration::from_secs(24 * 3600);

/// Time after which a room is due again that could not be examined.
const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum lead of a clock over the time that has passed, beyond one interval.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Maximum number of durable subscriptions that are logged and counted after one trim that overran them.
const OVERRUN_REPORTED: usize = 1000;

#[derive(Debug, Clone, Copy)]
struct Behind {
    lag: u64,
    /// The time since which the oldest unacknowledged message waits, in Unix ms.
    unacknowledged: Option<u64>,
}

struct Examined {
    behind: Behind,
    due_ms: u64,
}

#[derive(Default)]
struct State {
    behind: HashMap<RoomName, Behind>,
    swept: Option<Instant>,
}

pub(crate) struct Janitor {
    node: String,
    store: Arc<Store>,
    retention: RetentionConfig,
    rooms: RoomPolicies,
    metrics: Arc<Metrics>,
}

impl Janitor {
    pub(crate) fn new(
        node: String,
        store: Arc<Store>,
        retention: RetentionConfig,
        rooms: RoomPolicies,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { node, store, retention, rooms, metrics }
    }

    /// Runs until `stop`. Every node writes its notes of rooms to the queues; the janitor examines the rooms
    /// that are due.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut state = State::default();
        let mut brakes: Vec<Brake> = (0..self.store.queues()).map(|_| Brake::default()).collect();
        while pause(&stop, self.retention.interval).await {
            self.store.write_notes().await;
            let leased = self.has_lease().await;
            self.metrics.janitor.set(f64::from(u8::from(leased)));
            if leased {
                pass(&self, &mut state, &mut brakes).await;
            } else {
                state = State::default();
            }
            record_backlog(&self, &state.behind);
        }
    }

    /// Takes or extends the lease. Returns true if this node has it.
    async fn has_lease(&self) -> bool {
        self.store.lease(&self.node, self.retention.interval * LEASE_INTERVALS).await == Ok(true)
    }
}

/// Examines all due rooms, of all queues concurrently. The failure of one queue does not affect the others.
async fn pass(janitor: &Janitor, state: &mut State, brakes: &mut [Brake]) {
    if state.swept.is_none_or(|at| at.elapsed() >= SWEEP) {
        sweep(janitor).await;
        state.swept = Some(Instant::now());
    }
    let queues = (0..janitor.store.queues())
        .zip(&mut *brakes)
        .map(|(queue, brake)| examine_due(janitor, queue, brake));
    for (room, behind) in futures_util::future::join_all(queues).await.into_iter().flatten() {
        match behind.filter(|behind| behind.lag > 0) {
            Some(behind) => state.behind.insert(room, behind),
            None => state.behind.remove(&room),
        };
    }
    let held = brakes.iter().any(Brake::is_held);
    janitor.metrics.retention_held.set(f64::from(u8::from(held)));
}

/// Adds rooms to their queues that are in none: those noted by nodes that died before writing their notes,
/// and those of an older version.
async fn sweep(janitor: &Janitor) {
    let shards = janitor.store.shards().map().serving().len();
    let scans = (0..shards).map(|shard| async move {
        let mut cursor = Some(RoomCursor::of_shard(shard));
        let mut added = 0;
        while let Some(from) = cursor.filter(|cursor| cursor.is_of_shard(shard)) {
            let Ok((rooms, next)) = janitor.store.rooms(&from).await else {
                tracing::warn!(shard, "the sweep for rooms stopped early; Redis cannot be reached");
                break;
            };
            added += janitor.store.enlist(rooms).await;
            cursor = next;
        }
        added
    });
    let added: u64 = futures_util::future::join_all(scans).await.into_iter().sum();
    tracing::debug!(added, "swept for rooms that were in no queue");
}

/// Examines the due rooms of a queue. Returns each room with the backlog of its durable subscriptions; `None`
/// for a room that no longer exists.
async fn examine_due(janitor: &Janitor, queue: u16, brake: &mut Brake) -> Vec<(RoomName, Option<Behind>)> {
    let mut all = Vec::new();
    loop {
        let Ok(taken) = janitor.store.take_due(queue, PATIENCE).await else { return all };
        let was_held = brake.is_held();
        let tolerance = janitor.retention.interval + CLOCK_TOLERANCE;
        let held = brake.holds(Instant::now(), taken.now_ms, tolerance);
        if held && !was_held {
            tracing::warn!(
                queue,
                "Redis's clock jumped ahead: removal by age is paused for an hour, or until the clock is corrected"
            );
        }
        let now_ms = taken.now_ms;
        let outcomes = taken.rooms.clone().into_iter().map(|room| async move {
            let examined = examine(janitor, &room, now_ms, held).await;
            (room, examined)
        });
        let outcomes: Vec<_> = stream::iter(outcomes).buffer_unordered(ROOMS_AT_ONCE).collect().await;
        let mut settled = Vec::new();
        for (room, examined) in outcomes {
            // A room that cannot be reached is due again later.
            let Ok(examined) = examined else { continue };
            settled.push((room.clone(), examined.as_ref().map(|examined| examined.due_ms)));
            all.push((room, examined.map(|examined| examined.behind)));
        }
        let is_settled = janitor.store.settle(queue, &taken, &settled).await;
        // Many rooms can take longer than the lease lasts.
        let leased = !taken.more || janitor.has_lease().await;
        if !taken.more || !leased || is_settled.is_err() {
            return all;
        }
    }
}

fn record_backlog(janitor: &Janitor, behind: &HashMap<RoomName, Behind>) {
    let now = now_ms();
    let mut worst = vec![(0, 0); janitor.metrics.each_class().len()];
    for (room, behind) in behind {
        let (lag, age) = &mut worst[janitor.metrics.class(room).index()];
        *lag = behind.lag.max(*lag);
        *age = behind.unacknowledged.map_or(0, |since| now.saturating_sub(since)).max(*age);
    }
    for (class, (lag, age)) in janitor.metrics.each_class().iter().zip(worst) {
        class.lag.set(lag as f64);
        class.unacknowledged.set(age as f64 / 1000.0);
    }
}

/// Examines a room: removes unused subscriptions, and messages over its limits. Returns `None` if the room
/// itself was deleted. Nothing is removed by age if `held`, or if the clock of the room's Redis differs from
/// the queue's.
async fn examine(
    janitor: &Janitor,
    room: &RoomName,
    now_ms: u64,
    held: bool,
) -> Result<Option<Examined>, Unavailable> {
    let policy = janitor.rooms.of(room);
    let mut facts = janitor.store.facts(room).await?;
    let by_age = !held && facts.now_ms.abs_diff(now_ms) <= ms(CLOCK_TOLERANCE);
    if by_age && expire(janitor, room, &facts).await? {
        facts = janitor.store.facts(room).await?;
    }
    if facts.length == 0 && facts.subscriptions == 0 && facts.head == MessageId::ZERO {
        return Ok(None);
    }
    let (max_age_ms, ttl_ms) = (policy.max_age.map(ms), ms(janitor.retention.subscription_ttl));
    if by_age
        && is_empty_room_expired(&facts, max_age_ms, ttl_ms)
        && janitor.store.delete_if_empty(room, facts.head).await?
    {
        tracing::debug!(%room, "an empty room was removed");
        return Ok(None);
    }
    let limits = limits(policy);
    let limits = if by_age { limits } else { Limits { max_age_ms: None, ..limits } };
    let plan = plan(&limits, &facts);
    if plan != Default::default() {
        let (removed, first) = janitor.store.trim(room, &plan, facts.head).await?;
        janitor.metrics.of(janitor.metrics.class(room)).trimmed.increment(removed);
        tracing::debug!(%room, removed, "trimmed");
        let before = facts;
        facts = RoomFacts { first, length: facts.length.saturating_sub(removed), ..facts };
        report_overrun(janitor, room, &before, &facts).await?;
    }
    let behind = Behind { lag: facts.lag(), unacknowledged: unacknowledged(janitor, room, &facts).await? };
    let due_ms = match (by_age, plan == Default::default()) {
        (true, true) => due(&facts, max_age_ms, ttl_ms),
        // A limit in bytes is reached in several rounds.
        (true, false) => facts.now_ms,
        (false, _) => facts.now_ms + ms(PATIENCE),
    };
    Ok(Some(Examined { behind, due_ms }))
}

/// Logs the durable subscriptions that lost unacknowledged messages to a trim, and counts these messages, for
/// those furthest behind.
async fn report_overrun(
    janitor: &Janitor,
    room: &RoomName,
    before: &RoomFacts,
    after: &RoomFacts,
) -> Result<(), Unavailable> {
    let kept = after.first.unwrap_or(after.head.successor());
    if before.lowest.is_none_or(|lowest| lowest.successor().seq >= kept.seq) {
        return Ok(());
    }
    let behind = janitor.store.behind(room, kept.seq, OVERRUN_REPORTED).await?;
    let positions: Vec<MessageId> = behind.iter().map(|(_, position)| *position).collect();
    for (index, lost) in overrun(before.first, after.first, after.head, &positions) {
        let subscription = behind[index].0.as_str();
        tracing::warn!(%room, subscription, lost, "retention overran a durable subscription; its reader will get a gap");
        janitor.metrics.of(janitor.metrics.class(room)).overrun.increment(lost);
    }
    Ok(())
}

async fn unacknowledged(
    janitor: &Janitor,
    room: &RoomName,
    facts: &RoomFacts,
) -> Result<Option<u64>, Unavailable> {
    let behind = facts.lowest.filter(|position| position.seq < facts.head.seq);
    match (behind, facts.first) {
        (None, _) | (_, None) => Ok(None),
        (Some(position), Some(first)) if position < first => Ok(Some(first.ms)),
        (Some(position), Some(_)) => {
            let page = janitor.store.read_after(room, position.into(), 1).await?;
            Ok(page.entries.first().map(|entry| entry.id().ms))
        }
    }
}

/// Deletes the room's durable subscriptions that were unused for too long. Returns true if there were any to
/// examine.
async fn expire(janitor: &Janitor, room: &RoomName, facts: &RoomFacts) -> Result<bool, Unavailable> {
    let ttl_ms = janitor.retention.subscription_ttl.as_millis() as u64;
    let before = facts.now_ms.saturating_sub(ttl_ms);
    if facts.used_ms.is_none_or(|used| used >= before) {
        return Ok(false);
    }
    loop {
        let (gone, more) = janitor.store.expire(room, before).await?;
        for durable in gone {
            tracing::info!(%room, subscription = durable.as_str(), "a durable subscription expired");
        }
        if !more {
            return Ok(true);
        }
    }
}

fn limits(policy: &RoomPolicy) -> Limits {
    Limits {
        max_age_ms: policy.max_age.map(|age| age.as_millis() as u64),
        max_length: policy.max_length,
        max_bytes: policy.max_bytes,
        keep_unacked: policy.keep_unacked,
    }
}

/// Returns the time at which something becomes too old, in Unix ms: the oldest entry, a durable subscription,
/// or the empty room itself.
fn due(facts: &RoomFacts, max_age_ms: Option<u64>, ttl_ms: u64) -> u64 {
    // An entry that is kept beyond its age for a durable subscription is examined after an acknowledgement.
    let oldest = facts.first.zip(max_age_ms).map(|(first, age)| first.ms.saturating_add(age));
    let oldest = oldest.filter(|due| facts.lag() == 0 || *due > facts.now_ms);
    let unused = facts.used_ms.map(|used| used.saturating_add(ttl_ms));
    let empty = facts.head.ms.saturating_add(max_age_ms.unwrap_or_default()).saturating_add(ttl_ms);
    let empty = (facts.length == 0 && facts.subscriptions == 0).then_some(empty);
    let latest = if facts.lag() > 0 { LATEST_BEHIND } else { LATEST };
    let dues = [oldest, unused, empty, Some(facts.now_ms + ms(latest))];
    dues.into_iter().flatten().min().unwrap_or_default().saturating_add(1)
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests;
