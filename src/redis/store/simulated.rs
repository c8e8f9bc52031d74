//! The store of a node in tests.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Store, StoreOptions};
use crate::config::Config;
use crate::log::Durability;
use crate::redis::due::Notes;
use crate::redis::functions::Functions;
use crate::redis::keys::Keys;
use crate::redis::reserve::Reserve;
use crate::redis::shards::Shards;
use crate::redis::simulated::{COMMAND_TIMEOUT, Peer};
use crate::redis::wire::Wire;
use crate::telemetry::Metrics;

impl Store {
    pub(crate) fn simulated(
        peer: Peer,
        config: &Config,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let options = StoreOptions {
            url: String::new(),
            prefix: config.redis.prefix.clone(),
            clients: 1,
            durability: Durability::Memory,
            command_timeout: COMMAND_TIMEOUT,
            deduplication_window: config.retention.deduplication_window,
        };
        let shards = Shards::simulated(peer, stop);
        let wire = Wire::new(shards.clone(), Functions::default(), None, metrics);
        let keys = Keys::new(&options.prefix);
        Arc::new(Self { shards, wire, keys, options, reserve: Reserve::default(), notes: Notes::default() })
    }
}
