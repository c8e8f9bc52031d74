//! Tests of the bounds of the send queue, of waiting for room, and of closing it.
#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{FutureExt, poll_immediate};
use proptest::prelude::*;

use super::*;
use crate::telemetry::Class;

const TIMED: Timed = Timed { key: uuid::Uuid::nil(), appended: 1, class: Class::FIRST };

fn with_limit(limit: usize) -> Arc<SendQueue> {
    Arc::new(SendQueue::with(limit, 2, To::Taker(Box::new(|| ()))))
}

fn has_room(queue: &Arc<SendQueue>) -> bool {
    queue.has_room_now().is_some()
}

fn offer(queue: &Arc<SendQueue>, part: Part) -> bool {
    WriteBatch::default().offer(queue, part)
}

fn bytes(length: usize) -> Bytes {
    vec![0; length].into()
}

fn live(length: usize) -> Part {
    Part { bytes: bytes(length), timed: Some(TIMED) }
}

async fn taken(queue: &SendQueue, most: usize) -> Vec<usize> {
    queue.take(most).await.iter().map(|part| part.bytes.len()).collect()
}

#[tokio::test]
async fn live_parts_are_refused_while_the_queue_is_over_its_limit() {
    let queue = with_limit(10);
    assert!(offer(&queue, live(4)) && offer(&queue, live(6)), "at the limit there is still room");
    assert!(offer(&queue, live(1)));
    assert!(!offer(&queue, live(1)));
    assert_eq!(taken(&queue, 1).await, [4]);
    assert!(offer(&queue, live(2)));
    assert_eq!(taken(&queue, 9).await, [6, 1, 2]);
}

#[tokio::test]
async fn notices_and_pongs_are_accepted_above_the_limit() {
    let queue = with_limit(0);
    queue.notice(bytes(100));
    queue.notice(bytes(200));
    assert_eq!(taken(&queue, 9).await, [100, 200]);
}

#[tokio::test]
async fn a_live_part_keeps_its_timing() {
    let queue = with_limit(10);
    assert!(offer(&queue, live(1)));
    queue.notice(bytes(1));
    let times: Vec<_> = queue.take(9).await.iter().map(|part| part.timed).collect();
    assert_eq!(times, [Some(TIMED), None]);
}

#[tokio::test]
async fn a_waiting_taker_is_woken_by_a_new_part() {
    let queue = with_limit(10);
    let mut take = pin!(taken(&queue, 9));
    assert_eq!(poll_immediate(&mut take).await, None);
    queue.notice(bytes(3));
    assert_eq!(take.await, [3]);
}

/// A writer also waits for other events, and drops the wait that did not complete first.
#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let queue = with_limit(10);
    {
        let mut take = pin!(taken(&queue, 9));
        assert_eq!(poll_immediate(&mut take).await, None);
        queue.notice(bytes(3));
    }
    let mut take = pin!(taken(&queue, 9));
    assert_eq!(poll_immediate(&mut take).await, Some(vec![3]));
}

#[tokio::test]
async fn there_is_room_for_answers_as_soon_as_no_more_than_the_limit_is_queued() {
    let queue = with_limit(8);
    [4, 1, 5].into_iter().for_each(|length| queue.notice(bytes(length)));
    let mut room = pin!(queue.has_room());
    assert!(poll_immediate(&mut room).await.is_none());
    taken(&queue, 1).await;
    assert!(poll_immediate(&mut room).await.is_some_and(|permit| permit.is_some()), "6 are left");
}

#[tokio::test]
async fn there_is_room_for_pages_at_a_quarter_of_the_limit() {
    let queue = with_limit(8);
    [1, 3, 2].into_iter().for_each(|length| queue.notice(bytes(length)));
    let mut turn = pin!(queue.turn());
    assert!(poll_immediate(&mut turn).await.is_none());
    taken(&queue, 1).await;
    assert!(poll_immediate(&mut turn).await.is_none(), "5 are left");
    taken(&queue, 1).await;
    assert!(turn.await.is_some(), "2 are left");
}

/// The last parts taken may not be written yet, until the writer asks for more.
#[tokio::test]
async fn parts_count_as_waiting_until_the_next_take_returns_none() {
    let queue = with_limit(8);
    assert!(!queue.is_waiting());
    queue.notice(bytes(1));
    assert!(queue.is_waiting());
    taken(&queue, 9).await;
    assert!(queue.is_waiting());
    assert_eq!(poll_immediate(pin!(taken(&queue, 9))).await, None);
    assert!(!queue.is_waiting());
}

#[tokio::test]
async fn one_reader_at_a_time_has_the_turn_and_only_when_there_is_room() {
    let queue = with_limit(8);
    let first = queue.turn().await.unwrap();
    let mut second = pin!(queue.turn());
    assert!(poll_immediate(&mut second).await.is_none());
    queue.notice(bytes(8));
    drop(first);
    assert!(poll_immediate(&mut second).await.is_none(), "it is its turn, but there is no room");
    taken(&queue, 1).await;
    assert!(second.await.is_some());
}

#[tokio::test]
async fn a_turn_passes_to_the_next_reader_when_a_wait_is_dropped() {
    let queue = with_limit(8);
    queue.notice(bytes(8));
    {
        let mut first = pin!(queue.turn());
        assert!(poll_immediate(&mut first).await.is_none());
    }
    taken(&queue, 1).await;
    assert!(queue.turn().await.is_some());
}

#[tokio::test]
async fn a_close_still_writes_the_queued_parts_and_then_ends() {
    let queue = with_limit(8);
    queue.notice(bytes(1));
    queue.notice(bytes(2));
    queue.close();
    queue.notice(bytes(3));
    assert!(offer(&queue, live(4)), "nobody falls back to reading for a client that is gone");
    assert_eq!(taken(&queue, 1).await, [1]);
    assert_eq!(taken(&queue, 9).await, [2]);
    assert!(taken(&queue, 9).await.is_empty());
    assert!(taken(&queue, 9).await.is_empty());
}

#[tokio::test]
async fn a_close_wakes_all_waiters() {
    let queue = with_limit(8);
    let mut take = pin!(taken(&queue, 9));
    assert_eq!(poll_immediate(&mut take).await, None);
    queue.close();
    assert!(take.await.is_empty());

    let queue = with_limit(8);
    queue.notice(bytes(9));
    let (mut room, mut first, mut second) = (pin!(queue.has_room()), pin!(queue.turn()), pin!(queue.turn()));
    assert!(poll_immediate(&mut room).await.is_none());
    assert!(poll_immediate(&mut first).await.is_none());
    assert!(poll_immediate(&mut second).await.is_none());
    queue.close();
    assert!(room.await.is_none());
    assert!(first.await.is_none());
    assert!(second.await.is_none());
}

#[tokio::test]
async fn an_abandoned_queue_drops_its_parts() {
    let queue = with_limit(8);
    queue.notice(bytes(100));
    queue.abandon();
    assert!(taken(&queue, 9).await.is_empty());
    assert!(queue.has_room().await.is_none());
}

#[tokio::test]
async fn answers_in_progress_are_limited_by_permits() {
    let queue = with_limit(8);
    let (first, second) = (queue.has_room_now().unwrap(), queue.has_room_now().unwrap());
    assert!(!has_room(&queue));
    let mut third = pin!(queue.has_room());
    assert!(poll_immediate(&mut third).await.is_none());
    drop(first);
    let third = third.await.unwrap();
    second.push(bytes(9));
    assert!(!has_room(&queue), "a permit is left, and no room");
    third.push(bytes(1));
    assert_eq!(taken(&queue, 9).await, [9, 1]);
    assert!(has_room(&queue));
}

#[tokio::test]
async fn a_client_with_too_many_unread_notices_is_disconnected() {
    let (queue, socket) = to_socket(&[]);
    let part = 64 * 1024;
    let mut queued = 0;
    while !queue.is_overrun() {
        queue.notice(bytes(part));
        queued += part;
        assert!(queued <= NOTICES + 3 * part, "no bound");
    }
    assert!(queued > NOTICES);
    assert_eq!((queue.bytes(), socket.shut.load(Ordering::Relaxed)), (0, true));
    queue.written().await;
}

#[tokio::test]
async fn an_abandoned_queue_has_no_task() {
    let (queue, socket) = to_socket(&[]);
    queue.notice(bytes(2000));
    tokio::task::yield_now().await;
    assert!(queue.is_waiting());
    queue.abandon();
    queue.written().await;
    assert!(socket.shut.load(Ordering::Relaxed));
    let mut queue = Some(queue);
    while queue.as_ref().is_some_and(|queue| Arc::strong_count(queue) > 1) {
        tokio::task::yield_now().await;
    }
    queue.take();
    assert_eq!(Arc::strong_count(&socket), 1, "the socket is let go of");
}

#[tokio::test]
async fn only_the_newest_pong_waits_ahead_of_unsent_parts() {
    let (queue, socket) = to_socket(&[]);
    let pong = |byte: u8| queue.pong(vec![byte; 5].into());
    queue.notice(vec![b'a'; 4].into());
    queue.notice(vec![b'b'; 4].into());
    for byte in 0..100 {
        pong(byte);
    }
    assert_eq!(queue.bytes(), 13);
    // Two bytes of the newest pong go out. That pong stays whole, and of the next ones only the newest waits
    // behind it.
    socket.let_take(&[2]);
    while queue.bytes() == 13 {
        tokio::task::yield_now().await;
    }
    for byte in 100..200 {
        pong(byte);
    }
    assert_eq!(queue.bytes(), 16);
    socket.let_take(&[100]);
    queue.written().await;
    let expected = [vec![99; 5], vec![199; 5], b"aaaabbbb".to_vec()].concat();
    assert_eq!(*socket.had.lock(), expected);
}

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

fn to_socket(takes: &[usize]) -> (Arc<SendQueue>, Arc<Socket>) {
    let socket = Arc::new(Socket::default());
    socket.let_take(takes);
    (Arc::new(SendQueue::to(socket.clone(), 1000, 8)), socket)
}

#[tokio::test]
async fn the_enqueuing_task_writes_as_much_as_the_socket_accepts() {
    let (queue, socket) = to_socket(&[100, 100]);
    queue.notice(bytes(3));
    queue.notice(bytes(4));
    assert_eq!(*socket.writes.lock(), [3, 4]);
    assert!(!queue.is_waiting());
}

#[tokio::test]
async fn a_batch_is_written_in_one_call_and_in_order() {
    let (queue, socket) = to_socket(&[100]);
    let mut writes = WriteBatch::default();
    assert!(writes.offer(&queue, live(1)));
    writes.notice(&queue, bytes(2));
    queue.notice(bytes(3));
    assert!(socket.writes.lock().is_empty(), "whoever queued first writes");
    drop(writes);
    assert_eq!((&*socket.writes.lock(), &*socket.delivered.lock()), (&vec![6], &vec![1]));
}

#[tokio::test]
async fn a_batch_of_many_queues_is_written_completely() {
    let sockets: Vec<_> = (0..3 * writes::WRITES_AT_ONCE).map(|_| to_socket(&[100])).collect();
    let mut writes = WriteBatch::default();
    sockets.iter().for_each(|(queue, _)| writes.notice(queue, bytes(1)));
    drop(writes);
    for (queue, socket) in &sockets {
        queue.written().await;
        assert_eq!(*socket.writes.lock(), [1]);
    }
}

#[tokio::test]
async fn a_broken_socket_abandons_its_queue() {
    let (queue, socket) = to_socket(&[]);
    queue.notice(bytes(2000));
    let mut room = pin!(queue.has_room());
    assert!(poll_immediate(&mut room).await.is_none());
    socket.broken.store(true, Ordering::Relaxed);
    socket.free.notify_one();
    assert!(room.await.is_none());
    queue.written().await;
    queue.notice(bytes(1));
    assert!(!queue.is_waiting());
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
            let (queue, socket) = to_socket(&takes[..at_once.min(takes.len())]);
            let mut expected = Vec::new();
            let mut writes = WriteBatch::default();
            for (index, (length, gathered)) in parts.iter().enumerate() {
                let part = vec![index as u8; *length];
                expected.extend_from_slice(&part);
                if *gathered {
                    writes.notice(&queue, part.into());
                } else {
                    queue.notice(part.into());
                    tokio::task::yield_now().await;
                }
            }
            drop(writes);
            socket.let_take(&takes);
            while queue.is_waiting() {
                socket.let_take(&[7]);
                tokio::task::yield_now().await;
            }
            assert_eq!(*socket.had.lock(), expected);
        });
    }
}
