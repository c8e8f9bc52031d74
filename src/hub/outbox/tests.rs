//! Who gets a place in the queue, who waits for one, and how it ends.
#![allow(clippy::unwrap_used)]

use std::pin::pin;

use futures_util::future::poll_immediate;

use super::*;

const TIMED: Timed = Timed { appended: 1, class: Class::FIRST };

fn bytes(length: usize) -> Bytes {
    vec![0; length].into()
}

fn live(length: usize) -> Part {
    Part { bytes: bytes(length), timed: Some(TIMED) }
}

/// The lengths of what is taken, in order.
async fn taken(outbox: &Outbox, most: usize) -> Vec<usize> {
    outbox.take(most).await.iter().map(|part| part.bytes.len()).collect()
}

#[tokio::test]
async fn live_parts_are_refused_while_it_is_over_its_limit() {
    let outbox = Outbox::new(10);
    assert!(outbox.offer(live(4)) && outbox.offer(live(6)), "at the limit there is still room");
    assert!(outbox.offer(live(1)));
    assert!(!outbox.offer(live(1)));
    assert_eq!(taken(&outbox, 1).await, [4]);
    assert!(outbox.offer(live(2)));
    assert_eq!(taken(&outbox, 9).await, [6, 1, 2]);
}

#[tokio::test]
async fn answers_and_pages_are_always_taken() {
    let outbox = Outbox::new(0);
    outbox.push(bytes(100));
    outbox.push(bytes(200));
    assert_eq!(taken(&outbox, 9).await, [100, 200]);
}

#[tokio::test]
async fn the_time_of_a_live_part_goes_with_it() {
    let outbox = Outbox::new(10);
    assert!(outbox.offer(live(1)));
    outbox.push(bytes(1));
    let times: Vec<_> = outbox.take(9).await.iter().map(|part| part.timed).collect();
    assert_eq!(times, [Some(TIMED), None]);
}

#[tokio::test]
async fn whoever_waits_for_something_to_write_is_woken() {
    let outbox = Outbox::new(10);
    let mut take = pin!(taken(&outbox, 9));
    assert_eq!(poll_immediate(&mut take).await, None);
    outbox.push(bytes(3));
    assert_eq!(take.await, [3]);
}

/// A writer waits for other things too, and drops the wait that was not first.
#[tokio::test]
async fn a_wait_that_is_dropped_loses_nothing() {
    let outbox = Outbox::new(10);
    {
        let mut take = pin!(taken(&outbox, 9));
        assert_eq!(poll_immediate(&mut take).await, None);
        outbox.push(bytes(3));
    }
    let mut take = pin!(taken(&outbox, 9));
    assert_eq!(poll_immediate(&mut take).await, Some(vec![3]));
}

#[tokio::test]
async fn there_is_room_for_answers_as_soon_as_no_more_than_the_limit_is_queued() {
    let outbox = Outbox::new(8);
    [4, 1, 5].into_iter().for_each(|length| outbox.push(bytes(length)));
    let mut room = pin!(outbox.has_room());
    assert_eq!(poll_immediate(&mut room).await, None);
    taken(&outbox, 1).await;
    assert_eq!(poll_immediate(&mut room).await, Some(true), "6 are left");
}

#[tokio::test]
async fn there_is_room_for_pages_at_a_quarter_of_the_limit() {
    let outbox = Outbox::new(8);
    [1, 3, 2].into_iter().for_each(|length| outbox.push(bytes(length)));
    let mut turn = pin!(outbox.turn());
    assert!(poll_immediate(&mut turn).await.is_none());
    taken(&outbox, 1).await;
    assert!(poll_immediate(&mut turn).await.is_none(), "5 are left");
    taken(&outbox, 1).await;
    assert!(turn.await.is_some(), "2 are left");
}

/// What was taken may still be on its way to the socket until the writer comes back for more.
#[tokio::test]
async fn something_waits_until_the_writer_comes_back_and_finds_nothing() {
    let outbox = Outbox::new(8);
    assert!(!outbox.is_waiting());
    outbox.push(bytes(1));
    assert!(outbox.is_waiting());
    taken(&outbox, 9).await;
    assert!(outbox.is_waiting());
    assert_eq!(poll_immediate(pin!(taken(&outbox, 9))).await, None);
    assert!(!outbox.is_waiting());
}

#[tokio::test]
async fn one_reads_at_a_time_and_only_when_there_is_room() {
    let outbox = Outbox::new(8);
    let first = outbox.turn().await.unwrap();
    let mut second = pin!(outbox.turn());
    assert!(poll_immediate(&mut second).await.is_none());
    outbox.push(bytes(8));
    drop(first);
    assert!(poll_immediate(&mut second).await.is_none(), "it is its turn, but there is no room");
    taken(&outbox, 1).await;
    assert!(second.await.is_some());
}

#[tokio::test]
async fn a_turn_whose_wait_is_dropped_goes_to_the_next() {
    let outbox = Outbox::new(8);
    outbox.push(bytes(8));
    {
        let mut first = pin!(outbox.turn());
        assert!(poll_immediate(&mut first).await.is_none());
    }
    taken(&outbox, 1).await;
    assert!(outbox.turn().await.is_some());
}

#[tokio::test]
async fn what_is_queued_is_written_after_a_close_and_then_it_ends() {
    let outbox = Outbox::new(8);
    outbox.push(bytes(1));
    outbox.push(bytes(2));
    outbox.close();
    assert!(outbox.is_closed());
    outbox.push(bytes(3));
    assert!(outbox.offer(live(4)), "nobody falls back to reading for a client that is gone");
    assert_eq!(taken(&outbox, 1).await, [1]);
    assert_eq!(taken(&outbox, 9).await, [2]);
    assert!(taken(&outbox, 9).await.is_empty());
    assert!(taken(&outbox, 9).await.is_empty());
}

#[tokio::test]
async fn a_close_wakes_all_who_wait() {
    let outbox = Outbox::new(8);
    let mut take = pin!(taken(&outbox, 9));
    assert_eq!(poll_immediate(&mut take).await, None);
    outbox.close();
    assert!(take.await.is_empty());

    let outbox = Outbox::new(8);
    outbox.push(bytes(9));
    let (mut room, mut first, mut second) =
        (pin!(outbox.has_room()), pin!(outbox.turn()), pin!(outbox.turn()));
    assert_eq!(poll_immediate(&mut room).await, None);
    assert!(poll_immediate(&mut first).await.is_none());
    assert!(poll_immediate(&mut second).await.is_none());
    outbox.close();
    assert!(!room.await);
    assert!(first.await.is_none());
    assert!(second.await.is_none());
}

#[tokio::test]
async fn an_abandoned_queue_forgets_what_it_held() {
    let outbox = Outbox::new(8);
    outbox.push(bytes(100));
    outbox.abandon();
    assert!(outbox.is_closed());
    assert!(taken(&outbox, 9).await.is_empty());
    assert!(!outbox.has_room().await);
}
