//! Tests of each rule of following a log, as a table: a page, and the events for its reader.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::log::Head;

fn id(text: &str) -> MessageId {
    text.parse().unwrap()
}

/// Follows a page from `after`, and compares the events and the new position.
#[track_caller]
fn check(after: &str, entries: &[&str], head: &str, complete: bool, expected: &str) {
    check_page(after, None, entries, head, complete, expected);
}

/// Does the same for a log without `after` that shares its history up to `fork`.
#[track_caller]
fn check_fork(after: &str, fork: &str, entries: &[&str], head: &str, expected: &str) {
    check_page(after, Some(id(fork)), entries, head, true, expected);
}

#[track_caller]
fn check_page(
    after: &str,
    fork: Option<MessageId>,
    entries: &[&str],
    head: &str,
    complete: bool,
    expected: &str,
) {
    let entries = entries.iter().map(|text| Entry::sample(id(text), 0)).collect();
    let head = Head { id: id(head), ..Head::default() };
    let (events, position) = follow(&Page { after: id(after).into(), fork, entries, head, complete });
    let mut shown: Vec<String> = events
        .iter()
        .map(|event| match event {
            Event::Message(entry) => entry.id().to_string(),
            Event::Gap(gap) => format!("{:?} {}..{}", gap.reason, gap.after, gap.next),
        })
        .collect();
    shown.push(format!("at {position}"));
    assert_eq!(shown.join(", "), expected);
}

#[test]
fn messages_come_in_order() {
    check("0", &["1-1", "1-2", "9-3"], "9-3", true, "1-1, 1-2, 9-3, at 9-3");
    check("1-2", &["9-3"], "9-3", true, "9-3, at 9-3");
}

#[test]
fn at_the_head_there_are_no_events() {
    check("0", &[], "0", true, "at 0-0");
    check("1-2", &[], "1-2", true, "at 1-2");
}

#[test]
fn entries_that_are_not_newer_are_skipped() {
    check("1-2", &["1-1", "1-2", "1-3", "1-3"], "1-3", true, "1-3, at 1-3");
}

#[test]
fn a_seq_that_skips_some_is_a_gap() {
    check("1-2", &["1-5"], "1-5", true, "Trimmed 1-2..1-5, 1-5, at 1-5");
    check("0", &["1-5"], "1-5", true, "Trimmed 0-0..1-5, 1-5, at 1-5");
    check("1-1", &["1-2", "1-4"], "1-4", true, "1-2, Trimmed 1-2..1-4, 1-4, at 1-4");
}

#[test]
fn delivery_continues_after_a_fork() {
    check_fork("1-5", "1-3", &["2-4", "2-5"], "2-5", "Rewound 1-5..2-4, 2-4, 2-5, at 2-5");
    check_fork("1-5", "1-3", &["1-4", "1-5", "1-6"], "1-6", "Rewound 1-5..1-4, 1-4, 1-5, 1-6, at 1-6");
    check_fork("1-5", "0", &["2-1"], "2-1", "Rewound 1-5..2-1, 2-1, at 2-1");
}

#[test]
fn a_fork_at_the_head_names_the_smallest_id_that_can_follow() {
    check_fork("1-5", "1-3", &[], "1-3", "Rewound 1-5..1-4, at 1-3");
    check_fork("1-5", "0", &[], "0", "Rewound 1-5..0-1, at 0-0");
}

#[test]
fn a_fork_after_which_messages_were_trimmed_is_one_gap() {
    check_fork("1-9", "1-3", &["2-6"], "2-6", "Rewound 1-9..2-6, 2-6, at 2-6");
    check_fork("1-9", "1-3", &[], "2-6", "Rewound 1-9..2-7, at 2-6");
    check_fork("1-9", "1-3", &["2-4"], "2-6", "Rewound 1-9..2-4, 2-4, Trimmed 2-4..2-7, at 2-6");
}

/// The head was read first, so later entries show where the log continues.
#[test]
fn entries_beyond_the_head_are_delivered() {
    check("1-2", &["1-3", "1-4"], "1-3", true, "1-3, 1-4, at 1-4");
    check_fork("1-5", "1-3", &["2-4"], "1-3", "Rewound 1-5..2-4, 2-4, at 2-4");
}

#[test]
fn a_missing_end_is_a_gap() {
    check("1-2", &["1-3"], "1-5", true, "1-3, Trimmed 1-3..1-6, at 1-5");
    check("1-2", &[], "1-5", true, "Trimmed 1-2..1-6, at 1-5");
}

#[test]
fn a_page_that_is_not_complete_proves_nothing_of_the_end() {
    check("1-2", &["1-3"], "1-5", false, "1-3, at 1-3");
    check("1-2", &["1-4"], "1-5", false, "Trimmed 1-2..1-4, 1-4, at 1-4");
}

#[test]
fn only_the_next_seq_of_a_newer_id_follows() {
    for (position, next, expected) in [
        ("0", "1-1", true),
        ("1-1", "1-2", true),
        ("1-1", "7-2", true),
        ("1-1", "1-3", false),
        ("1-1", "1-1", false),
        ("2-1", "1-2", false),
        ("1-5", "2-5", false),
    ] {
        assert_eq!(follows(id(position), id(next)), expected, "{position} {next}");
    }
}
