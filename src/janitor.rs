//! The janitor: the one that trims. On one node at a time, under a lease; every few seconds it looks at all rooms, and at
//! those closely that have changed or where something has become too old.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::config::RoomPolicy;
use crate::log::Unavailable;
use crate::log::retention::{Limits, RoomFacts, is_empty_room_expired, overrun, plan};
use crate::node::Node;
use crate::protocol::{MessageId, RoomName};
use crate::redis::RoomCursor;
use crate::time::now_ms;

/// Intervals that a lease holds: a janitor that dies is followed by another within so many.
const LEASE_INTERVALS: u32 = 3;

/// Rooms that are looked at at once.
const ROOMS_AT_ONCE: usize = 8;

/// After this long a room is looked at closely even if nothing was appended: positions may have moved.
const CLOSE_LOOK: Duration = Duration::from_secs(60);

/// Durable subscriptions, of those that one trim overran, that are named in the log and counted.
const OVERRUN_TOLD: usize = 1000;

/// What the janitor remembers of a room.
#[derive(Debug, Clone, Copy)]
struct Seen {
    head: MessageId,
    lag: u64,
    /// Since when the oldest message waits that a durable subscription has not acknowledged, in Unix ms.
    unacknowledged: Option<u64>,
    /// Whether something is over its limits and stays for a durable subscription that may acknowledge it any moment.
    kept: bool,
    at: Instant,
    /// When something becomes too old, in Unix ms: the oldest entry, a durable subscription, or the empty room itself.
    due_ms: Option<u64>,
}

impl Seen {
    fn is_current(&self, head: MessageId, now_ms: u64) -> bool {
        self.head == head
            && !self.kept
            && self.at.elapsed() < CLOSE_LOOK
            && self.due_ms.is_none_or(|due| now_ms < due)
    }
}

/// Works until `stop`.
pub async fn run(node: Arc<Node>, stop: CancellationToken) {
    let mut seen = HashMap::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(node.config.retention.interval) => {}
        }
        let leased = node.store.lease(&node.id, lease(&node)).await.unwrap_or(false);
        node.metrics.janitor.set(f64::from(u8::from(leased)));
        if !leased {
            seen.clear();
            show_backlog(&node, &seen);
            continue;
        }
        if let Err(Unavailable) = pass(&node, &mut seen).await {
            tracing::debug!("a round of retention was cut short; Redis cannot be reached");
        }
    }
}

/// One look at all rooms.
async fn pass(node: &Node, seen: &mut HashMap<RoomName, Seen>) -> Result<(), Unavailable> {
    let mut cursor = Some(RoomCursor::default());
    let mut found = HashMap::new();
    while let Some(from) = cursor {
        let (rooms, next) = node.store.rooms(&from).await?;
        let heads = node.store.heads(&rooms).await;
        let now = now_ms();
        let heads: Vec<_> =
            rooms.into_iter().zip(heads).filter_map(|(room, head)| Some((room, head.ok()?.id))).collect();
        let looks = heads.into_iter().map(|(room, head)| {
            let known = seen.get(&room).copied();
            async move {
                let looked = match known.filter(|known| known.is_current(head, now)) {
                    Some(known) => Ok(Some(known)),
                    None => tend(node, &room).await,
                };
                (room, looked)
            }
        });
        let mut looks = stream::iter(looks).buffer_unordered(ROOMS_AT_ONCE);
        while let Some((room, looked)) = looks.next().await {
            if let Some(looked) = looked? {
                found.insert(room, looked);
            }
        }
        drop(looks);
        // A large keyspace is scanned for longer than the lease holds.
        if next.is_some() && !node.store.lease(&node.id, lease(node)).await? {
            return Ok(());
        }
        cursor = next;
    }
    *seen = found;
    show_backlog(node, seen);
    Ok(())
}

/// Shows how far durable subscriptions are behind, in each room class.
fn show_backlog(node: &Node, seen: &HashMap<RoomName, Seen>) {
    let now = now_ms();
    let mut worst = vec![(0, 0); node.metrics.each_class().len()];
    for (room, seen) in seen {
        let (lag, age) = &mut worst[node.metrics.class(room).index()];
        *lag = seen.lag.max(*lag);
        *age = seen.unacknowledged.map_or(0, |since| now.saturating_sub(since)).max(*age);
    }
    for (class, (lag, age)) in node.metrics.each_class().iter().zip(worst) {
        class.lag.set(lag as f64);
        class.unacknowledged.set(age as f64 / 1000.0);
    }
}

fn lease(node: &Node) -> Duration {
    node.config.retention.interval * LEASE_INTERVALS
}

/// Looks at a room closely: lets unused subscriptions go, and what is over its limits. `None` if the room itself went.
async fn tend(node: &Node, room: &RoomName) -> Result<Option<Seen>, Unavailable> {
    let policy = node.config.policy(room);
    let mut facts = node.store.facts(room).await?;
    if expire(node, room, &facts).await? {
        facts = node.store.facts(room).await?;
    }
    let max_age_ms = policy.max_age.map(|age| age.as_millis() as u64);
    let ttl_ms = node.config.retention.subscription_ttl.as_millis() as u64;
    if is_empty_room_expired(&facts, max_age_ms, ttl_ms) {
        return Ok(if node.store.delete_if_empty(room, facts.head).await? {
            tracing::debug!(%room, "an empty room was removed");
            None
        } else {
            Some(seen(node, &facts, policy, None))
        });
    }
    let plan = plan(&limits(policy), &facts);
    if plan != Default::default() {
        let (removed, first) = node.store.trim(room, &plan, facts.head).await?;
        node.metrics.of(node.metrics.class(room)).trimmed.increment(removed);
        tracing::debug!(%room, removed, "trimmed");
        let before = facts;
        facts = RoomFacts { first, length: facts.length.saturating_sub(removed), ..facts };
        tell_overrun(node, room, &before, &facts).await?;
    }
    let unacknowledged = unacknowledged(node, room, &facts).await?;
    Ok(Some(seen(node, &facts, policy, unacknowledged)))
}

/// Says which durable subscriptions a trim took messages from, and counts these: of the furthest behind.
async fn tell_overrun(
    node: &Node,
    room: &RoomName,
    before: &RoomFacts,
    after: &RoomFacts,
) -> Result<(), Unavailable> {
    let kept = after.first.unwrap_or(after.head.successor());
    if before.lowest.is_none_or(|lowest| lowest.successor().seq >= kept.seq) {
        return Ok(());
    }
    let behind = node.store.behind(room, kept.seq, OVERRUN_TOLD).await?;
    let positions: Vec<MessageId> = behind.iter().map(|(_, position)| *position).collect();
    for (index, lost) in overrun(before.first, after.first, after.head, &positions) {
        let subscription = behind[index].0.as_str();
        tracing::warn!(%room, subscription, lost, "retention overran a durable subscription; it will be told of a gap");
        node.metrics.of(node.metrics.class(room)).overrun.increment(lost);
    }
    Ok(())
}

/// When the oldest message that somebody has not acknowledged, and that is there, was appended.
async fn unacknowledged(node: &Node, room: &RoomName, facts: &RoomFacts) -> Result<Option<u64>, Unavailable> {
    let behind = facts.lowest.filter(|position| position.seq < facts.head.seq);
    match (behind, facts.first) {
        (None, _) | (_, None) => Ok(None),
        (Some(position), Some(first)) if position < first => Ok(Some(first.ms)),
        (Some(position), Some(_)) => {
            let page = node.store.read_after(room, position.into(), 1).await?;
            Ok(page.entries.first().map(|entry| entry.id().ms))
        }
    }
}

/// Deletes the room's durable subscriptions that nobody has used for too long. Whether there were any to look at.
async fn expire(node: &Node, room: &RoomName, facts: &RoomFacts) -> Result<bool, Unavailable> {
    let ttl_ms = node.config.retention.subscription_ttl.as_millis() as u64;
    let before = facts.now_ms.saturating_sub(ttl_ms);
    if facts.used_ms.is_none_or(|used| used >= before) {
        return Ok(false);
    }
    loop {
        let (gone, more) = node.store.expire(room, before).await?;
        for group in gone {
            tracing::info!(%room, subscription = group.as_str(), "a durable subscription expired");
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

fn seen(node: &Node, facts: &RoomFacts, policy: &RoomPolicy, unacknowledged: Option<u64>) -> Seen {
    let ms = |duration: Duration| duration.as_millis() as u64;
    let ttl = ms(node.config.retention.subscription_ttl);
    let oldest = facts.first.zip(policy.max_age).map(|(first, age)| first.ms.saturating_add(ms(age)));
    let unused = facts.used_ms.map(|used| used.saturating_add(ttl));
    let empty = facts.head.ms.saturating_add(policy.max_age.map_or(0, ms)).saturating_add(ttl);
    let soft = Limits { keep_unacked: false, ..limits(policy) };
    Seen {
        head: facts.head,
        kept: facts.lowest.is_some() && plan(&soft, facts) != Default::default(),
        unacknowledged,
        lag: facts.lag(),
        at: Instant::now(),
        due_ms: [oldest, unused, (facts.length == 0).then_some(empty)].into_iter().flatten().min(),
    }
}
