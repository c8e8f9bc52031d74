//! Untrusted input for fuzzing: a body for each kind of input, which panics if a promise does not hold. Run
//! by `cargo fuzz` (`fuzz/`), or by the tests below where there is no nightly compiler. `make fuzz` selects
//! one.

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::auth::{Claims, LEEWAY, Verifier};
use crate::config::Config;
use crate::protocol::decode::{Drafts, Frames, MAX_FRAMES};
use crate::protocol::request::Request;
use crate::protocol::{Data, Encoding, Failure, MessageId, Pattern, RoomName, SubscriptionName, UserId};
use crate::redis::{RoomCursor, decode};
use crate::telemetry::Metrics;

pub use crate::http::fuzz::{inbox, upgrade};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub type Body = fn(&[u8]);

pub const BODIES: [(&str, Body); 8] = [
    ("json", json),
    ("msgpack", msgpack),
    ("ids", ids),
    ("patterns", patterns),
    ("tokens", tokens),
    ("inbox", inbox),
    ("upgrade", upgrade),
    ("notifications", notifications),
];

pub fn json(input: &[u8]) {
    frames(Encoding::Json, input);
}

pub fn msgpack(input: &[u8]) {
    frames(Encoding::MessagePack, input);
    if let Ok(value) = Data::from_msgpack(Bytes::copy_from_slice(input)) {
        data(&value);
    }
}

fn frames(encoding: Encoding, input: &[u8]) {
    let payload = Bytes::copy_from_slice(input);
    if let Ok(mut frames) = Frames::of(encoding, payload.clone()) {
        let _ = frames.greeting();
    }
    let mut count = 0;
    for frame in Frames::of(encoding, payload.clone()).into_iter().flatten() {
        count += 1;
        match frame.map(|frame| frame.request) {
            Ok(Ok(Request::Publish { message, .. })) => data(&message.data),
            Ok(Ok(Request::Signal { signal, .. })) => data(&signal.data),
            _ => {}
        }
    }
    assert!(count <= MAX_FRAMES, "{count} frames");
    let drafts = Drafts::of(encoding, payload, 10).into_iter().flatten();
    assert!(drafts.inspect(|draft| draft.iter().for_each(|(_, draft)| data(&draft.data))).count() <= 10);
}

/// Checks that accepted data is valid, and that it survives a conversion to JSON and back.
fn data(value: &Data) {
    assert_eq!(Data::from_msgpack(value.as_bytes().clone()).as_ref(), Ok(value));
    let text = |value: &Data| serde_json::to_string(value).expect("data is JSON");
    // Converted once first, since only MessagePack can have a map's key twice.
    let once = Data::from_json(&text(value)).expect("data that was printed");
    assert_eq!(Data::from_json(&text(&once)).as_ref(), Ok(&once));
}

pub fn ids(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(room) = text.parse::<RoomName>() {
        assert_eq!(room.to_string(), text);
        assert!(!room.is_internal() && text.is_ascii() && !text.contains(['{', '}']), "{text:?}");
    }
    if let Ok(user) = text.parse::<UserId>() {
        assert_eq!(user.as_str(), text);
    }
    if let Ok(name) = text.parse::<SubscriptionName>() {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains('/'), "{text:?}");
    }
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Some(cursor) = RoomCursor::parse(text) {
        assert_eq!(RoomCursor::parse(&cursor.text()), Some(cursor));
    }
}

/// Fuzzes a pattern and a room, separated by a newline.
pub fn patterns(input: &[u8]) {
    let Some((pattern, room)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let (Ok(pattern), Ok(room)) = (pattern.parse::<Pattern>(), room.parse::<RoomName>()) else { return };
    assert_eq!(pattern.matches(&room), by_definition(pattern.as_str().as_bytes(), room.as_str().as_bytes()));
}

/// Returns whether a text matches a pattern. Tracks, for each prefix of the text, whether the pattern so far
/// matches it.
fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for part in pattern {
        if *part == b'*' {
            let first = reached.iter().position(|reached| *reached).unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for at in (0..text.len()).rev() {
                reached[at + 1] = reached[at] && text[at] == *part;
            }
            reached[0] = false;
        }
    }
    reached[text.len()]
}

/// Fuzzes a raw token, and a header and claims (separated by a newline) in a token signed with the right key.
pub fn tokens(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(verify(text).is_err(), "a token that nobody signed: {text}");
    }
    let Some(at) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (header, claims) = (&input[..at], &input[at + 1..]);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    let Ok(Claims { user, expires, .. }) = verify(&format!("{signed}.{signature}")) else { return };
    let header: serde_json::Value = serde_json::from_slice(header).expect("a header that was read");
    assert!(
        header["alg"] == "HS256" && header.get("crit").is_none_or(serde_json::Value::is_null),
        "{header}"
    );
    assert!(
        !user.as_str().is_empty() && expires.saturating_add(LEEWAY) >= jsonwebtoken::get_current_timestamp()
    );
}

fn verify(token: &str) -> Result<Claims, Failure> {
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
        let secret = vec![("auth.hs256_secret".to_owned(), SECRET.into())];
        let config = Config::load(None, std::iter::empty(), secret).expect("a configuration");
        let metrics = Arc::new(Metrics::new(&config.rooms));
        Verifier::new(&config.auth, metrics).now_or_never().expect("nothing to wait for").expect("a key")
    });
    VERIFIER.verify(token).now_or_never().expect("nothing to wait for")
}

pub fn notifications(input: &[u8]) {
    let room = "chat".parse().expect("a room");
    let _ = decode(&room, &Bytes::copy_from_slice(input));
}

#[cfg(test)]
mod tests;
