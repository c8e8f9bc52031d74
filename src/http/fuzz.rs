//! The [`crate::fuzz`] targets for requests and sockets.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tungstenite::handshake::derive_accept_key;

use super::extract::bearer;
use super::routes::websocket::handshake;
use crate::session::inbox::{Allowance, Inbox, Received};

/// Checks that the pieces in which a socket's bytes arrive change nothing. The first byte gives the piece
/// size and whether the client has authenticated.
pub fn inbox(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let stranger = how & 0x80 != 0;
    let whole = received(stranger, bytes.len(), bytes);
    assert_eq!(received(stranger, usize::from(how & 0x7f), bytes), whole);
    let end = whole.iter().position(Received::is_last);
    assert!(end.is_none_or(|end| end + 1 == whole.len()), "{whole:?}");
    for received in &whole {
        match received {
            Received::Text(bytes) | Received::Binary(bytes) => assert!(bytes.len() <= KNOWN),
            Received::Ping(bytes) => assert!(bytes.len() <= 125),
            _ => {}
        }
    }
}

/// Most bytes of a message, from a client that has authenticated and from one that has not.
const KNOWN: usize = 1000;
const STRANGER: usize = 100;

/// Returns what an inbox receives from these bytes in pieces of this size. A stranger is allowed more after
/// its first message.
fn received(stranger: bool, size: usize, bytes: &[u8]) -> Vec<Received> {
    let mut inbox = Inbox::new(if stranger { Allowance::One(STRANGER) } else { Allowance::Many(KNOWN) });
    let mut all = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        inbox.take(&mut piece.to_vec());
        while let Some(received) = inbox.next() {
            if stranger && matches!(received, Received::Text(_) | Received::Binary(_)) {
                inbox.allow(Allowance::Many(KNOWN));
            }
            all.push(received);
        }
    }
    all
}

/// Checks an upgrade with these header fields, one on each line.
pub fn upgrade(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let _ = bearer(&headers);
    if let Ok((_encoding, key)) = handshake(&headers) {
        assert!(HeaderValue::from_str(&derive_accept_key(key.as_bytes())).is_ok());
    }
}
