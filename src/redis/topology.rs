//! Finds the primaries: the one server that the URL names, those of a cluster, or the one that sentinels
//! name. It asks and parses the answers; `shards` connects to the result.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{Server, ServerConfig};
use fred::types::{ClusterHash, CustomCommand, RespVersion, Value};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::dial::{Dial, one, open};
use super::errors::ConnectError;
use super::link::Link;

pub(super) const SLOTS: u16 = 16_384;

const TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of sentinels asked. More are not needed for an agreement.
const SENTINELS: usize = 16;

const FIRST_ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    /// Grows with each failover. A lower value is older knowledge.
    pub epoch: u64,
    pub primaries: Vec<(Server, Vec<RangeInclusive<u16>>)>,
}

pub(super) enum Source {
    Fixed(ServerConfig),
    /// The nodes of the cluster; these are asked first.
    Cluster(Vec<Server>),
    Sentinel(Sentinels),
}

pub(super) struct Sentinels {
    name: String,
    dial: Dial,
    known: Mutex<HashMap<Server, Arc<Link>>>,
    stop: CancellationToken,
}

impl Source {
    pub(super) fn new(dial: &Dial, stop: &CancellationToken) -> Self {
        match dial.target() {
            ServerConfig::Clustered { hosts, .. } => Self::Cluster(hosts.clone()),
            ServerConfig::Sentinel { hosts, service_name, username, password } => {
                let sentinels = Sentinels {
                    name: service_name.clone(),
                    dial: dial.with_login(username.clone(), password.clone()),
                    known: Mutex::default(),
                    stop: stop.clone(),
                };
                hosts.iter().for_each(|server| sentinels.meet(server));
                Self::Sentinel(sentinels)
            }
            other => Self::Fixed(other.clone()),
        }
    }

    pub(super) async fn first(&self, dial: &Dial) -> Result<Option<Topology>, ConnectError> {
        match self {
            Self::Fixed(_) => Ok(None),
            Self::Cluster(seeds) => {
                let mut last = ConnectError::silent(dial.tls());
                for asked in join_all(seeds.iter().map(|seed| ask_seed(dial, seed))).await {
                    match asked {
                        Ok(topology) => return Ok(Some(topology)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Sentinel(sentinels) => {
                let deadline = Instant::now() + FIRST_ANSWER;
                loop {
                    if let Some(topology) = sentinels.ask().await {
                        return Ok(Some(topology));
                    }
                    if Instant::now() > deadline {
                        return Err(sentinels.why_not().await);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Finds the primaries again. `nodes` are clients of known primaries. Returns `None` if nobody answers.
    pub(super) async fn again(&self, dial: &Dial, nodes: Vec<(Server, Client)>) -> Option<Topology> {
        match self {
            Self::Fixed(_) => None,
            Self::Cluster(seeds) => {
                let asked = nodes.iter().map(|(server, client)| ask_node(client, server));
                // The newest answer counts: a node that is cut off from the others has an older one.
                let newest =
                    join_all(asked).await.into_iter().flatten().max_by_key(|topology| topology.epoch);
                match newest {
                    Some(topology) => Some(topology),
                    None => join_all(seeds.iter().map(|seed| ask_seed(dial, seed)))
                        .await
                        .into_iter()
                        .flatten()
                        .max_by_key(|topology| topology.epoch),
                }
            }
            Self::Sentinel(sentinels) => sentinels.ask().await,
        }
    }
}

impl Sentinels {
    fn meet(&self, server: &Server) {
        let mut known = self.known.lock();
        if known.len() >= SENTINELS || known.contains_key(server) {
            return;
        }
        let builder = self.dial.builder(one(server), RespVersion::RESP2);
        if let Ok(link) = Link::start(builder, Duration::ZERO, None, self.stop.clone()) {
            known.insert(server.clone(), link);
        }
    }

    /// Asks all sentinels, and takes the answer with the newest configuration.
    async fn ask(&self) -> Option<Topology> {
        let links: Vec<_> = self.known.lock().values().filter(|link| link.usable()).cloned().collect();
        let answers = join_all(links.iter().map(|link| async {
            let client = link.client();
            let master = ask(&client, "SENTINEL", &["MASTER", &self.name]).await?;
            // `MASTER` names the old primary, with the new epoch, until all replicas follow the promoted one.
            let address = ask(&client, "SENTINEL", &["GET-MASTER-ADDR-BY-NAME", &self.name]).await?;
            let others = ask(&client, "SENTINEL", &["SENTINELS", &self.name]).await;
            Some((master, address, others))
        }))
        .await;
        let mut newest: Option<Topology> = None;
        for (master, address, others) in answers.into_iter().flatten() {
            for other in others.map(Value::into_array).unwrap_or_default() {
                if let Some((server, _)) = described(other) {
                    self.meet(&server);
                }
            }
            let (Some((_, epoch)), Some(server)) = (described(master), named(address)) else { continue };
            if newest.as_ref().is_none_or(|newest| epoch > newest.epoch) {
                newest = Some(Topology { epoch, primaries: vec![(server, vec![0..=SLOTS - 1])] });
            }
        }
        newest
    }

    async fn why_not(&self) -> ConnectError {
        let known: Vec<Server> = self.known.lock().keys().cloned().collect();
        let mut why = ConnectError::silent(self.dial.tls());
        for server in known {
            match open(&self.dial.builder(one(&server), RespVersion::RESP2)).await {
                Ok(_) => why = ConnectError::unknown_to_sentinels(&self.name),
                Err(error) => why = error,
            }
        }
        why
    }
}

async fn ask_seed(dial: &Dial, seed: &Server) -> Result<Topology, ConnectError> {
    let open = open(&dial.builder(one(seed), RespVersion::RESP2)).await?;
    ask_node(&open.client, seed).await.ok_or_else(ConnectError::no_cluster)
}

async fn ask_node(client: &Client, asked: &Server) -> Option<Topology> {
    let info = ask(client, "CLUSTER", &["INFO"]).await?.into_string()?;
    let slots = ask(client, "CLUSTER", &["SLOTS"]).await?;
    Some(Topology { epoch: current_epoch(&info)?, primaries: primaries(slots, asked)? })
}

async fn ask(client: &Client, name: &'static str, args: &[&str]) -> Option<Value> {
    let command = CustomCommand::new_static(name, ClusterHash::Random, false);
    let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
    timeout(TIMEOUT, client.custom(command, args)).await.ok()?.ok()
}

fn current_epoch(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"))?.trim().parse().ok()
}

/// Parses the primaries in a reply to `CLUSTER SLOTS`; `None` if no slot is served.
fn primaries(reply: Value, asked: &Server) -> Option<Vec<(Server, Vec<RangeInclusive<u16>>)>> {
    let mut found: Vec<(Server, Vec<RangeInclusive<u16>>)> = Vec::new();
    for range in reply.into_array() {
        let mut parts = range.into_array().into_iter();
        let (first, last) = (parts.next()?.as_u64()?, parts.next()?.as_u64()?);
        let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
        let mut node = parts.next()?.into_array().into_iter();
        let (host, port) = (node.next()?, u16::try_from(node.next()?.as_u64()?).ok()?);
        // A node that does not know its own name leaves it empty, or reports `?`.
        let host = host.into_string().filter(|host| !host.is_empty() && host != "?");
        let server = Server::new(host.map_or(asked.host.clone(), Into::into), port);
        match found.iter_mut().find(|(known, _)| *known == server) {
            Some((_, ranges)) => ranges.push(first..=last),
            None => found.push((server, vec![first..=last])),
        }
    }
    (!found.is_empty()).then_some(found)
}

fn described(reply: Value) -> Option<(Server, u64)> {
    let (mut host, mut port, mut epoch) = (None, None, 0);
    let mut fields = reply.into_array().into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match name.as_str().as_deref() {
            Some("ip") => host = value.into_string(),
            Some("port") => port = value.as_u64().and_then(|port| u16::try_from(port).ok()),
            Some("config-epoch") => epoch = value.as_u64().unwrap_or_default(),
            _ => {}
        }
    }
    Some((Server::new(host?, port?), epoch))
}

fn named(reply: Value) -> Option<Server> {
    let mut parts = reply.into_array().into_iter();
    let (host, port) = (parts.next()?.into_string()?, parts.next()?.as_u64()?);
    Some(Server::new(host, u16::try_from(port).ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, port.into(), "id".into(), Value::Array(Vec::new())])
    }

    fn range(first: i64, last: i64, primary: Value) -> Value {
        Value::Array(vec![first.into(), last.into(), primary, node("replica".into(), 1)])
    }

    #[test]
    fn slots_are_parsed_by_primary() {
        let asked = Server::new("asked", 7000);
        let reply = Value::Array(vec![
            range(0, 100, node("a".into(), 7001)),
            range(101, 200, node("".into(), 7002)),
            range(201, 300, node("a".into(), 7001)),
            range(301, 16_383, node(Value::Null, 7003)),
        ]);
        let expected = vec![
            (Server::new("a", 7001), vec![0..=100, 201..=300]),
            (Server::new("asked", 7002), vec![101..=200]),
            (Server::new("asked", 7003), vec![301..=16_383]),
        ];
        assert_eq!(primaries(reply, &asked), Some(expected));
        assert_eq!(primaries(Value::Array(Vec::new()), &asked), None);
        assert_eq!(primaries(Value::Array(vec![Value::Array(vec![1.into()])]), &asked), None);
    }

    #[test]
    fn epochs_are_parsed() {
        let info = "cluster_state:ok\r\ncluster_current_epoch:17\r\ncluster_my_epoch:3\r\n";
        assert_eq!(current_epoch(info), Some(17));
        assert_eq!(current_epoch("cluster_state:ok"), None);
        let word = ["name", "main", "ip", "10.0.0.1", "port", "6379", "flags", "master", "config-epoch", "4"];
        let word = Value::Array(word.map(Value::from).into());
        assert_eq!(described(word), Some((Server::new("10.0.0.1", 6379), 4)));
        let address = Value::Array(["10.0.0.2", "6379"].map(Value::from).into());
        assert_eq!(named(address), Some(Server::new("10.0.0.2", 6379)));
    }
}
