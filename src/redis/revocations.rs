//! Revocations in Redis: a stream that every node follows, so that each holds all of them in memory.

use std::time::Duration;

use fred::types::Value;

use super::nodes::ms;
use super::store::{Command, Store};
use crate::log::Unavailable;
use crate::telemetry::RedisCall;

/// One revocation as it is stored: flat pairs of names and values.
pub type Record = Vec<(String, String)>;

/// Revocations in one read.
const PAGE: u64 = 1000;

impl Store {
    /// Stores a revocation, and forgets those older than `keep`.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn revoke(&self, record: Record, keep: Duration) -> Result<(), Unavailable> {
        let fields = record.into_iter().flat_map(|(name, value)| [name, value]).map(Value::from);
        let args = std::iter::once(ms(keep)).chain(fields);
        self.agree("revoke", self.keys.revocations(), args).await.map(drop)
    }

    /// Revocations stored after a position (`0-0` for all), and the position after them.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn revocations_after(&self, position: &str) -> Result<(Vec<Record>, String), Unavailable> {
        let key = self.keys.revocations();
        let range = [key.clone(), format!("({position}"), "+".into(), "COUNT".into(), PAGE.to_string()];
        let command = Command::new(RedisCall::Manage, "XRANGE", range.map(Value::from));
        let entries: Vec<(String, Record)> =
            self.run_on(&key, command).await?.convert().map_err(|_| Unavailable)?;
        let position = entries.last().map_or(position, |(id, _)| id).to_owned();
        Ok((entries.into_iter().map(|(_, record)| record).collect(), position))
    }
}
