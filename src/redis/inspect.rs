//! What this Redis is and how it is configured, asked of the server itself.

use fred::interfaces::{ClientLike, ClusterInterface};
use fred::types::{ClusterHash, CustomCommand, Value};

use super::durability::ServerFacts;
use super::store::Store;
use crate::log::Unavailable;

impl Store {
    /// Asks the server (of a cluster, one primary) for its version and configuration. Managed services often refuse
    /// `CONFIG`; what only that tells is unknown then.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn server_facts(&self) -> Result<ServerFacts, Unavailable> {
        let client = self.any_client()?;
        let node =
            client.cached_cluster_state().and_then(|state| state.unique_primary_nodes().into_iter().next());
        let ask = async |name, args: Vec<Value>| -> Result<Value, fred::error::Error> {
            let command = CustomCommand::new_static(name, ClusterHash::Random, false);
            match &node {
                Some(node) => client.with_cluster_node(node).custom(command, args).await,
                None => client.custom(command, args).await,
            }
        };
        let info = ask("INFO", Vec::new()).await.map_err(|error| {
            tracing::warn!(%error, "INFO cannot be read");
            Unavailable
        })?;
        let wanted = std::iter::once("GET").chain(ServerFacts::SETTINGS).map(Value::from).collect();
        let config = match ask("CONFIG", wanted).await {
            Ok(Value::Map(map)) => map
                .inner()
                .into_iter()
                .filter_map(|(key, value)| Some((key.into_string()?, value.into_string()?)))
                .collect(),
            Ok(other) => other.convert().unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%error, "CONFIG cannot be read");
                Vec::new()
            }
        };
        Ok(ServerFacts::read(&info.into_string().unwrap_or_default(), &config))
    }
}
