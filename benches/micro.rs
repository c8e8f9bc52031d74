//! Each step of a message's way through a node, measured separately: `cargo bench`. Times are per call.
#![allow(missing_docs, clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use futures_util::future::BoxFuture;
use roomlog::timed::{
    Entry, Epoch, Grants, Head, Page, Part, Permission, RecentLimits, RoomGrants, Run, SendQueue, Sink, Tail,
    Timed, WriteBatch,
};
use roomlog_protocol::decode::Frames;
use roomlog_protocol::frame::Message;
use roomlog_protocol::{Data, Encoding, MessageId, RoomName, UserId, encode};
use uuid::Uuid;

fn main() {
    divan::main();
}

/// Returns message number `seq` of the room, with 128 bytes of text.
fn message(seq: u64) -> Message {
    Message {
        room: "chat.general".parse().unwrap(),
        id: MessageId { ms: 1_700_000_000_000 + seq, seq },
        key: Uuid::new_v4(),
        from: "ann".into(),
        kind: "message".into(),
        data: Data::from_json(&format!("\"{}\"", "x".repeat(128))).unwrap(),
    }
}

fn entry(seq: u64) -> Arc<Entry> {
    Arc::new(Entry::new(message(seq)))
}

/// Returns a tail at the start of its room, with a ring of the default size.
fn tail() -> Tail {
    let limits = RecentLimits {
        messages: 256,
        bytes: 256 * 1024,
        budget: 64 * 1024 * 1024,
        spent: Arc::<AtomicUsize>::default(),
    };
    let mut tail = Tail::new(limits);
    tail.open(Head::default());
    tail
}

/// Measures the live copy of the next message.
#[divan::bench]
fn ingest_heard(bencher: Bencher<'_, '_>) {
    let (tail, seq) = (RefCell::new(tail()), Cell::new(0));
    bencher
        .with_inputs(|| {
            let after = seq.replace(seq.get() + 1);
            let after = if after == 0 { MessageId::ZERO } else { message(after).id };
            Run { epoch: Epoch(1), after, entries: vec![entry(seq.get())] }
        })
        .bench_local_refs(|run| tail.borrow_mut().receive(run));
}

/// Measures a page that was read because of a hole.
#[divan::bench(args = [1, 100])]
fn ingest_page(bencher: Bencher<'_, '_>, messages: u64) {
    bencher
        .counter(ItemsCount::new(messages))
        .with_inputs(|| {
            let mut tail = tail();
            let entries: Vec<Arc<Entry>> = (1..=messages).map(entry).collect();
            let head = Head { id: message(messages).id, epoch: Epoch(1), cut: 0 };
            tail.compare(head, false);
            (tail, Page { entries, head, after: MessageId::ZERO.into(), fork: None, complete: true })
        })
        .bench_local_refs(|(tail, page)| tail.take(page));
}

/// Returns the payload of a WebSocket message that publishes.
fn publish(encoding: Encoding) -> Bytes {
    let frame =
        serde_json::json!({ "op": "publish", "ref": 7, "room": "chat.general", "data": "x".repeat(128) });
    encode::payload(encoding, &frame).unwrap().into()
}

#[divan::bench(args = Encoding::ALL)]
fn decode_publish(bencher: Bencher<'_, '_>, encoding: Encoding) {
    let payload = publish(encoding);
    bencher.bench(|| Frames::of(encoding, black_box(&payload).clone()).map(|mut frames| frames.next()));
}

#[divan::bench(args = Encoding::ALL)]
fn encode_message(bencher: Bencher<'_, '_>, encoding: Encoding) {
    let message = message(1);
    bencher.bench(|| encode::message(encoding, black_box(&message)));
}

/// A socket that accepts everything, without a system call.
struct Nowhere;

impl Sink for Nowhere {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn shut(&self) {}

    fn delivered(&self, _message: Timed) {}
}

/// Measures one message to `members` connections. Its frame is encoded once and shared. (For more members,
/// tasks would take a part.)
#[divan::bench(args = [1, 10, 100])]
fn fan_out(bencher: Bencher<'_, '_>, members: usize) {
    let queues: Vec<Arc<SendQueue>> =
        (0..members).map(|_| Arc::new(SendQueue::to(Nowhere, 256 * 1024, 1))).collect();
    bencher.counter(ItemsCount::new(members)).with_inputs(|| entry(1)).bench_refs(|entry| {
        let mut writes = WriteBatch::default();
        for queue in &queues {
            let bytes = entry.encoded(Encoding::Json).message().clone();
            assert!(writes.offer(queue, Part { bytes, timed: None }));
        }
    });
}

/// Measures whether a token allows a room that the last of `patterns` patterns matches.
#[divan::bench(args = [1, 10, 100])]
fn grants(bencher: Bencher<'_, '_>, patterns: usize) {
    let rooms: RoomGrants = (0..patterns)
        .map(|index| (format!("team-{index:03}.*").parse().unwrap(), vec![Permission::Read]))
        .collect();
    let grants = Grants::from(rooms);
    let room: RoomName = format!("team-{:03}.general", patterns - 1).parse().unwrap();
    let user: UserId = "ann".parse().unwrap();
    assert!(grants.allows(&room, &user, Permission::Read));
    bencher.bench(|| grants.allows(black_box(&room), &user, Permission::Read));
}
