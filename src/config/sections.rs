//! The sections of the configuration except `[auth]` and `[[rooms]]`: one struct for each. The defaults named
//! here are those of `defaults.toml`, which alone sets them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::log::Durability;

use super::secret::SecretUrl;
use super::values;

/// `[server]`: listeners, TLS and shutdown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerConfig {
    /// Address and port that clients connect to. Default `127.0.0.1:8080`.
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// Address and port for `/metrics` alone; with `None`, the default, it is on the main listener.
    #[serde(deserialize_with = "values::address_or_empty", serialize_with = "values::or_empty::serialize")]
    pub metrics_listen: Option<SocketAddr>,
    /// Origins whose pages may connect from a browser, `*` for all. Default none.
    #[serde(deserialize_with = "origins")]
    pub allowed_origins: Vec<String>,
    /// PEM file with the certificate chain for TLS. Default none: no TLS.
    #[serde(with = "values::or_empty")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key. Default none.
    #[serde(with = "values::or_empty")]
    pub tls_key: Option<PathBuf>,
    /// Time that connections get to finish when the server shuts down. Default 10 s.
    #[serde(with = "values::duration")]
    pub shutdown_grace: Duration,
}

/// `[redis]`: the Redis that stores the rooms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RedisConfig {
    /// Its URL; `None`, the default, means the embedded Redis.
    #[serde(deserialize_with = "redis_url", serialize_with = "values::or_empty::serialize")]
    pub url: Option<SecretUrl>,
    /// Prefix of each key. Default `rl:`.
    #[serde(deserialize_with = "prefix")]
    pub prefix: String,
    /// Number of command connections, 1 to 16. Default 2.
    #[serde(deserialize_with = "clients")]
    pub clients: usize,
    /// The configured durability, if any; [`Config::durability`](super::Config::durability) resolves it.
    #[serde(with = "values::or_empty")]
    pub durability: Option<Durability>,
    /// Time after which a command counts as failed. Default 2 s.
    #[serde(with = "values::duration")]
    pub command_timeout: Duration,
}

/// `[embedded]`: the Redis that the server runs if no URL is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EmbeddedConfig {
    /// Data directory. Default `./roomlog-data`.
    #[serde(deserialize_with = "path")]
    pub data_dir: PathBuf,
    /// Path of `redis-server` or `valkey-server`; `None`, the default, takes the first of them on `PATH`.
    #[serde(with = "values::or_empty")]
    pub server: Option<PathBuf>,
    /// Its `maxmemory` in bytes; `None`, the default, is half of the memory of the machine or the container.
    #[serde(with = "values::bytes_or_empty")]
    pub max_memory: Option<u64>,
}

/// `[limits]`: limits of one message, one connection, one user and one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsConfig {
    /// Maximum size of one message's data as stored, in bytes. Default 65,536.
    #[serde(deserialize_with = "values::bytes")]
    pub max_message: usize,
    /// Maximum number of lasting connections of one node. Default 100,000.
    #[serde(deserialize_with = "values::count")]
    pub connections: usize,
    /// Maximum number of subscriptions of one connection. Default 16,384.
    #[serde(deserialize_with = "values::count")]
    pub subscriptions: usize,
    /// Maximum number of durable subscriptions of one user in one room. Default 1000.
    #[serde(deserialize_with = "values::count")]
    pub durable_subscriptions: usize,
    /// Maximum number of publishes and signals of one user on one node in a second; `None`, the default, for
    /// no limit.
    #[serde(with = "values::count_or_zero")]
    pub publish_rate: Option<u32>,
    /// Maximum number of new durable subscriptions of one user on one node in a second, after the first 1000;
    /// `None` for no limit. Default 1.
    #[serde(with = "values::count_or_zero")]
    pub create_rate: Option<u32>,
    /// Maximum size of a signal's data, in bytes. Default 4096.
    #[serde(deserialize_with = "values::bytes")]
    pub max_signal: usize,
    /// Maximum number of bytes queued for one socket. Default 262,144.
    #[serde(deserialize_with = "values::bytes")]
    pub outbox: usize,
    /// Maximum number of publishes of one connection that wait for Redis. Default 256.
    #[serde(deserialize_with = "values::count")]
    pub publishes_in_flight: usize,
}

impl LimitsConfig {
    /// Maximum size of a WebSocket message or a REST body, in bytes: 16 times that of one message's data.
    pub fn max_payload(&self) -> usize {
        self.max_message.saturating_mul(16)
    }
}

/// `[hub]`: the rooms with subscribers on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HubConfig {
    /// Number of newest messages kept in memory for each active room. Default 256.
    #[serde(deserialize_with = "values::count")]
    pub ring_messages: usize,
    /// Maximum size of these messages for each room, in bytes. Default 262,144.
    #[serde(deserialize_with = "values::bytes")]
    pub ring_bytes: usize,
    /// Maximum size of all rooms' kept messages on the node, in bytes. Default 67,108,864.
    #[serde(deserialize_with = "values::bytes")]
    pub ring_budget: usize,
    /// Time that a room stays active after its last subscriber left. Default 30 s.
    #[serde(with = "values::duration")]
    pub linger: Duration,
    /// Interval of the position checks. Default 3 s.
    #[serde(with = "values::duration")]
    pub check_interval: Duration,
}

/// `[retention]`: the janitor, deduplication and durable subscriptions. The limits of rooms are in
/// `[[rooms]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RetentionConfig {
    /// Interval of trimming. Default 5 s.
    #[serde(with = "values::duration")]
    pub interval: Duration,
    /// Time that a message's key is remembered. Default 1 h.
    #[serde(with = "values::duration")]
    pub deduplication_window: Duration,
    /// Time that an unused durable subscription keeps its position. Default 30 d.
    #[serde(with = "values::duration")]
    pub subscription_ttl: Duration,
}

/// `[traces]`: spans of single messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracesConfig {
    /// Destination of the spans, by OTLP over HTTP; `None`, the default, for none.
    #[serde(deserialize_with = "otlp_url", serialize_with = "values::or_empty::serialize")]
    pub otlp_url: Option<SecretUrl>,
    /// The share of messages that is sampled, 0 to 1. Default 0.01.
    #[serde(deserialize_with = "share")]
    pub sample: f64,
}

/// `[log]`: the server's log on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogConfig {
    /// Default `auto`.
    pub format: LogFormat,
    /// Default `info`.
    pub level: LogLevel,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The lowest severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The name in log filters.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let origins = Vec::<String>::deserialize(deserializer)?;
    let is_origin = |text: &String| {
        let host = text.split_once("://").map_or("", |(_, host)| host);
        text == "*" || (!host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']))
    };
    match origins.iter().find(|text| !is_origin(text)) {
        Some(bad) => Err(serde::de::Error::custom(format!(
            "`{bad}` is no origin; write \"https://app.example.com\", without a path, or \"*\" for all"
        ))),
        None => Ok(origins),
    }
}

fn redis_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretUrl>, D::Error> {
    const SCHEMES: [&str; 7] = [
        "redis",
        "rediss",
        "redis-cluster",
        "rediss-cluster",
        "redis-sentinel",
        "rediss-sentinel",
        "redis+unix",
    ];
    values::ruled(deserializer, |text| match text {
        "" => Ok(None),
        _ => SecretUrl::parse(text, &SCHEMES).map(Some),
    })
}

/// Rejects braces: they would change the hash tag that keeps a room in one cluster slot.
fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    values::ruled(deserializer, |text| {
        let fits = (1..=64).contains(&text.len());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-/".contains(&b);
        if fits && text.bytes().all(allowed) {
            Ok(text.into())
        } else {
            Err("must be 1 to 64 of A-Z a-z 0-9 . _ : - /".into())
        }
    })
}

fn clients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let clients = values::count(deserializer)?;
    if clients <= 16 { Ok(clients) } else { Err(serde::de::Error::custom("must be 1 to 16")) }
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    values::ruled(deserializer, |text| match text {
        "" => Err("must be a path".into()),
        _ => Ok(text.into()),
    })
}

fn otlp_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretUrl>, D::Error> {
    values::ruled(deserializer, |text| match text {
        "" => Ok(None),
        _ => SecretUrl::parse(text, &["http", "https"]).map(Some),
    })
}

/// Reads a number, or text with a number, as the environment provides it.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    let number = number.or_else(|| value.as_str()?.trim().parse().ok());
    number
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| serde::de::Error::custom("must be 0 to 1"))
}
