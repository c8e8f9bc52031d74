//! Tests of the rules of durable subscriptions.

use roomlog_protocol::MessageId;

use super::*;

#[test]
fn an_ack_is_not_undone_for_the_next_holder() {
    let mut tale = Tale::of(3);
    let first = tale.opens("durable", true, MessageId::ZERO);
    tale.gets_all(first, 1..=3);
    tale.acks(first, 3, true);
    tale.opens("durable", true, id(2));
    tale.ends(3);
    tale.breaks("an ack is not undone");
}

#[test]
fn an_ack_is_not_undone_at_the_end() {
    for position in [Some(id(2)), None] {
        let mut tale = Tale::of(3);
        let session = tale.opens("durable", true, MessageId::ZERO);
        tale.gets_all(session, 1..=3);
        tale.acks(session, 3, true);
        tale.ends(3);
        tale.position("durable", position);
        tale.breaks("an ack is not undone");
    }
}

#[test]
fn an_ack_within_a_failover_may_be_undone() {
    let mut tale = Tale::of(3);
    let session = tale.opens("durable", true, MessageId::ZERO);
    tale.gets_all(session, 1..=3);
    tale.fails(FAILOVER);
    tale.acks(session, 3, true);
    let again = tale.opens("durable", true, id(1));
    tale.gets_all(again, 2..=3);
    tale.ends(3);
    tale.is_sound();
}

#[test]
fn acknowledged_messages_are_not_delivered_again() {
    let mut tale = Tale::of(3);
    let first = tale.opens("durable", true, MessageId::ZERO);
    tale.gets_all(first, 1..=3);
    tale.acks(first, 2, true);
    let second = tale.opens("durable", true, id(2));
    tale.gets_all(second, 2..=3);
    tale.ends(3);
    assert_eq!(tale.broken(), ["no hole without a gap", "nothing acknowledged comes again"]);
}

#[test]
fn only_acks_move_a_position() {
    let mut tale = Tale::of(3);
    let first = tale.opens("durable", true, MessageId::ZERO);
    tale.gets_all(first, 1..=2);
    tale.acks(first, 1, true);
    let second = tale.opens("durable", true, id(2));
    tale.gets_all(second, 3..=3);
    tale.ends(3);
    tale.breaks("a position moves by acks alone");
}

#[test]
fn a_loss_reported_to_one_holder_may_be_reported_to_the_next() {
    let mut tale = Tale::of(3);
    let first = tale.opens("durable", true, MessageId::ZERO);
    tale.gets_all(first, 1..=3);
    tale.fails(FAILOVER);
    tale.publish(4, Outcome::Ok(lost(4)));
    tale.gets(first, lost(4), 4);
    let (at, outcome) = (tale.now, Outcome::Unknown("unavailable".into()));
    tale.events.push(Event::Ack { at, till: at, session: first, id: lost(4), outcome });
    tale.now += 60_000;
    let new = MessageId::new(70_000, 4);
    tale.publish(5, Outcome::Ok(new));
    tale.gap(first, lost(4), new, Reason::Rewound);
    tale.gets(first, new, 5);
    let second = tale.opens("durable", true, lost(4));
    tale.gap(second, lost(4), new, Reason::Rewound);
    tale.gets(second, new, 5);
    tale.ends_with((1..=3).map(|seq| stored(id(seq), seq)).chain([stored(new, 5)]).collect());
    tale.is_sound();
}

#[test]
fn an_ack_of_a_lost_message_counts_as_far_as_is_certain() {
    for histories in [1, 2] {
        let mut tale = Tale::of(3);
        let session = tale.opens("http", true, MessageId::ZERO);
        if let Some(Event::Opened(opened)) = tale.events.last_mut() {
            opened.by_request = true;
        }
        tale.gets_all(session, 1..=3);
        tale.acks(session, 1, true);
        tale.publish(4, Outcome::Ok(lost(4)));
        tale.gets(session, lost(4), 4);
        for _ in 0..histories {
            tale.fails(FAILOVER);
        }
        tale.now += 60_000;
        let (at, outcome) = (tale.now, Outcome::Ok(lost(4)));
        tale.events.push(Event::Ack { at, till: at, session, id: lost(4), outcome });
        tale.gap(session, lost(4), id(2), Reason::Rewound);
        tale.gets_all(session, 2..=3);
        let again = tale.opens("http", true, id(1));
        tale.gets_all(again, 2..=3);
        tale.ends_with((1..=3).map(|seq| stored(id(seq), seq)).collect());
        assert_eq!(
            tale.broken().contains(&"an ack is not undone".to_owned()),
            histories == 1,
            "{:?}",
            tale.broken()
        );
    }
}
