//! Decides what retention removes from rooms: limits and facts in, a plan out. Pure: the janitor measures
//! rooms and executes plans. All times are Unix ms of Redis's clock.

use crate::protocol::MessageId;

/// Bytes of a stream that belong to no message: the stream itself, and its first and last node, which are
/// partly empty. No trim frees them, so a limit that counted them would eventually remove every message of a
/// small room.
const FIXED: u64 = 16 * 1024;

/// The limits of a room. A message above any of them is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    pub max_age_ms: Option<u64>,
    pub max_length: Option<u64>,
    /// Most bytes of stored messages. Converted with their average size, so it takes a few trims to reach.
    pub max_bytes: Option<u64>,
    /// Keeps messages that a durable subscription still needs, up to twice each limit.
    pub keep_unacked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomFacts {
    /// Time of the measurement, in Unix ms of Redis's clock.
    pub now_ms: u64,
    pub head: MessageId,
    pub first: Option<MessageId>,
    pub length: u64,
    /// Bytes of Redis's memory that the messages use, as Redis estimates it.
    pub bytes: u64,
    pub subscriptions: u64,
    /// The lowest position of a durable subscription. Positions beyond the head (Redis lost its newest
    /// writes) do not count, since they need none of the entries.
    pub lowest: Option<MessageId>,
    /// The time since which every durable subscription has been used, in Unix ms of Redis's clock.
    pub used_ms: Option<u64>,
}

impl RoomFacts {
    pub fn lag(&self) -> u64 {
        self.lowest.map_or(0, |lowest| self.after(lowest))
    }

    /// Returns the number of entries after a position: a difference, since ids are dense.
    pub fn after(&self, position: MessageId) -> u64 {
        let Some(first) = self.first else { return 0 };
        self.head.seq.saturating_sub(position.seq.max(first.seq.saturating_sub(1)))
    }
}

/// The trims of a room, in order of execution. Each removes only the oldest entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Number of entries to keep up to the measured head. Entries appended since then are kept as well.
    pub keep_length: Option<u64>,
    pub before: Option<MessageId>,
}

/// The effect of limits: at most `length` entries stay, and none before `before`.
#[derive(Debug, Clone, Copy)]
struct Cut {
    length: u64,
    before: MessageId,
}

/// Plans the trims of a room.
///
/// With [`Limits::keep_unacked`], nothing after the lowest position is removed, up to twice the limits. Ids
/// are dense, so their distance is an upper bound of the number of messages. If some of those were deleted,
/// more than the limit may stay. A position before the first entry has already lost the messages before it.
pub(crate) fn plan(limits: &Limits, facts: &RoomFacts) -> Plan {
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

/// Returns the losses of subscriptions in a trim: each one's index in `positions`, and the most messages it
/// may have lost. `first_before` and `first_after` are the oldest entries before and after the trim.
pub(crate) fn overrun(
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

/// Returns whether a room is empty and no client can still return to a position in it. It is then deleted,
/// and its `seq` starts again.
pub(crate) fn is_empty_room_expired(
    facts: &RoomFacts,
    max_age_ms: Option<u64>,
    subscription_ttl_ms: u64,
) -> bool {
    let kept_ms = max_age_ms.unwrap_or_default().saturating_add(subscription_ttl_ms);
    facts.length == 0 && facts.subscriptions == 0 && facts.now_ms.saturating_sub(facts.head.ms) >= kept_ms
}

impl Limits {
    /// Doubles the limits. Beyond these, nothing is kept for any subscription.
    fn doubled(self) -> Self {
        let double = |limit: Option<u64>| limit.map(|limit| limit.saturating_mul(2));
        Self {
            max_age_ms: double(self.max_age_ms),
            max_length: double(self.max_length),
            max_bytes: double(self.max_bytes),
            ..self
        }
    }

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
