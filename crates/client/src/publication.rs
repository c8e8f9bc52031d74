//! A message on its way: the bound of what may wait, and the outcome for the sender.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

use roomlog_protocol::Failure;

use super::Error;
use super::types::Published;

/// The reason why a message is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The server refused the message, and will refuse it again: `forbidden`, `too_large`, `bad_request` and
    /// others. Messages after it are not held up. It is not stored, unless an earlier attempt stored it before
    /// the token lost the permission.
    #[error(transparent)]
    Refused(Failure),
    /// Too many messages wait already. It was not queued. Publish it again once others are confirmed.
    #[error("the outbox is full: its limit is {messages} messages and {bytes} bytes of data")]
    OutboxFull {
        /// Maximum number of messages that wait, [`ConnectOptions::outbox_messages`].
        ///
        /// [`ConnectOptions::outbox_messages`]: crate::ConnectOptions::outbox_messages
        messages: usize,
        /// Maximum size of their data as JSON in bytes, [`ConnectOptions::outbox_bytes`].
        ///
        /// [`ConnectOptions::outbox_bytes`]: crate::ConnectOptions::outbox_bytes
        bytes: usize,
    },
    /// The connection ended for good before the message was confirmed. It may be stored or not. Publishing it
    /// again with the same key is safe. [`Connection::close`] returns the messages that were queued at the end.
    ///
    /// [`Connection::close`]: crate::Connection::close
    #[error("the message is not confirmed: {0}")]
    Unconfirmed(Error),
}

/// A message on its way, as returned by [`Connection::publish`]. Awaiting it waits until the server has
/// confirmed or refused it. Dropping it does not take the message back.
///
/// [`Connection::publish`]: crate::Connection::publish
#[derive(Debug)]
pub struct Publication {
    key: Uuid,
    state: Waiting,
}

#[derive(Debug)]
enum Waiting {
    Queued(oneshot::Receiver<Result<Published, PublishError>>),
    Over(PublishError),
}

impl Publication {
    /// Returns the key of the message. The message that comes back through the room has the same.
    pub fn key(&self) -> Uuid {
        self.key
    }

    pub(super) fn queued(key: Uuid, outcome: oneshot::Receiver<Result<Published, PublishError>>) -> Self {
        Self { key, state: Waiting::Queued(outcome) }
    }

    pub(super) fn failed(key: Uuid, error: PublishError) -> Self {
        Self { key, state: Waiting::Over(error) }
    }
}

impl Future for Publication {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            Waiting::Queued(outcome) => Pin::new(outcome).poll(cx).map(|outcome| {
                // The sender is only dropped with the runtime.
                outcome.unwrap_or_else(|_| Err(PublishError::Unconfirmed(Error::closed())))
            }),
            Waiting::Over(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

/// The part of a queued message that is not sent: its place in the outbox, and the way to report its outcome.
#[derive(Debug)]
pub(super) struct Ticket {
    outcome: oneshot::Sender<Result<Published, PublishError>>,
    places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Ticket {
    pub fn settle(self, outcome: Result<Published, PublishError>) {
        let Self { outcome: sender, places } = self;
        // First, so that one who sees the outcome finds the place free.
        drop(places);
        let _ = sender.send(outcome); // Nobody may wait for it.
    }
}

/// The bound of an outbox.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    limits: (usize, usize),
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Budget {
    pub fn new(messages: usize, bytes: usize) -> Self {
        let bound = |limit: usize| limit.min(Semaphore::MAX_PERMITS / 2);
        let semaphore = |limit| Arc::new(Semaphore::new(bound(limit)));
        Self { limits: (messages, bytes), messages: semaphore(messages), bytes: semaphore(bytes) }
    }

    /// Takes a place for a message of this size.
    pub fn admit(&self, key: Uuid, size: usize) -> Result<(Ticket, Publication), PublishError> {
        let places = || {
            let message = self.messages.clone().try_acquire_owned().ok()?;
            let bytes = self.bytes.clone().try_acquire_many_owned(size.try_into().ok()?).ok()?;
            Some((message, bytes))
        };
        let places = places().ok_or_else(|| self.full())?;
        let (sender, receiver) = oneshot::channel();
        Ok((Ticket { outcome: sender, places }, Publication::queued(key, receiver)))
    }

    pub fn full(&self) -> PublishError {
        let (messages, bytes) = self.limits;
        PublishError::OutboxFull { messages, bytes }
    }

    /// Returns the maximum number of messages.
    pub fn messages(&self) -> usize {
        // Half of what semaphores can count, so that a channel can have some places more.
        self.limits.0.min(Semaphore::MAX_PERMITS / 2)
    }

    /// Returns the number of messages that wait.
    pub fn waiting(&self) -> usize {
        self.messages() - self.messages.available_permits()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use roomlog_protocol::MessageId;

    fn confirmed(key: Uuid) -> Result<Published, PublishError> {
        Ok(Published { id: MessageId::new(1, 1), key, duplicate: false })
    }

    #[tokio::test]
    async fn places_are_bounded_by_number_and_by_size_and_come_back() {
        let budget = Budget::new(2, 100);
        let key = Uuid::new_v4();
        let full = Err(PublishError::OutboxFull { messages: 2, bytes: 100 });
        let (first, publication) = budget.admit(key, 60).unwrap();
        assert_eq!(budget.admit(key, 41).map(drop), full);
        let (_second, _) = budget.admit(key, 40).unwrap();
        assert_eq!(budget.admit(key, 0).map(drop), full);
        assert_eq!(budget.waiting(), 2);
        first.settle(confirmed(key));
        assert_eq!(publication.await, confirmed(key));
        assert_eq!(budget.waiting(), 1);
        assert!(budget.admit(key, 60).is_ok());
        assert_eq!(budget.admit(key, usize::MAX).map(drop), full);
    }
}
