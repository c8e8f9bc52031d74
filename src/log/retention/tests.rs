//! Tests of plans on a log in a list: they remove what the limits require, and no more.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const NOW: u64 = 10_000;

#[derive(Debug, Clone, PartialEq)]
struct Log {
    head: MessageId,
    entries: Vec<(MessageId, u64)>,
    positions: Vec<MessageId>,
}

impl Log {
    fn facts(&self) -> RoomFacts {
        RoomFacts {
            head: self.head,
            first: self.entries.first().map(|(id, _)| *id),
            length: self.entries.len() as u64,
            bytes: FIXED + self.bytes(),
            now_ms: NOW,
            subscriptions: self.positions.len() as u64,
            lowest: self.positions.iter().filter(|position| **position <= self.head).min().copied(),
            used_ms: None,
        }
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().map(|(_, bytes)| bytes).sum()
    }

    fn plan(&self, limits: &Limits) -> Plan {
        plan(limits, &self.facts())
    }

    fn trimmed(&self, limits: &Limits) -> Self {
        let plan = self.plan(limits);
        let mut left = self.clone();
        if let Some(length) = plan.keep_length {
            left.entries.drain(..left.entries.len().saturating_sub(length as usize));
        }
        if let Some(before) = plan.before {
            left.entries.retain(|(id, _)| *id >= before);
        }
        left
    }

    /// Returns the id up to which every entry is acknowledged by all, or needed by none.
    fn acked(&self, limits: &Limits) -> MessageId {
        let lowest = self.positions.iter().min().filter(|_| limits.keep_unacked);
        lowest.map_or(self.head, |lowest| *lowest.min(&self.head))
    }

    /// Returns whether the entry at an index is above a limit, if all entries have one size.
    fn is_above(&self, limits: &Limits, index: usize) -> bool {
        let (id, bytes) = self.entries[index];
        let newer = (self.entries.len() - index) as u64;
        limits.max_length.is_some_and(|max| newer > max)
            || limits.max_bytes.is_some_and(|max| newer * bytes > max)
            || limits.max_age_ms.is_some_and(|age| id.ms + age < NOW)
    }
}

/// Builds a log of 40 entries of 100 bytes, 100 ms apart up to now.
fn log(positions: &[u64]) -> Log {
    let id = |seq: u64| MessageId::new(NOW - (40 - seq) * 100, seq);
    Log {
        head: id(40),
        entries: (1..=40).map(|seq| (id(seq), 100)).collect(),
        positions: positions.iter().map(|seq| id(*seq)).collect(),
    }
}

const NONE: Limits = Limits { max_age_ms: None, max_length: None, max_bytes: None, keep_unacked: true };

#[track_caller]
fn check(log: &Log, limits: Limits, first: u64) {
    let left = log.trimmed(&limits);
    assert_eq!(left.entries.first().map_or(41, |(id, _)| id.seq), first, "{:?}", log.plan(&limits));
}

#[test]
fn without_limits_everything_stays() {
    check(&log(&[]), NONE, 1);
    assert_eq!(log(&[]).plan(&NONE), Plan::default());
}

#[test]
fn messages_above_a_limit_are_removed() {
    check(&log(&[]), Limits { max_length: Some(10), ..NONE }, 31);
    check(&log(&[]), Limits { max_bytes: Some(1000), ..NONE }, 31);
    check(&log(&[]), Limits { max_age_ms: Some(900), ..NONE }, 31);
    check(
        &log(&[]),
        Limits { max_age_ms: Some(900), max_bytes: Some(500), max_length: Some(20), ..NONE },
        36,
    );
}

#[test]
fn age_may_remove_every_message() {
    let mut log = log(&[]);
    log.entries.iter_mut().for_each(|(id, _)| id.ms -= 5000);
    check(&log, Limits { max_age_ms: Some(900), ..NONE }, 41);
}

#[test]
fn unacknowledged_messages_stay_up_to_twice_the_limit() {
    for limits in [
        Limits { max_length: Some(10), ..NONE },
        Limits { max_bytes: Some(1000), ..NONE },
        Limits { max_age_ms: Some(950), ..NONE },
    ] {
        check(&log(&[39]), limits, 31);
        check(&log(&[25, 39]), limits, 26);
        check(&log(&[2]), limits, 21);
        check(&log(&[25]), Limits { keep_unacked: false, ..limits }, 31);
    }
}

#[test]
fn a_position_beyond_the_head_keeps_nothing() {
    let mut log = log(&[]);
    for position in [MessageId::new(NOW, 60), MessageId::new(NOW + 1, 3)] {
        log.positions = vec![position];
        check(&log, Limits { max_length: Some(10), ..NONE }, 31);
        check(&log, Limits { max_age_ms: Some(900), ..NONE }, 31);
    }
}

#[test]
fn a_position_before_the_first_entry_keeps_all_that_there_is() {
    let mut log = log(&[3]);
    log.entries.drain(..25);
    check(&log, Limits { max_length: Some(10), ..NONE }, 26);
    check(&log, Limits { max_age_ms: Some(900), ..NONE }, 26);
}

#[test]
fn the_fixed_overhead_of_a_stream_causes_no_trim() {
    let facts = RoomFacts { now_ms: NOW, head: MessageId::new(NOW, 7), bytes: 4700, ..RoomFacts::default() };
    let limits = Limits { max_bytes: Some(1), max_length: Some(1), ..NONE };
    assert_eq!(plan(&limits, &facts), Plan::default());
    let one = RoomFacts { first: Some(facts.head), length: 1, ..facts };
    assert_eq!(plan(&limits, &one), Plan::default());
}

#[test]
fn the_losses_of_each_subscription_are_counted() {
    let id = |seq| MessageId::new(seq * 10, seq);
    let lost = |before: Option<u64>, after: Option<u64>, positions: &[u64]| {
        let positions: Vec<MessageId> = positions.iter().copied().map(id).collect();
        overrun(before.map(id), after.map(id), id(40), &positions).collect::<Vec<_>>()
    };
    assert_eq!(lost(Some(1), Some(21), &[30, 20, 19, 10, 0]), [(2, 1), (3, 10), (4, 20)]);
    assert_eq!(
        lost(Some(11), Some(21), &[5, 15]),
        [(0, 10), (1, 5)],
        "what went before is not counted again"
    );
    assert_eq!(lost(Some(31), None, &[35, 40, 50]), [(0, 5)], "all that was there is gone");
    assert_eq!(lost(Some(11), Some(11), &[0]), []);
    assert_eq!(lost(None, None, &[0]), []);
}

#[test]
fn empty_rooms_expire_once_no_client_can_return_to_them() {
    let facts = RoomFacts { now_ms: NOW, head: MessageId::new(NOW - 300, 7), ..RoomFacts::default() };
    let expired = |facts: &RoomFacts, age| is_empty_room_expired(facts, age, 100);
    assert!(expired(&facts, Some(200)));
    assert!(expired(&facts, None));
    assert!(!expired(&facts, Some(201)));
    assert!(!expired(&RoomFacts { subscriptions: 1, ..facts }, Some(200)));
    assert!(!expired(&RoomFacts { length: 1, ..facts }, Some(200)));
}

/// Generates logs with entries missing anywhere, and positions before, in and beyond them.
fn any_log(bytes: impl Strategy<Value = u64> + Clone) -> impl Strategy<Value = Log> {
    let entries = prop::collection::vec((0..60_u64, bytes, prop::bool::weighted(0.9)), 0..60);
    let positions = prop::collection::vec((0..70_u64, 0..3_u64), 0..4);
    (entries, 0..20_usize, positions).prop_map(|(entries, gone, positions)| {
        let total: u64 = entries.iter().map(|(step, ..)| step).sum();
        let mut id = MessageId::new(NOW - total, 0);
        let all: Vec<_> = entries
            .into_iter()
            .map(|(step, bytes, kept)| {
                id = MessageId::new(id.ms + step, id.seq + 1);
                (id, bytes, kept)
            })
            .collect();
        let position = |(seq, later)| {
            let known = all.iter().find(|(id, ..)| id.seq == seq).map(|(id, ..)| *id);
            known.unwrap_or(MessageId::new(if seq == 0 { 0 } else { NOW + later }, seq))
        };
        Log {
            head: id,
            positions: positions.into_iter().map(position).collect(),
            entries: all
                .iter()
                .skip(gone)
                .filter(|entry| entry.2)
                .map(|(id, bytes, _)| (*id, *bytes))
                .collect(),
        }
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let limit = |max: u64| prop::option::of(0..max);
    (limit(2500), limit(70), limit(7000), any::<bool>()).prop_map(
        |(max_age_ms, max_length, max_bytes, keep_unacked)| Limits {
            max_age_ms,
            max_length,
            max_bytes,
            keep_unacked,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_removes_exactly_the_messages_above_the_limits(
        log in any_log(Just(100)),
        limits in any_limits(),
    ) {
        let left = log.trimmed(&limits);
        prop_assert!(log.entries.ends_with(&left.entries), "the oldest go");

        let hard = limits.doubled();
        let acked = log.acked(&limits);
        for index in 0..log.entries.len() - left.entries.len() {
            let above = log.is_above(&limits, index) && log.entries[index].0 <= acked;
            prop_assert!(above || log.is_above(&hard, index), "{:?} went", log.entries[index]);
        }
        // If messages after the position were deleted, as many acknowledged ones may stay instead.
        let unacked = log.entries.iter().filter(|(id, _)| *id > acked).count();
        let dense = log.facts().after(acked) == unacked as u64;
        for (index, (id, _)) in left.entries.iter().enumerate() {
            prop_assert!(!left.is_above(&limits, index) || *id > acked || !dense, "{id} stayed");
            prop_assert!(!left.is_above(&hard, index) || !limits.keep_unacked, "{id} stayed");
        }
        prop_assert_eq!(&left.trimmed(&limits), &left, "a second time takes nothing more");
    }

    #[test]
    fn repeated_plans_reach_the_limit_of_bytes_for_any_sizes(
        log in any_log(1..500_u64),
        limits in any_limits(),
    ) {
        let mut left = log;
        loop {
            let next = left.trimmed(&limits);
            if next == left {
                break;
            }
            left = next;
        }
        let max = limits.max_bytes.unwrap_or(u64::MAX);
        let all_is_needed = left.facts().after(left.acked(&limits)) >= left.entries.len() as u64;
        let bound = if all_is_needed { max.saturating_mul(2) } else { max };
        prop_assert!(left.bytes() <= bound);
    }

    #[test]
    fn reported_losses_match_the_removed_messages(log in any_log(Just(100)), limits in any_limits()) {
        let left = log.trimmed(&limits);
        let (before, after) = (log.facts().first, left.facts().first);
        let reported: Vec<_> = overrun(before, after, log.head, &log.positions).collect();
        for (index, position) in log.positions.iter().enumerate() {
            let gone = log.entries.len() - left.entries.len();
            let lost = log.entries[..gone].iter().filter(|(id, _)| id > position).count() as u64;
            let reported = reported.iter().find(|(reported, _)| *reported == index).map_or(0, |(_, lost)| *lost);
            prop_assert!(reported >= lost, "{reported} of {lost}");
            prop_assert!(reported == 0 || lost > 0 || log.entries.len() < log.head.seq as usize);
        }
    }
}
