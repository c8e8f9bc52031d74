//! The Redis servers of a run.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Mutex;

use super::{Peer, Proxy, Rule};
use crate::harness::{Clock, Dials, Place, Redis, Reply, SLOTS, Sentinel, compiled, form, free_port};
use crate::model::plan::{Plan, Topology};

/// The password of the nodes' users in Redis, by which proxies tell nodes apart.
const PASSWORD: &str = "torture";

/// Time limit for a command to a Redis.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A Redis that is reached through its proxy, and known by the proxy's port.
#[derive(Debug)]
pub struct Instance {
    pub process: Mutex<Redis>,
    /// The proxy in front of it.
    pub proxy: Proxy,
    pub clock: Clock,
    disk: Dials,
    place: Place,
    /// Its own port.
    pub port: u16,
}

impl Instance {
    async fn start(plan: &Plan, more: &[&str]) -> Self {
        let port = free_port();
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await;
        let (clock, disk) = (Clock::new(), Dials::new(&[0, 0, 0]));
        let libraries = [compiled("tests/torture/shims/disk.c"), compiled("crates/testkit/src/clock.c")];
        let libraries: Vec<_> = libraries.iter().map(|path| path.display().to_string()).collect();
        let mut env: Vec<_> = clock.env().into_iter().filter(|(name, _)| *name != "LD_PRELOAD").collect();
        env.extend([("LD_PRELOAD", libraries.join(":")), ("TEST_DISK", disk.path().to_owned())]);
        let mut settings: Vec<String> =
            ["--appendonly", "yes", "--appendfsync", plan.sync.name()].map(str::to_owned).to_vec();
        for node in 0..plan.nodes {
            let user = format!("--user node{node} on >{PASSWORD} ~* &* +@all");
            settings.extend(user.split(' ').map(str::to_owned));
        }
        settings.extend(more.iter().map(|word| (*word).to_owned()));
        let announced = proxy.address.port().to_string();
        let announce = match plan.topology {
            Topology::Cluster => vec![
                "--cluster-announce-port".to_owned(),
                announced,
                "--cluster-announce-bus-port".to_owned(),
                (port + 10_000).to_string(),
            ],
            _ => vec!["--replica-announce-port".to_owned(), announced],
        };
        settings.extend(announce);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let redis = Redis::in_env(env, port, &settings).await;
        let place = redis.place();
        Self { process: Mutex::new(redis), proxy, clock, disk, place, port }
    }

    /// Sets the state of its disk: whether writes are held back until a sync, whether it is full, and the
    /// extra time of a sync in ms.
    pub fn disk(&self, hold: bool, full: bool, sync_ms: u64) {
        self.disk.set(&[hold.into(), full.into(), sync_ms as i64]);
    }

    /// Sends a command. Returns the reply if it comes within [`PATIENCE`].
    pub fn ask<A: AsRef<[u8]>>(&self, command: &[A]) -> Option<Reply> {
        tokio::task::block_in_place(|| self.place.ask(command, PATIENCE)).ok()
    }

    /// Returns a field of `INFO`.
    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        let text = self.ask(&["INFO", section])?.text();
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::to_owned)
    }

    /// Returns whether it accepts writes as a primary.
    pub fn is_primary(&self) -> bool {
        self.info("replication", "role").is_some_and(|role| role == "master")
    }

    /// Sets a rule for several peers.
    pub fn rule(&self, peers: &[Peer], rule: Rule) {
        peers.iter().for_each(|peer| self.proxy.rule(*peer, rule));
    }
}

/// All Redis servers and sentinels of a run.
#[derive(Debug)]
pub struct Storage {
    topology: Topology,
    nodes: usize,
    /// The servers. In a cluster, the initial primaries of the shards come first, then their replicas.
    pub instances: Vec<Instance>,
    /// A primary without slots, for clusters that grow.
    pub spare: Option<Instance>,
    sentinels: Vec<Sentinel>,
}

impl Storage {
    /// Starts the servers that the plan needs.
    pub async fn start(plan: &Plan) -> Self {
        let (mut instances, mut sentinels) = (Vec::new(), Vec::new());
        let mut spare = None;
        match plan.topology {
            Topology::Single => instances.push(Instance::start(plan, &[]).await),
            Topology::Sentinel => {
                let patient = ["--repl-timeout", "5", "--repl-ping-replica-period", "1"];
                instances.push(Instance::start(plan, &patient).await);
                let primary = instances[0].proxy.address.port().to_string();
                for _ in 0..2 {
                    let replica = ["--replicaof", "127.0.0.1", &primary];
                    instances.push(Instance::start(plan, &[&replica[..], &patient].concat()).await);
                }
                for _ in 0..3 {
                    sentinels.push(Sentinel::watching(instances[0].proxy.address.port(), 2, 2).await);
                }
            }
            Topology::Cluster => {
                let settings = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "1500",
                    "--cluster-replica-validity-factor",
                    "0",
                    "--cluster-allow-replica-migration",
                    "no",
                    "--repl-timeout",
                    "5",
                    "--repl-ping-replica-period",
                    "1",
                ];
                for _ in 0..2 * SLOTS.len() {
                    instances.push(Instance::start(plan, &settings).await);
                }
                spare = Some(Instance::start(plan, &settings).await);
                let mut servers = Vec::new();
                for instance in &instances {
                    servers.push(instance.process.lock().await);
                }
                let servers: Vec<&Redis> = servers.iter().map(|server| &**server).collect();
                form(&servers).await;
            }
        }
        let storage = Self { topology: plan.topology, nodes: plan.nodes, instances, spare, sentinels };
        crate::harness::eventually("all sentinels know each other", async || {
            storage.sentinels.iter().all(|sentinel| {
                sentinel.ask(&["SENTINEL", "MASTER", "main"]).field("num-other-sentinels").number() == 2
            })
        })
        .await;
        storage
    }

    /// Returns the URL for a node.
    pub fn url(&self, node: usize) -> String {
        let ports = |ports: Vec<u16>| {
            let others: Vec<_> = ports[1..].iter().map(|port| format!("node=127.0.0.1:{port}")).collect();
            (ports[0], others.join("&"))
        };
        let announced = || ports(self.instances.iter().map(|one| one.proxy.address.port()).collect());
        let user = format!("node{node}:{PASSWORD}@127.0.0.1");
        match self.topology {
            Topology::Single => format!("redis://{user}:{}", announced().0),
            Topology::Sentinel => {
                let (first, others) = ports(self.sentinels.iter().map(Sentinel::port).collect());
                format!("redis-sentinel://{user}:{first}?sentinelServiceName=main&{others}")
            }
            Topology::Cluster => {
                let (first, others) = announced();
                format!("redis-cluster://{user}:{first}?{others}")
            }
        }
    }

    /// Returns all peers of a Redis.
    pub fn peers(&self) -> Vec<Peer> {
        (0..self.nodes).map(Peer::Node).chain([Peer::Replica, Peer::Other]).collect()
    }

    /// Returns the log of each process, by its name.
    pub async fn logs(&self) -> Vec<(String, String)> {
        let mut logs = Vec::new();
        for one in self.instances.iter().chain(&self.spare) {
            let name = format!("redis-{}-at-{}", one.port, one.proxy.address.port());
            logs.push((name, one.process.lock().await.log()));
        }
        let sentinels = self.sentinels.iter();
        logs.extend(sentinels.map(|one| (format!("sentinel-{}", one.port()), one.log())));
        logs
    }

    /// Returns one of the sentinels.
    pub fn sentinel(&self) -> &Sentinel {
        &self.sentinels[0]
    }

    /// Returns the current primary of a shard.
    pub fn primary(&self, shard: usize) -> Option<&Instance> {
        match self.topology {
            Topology::Single => self.instances.first(),
            Topology::Sentinel => {
                let address = self.sentinels[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
                let port = address.list()[1].number();
                self.instances.iter().find(|one| i64::from(one.proxy.address.port()) == port)
            }
            Topology::Cluster => {
                let pair = [&self.instances[shard], &self.instances[shard + SLOTS.len()]];
                pair.into_iter().find(|one| one.is_primary())
            }
        }
    }

    /// Returns a description of what does not work yet.
    pub fn wanting(&self) -> Option<String> {
        let primaries = self.instances.iter().filter(|one| one.is_primary()).count();
        let replicas = self.instances.iter().filter(|one| {
            !one.is_primary() && one.info("replication", "master_link_status").is_some_and(|up| up == "up")
        });
        let (primaries_wanted, replicas_wanted) = match self.topology {
            Topology::Single => (1, 0),
            Topology::Sentinel => (1, 2),
            Topology::Cluster => (3, 3),
        };
        let replicas = replicas.count();
        if (primaries, replicas) != (primaries_wanted, replicas_wanted) {
            return Some(format!("there are {primaries} primaries and {replicas} replicas that follow"));
        }
        let complete = |one: &Instance| {
            one.ask(&["CLUSTER", "INFO"]).is_some_and(|info| info.text().contains("cluster_state:ok"))
        };
        let incomplete = self.topology == Topology::Cluster && !self.instances.iter().all(complete);
        incomplete.then(|| "the cluster is not complete".to_owned())
    }

    /// Ends everything that a fault may have left behind.
    pub async fn heal(&self) {
        for one in self.instances.iter().chain(&self.spare) {
            one.rule(&self.peers(), Rule::default());
            one.clock.shift(0);
            one.disk(false, false, 0);
            one.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        }
    }
}
