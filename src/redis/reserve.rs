//! The reserve below Redis's memory limit: a node that knows of a nearly full Redis adds no messages and no new durable
//! subscriptions there, so that acknowledgements, probes, deletions and operators still have room.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use fred::interfaces::{ClientLike, ClusterInterface};
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use fred::util::redis_keyslot;
use parking_lot::RwLock;

use super::inspect::primaries;
use super::store::Store;
use crate::log::Unavailable;
use crate::protocol::RoomName;

/// The share of `maxmemory`, in percent, from which Redis counts as full.
const FULL_PERCENT: u64 = 95;

/// Which primaries are full, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// Whether any is: all that a publish looks at, as long as none is.
    any: AtomicBool,
    full: RwLock<HashSet<Option<Server>>>,
}

impl Reserve {
    fn set(&self, server: Option<Server>, is_full: bool) -> bool {
        let mut full = self.full.write();
        let changed = if is_full { full.insert(server) } else { full.remove(&server) };
        self.any.store(!full.is_empty(), Ordering::Relaxed);
        changed
    }
}

impl Store {
    /// Whether the Redis of a room is nearly full, as [`Store::measure_memory`] found it last.
    pub fn is_full(&self, room: &RoomName) -> bool {
        if !self.reserve.any.load(Ordering::Relaxed) {
            return false;
        }
        let slot = redis_keyslot(room.as_str().as_bytes());
        let state = self.any_client().ok().and_then(|client| client.cached_cluster_state());
        let server = state.and_then(|state| state.get_server(slot).cloned());
        self.reserve.full.read().contains(&server)
    }

    /// Asks each primary how full it is, each for itself: one that does not answer keeps its last state. Whether any is full.
    ///
    /// # Errors
    /// If no Redis can be reached.
    pub async fn measure_memory(&self) -> Result<bool, Unavailable> {
        let client = self.any_client()?;
        let mut servers: Vec<Option<Server>> = primaries(&client).into_iter().map(Some).collect();
        if servers.is_empty() {
            servers.push(None);
        } else {
            self.reserve.full.write().retain(|server| servers.contains(server));
        }
        let asked = servers.into_iter().map(|server| {
            let client = client.clone();
            async move {
                let info = CustomCommand::new_static("INFO", ClusterHash::Random, false);
                let args = vec![Value::from("memory")];
                let reply: Result<String, _> = match &server {
                    Some(server) => client.with_cluster_node(server).custom(info, args).await,
                    None => client.custom(info, args).await,
                };
                (server, reply)
            }
        });
        for (server, reply) in futures_util::future::join_all(asked).await {
            let Ok(info) = reply else { continue };
            let (name, is_full) = (server.as_ref().map(ToString::to_string), is_nearly_full(&info));
            if self.reserve.set(server, is_full) && is_full {
                tracing::warn!(
                    server = name,
                    "Redis is nearly full: messages and new durable subscriptions are refused until it has room again"
                );
            } else if !is_full {
                tracing::debug!(server = name, "Redis has room");
            }
        }
        Ok(self.reserve.any.load(Ordering::Relaxed))
    }
}

/// Whether the text of `INFO memory` tells of a Redis that is near the limit at which it refuses writes. One that evicts has
/// no such limit.
fn is_nearly_full(info: &str) -> bool {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
    };
    let number = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let used = number("used_memory").saturating_sub(number("mem_not_counted_for_evict"));
    let limit = number("maxmemory");
    field("maxmemory_policy") == Some("noeviction")
        && limit > 0
        && u128::from(used) * 100 >= u128::from(limit) * u128::from(FULL_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::is_nearly_full;

    #[test]
    fn redis_is_full_from_95_percent_of_its_limit_on_if_it_refuses_then() {
        let info = |used: u64, apart: u64, limit: u64, policy: &str| {
            is_nearly_full(&format!(
                "# Memory\r\nused_memory:{used}\r\nused_memory_rss:9\r\nmaxmemory:{limit}\r\n\
                 maxmemory_human:1M\r\nmaxmemory_policy:{policy}\r\nmem_not_counted_for_evict:{apart}\r\n"
            ))
        };
        assert!(info(950, 0, 1000, "noeviction"));
        assert!(!info(949, 0, 1000, "noeviction"));
        assert!(!info(950, 1, 1000, "noeviction"));
        assert!(!info(1000, 0, 0, "noeviction"));
        assert!(!info(1000, 0, 1000, "allkeys-lru"));
        assert!(!is_nearly_full("denied"));
    }
}
