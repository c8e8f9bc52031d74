//! Tokens for the tests' users.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The secret of all servers in these tests.
pub const SECRET: &str = "a secret for tests, which nobody else would use";

/// Returns a token of this user for an hour, with the permissions of `rooms`: `{"chat.*": ["read",
/// "write"]}`.
pub fn token(user: &str, rooms: Value) -> String {
    token_for(user, rooms, Duration::from_secs(3600))
}

/// Returns a token that is valid for `ttl`.
pub fn token_for(user: &str, rooms: Value, ttl: Duration) -> String {
    minted(user, rooms, ttl, None)
}

/// Returns a token with this `jti`.
pub fn token_with_id(user: &str, rooms: Value, jti: &str) -> String {
    minted(user, rooms, Duration::from_secs(3600), Some(jti))
}

/// Returns a token of a user that may read and write everywhere.
pub fn everything(user: &str) -> String {
    token(user, json!({ "*": ["read", "write"] }))
}

/// Returns a token of a user that may do anything.
pub fn admin() -> String {
    token("admin", json!({ "*": ["read", "write", "manage"] }))
}

fn minted(user: &str, rooms: Value, ttl: Duration, jti: Option<&str>) -> String {
    let mut claims = json!({ "sub": user, "iat": now(), "exp": now() + ttl.as_secs(), "rooms": rooms });
    if let Some(jti) = jti {
        claims["jti"] = json!(jti);
    }
    sign(&claims)
}

/// Signs these claims as they are.
pub fn sign(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// Returns the current Unix time in seconds.
pub fn now() -> u64 {
    now_ms() / 1000
}

/// Returns the current Unix time in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}
