//! The sections of the configuration except `[auth]` and `[[rooms]]`: one struct for each. `defaults.toml`
//! explains every key, and alone sets the defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::log::Durability;

use super::secret::SecretUrl;
use super::values;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerConfig {
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// `None` serves `/metrics` on the main listener.
    #[serde(deserialize_with = "values::address_or_empty", serialize_with = "values::or_empty::serialize")]
    pub metrics_listen: Option<SocketAddr>,
    /// `*` allows all.
    #[serde(deserialize_with = "origins")]
    pub allowed_origins: Vec<String>,
    #[serde(with = "values::or_empty")]
    pub tls_cert: Option<PathBuf>,
    #[serde(with = "values::or_empty")]
    pub tls_key: Option<PathBuf>,
    #[serde(with = "values::duration")]
    pub shutdown_grace: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RedisConfig {
    /// `None` means the embedded Redis.
    #[serde(deserialize_with = "redis_url", serialize_with = "values::or_empty::serialize")]
    pub url: Option<SecretUrl>,
    #[serde(deserialize_with = "prefix")]
    pub prefix: String,
    #[serde(deserialize_with = "clients")]
    pub clients: usize,
    /// [`Config::durability`](super::Config::durability) resolves `None`.
    #[serde(with = "values::or_empty")]
    pub durability: Option<Durability>,
    #[serde(with = "values::duration")]
    pub command_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EmbeddedConfig {
    #[serde(deserialize_with = "path")]
    pub data_dir: PathBuf,
    /// A `redis-server` or `valkey-server`; `None` takes the first on `PATH`.
    #[serde(with = "values::or_empty")]
    pub server: Option<PathBuf>,
    /// In bytes; `None` is half of the memory of the machine or the container.
    #[serde(with = "values::bytes_or_empty")]
    pub max_memory: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsConfig {
    /// Of one message's data as stored, in bytes.
    #[serde(deserialize_with = "values::bytes")]
    pub max_message: usize,
    /// Lasting connections of one node.
    #[serde(deserialize_with = "values::count")]
    pub connections: usize,
    /// Of one connection.
    #[serde(deserialize_with = "values::count")]
    pub subscriptions: usize,
    /// Of one user in one room.
    #[serde(deserialize_with = "values::count")]
    pub durable_subscriptions: usize,
    /// Publishes and signals of one user on one node in a second; `None` for no limit.
    #[serde(with = "values::count_or_zero")]
    pub publish_rate: Option<u32>,
    /// New durable subscriptions of one user on one node in a second, after the first 1000; `None` for no
    /// limit.
    #[serde(with = "values::count_or_zero")]
    pub create_rate: Option<u32>,
    /// Of a signal's data, in bytes.
    #[serde(deserialize_with = "values::bytes")]
    pub max_signal: usize,
    /// Bytes queued for one socket.
    #[serde(deserialize_with = "values::bytes")]
    pub outbox: usize,
    /// Publishes of one connection that wait for Redis.
    #[serde(deserialize_with = "values::count")]
    pub publishes_in_flight: usize,
}

impl LimitsConfig {
    /// Maximum size of a WebSocket message or a REST body, in bytes: 16 times that of one message's data.
    pub fn max_payload(&self) -> usize {
        self.max_message.saturating_mul(16)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HubConfig {
    #[serde(deserialize_with = "values::count")]
    pub ring_messages: usize,
    /// In bytes, for each room.
    #[serde(deserialize_with = "values::bytes")]
    pub ring_bytes: usize,
    /// In bytes, for all rooms of the node.
    #[serde(deserialize_with = "values::bytes")]
    pub ring_budget: usize,
    /// Time that a room stays active after its last subscriber left.
    #[serde(with = "values::duration")]
    pub linger: Duration,
    #[serde(with = "values::duration")]
    pub check_interval: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RetentionConfig {
    #[serde(with = "values::duration")]
    pub interval: Duration,
    #[serde(with = "values::duration")]
    pub deduplication_window: Duration,
    #[serde(with = "values::duration")]
    pub subscription_ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracesConfig {
    /// OTLP over HTTP; `None` sends none.
    #[serde(deserialize_with = "otlp_url", serialize_with = "values::or_empty::serialize")]
    pub otlp_url: Option<SecretUrl>,
    /// The share of messages that is sampled, 0 to 1.
    #[serde(deserialize_with = "share")]
    pub sample: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogConfig {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

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
            "`{bad}` is not an origin; write \"https://app.example.com\", without a path, or \"*\" for all"
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

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    let number = number.or_else(|| value.as_str()?.trim().parse().ok());
    number
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| serde::de::Error::custom("must be 0 to 1"))
}
