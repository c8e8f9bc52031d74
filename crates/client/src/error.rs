//! The errors of a client: the server's own code and message where it answered, and a cause where it did not.

use roomlog_protocol::{ErrorCode, Failure};

/// The error of a client's operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address, or the token, cannot be used at all.
    #[error("{0}")]
    Unusable(String),
    /// There was no answer: nothing listens, the connection broke, or the time ran out. A message may have
    /// been stored nevertheless. Publishing it again with the same key is safe.
    #[error("cannot reach {url}: {cause}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// The error of the system.
        cause: String,
    },
    /// The answer did not come from a server that speaks Roomlog's protocol.
    #[error("{url} does not answer as a Roomlog server: {what}")]
    Foreign {
        /// The server's address.
        url: String,
        /// A description of the answer.
        what: String,
    },
    /// The server refused the request. A code that this version does not know is read as `internal`.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The function that fetches tokens failed.
    #[error("there is no new token: {0}")]
    Token(String),
    /// The server ended the subscription or the connection for good, or this client did (`closed`).
    #[error("{code}: {message}")]
    Ended {
        /// The protocol's code, such as `replaced` or `token_revoked`.
        code: String,
        /// The reason, in words for people.
        message: String,
    },
}

impl Error {
    /// Returns whether the same operation may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Token(_) => true,
            Self::Refused(failure) => failure.code.is_temporary(),
            Self::Unusable(_) | Self::Foreign { .. } | Self::Ended { .. } => false,
        }
    }

    /// Returns the time that the server asked to wait, in milliseconds.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Refused(failure) => failure.retry_after_ms,
            _ => None,
        }
    }

    /// The error of what was still going on when this client closed its connection.
    pub(super) fn closed() -> Self {
        Self::Ended { code: "closed".into(), message: "this client has closed the connection".into() }
    }

    pub(super) fn unreachable(url: &impl ToString, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unreachable { url: shown(url), cause: innermost(error) }
    }

    pub(super) fn silent(url: &impl ToString) -> Self {
        Self::Unreachable { url: shown(url), cause: "no answer in time".into() }
    }

    pub(super) fn foreign(url: &impl ToString, what: impl Into<String>) -> Self {
        Self::Foreign { url: shown(url), what: what.into() }
    }
}

/// Creates the failure for a refusal of the server, looking its code up by name.
pub(super) fn failure(code: &str, message: String, retry_after_ms: Option<u64>) -> Failure {
    match code.parse() {
        Ok(code) => Failure { code, message, retry_after_ms },
        Err(_) => {
            let message = format!("{code}: {message}");
            Failure { code: ErrorCode::Internal, message, retry_after_ms }
        }
    }
}

fn shown(url: &impl ToString) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}

/// Returns the innermost cause, which is the most specific and, unlike the outer ones, does not repeat the
/// address.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_they_were_sent_and_new_ones_are_not_lost() {
        for code in ErrorCode::ALL {
            assert_eq!(failure(code.as_str(), "no".into(), None), Failure::new(code, "no"));
        }
        let new = failure("out_of_paper", "no".into(), Some(5));
        assert_eq!(new.to_string(), "internal: out_of_paper: no");
        assert_eq!(Error::from(new).retry_after_ms(), Some(5));
    }
}
