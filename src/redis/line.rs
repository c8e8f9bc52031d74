//! The subscriptions on one primary. They are made and ended in the order of the requests, so an earlier
//! listener's departure never cuts off a later one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::{ClusterHash, CustomCommand, Value};
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::ears::Bell;
use super::link::Link;
use super::redirect::Redirect;
use super::shards::Shard;
use crate::log::Unavailable;
use crate::tasks;

/// Maximum number of channels in one pipeline, and of waiting requests.
const AT_ONCE: usize = 256;

/// The place where a channel is subscribed: the line, and which of its successive connections.
#[derive(Default)]
pub struct Place {
    heard: RwLock<Option<(Arc<Line>, u64)>>,
}

impl Place {
    /// Returns true if, as far as is known, the channel is subscribed on this shard: notifications sent there
    /// reach this node.
    pub fn is_at(&self, shard: &Arc<Shard>) -> bool {
        self.heard.read().as_ref().is_some_and(|(line, made)| {
            Arc::ptr_eq(&line.shard, shard) && line.made() == *made && line.link.usable()
        })
    }

    /// Returns true if the channel is subscribed on this line's current connection.
    pub(super) fn is_on(&self, line: &Arc<Line>) -> bool {
        self.heard
            .read()
            .as_ref()
            .is_some_and(|(known, made)| Arc::ptr_eq(known, line) && line.made() == *made)
    }
}

/// A request to a line.
pub(super) enum Ask {
    /// Subscribe to a channel.
    Listen(Listen),
    /// Unsubscribe from the channel of a slot, unless somebody wants it again.
    Leave(u16, String),
}

/// A request to subscribe to a channel.
pub(super) struct Listen {
    pub slot: u16,
    pub channel: String,
    /// Updated when the channel is subscribed.
    pub place: Arc<Place>,
    /// Receives true on success.
    pub done: Option<oneshot::Sender<bool>>,
}

/// The subscriptions of one shard.
pub struct Line {
    pub(super) shard: Arc<Shard>,
    pub(super) link: Arc<Link>,
    asks: mpsc::Sender<Ask>,
    /// The number of the current connection.
    made: AtomicU64,
    repairing: AtomicBool,
    stop: CancellationToken,
}

/// Exclusive right to repair a line.
pub(super) struct Repairing(Arc<Line>);

impl Drop for Repairing {
    fn drop(&mut self) {
        self.0.repairing.store(false, Ordering::Relaxed);
    }
}

impl Line {
    /// Starts serving requests, until `stop`.
    pub(super) fn start(
        bell: &Arc<Bell>,
        shard: Arc<Shard>,
        link: Arc<Link>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (asks, waiting) = mpsc::channel(AT_ONCE);
        let (made, repairing) = (AtomicU64::new(0), AtomicBool::new(false));
        let line = Arc::new(Self { shard, link, asks, made, repairing, stop });
        tasks::spawn(line.clone().work(bell.clone(), waiting));
        line
    }

    /// Ends the line and its connection.
    pub(super) fn end(&self) {
        self.stop.cancel();
    }

    /// Notes that the connection was lost, and all its subscriptions with it.
    pub(super) fn lost(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Queues a request; waits while the queue is full.
    pub(super) async fn ask(&self, ask: Ask) -> Result<(), Unavailable> {
        tokio::select! {
            // A line that has ended accepts no more requests.
            biased;
            () = self.stop.cancelled() => Err(Unavailable),
            asked = self.asks.send(ask) => asked.map_err(|_| Unavailable),
        }
    }

    /// Queues a request. Returns false if the queue is full.
    pub(super) fn try_ask(&self, ask: Ask) -> bool {
        self.asks.try_send(ask).is_ok()
    }

    /// Returns the right to repair the line, unless another task has it.
    pub(super) fn repairing(self: &Arc<Self>) -> Option<Repairing> {
        (!self.repairing.swap(true, Ordering::Relaxed)).then(|| Repairing(self.clone()))
    }

    async fn work(self: Arc<Self>, bell: Arc<Bell>, mut waiting: mpsc::Receiver<Ask>) {
        let mut asks = Vec::new();
        loop {
            tokio::select! {
                // A line that has ended does no more work.
                biased;
                () = self.stop.cancelled() => return,
                _ = waiting.recv_many(&mut asks, AT_ONCE) => {}
            }
            let (mut listen, mut leave) = (Vec::new(), Vec::new());
            for ask in asks.drain(..) {
                match ask {
                    Ask::Listen(wish) => {
                        self.leave(&bell, &mut leave).await;
                        listen.push(wish);
                    }
                    Ask::Leave(slot, channel) => {
                        self.listen(&bell, &mut listen).await;
                        leave.push((slot, channel));
                    }
                }
            }
            self.listen(&bell, &mut listen).await;
            self.leave(&bell, &mut leave).await;
        }
    }

    async fn listen(self: &Arc<Self>, bell: &Arc<Bell>, wishes: &mut Vec<Listen>) {
        if wishes.is_empty() {
            return;
        }
        let made = self.made();
        let heard = if self.link.usable() {
            let channels = wishes.iter().map(|wish| (wish.slot, wish.channel.as_str()));
            Box::pin(self.subscribe(bell, channels.collect())).await
        } else {
            vec![false; wishes.len()]
        };
        for (wish, heard) in wishes.drain(..).zip(heard) {
            if heard {
                *wish.place.heard.write() = Some((self.clone(), made));
            }
            if let Some(done) = wish.done {
                let _nobody_waits_any_more = done.send(heard);
            } else if !heard {
                bell.look_after();
            }
        }
    }

    /// Subscribes to channels with one command each: every command has one reply, which keeps the pipeline in
    /// step. Returns the success of each.
    async fn subscribe(&self, bell: &Bell, channels: Vec<(u16, &str)>) -> Vec<bool> {
        #[cfg(test)]
        if let Some(end) = self.link.end() {
            let replies = end.tune("SSUBSCRIBE", channels.iter().map(|(_, channel)| *channel)).await;
            return replies.iter().map(Result::is_ok).collect();
        }
        let pipeline = self.link.client().pipeline();
        for (slot, channel) in &channels {
            let command = CustomCommand::new_static("SSUBSCRIBE", ClusterHash::Custom(*slot), false);
            if pipeline.custom::<Value, _>(command, vec![*channel]).await.is_err() {
                return vec![false; channels.len()];
            }
        }
        let replies = pipeline.try_all::<Value>().await;
        let mut heard = vec![false; channels.len()];
        let mut said = false;
        for (index, reply) in replies.into_iter().enumerate().take(channels.len()) {
            let Err(error) = reply else {
                heard[index] = true;
                continue;
            };
            match Redirect::read(error.details(), &self.shard.server) {
                Some(Redirect::Moved(slot, server)) => bell.shards().moved(slot, &server),
                _ if said => {}
                _ => {
                    said = true;
                    tracing::warn!(%error, "a bell cannot be heard");
                }
            }
        }
        heard
    }

    async fn leave(&self, bell: &Bell, channels: &mut Vec<(u16, String)>) {
        let mut slots: HashMap<u16, Vec<String>> = HashMap::new();
        for (slot, channel) in channels.drain(..) {
            // A listener that wants it again has its request queued behind this one, or will. A server
            // refuses channels of slots that it does not have, and the client takes that refusal for the
            // reply to the next command.
            let here = bell.shards().of_slot(slot).is_ok_and(|shard| Arc::ptr_eq(&shard, &self.shard));
            if here && !bell.wants(slot, &channel) {
                slots.entry(slot).or_default().push(channel);
            }
        }
        if !self.link.usable() {
            return;
        }
        for channels in slots.into_values() {
            #[cfg(test)]
            if let Some(end) = self.link.end() {
                end.tune("SUNSUBSCRIBE", channels.iter().map(String::as_str)).await;
                continue;
            }
            if let Err(error) = self.link.client().sunsubscribe(channels).await {
                tracing::debug!(%error, "a bell could not be left");
            }
        }
    }
}
