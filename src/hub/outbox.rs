//! What waits to be written to one client, and the writing. Bounded: when it is over its limit, what is live falls back to
//! catching up, and the client's own requests wait.
//!
//! Whoever queues something writes it too, as far as the socket takes it: to wake a task for that costs more than the system
//! call. Only what the socket does not take is left to a task, which ends when all is written.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::telemetry::Timed;

/// Parts in one write. Linux takes 1024; so many fill a socket's buffer in most cases.
const PARTS_AT_ONCE: usize = 64;

/// Outboxes that one task writes to in turn, some 6 µs each; more are shared among tasks, so that nothing else waits for long.
const WRITES_AT_ONCE: usize = 128;

/// Where an outbox writes to.
pub trait Sink: Send + Sync {
    /// Writes what it takes at once, and says how many bytes that were.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now; anything else if it never will again.
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits until it may take something.
    fn writable(&self) -> BoxFuture<'_, io::Result<()>>;

    /// A message was written whose delivery is timed.
    fn delivered(&self, message: Timed);
}

/// Something to be written.
#[derive(Debug, Clone)]
pub struct Part {
    /// The bytes, complete in themselves.
    pub bytes: Bytes,
    /// What is in it, if this is where the delivery's latency is measured.
    pub timed: Option<Timed>,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
enum Added {
    /// Whoever queued it sees to it that it is written.
    First,
    /// Somebody does already.
    Later,
    /// There was no room for it.
    Full,
}

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Part>,
    bytes: usize,
    /// Whether a task writes, or what was taken last may still be on its way.
    writing: bool,
    closed: bool,
}

impl Queue {
    /// So many bytes were written.
    fn written(&mut self, mut count: usize, sink: &dyn Sink) {
        self.bytes -= count;
        while let Some(first) = self.parts.front_mut().filter(|_| count > 0) {
            if count < first.bytes.len() {
                first.bytes.advance(count);
                return;
            }
            count -= first.bytes.len();
            if let Some(timed) = self.parts.pop_front().and_then(|part| part.timed) {
                sink.delivered(timed);
            }
        }
    }

    /// There is nobody to write to.
    fn abandon(&mut self) {
        self.parts.clear();
        self.bytes = 0;
        self.closed = true;
    }
}

/// The queue of one client's connection.
pub struct Outbox {
    queue: Mutex<Queue>,
    limit: usize,
    /// Where it writes; without it, somebody takes.
    sink: Option<Box<dyn Sink>>,
    /// Something can be taken, or the end was reached.
    ready: Notify,
    /// There is room again.
    room: Notify,
    /// One reader of the log at a time: each holds a page in memory.
    turn: Semaphore,
}

impl Outbox {
    /// A queue from which somebody takes. It accepts what is live while it holds at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self::with(limit, None)
    }

    /// A queue that writes by itself.
    pub fn to(sink: impl Sink + 'static, limit: usize) -> Self {
        Self::with(limit, Some(Box::new(sink)))
    }

    fn with(limit: usize, sink: Option<Box<dyn Sink>>) -> Self {
        Self {
            queue: Mutex::default(),
            limit,
            sink,
            ready: Notify::new(),
            room: Notify::new(),
            turn: Semaphore::new(1),
        }
    }

    /// Sends an answer or a page. Whoever calls this waits for room first, so the limit holds but for one part of each.
    pub fn push(self: &Arc<Self>, bytes: Bytes) {
        if self.add(Part { bytes, timed: None }, usize::MAX) == Added::First {
            self.flush();
        }
    }

    fn add(&self, part: Part, limit: usize) -> Added {
        let mut queue = self.queue.lock();
        if queue.closed {
            // The reader finds out by itself; to the one that delivers, a closed connection is as good as any.
            return Added::Later;
        }
        if queue.bytes > limit {
            return Added::Full;
        }
        queue.bytes += part.bytes.len();
        queue.parts.push_back(part);
        if queue.parts.len() == 1 && !queue.writing { Added::First } else { Added::Later }
    }

    /// Writes what is queued, as far as the socket takes it; a task writes the rest.
    fn flush(self: &Arc<Self>) {
        let Some(sink) = &self.sink else { return self.ready.notify_one() };
        let mut queue = self.queue.lock();
        if !queue.writing && !self.write(sink.as_ref(), &mut queue) {
            queue.writing = true;
            drop(queue);
            tokio::spawn(self.clone().write_rest());
        }
    }

    /// Whether all was written that can be.
    fn write(&self, sink: &dyn Sink, queue: &mut Queue) -> bool {
        while !queue.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS_AT_ONCE];
            let parts = queue.parts.iter().zip(&mut slices);
            let count = parts.map(|(part, slice)| *slice = IoSlice::new(&part.bytes)).count();
            match sink.try_write(&slices[..count]) {
                Ok(written) if written > 0 => queue.written(written, sink),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(_) | Err(_) => {
                    // Whoever reads from the socket finds out by itself.
                    queue.abandon();
                }
            }
        }
        // An idle connection keeps no memory for what once waited.
        queue.parts = VecDeque::new();
        self.room.notify_waiters();
        true
    }

    async fn write_rest(self: Arc<Self>) {
        let Some(sink) = &self.sink else { return };
        loop {
            let broken = sink.writable().await.is_err();
            let mut queue = self.queue.lock();
            if broken {
                queue.abandon();
            }
            if self.write(sink.as_ref(), &mut queue) {
                queue.writing = false;
                return;
            }
            if queue.bytes <= self.limit {
                self.room.notify_waiters();
            }
        }
    }

    /// Takes what is to be written next, at most so many parts; nothing at the end.
    pub async fn take(&self, most: usize) -> Vec<Part> {
        loop {
            let ready = self.ready.notified();
            {
                let mut queue = self.queue.lock();
                queue.writing = !queue.parts.is_empty();
                if queue.writing {
                    let count = queue.parts.len().min(most);
                    let parts: Vec<Part> = queue.parts.drain(..count).collect();
                    queue.bytes -= parts.iter().map(|part| part.bytes.len()).sum::<usize>();
                    if queue.parts.is_empty() {
                        // An idle connection keeps no memory for what once waited.
                        queue.parts = VecDeque::new();
                    }
                    if queue.bytes <= self.limit {
                        self.room.notify_waiters();
                    }
                    return parts;
                }
                if queue.closed {
                    return Vec::new();
                }
            }
            ready.await;
        }
    }

    /// Takes nothing more. What is queued is still written.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.ready.notify_one();
        self.room.notify_waiters();
    }

    /// Takes nothing more, and forgets what is queued: there is nobody to write it to.
    pub fn abandon(&self) {
        self.queue.lock().abandon();
        self.close();
    }

    /// Waits until all that is queued has been written.
    pub async fn written(&self) {
        self.until(|queue| (queue.parts.is_empty() && !queue.writing).then_some(())).await;
    }

    /// Whether something waits to be written, or is being written.
    pub fn is_waiting(&self) -> bool {
        let queue = self.queue.lock();
        queue.bytes > 0 || queue.writing
    }

    /// Bytes that wait to be taken.
    pub fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Whether [`Outbox::has_room`] would not wait.
    pub fn has_room_now(&self) -> bool {
        let queue = self.queue.lock();
        !queue.closed && queue.bytes <= self.limit
    }

    /// Waits while more is queued than the limit. `false` if the outbox is closed. For answers: a client that catches up has
    /// pages queued, below the limit, and is still to be answered.
    pub async fn has_room(&self) -> bool {
        self.at_most(self.limit).await
    }

    async fn at_most(&self, bytes: usize) -> bool {
        self.until(|queue| if queue.closed { Some(false) } else { (queue.bytes <= bytes).then_some(true) })
            .await
    }

    /// Waits for a state of the queue.
    async fn until<T>(&self, state: impl Fn(&Queue) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.room.notified());
            changed.as_mut().enable();
            if let Some(reached) = state(&self.queue.lock()) {
                return reached;
            }
            changed.await;
        }
    }

    /// Waits for the right to read a page for this client, and until little is queued. `None` if the outbox is closed.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turn.acquire().await.ok()?;
        self.at_most(self.limit / 4).await.then_some(turn)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("queue", &self.queue)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// What was queued in many outboxes, to be written once all of it is there: messages that come at once for one client go
/// out in one system call. Dropping it writes.
#[derive(Debug, Default)]
pub struct Writes(Vec<Arc<Outbox>>);

impl Writes {
    /// Queues something live, if there is room.
    #[must_use]
    pub fn offer(&mut self, outbox: &Arc<Outbox>, part: Part) -> bool {
        self.add(outbox, part, outbox.limit)
    }

    /// Queues an answer or a page, as [`Outbox::push`].
    pub fn push(&mut self, outbox: &Arc<Outbox>, bytes: Bytes) {
        self.add(outbox, Part { bytes, timed: None }, usize::MAX);
    }

    /// Writes those of the others too.
    pub fn join(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    fn add(&mut self, outbox: &Arc<Outbox>, part: Part, limit: usize) -> bool {
        let added = outbox.add(part, limit);
        if added == Added::First {
            self.0.push(outbox.clone());
        }
        added != Added::Full
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        let mut outboxes = std::mem::take(&mut self.0);
        while outboxes.len() > WRITES_AT_ONCE {
            let some = outboxes.split_off(outboxes.len() - WRITES_AT_ONCE);
            tokio::spawn(async move { some.iter().for_each(Outbox::flush) });
        }
        outboxes.iter().for_each(Outbox::flush);
    }
}

#[cfg(test)]
mod tests;
