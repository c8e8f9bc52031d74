//! The subscriptions of a node in tests, on a simulated connection.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{OnEvent, PubSub};
use crate::redis::link::Link;
use crate::redis::simulated::Peer;
use crate::redis::store::Store;
use crate::simulation::network::Kind;
use crate::tasks;

impl PubSub {
    pub(crate) fn simulated(
        peer: Peer,
        store: &Store,
        on_event: OnEvent,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let pubsub = Arc::new(Self::new(store, on_event, stop));
        let slot: Arc<Mutex<_>> = Arc::default();
        let link = Link::simulated(peer, Kind::PubSub, Some(pubsub.listener(slot.clone())));
        let shard = pubsub.shards.of_slot(0).expect("there is one shard");
        let line = pubsub.line(&shard, link, pubsub.stop.child_token(), &slot);
        pubsub.lines.lock().insert(shard.server.clone(), line);
        tasks::spawn(pubsub.clone().maintain());
        pubsub
    }
}
