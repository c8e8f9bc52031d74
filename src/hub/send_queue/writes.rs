//! The ways to queue: a permit for an answer, a turn for a page, and batched writes to many send queues.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::queue::Added;
use super::{Part, SendQueue};
use crate::tasks;

/// Queues that one task writes to in sequence, at about 6 µs each. More are split among tasks, so that
/// nothing else waits long.
pub(super) const WRITES_AT_ONCE: usize = 128;

/// Permission to queue one answer, for which there was room when it was granted. Returned on drop.
#[derive(Debug)]
pub struct Permit(pub(super) Option<Arc<SendQueue>>);

impl Permit {
    pub fn push(mut self, bytes: Bytes) {
        if let Some(queue) = self.0.take()
            && queue.answer(bytes) == Added::First
        {
            queue.flush();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.return_permit(&mut queue.queue.lock());
        }
    }
}

/// The turn to read a page for a client, and to queue it. One reader of a connection has it at a time.
#[derive(Debug)]
pub struct Turn<'a>(#[expect(dead_code, reason = "held until it is dropped")] pub(super) SemaphorePermit<'a>);

/// A batch of writes to many send queues. Messages for one client that come together go out in one system
/// call. Dropping it writes.
#[derive(Debug, Default)]
pub struct WriteBatch(Vec<Arc<SendQueue>>);

impl WriteBatch {
    #[must_use]
    pub fn offer(&mut self, queue: &Arc<SendQueue>, part: Part) -> bool {
        let added = queue.offer(part);
        if added == Added::First {
            self.0.push(queue.clone());
        }
        added != Added::Full
    }

    pub fn push(&mut self, mut permit: Permit, bytes: Bytes) {
        if let Some(queue) = permit.0.take()
            && queue.answer(bytes) == Added::First
        {
            self.0.push(queue);
        }
    }

    pub fn page(&mut self, _turn: Turn<'_>, queue: &Arc<SendQueue>, parts: Vec<Bytes>) {
        if queue.page(parts) == Added::First {
            self.0.push(queue.clone());
        }
    }

    /// Queues a notice, which can neither wait nor be left out. A client is disconnected if its unread
    /// notices fill the reserve.
    pub fn notice(&mut self, queue: &Arc<SendQueue>, bytes: Bytes) {
        if queue.add_notice(bytes) == Added::First {
            self.0.push(queue.clone());
        }
    }

    pub fn join(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

impl Drop for WriteBatch {
    fn drop(&mut self) {
        let mut queues = std::mem::take(&mut self.0);
        while queues.len() > WRITES_AT_ONCE {
            let some = queues.split_off(queues.len() - WRITES_AT_ONCE);
            tasks::spawn(async move { some.iter().for_each(SendQueue::flush) });
        }
        queues.iter().for_each(SendQueue::flush);
    }
}
