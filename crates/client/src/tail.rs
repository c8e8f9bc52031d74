//! Following a room: one subscription that survives reconnects, and delivers each message once, in order, or
//! the gap in its place.

use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use roomlog_protocol::request::Start;
use roomlog_protocol::{MessageId, RoomName, SubscriptionName};

use super::connection::Connection;
use super::driver::Command;
use super::follower::{Ends, Follower, RESUME};
use super::types::Message;
use super::{Error, Gap};

/// The room to follow, and the options of the subscription.
#[derive(Debug, Clone)]
pub struct TailOptions {
    /// The room.
    pub room: RoomName,
    /// The start of delivery. Without it, a durable subscription continues at its position, and any other
    /// starts with new messages.
    pub start: Option<Start>,
    /// The name of a durable subscription. The server keeps its position, which moves with [`Tail::ack`].
    pub durable: Option<SubscriptionName>,
}

impl TailOptions {
    /// Options to follow the new messages of a room.
    pub fn new(room: RoomName) -> Self {
        Self { room, start: None, durable: None }
    }
}

/// An event of a [`Tail`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The subscription is confirmed, for the first time or again.
    Subscribed {
        /// The id after which delivery continues.
        position: MessageId,
        /// The room's newest id.
        head: MessageId,
    },
    /// The next message.
    Message(Message),
    /// Messages are lost here.
    Gap(Gap),
    /// All messages up to this id have been delivered. Later ones are live.
    Live(MessageId),
    /// The connection is lost, and will be established again.
    Lost {
        /// The cause.
        error: Error,
        /// Time until the next attempt.
        retry_in: Duration,
    },
}

/// A followed room. Ask for the [`next`](Self::next) event in a loop. Up to 1000 events wait. If they are
/// more, the subscription pauses and continues automatically, without a loss. Dropping a tail ends its
/// subscription.
#[derive(Debug)]
pub struct Tail {
    connection: Connection,
    options: TailOptions,
    ends: Ends,
    id: Uuid,
    owns_connection: bool,
}

impl Tail {
    pub(super) async fn open(
        connection: Connection,
        options: TailOptions,
        is_patient: bool,
    ) -> Result<Self, Error> {
        let (follower, ends) = Follower::new(options.clone(), is_patient);
        let id = follower.id;
        let command = Command::Follow(Box::new(follower));
        connection.commands.send(command).await.map_err(|_| Error::closed())?;
        // Dropped from here on, it ends its subscription.
        let mut tail = Self { connection, options, ends, id, owns_connection: !is_patient };
        (&mut tail.ends.first).await.map_err(|_| Error::closed())??;
        Ok(tail)
    }

    /// Returns the next event. After a reconnect, delivery continues after the events that wait. Cancelling it
    /// loses no event.
    ///
    /// # Errors
    /// Problems that reconnecting cannot fix, such as a revoked token or a durable subscription that was
    /// taken over. The tail has then ended.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let Some(event) = self.ends.events.recv().await else {
            let error = (&mut self.ends.end).await.unwrap_or_else(|_| Error::closed());
            self.ends.end = ended(error.clone());
            return Err(error);
        };
        if self.ends.events.len() == RESUME {
            self.connection.wake.notify_one();
        }
        Ok(event)
    }

    /// Notes that all messages up to this id are handled, and notifies the server in the background. Has an
    /// effect on durable subscriptions only.
    pub fn ack(&mut self, id: MessageId) {
        let moves = |last: &mut Option<MessageId>| {
            let is_new = *last != Some(id);
            *last = Some(id);
            is_new
        };
        if self.options.durable.is_some() && self.ends.acknowledged.send_if_modified(moves) {
            self.connection.wake.notify_one();
        }
    }

    /// Ends the subscription, and waits until the position of a durable one is stored.
    ///
    /// # Errors
    /// If that fails. The messages acknowledged last will then be delivered again.
    pub async fn close(self) -> Result<(), Error> {
        let (reply, stored) = oneshot::channel();
        let command = Command::Leave { room: self.options.room.clone(), id: self.id, reply };
        self.connection.commands.send(command).await.map_err(|_| Error::closed())?;
        let stored = stored.await.unwrap_or_else(|_| Err(Error::closed()));
        if self.owns_connection {
            self.connection.close(Duration::ZERO).await;
        }
        stored
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.ends.events.close();
        self.connection.wake.notify_one();
    }
}

/// Returns a receiver that gets this error.
fn ended(error: Error) -> oneshot::Receiver<Error> {
    let (sender, receiver) = oneshot::channel();
    let _ = sender.send(error); // The receiver is here.
    receiver
}
