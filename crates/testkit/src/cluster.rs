//! Several Redis processes that belong together: a Redis Cluster of three primaries, and a sentinel that
//! watches a primary.

use std::io;
use std::time::Duration;

use super::eventually;
use super::redis::{Redis, free_port};
use super::resp::Place;

/// A running cluster. Dropping it kills every process.
#[derive(Debug)]
pub struct Cluster {
    /// The primaries, by ascending slots.
    pub nodes: Vec<Redis>,
}

/// The slot range of each primary.
pub const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

impl Cluster {
    /// Starts the primaries and waits until they agree that all slots are served.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in SLOTS {
            let settings =
                ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--appendonly", "no"];
            nodes.push(Redis::start_with(Some(free_port()), &settings).await);
        }
        form(&nodes.iter().collect::<Vec<_>>()).await;
        Self { nodes }
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        let [first, others @ ..] = &self.nodes[..] else { panic!("no nodes") };
        let others: Vec<String> =
            others.iter().map(|node| format!("node=127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://127.0.0.1:{}?{}", first.port(), others.join("&"))
    }

    /// Returns the index of the primary that had the room's slot at the start.
    pub fn owner(&self, room: &str) -> usize {
        let slot = self.slot(room);
        SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).unwrap()
    }

    fn slot(&self, room: &str) -> u16 {
        self.nodes[0].ask(&["CLUSTER", "KEYSLOT", room]).number() as u16
    }

    /// Returns the primary of a room's slot, and the next one, to which the slot moves.
    fn way(&self, room: &str) -> [&Redis; 2] {
        let owner = self.owner(room);
        [&self.nodes[owner], &self.nodes[(owner + 1) % SLOTS.len()]]
    }

    /// Moves the slot of a room, with all its keys, from its primary to the next.
    pub async fn move_slot_of(&self, room: &str) {
        self.begin_to_move(room);
        self.move_keys(room, |_| true);
        self.end_move(room);
    }

    /// Marks the slot of a room as migrating from its primary to the next.
    pub fn begin_to_move(&self, room: &str) {
        self.moving(room, |moving| moving.begin());
    }

    /// Moves the keys of a room's slot that `which` selects.
    pub fn move_keys(&self, room: &str, which: impl Fn(&str) -> bool) {
        self.moving(room, |moving| moving.carry(which));
    }

    /// Assigns the slot of a room to the next primary.
    pub fn end_move(&self, room: &str) {
        let places: Vec<Place> = self.nodes.iter().map(Redis::place).collect();
        self.moving(room, |moving| moving.finish(&places));
    }

    fn moving(&self, room: &str, step: impl FnOnce(Move<'_>) -> io::Result<()>) {
        let [from, to] = self.way(room).map(Redis::place);
        step(Move { slot: self.slot(room), from: &from, to: &to }).unwrap();
    }

    /// Returns the number of keys of each node.
    pub fn sizes(&self) -> Vec<i64> {
        self.nodes.iter().map(|node| node.ask(&["DBSIZE"])).map(|reply| reply.number()).collect()
    }
}

/// A slot migration from one primary to another.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    pub slot: u16,
    pub from: &'a Place,
    pub to: &'a Place,
}

impl Move<'_> {
    const PATIENCE: Duration = Duration::from_secs(5);

    fn set(&self, at: &Place, state: &str, id: &str) -> io::Result<()> {
        let command = ["CLUSTER", "SETSLOT", &self.slot.to_string(), state, id];
        at.ask(&command, Self::PATIENCE).map(drop)
    }

    fn id(of: &Place) -> io::Result<String> {
        Ok(of.ask(&["CLUSTER", "MYID"], Self::PATIENCE)?.text())
    }

    /// Marks the slot as migrating on both primaries.
    ///
    /// # Errors
    /// Those of the servers, as below.
    pub fn begin(&self) -> io::Result<()> {
        self.set(self.to, "IMPORTING", &Self::id(self.from)?)?;
        self.set(self.from, "MIGRATING", &Self::id(self.to)?)
    }

    /// Moves the keys of the slot that `which` selects.
    pub fn carry(&self, which: impl Fn(&str) -> bool) -> io::Result<()> {
        let Place::Port(port) = self.to else { return Err(io::ErrorKind::InvalidInput.into()) };
        let (slot, port) = (self.slot.to_string(), port.to_string());
        loop {
            let keys = self.from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"], Self::PATIENCE)?;
            let keys: Vec<String> =
                keys.list().iter().map(|key| key.text()).filter(|key| which(key)).collect();
            for key in &keys {
                let command = ["MIGRATE", "127.0.0.1", &port, key, "0", "5000"];
                self.from.ask(&command, Self::PATIENCE)?;
            }
            if keys.is_empty() {
                return Ok(());
            }
        }
    }

    /// Assigns the slot to the next primary, and informs the `others`.
    pub fn finish(&self, others: &[Place]) -> io::Result<()> {
        let id = Self::id(self.to)?;
        for place in [self.to, self.from].into_iter().chain(others) {
            self.set(place, "NODE", &id)?;
        }
        Ok(())
    }
}

/// Makes a cluster of servers: a primary for each range of slots, then replicas of these in the same order.
/// Waits until they agree that all slots are served.
pub async fn form(nodes: &[&Redis]) {
    for (index, node) in nodes.iter().enumerate() {
        node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        if let Some((first, last)) = SLOTS.get(index) {
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        node.ask(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port().to_string()]);
    }
    let known = format!("cluster_known_nodes:{}", nodes.len());
    let complete = async |node: &Redis| {
        eventually("the cluster is complete", async || {
            let info = node.ask(&["CLUSTER", "INFO"]).text();
            ["cluster_state:ok", "cluster_slots_ok:16384", &known].iter().all(|line| info.contains(line))
        })
        .await;
    };
    for node in nodes {
        complete(node).await;
    }
    for (index, node) in nodes.iter().enumerate().skip(SLOTS.len()) {
        let primary = nodes[index % SLOTS.len()].ask(&["CLUSTER", "MYID"]).text();
        node.ask(&["CLUSTER", "REPLICATE", &primary]);
        eventually("the replica follows", async || {
            node.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
        })
        .await;
    }
}

/// A sentinel that fails over automatically. Dropping it kills it.
#[derive(Debug)]
pub struct Sentinel {
    redis: Redis,
}

impl Sentinel {
    /// Starts a sentinel that watches a primary, and waits until it knows the replica.
    pub async fn start(primary: &Redis) -> Self {
        Self::watching(primary.port(), 1, 1).await
    }

    /// Starts a sentinel that watches the primary on a port. `quorum` sentinels must find it down. Waits
    /// until the sentinel knows `replicas` replicas.
    pub async fn watching(port: u16, quorum: usize, replicas: i64) -> Self {
        let redis = Redis::sentinel().await;
        redis.ask(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port.to_string(), &quorum.to_string()]);
        for (name, value) in [("down-after-milliseconds", "1000"), ("failover-timeout", "5000")] {
            redis.ask(&["SENTINEL", "SET", "main", name, value]);
        }
        eventually("the sentinel knows the replicas", async || {
            redis.ask(&["SENTINEL", "MASTER", "main"]).field("num-slaves").number() == replicas
        })
        .await;
        Self { redis }
    }

    pub fn port(&self) -> u16 {
        self.redis.port()
    }

    pub fn log(&self) -> String {
        self.redis.log()
    }

    pub fn ask(&self, command: &[&str]) -> super::Reply {
        self.redis.ask(command)
    }

    /// Returns the URL at which clients find the primary.
    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=main", self.redis.port())
    }
}
