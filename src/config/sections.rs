//! The sections of the configuration but `[auth]` and `[[rooms]]`: one struct each. The defaults named here are those
//! of `defaults.toml`, which alone sets them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::log::Durability;

use super::secret::SecretUrl;
use super::values;

/// `[server]`: what clients connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Address and port that clients connect to. Default `127.0.0.1:8080`.
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// Address and port for `/metrics` alone; `None`, the default, has it on the main listener.
    #[serde(deserialize_with = "values::address_or_empty", serialize_with = "values::or_empty::serialize")]
    pub metrics_listen: Option<SocketAddr>,
    /// Origins whose pages may connect from a browser, `*` for all. Default none.
    #[serde(deserialize_with = "origins")]
    pub allowed_origins: Vec<String>,
    /// PEM file with the certificate for TLS, and those between it and its authority. Default none: no TLS.
    #[serde(with = "values::or_empty")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its private key. Default none.
    #[serde(with = "values::or_empty")]
    pub tls_key: Option<PathBuf>,
    /// Time that connections have to finish when the server ends. Default 10 s.
    #[serde(with = "values::duration")]
    pub shutdown_grace: Duration,
}

/// `[redis]`: the Redis that holds the rooms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RedisConfig {
    /// Where it is; `None`, the default, means the embedded one.
    #[serde(deserialize_with = "redis_url", serialize_with = "values::or_empty::serialize")]
    pub url: Option<SecretUrl>,
    /// What the name of each key begins with. Default `rl:`.
    #[serde(deserialize_with = "prefix")]
    pub prefix: String,
    /// Connections for commands, 1 to 16. Default 2.
    #[serde(deserialize_with = "clients")]
    pub clients: usize,
    /// What was asked for, if anything; [`Config::durability`](super::Config::durability) says what holds.
    #[serde(with = "values::or_empty")]
    pub durability: Option<Durability>,
    /// Time after which a command has failed. Default 2 s.
    #[serde(with = "values::duration")]
    pub command_timeout: Duration,
}

/// `[embedded]`: the Redis that the server runs itself where it is given no URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedConfig {
    /// Directory for its data. Default `./roomlog-data`.
    #[serde(deserialize_with = "path")]
    pub data_dir: PathBuf,
    /// Path of `redis-server` or `valkey-server`; `None`, the default, takes the first of them on the `PATH`.
    #[serde(with = "values::or_empty")]
    pub server: Option<PathBuf>,
    /// Its `maxmemory` in bytes; `None`, the default, is half of what the machine or the container has.
    #[serde(with = "values::bytes_or_empty")]
    pub max_memory: Option<u64>,
}

/// `[limits]`: what one message, one connection and one node may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsConfig {
    /// Bytes of one message's data, as stored. Default 65,536.
    #[serde(deserialize_with = "values::bytes")]
    pub max_message: usize,
    /// Connections of one node that stay. Default 100,000.
    #[serde(deserialize_with = "values::count")]
    pub connections: usize,
    /// Subscriptions of one connection. Default 16,384.
    #[serde(deserialize_with = "values::count")]
    pub subscriptions: usize,
    /// Durable subscriptions of one user in one room. Default 1000.
    #[serde(deserialize_with = "values::count")]
    pub durable_subscriptions: usize,
    /// Publishes and signals of one user on one node in a second; `None`, the default, for no limit.
    #[serde(with = "values::count_or_zero")]
    pub publish_rate: Option<u32>,
    /// New durable subscriptions of one user on one node in a second, above the first 1000; `None` for no limit. Default 1.
    #[serde(with = "values::count_or_zero")]
    pub create_rate: Option<u32>,
    /// Bytes of a signal's data. Default 4096.
    #[serde(deserialize_with = "values::bytes")]
    pub max_signal: usize,
    /// Bytes that may wait for one socket. Default 262,144.
    #[serde(deserialize_with = "values::bytes")]
    pub outbox: usize,
    /// Publishes of one connection that may wait for Redis. Default 256.
    #[serde(deserialize_with = "values::count")]
    pub publishes_in_flight: usize,
}

impl LimitsConfig {
    /// Bytes of a WebSocket message, or of a body over REST: 16 times those of one message's data.
    pub fn max_payload(&self) -> usize {
        self.max_message.saturating_mul(16)
    }
}

/// `[hub]`: the rooms that have subscribers on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubConfig {
    /// Newest messages kept in memory for each active room. Default 256.
    #[serde(deserialize_with = "values::count")]
    pub ring_messages: usize,
    /// Bytes of them. Default 262,144.
    #[serde(deserialize_with = "values::bytes")]
    pub ring_bytes: usize,
    /// Bytes of all rooms' kept messages on the node. Default 67,108,864.
    #[serde(deserialize_with = "values::bytes")]
    pub ring_budget: usize,
    /// How long a room stays active after its last subscriber left. Default 30 s.
    #[serde(with = "values::duration")]
    pub linger: Duration,
    /// How often active rooms are compared with Redis. Default 3 s.
    #[serde(with = "values::duration")]
    pub check_interval: Duration,
}

/// `[retention]`: the janitor. How much a room keeps is in `[[rooms]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetentionConfig {
    /// How often rooms are trimmed. Default 5 s.
    #[serde(with = "values::duration")]
    pub interval: Duration,
    /// How long a message's key is remembered. Default 1 h.
    #[serde(with = "values::duration")]
    pub deduplication_window: Duration,
    /// How long a durable subscription that nobody uses keeps its position. Default 30 d.
    #[serde(with = "values::duration")]
    pub subscription_ttl: Duration,
}

/// `[traces]`: where the time of single messages went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracesConfig {
    /// Where spans are sent, by OTLP over HTTP; `None`, the default, for nowhere.
    #[serde(deserialize_with = "otlp_url", serialize_with = "values::or_empty::serialize")]
    pub otlp_url: Option<SecretUrl>,
    /// Which share of messages is followed, 0 to 1. Default 0.01.
    #[serde(deserialize_with = "share")]
    pub sample: f64,
}

/// `[log]`: what the server says of itself, on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Default `auto`.
    pub format: LogFormat,
    /// Default `info`.
    pub level: LogLevel,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least weight of what is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The name, as log filters write it.
    pub const fn as_str(self) -> &'static str {
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

/// A brace would move the hash tag that keeps a room in one cluster slot.
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

/// A number, or text with one, as the environment has it.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    let number = number.or_else(|| value.as_str()?.trim().parse().ok());
    number
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| serde::de::Error::custom("must be 0 to 1"))
}
