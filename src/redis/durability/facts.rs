//! The facts about a Redis server, parsed from the replies to `INFO` and `CONFIG GET`. No I/O.

use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A single server, with or without sentinels: a data server looks the same either way.
    #[default]
    Standalone,
    Cluster,
    /// A sentinel, which holds no data.
    Sentinel,
}

/// The facts that decide how safe a confirmed message is. Facts that a managed service hides are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// The version (Valkey's own version for Valkey); empty if hidden.
    pub version: String,
    pub is_valkey: bool,
    pub mode: Mode,
    /// True for a replica, which takes no writes.
    pub is_replica: bool,
    pub appendonly: Option<bool>,
    /// The sync policy of that file: `always`, `everysec` or `no`.
    pub appendfsync: Option<String>,
    pub no_appendfsync_on_rewrite: Option<bool>,
    pub aof_last_write_ok: bool,
    /// The snapshot schedule, such as `3600 1 300 100`; empty for none.
    pub save: Option<String>,
    /// The memory limit in bytes; 0 for none.
    pub maxmemory: u64,
    /// In bytes.
    pub used_memory: u64,
    pub maxmemory_policy: Option<String>,
    pub connected_replicas: u64,
    /// Minimum number of replicas, below which writes are refused; 0 for none.
    pub min_replicas_to_write: Option<u64>,
    /// The output buffer limits of a subscriber: hard limit in bytes, soft limit in bytes, time of the soft
    /// limit in seconds; 0 for none.
    pub pubsub_buffer: Option<[u64; 3]>,
    /// The server's clock when it answered, in Unix milliseconds.
    pub time_ms: Option<u64>,
}

impl ServerFacts {
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

    /// Parses the text of `INFO` and the pairs of `CONFIG GET` (none if `CONFIG` is denied). Where both have
    /// a value, `CONFIG` takes precedence.
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
            time_ms: number(info("server_time_usec")).map(|us| us / 1000),
        }
    }

    pub(super) fn major(&self) -> Option<u32> {
        self.version.split('.').next()?.parse().ok()
    }
}

/// Parses `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
fn pubsub_buffer(limits: &str) -> Option<[u64; 3]> {
    let mut words = limits.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
    let mut next = || words.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}
