//! The map of slots to primaries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fred::types::config::Server;

use super::shards::Shard;
use super::topology::{SLOTS, Topology};

#[derive(Default)]
pub struct Map {
    pub(super) epoch: u64,
    /// For each slot, the index of its shard in `shards`.
    pub(super) slots: Vec<Option<u16>>,
    pub(super) shards: Vec<Arc<Shard>>,
}

impl Map {
    pub fn of_slot(&self, slot: u16) -> Option<&Arc<Shard>> {
        self.slots.get(usize::from(slot)).copied().flatten().and_then(|at| self.shards.get(usize::from(at)))
    }

    /// The shards that have slots, in the order of their addresses.
    pub fn serving(&self) -> Vec<Arc<Shard>> {
        let mut serves = vec![false; self.shards.len()];
        for at in self.slots.iter().flatten() {
            serves[usize::from(*at)] = true;
        }
        let mut serving: Vec<_> = self
            .shards
            .iter()
            .zip(serves)
            .filter(|(_, serves)| *serves)
            .map(|(shard, _)| shard.clone())
            .collect();
        serving.sort_by_key(|shard| shard.server.to_string());
        serving
    }

    pub fn count(&self) -> usize {
        self.shards.len()
    }

    pub fn numbered(&self, number: usize) -> Option<&Arc<Shard>> {
        self.shards.iter().find(|shard| shard.number == number)
    }

    pub fn queued(&self) -> usize {
        self.shards.iter().map(|shard| shard.queued.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn at(&self, server: &Server) -> Option<&Arc<Shard>> {
        self.shards.iter().find(|shard| shard.server == *server)
    }

    pub(super) fn free_number(&self) -> usize {
        let taken = |number| self.shards.iter().any(|shard| shard.number == number);
        (0..).find(|number| !taken(*number)).unwrap_or_default()
    }

    /// Returns a map in which a shard, which may be new, also has these slots.
    pub(super) fn with(mut self, shard: Arc<Shard>, slots: impl IntoIterator<Item = u16>) -> Self {
        let at = self.shards.iter().position(|known| Arc::ptr_eq(known, &shard)).unwrap_or_else(|| {
            self.shards.push(shard);
            self.shards.len() - 1
        });
        for slot in slots {
            self.slots[usize::from(slot)] = u16::try_from(at).ok();
        }
        self
    }

    pub(super) fn copy(&self) -> Self {
        Self { epoch: self.epoch, slots: self.slots.clone(), shards: self.shards.clone() }
    }
}

pub(super) fn map_of(topology: &Topology, shards: Vec<Arc<Shard>>) -> Map {
    let mut map = Map { epoch: topology.epoch, slots: vec![None; usize::from(SLOTS)], shards };
    for (server, ranges) in &topology.primaries {
        if let Some(shard) = map.at(server).cloned() {
            map = map.with(shard, ranges.iter().cloned().flatten().filter(|slot| *slot < SLOTS));
        }
    }
    map
}

pub(super) fn is_described(map: &Map, topology: &Topology) -> bool {
    let served: usize =
        topology.primaries.iter().flat_map(|(_, ranges)| ranges).map(ExactSizeIterator::len).sum();
    map.epoch == topology.epoch
        && map.slots.iter().flatten().count() == served
        && topology.primaries.iter().all(|(server, ranges)| {
            ranges
                .iter()
                .cloned()
                .flatten()
                .all(|slot| map.of_slot(slot).is_some_and(|s| s.server == *server))
        })
}
