//! The configuration: one struct for each section, read from layers that the caller provides (the defaults in
//! the binary, a file, the environment, flags). Unknown keys and invalid values are rejected, with the key
//! and the origin of the value.

mod auth;
mod error;
mod layers;
mod rooms;
mod secret;
mod sections;
mod values;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use auth::{Algorithm, AuthConfig};
pub(crate) use error::{ConfigError, Origin};
pub(crate) use rooms::{RoomPolicies, RoomPolicy};
pub(crate) use secret::{MIN_SECRET, Secret, SecretUrl};
pub(crate) use sections::{
    EmbeddedConfig, HubConfig, LimitsConfig, LogConfig, LogFormat, RedisConfig, RetentionConfig,
    ServerConfig, TracesConfig,
};

use crate::log::Durability;

/// The first layer, with all keys and their meaning. It is also the documentation of the configuration.
pub(crate) const DEFAULTS: &str = include_str!("defaults.toml");

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub server: ServerConfig,
    pub redis: RedisConfig,
    pub embedded: EmbeddedConfig,
    pub auth: AuthConfig,
    pub limits: LimitsConfig,
    pub hub: HubConfig,
    pub retention: RetentionConfig,
    pub traces: TracesConfig,
    pub log: LogConfig,
    pub rooms: RoomPolicies,
}

impl Config {
    /// Reads the layers: the defaults, then `file` (its name, for messages, and its text), then the variables
    /// `ROOMLOG_<SECTION>__<KEY>` and `ROOMLOG_ROOMS` of `env`, then `overrides` (dotted keys). Other
    /// variables are ignored. Text in `env` and `overrides` becomes a number or a list where the key needs
    /// one. A key for tokens is not required: see [`AuthConfig::is_configured`].
    pub(crate) fn load(
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (String, String)>,
        overrides: Vec<(String, toml::Value)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = layers::Layers::new(DEFAULTS)?;
        if let Some((name, text)) = file {
            layers.file(&name.to_string_lossy(), text)?;
        }
        for (name, value) in env {
            if let Some(key) = env_key(&name) {
                layers.set_text(&key, toml::Value::String(value), Origin::Environment(name))?;
            }
        }
        for (key, value) in overrides {
            layers.set_text(&key, value, Origin::Flag)?;
        }
        layers.finish()
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.redis.url.is_none()
    }

    /// The durability to use: the configured one, or else `disk` with the embedded Redis and `memory` with
    /// another.
    pub(crate) fn durability(&self) -> Durability {
        let default = if self.is_embedded() { Durability::Disk } else { Durability::Memory };
        self.redis.durability.unwrap_or(default)
    }

    /// Returns the effective configuration as TOML, with `***` for secrets.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Checks the rules that concern several values. Returns the key to blame, and the rule.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let Self { server, redis, auth, limits, hub, .. } = self;
        match (&server.tls_cert, &server.tls_key) {
            (Some(_), None) => return Err(("server.tls_key", "must be given with server.tls_cert".into())),
            (None, Some(_)) => return Err(("server.tls_cert", "must be given with server.tls_key".into())),
            _ => {}
        }
        if self.is_embedded() && redis.durability == Some(Durability::Replica) {
            let problem = "\"replica\" needs redis.url: the embedded Redis has no replica";
            return Err(("redis.durability", problem.into()));
        }
        if auth.hs256_secret.is_some() && !auth.accepts(Algorithm::HS256) {
            let problem = "auth.hs256_secret is given, so HS256 must be listed, or nothing";
            return Err(("auth.algorithms", problem.into()));
        }
        if limits.outbox < limits.max_message {
            let problem = format!("must be at least limits.max_message, {} bytes", limits.max_message);
            return Err(("limits.outbox", problem));
        }
        if hub.ring_budget < hub.ring_bytes {
            let problem = format!("must be at least hub.ring_bytes, {} bytes", hub.ring_bytes);
            return Err(("hub.ring_budget", problem));
        }
        Ok(())
    }
}

fn env_key(name: &str) -> Option<String> {
    let name = name.strip_prefix("ROOMLOG_")?;
    if name == "ROOMS" {
        return Some("rooms".into());
    }
    let (section, key) = name.split_once("__")?;
    Some(format!("{}.{}", section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests;
