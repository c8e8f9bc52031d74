//! The handle of a connection: what an application does with it. The connection itself is in `driver.rs`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use roomlog_protocol::RoomName;
use roomlog_protocol::request::Start;

use super::client::Client;
use super::driver::{Command, Dialing, Driver, Remote};
use super::outbox::Entry;
use super::publication::{Budget, Publication, PublishError};
use super::socket::Socket;
use super::tail::{Tail, TailOptions};
use super::types::NewMessage;
use super::{Error, backoff::Backoff};

/// Room for commands other than messages, whose number is bounded by the outbox.
const COMMANDS: usize = 64;

/// Options of a connection. The defaults suit production.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Maximum number of messages that wait to be confirmed. 1000 by default.
    pub outbox_messages: usize,
    /// Maximum size of their data as JSON, in bytes. 16 MiB by default.
    pub outbox_bytes: usize,
    /// Maximum pause before the first reconnect. It doubles with each failed attempt. 500 ms by default.
    pub first_pause: Duration,
    /// Maximum pause before any reconnect. 20 s by default.
    pub longest_pause: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            outbox_messages: 1000,
            outbox_bytes: 16 << 20,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
        }
    }
}

/// The state of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is being established.
    Connecting,
    /// The server has accepted the token.
    Connected,
    /// It was lost, or could not be established. The next attempt follows.
    Waiting {
        /// The cause.
        error: Error,
        /// Time between the loss and the next attempt.
        retry_in: Duration,
    },
    /// It has ended for good: the client closed it, or the token was revoked, or has expired and cannot be
    /// renewed.
    Ended(Error),
}

/// A WebSocket connection that is established again whenever it is lost, until the server refuses the token
/// for good. Publishing and following rooms share it. Cheap to clone.
///
/// When all clones, [rooms](RoomHandle) and [tails](Tail) are dropped, the messages that wait are sent for up
/// to 10 s, as long as the Tokio runtime lasts. [`close`](Self::close) tells which were not confirmed.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) wake: Arc<Notify>,
    state: watch::Receiver<State>,
    budget: Budget,
}

impl Connection {
    pub(super) fn open(client: Client, options: ConnectOptions, is_patient: bool) -> Self {
        let (tokens, url) = (client.tokens.clone(), client.base.to_string());
        let dial = Box::new(move || -> Dialing {
            let client = client.clone();
            Box::pin(async move { Socket::open(&client).await })
        });
        Self::to(Remote { dial, tokens, url }, options, is_patient)
    }

    /// Connects to a server. `is_patient` says whether the first attempt may be repeated.
    pub(super) fn to(remote: Remote, options: ConnectOptions, is_patient: bool) -> Self {
        let ConnectOptions { outbox_messages, outbox_bytes, first_pause, longest_pause } = options;
        let budget = Budget::new(outbox_messages, outbox_bytes);
        let (commands, commands_end) = mpsc::channel(budget.messages() + COMMANDS);
        let (state_end, state) = watch::channel(State::Connecting);
        let wake = Arc::new(Notify::new());
        let backoff = Backoff::new(first_pause, longest_pause);
        let driver = Driver::new(remote, commands_end, wake.clone(), state_end, backoff, is_patient);
        tokio::spawn(driver.run());
        Self { commands, wake, state, budget }
    }

    /// Returns a handle of a room.
    pub fn room(&self, room: RoomName) -> RoomHandle {
        RoomHandle { connection: self.clone(), room }
    }

    /// Queues a message, and returns its outcome as a future. It is queued even if the future is never
    /// awaited. Messages of a room are stored in the order of these calls.
    ///
    /// The outcome is a [`PublishError`] if the server refuses the message, if the outbox is full, or if the
    /// connection ends for good.
    pub fn publish(&self, message: NewMessage) -> Publication {
        let (key, entry) = (message.key, Entry::of(&message));
        if let State::Ended(error) = &*self.state.borrow() {
            return Publication::failed(key, PublishError::Unconfirmed(error.clone()));
        }
        match self.budget.admit(key, entry.size()) {
            Ok((ticket, publication)) => {
                let command = Command::Publish { room: message.room, entry, ticket };
                match self.commands.try_send(command) {
                    Ok(()) => publication,
                    // Only if very many tails are opened at this moment.
                    Err(mpsc::error::TrySendError::Full(_)) => Publication::failed(key, self.budget.full()),
                    Err(mpsc::error::TrySendError::Closed(_)) => {
                        Publication::failed(key, PublishError::Unconfirmed(Error::closed()))
                    }
                }
            }
            Err(error) => Publication::failed(key, error),
        }
    }

    /// Returns the number of messages that are neither confirmed nor refused.
    pub fn waiting(&self) -> usize {
        self.budget.waiting()
    }

    /// Follows a room. Returns once the server has confirmed the subscription, however long that takes. A
    /// connection follows a room once: the new tail ends one that follows it already, with the code
    /// `replaced`.
    ///
    /// # Errors
    /// A final refusal of the server, or the end of the connection.
    pub async fn tail(&self, options: TailOptions) -> Result<Tail, Error> {
        Tail::open(self.clone(), options, true).await
    }

    /// Returns the current state.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until the server has accepted the token.
    ///
    /// # Errors
    /// The reason for which the connection has ended for good.
    pub async fn connected(&self) -> Result<(), Error> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| matches!(state, State::Connected | State::Ended(_))).await;
        match settled.as_deref() {
            Ok(State::Ended(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            // The runtime is shutting down.
            Err(_) => Err(Error::closed()),
        }
    }

    /// Closes the connection for all its clones, rooms and tails. Messages that wait are sent first, for at
    /// most `within`. Returns those that are not confirmed by then, in the order of each room. They may be
    /// stored nevertheless: publish them again over another connection, with the keys that they have.
    ///
    /// If the connection has ended for another reason, this returns what was not confirmed by then.
    pub async fn close(&self, within: Duration) -> Vec<NewMessage> {
        let (reply, unconfirmed) = oneshot::channel();
        let deadline = Instant::now() + within;
        if self.commands.send(Command::Close { deadline, reply }).await.is_err() {
            return Vec::new();
        }
        unconfirmed.await.unwrap_or_default()
    }
}

/// A room as seen over a [`Connection`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    connection: Connection,
    room: RoomName,
}

impl RoomHandle {
    /// Returns the name of the room.
    pub fn name(&self) -> &RoomName {
        &self.room
    }

    /// Queues a message of the default type, with a new key. See [`Connection::publish`].
    pub fn publish(&self, data: impl Into<Value>) -> Publication {
        self.connection.publish(NewMessage::new(self.room.clone(), data.into()))
    }

    /// Follows the room from this start, or its new messages only. See [`Connection::tail`].
    ///
    /// # Errors
    /// A final refusal of the server, or the end of the connection.
    pub async fn tail(&self, start: Option<Start>) -> Result<Tail, Error> {
        self.connection.tail(TailOptions { start, ..TailOptions::new(self.room.clone()) }).await
    }
}
