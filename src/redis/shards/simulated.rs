//! The single shard of a node in tests.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Map, SLOTS, ShardOptions, Shards, Source, shard};
use crate::redis::link::Link;
use crate::redis::simulated::{self, Peer};
use crate::simulation::network::Kind;

impl Shards {
    pub(in crate::redis) fn simulated(peer: Peer, stop: CancellationToken) -> Arc<Self> {
        let dial = simulated::unused().dial;
        let config = dial.target().clone();
        let links = vec![Link::simulated(peer, Kind::Commands, None)];
        let one = shard(simulated::server(), config.clone(), 0, links, Vec::new(), stop.child_token());
        let map = Map { epoch: 0, slots: vec![Some(0); usize::from(SLOTS)], shards: vec![one] };
        Arc::new(Self {
            dial,
            source: Source::Fixed(config),
            options: ShardOptions { clients: 1, wait: None },
            map: RwLock::new(Arc::new(map)),
            changes: watch::Sender::new(0),
            look: Notify::new(),
            turn: AtomicUsize::new(0),
            connections: Arc::default(),
            stop,
        })
    }
}
