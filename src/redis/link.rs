//! A supervised connection to one server. It is watched with PINGs, and replaced when it cannot recover.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::{Builder, Message, Value};
use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::dial::{Open, open};
use super::errors::ConnectError;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Consecutive misses after which a connection that claims to be up is considered down.
const MISSES_UNTIL_DOWN: u32 = 2;

/// Consecutive misses after which the client is replaced, and again after each further run of as many.
const MISSES_UNTIL_REBUILD: u32 = 5;

#[derive(Debug)]
pub enum LinkEvent {
    Message(Message),
    /// The connection was re-established: its subscriptions are gone, and messages may be lost.
    Reconnected,
    /// Messages arrived faster than they were taken: some were lost.
    Lagged,
}

/// Handler of a link's events. Must not block.
pub(super) type Listener = Arc<dyn Fn(LinkEvent) + Send + Sync>;

pub struct Link {
    builder: Builder,
    client: RwLock<Client>,
    misses: AtomicU32,
    /// The time of the last reply, or of the client's creation. A server that replies to commands, but not
    /// yet to the PING behind them, is not silent.
    answered: Mutex<Instant>,
    /// The longest time that a blocking command, such as `WAIT`, may take.
    longest_wait: Duration,
    listener: Option<Listener>,
    forwarding: Mutex<Vec<AbortOnDropHandle<()>>>,
    #[cfg(test)]
    simulated: Option<super::simulated::End>,
}

impl Link {
    pub async fn connect(
        builder: Builder,
        longest_wait: Duration,
        listener: Option<Listener>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let open = open(&builder).await?;
        let link = Self::new(builder, open.client.clone(), longest_wait, listener);
        link.listen_to(&open.client);
        tokio::spawn(link.clone().watch(Some(open), stop));
        Ok(link)
    }

    /// Returns a link that connects as soon as the server is reachable, and is not usable until then.
    pub fn start(
        builder: Builder,
        longest_wait: Duration,
        listener: Option<Listener>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let client = builder.build().map_err(|error| ConnectError::new(&error, false))?;
        let link = Self::new(builder, client, longest_wait, listener);
        tokio::spawn(link.clone().watch(None, stop));
        Ok(link)
    }

    fn new(
        builder: Builder,
        client: Client,
        longest_wait: Duration,
        listener: Option<Listener>,
    ) -> Arc<Self> {
        Arc::new(Self {
            builder,
            client: RwLock::new(client),
            misses: AtomicU32::new(0),
            answered: Mutex::new(Instant::now()),
            longest_wait,
            listener,
            forwarding: Mutex::default(),
            #[cfg(test)]
            simulated: None,
        })
    }

    #[cfg(test)]
    pub(super) fn ending_at(end: super::simulated::End, builder: Builder, client: Client) -> Arc<Self> {
        let link =
            Arc::into_inner(Self::new(builder, client, Duration::ZERO, None)).expect("nobody else has it");
        Arc::new(Self { simulated: Some(end), ..link })
    }

    #[cfg(test)]
    pub(super) fn end(&self) -> Option<super::simulated::End> {
        self.simulated.clone()
    }

    pub fn client(&self) -> Client {
        self.client.read().clone()
    }

    /// Returns true if sending has a chance. Failing at once keeps commands for a dead server from piling up
    /// in the client, whose queue is unbounded.
    pub fn usable(&self) -> bool {
        #[cfg(test)]
        if let Some(end) = &self.simulated {
            return end.is_up();
        }
        self.misses.load(Ordering::Relaxed) < MISSES_UNTIL_DOWN && self.client.read().is_connected()
    }

    pub fn answered(&self) {
        *self.answered.lock() = Instant::now();
    }

    async fn watch(self: Arc<Self>, mut connection: Option<Open>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number = 0u64;
        loop {
            let mut ended = false;
            tokio::select! {
                () = stop.cancelled() => break,
                () = task_ended(&mut connection) => ended = true,
                _ = ticks.tick() => {}
            }
            if ended {
                tracing::debug!("the Redis client stopped; replacing it");
                connection = None;
            }
            if connection.is_none() {
                connection = self.rebuild().await;
                continue;
            }
            number += 1;
            match self.ping(number).await {
                Pong::Answered => self.misses.store(0, Ordering::Relaxed),
                // Replies no longer match commands, as after a reply that the client did not expect.
                Pong::OutOfStep => {
                    tracing::warn!("Redis's replies are out of step; connecting again");
                    connection = self.rebuild().await;
                }
                Pong::Missing => {
                    let misses = self.misses.fetch_add(1, Ordering::Relaxed) + 1;
                    let client = self.client();
                    if misses.is_multiple_of(MISSES_UNTIL_REBUILD) {
                        connection = self.rebuild().await.or(connection);
                    } else if misses == MISSES_UNTIL_DOWN && client.is_connected() {
                        tracing::warn!("Redis does not answer; reconnecting");
                        // If this fails, the connection is rebuilt later.
                        let _ = timeout(WATCH_INTERVAL, client.force_reconnection()).await;
                    }
                }
            }
        }
        self.forwarding.lock().clear();
        if connection.is_some() {
            let _ = timeout(WATCH_INTERVAL, self.client().quit()).await; // Best effort: the link is dropped anyway.
        }
    }

    async fn ping(&self, number: u64) -> Pong {
        let (client, expected) = (self.client(), number.to_string());
        match timeout(WATCH_INTERVAL, client.ping::<Value>(Some(expected.clone()))).await {
            Ok(Ok(echo)) if echo.as_str().as_deref() == Some(&expected) => Pong::Answered,
            Ok(Ok(_)) => Pong::OutOfStep,
            // The PING is queued behind other commands, which the server is answering.
            _ if self.answered.lock().elapsed() < self.longest_wait + WATCH_INTERVAL => {
                if client.is_connected() { Pong::Answered } else { Pong::Missing }
            }
            _ => Pong::Missing,
        }
    }

    async fn rebuild(&self) -> Option<Open> {
        match open(&self.builder).await {
            Ok(open) => {
                *self.client.write() = open.client.clone();
                self.misses.store(0, Ordering::Relaxed);
                self.answered();
                self.listen_to(&open.client);
                self.notify(LinkEvent::Reconnected);
                Some(open)
            }
            Err(error) => {
                tracing::debug!(%error, "Redis is unreachable");
                None
            }
        }
    }

    fn notify(&self, event: LinkEvent) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    fn listen_to(&self, client: &Client) {
        let Some(listener) = &self.listener else { return };
        let mut messages = client.message_rx();
        let mut reconnects = client.reconnect_rx();
        let (on_message, on_reconnect) = (listener.clone(), listener.clone());
        let forward = tokio::spawn(async move {
            loop {
                match messages.recv().await {
                    Ok(message) => on_message(LinkEvent::Message(message)),
                    Err(RecvError::Lagged(_)) => on_message(LinkEvent::Lagged),
                    Err(RecvError::Closed) => break,
                }
            }
        });
        let renewed = tokio::spawn(async move {
            while !matches!(reconnects.recv().await, Err(RecvError::Closed)) {
                on_reconnect(LinkEvent::Reconnected);
            }
        });
        *self.forwarding.lock() = [forward, renewed].map(AbortOnDropHandle::new).into();
    }
}

enum Pong {
    Answered,
    OutOfStep,
    Missing,
}

async fn task_ended(connection: &mut Option<Open>) {
    match connection {
        Some(open) => {
            let _ = (&mut open.task).await; // The reason was logged by the task.
        }
        None => std::future::pending().await,
    }
}
