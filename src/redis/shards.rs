//! The primaries and the connections to each: the unit of batching, queueing, time-outs and retries. A dead
//! or silent one affects only its own rooms. A single server is one shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::types::config::{Server, ServerConfig};
use fred::types::{Builder, RespVersion};
use futures_util::future::{join_all, try_join_all};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::{Dial, one};
use super::errors::ConnectError;
use super::link::{Link, LinkEvent, Listener};
use super::map::{Map, is_described, map_of};
use super::topology::{SLOTS, Source, Topology};
use crate::log::Unavailable;
use crate::tasks;

#[cfg(test)]
mod simulated;

/// Interval at which the topology is read while all is well.
const CALM: Duration = Duration::from_secs(2);

/// The interval while something is wrong, and the minimum time between two readings.
const TROUBLED: Duration = Duration::from_millis(250);

/// Number of primaries asked while all is well. One that was cut off from the others may be among them.
const ASKED: usize = 3;

/// Time that a server without slots is kept after the last command to it. A slot may be migrating to it.
const KEPT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// A room always uses the same one, so that a sender's messages keep their order.
    pub clients: usize,
    /// Time that an append waits for a replica, if configured. Appends have connections of their own then.
    pub wait: Option<Duration>,
}

pub struct Shard {
    /// Its index among the shards. Reused once the shard is gone.
    pub number: usize,
    /// Its address; the path, for a Redis on a Unix socket.
    pub server: Server,
    pub queued: AtomicUsize,
    pub(super) full: AtomicBool,
    config: ServerConfig,
    commands: Vec<Arc<Link>>,
    appends: Vec<Arc<Link>>,
    used: Mutex<Instant>,
    _guard: DropGuard,
}

impl Shard {
    /// The connection for a slot's commands. Commands that wait for a replica do not delay it.
    pub fn link(&self, slot: u16) -> &Arc<Link> {
        of_slot(&self.commands, slot)
    }

    pub fn append_link(&self, slot: u16) -> &Arc<Link> {
        if self.appends.is_empty() { self.link(slot) } else { of_slot(&self.appends, slot) }
    }

    pub fn client(&self) -> Result<Client, Unavailable> {
        let link = &self.commands[0];
        if link.usable() { Ok(link.client()) } else { Err(Unavailable) }
    }

    pub fn usable(&self) -> bool {
        self.commands.iter().chain(&self.appends).all(|link| link.usable())
    }

    pub fn config(&self) -> &ServerConfig {
        &self.config
    }
}

fn of_slot(links: &[Arc<Link>], slot: u16) -> &Arc<Link> {
    &links[usize::from(slot) % links.len()]
}

pub struct Shards {
    dial: Dial,
    source: Source,
    options: ShardOptions,
    map: RwLock<Arc<Map>>,
    changes: watch::Sender<u64>,
    look: Notify,
    turn: AtomicUsize,
    connections: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Shards {
    pub async fn connect(
        dial: Dial,
        options: ShardOptions,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let source = Source::new(&dial, &stop);
        let found = source.first(&dial).await?;
        let shards = Arc::new(Self {
            dial,
            source,
            options,
            map: RwLock::default(),
            changes: watch::Sender::new(0),
            look: Notify::new(),
            turn: AtomicUsize::new(0),
            connections: Arc::default(),
            stop,
        });
        let map = match found {
            None => shards.single().await?,
            Some(topology) => shards.first_map(&topology).await?,
        };
        shards.set(map);
        if !matches!(shards.source, Source::Fixed(_)) {
            tasks::spawn(shards.clone().follow());
        }
        Ok(shards)
    }

    /// Returns true if slots may be on different servers.
    pub fn clustered(&self) -> bool {
        matches!(self.source, Source::Cluster(_))
    }

    pub fn map(&self) -> Arc<Map> {
        self.map.read().clone()
    }

    pub fn of_slot(&self, slot: u16) -> Result<Arc<Shard>, Unavailable> {
        self.map.read().of_slot(slot).cloned().ok_or(Unavailable)
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The number of connections made since the start. When it grows, facts about a server may be out of
    /// date.
    pub fn connections_made(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn dial(&self) -> &Dial {
        &self.dial
    }

    /// Handles a server's reply that a slot belongs to another one.
    pub fn moved(&self, slot: u16, server: &Server) {
        if slot < SLOTS && self.map.read().of_slot(slot).is_none_or(|shard| shard.server != *server) {
            self.change(|map, shard| map.with(shard, [slot]), server);
        }
        self.look_again();
    }

    /// Returns the shard at an address, which may have no slots yet.
    pub fn at(&self, server: &Server) -> Result<Arc<Shard>, Unavailable> {
        let known = self.map.read().at(server).cloned();
        let shard = match known {
            Some(shard) => shard,
            None => self.change(|map, shard| map.with(shard, []), server).ok_or(Unavailable)?,
        };
        *shard.used.lock() = Instant::now();
        Ok(shard)
    }

    /// Requests a new look at the topology, after an error that is typical of a primary that has gone.
    pub fn look_again(&self) {
        self.look.notify_one();
    }

    fn change(&self, change: impl FnOnce(Map, Arc<Shard>) -> Map, server: &Server) -> Option<Arc<Shard>> {
        let mut current = self.map.write();
        let known = current.at(server).cloned();
        let shard = match known {
            Some(shard) => shard,
            None => self.start(server.clone(), one(server), current.free_number())?,
        };
        *current = Arc::new(change(current.copy(), shard.clone()));
        drop(current);
        self.changes.send_modify(|count| *count += 1);
        Some(shard)
    }

    fn set(&self, map: Map) {
        let old = std::mem::replace(&mut *self.map.write(), Arc::new(map));
        // Outside the lock, since it drops the shards that are gone.
        drop(old);
        self.changes.send_modify(|count| *count += 1);
    }

    async fn single(&self) -> Result<Map, ConnectError> {
        let Source::Fixed(config) = &self.source else { return Err(ConnectError::silent(self.dial.tls())) };
        let server = config.hosts().first().cloned().unwrap_or_else(|| match config {
            ServerConfig::Unix { path } => Server::new(path.display().to_string(), 0),
            _ => Server::new("", 0),
        });
        let shard = self.connect_to(server, config.clone(), 0).await?;
        Ok(Map { epoch: 0, slots: vec![Some(0); usize::from(SLOTS)], shards: vec![shard] })
    }

    /// Connects to the reachable primaries, at least one, and starts connecting to the others.
    async fn first_map(&self, topology: &Topology) -> Result<Map, ConnectError> {
        let servers = topology.primaries.iter().map(|(server, _)| server).enumerate();
        let connected =
            join_all(servers.map(|(number, server)| self.connect_to(server.clone(), one(server), number)))
                .await;
        let (mut shards, mut why, mut any) = (Vec::new(), None, false);
        for (number, (connected, (server, _))) in connected.into_iter().zip(&topology.primaries).enumerate() {
            match connected {
                Ok(shard) => {
                    any = true;
                    shards.push(shard);
                }
                Err(error) => {
                    tracing::warn!(%server, %error, "a primary cannot be used; the others are not affected");
                    why = Some(error);
                    shards.extend(self.start(server.clone(), one(server), number));
                }
            }
        }
        match why {
            Some(error) if !any => Err(error),
            _ => Ok(map_of(topology, shards)),
        }
    }

    fn start(&self, server: Server, config: ServerConfig, number: usize) -> Option<Arc<Shard>> {
        let (stop, make) = self.making(&config);
        let start = |wait| {
            let (builder, listener) = make();
            Link::start(builder, wait, Some(listener), stop.clone())
                .inspect_err(|error| tracing::warn!(%error))
        };
        let links = |count, wait| (0..count).map(|_| start(wait).ok()).collect::<Option<Vec<_>>>();
        let commands = links(self.options.clients.max(1), Duration::ZERO)?;
        let appends = match self.options.wait {
            Some(wait) => links(self.options.clients.max(1), wait)?,
            None => Vec::new(),
        };
        Some(shard(server, config, number, commands, appends, stop))
    }

    async fn connect_to(
        &self,
        server: Server,
        config: ServerConfig,
        number: usize,
    ) -> Result<Arc<Shard>, ConnectError> {
        let (stop, make) = self.making(&config);
        let connect = |wait| {
            let (builder, listener) = make();
            Link::connect(builder, wait, Some(listener), stop.clone())
        };
        let count = self.options.clients.max(1);
        let commands = try_join_all((0..count).map(|_| connect(Duration::ZERO))).await;
        let commands = commands.inspect_err(|_| stop.cancel())?;
        let appends = match self.options.wait {
            Some(wait) => try_join_all((0..count).map(|_| connect(wait))).await,
            None => Ok(Vec::new()),
        };
        let appends = appends.inspect_err(|_| stop.cancel())?;
        Ok(shard(server, config, number, commands, appends, stop))
    }

    fn making(&self, config: &ServerConfig) -> (CancellationToken, impl Fn() -> (Builder, Listener) + use<>) {
        let (dial, config, connections) = (self.dial.clone(), config.clone(), self.connections.clone());
        let make = move || {
            let connections = connections.clone();
            let listener: Listener = Arc::new(move |event| {
                if matches!(event, LinkEvent::Reconnected) {
                    connections.fetch_add(1, Ordering::Relaxed);
                }
            });
            (dial.builder(config.clone(), RespVersion::RESP2), listener)
        };
        (self.stop.child_token(), make)
    }

    async fn follow(self: Arc<Self>) {
        loop {
            let pause = if self.map().serving().iter().all(|shard| shard.usable()) { CALM } else { TROUBLED };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.look.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.find().await;
            // However often it is requested.
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(TROUBLED) => {}
            }
        }
    }

    async fn find(&self) {
        let map = self.map();
        let known = map.shards.iter();
        let mut nodes: Vec<_> =
            known.filter_map(|shard| Some((shard.server.clone(), shard.client().ok()?))).collect();
        if nodes.len() == map.shards.len() && nodes.len() > ASKED {
            let first = self.turn.fetch_add(ASKED, Ordering::Relaxed) % nodes.len();
            nodes.rotate_left(first);
            nodes.truncate(ASKED);
        }
        let Some(topology) = self.source.again(&self.dial, nodes).await else { return };
        let map = self.map();
        if topology.epoch < map.epoch || is_described(&map, &topology) {
            return;
        }
        let mut shards: Vec<Arc<Shard>> = Vec::new();
        let kept = |shard: &&Arc<Shard>| {
            let serves = topology.primaries.iter().any(|(server, _)| *server == shard.server);
            serves || (self.clustered() && shard.used.lock().elapsed() < KEPT)
        };
        shards.extend(map.shards.iter().filter(kept).cloned());
        for (server, _) in &topology.primaries {
            if !shards.iter().any(|shard| shard.server == *server) {
                let taken = |number| shards.iter().any(|shard| shard.number == number);
                let number = (0..).find(|number| !taken(*number)).unwrap_or_default();
                tracing::info!(%server, "a primary was found");
                shards.extend(self.start(server.clone(), one(server), number));
            }
        }
        self.set(map_of(&topology, shards));
    }
}

fn shard(
    server: Server,
    config: ServerConfig,
    number: usize,
    commands: Vec<Arc<Link>>,
    appends: Vec<Arc<Link>>,
    stop: CancellationToken,
) -> Arc<Shard> {
    Arc::new(Shard {
        number,
        server,
        queued: AtomicUsize::new(0),
        full: AtomicBool::new(false),
        config,
        commands,
        appends,
        used: Mutex::new(Instant::now()),
        _guard: stop.drop_guard(),
    })
}
