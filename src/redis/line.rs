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

use super::link::Link;
use super::pubsub::PubSub;
use super::redirect::Redirect;
use super::shards::Shard;
use crate::log::Unavailable;
use crate::tasks;

const AT_ONCE: usize = 256;

/// The place where a channel is subscribed: the line, and which of its successive connections.
#[derive(Default)]
pub struct Place {
    subscribed: RwLock<Option<(Arc<Line>, u64)>>,
}

impl Place {
    /// Returns true if, as far as is known, the channel is subscribed on this shard: notifications sent there
    /// reach this node.
    pub fn is_at(&self, shard: &Arc<Shard>) -> bool {
        self.subscribed.read().as_ref().is_some_and(|(line, made)| {
            Arc::ptr_eq(&line.shard, shard) && line.made() == *made && line.link.usable()
        })
    }

    /// Returns true if the channel is subscribed on this line's current connection.
    pub(super) fn is_on(&self, line: &Arc<Line>) -> bool {
        self.subscribed
            .read()
            .as_ref()
            .is_some_and(|(known, made)| Arc::ptr_eq(known, line) && line.made() == *made)
    }
}

pub(super) enum Request {
    Subscribe(Subscribe),
    /// Unsubscribe from the channel of a slot, unless somebody wants it again.
    Unsubscribe(u16, String),
}

pub(super) struct Subscribe {
    pub slot: u16,
    pub channel: String,
    /// Updated when the channel is subscribed.
    pub place: Arc<Place>,
    /// Receives true on success.
    pub done: Option<oneshot::Sender<bool>>,
}

pub(super) struct Line {
    pub(super) shard: Arc<Shard>,
    pub(super) link: Arc<Link>,
    requests: mpsc::Sender<Request>,
    made: AtomicU64,
    repairing: AtomicBool,
    stop: CancellationToken,
}

pub(super) struct Repairing(Arc<Line>);

impl Drop for Repairing {
    fn drop(&mut self) {
        self.0.repairing.store(false, Ordering::Relaxed);
    }
}

impl Line {
    pub(super) fn start(
        pubsub: &Arc<PubSub>,
        shard: Arc<Shard>,
        link: Arc<Link>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (requests, waiting) = mpsc::channel(AT_ONCE);
        let (made, repairing) = (AtomicU64::new(0), AtomicBool::new(false));
        let line = Arc::new(Self { shard, link, requests, made, repairing, stop });
        tasks::spawn(line.clone().work(pubsub.clone(), waiting));
        line
    }

    pub(super) fn end(&self) {
        self.stop.cancel();
    }

    pub(super) fn lost(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Queues a request; waits while the queue is full.
    pub(super) async fn send(&self, request: Request) -> Result<(), Unavailable> {
        tokio::select! {
            // A line that has ended accepts no more requests.
            biased;
            () = self.stop.cancelled() => Err(Unavailable),
            asked = self.requests.send(request) => asked.map_err(|_| Unavailable),
        }
    }

    /// Queues a request. Returns false if the queue is full.
    pub(super) fn try_send(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Returns the right to repair the line, unless another task has it.
    pub(super) fn repairing(self: &Arc<Self>) -> Option<Repairing> {
        (!self.repairing.swap(true, Ordering::Relaxed)).then(|| Repairing(self.clone()))
    }

    async fn work(self: Arc<Self>, pubsub: Arc<PubSub>, mut waiting: mpsc::Receiver<Request>) {
        let mut requests = Vec::new();
        loop {
            tokio::select! {
                // A line that has ended does no more work.
                biased;
                () = self.stop.cancelled() => return,
                _ = waiting.recv_many(&mut requests, AT_ONCE) => {}
            }
            let (mut subscribes, mut unsubscribes) = (Vec::new(), Vec::new());
            for request in requests.drain(..) {
                match request {
                    Request::Subscribe(request) => {
                        self.unsubscribe(&pubsub, &mut unsubscribes).await;
                        subscribes.push(request);
                    }
                    Request::Unsubscribe(slot, channel) => {
                        self.settle(&pubsub, &mut subscribes).await;
                        unsubscribes.push((slot, channel));
                    }
                }
            }
            self.settle(&pubsub, &mut subscribes).await;
            self.unsubscribe(&pubsub, &mut unsubscribes).await;
        }
    }

    async fn settle(self: &Arc<Self>, pubsub: &Arc<PubSub>, subscribes: &mut Vec<Subscribe>) {
        if subscribes.is_empty() {
            return;
        }
        let made = self.made();
        let subscribed = if self.link.usable() {
            let channels = subscribes.iter().map(|request| (request.slot, request.channel.as_str()));
            Box::pin(self.subscribe(pubsub, channels.collect())).await
        } else {
            vec![false; subscribes.len()]
        };
        for (request, subscribed) in subscribes.drain(..).zip(subscribed) {
            if subscribed {
                *request.place.subscribed.write() = Some((self.clone(), made));
            }
            if let Some(done) = request.done {
                let _ = done.send(subscribed); // The receiver may be gone.
            } else if !subscribed {
                pubsub.request_check();
            }
        }
    }

    /// Subscribes to channels with one command each: every command has one reply, which keeps the pipeline in
    /// step. Returns the success of each.
    async fn subscribe(&self, pubsub: &PubSub, channels: Vec<(u16, &str)>) -> Vec<bool> {
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
        let mut subscribed = vec![false; channels.len()];
        let mut warned = false;
        for (index, reply) in replies.into_iter().enumerate().take(channels.len()) {
            let Err(error) = reply else {
                subscribed[index] = true;
                continue;
            };
            match Redirect::read(error.details(), &self.shard.server) {
                Some(Redirect::Moved(slot, server)) => pubsub.shards().moved(slot, &server),
                _ if warned => {}
                _ => {
                    warned = true;
                    tracing::warn!(%error, "a channel cannot be subscribed to");
                }
            }
        }
        subscribed
    }

    async fn unsubscribe(&self, pubsub: &PubSub, channels: &mut Vec<(u16, String)>) {
        let mut slots: HashMap<u16, Vec<String>> = HashMap::new();
        for (slot, channel) in channels.drain(..) {
            // A listener that wants it again has its request queued behind this one, or will. A server
            // refuses channels of slots that it does not have, and the client takes that refusal for the
            // reply to the next command.
            let here = pubsub.shards().of_slot(slot).is_ok_and(|shard| Arc::ptr_eq(&shard, &self.shard));
            if here && !pubsub.wants(slot, &channel) {
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
                tracing::debug!(%error, "a channel could not be unsubscribed from");
            }
        }
    }
}
