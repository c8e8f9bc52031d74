//! What waits to be written to one client, and the writing. Bounded: when it is over its limit, what is live falls back to
//! catching up, and the client's own requests wait.
//!
//! Each way in has its bound. Live messages are offered, and refused above the limit. An answer needs a [`Permit`], a page a
//! [`Turn`]: they are given out while there is room, and one pushes one. Of pongs, the newest waits alone. Notices, which cannot
//! wait (`unsubscribed`, `goodbye`, a close), have a reserve above the limit; a client that lets it fill up is cut off.
//!
//! Whoever queues something writes it too, as far as the socket takes it: to wake a task for that costs more than the system
//! call. Only what the socket does not take is left to a task, which ends when all is written.

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
pub use self::writes::{Permit, Turn, Writes};
use crate::tasks;
use crate::telemetry::Timed;

/// Parts in one write. Linux takes 1024; so many fill a socket's buffer in most cases.
const PARTS_AT_ONCE: usize = 64;

/// Bytes of notices above the limit: 256 for each of the most subscriptions that a connection has by default, which may all end
/// at once.
const NOTICES: usize = 4 * 1024 * 1024;

/// Where an outbox writes to.
pub trait Sink: Send + Sync {
    /// Writes what it takes at once, and says how many bytes that were.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now; anything else if it never will again.
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends what it took and holds back, if it does so.
    ///
    /// # Errors
    /// As [`Sink::try_write`].
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Waits until it may take something.
    fn writable(&self) -> BoxFuture<'_, io::Result<()>>;

    /// Ends both directions at once, and forgets what it took and has not sent.
    fn shut(&self);

    /// A message was written whose delivery is timed.
    fn delivered(&self, message: Timed);
}

/// Where what is queued goes.
enum To {
    /// It is written.
    Sink(Box<dyn Sink>),
    /// Somebody takes it. What ends the connection is kept here.
    Taker(Box<dyn Fn() + Send + Sync>),
}

/// The queue of one client's connection.
pub struct Outbox {
    queue: Mutex<Queue>,
    limit: usize,
    /// Most permits that are out at once.
    answers: usize,
    to: To,
    /// Something can be taken, or the end was reached.
    ready: Notify,
    /// There is room again.
    room: Notify,
    /// One reader of the log at a time: each holds a page in memory.
    turn: Semaphore,
}

impl Outbox {
    /// A queue from which somebody takes. It accepts what is live while it holds at most so many bytes, and no answers. `cut` ends
    /// the connection at once.
    pub fn taken(limit: usize, cut: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with(limit, 0, To::Taker(Box::new(cut)))
    }

    /// A queue that writes by itself, and has at most so many answers under way.
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

    /// Sends what cannot wait for room. See [`Writes::notice`].
    pub fn notice(self: &Arc<Self>, bytes: Bytes) {
        if self.add_notice(bytes) == Added::First {
            self.flush();
        }
    }

    /// Answers a ping. Where the answer to an older one still waits, this one goes out instead of it (RFC 6455, section 5.5.3).
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
            // The reader finds out by itself; to the one that delivers, a closed connection is as good as any.
            return Added::Later;
        }
        if queue.bytes > self.limit { Added::Full } else { queue.add(part) }
    }

    /// Queues an answer, and takes its permit back.
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

    /// Writes what is queued, as far as the socket takes it; a task writes the rest.
    fn flush(self: &Arc<Self>) {
        let To::Sink(sink) = &self.to else { return self.ready.notify_one() };
        let mut queue = self.queue.lock();
        if !queue.writing && !self.write(sink.as_ref(), &mut queue) {
            queue.writing = true;
            drop(queue);
            tasks::spawn(self.clone().write_rest());
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
                // A socket that broke is found out at once; what else woke it is looked at in either case.
                biased;
                writable = sink.writable() => writable.is_err(),
                // Perhaps there is nobody to write to any more.
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

    /// Takes nothing more, forgets what is queued, and ends the connection: there is nobody to write to.
    pub fn abandon(&self) {
        self.queue.lock().abandon();
        match &self.to {
            To::Sink(sink) => sink.shut(),
            To::Taker(cut) => cut(),
        }
        self.close();
    }

    /// Whether it was abandoned because its client left too many notices unread.
    pub fn is_overrun(&self) -> bool {
        self.queue.lock().overrun
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

    /// A permit for an answer, if [`Outbox::has_room`] would not wait.
    pub fn has_room_now(self: &Arc<Self>) -> Option<Permit> {
        self.permit(&mut self.queue.lock()).flatten()
    }

    /// Waits while more is queued than the limit, or as many permits are out as there are. `None` if the outbox is closed. For
    /// answers: a client that catches up has pages queued, below the limit, and is still to be answered.
    pub async fn has_room(self: &Arc<Self>) -> Option<Permit> {
        self.until(|queue| self.permit(queue)).await
    }

    /// A permit, or that there is none any more; nothing while there is no room.
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

    /// Waits for a state of the queue.
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

    /// Waits for the right to read a page for this client, and until little is queued. `None` if the outbox is closed.
    pub async fn turn(&self) -> Option<Turn<'_>> {
        let turn = self.turn.acquire().await.ok()?;
        let little = self.limit / 4;
        let open = |queue: &mut Queue| {
            if queue.closed { Some(false) } else { (queue.bytes <= little).then_some(true) }
        };
        self.until(open).await.then_some(Turn(turn))
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

#[cfg(test)]
mod tests;
