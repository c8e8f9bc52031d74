//! Tests of the bounds of the outbox, of waiting for room, and of closing it.
#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{FutureExt, poll_immediate};
use proptest::prelude::*;

use super::*;
use crate::telemetry::Class;

const TIMED: Timed = Timed { key: uuid::Uuid::nil(), appended: 1, class: Class::FIRST };

fn with_limit(limit: usize) -> Arc<Outbox> {
    Arc::new(Outbox::with(limit, 2, To::Taker(Box::new(|| ()))))
}

/// Returns whether an answer would find room now.
fn has_room(outbox: &Arc<Outbox>) -> bool {
    outbox.has_room_now().is_some()
}

fn offer(outbox: &Arc<Outbox>, part: Part) -> bool {
    Writes::default().offer(outbox, part)
}

fn bytes(length: usize) -> Bytes {
    vec![0; length].into()
}

fn live(length: usize) -> Part {
    Part { bytes: bytes(length), timed: Some(TIMED) }
}

/// Returns the lengths of the parts taken, in order.
async fn taken(outbox: &Outbox, most: usize) -> Vec<usize> {
    outbox.take(most).await.iter().map(|part| part.bytes.len()).collect()
}

#[tokio::test]
async fn live_parts_are_refused_while_it_is_over_its_limit() {
    let outbox = with_limit(10);
    assert!(offer(&outbox, live(4)) && offer(&outbox, live(6)), "at the limit there is still room");
    assert!(offer(&outbox, live(1)));
    assert!(!offer(&outbox, live(1)));
    assert_eq!(taken(&outbox, 1).await, [4]);
    assert!(offer(&outbox, live(2)));
    assert_eq!(taken(&outbox, 9).await, [6, 1, 2]);
}

#[tokio::test]
async fn what_cannot_wait_is_taken_above_the_limit() {
    let outbox = with_limit(0);
    outbox.notice(bytes(100));
    outbox.notice(bytes(200));
    assert_eq!(taken(&outbox, 9).await, [100, 200]);
}

#[tokio::test]
async fn the_time_of_a_live_part_goes_with_it() {
    let outbox = with_limit(10);
    assert!(offer(&outbox, live(1)));
    outbox.notice(bytes(1));
    let times: Vec<_> = outbox.take(9).await.iter().map(|part| part.timed).collect();
    assert_eq!(times, [Some(TIMED), None]);
}

#[tokio::test]
async fn whoever_waits_for_something_to_write_is_woken() {
    let outbox = with_limit(10);
    let mut take = pin!(taken(&outbox, 9));
    assert_eq!(poll_immediate(&mut take).await, None);
    outbox.notice(bytes(3));
    assert_eq!(take.await, [3]);
}

/// A writer also waits for other events, and drops the wait that did not complete first.
#[tokio::test]
async fn a_wait_that_is_dropped_loses_nothing() {
    let outbox = with_limit(10);
    {
        let mut take = pin!(taken(&outbox, 9));
        assert_eq!(poll_immediate(&mut take).await, None);
        outbox.notice(bytes(3));
    }
    let mut take = pin!(taken(&outbox, 9));
    assert_eq!(poll_immediate(&mut take).await, Some(vec![3]));
}

#[tokio::test]
async fn there_is_room_for_answers_as_soon_as_no_more_than_the_limit_is_queued() {
    let outbox = with_limit(8);
    [4, 1, 5].into_iter().for_each(|length| outbox.notice(bytes(length)));
    let mut room = pin!(outbox.has_room());
    assert!(poll_immediate(&mut room).await.is_none());
    taken(&outbox, 1).await;
    assert!(poll_immediate(&mut room).await.is_some_and(|permit| permit.is_some()), "6 are left");
}

#[tokio::test]
async fn there_is_room_for_pages_at_a_quarter_of_the_limit() {
    let outbox = with_limit(8);
    [1, 3, 2].into_iter().for_each(|length| outbox.notice(bytes(length)));
    let mut turn = pin!(outbox.turn());
    assert!(poll_immediate(&mut turn).await.is_none());
    taken(&outbox, 1).await;
    assert!(poll_immediate(&mut turn).await.is_none(), "5 are left");
    taken(&outbox, 1).await;
    assert!(turn.await.is_some(), "2 are left");
}

/// The last parts taken may not be written yet, until the writer asks for more.
#[tokio::test]
async fn something_waits_until_the_writer_comes_back_and_finds_nothing() {
    let outbox = with_limit(8);
    assert!(!outbox.is_waiting());
    outbox.notice(bytes(1));
    assert!(outbox.is_waiting());
    taken(&outbox, 9).await;
    assert!(outbox.is_waiting());
    assert_eq!(poll_immediate(pin!(taken(&outbox, 9))).await, None);
    assert!(!outbox.is_waiting());
}

#[tokio::test]
async fn one_reads_at_a_time_and_only_when_there_is_room() {
    let outbox = with_limit(8);
    let first = outbox.turn().await.unwrap();
    let mut second = pin!(outbox.turn());
    assert!(poll_immediate(&mut second).await.is_none());
    outbox.notice(bytes(8));
    drop(first);
    assert!(poll_immediate(&mut second).await.is_none(), "it is its turn, but there is no room");
    taken(&outbox, 1).await;
    assert!(second.await.is_some());
}

#[tokio::test]
async fn a_turn_whose_wait_is_dropped_goes_to_the_next() {
    let outbox = with_limit(8);
    outbox.notice(bytes(8));
    {
        let mut first = pin!(outbox.turn());
        assert!(poll_immediate(&mut first).await.is_none());
    }
    taken(&outbox, 1).await;
    assert!(outbox.turn().await.is_some());
}

#[tokio::test]
async fn what_is_queued_is_written_after_a_close_and_then_it_ends() {
    let outbox = with_limit(8);
    outbox.notice(bytes(1));
    outbox.notice(bytes(2));
    outbox.close();
    outbox.notice(bytes(3));
    assert!(offer(&outbox, live(4)), "nobody falls back to reading for a client that is gone");
    assert_eq!(taken(&outbox, 1).await, [1]);
    assert_eq!(taken(&outbox, 9).await, [2]);
    assert!(taken(&outbox, 9).await.is_empty());
    assert!(taken(&outbox, 9).await.is_empty());
}

#[tokio::test]
async fn a_close_wakes_all_who_wait() {
    let outbox = with_limit(8);
    let mut take = pin!(taken(&outbox, 9));
    assert_eq!(poll_immediate(&mut take).await, None);
    outbox.close();
    assert!(take.await.is_empty());

    let outbox = with_limit(8);
    outbox.notice(bytes(9));
    let (mut room, mut first, mut second) =
        (pin!(outbox.has_room()), pin!(outbox.turn()), pin!(outbox.turn()));
    assert!(poll_immediate(&mut room).await.is_none());
    assert!(poll_immediate(&mut first).await.is_none());
    assert!(poll_immediate(&mut second).await.is_none());
    outbox.close();
    assert!(room.await.is_none());
    assert!(first.await.is_none());
    assert!(second.await.is_none());
}

#[tokio::test]
async fn an_abandoned_queue_forgets_what_it_held() {
    let outbox = with_limit(8);
    outbox.notice(bytes(100));
    outbox.abandon();
    assert!(taken(&outbox, 9).await.is_empty());
    assert!(outbox.has_room().await.is_none());
}

#[tokio::test]
async fn so_many_answers_are_under_way_as_there_are_permits() {
    let outbox = with_limit(8);
    let (first, second) = (outbox.has_room_now().unwrap(), outbox.has_room_now().unwrap());
    assert!(!has_room(&outbox));
    let mut third = pin!(outbox.has_room());
    assert!(poll_immediate(&mut third).await.is_none());
    drop(first);
    let third = third.await.unwrap();
    second.push(bytes(9));
    assert!(!has_room(&outbox), "a permit is left, and no room");
    third.push(bytes(1));
    assert_eq!(taken(&outbox, 9).await, [9, 1]);
    assert!(has_room(&outbox));
}

#[tokio::test]
async fn a_client_that_leaves_too_many_notices_unread_is_cut_off() {
    let (outbox, socket) = to_socket(&[]);
    let part = 64 * 1024;
    let mut queued = 0;
    while !outbox.is_overrun() {
        outbox.notice(bytes(part));
        queued += part;
        assert!(queued <= NOTICES + 3 * part, "no bound");
    }
    assert!(queued > NOTICES);
    assert_eq!((outbox.bytes(), socket.shut.load(Ordering::Relaxed)), (0, true));
    outbox.written().await;
}

/// An abandoned outbox leaves no task behind, even if its socket never accepts anything.
#[tokio::test]
async fn an_abandoned_outbox_has_no_task() {
    let (outbox, socket) = to_socket(&[]);
    outbox.notice(bytes(2000));
    tokio::task::yield_now().await;
    assert!(outbox.is_waiting());
    outbox.abandon();
    outbox.written().await;
    assert!(socket.shut.load(Ordering::Relaxed));
    let mut outbox = Some(outbox);
    while outbox.as_ref().is_some_and(|outbox| Arc::strong_count(outbox) > 1) {
        tokio::task::yield_now().await;
    }
    outbox.take();
    assert_eq!(Arc::strong_count(&socket), 1, "the socket is let go of");
}

#[tokio::test]
async fn the_newest_pong_alone_waits_and_goes_before_what_has_not_begun() {
    let (outbox, socket) = to_socket(&[]);
    let pong = |byte: u8| outbox.pong(vec![byte; 5].into());
    outbox.notice(vec![b'a'; 4].into());
    outbox.notice(vec![b'b'; 4].into());
    for byte in 0..100 {
        pong(byte);
    }
    assert_eq!(outbox.bytes(), 13);
    // Two bytes of the newest pong go out. That pong stays whole, and of the next ones only the newest waits
    // behind it.
    socket.let_take(&[2]);
    while outbox.bytes() == 13 {
        tokio::task::yield_now().await;
    }
    for byte in 100..200 {
        pong(byte);
    }
    assert_eq!(outbox.bytes(), 16);
    socket.let_take(&[100]);
    outbox.written().await;
    let expected = [vec![99; 5], vec![199; 5], b"aaaabbbb".to_vec()].concat();
    assert_eq!(*socket.had.lock(), expected);
}

/// A socket that accepts as much as the test allows.
#[derive(Debug, Default)]
struct Socket {
    had: Mutex<Vec<u8>>,
    writes: Mutex<Vec<usize>>,
    /// The most bytes that each write accepts. Once empty, writes block.
    takes: Mutex<VecDeque<usize>>,
    free: Notify,
    broken: AtomicBool,
    shut: AtomicBool,
    delivered: Mutex<Vec<u64>>,
}

impl Socket {
    fn let_take(&self, takes: &[usize]) {
        self.takes.lock().extend(takes);
        self.free.notify_one();
    }
}

impl Sink for Arc<Socket> {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = self.takes.lock().pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(count).collect();
        self.had.lock().extend_from_slice(&bytes);
        self.writes.lock().push(bytes.len());
        Ok(bytes.len())
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        self.free.notified().map(Ok).boxed()
    }

    fn shut(&self) {
        self.shut.store(true, Ordering::Relaxed);
    }

    fn delivered(&self, message: Timed) {
        self.delivered.lock().push(message.appended);
    }
}

fn to_socket(takes: &[usize]) -> (Arc<Outbox>, Arc<Socket>) {
    let socket = Arc::new(Socket::default());
    socket.let_take(takes);
    (Arc::new(Outbox::to(socket.clone(), 1000, 8)), socket)
}

#[tokio::test]
async fn what_the_socket_takes_is_written_at_once() {
    let (outbox, socket) = to_socket(&[100, 100]);
    outbox.notice(bytes(3));
    outbox.notice(bytes(4));
    assert_eq!(*socket.writes.lock(), [3, 4]);
    assert!(!outbox.is_waiting());
}

#[tokio::test]
async fn what_is_gathered_is_written_together_and_in_order_with_the_rest() {
    let (outbox, socket) = to_socket(&[100]);
    let mut writes = Writes::default();
    assert!(writes.offer(&outbox, live(1)));
    writes.notice(&outbox, bytes(2));
    outbox.notice(bytes(3));
    assert!(socket.writes.lock().is_empty(), "whoever queued first writes");
    drop(writes);
    assert_eq!((&*socket.writes.lock(), &*socket.delivered.lock()), (&vec![6], &vec![1]));
}

#[tokio::test]
async fn all_of_many_outboxes_are_written() {
    let sockets: Vec<_> = (0..3 * writes::WRITES_AT_ONCE).map(|_| to_socket(&[100])).collect();
    let mut writes = Writes::default();
    sockets.iter().for_each(|(outbox, _)| writes.notice(outbox, bytes(1)));
    drop(writes);
    for (outbox, socket) in &sockets {
        outbox.written().await;
        assert_eq!(*socket.writes.lock(), [1]);
    }
}

#[tokio::test]
async fn a_socket_that_breaks_ends_its_outbox() {
    let (outbox, socket) = to_socket(&[]);
    outbox.notice(bytes(2000));
    let mut room = pin!(outbox.has_room());
    assert!(poll_immediate(&mut room).await.is_none());
    socket.broken.store(true, Ordering::Relaxed);
    socket.free.notify_one();
    assert!(room.await.is_none());
    outbox.written().await;
    outbox.notice(bytes(1));
    assert!(!outbox.is_waiting());
}

proptest! {
    #[test]
    fn every_byte_is_written_once_and_in_order(
        parts in prop::collection::vec((1..50usize, any::<bool>()), 1..40),
        takes in prop::collection::vec(1..80usize, 1..60),
        at_once in 0..10usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (outbox, socket) = to_socket(&takes[..at_once.min(takes.len())]);
            let mut expected = Vec::new();
            let mut writes = Writes::default();
            for (index, (length, gathered)) in parts.iter().enumerate() {
                let part = vec![index as u8; *length];
                expected.extend_from_slice(&part);
                if *gathered {
                    writes.notice(&outbox, part.into());
                } else {
                    outbox.notice(part.into());
                    tokio::task::yield_now().await;
                }
            }
            drop(writes);
            socket.let_take(&takes);
            while outbox.is_waiting() {
                socket.let_take(&[7]);
                tokio::task::yield_now().await;
            }
            assert_eq!(*socket.had.lock(), expected);
        });
    }
}
