//! `[auth]`: the keys that verify tokens, and further requirements on tokens. `defaults.toml` explains every
//! key, and alone sets the defaults.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::secret::{Secret, SecretUrl};
use super::values;

/// `[auth]`. Any number of the keys may be set. Commands that verify no token need none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthConfig {
    #[serde(with = "values::or_empty")]
    pub hs256_secret: Option<Secret>,
    #[serde(with = "values::or_empty")]
    pub public_key_file: Option<PathBuf>,
    #[serde(with = "values::or_empty")]
    pub jwks_file: Option<PathBuf>,
    #[serde(deserialize_with = "jwks_url", serialize_with = "values::or_empty::serialize")]
    pub jwks_url: Option<SecretUrl>,
    #[serde(with = "values::duration")]
    pub jwks_refresh: Duration,
    /// Empty for those of the keys.
    pub algorithms: Vec<Algorithm>,
    /// `None` accepts any issuer, or none.
    #[serde(with = "values::or_empty")]
    pub issuer: Option<String>,
    /// `None` requires that tokens have no audience.
    #[serde(with = "values::or_empty")]
    pub audience: Option<String>,
    #[serde(with = "values::duration")]
    pub revocation_ttl: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    HS256,
    RS256,
    ES256,
    EdDSA,
}

impl AuthConfig {
    pub fn is_configured(&self) -> bool {
        self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }

    pub fn accepts(&self, algorithm: Algorithm) -> bool {
        self.algorithms.is_empty() || self.algorithms.contains(&algorithm)
    }
}

fn jwks_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretUrl>, D::Error> {
    values::ruled(deserializer, |text| match text {
        "" => Ok(None),
        _ => SecretUrl::parse(text, &["https", "http"]).map(Some),
    })
}
