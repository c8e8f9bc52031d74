//! The reserve below Redis's memory limit. When a Redis is nearly full, a node stores no new messages and no
//! new durable subscriptions there. Acknowledgements, probes, deletions and operators keep the rest.

use std::sync::atomic::{AtomicBool, Ordering};

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand};
use futures_util::future::join_all;

use super::store::Store;
use crate::log::Unavailable;
use crate::protocol::RoomName;

/// The share of `maxmemory`, in percent, from which Redis counts as full.
const FULL_PERCENT: u64 = 95;

/// True if any primary is full. A publish checks only this while none is.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    any: AtomicBool,
}

impl Store {
    pub fn is_full(&self, room: &RoomName) -> bool {
        self.reserve.any.load(Ordering::Relaxed)
            && self.shard_of(room).is_ok_and(|shard| shard.full.load(Ordering::Relaxed))
    }

    /// Measures the memory of each primary; one that does not answer keeps its last state. Returns true if
    /// any is full.
    pub async fn measure_memory(&self) -> Result<bool, Unavailable> {
        let shards = self.shards.map().serving();
        let asked = join_all(shards.iter().map(|shard| async {
            let info = CustomCommand::new_static("INFO", ClusterHash::Random, false);
            let reply: Result<String, _> = shard.client()?.custom(info, vec!["memory"]).await;
            let is_full = is_nearly_full(&reply.map_err(|_| Unavailable)?);
            if !shard.full.swap(is_full, Ordering::Relaxed) && is_full {
                tracing::warn!(
                    server = %shard.server,
                    "Redis is nearly full: messages and new durable subscriptions are refused until it has room again"
                );
            }
            Ok::<_, Unavailable>(())
        }));
        if asked.await.iter().all(Result::is_err) {
            return Err(Unavailable);
        }
        let any = shards.iter().any(|shard| shard.full.load(Ordering::Relaxed));
        self.reserve.any.store(any, Ordering::Relaxed);
        Ok(any)
    }
}

/// Returns true if the text of `INFO memory` shows a Redis near the limit at which it refuses writes. One
/// that evicts has no such limit.
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
    fn redis_is_full_from_95_percent_of_its_limit_unless_it_evicts() {
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
