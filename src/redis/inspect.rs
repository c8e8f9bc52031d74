//! Reads the version and the configuration of a Redis from the server itself.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::dial::Dial;
use super::durability::ServerFacts;
use super::errors::ConnectError;
use super::shards::{ShardOptions, Shards};
use super::store::Store;
use crate::log::Unavailable;

impl Store {
    /// Reads the version and configuration of each primary. Primaries that do not answer are left out.
    ///
    /// # Errors If none answers.
    pub async fn server_facts(&self) -> Result<Vec<ServerFacts>, Unavailable> {
        let shards = self.shards.map().serving();
        let asked = join_all(shards.iter().map(|shard| async {
            facts(&shard.client().ok()?)
                .await
                .inspect_err(|error| tracing::warn!(%error, "INFO cannot be read"))
                .ok()
        }));
        let facts: Vec<_> = asked.await.into_iter().flatten().collect();
        if facts.is_empty() { Err(Unavailable) } else { Ok(facts) }
    }
}

/// Connects to a Redis only to read its facts, and changes nothing. Returns the facts of each primary, with
/// its name in a cluster.
pub(crate) async fn inspect(
    url: &str,
    patience: Duration,
) -> Result<Vec<(Option<String>, ServerFacts)>, ConnectError> {
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let shards =
        Shards::connect(Dial::new(url, patience)?, ShardOptions { clients: 1, wait: None }, stop).await?;
    let mut all = Vec::new();
    for shard in shards.map().serving() {
        let client = shard.client().map_err(|Unavailable| ConnectError::silent(shards.dial().tls()))?;
        let facts = facts(&client).await.map_err(|error| ConnectError::new(&error, false))?;
        all.push((shards.clustered().then(|| shard.server.to_string()), facts));
    }
    Ok(all)
}

/// Reads the facts of one server. Managed services often refuse `CONFIG`; its facts are unknown then.
async fn facts(client: &Client) -> Result<ServerFacts, fred::error::Error> {
    let ask = async |name, args: Vec<Value>| -> Result<Value, fred::error::Error> {
        client.custom(CustomCommand::new_static(name, ClusterHash::Random, false), args).await
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
