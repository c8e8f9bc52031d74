//! The task of a connection: it connects again and again, takes the commands of the handles, and ends.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};
use uuid::Uuid;

use roomlog_protocol::RoomName;

use super::Error;
use super::backoff::{Backoff, chance};
use super::connection::State;
use super::follower::Follower;
use super::outbox::{Entry, Outbox};
use super::publication::{PublishError, Ticket};
use super::socket::{Lost, Remedy, Socket};
use super::token::Tokens;
use super::types::NewMessage;

mod converse;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// Time to send what waits when nobody holds the connection any more.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);

/// Longest time to sleep where nothing is due.
const FOREVER: Duration = Duration::from_secs(86_400);

/// A command of a handle to its connection.
#[derive(Debug)]
pub(super) enum Command {
    /// Publish this message.
    Publish { room: RoomName, entry: Entry, ticket: Ticket },
    /// Follow a room.
    Follow(Box<Follower>),
    /// End a subscription, and report whether its position is stored.
    Leave { room: RoomName, id: Uuid, reply: oneshot::Sender<Result<(), Error>> },
    /// End the connection, and report what is not confirmed.
    Close { deadline: Instant, reply: oneshot::Sender<Vec<NewMessage>> },
}

/// An attempt to connect.
pub(super) type Dialing = Pin<Box<dyn Future<Output = Result<Socket, Lost>> + Send>>;

/// The server to connect to.
pub(super) struct Remote {
    pub dial: Box<dyn Fn() -> Dialing + Send>,
    pub tokens: Tokens,
    /// Its address, for errors.
    pub url: String,
}

/// The task's state.
pub(super) struct Driver {
    remote: Remote,
    commands: mpsc::Receiver<Command>,
    /// Set once no handle is left.
    is_detached: bool,
    wake: Arc<Notify>,
    state: watch::Sender<State>,
    backoff: Backoff,
    /// Set if the first attempt may be repeated.
    is_patient: bool,
    /// Set once the server has accepted a token, until it refuses one.
    is_welcome: bool,
    outbox: Outbox<Ticket>,
    followers: HashMap<RoomName, Follower>,
    /// Set if a follower may have something to send.
    is_woken: bool,
    /// Time at which the next follower has.
    next_due: Option<Instant>,
    /// Time at which the connection ends, whatever waits. It ends before if nothing waits.
    closing: Option<Instant>,
    closers: Vec<oneshot::Sender<Vec<NewMessage>>>,
}

impl Driver {
    pub fn new(
        remote: Remote,
        commands: mpsc::Receiver<Command>,
        wake: Arc<Notify>,
        state: watch::Sender<State>,
        backoff: Backoff,
        is_patient: bool,
    ) -> Self {
        Self {
            remote,
            commands,
            is_detached: false,
            wake,
            state,
            backoff,
            is_patient,
            is_welcome: false,
            outbox: Outbox::new(),
            followers: HashMap::new(),
            is_woken: false,
            next_due: None,
            closing: None,
            closers: Vec::new(),
        }
    }

    pub async fn run(mut self) {
        let error = self.connect_again_and_again().await;
        debug!("the connection to {} has ended: {error}", self.remote.url);
        self.state.send_replace(State::Ended(error.clone()));
        for (_, follower) in self.followers.drain() {
            follower.end(error.clone());
        }
        let mut unconfirmed = Vec::new();
        for (room, entry, ticket) in self.outbox.drain() {
            ticket.settle(Err(PublishError::Unconfirmed(error.clone())));
            unconfirmed.push(entry.into_message(room));
        }
        for closer in self.closers.drain(..) {
            let _ = closer.send(std::mem::take(&mut unconfirmed)); // Nobody may wait for it.
        }
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Publish { room, entry, ticket } => {
                    ticket.settle(Err(PublishError::Unconfirmed(error.clone())));
                    // It was queued at the moment of the end. Later ones do not come here.
                    unconfirmed.push(entry.into_message(room));
                }
                Command::Follow(follower) => follower.end(error.clone()),
                Command::Leave { reply, .. } => drop(reply.send(Err(error.clone()))),
                Command::Close { reply, .. } => drop(reply.send(std::mem::take(&mut unconfirmed))),
            }
        }
    }

    /// Returns why there will be no other connection.
    async fn connect_again_and_again(&mut self) -> Error {
        loop {
            self.state.send_replace(State::Connecting);
            let dialing = (self.remote.dial)();
            let Some(opened) = self.meanwhile(dialing).await else { return Error::closed() };
            let began = Instant::now();
            let lost = match opened {
                Ok(socket) => match self.converse(socket).await {
                    Ok(()) => return Error::closed(),
                    Err(lost) => lost,
                },
                Err(lost) if !self.is_patient => return lost.error,
                Err(lost) => lost,
            };
            self.is_patient = true;
            self.outbox.disconnected();
            if !self.can_go_on(lost.remedy).await {
                return lost.error;
            }
            let retry_in = self.backoff.pause(began.elapsed(), lost.retry_after, chance());
            warn!("not connected to {}: {}; again in {retry_in:.1?}", self.remote.url, lost.error);
            let ended = self.followers.extract_if(|_, follower| !follower.lost(&lost.error, retry_in));
            ended.for_each(|(_, follower)| follower.end(lost.error.clone()));
            self.state.send_replace(State::Waiting { error: lost.error, retry_in });
            if self.meanwhile(sleep(retry_in)).await.is_none() {
                return Error::closed();
            }
        }
    }

    /// Applies the remedy for a loss, and returns whether there is one.
    async fn can_go_on(&mut self, remedy: Remedy) -> bool {
        let is_renewable = self.remote.tokens.is_renewable();
        let was_welcome = self.is_welcome;
        self.is_welcome &= remedy == Remedy::Retry;
        match remedy {
            Remedy::Retry => true,
            Remedy::None => false,
            Remedy::NewToken | Remedy::OtherToken => {
                self.remote.tokens.spent().await;
                is_renewable && (remedy == Remedy::NewToken || was_welcome)
            }
        }
    }

    /// Does some work and takes commands meanwhile. `None` if the connection is to end before.
    async fn meanwhile<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        loop {
            if self.is_over() {
                return None;
            }
            let deadline = self.closing;
            tokio::select! {
                output = &mut work => return Some(output),
                command = self.commands.recv(), if !self.is_detached => self.apply(command),
                () = sleep_until(deadline.unwrap_or_else(|| Instant::now() + FOREVER)) => {}
            }
        }
    }

    /// Returns whether the connection is to end now.
    fn is_over(&self) -> bool {
        self.closing.is_some_and(|deadline| self.outbox.is_empty() || deadline <= Instant::now())
    }

    fn apply(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Publish { room, entry, ticket }) => self.outbox.push(room, entry, ticket),
            Some(Command::Follow(mut follower)) => {
                if *self.state.borrow() == State::Connected {
                    follower.connected(Instant::now());
                }
                if let Some(former) = self.followers.insert(follower.options.room.clone(), *follower) {
                    former.end(replaced());
                }
            }
            Some(Command::Leave { room, id, reply }) => {
                let is_connected = *self.state.borrow() == State::Connected;
                match self.followers.get_mut(&room).filter(|follower| follower.id == id) {
                    Some(follower) if is_connected => follower.leave(reply),
                    Some(follower) if follower.is_acknowledged() => drop(reply.send(Ok(()))),
                    Some(_) => {
                        let cause = "the connection is lost".to_owned();
                        let error = Error::Unreachable { url: self.remote.url.clone(), cause };
                        drop(reply.send(Err(error)));
                    }
                    None => drop(reply.send(Err(replaced()))),
                }
            }
            Some(Command::Close { deadline, reply }) => {
                self.closing = Some(self.closing.map_or(deadline, |before| before.min(deadline)));
                self.closers.push(reply);
            }
            None => {
                self.is_detached = true;
                self.closing.get_or_insert(Instant::now() + FLUSH_WITHIN);
            }
        }
    }
}

fn replaced() -> Error {
    let message = "another tail of this connection follows the room".to_owned();
    Error::Ended { code: "replaced".into(), message }
}
