//! Tests of tokens with every kind of key, and of the reasons for refusing a token.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Config;
use crate::protocol::{ErrorCode, Failure};
use crate::telemetry::Metrics;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RSA_A: &str = include_str!("../../tests/fixtures/keys/rsa_a.private.pem");
const RSA_B: &str = include_str!("../../tests/fixtures/keys/rsa_b.private.pem");
const EC_A: &str = include_str!("../../tests/fixtures/keys/ec_a.private.pem");
const ED_A: &str = include_str!("../../tests/fixtures/keys/ed_a.private.pem");
const RSA_A_PUBLIC: &str = include_str!("../../tests/fixtures/keys/rsa_a.public.pem");
const JWKS: &str = include_str!("../../tests/fixtures/keys/jwks.json");

fn path(name: &str) -> String {
    format!("{}/tests/fixtures/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn verifier(auth: &[(&str, &str)]) -> Result<Verifier, AuthError> {
    let overrides = auth.iter().map(|(key, value)| (format!("auth.{key}"), (*value).into())).collect();
    let config = Config::load(None, std::iter::empty(), overrides).unwrap();
    Verifier::new(&config.auth, metrics()).await
}

fn metrics() -> Arc<Metrics> {
    let config = Config::load(None, std::iter::empty(), Vec::new()).unwrap();
    Arc::new(Metrics::new(&config.rooms))
}

async fn with_secret(more: &[(&str, &str)]) -> Verifier {
    verifier(&[&[("hs256_secret", SECRET)], more].concat()).await.unwrap()
}

fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: kid.map(Into::into), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    signed(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

fn rs256(pem: &str, kid: Option<&str>) -> String {
    signed(Algorithm::RS256, kid, &EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), &ann())
}

fn ann() -> Value {
    let now = get_current_timestamp();
    json!({"sub": "ann", "iat": now, "exp": now + 3600, "jti": "j", "rooms": {"chat.*": ["read"]}})
}

/// Returns [`ann`] with a claim changed, or removed by null.
fn ann_with(claim: &str, value: Value) -> Value {
    let mut claims = ann();
    claims[claim] = value;
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn user(result: Result<Claims, Failure>) -> Result<String, ErrorCode> {
    result.map(|claims| claims.user.to_string()).map_err(|failure| failure.code)
}

const ANN: Result<&str, ErrorCode> = Ok("ann");

async fn check(verifier: &Verifier, token: &str, expected: Result<&str, ErrorCode>) {
    assert_eq!(user(verifier.verify(token).await), expected.map(Into::into));
}

async fn refused(verifier: &Verifier, token: &str, word: &str) {
    let failure = verifier.verify(token).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unauthenticated);
    assert!(failure.message.contains(word), "no {word:?} in: {failure}");
}

#[tokio::test]
async fn claims_are_read_from_a_good_token() {
    let claims = with_secret(&[]).await.verify(&hs256(&ann_with("exp", json!(4e9 + 0.5)))).await.unwrap();
    assert_eq!((claims.user.as_str(), claims.expires), ("ann", 4_000_000_000));
    assert!(claims.issued.is_some());
    assert_eq!(claims.jti.as_deref(), Some("j"));
    assert!(claims.grants.allows(&"chat.a".parse().unwrap(), &claims.user, Permission::Read));
}

#[tokio::test]
async fn each_kind_of_public_key_verifies_its_algorithm() {
    let rsa = EncodingKey::from_rsa_pem(RSA_A.as_bytes()).unwrap();
    let ec = EncodingKey::from_ec_pem(EC_A.as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(ED_A.as_bytes()).unwrap();
    let tokens = [
        ("rsa_a", signed(Algorithm::RS256, None, &rsa, &ann())),
        ("ec_a", signed(Algorithm::ES256, None, &ec, &ann())),
        ("ed_a", signed(Algorithm::EdDSA, None, &ed, &ann())),
    ];
    let set = verifier(&[("jwks_file", &path("jwks.json"))]).await.unwrap();
    for (file, _) in &tokens {
        let one = verifier(&[("public_key_file", &path(&format!("{file}.public.pem")))]).await.unwrap();
        for (name, token) in &tokens {
            check(&one, token, if name == file { ANN } else { Err(ErrorCode::Unauthenticated) }).await;
            check(&set, token, ANN).await;
        }
    }
    // From the right key, but with another algorithm than the key's.
    let rs512 = signed(Algorithm::RS512, None, &rsa, &ann());
    check(&set, &rs512, Err(ErrorCode::Unauthenticated)).await;
}

#[tokio::test]
async fn a_public_key_is_never_used_as_a_shared_secret() {
    let forged = signed(Algorithm::HS256, None, &EncodingKey::from_secret(RSA_A_PUBLIC.as_bytes()), &ann());
    let public = [("public_key_file", path("rsa_a.public.pem"))];
    let public = public.each_ref().map(|(key, value)| (*key, value.as_str()));
    refused(&verifier(&public).await.unwrap(), &forged, "not signed with an accepted key").await;
    refused(&with_secret(&public).await, &forged, "not signed with an accepted key").await;
    let listed = [&public[..], &[("algorithms", "RS256")]].concat();
    refused(&verifier(&listed).await.unwrap(), &forged, "algorithm is not accepted").await;
}

#[tokio::test]
async fn unsigned_and_broken_tokens_are_refused() {
    let verifier = with_secret(&[]).await;
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    for algorithm in ["none", "None", "NONE", ""] {
        let header = part(json!({"alg": algorithm, "typ": "JWT"}));
        refused(&verifier, &format!("{header}.{}.", part(ann())), "not a JWT").await;
    }
    let good = hs256(&ann());
    let (body, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = body.split_once('.').unwrap();
    let other = part(ann_with("sub", json!("bob")));
    let crit = part(json!({"alg": "HS256", "crit": ["b64"], "b64": false}));
    for (token, word) in [
        (format!("{header}.{claims}."), "not signed"),
        (format!("{header}.{other}.{signature}"), "not signed"),
        (format!("{crit}.{claims}.{signature}"), "critical"),
        (body.to_owned(), "not a JWT"),
        (String::new(), "not a JWT"),
        ("..".into(), "not a JWT"),
        ("é.é.é".into(), "not a JWT"),
        ("a".repeat(8193), "longer than"),
    ] {
        refused(&verifier, &token, word).await;
    }
}

#[tokio::test]
async fn claims_follow_their_rules() {
    let verifier = with_secret(&[]).await;
    for (claim, value, word) in [
        ("exp", Value::Null, "no `exp`"),
        ("exp", json!("tomorrow"), "malformed"),
        ("sub", Value::Null, "no `sub`"),
        ("sub", json!(""), "`sub`"),
        ("sub", json!("a\nb"), "control characters"),
        ("sub", json!(7), "malformed"),
        ("rooms", json!(["chat.*"]), "malformed"),
        ("rooms", json!({"chat.*": "read"}), "malformed"),
        ("aud", json!("other"), "auth.audience"),
    ] {
        refused(&verifier, &hs256(&ann_with(claim, value)), word).await;
    }
    check(&verifier, &hs256(&ann_with("rooms", Value::Null)), ANN).await;
    check(&verifier, &hs256(&ann_with("iss", json!("anyone"))), ANN).await;
}

#[tokio::test]
async fn issuer_and_audience_are_required_where_configured() {
    let verifier = with_secret(&[("issuer", "me"), ("audience", "chat")]).await;
    let mut good = ann_with("iss", json!("me"));
    good["aud"] = json!(["mail", "chat"]);
    check(&verifier, &hs256(&good), ANN).await;
    for (claim, value) in [
        ("iss", json!("you")),
        ("aud", json!("mail")),
        ("iss", Value::Null),
        ("aud", Value::Null),
        ("aud", json!([])),
    ] {
        let mut bad = good.clone();
        bad[claim] = value;
        refused(&verifier, &hs256(&bad), &format!("`{claim}`")).await;
        bad.as_object_mut().unwrap().remove(claim);
        refused(&verifier, &hs256(&bad), &format!("`{claim}`")).await;
    }
}

#[tokio::test]
async fn times_hold_to_within_the_leeway() {
    let verifier = with_secret(&[]).await;
    let token = hs256(&json!({"sub": "ann", "nbf": 1000, "exp": 2000}));
    for (now, expected) in [
        (994, Err(ErrorCode::Unauthenticated)),
        (995, ANN),
        (2000, ANN),
        (2005, ANN),
        (2006, Err(ErrorCode::TokenExpired)),
    ] {
        assert_eq!(user(verifier.verify_at(&token, now).await), expected.map(Into::into), "{now}");
    }
    let negative = hs256(&json!({"sub": "ann", "exp": -1}));
    check(&verifier, &negative, Err(ErrorCode::TokenExpired)).await;
}

#[tokio::test]
async fn minted_tokens_verify() {
    let auth = [("hs256_secret", SECRET), ("issuer", "me"), ("audience", "chat")];
    let overrides = auth.iter().map(|(key, value)| (format!("auth.{key}"), (*value).into())).collect();
    let config = Config::load(None, std::iter::empty(), overrides).unwrap().auth;
    let rooms = RoomGrants::from([("*".parse().unwrap(), vec![Permission::Manage])]);
    let token = mint(&config, &"root".parse().unwrap(), &rooms, Duration::from_secs(60), Some("id")).unwrap();
    let claims = Verifier::new(&config, metrics()).await.unwrap().verify(&token).await.unwrap();
    assert_eq!(claims.expires, claims.issued.unwrap() + 60);
    assert_eq!(claims.jti.as_deref(), Some("id"));
    assert!(claims.grants.manages_all());
}

#[tokio::test]
async fn unusable_keys_are_refused_at_the_start() {
    for (key, file, word) in [
        ("public_key_file", "ec_p384.public.pem", "another curve"),
        ("public_key_file", "rsa_1024.public.pem", "2048"),
        ("public_key_file", "rsa_a.private.pem", "openssl pkey"),
        ("public_key_file", "README.md", "openssl pkey"),
        ("public_key_file", "missing.pem", "No such file"),
        ("jwks_file", "README.md", "not a JWK set"),
    ] {
        let error = verifier(&[(key, &path(file))]).await.err().unwrap().to_string();
        assert!(error.contains(word) && error.contains(key) && error.contains(file), "{error}");
    }
    assert!(matches!(verifier(&[]).await, Err(AuthError::NoKeys)));
    let listed = verifier(&[("public_key_file", &path("rsa_a.public.pem")), ("algorithms", "ES256")]).await;
    assert!(listed.err().unwrap().to_string().contains("does not list"));
}

/// Serves the contents of the returned cell as a JWK set, or 500 if it is empty, and counts the requests.
async fn serve() -> (String, Arc<Mutex<(String, usize)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let served = Arc::new(Mutex::new((String::new(), 0)));
    let state = served.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await.unwrap();
            let body = {
                let mut state = state.lock();
                state.1 += 1;
                state.0.clone()
            };
            let status = if body.is_empty() { 500 } else { 200 };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, served)
}

fn jwks(ids: &[&str]) -> String {
    let mut set: Value = serde_json::from_str(JWKS).unwrap();
    set["keys"].as_array_mut().unwrap().retain(|key| ids.contains(&key["kid"].as_str().unwrap()));
    set.to_string()
}

#[tokio::test]
async fn an_unknown_key_id_refreshes_the_set_early_but_seldom() {
    let (url, served) = serve().await;
    assert!(matches!(verifier(&[("jwks_url", &url)]).await, Err(AuthError::Unreachable { .. })));
    *served.lock() = (jwks(&["rsa_a"]), 0);
    let verifier = verifier(&[("jwks_url", &url)]).await.unwrap();
    let (a, b) = (rs256(RSA_A, Some("rsa_a")), rs256(RSA_B, Some("rsa_b")));
    check(&verifier, &a, ANN).await;
    assert_eq!(served.lock().1, 1);

    served.lock().0 = jwks(&["rsa_a", "rsa_b"]);
    // Clients that disconnect immediately do not cancel the refresh that they started.
    assert!(verifier.verify(&b).now_or_never().is_none());
    let (first, second) = tokio::join!(verifier.verify(&b), verifier.verify(&b));
    assert_eq!((user(first), user(second)), (ANN.map(Into::into), ANN.map(Into::into)));
    check(&verifier, &a, ANN).await;
    assert_eq!(served.lock().1, 2);

    // Strangers cause only a few reads of the set. An id that it was found to lack is not looked up again.
    for kid in ["x", "y", "z", "x", "y", "rsa_a"] {
        check(&verifier, &rs256(RSA_B, Some(kid)), Err(ErrorCode::Unauthenticated)).await;
    }
    assert_eq!(served.lock().1, 5);
    check(&verifier, &rs256(RSA_B, Some("other")), Err(ErrorCode::Unavailable)).await;
    assert_eq!(served.lock().1, 5);
}

#[tokio::test]
async fn a_key_that_cannot_be_looked_up_is_reported_as_unavailable() {
    let (url, served) = serve().await;
    served.lock().0 = jwks(&["rsa_a"]);
    let verifier = verifier(&[("jwks_url", &url)]).await.unwrap();
    served.lock().0 = String::new();
    let failure = verifier.verify(&rs256(RSA_B, Some("rsa_b"))).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unavailable);
    assert!(failure.retry_after_ms.is_some());
    // Known keys, and tokens without an id, need no lookup.
    check(&verifier, &rs256(RSA_A, Some("rsa_a")), ANN).await;
    check(&verifier, &rs256(RSA_B, None), Err(ErrorCode::Unauthenticated)).await;
    served.lock().0 = jwks(&["rsa_b"]);
    check(&verifier, &rs256(RSA_B, Some("rsa_b")), ANN).await;
}

#[tokio::test]
async fn the_set_is_refreshed_and_a_failure_keeps_the_keys() {
    let (url, served) = serve().await;
    served.lock().0 = jwks(&["rsa_a"]);
    let verifier = Arc::new(verifier(&[("jwks_url", &url), ("jwks_refresh", "20ms")]).await.unwrap());
    let cancelled = CancellationToken::new();
    let task = tokio::spawn(verifier.clone().refresh_loop(cancelled.clone()));
    let (a, b) = (rs256(RSA_A, Some("rsa_a")), rs256(RSA_B, None));
    let refreshed = async || {
        let seen = served.lock().1;
        while served.lock().1 < seen + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    for useless in [String::new(), "{".into(), jwks(&[])] {
        served.lock().0 = useless;
        refreshed().await;
        check(&verifier, &a, ANN).await;
    }
    served.lock().0 = jwks(&["rsa_b"]);
    refreshed().await;
    check(&verifier, &b, ANN).await;
    check(&verifier, &rs256(RSA_A, None), Err(ErrorCode::Unauthenticated)).await;
    cancelled.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn only_supported_keys_of_a_set_are_used() {
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    let mut set: Value = serde_json::from_str(&jwks(&["rsa_a", "ec_a", "ed_a"])).unwrap();
    set["keys"][0]["use"] = json!("enc");
    set["keys"][1]["alg"] = json!("ES384");
    set["keys"].as_array_mut().unwrap().extend([
        json!({"kty": "oct", "kid": "secret", "alg": "HS256", "k": secret}),
        json!({"kty": "oct", "kid": "short", "k": "c2hvcnQ"}),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "broken", "x": "AAAA"}),
        json!({"kty": "EC", "crv": "P-256", "kid": "broken", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "RSA", "kid": "broken"}),
        json!({"kty": "new", "kid": 7}),
        json!("no key"),
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), set.to_string()).unwrap();
    let from_file = verifier(&[("jwks_file", file.path().to_str().unwrap())]).await.unwrap();
    let (url, served) = serve().await;
    served.lock().0 = set.to_string();
    let from_url = verifier(&[("jwks_url", &url)]).await.unwrap();

    let ed = EncodingKey::from_ed_pem(ED_A.as_bytes()).unwrap();
    let ec = EncodingKey::from_ec_pem(EC_A.as_bytes()).unwrap();
    for verifier in [&from_file, &from_url] {
        check(verifier, &signed(Algorithm::EdDSA, Some("ed_a"), &ed, &ann()), ANN).await;
        check(verifier, &rs256(RSA_A, None), Err(ErrorCode::Unauthenticated)).await;
        let es256 = signed(Algorithm::ES256, Some("ec_a"), &ec, &ann());
        check(verifier, &es256, Err(ErrorCode::Unauthenticated)).await;
    }
    check(&from_file, &hs256(&ann()), ANN).await;
    check(&from_url, &hs256(&ann()), Err(ErrorCode::Unauthenticated)).await;
}
