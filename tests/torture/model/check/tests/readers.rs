//! Tests of the rules of all subscribers.

use roomlog_protocol::MessageId;

use super::*;

#[test]
fn subscribers_reach_the_end() {
    let mut tale = Tale::of(3);
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets_all(session, 1..=2);
    tale.ends(3);
    assert_eq!(tale.broken(), ["all reach the end", "all is delivered"]);
}

#[test]
fn subscribers_see_no_hole_without_a_gap() {
    let mut tale = Tale::of(3);
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets(session, id(1), 1);
    tale.gets(session, id(3), 3);
    tale.ends(3);
    assert_eq!(tale.broken(), ["no hole without a gap", "all is delivered"]);
}

#[test]
fn a_message_of_the_new_history_is_not_mistaken_for_an_old_one() {
    let (mut tale, session) = after_a_loss();
    // As if the reader had had 6 and 7: the next message fits by its number.
    tale.publish(8, Outcome::Ok(MessageId::new(3002, 6)));
    tale.gets(session, MessageId::new(3002, 6), 8);
    let mut log = log_after_the_loss();
    log.push(stored(MessageId::new(3002, 6), 8));
    tale.ends_with(log);
    assert_eq!(tale.broken(), ["told of what is gone", "all is delivered"]);
}

#[test]
fn a_gap_begins_at_the_position() {
    let (mut tale, session) = after_a_loss();
    tale.gap(session, id(3), MessageId::new(1004, 4), Reason::Rewound);
    gets_the_rest(&mut tale, session);
    tale.ends_with(log_after_the_loss());
    tale.breaks("a gap begins at the position");
}

#[test]
fn a_gap_does_not_cover_existing_messages() {
    let (mut tale, session) = after_a_loss();
    tale.gap(session, lost(5), MessageId::new(3001, 6), Reason::Rewound);
    tale.publish(8, Outcome::Ok(MessageId::new(3002, 6)));
    tale.gets(session, MessageId::new(3002, 6), 8);
    let mut log = log_after_the_loss();
    log.push(stored(MessageId::new(3002, 6), 8));
    tale.ends_with(log);
    assert_eq!(tale.broken(), ["told of what is gone", "all is delivered"]);

    let mut tale = Tale::of(4);
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets(session, id(1), 1);
    tale.fails(FAILOVER);
    tale.gap(session, id(1), id(4), Reason::Rewound);
    tale.gets(session, id(4), 4);
    tale.ends(4);
    tale.breaks("a gap covers only what is gone");
}

#[test]
fn a_gap_does_not_report_existing_messages_as_lost() {
    let mut tale = Tale::of(3);
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets_all(session, 1..=3);
    tale.fails(FAILOVER);
    tale.now += 60_000;
    tale.gap(session, id(3), id(2), Reason::Rewound);
    tale.gets_all(session, 2..=3);
    tale.ends(3);
    tale.breaks("a gap covers only what is gone");
}

#[test]
fn no_gap_comes_without_a_loss_or_a_trim() {
    for (reason, rule) in [(Reason::Rewound, "nothing was lost"), (Reason::Trimmed, "nothing was trimmed")] {
        let mut tale = Tale::of(2);
        let session = tale.opens("live", false, MessageId::ZERO);
        tale.gets(session, id(1), 1);
        tale.gap(session, id(1), id(2), reason);
        tale.gets(session, id(2), 2);
        tale.ends(2);
        tale.breaks(rule);
    }
}

#[test]
fn lost_deliveries_are_reported() {
    let (mut tale, session) = after_a_loss();
    tale.gap(session, lost(5), MessageId::new(1004, 5), Reason::Rewound);
    tale.gets(session, MessageId::new(3001, 5), 7);
    tale.ends_with(log_after_the_loss());
    assert_eq!(tale.broken(), ["told of what is gone", "all is delivered"]);
}

#[test]
fn delivered_messages_stay_if_nothing_may_be_lost() {
    let mut tale = Tale::of(2);
    tale.publish(3, Outcome::Failed("forbidden".into()));
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets_all(session, 1..=2);
    tale.gets(session, lost(3), 3);
    tale.ends(2);
    assert_eq!(tale.broken(), ["all reach the end", "delivered is stored"]);
}

#[test]
fn only_published_messages_are_delivered() {
    let mut tale = Tale::of(2);
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets(session, id(1), 1);
    tale.gets(session, id(2), 9);
    tale.ends(2);
    tale.breaks("nothing that nobody sent");
}

#[test]
fn no_message_is_delivered_twice() {
    let mut tale = Tale::of(3);
    let session = tale.opens("reader", false, MessageId::ZERO);
    tale.gets_all(session, 1..=3);
    let again = tale.opens("reader", false, id(2));
    tale.gets_all(again, 3..=3);
    tale.ends(3);
    tale.breaks("nothing twice");
}

#[test]
fn live_comes_after_everything_was_delivered() {
    let mut tale = Tale::of(3);
    let session = tale.opens("live", false, MessageId::ZERO);
    tale.gets_all(session, 1..=2);
    tale.live(session, id(3));
    tale.gets_all(session, 3..=3);
    tale.ends(3);
    tale.breaks("live is true");
}

/// A client names a position by its id alone. If several histories may have lost it, delivery continues where
/// the first of them began. If only one did, it continues where that one began.
#[test]
fn only_a_position_that_several_histories_may_have_lost_goes_back_further() {
    for (histories, since) in [(1, Some(id(3))), (2, None), (2, Some(id(3)))] {
        let mut tale = Tale::of(3);
        let first = tale.opens("resuming", false, MessageId::ZERO);
        tale.gets_all(first, 1..=3);
        for _ in 0..histories {
            tale.fails(FAILOVER);
        }
        tale.now += 60_000;
        let session = match since {
            Some(since) => tale.opens_since("resuming", false, Some(since), since),
            None => first,
        };
        tale.gap(session, id(3), id(2), Reason::Rewound);
        tale.gets_all(session, 2..=3);
        tale.ends(3);
        if histories == 2 && since.is_some() {
            tale.is_sound();
        } else {
            tale.breaks("a gap covers only what is gone");
        }
    }
}
