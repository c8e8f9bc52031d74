//! What waits to be written to one client. Bounded: when it is over its limit, what is live falls back to catching up, and
//! the client's own requests wait.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::telemetry::Class;

/// The message whose delivery is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// When Redis appended it, in Unix ms.
    pub appended: u64,
    /// Of which class its room is.
    pub class: Class,
}

/// Something to be written.
#[derive(Debug, Clone)]
pub struct Part {
    /// The bytes, complete in themselves.
    pub bytes: Bytes,
    /// What is in it, if this is where the delivery's latency is measured.
    pub timed: Option<Timed>,
}

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Part>,
    bytes: usize,
    /// Whether what was taken last may still be on its way.
    writing: bool,
    closed: bool,
}

/// The queue of one client's connection.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    limit: usize,
    /// Something can be written, or the end was reached.
    ready: Notify,
    /// There is room again.
    room: Notify,
    /// One reader of the log at a time: each holds a page in memory.
    turn: Semaphore,
}

impl Outbox {
    /// A queue that takes what is live while it holds at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::default(),
            limit,
            ready: Notify::new(),
            room: Notify::new(),
            turn: Semaphore::new(1),
        }
    }

    /// Queues an answer or a page. Whoever calls this waits for room first, so the limit holds but for one part of each.
    pub fn push(&self, bytes: Bytes) {
        self.add(Part { bytes, timed: None }, usize::MAX);
    }

    /// Queues something live, if there is room.
    #[must_use]
    pub fn offer(&self, part: Part) -> bool {
        self.add(part, self.limit)
    }

    fn add(&self, part: Part, limit: usize) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            // The reader finds out by itself; to the one that delivers, a closed connection is as good as any.
            return true;
        }
        if queue.bytes > limit {
            return false;
        }
        queue.bytes += part.bytes.len();
        queue.parts.push_back(part);
        drop(queue);
        self.ready.notify_one();
        true
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
        {
            let mut queue = self.queue.lock();
            queue.parts = VecDeque::new();
            queue.bytes = 0;
        }
        self.close();
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

    /// Whether nothing more is taken.
    pub fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Waits while more is queued than the limit. `false` if the outbox is closed. For answers: a client that catches up has
    /// pages queued, below the limit, and is still to be answered.
    pub async fn has_room(&self) -> bool {
        self.at_most(self.limit).await
    }

    async fn at_most(&self, bytes: usize) -> bool {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            {
                let queue = self.queue.lock();
                if queue.closed {
                    return false;
                }
                if queue.bytes <= bytes {
                    return true;
                }
            }
            room.await;
        }
    }

    /// Waits for the right to read a page for this client, and until little is queued. `None` if the outbox is closed.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turn.acquire().await.ok()?;
        self.at_most(self.limit / 4).await.then_some(turn)
    }
}

#[cfg(test)]
mod tests;
