//! What a Redis is and how it is configured, asked of the server itself.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, ClusterInterface};
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio_util::sync::CancellationToken;

use super::durability::ServerFacts;
use super::link::Link;
use super::refusal::ConnectError;
use super::store::Store;
use crate::log::Unavailable;

impl Store {
    /// Asks the server (of a cluster, one primary) for its version and configuration.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn server_facts(&self) -> Result<ServerFacts, Unavailable> {
        let client = self.any_client()?;
        let node = primaries(&client).into_iter().next();
        facts(&client, node.as_ref()).await.map_err(|error| {
            tracing::warn!(%error, "INFO cannot be read");
            Unavailable
        })
    }
}

/// Connects to a Redis for nothing but to ask what it is, and leaves it as it was. Of a cluster, each primary is asked;
/// the name of each (none if it is no cluster) and what it says.
///
/// # Errors
/// If the URL is bad, or Redis does not answer.
pub async fn inspect(
    url: &str,
    patience: Duration,
) -> Result<Vec<(Option<String>, ServerFacts)>, ConnectError> {
    let stop = CancellationToken::new();
    let _ends_the_link = stop.clone().drop_guard();
    let client = Link::connect(url, patience, None, stop).await?.client();
    let refused = |error: fred::error::Error| ConnectError::new(&error, false);
    let primaries = primaries(&client);
    if primaries.is_empty() {
        return Ok(vec![(None, facts(&client, None).await.map_err(refused)?)]);
    }
    let mut all = Vec::with_capacity(primaries.len());
    for node in primaries {
        let facts = facts(&client, Some(&node)).await.map_err(refused)?;
        all.push((Some(format!("{}:{}", node.host, node.port)), facts));
    }
    Ok(all)
}

/// The primaries of a cluster; none if it is not one.
pub(super) fn primaries(client: &Client) -> Vec<Server> {
    client.cached_cluster_state().map(|state| state.unique_primary_nodes()).unwrap_or_default()
}

/// Asks one server. Managed services often refuse `CONFIG`; what only that tells is unknown then.
async fn facts(client: &Client, node: Option<&Server>) -> Result<ServerFacts, fred::error::Error> {
    let ask = async |name, args: Vec<Value>| -> Result<Value, fred::error::Error> {
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        match node {
            Some(node) => client.with_cluster_node(node).custom(command, args).await,
            None => client.custom(command, args).await,
        }
    };
    let info = ask("INFO", Vec::new()).await?;
    let wanted = std::iter::once("GET").chain(ServerFacts::SETTINGS).map(Value::from).collect();
    let config = match ask("CONFIG", wanted).await {
        Ok(settings) => settings.convert().unwrap_or_default(),
        Err(error) => {
            tracing::debug!(%error, "CONFIG cannot be read");
            Vec::new()
        }
    };
    Ok(ServerFacts::read(&info.into_string().unwrap_or_default(), &config))
}
