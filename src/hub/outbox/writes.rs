//! The ways to queue: a permit for an answer, a turn for a page, and batched writes to many outboxes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::queue::Added;
use super::{Outbox, Part};
use crate::tasks;

/// Outboxes that one task writes to in sequence, at about 6 µs each. More are split among tasks, so that
/// nothing else waits long.
pub(super) const WRITES_AT_ONCE: usize = 128;

/// Permission to queue one answer, for which there was room when it was granted. Returned on drop.
#[derive(Debug)]
pub struct Permit(pub(super) Option<Arc<Outbox>>);

impl Permit {
    pub fn push(mut self, bytes: Bytes) {
        if let Some(outbox) = self.0.take()
            && outbox.answer(bytes) == Added::First
        {
            outbox.flush();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(outbox) = &self.0 {
            outbox.return_permit(&mut outbox.queue.lock());
        }
    }
}

/// The turn to read a page for a client, and to queue it. One reader of a connection has it at a time.
#[derive(Debug)]
pub struct Turn<'a>(#[expect(dead_code, reason = "held until it is dropped")] pub(super) SemaphorePermit<'a>);

/// A batch of writes to many outboxes. Messages for one client that come together go out in one system call.
/// Dropping it writes.
#[derive(Debug, Default)]
pub struct Writes(Vec<Arc<Outbox>>);

impl Writes {
    /// Queues a live message, if there is room.
    #[must_use]
    pub fn offer(&mut self, outbox: &Arc<Outbox>, part: Part) -> bool {
        let added = outbox.offer(part);
        if added == Added::First {
            self.0.push(outbox.clone());
        }
        added != Added::Full
    }

    pub fn push(&mut self, mut permit: Permit, bytes: Bytes) {
        if let Some(outbox) = permit.0.take()
            && outbox.answer(bytes) == Added::First
        {
            self.0.push(outbox);
        }
    }

    /// Queues a page for the client whose turn it is.
    pub fn page(&mut self, _turn: Turn<'_>, outbox: &Arc<Outbox>, parts: Vec<Bytes>) {
        if outbox.page(parts) == Added::First {
            self.0.push(outbox.clone());
        }
    }

    /// Queues a notice, which can neither wait nor be left out. A client is disconnected if its unread
    /// notices fill the reserve.
    pub fn notice(&mut self, outbox: &Arc<Outbox>, bytes: Bytes) {
        if outbox.add_notice(bytes) == Added::First {
            self.0.push(outbox.clone());
        }
    }

    /// Adds the writes of another batch.
    pub fn join(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        let mut outboxes = std::mem::take(&mut self.0);
        while outboxes.len() > WRITES_AT_ONCE {
            let some = outboxes.split_off(outboxes.len() - WRITES_AT_ONCE);
            tasks::spawn(async move { some.iter().for_each(Outbox::flush) });
        }
        outboxes.iter().for_each(Outbox::flush);
    }
}
