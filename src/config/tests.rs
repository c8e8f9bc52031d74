//! Tests of the layers, and of errors that name a key and its origin.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::protocol::RoomName;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn load(file: &str, env: &[(&str, &str)], flags: &[(&str, toml::Value)]) -> Result<Config, String> {
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let flags = flags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
    Config::load(Some((Path::new("roomlog.toml"), file)), env, flags).map_err(|error| error.to_string())
}

fn refused(file: &str, env: &[(&str, &str)], words: &[&str]) {
    let error = load(file, env, &[]).unwrap_err();
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

#[test]
fn the_defaults_are_a_valid_configuration() {
    let config = Config::load(None, std::iter::empty(), vec![]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.metrics_listen, None);
    assert_eq!(config.limits.max_message, 65536);
    assert_eq!(config.limits.publish_rate, None);
    assert_eq!(config.auth.revocation_ttl, Duration::from_secs(400 * 86400));
    assert!(!config.auth.is_configured());
    assert!(config.is_embedded());
    assert_eq!(config.durability(), Durability::Disk);
    let policy = config.rooms.of(&room("any"));
    assert_eq!(policy.max_age, Some(Duration::from_secs(30 * 86400)));
    assert_eq!((policy.max_length, policy.max_bytes), (Some(1_000_000), Some(1_000_000_000)));
    assert!(policy.keep_unacked);
}

#[test]
fn each_layer_overrides_the_previous_one() {
    let file = "[server]\nlisten = \"1.1.1.1:1\"\nshutdown_grace = \"1s\"\n[limits]\nconnections = 5";
    let env = [("ROOMLOG_SERVER__LISTEN", "2.2.2.2:2"), ("ROOMLOG_LIMITS__MAX_MESSAGE", "7")];
    let flags = [("server.listen", "3.3.3.3:3".into()), ("limits.outbox", "1MiB".into())];
    assert_eq!(load(file, &[], &[]).unwrap().server.listen.to_string(), "1.1.1.1:1");
    assert_eq!(load(file, &env, &[]).unwrap().server.listen.to_string(), "2.2.2.2:2");
    let config = load(file, &env, &flags).unwrap();
    assert_eq!(config.server.listen.to_string(), "3.3.3.3:3");
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(1));
    assert_eq!((config.limits.connections, config.limits.max_message), (5, 7));
    assert_eq!(config.limits.outbox, 1 << 20);
}

#[test]
fn lists_in_the_environment_are_separated_by_commas_or_toml() {
    for text in ["https://a.example, https://b.example", "[\"https://a.example\", \"https://b.example\"]"] {
        let config = load("", &[("ROOMLOG_SERVER__ALLOWED_ORIGINS", text)], &[]).unwrap();
        assert_eq!(config.server.allowed_origins, ["https://a.example", "https://b.example"]);
    }
    let config = load("", &[("ROOMLOG_AUTH__ALGORITHMS", "RS256,EdDSA")], &[]).unwrap();
    assert_eq!(config.auth.algorithms, [Algorithm::RS256, Algorithm::EdDSA]);
}

#[test]
fn variables_of_others_are_ignored() {
    let env = [("ROOMLOG_URL", "x"), ("ROOMLOG_TOKEN", "x"), ("ROOMLOG_LOG", "x"), ("SERVER__LISTEN", "x")];
    assert_eq!(load("", &env, &[]), load("", &[], &[]));
}

#[test]
fn the_first_matching_room_table_applies_with_defaults_for_missing_keys() {
    let file = "[[rooms]]\nmatch = \"chat.*\"\nmax_age = \"7d\"\n[[rooms]]\nmatch = \"chat.a\"\nmax_length = 0\n\
                [[rooms]]\nmatch = \"log.*\"\nmax_bytes = \"10MB\"\nkeep_unacked = false";
    let config = load(file, &[], &[]).unwrap();
    let chat = config.rooms.of(&room("chat.a"));
    assert_eq!((chat.max_age, chat.max_length), (Some(Duration::from_secs(7 * 86400)), Some(1_000_000)));
    let log = config.rooms.of(&room("log.x"));
    assert_eq!((log.max_bytes, log.keep_unacked), (Some(10_000_000), false));
    assert_eq!(config.rooms.of(&room("other")).max_bytes, Some(1_000_000_000));
    assert_eq!(config.rooms.iter().count(), 4);

    let env = [("ROOMLOG_ROOMS", "[{ match = \"*\", max_age = \"0s\" }]")];
    let config = load(file, &env, &[]).unwrap();
    assert_eq!(config.rooms.of(&room("chat.a")).max_age, None);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_key() {
    refused(
        "[limits]\nmax_mesage = 1",
        &[],
        &["roomlog.toml", "`limits.max_mesage`", "mean `limits.max_message`", "outbox"],
    );
    refused("[limts]\n", &[], &["roomlog.toml", "`limts`", "mean `limits`", "retention"]);
    refused("listen = 1", &[], &["`listen`", "valid here: auth"]);
    refused(
        "",
        &[("ROOMLOG_SERVER__LISTN", "x")],
        &["variable ROOMLOG_SERVER__LISTN", "mean `server.listen`"],
    );
    refused("", &[("ROOMLOG_SEVER__LISTEN", "x")], &["`sever.listen`", "mean `server`"]);
    refused(
        "[[rooms]]\nmatch = \"*\"\nmaxage = \"1d\"",
        &[],
        &["`rooms[0].maxage`", "mean `rooms[0].max_age`"],
    );
    let flag = load("", &[], &[("hub.ring", 1.into())]).unwrap_err();
    assert!(flag.contains("command line: unknown key `hub.ring`"), "{flag}");
}

#[test]
fn bad_values_are_refused_with_their_rule() {
    for (key, value, rule) in [
        ("server.listen", "\"localhost\"", "127.0.0.1:8080"),
        ("server.metrics_listen", "\":80\"", "an IP address and a port"),
        ("server.allowed_origins", "[\"https://a.example/\"]", "without a path"),
        ("server.shutdown_grace", "10", "a duration such as"),
        ("server.shutdown_grace", "\"0s\"", "more than 0"),
        ("redis.url", "\"http://redis\"", "begins with redis://"),
        ("redis.prefix", "\"{a}\"", "A-Z"),
        ("redis.clients", "17", "1 to 16"),
        ("redis.clients", "0", "more than 0"),
        ("redis.durability", "\"tape\"", "`replica`"),
        ("redis.durability", "\"replica\"", "redis.url"),
        ("embedded.data_dir", "\"\"", "a path"),
        ("auth.algorithms", "[\"none\"]", "`RS256`"),
        ("auth.jwks_url", "\"ftp://a\"", "https://"),
        ("auth.hs256_secret", "\"short\"", "openssl rand -hex 32"),
        ("limits.max_message", "\"64 kilo\"", "64KiB"),
        ("limits.max_message", "-1", "number of bytes"),
        ("limits.connections", "\"many\"", "whole number"),
        ("limits.publish_rate", "5000000000", "whole number"),
        ("limits.outbox", "100", "limits.max_message"),
        ("hub.ring_budget", "1", "hub.ring_bytes"),
        ("log.level", "\"loud\"", "`debug`"),
        ("log.format", "3", "must be text in quotes"),
        ("auth.algorithms", "[1]", "must be a list"),
    ] {
        let (section, name) = key.split_once('.').unwrap();
        refused(&format!("[{section}]\n{name} = {value}"), &[], &["roomlog.toml", &format!("`{key}`"), rule]);
        let variable = format!("ROOMLOG_{}__{}", section.to_uppercase(), name.to_uppercase());
        refused("", &[(&variable, value.trim_matches('"'))], &[&variable, &format!("`{key}`")]);
    }
    refused(
        "[[rooms]]\nmatch = \"a\"\nmax_length = \"1GB\"",
        &[],
        &["`rooms[0].max_length`", "whole number"],
    );
    refused("[[rooms]]\nmatch = \"a\"\nkeep_unacked = 1", &[], &["`rooms[0].keep_unacked`", "true or false"]);
    refused("rooms = 1", &[], &["`rooms`", "[[rooms]]"]);
    refused("server = 1", &[], &["`server`", "is a section"]);
    refused("[rooms]\nmatch = \"*\"", &[], &["[[rooms]]"]);
    refused("[[rooms]]\nmax_age = \"1d\"", &[], &["`rooms[0].match`", "is missing"]);
    refused("[[rooms]]\nmatch = \"a b\"", &[], &["`rooms[0].match`", "room pattern"]);
    refused("[[rooms]]\nmatch = \"a\"\nmax_age = \"old\"", &[], &["`rooms[0].max_age`", "30d"]);
    refused("", &[("ROOMLOG_ROOMS", "chat.*")], &["variable ROOMLOG_ROOMS", "match ="]);
    refused("", &[("ROOMLOG_ROOMS", "[{ match ]")], &["variable ROOMLOG_ROOMS", "TOML"]);
    refused("[server]\n\nlisten = ", &[], &["roomlog.toml, line 3"]);
}

#[test]
fn secrets_are_never_shown() {
    let file = format!("[auth]\nhs256_secret = \"{SECRET}\"\n[redis]\nurl = \"redis://u:hunter2@h\"");
    let config = load(&file, &[], &[]).unwrap();
    assert_eq!(config.auth.hs256_secret.as_ref().unwrap().expose(), SECRET);
    for shown in [format!("{config:?}"), format!("{config:#?}"), config.to_toml().unwrap()] {
        assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
    }
    for file in [
        "[auth]\nhs256_secret = 4711",
        "[auth]\nhs256_secret = \"4711\"",
        "[auth]\nhs256_secret = \"4711",
        "[auth]\nhs256_secret = [\"4711\"]",
        "[redis]\nurl = 4711",
        "[redis]\nurl = \"rediss:4711@h\"",
    ] {
        let refusal = load(file, &[], &[]).unwrap_err();
        assert!(!refusal.contains("4711"), "{refusal}");
    }
    let file = format!("[auth]\nhs256_secret = \"{SECRET}\"\nalgorithms = [\"RS256\"]");
    refused(&file, &[], &["`auth.algorithms`", "HS256"]);
}

#[test]
fn the_printed_configuration_loads_to_the_same_values() {
    let file = "[limits]\npublish_rate = 10\n[redis]\nurl = \"redis://h:1\"\n[[rooms]]\nmatch = \"a\"\nmax_age = \"0s\"";
    let config = load(file, &[], &[]).unwrap();
    let printed = config.to_toml().unwrap();
    let mut again = load(&printed, &[], &[]).unwrap();
    // The default policy was printed, and is added again.
    again.rooms = config.rooms.clone();
    assert_eq!(again, config);
}

#[test]
fn every_default_is_described() {
    let mut comment = false;
    for line in DEFAULTS.lines() {
        let described = comment || ["match", "ring_bytes"].iter().any(|key| line.starts_with(key));
        assert!(!line.contains(" = ") || line.starts_with('#') || described, "{line}");
        comment = line.starts_with('#');
    }
}
