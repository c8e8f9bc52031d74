//! Revocations in Redis: a stream that every node follows and keeps in memory.

use std::time::Duration;

use fred::types::Value;

use super::nodes::ms;
use super::store::{Command, Store};
use crate::log::Unavailable;
use crate::telemetry::RedisCall;

pub(crate) type Record = Vec<(String, String)>;

pub(crate) const NO_REVOCATION: &str = "0-0";

const PAGE: u64 = 1000;

impl Store {
    /// Stores a revocation, and removes those older than `keep`. Waits for a replica where messages do, and
    /// fails if none confirms it.
    pub async fn revoke(&self, record: Record, keep: Duration) -> Result<(), Unavailable> {
        let fields = record.into_iter().flat_map(|(name, value)| [name, value]).map(Value::from);
        let args = std::iter::once(ms(keep)).chain(fields);
        let key = self.keys.revocations();
        let command = self.function(RedisCall::Manage, "revoke", key.clone(), args);
        self.confirm_on(&key, command).await.map(drop)
    }

    /// Returns the revocations after a position, and the position after them. Returns `None` if the stream no
    /// longer has the position: Redis lost writes, or trimmed it. Then the revocations before it may differ
    /// from those that were read.
    pub async fn revocations_after(
        &self,
        position: &str,
    ) -> Result<Option<(Vec<Record>, String)>, Unavailable> {
        let key = self.keys.revocations();
        // From the position itself on: its presence proves that nothing before it is new.
        let range = [key.clone(), position.into(), "+".into(), "COUNT".into(), (PAGE + 1).to_string()];
        let command = Command::new(RedisCall::Manage, "XRANGE", range.map(Value::from));
        let mut entries: Vec<(String, Record)> =
            self.run_on(&key, command).await?.convert().map_err(|_| Unavailable)?;
        if position != NO_REVOCATION {
            if entries.first().is_none_or(|(id, _)| id != position) {
                return Ok(None);
            }
            entries.remove(0);
        }
        let position = entries.last().map_or(position, |(id, _)| id).to_owned();
        Ok(Some((entries.into_iter().map(|(_, record)| record).collect(), position)))
    }
}
