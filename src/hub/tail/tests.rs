//! The rules of the tail, one example each; [`simulation`] holds them against all that can happen.
#![allow(clippy::unwrap_used)]

mod model;
mod simulation;

use std::sync::Arc;

use super::*;

fn id(text: &str) -> MessageId {
    text.parse().unwrap()
}

fn entries(ids: &[&str]) -> Vec<Arc<Entry>> {
    ids.iter().map(|text| Entry::sample(id(text), 0)).collect()
}

fn limits(messages: usize) -> RingLimits {
    RingLimits { messages, bytes: usize::MAX, budget: usize::MAX, spent: Arc::default() }
}

/// A tail that stands at this head.
fn tail(head: &str) -> Tail {
    let mut tail = Tail::new(limits(10));
    tail.open(id(head));
    tail
}

/// A read that reached the log's end.
fn page(after: &str, ids: &[&str], head: &str) -> Page {
    Page { after: id(after), entries: entries(ids), head: id(head), complete: true }
}

/// A read of which the log goes on.
fn first_page(after: &str, ids: &[&str], head: &str) -> Page {
    Page { complete: false, ..page(after, ids, head) }
}

/// What is to be done, as text: events in order, then the read and who is left behind.
fn shown(step: &Step) -> String {
    let mut words: Vec<String> = step
        .events
        .iter()
        .map(|event| match event {
            Event::Message(entry) => entry.id().to_string(),
            Event::Gap(gap) => format!("{:?} {}..{}", gap.reason, gap.after, gap.next),
        })
        .collect();
    words.extend(step.read.map(|after| format!("read {after}")));
    words.extend(step.leave_behind.map(|position| format!("leave {position}")));
    words.join(", ")
}

#[track_caller]
fn check(step: &Step, expected: &str) {
    assert_eq!(shown(step), expected);
}

#[test]
fn what_comes_right_after_the_position_is_delivered() {
    let mut tail = tail("1-1");
    check(&tail.hear(&entries(&["1-2", "5-3"])), "1-2, 5-3");
    assert_eq!(tail.position(), Some(id("5-3")));
}

#[test]
fn a_repeated_bell_is_dropped() {
    let mut tail = tail("1-1");
    tail.hear(&entries(&["1-2"]));
    check(&tail.hear(&entries(&["1-1", "1-2"])), "");
}

#[test]
fn a_hole_leads_to_a_read_from_the_position() {
    let mut tail = tail("1-1");
    check(&tail.hear(&entries(&["1-3"])), "read 1-1");
    check(&tail.hear(&entries(&["1-4"])), "");
    check(&tail.take(&page("1-1", &["1-2", "1-3", "1-4"], "1-4")), "1-2, 1-3, 1-4");
}

#[test]
fn the_rest_of_a_bell_is_delivered_although_it_leaves_a_hole_later() {
    check(&tail("1-1").hear(&entries(&["1-2", "1-4"])), "1-2, read 1-2");
}

#[test]
fn a_read_older_than_what_was_heard_meanwhile_repeats_nothing() {
    let mut tail = tail("1-1");
    tail.hear(&entries(&["1-4"]));
    check(&tail.hear(&entries(&["1-2", "1-3"])), "1-2, 1-3");
    check(&tail.take(&page("1-1", &["1-2", "1-3", "1-4"], "1-4")), "1-4");
}

#[test]
fn what_is_heard_beyond_a_read_leads_to_another() {
    let mut tail = tail("1-1");
    tail.hear(&entries(&["1-3"]));
    tail.hear(&entries(&["1-5"]));
    check(&tail.take(&page("1-1", &["1-2", "1-3"], "1-3")), "1-2, 1-3, read 1-3");
    check(&tail.take(&page("1-3", &["1-4", "1-5"], "1-5")), "1-4, 1-5");
}

#[test]
fn what_is_heard_of_but_is_not_there_ends_after_one_read() {
    let mut tail = tail("1-1");
    check(&tail.hear(&entries(&["1-9"])), "read 1-1");
    check(&tail.take(&page("1-1", &[], "1-1")), "");
    check(&tail.hear(&entries(&["1-2"])), "1-2");
}

#[test]
fn what_is_heard_before_the_position_is_known_is_not_lost() {
    let mut tail = Tail::new(limits(10));
    check(&tail.hear(&entries(&["1-2", "1-3"])), "");
    check(&tail.open(id("1-2")), "read 1-2");
    assert!(tail.ring().after(id("1-2"), 10, usize::MAX).is_some());
}

#[test]
fn a_silent_bell_is_found_by_a_check() {
    let mut tail = tail("1-1");
    let asked = tail.asking();
    check(&tail.check(asked, id("1-2")), "read 1-1");
}

#[test]
fn a_check_that_is_older_than_the_position_says_nothing() {
    let mut tail = tail("1-1");
    let asked = tail.asking();
    tail.hear(&entries(&["1-2"]));
    check(&tail.check(asked, id("1-1")), "");
    assert_eq!(tail.position(), Some(id("1-2")));
}

#[test]
fn a_head_before_the_position_is_told_as_rewound() {
    let mut tail = tail("1-5");
    tail.distrust();
    let asked = tail.asking();
    check(&tail.check(asked, id("1-3")), "Rewound 1-5..1-4");
    check(&tail.hear(&entries(&["2-4"])), "2-4");
}

#[test]
fn a_seq_that_was_given_again_is_told_as_rewound() {
    let mut tail = tail("1-5");
    tail.distrust();
    check(&tail.hear(&entries(&["2-4"])), "read 1-5");
    check(&tail.take(&page("1-5", &["2-4"], "2-4")), "Rewound 1-5..2-4, 2-4");
}

/// The check is answered by the new Redis while the bell still brings what the old one rang.
#[test]
fn a_late_bell_from_before_a_rewind_repeats_nothing() {
    let mut tail = tail("1-3");
    tail.hear(&entries(&["1-4"]));
    let asked = tail.asking();
    check(&tail.check(asked, id("1-3")), "Rewound 1-4..1-4");
    check(&tail.hear(&entries(&["1-4"])), "read 1-3");
    check(&tail.take(&page("1-3", &[], "1-3")), "");
    check(&tail.hear(&entries(&["2-4"])), "2-4");
}

#[test]
fn after_an_interruption_what_seems_to_follow_is_read() {
    let mut tail = tail("1-5");
    tail.distrust();
    check(&tail.hear(&entries(&["2-6"])), "read 1-5");
    check(&tail.take(&page("1-5", &["2-5", "2-6"], "2-6")), "Rewound 1-5..2-5, 2-5, 2-6");
    check(&tail.hear(&entries(&["2-7"])), "2-7");
}

/// Between the check and the read that it leads to, the seq that comes next may be that of a log rewound.
#[test]
fn a_check_that_finds_more_restores_no_trust() {
    let mut tail = tail("1-5");
    tail.distrust();
    let asked = tail.asking();
    check(&tail.check(asked, id("2-5")), "read 1-5");
    check(&tail.hear(&entries(&["2-6"])), "");
    check(&tail.take(&page("1-5", &["2-4", "2-5"], "2-5")), "Rewound 1-5..2-4, 2-4, 2-5, read 2-5");
}

#[test]
fn a_check_from_before_an_interruption_restores_no_trust() {
    let mut tail = tail("1-5");
    let asked = tail.asking();
    tail.distrust();
    check(&tail.check(asked, id("1-5")), "");
    check(&tail.hear(&entries(&["2-6"])), "read 1-5");
}

#[test]
fn a_read_from_before_an_interruption_restores_no_trust() {
    let mut tail = tail("1-3");
    check(&tail.hear(&entries(&["1-5"])), "read 1-3");
    tail.distrust();
    check(&tail.take(&page("1-3", &["1-4", "1-5"], "1-5")), "1-4, 1-5");
    check(&tail.hear(&entries(&["2-6"])), "read 1-5");
}

#[test]
fn what_was_trimmed_before_it_was_read_is_told() {
    let mut tail = tail("1-1");
    tail.hear(&entries(&["1-4"]));
    check(&tail.take(&page("1-1", &["1-3"], "1-4")), "Trimmed 1-1..1-3, 1-3, Trimmed 1-3..1-5");
    check(&tail.hear(&entries(&["1-5"])), "1-5");
}

#[test]
fn being_far_behind_leaves_members_behind() {
    let mut tail = tail("1-1");
    tail.hear(&entries(&["1-9"]));
    check(&tail.take(&first_page("1-1", &["1-2", "1-3"], "1-9")), "leave 1-1");
    check(&tail.hear(&entries(&["1-10"])), "1-10");
}

#[test]
fn a_failed_read_is_asked_for_again_by_the_next_check() {
    let mut tail = tail("1-1");
    tail.hear(&entries(&["1-3"]));
    tail.read_failed();
    let asked = tail.asking();
    check(&tail.check(asked, id("1-3")), "read 1-1");
}

#[test]
fn whoever_stands_before_a_gap_is_not_served_from_the_ring() {
    let mut tail = tail("1-1");
    tail.hear(&entries(&["1-2", "1-9"]));
    tail.take(&page("1-2", &["1-9"], "1-9"));
    assert!(tail.ring().after(id("1-1"), 10, usize::MAX).is_none());
    assert!(tail.ring().after(id("1-2"), 10, usize::MAX).is_none());
    assert_eq!(tail.ring().after(id("1-8"), 10, usize::MAX).unwrap().len(), 1);
}
