//! What retention takes from rooms: limits and facts in, a plan out. Pure; the janitor measures rooms and carries plans
//! out. All times are in Unix ms of Redis's clock.

use crate::protocol::MessageId;

/// Bytes of a stream that are not its messages': itself, and its first and last node, which are partly empty. No trim
/// frees them, so a limit that counted them would in the end take every message of a small room.
const FIXED: u64 = 16 * 1024;

/// What a room may hold. A message goes when it is above any of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The age from which messages go.
    pub max_age_ms: Option<u64>,
    /// The number of messages.
    pub max_length: Option<u64>,
    /// The bytes of messages as stored. Translated by their average size, so it is met within a few trims.
    pub max_bytes: Option<u64>,
    /// Whether messages stay that a durable subscription still needs, up to twice each limit.
    pub keep_unacked: bool,
}

/// A room, measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomFacts {
    /// When, in Unix ms of Redis's clock.
    pub now_ms: u64,
    /// The newest id ever given.
    pub head: MessageId,
    /// The oldest entry.
    pub first: Option<MessageId>,
    /// How many entries there are.
    pub length: u64,
    /// How many bytes of Redis's memory the messages take, as Redis estimates it.
    pub bytes: u64,
    /// How many durable subscriptions there are.
    pub subscriptions: u64,
    /// The lowest position of a durable subscription. One beyond the head (Redis lost its newest writes) does not count: it
    /// needs nothing that there is.
    pub lowest: Option<MessageId>,
    /// Since when all durable subscriptions were used, in Unix ms of Redis's clock.
    pub used_ms: Option<u64>,
}

impl RoomFacts {
    /// How many entries the durable subscription furthest behind has not acknowledged.
    pub fn lag(&self) -> u64 {
        self.lowest.map_or(0, |lowest| self.after(lowest))
    }

    /// How many of the entries come after a position. Ids are dense, so that is a difference.
    pub fn after(&self, position: MessageId) -> u64 {
        let Some(first) = self.first else { return 0 };
        self.head.seq.saturating_sub(position.seq.max(first.seq.saturating_sub(1)))
    }
}

/// The trims of a room, to be carried out in this order. Each takes the oldest entries only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// How many entries to keep up to the head of the facts; what was appended since comes on top.
    pub keep_length: Option<u64>,
    /// The id before which entries go.
    pub before: Option<MessageId>,
}

/// How far limits let a trim go: at most so many entries stay, and none before an id.
#[derive(Debug, Clone, Copy)]
struct Cut {
    length: u64,
    before: MessageId,
}

/// What is to go of a room.
///
/// With [`Limits::keep_unacked`], nothing after the lowest position goes, up to twice the limits. Ids are dense, so their
/// distance tells how many messages that is at most; where some of them were deleted, more than the limit may stay. A
/// position before the first entry has lost already what is before it.
pub fn plan(limits: &Limits, facts: &RoomFacts) -> Plan {
    let Some(first) = facts.first else { return Plan::default() };
    let bytes = facts.bytes.saturating_sub(FIXED);
    let mut cut = limits.cut(facts.length, bytes, facts.now_ms);
    if limits.keep_unacked
        && let Some(lowest) = facts.lowest
    {
        let hard = limits.doubled().cut(facts.length, bytes, facts.now_ms);
        cut.length = cut.length.max(facts.after(lowest)).min(hard.length);
        cut.before = cut.before.min(lowest.successor()).max(hard.before);
    }
    Plan {
        keep_length: (cut.length < facts.length).then_some(cut.length),
        before: (cut.before > first).then_some(cut.before),
    }
}

/// How many messages a trim took from each subscription that had not had them: its index in `positions`, and at most how
/// many. `first_before` and `first_after` are the oldest entries before and after the trim.
pub fn overrun(
    first_before: Option<MessageId>,
    first_after: Option<MessageId>,
    head: MessageId,
    positions: &[MessageId],
) -> impl Iterator<Item = (usize, u64)> {
    let kept = first_after.unwrap_or(head.successor());
    let taken = first_before.unwrap_or(kept).seq;
    positions.iter().enumerate().filter(move |(_, position)| **position < kept).filter_map(
        move |(index, position)| {
            let next = position.successor().seq.max(taken);
            let lost = kept.seq.saturating_sub(next);
            (lost > 0).then_some((index, lost))
        },
    )
}

/// Whether nothing is left of a room, and nobody can still come back to a position in it: then it goes, and its `seq`
/// starts again.
pub fn is_empty_room_expired(facts: &RoomFacts, max_age_ms: Option<u64>, subscription_ttl_ms: u64) -> bool {
    let kept_ms = max_age_ms.unwrap_or_default().saturating_add(subscription_ttl_ms);
    facts.length == 0 && facts.subscriptions == 0 && facts.now_ms.saturating_sub(facts.head.ms) >= kept_ms
}

impl Limits {
    /// The limits beyond which nothing is kept for anybody.
    fn doubled(self) -> Self {
        let double = |limit: Option<u64>| limit.map(|limit| limit.saturating_mul(2));
        Self {
            max_age_ms: double(self.max_age_ms),
            max_length: double(self.max_length),
            max_bytes: double(self.max_bytes),
            ..self
        }
    }

    /// How far these limits go in a room of so many entries of so many bytes.
    fn cut(self, length: u64, bytes: u64, now_ms: u64) -> Cut {
        let fitting = |max: u64| {
            let fitting = u128::from(length) * u128::from(max) / u128::from(bytes);
            u64::try_from(fitting).unwrap_or(u64::MAX)
        };
        let by_bytes = self.max_bytes.filter(|max| bytes > *max).map_or(u64::MAX, fitting);
        let oldest_ms = self.max_age_ms.map_or(0, |age| now_ms.saturating_sub(age));
        Cut {
            length: self.max_length.unwrap_or(u64::MAX).min(by_bytes),
            before: MessageId::new(oldest_ms, 0),
        }
    }
}

#[cfg(test)]
mod tests;
