//! Tokens: the requirements on a JWT, and minting one.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Deserializer, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::{Algorithm, AuthConfig};
use crate::protocol::{ErrorCode, Failure, RoomName, UserId};
use crate::telemetry::Metrics;

use super::grants::{Grants, Permission, RoomGrants};
use super::jwk::{Key, jwt_algorithm};
use super::keys::{AuthError, Found, KeySet};

/// Clock tolerance in seconds for `exp` and `nbf`.
pub(crate) const LEEWAY: u64 = 5;

/// Longest token, in bytes.
pub(crate) const MAX_TOKEN: usize = 8 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub user: UserId,
    /// The `exp` claim, in Unix seconds. The token is accepted for [`LEEWAY`] seconds longer.
    pub expires: u64,
    /// The `iat` claim, in Unix seconds.
    pub issued: Option<u64>,
    pub jti: Option<String>,
    /// The `rooms` claim. A missing claim grants nothing.
    pub grants: Grants,
}

impl Claims {
    pub fn is_expired(&self, now: u64) -> bool {
        now > self.expires.saturating_add(LEEWAY)
    }

    pub fn require(&self, room: &RoomName, permission: Permission) -> Result<(), Failure> {
        self.require_any(room, &[permission])
    }

    pub fn require_any(&self, room: &RoomName, permissions: &[Permission]) -> Result<(), Failure> {
        if permissions.iter().any(|permission| self.grants.allows(room, &self.user, *permission)) {
            return Ok(());
        }
        let wanted: Vec<&str> = permissions.iter().map(|permission| permission.as_str()).collect();
        let message = format!("the token does not grant `{}` on this room", wanted.join("` or `"));
        Err(Failure::forbidden(message))
    }

    pub fn require_manage_all(&self) -> Result<(), Failure> {
        if self.grants.manages_all() {
            Ok(())
        } else {
            Err(Failure::forbidden("the token does not grant `manage` on `*`"))
        }
    }
}

pub struct Verifier {
    keys: Arc<KeySet>,
    config: AuthConfig,
}

impl Verifier {
    /// Reads the keys. Without a JWK set at a URL, it only reads files.
    pub async fn new(config: &AuthConfig, metrics: Arc<Metrics>) -> Result<Self, AuthError> {
        let keys = Arc::new(KeySet::load(config, metrics).await?);
        Ok(Self { keys, config: config.clone() })
    }

    /// Keeps the keys of a JWK set at a URL up to date until cancelled. Without one, it returns immediately.
    /// The caller owns the task.
    pub async fn refresh_loop(self: Arc<Self>, cancelled: CancellationToken) {
        Arc::clone(&self.keys).refresh_loop(cancelled).await;
    }

    /// Verifies a token. Waits only if the token names a key that the JWK set at a URL may have gained
    /// meanwhile.
    ///
    /// # Errors
    /// [`ErrorCode::TokenExpired`] if it has expired, [`ErrorCode::Unavailable`] if its key cannot be looked
    /// up now, [`ErrorCode::Unauthenticated`] for anything else.
    pub async fn verify(&self, token: &str) -> Result<Claims, Failure> {
        self.verify_at(token, jsonwebtoken::get_current_timestamp()).await
    }

    pub(super) async fn verify_at(&self, token: &str, now: u64) -> Result<Claims, Failure> {
        if token.len() > MAX_TOKEN {
            return Err(refused(format!("the token is longer than {MAX_TOKEN} bytes")));
        }
        let header = decode_header(token)
            .map_err(|_| refused("the token is not a JWT signed with HS256, RS256, ES256 or EdDSA"))?;
        if header.crit.is_some() {
            return Err(refused("the token has critical header parameters, which are not supported"));
        }
        let algorithm = accepted(header.alg)
            .filter(|algorithm| self.config.accepts(*algorithm))
            .ok_or_else(|| refused("the token's algorithm is not accepted"))?;

        let id = header.kid.as_deref();
        let known = id.is_none_or(|id| self.keys.has(id));
        let mut claims = self.decode(token, self.keys.candidates(algorithm, id));
        if let (Err(_), false, Some(id)) = (&claims, known, id) {
            match self.keys.find(id).await {
                Found::Yes => claims = self.decode(token, self.keys.candidates(algorithm, Some(id))),
                Found::No => {}
                Found::Unknown(wait) => return Err(not_now(wait)),
            }
        }
        claims?.check(now)
    }

    fn decode(&self, token: &str, keys: Vec<Key>) -> Result<RawClaims, Failure> {
        for key in keys {
            match decode::<RawClaims>(token, &key.verifying, &self.validation(key.algorithm)) {
                Ok(data) => return Ok(data.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => return Err(self.explain(error.kind())),
            }
        }
        Err(refused("the token is not signed with an accepted key"))
    }

    /// Returns the rules that the library checks: `iss` and `aud`. [`RawClaims::check`] has the others, with
    /// `now` as an argument.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let AuthConfig { issuer, audience, .. } = &self.config;
        let mut validation = Validation::new(jwt_algorithm(algorithm));
        validation.validate_exp = false;
        let mut required = Vec::new();
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn explain(&self, error: &ErrorKind) -> Failure {
        match error {
            ErrorKind::MissingRequiredClaim(claim) => refused(format!("the token has no valid `{claim}`")),
            ErrorKind::InvalidIssuer => refused("the token's `iss` is not accepted"),
            ErrorKind::InvalidAudience if self.config.audience.is_none() => {
                refused("the token has an `aud`, and this server has none: its auth.audience must be set")
            }
            ErrorKind::InvalidAudience => refused("the token's `aud` is not accepted"),
            ErrorKind::Json(_) => refused(
                "the token's claims are malformed: `sub` and `jti` are text, `exp`, `nbf` and `iat` are numbers, \
                 `rooms` is a map from patterns to lists",
            ),
            _ => refused("the token is malformed"),
        }
    }
}

fn accepted(algorithm: jsonwebtoken::Algorithm) -> Option<Algorithm> {
    match algorithm {
        jsonwebtoken::Algorithm::HS256 => Some(Algorithm::HS256),
        jsonwebtoken::Algorithm::RS256 => Some(Algorithm::RS256),
        jsonwebtoken::Algorithm::ES256 => Some(Algorithm::ES256),
        jsonwebtoken::Algorithm::EdDSA => Some(Algorithm::EdDSA),
        _ => None,
    }
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::Unauthenticated, message)
}

fn not_now(wait: Duration) -> Failure {
    Failure {
        code: ErrorCode::Unavailable,
        message: "the token cannot be verified now: its key cannot be looked up; try again".into(),
        retry_after_ms: Some(wait.as_millis() as u64),
    }
}

/// The claims of a token before they are checked. Times are in Unix seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct RawClaims {
    pub(crate) sub: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    pub(crate) exp: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    pub(crate) nbf: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    iat: Option<u64>,
    jti: Option<String>,
    #[serde(default)]
    pub(crate) rooms: Grants,
}

impl RawClaims {
    /// Reads the claims of a token without verifying anything: for the holder of the token, never for a
    /// server. `None` if it is no token.
    pub(crate) fn unverified(token: &str) -> Option<Self> {
        insecure_decode_claims(token.trim()).ok()
    }

    fn check(self, now: u64) -> Result<Claims, Failure> {
        let expires = self.exp.ok_or_else(|| refused("the token has no `exp`"))?;
        let user = self.sub.ok_or_else(|| refused("the token has no `sub`"))?;
        let user = user.parse().map_err(|error| refused(format!("the token's `sub`: {error}")))?;
        let claims = Claims { user, expires, issued: self.iat, jti: self.jti, grants: self.rooms };
        if claims.is_expired(now) {
            let at = format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(expires));
            let message = format!("the token expired at {at}; get a new one");
            return Err(Failure::new(ErrorCode::TokenExpired, message));
        }
        if self.nbf.is_some_and(|nbf| nbf > now.saturating_add(LEEWAY)) {
            return Err(refused("the token's `nbf` is in the future"));
        }
        Ok(claims)
    }
}

/// Reads a NumericDate, which may have a fraction. Values below 0 become 0.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|seconds| seconds as u64))
}

#[derive(Serialize)]
struct Minted<'a> {
    sub: &'a UserId,
    iat: u64,
    exp: u64,
    rooms: &'a RoomGrants,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// Mints a token that a [`Verifier`] of the same configuration accepts for `ttl` from now: HS256 with
/// `auth.hs256_secret`, and the configured issuer and audience.
///
/// # Errors
/// [`AuthError::Mint`] if there is no secret.
pub(crate) fn mint(
    config: &AuthConfig,
    user: &UserId,
    rooms: &RoomGrants,
    ttl: Duration,
    jti: Option<&str>,
) -> Result<String, AuthError> {
    let secret = config.hs256_secret.as_ref();
    let secret = secret.ok_or_else(|| AuthError::Mint("auth.hs256_secret is not set".into()))?;
    let iat = jsonwebtoken::get_current_timestamp();
    let claims = Minted {
        sub: user,
        iat,
        exp: iat.saturating_add(ttl.as_secs()),
        rooms,
        jti,
        iss: config.issuer.as_deref(),
        aud: config.audience.as_deref(),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = encode(&Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key);
    token.map_err(|error| AuthError::Mint(error.to_string()))
}
