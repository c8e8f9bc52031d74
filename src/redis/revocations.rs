//! Revocations in Redis: a stream that every node follows, so that each holds all of them in memory.

use std::time::Duration;

use fred::interfaces::StreamsInterface;
use fred::types::Value;

use super::nodes::ms;
use super::store::Store;
use crate::log::Unavailable;

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
        let start = format!("({position}");
        let entries: Vec<(String, Record)> = self
            .any_client()?
            .xrange_values(self.keys.revocations(), start, "+", Some(PAGE))
            .await
            .map_err(|_| Unavailable)?
            .into_iter()
            .map(|(id, fields): (String, std::collections::HashMap<String, String>)| {
                (id, fields.into_iter().collect())
            })
            .collect();
        let position = entries.last().map_or(position, |(id, _)| id).to_owned();
        Ok((entries.into_iter().map(|(_, record)| record).collect(), position))
    }
}
