//! What is made of several Redis processes: a Redis Cluster of three primaries, and a sentinel that watches a primary.

use super::eventually;
use super::redis::{Redis, free_port};

/// A running cluster. Dropping it kills all of it.
#[derive(Debug)]
pub struct Cluster {
    /// The primaries, by ascending slots.
    pub nodes: Vec<Redis>,
}

/// The slots of each primary.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

impl Cluster {
    /// Starts the primaries and waits until they agree that all slots are served.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in SLOTS {
            let settings =
                ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--appendonly", "no"];
            nodes.push(Redis::start_with(Some(free_port()), &settings).await);
        }
        for (index, (node, (first, last))) in nodes.iter().zip(SLOTS).enumerate() {
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            node.ask(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port().to_string()]);
        }
        for node in &nodes {
            eventually("the cluster is complete", async || {
                let info = node.ask(&["CLUSTER", "INFO"]).text();
                ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"]
                    .iter()
                    .all(|line| info.contains(line))
            })
            .await;
        }
        Self { nodes }
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        let [first, others @ ..] = &self.nodes[..] else { panic!("no nodes") };
        let others: Vec<String> =
            others.iter().map(|node| format!("node=127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://127.0.0.1:{}?{}", first.port(), others.join("&"))
    }

    /// Which of the primaries had a room's slot at the start.
    pub fn owner(&self, room: &str) -> usize {
        let slot = self.slot(room);
        SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).unwrap()
    }

    fn slot(&self, room: &str) -> u16 {
        self.nodes[0].ask(&["CLUSTER", "KEYSLOT", room]).number() as u16
    }

    /// The primary of a room's slot, and the next, to which it moves.
    fn way(&self, room: &str) -> [&Redis; 2] {
        let owner = self.owner(room);
        [&self.nodes[owner], &self.nodes[(owner + 1) % SLOTS.len()]]
    }

    /// Moves the slot of a room, with all that is in it, from its primary to the next.
    pub async fn move_slot_of(&self, room: &str) {
        self.begin_to_move(room);
        self.move_keys(room, |_| true);
        self.end_move(room);
    }

    /// Says that the slot of a room is on its way from its primary to the next.
    pub fn begin_to_move(&self, room: &str) {
        let slot = self.slot(room).to_string();
        let [from, to] = self.way(room);
        let [from_id, to_id] = [from, to].map(|node| node.ask(&["CLUSTER", "MYID"]).text());
        to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    }

    /// Moves keys of a room's slot.
    pub fn move_keys(&self, room: &str, which: impl Fn(&str) -> bool) {
        let slot = self.slot(room).to_string();
        let [from, to] = self.way(room);
        let port = to.port().to_string();
        for key in from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).list() {
            let key = key.text();
            if which(&key) {
                from.ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
            }
        }
    }

    /// Hands the slot of a room over.
    pub fn end_move(&self, room: &str) {
        let slot = self.slot(room).to_string();
        let [from, to] = self.way(room);
        let id = to.ask(&["CLUSTER", "MYID"]).text();
        for node in [to, from].into_iter().chain(&self.nodes) {
            node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
    }

    /// How many keys each node has.
    pub fn sizes(&self) -> Vec<i64> {
        self.nodes.iter().map(|node| node.ask(&["DBSIZE"])).map(|reply| reply.number()).collect()
    }
}

/// A sentinel that fails over by itself. Dropping it kills it.
#[derive(Debug)]
pub struct Sentinel {
    redis: Redis,
}

impl Sentinel {
    /// Starts one that watches a primary, and waits until it knows its replica.
    pub async fn start(primary: &Redis) -> Self {
        let redis = Redis::sentinel().await;
        let port = primary.port().to_string();
        redis.ask(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]);
        for (name, value) in [("down-after-milliseconds", "1000"), ("failover-timeout", "5000")] {
            redis.ask(&["SENTINEL", "SET", "main", name, value]);
        }
        eventually("the sentinel knows the replica", async || {
            redis.ask(&["SENTINEL", "MASTER", "main"]).field("num-slaves").number() == 1
        })
        .await;
        Self { redis }
    }

    /// Where clients find the primary.
    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=main", self.redis.port())
    }
}
