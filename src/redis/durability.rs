//! The safety of confirmed messages: compares the configured durability with Redis's settings, and explains
//! each difference and the command that fixes it. Pure: facts in, findings out.

mod facts;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use serde::Serialize;

pub(crate) use self::facts::{Mode, ServerFacts};
use crate::log::Durability;

/// The severity of a [`Finding`], ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Fine,
    Warning,
    /// Less than configured: confirmed messages can be lost, or nothing works.
    Danger,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub severity: Severity,
    pub what: String,
    pub consequence: String,
    /// The command or setting that fixes it; empty if there is nothing to fix.
    pub fix: String,
}

impl Finding {
    pub(crate) fn new(severity: Severity, what: impl Into<String>, consequence: &str, fix: &str) -> Self {
        Self { severity, what: what.into(), consequence: consequence.to_owned(), fix: fix.to_owned() }
    }
}

/// Returns all findings about a server that must give the durability `wanted`, the worst first.
pub(crate) fn findings(facts: &ServerFacts, wanted: Durability) -> Vec<Finding> {
    let mut found: Vec<Finding> = [
        version(facts),
        role(facts),
        Some(log(facts, wanted)),
        rewrite(facts, wanted),
        last_write(facts),
        Some(eviction(facts)),
        memory(facts),
        replicas(facts, wanted),
        subscribers(facts),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// Returns one line that describes the server: `Redis 7.0.15 standalone, AOF fsync always, noeviction, no
/// memory limit, 0 replicas`.
pub(crate) fn in_force(facts: &ServerFacts) -> String {
    let name = if facts.is_valkey { "Valkey" } else { "Redis" };
    let version = if facts.version.is_empty() { "of unknown version" } else { &facts.version };
    let mode = match facts.mode {
        Mode::Standalone => "standalone",
        Mode::Cluster => "cluster",
        Mode::Sentinel => "sentinel",
    };
    let role = if facts.is_replica { " replica" } else { "" };
    let log = match (facts.appendonly, facts.appendfsync.as_deref()) {
        (Some(true), Some(fsync)) => format!("AOF fsync {fsync}"),
        (Some(true), None) => "AOF, fsync unknown".to_owned(),
        (Some(false), _) if facts.save.as_deref() == Some("") => "nothing on disk".to_owned(),
        (Some(false), _) => "no AOF".to_owned(),
        (None, _) => "AOF unknown".to_owned(),
    };
    let policy = facts.maxmemory_policy.as_deref().unwrap_or("eviction unknown");
    let memory = match facts.maxmemory {
        0 => "no memory limit".to_owned(),
        bytes => format!("memory limit {} MiB", bytes >> 20),
    };
    let replicas = match facts.connected_replicas {
        1 => "1 replica".to_owned(),
        count => format!("{count} replicas"),
    };
    format!("{name} {version} {mode}{role}, {log}, {policy}, {memory}, {replicas}")
}

fn version(facts: &ServerFacts) -> Option<Finding> {
    match facts.major() {
        Some(7..) => None,
        Some(_) => Some(Finding::new(
            Severity::Danger,
            format!("Redis {} is older than 7.0", facts.version),
            "it has no functions and no sharded pub/sub, so nothing can be published or delivered",
            "install Redis 7.0 or newer, or Valkey",
        )),
        None => Some(Finding::new(
            Severity::Warning,
            "the server hides its version",
            "before 7.0 nothing can be published or delivered",
            "make sure that it is Redis 7.0 or newer, or Valkey",
        )),
    }
}

fn role(facts: &ServerFacts) -> Option<Finding> {
    if facts.mode == Mode::Sentinel {
        return Some(Finding::new(
            Severity::Danger,
            "the server is a sentinel",
            "it holds no data, so nothing can be published or delivered",
            "use a URL such as redis-sentinel://HOST:26379?sentinelServiceName=NAME",
        ));
    }
    facts.is_replica.then(|| {
        Finding::new(
            Severity::Danger,
            "the server is a replica",
            "it refuses every publish",
            "use the URL of the primary, of the sentinels, or of the cluster",
        )
    })
}

fn log(facts: &ServerFacts, wanted: Durability) -> Finding {
    use Severity::{Danger, Fine, Warning};
    let on_disk = wanted == Durability::Disk;
    let less = if on_disk { Danger } else { Warning };
    match (facts.appendonly, facts.appendfsync.as_deref()) {
        (Some(false), _) => {
            let consequence = match facts.save.as_deref() {
                Some("") => "kill, crash or power loss loses everything: there are no snapshots either",
                _ => "kill, crash or power loss loses everything since the last snapshot",
            };
            let fix = match wanted {
                Durability::Disk => {
                    "CONFIG SET appendonly yes; CONFIG SET appendfsync always; CONFIG REWRITE"
                }
                Durability::Memory | Durability::Replica => "CONFIG SET appendonly yes; CONFIG REWRITE",
            };
            Finding::new(less, "appendonly no", consequence, fix)
        }
        (None, _) => Finding::new(
            Warning,
            "the server hides whether it has an append-only file",
            "without one, kill, crash or power loss loses everything since the last snapshot",
            "check in the provider's console that appendonly is yes",
        ),
        (Some(true), Some("always")) => Finding::new(
            Fine,
            "appendonly yes, appendfsync always",
            "what was confirmed is on the disk: neither kill nor power loss loses it",
            "",
        ),
        (Some(true), Some("everysec")) if on_disk => Finding::new(
            Danger,
            "appendfsync everysec",
            "a power loss loses up to two seconds of confirmed messages (measured: 22 % of those confirmed in the test)",
            "CONFIG SET appendfsync always; CONFIG REWRITE",
        ),
        (Some(true), Some("everysec")) => Finding::new(
            Fine,
            "appendonly yes, appendfsync everysec",
            "kill and crash lose nothing confirmed; a power loss loses up to two seconds of it",
            "",
        ),
        (Some(true), Some(fsync)) => Finding::new(
            less,
            format!("appendfsync {fsync}"),
            "a power loss loses what the kernel had not written yet, often the last half minute",
            if on_disk {
                "CONFIG SET appendfsync always; CONFIG REWRITE"
            } else {
                "CONFIG SET appendfsync everysec; CONFIG REWRITE"
            },
        ),
        (Some(true), None) if on_disk => Finding::new(
            Warning,
            "the server hides appendfsync",
            "unless it is always, a power loss loses confirmed messages",
            "check in the provider's console that appendfsync is always, or set durability = \"replica\"",
        ),
        (Some(true), None) => Finding::new(
            Fine,
            "appendonly yes, appendfsync hidden",
            "kill and crash lose nothing confirmed; a power loss may",
            "",
        ),
    }
}

fn rewrite(facts: &ServerFacts, wanted: Durability) -> Option<Finding> {
    let paused = facts.appendonly == Some(true) && facts.no_appendfsync_on_rewrite == Some(true);
    (paused && wanted == Durability::Disk).then(|| {
        Finding::new(
            Severity::Danger,
            "no-appendfsync-on-rewrite yes",
            "while the append-only file is rewritten nothing is synced to disk, not even with appendfsync always",
            "CONFIG SET no-appendfsync-on-rewrite no; CONFIG REWRITE",
        )
    })
}

fn last_write(facts: &ServerFacts) -> Option<Finding> {
    (!facts.aof_last_write_ok).then(|| {
        Finding::new(
            Severity::Danger,
            "the last write to the append-only file failed",
            "Redis refuses publishes until a write succeeds",
            "see Redis's log; most often the disk is full",
        )
    })
}

fn eviction(facts: &ServerFacts) -> Finding {
    const FIX: &str = "CONFIG SET maxmemory-policy noeviction; CONFIG REWRITE";
    match facts.maxmemory_policy.as_deref() {
        Some("noeviction") => Finding::new(
            Severity::Fine,
            "maxmemory-policy noeviction",
            "at its memory limit Redis refuses publishes and deletes nothing",
            "",
        ),
        None => Finding::new(
            Severity::Warning,
            "the server hides maxmemory-policy",
            "unless it is noeviction, confirmed messages are deleted at the memory limit",
            "check in the provider's console that maxmemory-policy is noeviction",
        ),
        Some(policy) => {
            let consequence = if policy.starts_with("volatile") {
                "at its memory limit Redis deletes the keys that recognise repeated publishes, so messages appear twice"
            } else {
                "at its memory limit Redis deletes whole rooms with their confirmed messages"
            };
            let severity = if facts.maxmemory > 0 { Severity::Danger } else { Severity::Warning };
            Finding::new(severity, format!("maxmemory-policy {policy}"), consequence, FIX)
        }
    }
}

fn memory(facts: &ServerFacts) -> Option<Finding> {
    if facts.maxmemory == 0 {
        return Some(Finding::new(
            Severity::Warning,
            "maxmemory 0",
            "Redis uses memory until the system kills it, instead of refusing publishes before that",
            "CONFIG SET maxmemory 4gb; CONFIG REWRITE (instead of 4gb, about 60 % of the machine's memory)",
        ));
    }
    let percent = u128::from(facts.used_memory) * 100 / u128::from(facts.maxmemory);
    (percent >= 90).then(|| {
        Finding::new(
            Severity::Warning,
            format!("{percent} % of maxmemory is in use"),
            "from 95 % on publishes are refused",
            "give it more memory with CONFIG SET maxmemory (the server's own: embedded.max_memory), or keep less in the rooms",
        )
    })
}

fn replicas(facts: &ServerFacts, wanted: Durability) -> Option<Finding> {
    use Severity::{Danger, Fine, Warning};
    let count = facts.connected_replicas;
    match (wanted, count) {
        (Durability::Replica, 0) => Some(Finding::new(
            Danger,
            "no replica is connected",
            "no publish can be confirmed as being on a replica",
            "start a replica with REPLICAOF, or set durability = \"disk\"",
        )),
        (Durability::Replica, _) if facts.min_replicas_to_write == Some(0) => Some(Finding::new(
            Warning,
            "min-replicas-to-write 0",
            "a primary that is cut off from its replicas keeps accepting messages that a failover then discards",
            "CONFIG SET min-replicas-to-write 1; CONFIG REWRITE",
        )),
        (Durability::Replica, _) => Some(Finding::new(
            Fine,
            format!("replicas connected: {count}"),
            "what was confirmed is in the memory of at least one of them",
            "",
        )),
        (Durability::Memory | Durability::Disk, 0) => None,
        (Durability::Memory | Durability::Disk, _) => Some(Finding::new(
            Warning,
            format!("replicas connected: {count}, and publishes do not wait for them"),
            "a failover loses the confirmed messages that had not reached the promoted replica",
            "durability = \"replica\", if failovers are likelier than power losses",
        )),
    }
}

fn subscribers(facts: &ServerFacts) -> Option<Finding> {
    (facts.pubsub_buffer.is_some_and(|[hard, soft, _]| hard == 0 && soft == 0)).then(|| {
        Finding::new(
            Severity::Warning,
            "client-output-buffer-limit pubsub 0 0 0",
            "a node that reads too slowly fills the memory of Redis",
            "CONFIG SET client-output-buffer-limit \"pubsub 32mb 8mb 60\"; CONFIG REWRITE",
        )
    })
}
