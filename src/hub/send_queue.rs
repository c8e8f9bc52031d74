//! The send queue: the bounded queue of bytes for one client, and the writing of it. While it is over its limit,
//! live subscriptions fall back to catching up, and the client's own requests wait.
//!
//! Each kind of item has its own bound:
//! - Live messages are offered, and refused above the limit.
//! - An answer needs a [`Permit`], a page a [`Turn`]. Each is granted while there is room, and allows one
//!   item.
//! - Of pongs, only the newest waits.
//! - Notices (`unsubscribed`, `goodbye`, a close) cannot wait. They have a reserve above the limit, and a
//!   client that lets it fill up is disconnected.
//!
//! The enqueuing task also writes, as much as the socket accepts. Waking a writer task costs more than the
//! system call. A task is started only for the rest, and ends when everything is written.

mod queue;
mod writes;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub use self::queue::Part;
use self::queue::{Added, Queue};
pub use self::writes::WriteBatch;
pub(crate) use self::writes::{Permit, Turn};
use crate::tasks;
use crate::telemetry::Timed;

/// Parts in one write. Linux accepts 1024, but 64 fill a socket's buffer in most cases.
const PARTS_AT_ONCE: usize = 64;

/// Bytes of notices above the limit: 256 for each subscription of a connection with the default maximum,
/// since all may end at once.
const NOTICES: usize = 4 * 1024 * 1024;

pub trait Sink: Send + Sync {
    /// Writes as much as it accepts at once, and returns the number of bytes.
    ///
    /// # Errors
    /// `WouldBlock` if it accepts nothing now; any other error is permanent.
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>>;

    /// Closes both directions at once, and drops what it accepted but has not sent.
    fn shut(&self);

    fn delivered(&self, message: Timed);
}

enum To {
    Sink(Box<dyn Sink>),
    /// A caller takes the parts. The function ends the connection.
    Taker(Box<dyn Fn() + Send + Sync>),
}

pub struct SendQueue {
    queue: Mutex<Queue>,
    limit: usize,
    answers: usize,
    to: To,
    ready: Notify,
    room: Notify,
    /// Allows one reader of the log at a time, since each holds a page in memory.
    turn: Semaphore,
}

impl SendQueue {
    /// Creates a queue from which a caller takes the parts. It accepts live messages while it holds at most
    /// `limit` bytes, and no answers. `cut` ends the connection at once.
    pub fn taken(limit: usize, cut: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with(limit, 0, To::Taker(Box::new(cut)))
    }

    /// Creates a queue that writes to `sink` itself, with at most `answers` answers in progress.
    pub fn to(sink: impl Sink + 'static, limit: usize, answers: usize) -> Self {
        Self::with(limit, answers, To::Sink(Box::new(sink)))
    }

    fn with(limit: usize, answers: usize, to: To) -> Self {
        Self {
            queue: Mutex::default(),
            limit,
            answers,
            to,
            ready: Notify::new(),
            room: Notify::new(),
            turn: Semaphore::new(1),
        }
    }

    /// Sends a notice, which cannot wait for room. See [`WriteBatch::notice`].
    pub fn notice(self: &Arc<Self>, bytes: Bytes) {
        if self.add_notice(bytes) == Added::First {
            self.flush();
        }
    }

    /// Answers a ping. Replaces the answer to an older one that is still queued (RFC 6455, section 5.5.3).
    pub fn pong(self: &Arc<Self>, bytes: Bytes) {
        let added = {
            let mut queue = self.queue.lock();
            if queue.closed { Added::Later } else { queue.pong(bytes) }
        };
        if added == Added::First {
            self.flush();
        }
    }

    fn offer(&self, part: Part) -> Added {
        let mut queue = self.queue.lock();
        if queue.closed {
            // The connection's reader notices the closed socket. For delivery, this counts as accepted.
            return Added::Later;
        }
        if queue.bytes > self.limit { Added::Full } else { queue.add(part) }
    }

    fn answer(&self, bytes: Bytes) -> Added {
        let mut queue = self.queue.lock();
        self.return_permit(&mut queue);
        if queue.closed { Added::Later } else { queue.add(Part { bytes, timed: None }) }
    }

    fn page(&self, parts: Vec<Bytes>) -> Added {
        let mut queue = self.queue.lock();
        let mut added = Added::Later;
        if !queue.closed {
            for bytes in parts {
                if queue.add(Part { bytes, timed: None }) == Added::First {
                    added = Added::First;
                }
            }
        }
        added
    }

    fn add_notice(&self, bytes: Bytes) -> Added {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Added::Later;
        }
        if queue.bytes <= self.limit.saturating_add(NOTICES) {
            return queue.add(Part { bytes, timed: None });
        }
        queue.overrun = true;
        drop(queue);
        self.abandon();
        Added::Later
    }

    fn return_permit(&self, queue: &mut Queue) {
        if queue.permits == self.answers {
            self.room.notify_waiters();
        }
        queue.permits -= 1;
    }

    fn flush(self: &Arc<Self>) {
        let To::Sink(sink) = &self.to else { return self.ready.notify_one() };
        let mut queue = self.queue.lock();
        if !queue.writing && !self.write(sink.as_ref(), &mut queue) {
            queue.writing = true;
            drop(queue);
            tasks::spawn(self.clone().write_rest());
        }
    }

    /// Returns `false` if the socket would block before everything was written.
    fn write(&self, sink: &dyn Sink, queue: &mut Queue) -> bool {
        while !queue.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS_AT_ONCE];
            let parts = queue.parts.iter().zip(&mut slices);
            let count = parts.map(|(part, slice)| *slice = IoSlice::new(&part.bytes)).count();
            match sink.try_write(&slices[..count]) {
                Ok(written) if written > 0 => queue.written(written, sink),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(_) | Err(_) => {
                    // The connection's reader notices the error itself.
                    queue.abandon();
                }
            }
        }
        // An idle connection keeps no memory for a former queue.
        queue.parts = VecDeque::new();
        if sink.flush().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return false;
        }
        self.room.notify_waiters();
        true
    }

    async fn write_rest(self: Arc<Self>) {
        let To::Sink(sink) = &self.to else { return };
        loop {
            let broken = tokio::select! {
                // Check for a broken socket first. The queue is examined in either case.
                biased;
                writable = sink.writable() => writable.is_err(),
                // The send queue may have been abandoned.
                () = self.ready.notified() => false,
            };
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

    /// Takes the next parts to write, at most `most`. Returns an empty list at the end.
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
                        // An idle connection keeps no memory for a former queue.
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

    /// Accepts nothing more. Queued parts are still written.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.ready.notify_one();
        self.room.notify_waiters();
    }

    /// Accepts nothing more, drops the queue, and ends the connection at once.
    pub fn abandon(&self) {
        self.queue.lock().abandon();
        match &self.to {
            To::Sink(sink) => sink.shut(),
            To::Taker(cut) => cut(),
        }
        self.close();
    }

    pub fn is_overrun(&self) -> bool {
        self.queue.lock().overrun
    }

    pub async fn written(&self) {
        self.until(|queue| (queue.parts.is_empty() && !queue.writing).then_some(())).await;
    }

    /// Returns whether anything is queued or being written.
    pub fn is_waiting(&self) -> bool {
        let queue = self.queue.lock();
        queue.bytes > 0 || queue.writing
    }

    pub fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    pub fn has_room_now(self: &Arc<Self>) -> Option<Permit> {
        self.permit(&mut self.queue.lock()).flatten()
    }

    /// Waits for a permit for an answer, while the queue is over the limit or all permits are out. Returns
    /// `None` if the send queue is closed. A client that catches up has pages queued, below the limit, and
    /// still gets its answers.
    pub async fn has_room(self: &Arc<Self>) -> Option<Permit> {
        self.until(|queue| self.permit(queue)).await
    }

    /// Returns a permit, `Some(None)` if the send queue is closed, or `None` while there is no room.
    fn permit(self: &Arc<Self>, queue: &mut Queue) -> Option<Option<Permit>> {
        if queue.closed {
            return Some(None);
        }
        if queue.bytes > self.limit || queue.permits >= self.answers {
            return None;
        }
        queue.permits += 1;
        Some(Some(Permit(Some(self.clone()))))
    }

    async fn until<T>(&self, state: impl Fn(&mut Queue) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.room.notified());
            changed.as_mut().enable();
            if let Some(reached) = state(&mut self.queue.lock()) {
                return reached;
            }
            changed.await;
        }
    }

    /// Waits for the turn to read a page for this client, and until little is queued. Returns `None` if the
    /// send queue is closed.
    pub async fn turn(&self) -> Option<Turn<'_>> {
        let turn = self.turn.acquire().await.ok()?;
        let little = self.limit / 4;
        let open = |queue: &mut Queue| {
            if queue.closed { Some(false) } else { (queue.bytes <= little).then_some(true) }
        };
        self.until(open).await.then_some(Turn(turn))
    }
}

impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendQueue")
            .field("queue", &self.queue)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
