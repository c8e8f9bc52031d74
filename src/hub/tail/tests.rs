//! The rules of the tail, with one example each. [`simulation`] tests them against everything that can
//! happen.
#![allow(clippy::unwrap_used)]

mod model;
mod simulation;

use std::sync::Arc;

use super::*;
use crate::log::Epoch;

fn id(text: &str) -> MessageId {
    text.parse().unwrap()
}

fn entries(ids: &[&str]) -> Vec<Arc<Entry>> {
    ids.iter().map(|text| Entry::sample(id(text), 0)).collect()
}

fn run(after: &str, ids: &[&str]) -> Run {
    run_of(1, after, ids)
}

fn run_of(epoch: u64, after: &str, ids: &[&str]) -> Run {
    Run { epoch: Epoch(epoch), after: id(after), entries: entries(ids) }
}

fn head(text: &str) -> Head {
    head_of(1, text)
}

fn head_of(epoch: u64, text: &str) -> Head {
    Head { id: id(text), epoch: Epoch(epoch), cut: 0 }
}

fn cut(before: &str, name: u64) -> Cut {
    Cut { before: id(before), name, after: name - 1 }
}

fn limits(messages: usize) -> RecentLimits {
    RecentLimits { messages, bytes: usize::MAX, budget: usize::MAX, spent: Arc::default() }
}

fn tail(at: &str) -> Tail {
    let mut tail = Tail::new(limits(10));
    tail.open(head(at));
    tail
}

fn page(after: &str, ids: &[&str], at: &str) -> Page {
    Page { after: id(after).into(), fork: None, entries: entries(ids), head: head(at), complete: true }
}

/// Builds a page of a log that shares the position's history only up to `fork`.
fn forked(after: &str, fork: &str, ids: &[&str], head: Head) -> Page {
    Page { fork: Some(id(fork)), head, ..page(after, ids, "0") }
}

fn first_page(after: &str, ids: &[&str], at: &str) -> Page {
    Page { complete: false, ..page(after, ids, at) }
}

/// Formats a step: events in order, then the read and `leave_behind`.
fn shown(step: &Step) -> String {
    let mut words: Vec<String> = step
        .events
        .iter()
        .map(|event| match event {
            Event::Message(entry) => entry.id().to_string(),
            Event::Gap(gap) => format!("{:?} {}..{}", gap.reason, gap.after, gap.next),
        })
        .collect();
    words.extend(step.read.map(|after| format!("read {}", after.id)));
    words.extend(step.leave_behind.map(|position| format!("leave {}", position.id)));
    words.join(", ")
}

#[track_caller]
fn check(step: &Step, expected: &str) {
    assert_eq!(shown(step), expected);
}

#[test]
fn messages_that_follow_the_position_are_delivered() {
    let mut tail = tail("1-1");
    check(&tail.receive(&run("1-1", &["1-2", "5-3"])), "1-2, 5-3");
    assert_eq!(tail.position().unwrap().id, id("5-3"));
}

#[test]
fn a_repeated_notification_is_dropped() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-1", &["1-2"]));
    check(&tail.receive(&run("1-1", &["1-2"])), "");
}

#[test]
fn the_new_part_of_a_run_is_delivered() {
    check(&tail("1-2").receive(&run("1-1", &["1-2", "1-3"])), "1-3");
}

#[test]
fn a_hole_leads_to_a_read_from_the_position() {
    let mut tail = tail("1-1");
    check(&tail.receive(&run("1-2", &["1-3"])), "read 1-1");
    check(&tail.receive(&run("1-3", &["1-4"])), "");
    check(&tail.take(&page("1-1", &["1-2", "1-3", "1-4"], "1-4")), "1-2, 1-3, 1-4, read 1-4");
    check(&tail.take(&page("1-4", &[], "1-4")), "");
}

/// The `seq` is dense, but the log is another one, in which a different message has the same `seq`.
#[test]
fn a_dense_seq_is_no_proof() {
    let mut tail = tail("1-3");
    check(&tail.receive(&run_of(2, "2-3", &["2-4"])), "read 1-3");
    check(
        &tail.take(&forked("1-3", "1-2", &["2-3", "2-4"], head_of(2, "2-4"))),
        "Rewound 1-3..2-3, 2-3, 2-4",
    );
    check(&tail.receive(&run_of(2, "2-4", &["2-5"])), "2-5");
}

/// Two primaries gave the same id to different messages.
#[test]
fn the_same_id_of_another_epoch_is_no_proof() {
    let mut tail = tail("1-3");
    check(&tail.receive(&run_of(2, "1-3", &["2-4"])), "read 1-3");
}

#[test]
fn a_new_epoch_that_continues_from_the_position_causes_one_read() {
    let mut tail = tail("1-3");
    check(&tail.receive(&run_of(2, "1-3", &["2-4"])), "read 1-3");
    let read = Page { head: head_of(2, "2-4"), ..page("1-3", &["2-4"], "0") };
    check(&tail.take(&read), "2-4");
    check(&tail.receive(&run_of(2, "2-4", &["2-5"])), "2-5");
}

#[test]
fn the_first_message_of_a_room_needs_no_read() {
    let mut tail = Tail::new(limits(10));
    tail.open(Head::default());
    check(&tail.receive(&run("0", &["1-1"])), "1-1");
    check(&tail.receive(&run("1-1", &["1-2"])), "1-2");
}

#[test]
fn a_read_older_than_the_position_repeats_nothing() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-3", &["1-4"]));
    check(&tail.receive(&run("1-1", &["1-2", "1-3"])), "1-2, 1-3");
    check(&tail.take(&page("1-1", &["1-2", "1-3", "1-4"], "1-4")), "1-4");
}

#[test]
fn messages_before_the_position_is_known_are_not_lost() {
    let mut tail = Tail::new(limits(10));
    check(&tail.receive(&run("1-1", &["1-2", "1-3"])), "");
    check(&tail.open(head("1-2")), "read 1-2");
}

#[test]
fn a_lost_notification_is_found_by_a_check() {
    let mut tail = tail("1-1");
    let asked = tail.asking();
    check(&tail.check(asked, head("1-2")), "read 1-1");
}

#[test]
fn a_check_older_than_the_position_is_ignored() {
    let mut tail = tail("1-1");
    let asked = tail.asking();
    tail.receive(&run("1-1", &["1-2"]));
    check(&tail.check(asked, head("1-1")), "");
    assert_eq!(tail.position().unwrap().id, id("1-2"));
}

#[test]
fn a_head_before_the_position_leads_to_a_read_of_the_fork() {
    let mut tail = tail("1-5");
    let asked = tail.asking();
    check(&tail.check(asked, head("1-3")), "read 1-5");
    check(&tail.take(&forked("1-5", "1-3", &[], head("1-3"))), "Rewound 1-5..1-4");
}

#[test]
fn an_interruption_closes_the_ring_until_a_check() {
    let mut tail = tail("1-5");
    tail.interrupt();
    assert!(tail.recent().is_none());
    let asked = tail.asking();
    check(&tail.check(asked, head("1-5")), "");
    assert!(tail.recent().is_some());
}

#[test]
fn a_check_from_before_an_interruption_does_not_open_the_ring() {
    let mut tail = tail("1-5");
    let asked = tail.asking();
    tail.interrupt();
    check(&tail.check(asked, head("1-5")), "");
    assert!(tail.recent().is_none());
}

#[test]
fn a_check_opens_the_ring_of_a_busy_room() {
    let mut tail = tail("1-5");
    tail.interrupt();
    let asked = tail.asking();
    tail.receive(&run("1-5", &["1-6", "1-7"]));
    check(&tail.check(asked, head("1-6")), "");
    assert!(tail.recent().is_some());
}

#[test]
fn a_missed_deletion_empties_the_ring() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-1", &["1-2", "1-3"]));
    let asked = tail.asking();
    check(&tail.check(asked, Head { cut: 1, ..head("1-3") }), "");
    assert!(tail.recent().unwrap().after(id("1-1"), 10, usize::MAX).is_none());
    assert!(tail.recent().unwrap().has(id("1-3")));
}

#[test]
fn a_notified_deletion_evicts_only_older_messages() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-1", &["1-2", "1-3"]));
    tail.evict(cut("1-3", 1));
    let asked = tail.asking();
    tail.check(asked, Head { cut: 1, ..head("1-3") });
    assert_eq!(tail.recent().unwrap().after(id("1-2"), 10, usize::MAX).unwrap().len(), 1);
    tail.evict(cut("1-3", 3));
    let asked = tail.asking();
    tail.check(asked, Head { cut: 3, ..head("1-3") });
    assert!(tail.recent().unwrap().after(id("1-2"), 10, usize::MAX).is_none());
}

#[test]
fn a_page_read_before_a_deletion_is_not_cached() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-2", &["1-3"]));
    tail.evict(cut("1-3", 1));
    check(&tail.take(&page("1-1", &["1-2", "1-3"], "1-3")), "1-2, 1-3");
    assert!(tail.recent().unwrap().after(id("1-1"), 10, usize::MAX).is_none());
}

#[test]
fn messages_trimmed_before_they_were_read_are_reported_as_a_gap() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-3", &["1-4"]));
    check(&tail.take(&page("1-1", &["1-3"], "1-4")), "Trimmed 1-1..1-3, 1-3, Trimmed 1-3..1-5");
    check(&tail.receive(&run("1-4", &["1-5"])), "1-5");
}

#[test]
fn a_tail_that_is_far_behind_leaves_members_to_their_own_readers() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-8", &["1-9"]));
    check(&tail.take(&first_page("1-1", &["1-2", "1-3"], "1-9")), "leave 1-1");
    check(&tail.receive(&run("1-9", &["1-10"])), "1-10");
}

#[test]
fn a_failed_read_is_repeated_by_the_next_check() {
    let mut tail = tail("1-1");
    tail.receive(&run("1-2", &["1-3"]));
    tail.read_failed();
    let asked = tail.asking();
    check(&tail.check(asked, head("1-3")), "read 1-1");
}

#[test]
fn readers_before_a_gap_are_not_served_from_the_ring() {
    let mut tail = tail("1-2");
    tail.receive(&run("1-8", &["1-9"]));
    tail.take(&page("1-2", &["1-9"], "1-9"));
    let ring = tail.recent().unwrap();
    assert!(ring.after(id("1-1"), 10, usize::MAX).is_none());
    assert!(ring.after(id("1-2"), 10, usize::MAX).is_none());
    assert_eq!(ring.after(id("1-8"), 10, usize::MAX).unwrap().len(), 1);
}
