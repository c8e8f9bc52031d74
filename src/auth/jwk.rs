//! Single keys, from a secret, a PEM file or a JWK. Each is bound to one algorithm when it is read, so that
//! no token can choose another.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use tracing::warn;

use crate::config::{Algorithm, MIN_SECRET, Secret};

#[derive(Clone)]
pub(super) struct Key {
    pub id: Option<String>,
    pub algorithm: Algorithm,
    pub verifying: DecodingKey,
}

/// The origin of a JWK set. Keys for HS256 are accepted only from a source that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    File,
    Url,
}

type Refused = &'static str;

impl Key {
    pub(super) fn secret(secret: &Secret) -> Self {
        let verifying = DecodingKey::from_secret(secret.expose().as_bytes());
        Self { id: None, algorithm: Algorithm::HS256, verifying }
    }

    /// Reads a public key. Its type determines the algorithm.
    pub(super) fn pem(text: &[u8]) -> Result<Self, Refused> {
        const KINDS: Refused = "holds no public key of RSA, EC P-256 or Ed25519; such a file begins with \
                                -----BEGIN PUBLIC KEY-----, and `openssl pkey -in private.pem -pubout` makes one";
        let is_public = [&b"-----BEGIN PUBLIC KEY-----"[..], b"-----BEGIN RSA PUBLIC KEY-----"]
            .iter()
            .any(|begin| text.trim_ascii_start().starts_with(begin));
        if !is_public {
            return Err(KINDS);
        }
        let (algorithm, verifying) = if let Ok(key) = DecodingKey::from_ec_pem(text) {
            (Algorithm::ES256, key)
        } else if let Ok(key) = DecodingKey::from_ed_pem(text) {
            (Algorithm::EdDSA, key)
        } else {
            let key = DecodingKey::from_rsa_pem(text).map_err(|_| KINDS)?;
            let der = key.try_get_as_bytes().map_err(|_| KINDS)?;
            let components = DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
            let (modulus, exponent) = components(der).map_err(|_| KINDS)?;
            (Algorithm::RS256, DecodingKey::from_rsa_raw_components(&modulus, &exponent))
        };
        Self { id: None, algorithm, verifying }.checked()
    }

    /// Rejects a key that can never verify a token now, rather than with every token.
    fn checked(self) -> Result<Self, Refused> {
        const BROKEN: Refused = "is malformed, or of another curve than P-256 or Ed25519";
        match (self.algorithm, self.verifying.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
                if !(256..=512).contains(&n.len()) {
                    return Err("is an RSA key of fewer than 2048 or more than 4096 bits");
                }
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) if key.len() == 32 => {}
            (Algorithm::ES256, _) => {}
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(key)) => {
                if key.len() < MIN_SECRET {
                    return Err("is a secret of fewer than 32 bytes");
                }
            }
            _ => return Err(BROKEN),
        }
        jsonwebtoken::crypto::verify("", b"", &self.verifying, jwt_algorithm(self.algorithm))
            .map_err(|_| BROKEN)?;
        Ok(self)
    }
}

pub(super) const fn jwt_algorithm(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// A JWK (RFC 7517), with the parameters of the supported types.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

/// Reads a JWK set. Unsupported keys are skipped with a warning, since a set may contain keys for other
/// services.
pub(super) fn read_set(
    json: &[u8],
    source: Source,
    accepts: impl Fn(Algorithm) -> bool,
) -> Result<Vec<Key>, serde_json::Error> {
    let set: JwkSet = serde_json::from_slice(json)?;
    let mut keys = Vec::new();
    for jwk in set.keys {
        let id = jwk.get("kid").and_then(|kid| kid.as_str()).unwrap_or("without kid").to_owned();
        match read_jwk(jwk, source) {
            Ok(key) if accepts(key.algorithm) => keys.push(key),
            Ok(key) => warn!(kid = id, "key ignored: {:?} is not in auth.algorithms", key.algorithm),
            Err(problem) => warn!(kid = id, "key ignored: it {problem}"),
        }
    }
    Ok(keys)
}

fn read_jwk(jwk: serde_json::Value, source: Source) -> Result<Key, Refused> {
    const INCOMPLETE: Refused = "is malformed, or lacks a parameter of its kind";
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| INCOMPLETE)?;
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures");
    }
    let text = |value: &Option<String>| value.clone().ok_or(INCOMPLETE);
    let bytes = |value: &Option<String>| {
        URL_SAFE_NO_PAD.decode(text(value)?.trim_end_matches('=')).map_err(|_| INCOMPLETE)
    };
    let (algorithm, verifying) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let key = DecodingKey::from_rsa_raw_components(&bytes(&jwk.n)?, &bytes(&jwk.e)?);
            (Algorithm::RS256, key)
        }
        ("EC", Some("P-256")) => {
            let key =
                DecodingKey::from_ec_components(&text(&jwk.x)?, &text(&jwk.y)?).map_err(|_| INCOMPLETE)?;
            (Algorithm::ES256, key)
        }
        ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, DecodingKey::from_ed_der(&bytes(&jwk.x)?)),
        ("oct", _) if source == Source::File => (Algorithm::HS256, DecodingKey::from_secret(&bytes(&jwk.k)?)),
        ("oct", _) => return Err("is a shared secret, which a URL must not serve"),
        _ => return Err("is not of RSA, EC P-256, Ed25519 or a shared secret"),
    };
    let stated = jwk.alg.as_deref();
    let agrees = stated.is_none_or(|alg| {
        alg == format!("{algorithm:?}") || (algorithm == Algorithm::EdDSA && alg == "Ed25519")
    });
    if !agrees {
        return Err("is for an algorithm that is not accepted here");
    }
    Key { id: jwk.kid, algorithm, verifying }.checked()
}
