//! What can go wrong for a client: the server's own code and words where it answered, and a cause where it did not.

use roomlog_protocol::{ErrorCode, Failure};

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address, or the token, cannot be used at all.
    #[error("{0}")]
    Unusable(String),
    /// There was no answer: nothing listens, the connection broke, or the time was over. A message may have been stored
    /// all the same; publishing it again with the same key is safe.
    #[error("cannot reach {url}: {cause}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the system said.
        cause: String,
    },
    /// Something answered that does not speak Roomlog's protocol.
    #[error("{url} does not answer as a Roomlog server: {what}")]
    Foreign {
        /// The server's address.
        url: String,
        /// What it answered.
        what: String,
    },
    /// The server refused, and says why. A code that this version does not know reads as `internal`.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The server ended the subscription or the connection for good.
    #[error("the server ended it ({code}): {message}")]
    Ended {
        /// The protocol's code, such as `replaced` or `token_revoked`.
        code: String,
        /// Why, for people.
        message: String,
    },
}

impl Error {
    /// Whether the same again, a little later, may succeed.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(failure) => failure.code.is_temporary(),
            Self::Unusable(_) | Self::Foreign { .. } | Self::Ended { .. } => false,
        }
    }

    /// How long the server asked to wait, in milliseconds.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Refused(failure) => failure.retry_after_ms,
            _ => None,
        }
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

/// A refusal as it came, with the code by its name.
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

/// The innermost cause says most, and unlike the outer ones does not repeat the address.
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
