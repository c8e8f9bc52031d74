//! The configuration: one struct a section, read from layers (the defaults in the binary, a file, the environment,
//! flags) that the caller hands in. What is unknown or against a rule is refused, with the key and where it came from.

mod auth;
mod error;
mod layers;
mod rooms;
mod secret;
mod sections;
mod values;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use auth::{Algorithm, AuthConfig};
pub use error::{ConfigError, Origin};
pub use rooms::{RoomPolicies, RoomPolicy};
pub use secret::{MIN_SECRET, Secret, SecretUrl};
pub use sections::{
    EmbeddedConfig, HubConfig, LimitsConfig, LogConfig, LogFormat, LogLevel, RedisConfig, RetentionConfig,
    ServerConfig, TracesConfig,
};

use crate::log::Durability;
use crate::protocol::RoomName;

/// The first layer, with all keys and what they mean: also the documentation of the configuration.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[redis]`
    pub redis: RedisConfig,
    /// `[embedded]`
    pub embedded: EmbeddedConfig,
    /// `[auth]`
    pub auth: AuthConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[hub]`
    pub hub: HubConfig,
    /// `[retention]`
    pub retention: RetentionConfig,
    /// `[traces]`
    pub traces: TracesConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[[rooms]]`
    pub rooms: RoomPolicies,
}

impl Config {
    /// Reads the layers: the defaults, then `file` (its name, for messages, and its text), then the variables
    /// `ROOMLOG_<SECTION>__<KEY>` and `ROOMLOG_ROOMS` of `env`, then `overrides` (dotted keys). Other variables are
    /// ignored. Text in `env` and `overrides` becomes a number or a list where the key needs one. No key for tokens
    /// need be there: see [`AuthConfig::is_configured`].
    ///
    /// # Errors
    /// A file that is not TOML, an unknown key, or a value against a rule.
    pub fn load(
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

    /// Whether the server runs its own Redis, because it is given no URL.
    pub fn is_embedded(&self) -> bool {
        self.redis.url.is_none()
    }

    /// The durability in force: what was asked for, or else `disk` with the embedded Redis and `memory` with another.
    pub fn durability(&self) -> Durability {
        let default = if self.is_embedded() { Durability::Disk } else { Durability::Memory };
        self.redis.durability.unwrap_or(default)
    }

    /// What this room keeps.
    pub fn policy(&self, room: &RoomName) -> &RoomPolicy {
        self.rooms.of(room)
    }

    /// The configuration in force as TOML, with `***` for secrets.
    ///
    /// # Errors
    /// A path that is not UTF-8; none that was read from TOML is.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// What single values cannot say: the key to blame, and the rule.
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

/// The dotted key of an environment variable, if it is one of the configuration's.
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
