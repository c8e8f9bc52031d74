//! `[auth]`: the keys that verify tokens, and further requirements on tokens.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::secret::{Secret, SecretUrl};
use super::values;

/// `[auth]`. Any number of the keys may be set. Commands that verify no token need none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthConfig {
    /// Secret for HS256, at least 32 bytes. Default none.
    #[serde(with = "values::or_empty")]
    pub hs256_secret: Option<Secret>,
    /// PEM file with an RSA, EC P-256 or Ed25519 public key. Default none.
    #[serde(with = "values::or_empty")]
    pub public_key_file: Option<PathBuf>,
    /// File with a JWK set. Default none.
    #[serde(with = "values::or_empty")]
    pub jwks_file: Option<PathBuf>,
    /// Address of a JWK set, `http` or `https`. Default none.
    #[serde(deserialize_with = "jwks_url", serialize_with = "values::or_empty::serialize")]
    pub jwks_url: Option<SecretUrl>,
    /// Refresh interval of the set at `jwks_url`. Default 5 min.
    #[serde(with = "values::duration")]
    pub jwks_refresh: Duration,
    /// The accepted algorithms; empty, the default, for those of the keys.
    pub algorithms: Vec<Algorithm>,
    /// `iss` that each token must have. By default, any or none is accepted.
    #[serde(with = "values::or_empty")]
    pub issuer: Option<String>,
    /// `aud` that each token must have. By default, tokens must have none.
    #[serde(with = "values::or_empty")]
    pub audience: Option<String>,
    /// Time that a revocation is remembered. Default 400 d.
    #[serde(with = "values::duration")]
    pub revocation_ttl: Duration,
}

/// A signature algorithm of JWTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256, from a shared secret.
    HS256,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl AuthConfig {
    /// Returns true if there is any key to verify tokens with.
    pub fn is_configured(&self) -> bool {
        self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }

    /// Returns true if the algorithm may be used: it is listed, or the list is empty.
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
