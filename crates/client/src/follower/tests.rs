//! Subscriptions that are confirmed, lost, paused and resumed.

use serde_json::json;
use uuid::Uuid;

use roomlog_protocol::RoomName;
use roomlog_protocol::frame::GapReason;

use super::super::types::Message;
use super::*;

fn id(seq: u64) -> MessageId {
    MessageId::new(5, seq)
}

fn room() -> RoomName {
    "a".parse().unwrap()
}

fn message(seq: u64) -> Frame {
    Frame::Message(Message {
        room: room(),
        id: id(seq),
        key: Uuid::nil(),
        from: "ann".into(),
        kind: "message".into(),
        data: json!(seq),
    })
}

fn lost() -> Error {
    Error::Unreachable { url: "http://server".into(), cause: "gone".into() }
}

/// Plays the part of the connection: asks, and confirms with these fields.
fn confirm(follower: &mut Follower, position: u64, head: u64, created: bool) {
    follower.phase = Phase::Asked(7);
    follower.subscribed(Some(7), id(position), id(head), created, Instant::now());
}

fn follower(durable: Option<&str>) -> (Follower, Ends) {
    let durable = durable.map(|name| name.parse().unwrap());
    let (mut follower, ends) = Follower::new(TailOptions { durable, ..TailOptions::new(room()) }, true);
    confirm(&mut follower, 0, 0, false);
    (follower, ends)
}

/// Returns the messages that wait, as their counters, and fails at a gap.
fn read(ends: &mut Ends) -> Vec<u64> {
    let mut seqs = Vec::new();
    while let Ok(event) = ends.events.try_recv() {
        match event {
            Event::Message(message) => seqs.push(message.id.seq),
            Event::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
    seqs
}

#[test]
fn a_full_queue_pauses_and_goes_on_where_it_ended() {
    let (mut follower, mut ends) = follower(None);
    for seq in 1..=2 * QUEUE as u64 {
        follower.take(message(seq)).unwrap();
    }
    assert_eq!(follower.phase, Phase::Paused);
    follower.resume(Instant::now());
    assert_eq!(follower.phase, Phase::Paused, "the reader is still behind");
    let first = read(&mut ends);
    let last = *first.last().unwrap();
    assert!(last < QUEUE as u64 && follower.position() == Some(id(last)));
    follower.resume(Instant::now());
    assert!(matches!(follower.phase, Phase::Due(_)));
    assert_eq!(follower.start(), Some(Start::After(id(last))));
    confirm(&mut follower, last, 2 * QUEUE as u64, false);
    follower.take(message(last + 1)).unwrap();
    assert_eq!(read(&mut ends), [last + 1]);
}

#[test]
fn frames_of_a_former_subscription_are_not_taken_for_the_new_one() {
    let (mut follower, mut ends) = follower(None);
    follower.take(message(1)).unwrap();
    follower.phase = Phase::Asked(8);
    follower.take(message(2)).unwrap();
    let ended = Frame::Unsubscribed { room: room(), code: "replaced".into(), message: "x".into() };
    follower.take(ended).unwrap();
    follower.subscribed(Some(7), id(9), id(9), false, Instant::now());
    assert_eq!(follower.phase, Phase::Asked(8));
    follower.subscribed(Some(8), id(1), id(2), false, Instant::now());
    follower.take(message(2)).unwrap();
    assert_eq!(read(&mut ends), [1, 2]);
}

#[test]
fn a_lost_connection_is_told_and_what_came_is_not_repeated() {
    let (mut follower, mut ends) = follower(None);
    (1..=3).for_each(|seq| follower.take(message(seq)).unwrap());
    assert!(follower.lost(&lost(), PAUSE));
    follower.take(message(4)).unwrap();
    follower.connected(Instant::now());
    assert_eq!(follower.start(), Some(Start::After(id(3))));
    confirm(&mut follower, 3, 4, false);
    (3..=4).for_each(|seq| follower.take(message(seq)).unwrap());
    assert_eq!(read(&mut ends), [1, 2, 3, 4]);
}

#[test]
fn a_log_that_went_back_is_a_gap() {
    let (mut follower, mut ends) = follower(None);
    (1..=3).for_each(|seq| follower.take(message(seq)).unwrap());
    read(&mut ends);
    confirm(&mut follower, 3, 1, false);
    assert!(matches!(ends.events.try_recv(), Ok(Event::Subscribed { .. })));
    let Ok(Event::Gap(gap)) = ends.events.try_recv() else { panic!("no gap") };
    assert_eq!((gap.after, gap.next.seq, gap.reason), (id(3), 2, GapReason::Rewound));
    follower.take(message(2)).unwrap();
    assert_eq!(read(&mut ends), [2]);
}

#[test]
fn a_durable_subscription_goes_on_at_the_server_and_its_acks_are_sent_again() {
    let (mut follower, mut ends) = follower(Some("phone"));
    (1..=3).for_each(|seq| follower.take(message(seq)).unwrap());
    ends.acknowledged.send_replace(Some(id(2)));
    assert_eq!([follower.unsent_ack(), follower.unsent_ack()], [Some(id(2)), None]);
    follower.lost(&lost(), PAUSE);
    assert_eq!((follower.start(), follower.unsent_ack()), (None, None));
    confirm(&mut follower, 1, 3, false);
    assert_eq!(follower.unsent_ack(), Some(id(2)));
    (2..=4).for_each(|seq| follower.take(message(seq)).unwrap());
    assert_eq!(read(&mut ends), [1, 2, 3, 4]);
    // Another device has handled more meanwhile.
    confirm(&mut follower, 9, 9, false);
    follower.take(message(10)).unwrap();
    assert_eq!(read(&mut ends), [10]);
}

#[test]
fn a_durable_position_that_the_server_lost_is_told_to_it() {
    let (mut follower, mut ends) = follower(Some("phone"));
    follower.take(message(1)).unwrap();
    confirm(&mut follower, 3, 3, true);
    assert!(matches!(follower.phase, Phase::Due(_)));
    assert_eq!(follower.start(), Some(Start::After(id(1))));
    confirm(&mut follower, 1, 3, false);
    assert_eq!(follower.start(), None);
    (2..=3).for_each(|seq| follower.take(message(seq)).unwrap());
    assert_eq!(read(&mut ends), [1, 2, 3]);
}

#[test]
fn only_a_patient_reader_waits_for_the_first_confirmation() {
    for is_patient in [true, false] {
        let (mut follower, _ends) = Follower::new(TailOptions::new(room()), is_patient);
        follower.phase = Phase::Asked(7);
        let refused = follower.refused(Some(7), Failure::unavailable(), Instant::now());
        assert_eq!(refused.is_ok(), is_patient);
        assert_eq!(follower.lost(&lost(), PAUSE), is_patient);
    }
    let (mut follower, _ends) = Follower::new(TailOptions::new(room()), true);
    follower.phase = Phase::Asked(7);
    assert!(follower.refused(Some(7), Failure::forbidden("no"), Instant::now()).is_err());
}
