//! Schedules of faults: a pure function of a seed.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::record::Ms;
use crate::harness::Dice;

/// The topology of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// One server.
    Single,
    /// A primary and two replicas under three sentinels.
    Sentinel,
    /// Three primaries with a replica each.
    Cluster,
}

impl Topology {
    pub const ALL: [Self; 3] = [Self::Single, Self::Sentinel, Self::Cluster];

    /// Returns the number of independent logs.
    pub fn shards(self) -> usize {
        if self == Self::Cluster { 3 } else { 1 }
    }

    /// Returns its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// The sync policy of Redis's append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// Before each answer.
    Always,
    /// Once a second.
    Everysec,
}

impl Sync {
    /// Returns the value of `appendfsync`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
        }
    }
}

/// The value of `redis.durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Redis has executed the write.
    Memory,
    /// A replica has the write.
    Replica,
    /// The write is on disk.
    Disk,
}

impl Durability {
    /// Returns the value in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Replica => "replica",
            Self::Disk => "disk",
        }
    }
}

/// A direction through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Requests.
    Up,
    /// Answers.
    Down,
}

/// A temporary fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Fault {
    /// `kill -9` of a node, which is started again.
    NodeKill { node: usize },
    /// SIGSTOP of a node.
    NodePause { node: usize },
    /// SIGTERM of a node, which is started again.
    NodeRestart { node: usize },
    /// A node's clock is wrong.
    NodeClock { node: usize, ms: i64 },
    /// All client connections of a node break.
    ClientsCut { node: usize },
    /// Traffic between clients and a node is delayed.
    ClientsSlow { node: usize, ms: u64 },
    /// Client connections of a node are half open.
    ClientsStall { node: usize, direction: Direction },
    /// All connections of a node to Redis break. Each comes back after a time of its own.
    LinkCut { node: usize },
    /// Traffic between a node and Redis is delayed.
    LinkSlow { node: usize, ms: u64 },
    /// Connections of a node to Redis are half open.
    LinkStall { node: usize, direction: Direction },
    /// `CLIENT KILL` of command connections, or of pub/sub connections.
    ClientKill { shard: usize, pubsub: bool },
    /// `FUNCTION FLUSH`.
    FunctionFlush { shard: usize },
    /// Redis reaches `maxmemory`.
    MemoryFull { shard: usize },
    /// The disk is full. Redis may be killed before there is space again.
    DiskFull { killed: bool },
    /// Each disk sync takes longer.
    SlowSync { ms: u64 },
    /// Redis's clock is wrong.
    RedisClock { ms: i64 },
    /// `kill -9` of Redis, which is started again.
    RedisKill,
    /// SIGSTOP of Redis.
    RedisPause,
    /// SIGTERM of Redis, which is started again.
    RedisRestart,
    /// Redis is killed, and all unsynced writes are lost.
    PowerLoss,
    /// `kill -9` of a primary, long enough for a failover, with replicas `lag` behind. It comes back.
    PrimaryKill { shard: usize, lag: u64 },
    /// SIGSTOP of a primary, long enough for a failover. It then continues, unaware of it.
    PrimaryPause { shard: usize, lag: u64 },
    /// A failover by command.
    Failover { shard: usize },
    /// A primary and one node are cut off from all others.
    Partition { node: usize },
    /// Slots of live rooms move to another primary and back.
    SlotMove { shard: usize },
    /// A slot of a live room stays half moved for a while.
    SlotHold { shard: usize },
    /// A primary is added, takes a slot of a live room, and gives it back.
    NodeAdded { shard: usize },
}

impl Fault {
    /// Returns the printed name, which is also the row of the report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeKill { .. } => "node: kill -9",
            Self::NodePause { .. } => "node: SIGSTOP",
            Self::NodeRestart { .. } => "node: restart",
            Self::NodeClock { .. } => "node: clock step",
            Self::ClientsCut { .. } => "clients: cut",
            Self::ClientsSlow { .. } => "clients: delayed",
            Self::ClientsStall { .. } => "clients: half open",
            Self::LinkCut { .. } => "link to Redis: cut",
            Self::LinkSlow { .. } => "link to Redis: delayed",
            Self::LinkStall { .. } => "link to Redis: half open",
            Self::ClientKill { .. } => "Redis: CLIENT KILL",
            Self::FunctionFlush { .. } => "Redis: FUNCTION FLUSH",
            Self::MemoryFull { .. } => "Redis: maxmemory reached",
            Self::DiskFull { .. } => "Redis: disk full",
            Self::SlowSync { .. } => "Redis: slow fsync",
            Self::RedisClock { .. } => "Redis: clock step",
            Self::RedisKill => "Redis: kill -9",
            Self::RedisPause => "Redis: SIGSTOP",
            Self::RedisRestart => "Redis: restart",
            Self::PowerLoss => "Redis: power loss",
            Self::PrimaryKill { .. } => "primary: kill -9",
            Self::PrimaryPause { .. } => "primary: SIGSTOP",
            Self::Failover { .. } => "failover by command",
            Self::Partition { .. } => "partition",
            Self::SlotMove { .. } => "slots moved",
            Self::SlotHold { .. } => "slot half moved",
            Self::NodeAdded { .. } => "primary added",
        }
    }
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub at: Ms,
    pub lasts: Ms,
    #[serde(flatten)]
    pub fault: Fault,
}

/// All parameters of a run that are fixed beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed from which everything follows.
    pub seed: u64,
    pub topology: Topology,
    /// `appendfsync`.
    pub sync: Sync,
    /// `redis.durability`.
    pub durability: Durability,
    /// Number of nodes.
    pub nodes: usize,
    /// Duration of the faults, in seconds.
    pub seconds: u64,
    /// The faults, in the order of their times.
    pub faults: Vec<Planned>,
}

/// Time in ms for which writes are held back before the power fails: long enough for several rounds of syncs.
pub const POWER_AFTER: Ms = 4000;

/// Maximum step of Redis's clock, in ms. Keys are remembered across it.
const REDIS_STEP: u64 = 90 * 60_000;

/// Maximum step of a node's clock, in ms: 40 days.
const NODE_STEP: u64 = 40 * 24 * 3_600_000;

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64, topology: Topology, seconds: u64) -> Self {
        let mut dice = Dice::fork(seed, topology.name());
        let sync =
            if topology == Topology::Single && dice.roll(2) == 0 { Sync::Always } else { Sync::Everysec };
        let durability = match (topology, sync) {
            (Topology::Single, Sync::Always) => Durability::Disk,
            (Topology::Single, Sync::Everysec) => Durability::Memory,
            _ => *dice.pick(&[Durability::Memory, Durability::Replica]),
        };
        let nodes = dice.between(2, 3) as usize;
        let mut plan = Self { seed, topology, sync, durability, nodes, seconds, faults: Vec::new() };
        // Faults of one lane follow each other. The two lanes overlap.
        plan.lane(&mut dice, (3000, 8000), Self::storage_fault);
        plan.lane(&mut dice, (1500, 6000), Self::other_fault);
        plan.faults.sort_by_key(|planned| planned.at);
        plan
    }

    fn lane(&mut self, dice: &mut Dice, pause: (Ms, Ms), draw: impl Fn(&Self, &mut Dice) -> (Fault, Ms)) {
        let mut at = dice.between(1000, 4000);
        loop {
            let (fault, lasts) = draw(self, dice);
            if !self.faults.is_empty() && at + lasts > self.seconds * 1000 {
                return;
            }
            self.faults.push(Planned { at, lasts, fault });
            at += lasts + dice.between(pause.0, pause.1);
            if at > self.seconds * 1000 {
                return;
            }
        }
    }

    /// Draws a fault of the processes that keep the logs.
    fn storage_fault(&self, dice: &mut Dice) -> (Fault, Ms) {
        let shard = dice.roll(self.topology.shards() as u64) as usize;
        let lag = *dice.pick(&[0, 0, 200, 1000]);
        let failover = dice.between(4000, 10_000);
        match self.topology {
            Topology::Single => match dice.roll(6) {
                0 => (Fault::RedisKill, dice.roll(3000)),
                1 => (Fault::RedisPause, dice.between(300, 5000)),
                2 => (Fault::RedisRestart, dice.roll(2000)),
                3 => (Fault::PowerLoss, POWER_AFTER + dice.roll(2000)),
                4 => (Fault::DiskFull { killed: dice.roll(2) == 0 }, dice.between(500, 4000)),
                _ => (Fault::SlowSync { ms: dice.between(20, 1500) }, dice.between(1000, 5000)),
            },
            Topology::Sentinel => match dice.roll(5) {
                0 | 1 => (Fault::PrimaryKill { shard, lag }, failover),
                2 => (Fault::PrimaryPause { shard, lag }, failover),
                3 => (Fault::Failover { shard }, 3000),
                _ => (Fault::Partition { node: self.node(dice) }, failover),
            },
            Topology::Cluster => match dice.roll(8) {
                0 | 1 => (Fault::PrimaryKill { shard, lag }, failover),
                2 => (Fault::PrimaryPause { shard, lag }, failover),
                3 => (Fault::Failover { shard }, 2000),
                4 | 5 => (Fault::SlotMove { shard }, dice.between(200, 3000)),
                6 => (Fault::SlotHold { shard }, dice.between(1000, 8000)),
                _ => (Fault::NodeAdded { shard }, dice.between(500, 3000)),
            },
        }
    }

    /// Draws a fault of nodes, connections or settings.
    fn other_fault(&self, dice: &mut Dice) -> (Fault, Ms) {
        let node = self.node(dice);
        let shard = dice.roll(self.topology.shards() as u64) as usize;
        let direction = *dice.pick(&[Direction::Up, Direction::Down]);
        match dice.roll(14) {
            0 | 1 => (Fault::NodeKill { node }, dice.roll(2000)),
            2 => (Fault::NodePause { node }, dice.between(300, 6000)),
            3 => (Fault::NodeRestart { node }, dice.roll(1000)),
            4 => (Fault::NodeClock { node, ms: step(dice, NODE_STEP) }, dice.between(1000, 6000)),
            5 => (Fault::ClientsCut { node }, 0),
            6 => (Fault::ClientsSlow { node, ms: dice.between(20, 500) }, dice.between(1000, 4000)),
            7 => (Fault::ClientsStall { node, direction }, dice.between(500, 5000)),
            8 => (Fault::LinkCut { node }, dice.roll(2000)),
            9 => (Fault::LinkSlow { node, ms: dice.between(20, 500) }, dice.between(1000, 4000)),
            10 => (Fault::LinkStall { node, direction }, dice.between(500, 5000)),
            11 => (Fault::ClientKill { shard, pubsub: dice.roll(2) == 0 }, 0),
            12 => (Fault::FunctionFlush { shard }, 0),
            _ if self.topology == Topology::Single && dice.roll(2) == 0 => {
                (Fault::RedisClock { ms: step(dice, REDIS_STEP) }, dice.between(1000, 6000))
            }
            _ => (Fault::MemoryFull { shard }, dice.between(500, 4000)),
        }
    }

    fn node(&self, dice: &mut Dice) -> usize {
        dice.roll(self.nodes as u64) as usize
    }
}

/// Draws a step of a clock, forward or back. Small steps are as frequent as large ones.
fn step(dice: &mut Dice, most: u64) -> i64 {
    let most = *dice.pick(&[5000, 120_000, most]);
    let ms = dice.between(100, most) as i64;
    if dice.roll(2) == 0 { ms } else { -ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_gives_its_own_plan() {
        for topology in Topology::ALL {
            let plan = Plan::draw(7, topology, 60);
            assert_eq!(plan, Plan::draw(7, topology, 60));
            assert_ne!(plan.faults, Plan::draw(8, topology, 60).faults);
            assert!(plan.faults.len() >= 6, "{plan:?}");
        }
    }

    #[test]
    fn a_plan_survives_serialization() {
        let plan = Plan::draw(3, Topology::Cluster, 60);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn every_fault_occurs_in_some_plan() {
        let mut names = std::collections::BTreeSet::new();
        for topology in Topology::ALL {
            for seed in 0..100 {
                names
                    .extend(Plan::draw(seed, topology, 60).faults.iter().map(|planned| planned.fault.name()));
            }
        }
        assert_eq!(names.len(), 27, "{names:?}");
    }
}
