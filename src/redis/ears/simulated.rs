//! The subscriptions of a simulated node, on a simulated connection.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Bell, Ear};
use crate::redis::link::Link;
use crate::redis::store::Store;
use crate::simulation::network::Kind;
use crate::tasks;

impl Bell {
    /// Starts receiving.
    pub(crate) fn simulated(node: usize, store: &Store, ear: Ear, stop: CancellationToken) -> Arc<Self> {
        let bell = Arc::new(Self::new(store, ear, stop));
        let slot: Arc<Mutex<_>> = Arc::default();
        let link = Link::simulated(node, Kind::Bell, Some(bell.listener(slot.clone())));
        let shard = bell.shards.of_slot(0).expect("there is one shard");
        let line = bell.line(&shard, link, bell.stop.child_token(), &slot);
        bell.lines.lock().insert(shard.server.clone(), line);
        tasks::spawn(bell.clone().tend());
        bell
    }
}
