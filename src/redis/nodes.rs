//! Coordination of the nodes through Redis: liveness, and the janitor's lease. The functions used here work
//! while Redis is full.

use std::time::Duration;

use fred::types::Value;

use super::store::{Command, Store};
use crate::log::Unavailable;
use crate::telemetry::RedisCall;

impl Store {
    pub async fn node_lives(&self, node: &str, expiry: Duration) -> Result<(), Unavailable> {
        self.agree("live", self.keys.node(node), [ms(expiry)]).await.map(drop)
    }

    pub async fn is_alive(&self, node: &str) -> Result<bool, Unavailable> {
        let key = self.keys.node(node);
        let command = Command::new(RedisCall::Manage, "EXISTS", [Value::from(key.as_str())]);
        Ok(self.run_on(&key, command).await?.as_u64() == Some(1))
    }

    /// Takes or renews the janitor's lease for `expiry`. Returns true if this node has it.
    pub async fn lease(&self, node: &str, expiry: Duration) -> Result<bool, Unavailable> {
        let reply = self.agree("lease", self.keys.janitor(), [Value::from(node), ms(expiry)]).await?;
        Ok(reply.as_u64() == Some(1))
    }

    pub(super) async fn agree(
        &self,
        function: &str,
        key: String,
        args: impl IntoIterator<Item = Value>,
    ) -> Result<Value, Unavailable> {
        let command = self.function(RedisCall::Manage, function, key.clone(), args);
        self.run_on(&key, command).await
    }
}

pub(super) fn ms(duration: Duration) -> Value {
    Value::from(duration.as_millis() as i64)
}
