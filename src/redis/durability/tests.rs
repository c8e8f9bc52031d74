//! Findings for typical servers, each described as a difference from a well-configured Redis 7.0.15.

use super::*;

/// The reply of a Redis 7.0.15 to `INFO`, with an append-only file and without a memory limit.
const INFO: &str = include_str!("info-7.0.15.txt");

const CONFIG: [(&str, &str); 8] = [
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
    ("save", ""),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("min-replicas-to-write", "0"),
    ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
];

/// The facts of that server, with some lines of `INFO` and some settings changed.
fn facts(info: &[(&str, &str)], config: &[(&str, &str)]) -> ServerFacts {
    let change = |name: &str, value: &str, changes: &[(&str, &str)]| {
        changes.iter().find(|(changed, _)| *changed == name).map_or(value, |(_, value)| value).to_owned()
    };
    let mut text = String::new();
    for line in INFO.lines() {
        match line.split_once(':') {
            Some((name, value)) => text += &format!("{name}:{}\r\n", change(name, value, info)),
            None => text += &format!("{line}\r\n"),
        }
    }
    let pairs = CONFIG.map(|(name, value)| (name.to_owned(), change(name, value, config)));
    ServerFacts::read(&text, &pairs)
}

fn troubles(facts: &ServerFacts, wanted: &str) -> Vec<String> {
    findings(facts, wanted.parse().unwrap())
        .into_iter()
        .filter(|finding| finding.severity > Severity::Fine)
        .inspect(|finding| assert!(!finding.fix.is_empty() && !finding.consequence.is_empty()))
        .map(|finding| format!("{:?}: {}", finding.severity, finding.what).to_lowercase())
        .collect()
}

#[test]
fn facts_are_parsed_from_the_replies_of_redis() {
    let facts = facts(&[], &[("maxmemory", "1073741824")]);
    assert_eq!(
        facts,
        ServerFacts {
            version: "7.0.15".to_owned(),
            is_valkey: false,
            mode: Mode::Standalone,
            is_replica: false,
            appendonly: Some(true),
            appendfsync: Some("always".to_owned()),
            no_appendfsync_on_rewrite: Some(false),
            aof_last_write_ok: true,
            save: Some(String::new()),
            maxmemory: 1 << 30,
            used_memory: facts.used_memory,
            maxmemory_policy: Some("noeviction".to_owned()),
            connected_replicas: 0,
            min_replicas_to_write: Some(0),
            pubsub_buffer: Some([33_554_432, 8_388_608, 60]),
            time_ms: Some(1_795_328_092_905),
        }
    );
    assert!(facts.used_memory > 900_000);
}

#[test]
fn without_config_facts_come_from_info_or_are_unknown() {
    let facts = ServerFacts::read(INFO, &[]);
    assert_eq!((facts.appendonly, facts.appendfsync.as_deref()), (Some(true), None));
    assert_eq!(facts.maxmemory_policy.as_deref(), Some("noeviction"));
    assert_eq!(troubles(&facts, "disk"), ["warning: the server hides appendfsync", "warning: maxmemory 0"]);
    assert_eq!(troubles(&facts, "memory"), ["warning: maxmemory 0"]);
}

#[test]
fn a_server_that_hides_its_facts_gives_warnings() {
    let facts = ServerFacts::read("", &[]);
    let found = troubles(&facts, "disk");
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|trouble| trouble.starts_with("warning")), "{found:?}");
}

#[test]
fn valkey_is_described_by_its_own_version() {
    let info = format!("{INFO}\r\nserver_name:valkey\r\nvalkey_version:8.1.3\r\n");
    let facts = ServerFacts::read(&info, &[]);
    assert_eq!((facts.is_valkey, facts.version.as_str()), (true, "8.1.3"));
    assert!(in_force(&facts).starts_with("Valkey 8.1.3 standalone"));
}

#[test]
fn each_deviation_has_its_finding() {
    type Changes = &'static [(&'static str, &'static str)];
    /// A memory limit, so that the warning about it is not in every row.
    const LIMIT: (&str, &str) = ("maxmemory", "1073741824");
    let table: &[(Changes, Changes, &str, &[&str])] = &[
        (&[], &[LIMIT], "disk", &[]),
        (&[], &[LIMIT], "memory", &[]),
        (&[], &[], "disk", &["warning: maxmemory 0"]),
        (&[], &[LIMIT, ("appendfsync", "everysec")], "disk", &["danger: appendfsync everysec"]),
        (&[], &[LIMIT, ("appendfsync", "everysec")], "memory", &[]),
        (&[], &[LIMIT, ("appendfsync", "no")], "disk", &["danger: appendfsync no"]),
        (&[], &[LIMIT, ("appendfsync", "no")], "memory", &["warning: appendfsync no"]),
        (&[], &[LIMIT, ("appendonly", "no")], "disk", &["danger: appendonly no"]),
        (&[], &[LIMIT, ("appendonly", "no")], "memory", &["warning: appendonly no"]),
        (
            &[],
            &[LIMIT, ("no-appendfsync-on-rewrite", "yes")],
            "disk",
            &["danger: no-appendfsync-on-rewrite yes"],
        ),
        (
            &[],
            &[LIMIT, ("maxmemory-policy", "allkeys-lru")],
            "disk",
            &["danger: maxmemory-policy allkeys-lru"],
        ),
        (
            &[],
            &[("maxmemory-policy", "volatile-lru")],
            "disk",
            &["warning: maxmemory-policy volatile-lru", "warning: maxmemory 0"],
        ),
        (&[("used_memory", "1000000000")], &[LIMIT], "disk", &["warning: 93 % of maxmemory is in use"]),
        (&[("redis_version", "6.2.14")], &[LIMIT], "disk", &["danger: redis 6.2.14 is older than 7.0"]),
        (&[("redis_version", "10.0.1")], &[LIMIT], "disk", &[]),
        (&[("redis_mode", "sentinel")], &[LIMIT], "disk", &["danger: the server is a sentinel"]),
        (&[("redis_mode", "cluster")], &[LIMIT], "disk", &[]),
        (&[("role", "slave")], &[LIMIT], "disk", &["danger: the server is a replica"]),
        (
            &[("aof_last_write_status", "err")],
            &[LIMIT],
            "memory",
            &["danger: the last write to the append-only file failed"],
        ),
        (&[], &[LIMIT], "replica", &["danger: no replica is connected"]),
        (&[("connected_slaves", "1")], &[LIMIT], "replica", &["warning: min-replicas-to-write 0"]),
        (&[("connected_slaves", "1")], &[LIMIT, ("min-replicas-to-write", "1")], "replica", &[]),
        (
            &[("connected_slaves", "2")],
            &[LIMIT],
            "disk",
            &["warning: replicas connected: 2, and publishes do not wait for them"],
        ),
        (
            &[],
            &[LIMIT, ("client-output-buffer-limit", "normal 0 0 0 slave 0 0 0 pubsub 0 0 0")],
            "disk",
            &["warning: client-output-buffer-limit pubsub 0 0 0"],
        ),
    ];
    for (info, config, wanted, expected) in table {
        assert_eq!(&troubles(&facts(info, config), wanted), expected, "{info:?} {config:?} {wanted}");
    }
}

#[test]
fn the_worst_comes_first() {
    let facts = facts(&[("connected_slaves", "1")], &[("appendfsync", "everysec")]);
    let severities: Vec<_> =
        findings(&facts, Durability::Disk).iter().map(|finding| finding.severity).collect();
    assert_eq!(severities.first(), Some(&Severity::Danger));
    assert_eq!(severities.last(), Some(&Severity::Fine));
    assert!(severities.is_sorted_by(|a, b| a >= b));
}

#[test]
fn the_settings_in_force_are_one_line() {
    let small =
        facts(&[("connected_slaves", "1")], &[("maxmemory", "1073741824"), ("appendfsync", "everysec")]);
    for (facts, line) in [
        (
            facts(&[], &[]),
            "Redis 7.0.15 standalone, AOF fsync always, noeviction, no memory limit, 0 replicas",
        ),
        (small, "Redis 7.0.15 standalone, AOF fsync everysec, noeviction, memory limit 1024 MiB, 1 replica"),
        (
            ServerFacts::read("", &[]),
            "Redis of unknown version standalone, AOF unknown, eviction unknown, no memory limit, 0 replicas",
        ),
    ] {
        assert_eq!(in_force(&facts), line);
    }
}

#[test]
fn durabilities_read_back_what_they_print() {
    for durability in [Durability::Memory, Durability::Replica, Durability::Disk] {
        assert_eq!(durability.to_string().parse(), Ok(durability));
    }
    let error = "fast".parse::<Durability>().unwrap_err().to_string();
    assert_eq!(error, "durability is memory, replica or disk, and not \"fast\"");
}
