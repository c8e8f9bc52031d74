//! The catalogue of public codes: every error and close that a client can see, each with its name, HTTP
//! status and advice. No other module defines a code.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The reason for a failed request, as reported to the client: `code` of the protocol's `error` frame and of
/// `problem+json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not a frame: not a map, or without an `op`.
    BadFrame,
    /// A field is missing, of the wrong type, or against a rule.
    BadRequest,
    /// An `op` that the protocol does not have.
    UnknownOp,
    /// No token, or one that does not verify.
    Unauthenticated,
    /// The token has expired.
    TokenExpired,
    /// The token, or its user, was revoked.
    TokenRevoked,
    /// The token does not grant this.
    Forbidden,
    /// There is no such room, message or subscription.
    NotFound,
    /// This connection does not subscribe to the room.
    NotSubscribed,
    /// The subscription is not durable.
    NotDurable,
    /// More bytes than `limits.max_message`.
    TooLarge,
    /// Faster than the configured rate.
    RateLimited,
    /// More subscriptions, or more connections, than configured.
    TooMany,
    /// Redis cannot be reached, or did not confirm. Try again with the same key.
    Unavailable,
    /// A fault of the server. Its log has the cause.
    Internal,
}

impl ErrorCode {
    /// All codes, for documentation and tests.
    pub const ALL: [Self; 15] = [
        Self::BadFrame,
        Self::BadRequest,
        Self::UnknownOp,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::Forbidden,
        Self::NotFound,
        Self::NotSubscribed,
        Self::NotDurable,
        Self::TooLarge,
        Self::RateLimited,
        Self::TooMany,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Returns the name on the wire.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Returns the HTTP status that REST answers with.
    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    /// Returns whether the same request may succeed a little later, unchanged.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable)
    }

    const fn row(self) -> (&'static str, u16) {
        match self {
            Self::BadFrame => ("bad_frame", 400),
            Self::BadRequest => ("bad_request", 400),
            Self::UnknownOp => ("unknown_op", 400),
            Self::Unauthenticated => ("unauthenticated", 401),
            Self::TokenExpired => ("token_expired", 401),
            Self::TokenRevoked => ("token_revoked", 401),
            Self::Forbidden => ("forbidden", 403),
            Self::NotFound => ("not_found", 404),
            Self::NotSubscribed => ("not_subscribed", 409),
            Self::NotDurable => ("not_durable", 409),
            Self::TooLarge => ("too_large", 413),
            Self::RateLimited => ("rate_limited", 429),
            Self::TooMany => ("too_many", 429),
            Self::Unavailable => ("unavailable", 503),
            Self::Internal => ("internal", 500),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is not in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no error code {0:?}")]
pub struct UnknownCode(String);

impl FromStr for ErrorCode {
    type Err = UnknownCode;

    /// Parses the name on the wire.
    fn from_str(name: &str) -> Result<Self, UnknownCode> {
        Self::ALL.into_iter().find(|code| code.as_str() == name).ok_or_else(|| UnknownCode(name.to_owned()))
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A failure as reported to a client: a public code, and a message that helps. Internal details never go in
/// here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// The code from the catalogue.
    pub code: ErrorCode,
    /// The problem and its remedy, in words for people.
    pub message: String,
    /// Time to wait before the next attempt, in milliseconds, where waiting helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// Creates a failure without `retry_after_ms`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// Creates an [`ErrorCode::BadRequest`] with this message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// Creates an [`ErrorCode::Forbidden`] with this message.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// Creates an [`ErrorCode::Unavailable`]: nothing is known to be stored, and the same key makes a retry
    /// safe.
    pub fn unavailable() -> Self {
        Self {
            code: ErrorCode::Unavailable,
            message: "Redis cannot be reached; try again with the same key".into(),
            retry_after_ms: Some(1000),
        }
    }

    /// Creates an [`ErrorCode::Unavailable`]: Redis is nearly full and accepts nothing new.
    pub fn full() -> Self {
        Self {
            code: ErrorCode::Unavailable,
            message: "Redis is nearly full, so nothing new is stored; try again later with the same key"
                .into(),
            retry_after_ms: Some(5000),
        }
    }
}

impl From<super::ids::InvalidId> for Failure {
    fn from(error: super::ids::InvalidId) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// The reason for which the server closes a connection, with the WebSocket close code and whether a client
/// should connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The client closed the connection in an orderly way.
    Normal,
    /// A WebSocket frame that violates RFC 6455.
    ProtocolError,
    /// A payload that cannot be decoded.
    Undecodable,
    /// A WebSocket message above the limit.
    TooLarge,
    /// The server stops or restarts. The client should connect again.
    Restarting,
    /// The token has expired. The client should connect again with a fresh one.
    TokenExpired,
    /// No pong in time.
    NoPong,
    /// No `connect` in time.
    NoConnect,
    /// More connections than this node accepts.
    Overloaded,
    /// The token cannot be verified at the moment. The client should connect again.
    Unavailable,
    /// The token does not verify.
    Unauthenticated,
    /// The token was revoked.
    TokenRevoked,
    /// The client continued to send after it was told `rate_limited`.
    LimitsIgnored,
}

impl CloseCode {
    /// All close codes, for documentation and metrics.
    pub const ALL: [Self; 13] = [
        Self::Normal,
        Self::ProtocolError,
        Self::Undecodable,
        Self::TooLarge,
        Self::Restarting,
        Self::TokenExpired,
        Self::NoPong,
        Self::NoConnect,
        Self::Overloaded,
        Self::Unavailable,
        Self::Unauthenticated,
        Self::TokenRevoked,
        Self::LimitsIgnored,
    ];

    /// Returns the number in the close frame. 4000 to 4499 ask the client to connect again, 4500 to 4999 not
    /// to.
    pub const fn number(self) -> u16 {
        self.row().0
    }

    /// Returns whether connecting again is useless.
    pub const fn is_final(self) -> bool {
        self.number() >= 4500
    }

    /// Returns `code` of the `goodbye` frame, which is also the metric's label.
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Returns the message of `goodbye`, for people.
    pub const fn message(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Normal => (1000, "normal", "closed"),
            Self::ProtocolError => (1002, "protocol_error", "a WebSocket frame is against RFC 6455"),
            Self::Undecodable => (1007, "bad_frame", "the payload cannot be decoded"),
            Self::TooLarge => (1009, "too_large", "the message is above the limit"),
            Self::Restarting => (1012, "restarting", "the server restarts; connect again"),
            Self::TokenExpired => {
                (4001, "token_expired", "the token has expired; connect again with a new one")
            }
            Self::NoPong => (4002, "no_pong", "no pong came in time"),
            Self::NoConnect => (4003, "no_connect", "no connect frame came in time"),
            Self::Overloaded => (4004, "overloaded", "this node is full; connect again later"),
            Self::Unavailable => {
                (4005, "unavailable", "the token cannot be verified now; connect again later")
            }
            Self::Unauthenticated => {
                (4501, "unauthenticated", "not authenticated; the error before says why")
            }
            Self::TokenRevoked => (4502, "token_revoked", "the token was revoked"),
            Self::LimitsIgnored => (4503, "rate_limited", "the rate limit was ignored"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The table that clients in all languages are tested with.
    #[test]
    fn the_fixture_for_clients_has_the_same_codes() {
        let codes = ErrorCode::ALL.map(|code| {
            json!({ "code": code.as_str(), "status": code.http_status(), "temporary": code.is_temporary() })
        });
        let closes = CloseCode::ALL.map(
            |close| json!({ "number": close.number(), "code": close.as_str(), "final": close.is_final() }),
        );
        let table = json!({ "errors": codes, "closes": closes });
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/codes.json");
        let kept: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(kept, table, "tests/fixtures/codes.json is to be {table:#}");
    }
}
