//! What a Redis says of itself, read from the texts of `INFO` and `CONFIG GET`. No I/O.

use std::collections::HashMap;

/// How the server is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By itself, or watched by sentinels: a data server looks the same either way.
    #[default]
    Standalone,
    /// As a node of a cluster.
    Cluster,
    /// As a sentinel, which holds no data.
    Sentinel,
}

/// What decides how safe a confirmed message is. What a managed service hides is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// The version, Valkey's own if it is Valkey; empty if hidden.
    pub version: String,
    /// Whether it is Valkey.
    pub is_valkey: bool,
    /// How it is run.
    pub mode: Mode,
    /// Whether it is a replica, which takes no writes.
    pub is_replica: bool,
    /// Whether every write goes to the append-only file.
    pub appendonly: Option<bool>,
    /// When that file is brought to the disk: `always`, `everysec` or `no`.
    pub appendfsync: Option<String>,
    /// Whether it stops doing so while the file is rewritten.
    pub no_appendfsync_on_rewrite: Option<bool>,
    /// Whether the last write to that file went well.
    pub aof_last_write_ok: bool,
    /// When snapshots are made, such as `3600 1 300 100`; empty for never.
    pub save: Option<String>,
    /// The limit of its memory in bytes; 0 is none.
    pub maxmemory: u64,
    /// The memory in use, in bytes.
    pub used_memory: u64,
    /// What it does at that limit, such as `noeviction`.
    pub maxmemory_policy: Option<String>,
    /// Replicas connected right now.
    pub connected_replicas: u64,
    /// Below how many replicas it refuses writes; 0 is never.
    pub min_replicas_to_write: Option<u64>,
    /// The limits of what waits for a subscriber: hard limit in bytes, soft limit in bytes, its time in seconds; 0 is none.
    pub pubsub_buffer: Option<[u64; 3]>,
}

impl ServerFacts {
    /// The settings that [`ServerFacts::read`] wants from `CONFIG GET`.
    pub const SETTINGS: [&'static str; 8] = [
        "appendonly",
        "appendfsync",
        "no-appendfsync-on-rewrite",
        "save",
        "maxmemory",
        "maxmemory-policy",
        "min-replicas-to-write",
        "client-output-buffer-limit",
    ];

    /// Reads the text of `INFO` and the pairs of `CONFIG GET`; no pairs where `CONFIG` is denied.
    /// Where both know something, `CONFIG` is believed.
    pub fn read(info: &str, config: &[(String, String)]) -> Self {
        let info: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let info = |name: &str| info.get(name).copied();
        let config: HashMap<&str, &str> = config.iter().map(|(name, value)| (&**name, &**value)).collect();
        let config = |name: &str| config.get(name).copied();
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());

        let valkey = info("valkey_version");
        Self {
            version: valkey.or(info("redis_version")).unwrap_or_default().to_owned(),
            is_valkey: valkey.is_some(),
            mode: match info("redis_mode").or(info("server_mode")) {
                Some("cluster") => Mode::Cluster,
                Some("sentinel") => Mode::Sentinel,
                _ => Mode::Standalone,
            },
            is_replica: info("role") == Some("slave"),
            appendonly: config("appendonly").map(|v| v == "yes").or(info("aof_enabled").map(|v| v == "1")),
            appendfsync: config("appendfsync").map(str::to_owned),
            no_appendfsync_on_rewrite: config("no-appendfsync-on-rewrite").map(|v| v == "yes"),
            aof_last_write_ok: info("aof_last_write_status") != Some("err"),
            save: config("save").map(str::to_owned),
            maxmemory: number(config("maxmemory").or(info("maxmemory"))).unwrap_or_default(),
            used_memory: number(info("used_memory")).unwrap_or_default(),
            maxmemory_policy: config("maxmemory-policy").or(info("maxmemory_policy")).map(str::to_owned),
            connected_replicas: number(info("connected_slaves")).unwrap_or_default(),
            min_replicas_to_write: number(config("min-replicas-to-write")),
            pubsub_buffer: config("client-output-buffer-limit").and_then(pubsub_buffer),
        }
    }

    /// The first number of the version.
    pub(super) fn major(&self) -> Option<u32> {
        self.version.split('.').next()?.parse().ok()
    }
}

/// Reads `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
fn pubsub_buffer(limits: &str) -> Option<[u64; 3]> {
    let mut words = limits.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
    let mut next = || words.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}
