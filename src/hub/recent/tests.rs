//! Tests of a ring: lookups, eviction, and the shared budget.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::Encoding;
use crate::protocol::encode::Format;

fn size(text: usize) -> usize {
    entry(1, text).size()
}

fn entry(seq: u64, text: usize) -> Arc<Entry> {
    Entry::sample(at(seq), text)
}

fn at(seq: u64) -> MessageId {
    MessageId::new(1, seq)
}

fn unlimited() -> RecentLimits {
    RecentLimits { messages: usize::MAX, bytes: usize::MAX, budget: usize::MAX, spent: Arc::default() }
}

fn ring(limits: &RecentLimits, floor: u64, head: u64) -> RecentMessages {
    let mut ring = RecentMessages::new(at(floor), limits.clone());
    (floor + 1..=head).for_each(|seq| ring.push(entry(seq, 0)));
    ring
}

fn after(ring: &RecentMessages, position: MessageId) -> Option<Vec<u64>> {
    let entries = ring.after(position, usize::MAX, usize::MAX)?;
    Some(entries.iter().map(|entry| entry.id().seq).collect())
}

fn spent(limits: &RecentLimits) -> usize {
    limits.spent.load(Ordering::Relaxed)
}

#[test]
fn a_ring_returns_the_entries_after_its_floor_and_after_each_entry() {
    let ring = ring(&unlimited(), 3, 6);
    assert_eq!(after(&ring, at(3)), Some(vec![4, 5, 6]));
    assert_eq!(after(&ring, at(5)), Some(vec![6]));
    assert_eq!(after(&ring, at(6)), Some(vec![]));
}

#[test]
fn positions_before_the_ring_or_unknown_to_it_return_none() {
    let ring = ring(&unlimited(), 3, 6);
    for position in [MessageId::ZERO, at(2), at(7), MessageId::new(0, 5), MessageId::new(2, 5)] {
        assert_eq!(after(&ring, position), None, "{position}");
    }
}

#[test]
fn a_page_is_limited_in_messages_and_bytes() {
    let ring = ring(&unlimited(), 0, 9);
    let page = |messages, bytes| ring.after(at(2), messages, bytes).unwrap().len();
    assert_eq!(page(3, usize::MAX), 3);
    assert_eq!(page(100, 1), 1);
    assert_eq!(page(100, size(0) * 2), 2);
    assert_eq!(page(100, size(0) * 2 + 1), 3);
}

#[test]
fn the_oldest_entries_are_evicted_above_the_count() {
    let ring = ring(&RecentLimits { messages: 3, ..unlimited() }, 0, 5);
    assert_eq!(after(&ring, at(1)), None);
    assert_eq!(after(&ring, at(2)), Some(vec![3, 4, 5]));
}

#[test]
fn the_oldest_entries_are_evicted_above_the_bytes() {
    let limits = RecentLimits { bytes: size(0) * 2 + 1, ..unlimited() };
    let mut ring = ring(&limits, 0, 5);
    assert_eq!(after(&ring, at(3)), Some(vec![4, 5]));
    ring.push(entry(6, 1000));
    assert_eq!(after(&ring, at(6)), Some(vec![]));
    assert_eq!((after(&ring, at(5)), spent(&limits)), (None, 0));
    ring.push(entry(7, 0));
    assert_eq!(after(&ring, at(6)), Some(vec![7]));
}

#[test]
fn a_ring_without_entries_knows_only_its_floor() {
    let ring = ring(&RecentLimits { messages: 0, ..unlimited() }, 0, 5);
    assert_eq!(after(&ring, at(5)), Some(vec![]));
    assert_eq!(after(&ring, at(4)), None);
}

#[test]
fn rings_share_the_budget_of_the_node_and_each_keeps_a_minimum() {
    let limits = RecentLimits { budget: size(0) * 10, ..unlimited() };
    let mut first = ring(&limits, 0, 8);
    let second = ring(&limits, 0, 8);
    assert_eq!(after(&first, at(0)).unwrap().len(), 8);
    assert_eq!(after(&second, at(8 - LEAST as u64)).unwrap().len(), LEAST);
    assert_eq!(after(&second, at(0)), None);
    first.push(entry(9, 0));
    assert_eq!(spent(&limits), size(0) * 10, "who pushes above the budget gives way");
    drop(first);
    assert_eq!(spent(&limits), size(0) * LEAST);
    drop(second);
    assert_eq!(spent(&limits), 0);
}

#[test]
fn a_restart_empties_the_ring() {
    let limits = unlimited();
    let mut ring = ring(&limits, 0, 5);
    ring.restart(at(7));
    assert_eq!(spent(&limits), 0);
    assert_eq!((after(&ring, at(5)), after(&ring, at(7))), (None, Some(vec![])));
    ring.push(entry(8, 0));
    assert_eq!(after(&ring, at(7)), Some(vec![8]));
}

#[test]
fn the_position_before_the_newest_entries_is_known_if_the_ring_has_them_all() {
    let ring = ring(&unlimited(), 3, 6);
    for (count, expected) in [(0, Some(at(6))), (1, Some(at(5))), (3, Some(at(3))), (4, None)] {
        assert_eq!(ring.before_last(count), expected, "{count}");
    }
    assert_eq!(RecentMessages::new(at(3), unlimited()).before_last(0), Some(at(3)));
}

#[test]
fn entries_that_were_trimmed_or_deleted_are_evicted() {
    let limits = unlimited();
    let mut ring = ring(&limits, 0, 5);
    ring.evict_before(at(4));
    assert_eq!(after(&ring, at(2)), None);
    assert_eq!(after(&ring, at(3)), Some(vec![4, 5]));
    assert_eq!(spent(&limits), 2 * size(0));
    ring.evict_before(at(9));
    assert_eq!(after(&ring, at(5)), Some(vec![]));
    assert_eq!(spent(&limits), 0);
}

#[test]
fn encodings_count_in_the_budget_until_their_entries_leave() {
    let limits = RecentLimits { budget: 100_000, ..unlimited() };
    let mut ring = RecentMessages::new(at(0), limits.clone());
    let entries: Vec<_> = (1..=10).map(|seq| entry(seq, 1000)).collect();
    let early = entries[0].encoded(Encoding::Json).message().len();
    entries.iter().for_each(|entry| ring.push(entry.clone()));
    assert_eq!(spent(&limits), 10 * size(1000) + early);
    let mut encoded = early;
    for entry in &entries[1..] {
        encoded += entry.encoded(Encoding::Json).message().len();
    }
    for entry in &entries {
        for format in [Format::EventStream, Encoding::MessagePack.into()] {
            encoded += entry.encoded(format).message().len();
        }
        entry.encoded(Format::EventStream);
    }
    assert_eq!(spent(&limits), 10 * size(1000) + encoded);
    ring.evict_before(at(10));
    let newest = &entries[9];
    let formats = [Encoding::Json.into(), Encoding::MessagePack.into(), Format::EventStream];
    let forms: usize = formats.iter().map(|format| newest.encoded(*format).message().len()).sum();
    assert_eq!(spent(&limits), size(1000) + forms);
    drop(ring);
    assert_eq!(spent(&limits), 0);
    entries[0].encoded(Encoding::Json);
    assert_eq!(spent(&limits), 0);
}

#[test]
fn a_ring_shrinks_when_encodings_exceed_the_budget() {
    let limits = RecentLimits { budget: 20 * size(1000), ..unlimited() };
    let mut ring = RecentMessages::new(at(0), limits.clone());
    let entries: Vec<_> = (1..=16).map(|seq| entry(seq, 1000)).collect();
    entries.iter().for_each(|entry| ring.push(entry.clone()));
    entries.iter().for_each(|entry| _ = entry.encoded(Format::EventStream).message());
    assert!(spent(&limits) > limits.budget);
    ring.shrink();
    assert!(spent(&limits) <= limits.budget);
    assert!(after(&ring, at(15)).is_some());
}
