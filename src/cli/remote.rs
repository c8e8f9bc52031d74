//! Common parts of the commands that talk to a server: its address, the token, and advice on errors.

use std::future::Future;

use clap::Args;

use super::output::Output;
use super::times::Times;
use super::{Failed, program};
use crate::auth::RawClaims;
use crate::protocol::{ErrorCode, Failure};
use crate::util::time::now_s;
use roomlog_client::{Client, Error};

/// The server, and the output format.
#[derive(Debug, Clone, Args)]
pub(super) struct Remote {
    /// Address of the server
    #[arg(long, env = "ROOMLOG_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Token to use there
    #[arg(long, env = "ROOMLOG_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print JSON lines (the default if standard output is no terminal)
    #[arg(long)]
    json: bool,
}

impl Remote {
    /// Runs a command with a client of the server. Errors of the client say what to do.
    pub(super) fn run<F>(&self, command: impl FnOnce(Client) -> F) -> Result<(), Failed>
    where
        F: Future<Output = Result<(), Failed>>,
    {
        let advise = |error: Failed| match error.downcast::<Error>() {
            Ok(error) => advise(*error, self.token.as_deref()),
            Err(other) => other,
        };
        run(command(client(&self.url, self.token.as_deref())?)).map_err(advise)
    }

    pub(super) fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Returns the user that the token names.
    pub(super) fn user(&self) -> Option<String> {
        RawClaims::unverified(self.token.as_deref()?)?.sub
    }
}

/// Returns a client, or an error that names the setting to change.
pub(super) fn client(url: &str, token: Option<&str>) -> Result<Client, Failed> {
    Client::new(url, token).map_err(|error| {
        let setting = match Client::new(url, None) {
            Ok(_) => "set ROOMLOG_TOKEN or --token",
            Err(_) => "set ROOMLOG_URL or --url, such as ROOMLOG_URL=http://127.0.0.1:8080",
        };
        format!("{error} ({setting})").into()
    })
}

/// Returns the innermost cause of a failed request, which does not repeat the address.
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

pub(super) fn run<T>(command: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Returns the error with what to do about it, for a client with this token.
fn advise(error: Error, token: Option<&str>) -> Failed {
    let token = token.map(str::trim).filter(|token| !token.is_empty());
    match &error {
        Error::Unreachable { url, cause } if cause.contains("refused") => format!(
            "cannot reach {url}: is the server running? Start one to try things out with `{} serve --dev`, \
             or set ROOMLOG_URL or --url to the address of yours",
            program()
        ),
        Error::Unreachable { url, cause } => format!(
            "cannot reach {url}: {cause}. Is that the server's address? Set ROOMLOG_URL or --url to it, \
             such as http://127.0.0.1:8080"
        ),
        Error::Foreign { .. } => format!(
            "{error}. Is that the server's address? Set ROOMLOG_URL or --url to it, such as http://127.0.0.1:8080"
        ),
        Error::Refused(Failure { code, .. }) => refused(*code, &error, token),
        Error::Ended { code, .. } => match code.parse() {
            Ok(code) => refused(code, &error, token),
            Err(_) => return error.into(),
        },
        _ => return error.into(),
    }
    .into()
}

/// Returns a command that makes a token.
pub(super) fn make_token() -> String {
    format!("`{} token --user ann --room 'chat.*=read,write'`", program())
}

/// Says where to get a token.
fn sources() -> String {
    format!("`{} serve --dev` prints one, {} makes one", program(), make_token())
}

/// Says what to do about a refusal, or about the end of a connection, with this code.
fn refused(code: ErrorCode, error: &Error, token: Option<&str>) -> String {
    match (code, token) {
        (ErrorCode::Unauthenticated, None) => {
            let set = "Set ROOMLOG_TOKEN or --token";
            format!("this command needs a token, and none is set. {set}: {}", sources())
        }
        (ErrorCode::TokenExpired, Some(token)) => expired(token),
        (ErrorCode::Unauthenticated | ErrorCode::TokenRevoked, _) => {
            format!("{error}. Set ROOMLOG_TOKEN or --token to a valid token: {}", sources())
        }
        (ErrorCode::Forbidden, _) => {
            format!(
                "{error}; `{} token --user ann --room PATTERN=PERMISSIONS` makes one that does",
                program()
            )
        }
        _ => error.to_string(),
    }
}

/// Says when the token expired, and how to get another one.
fn expired(token: &str) -> String {
    let when = RawClaims::unverified(token).and_then(|claims| claims.exp).map_or(String::new(), |exp| {
        let ago =
            now_s().checked_sub(exp).map_or(String::new(), |seconds| format!(", {} ago", span(seconds)));
        format!(" at {} UTC{ago}", Times::default().full(exp.saturating_mul(1000)))
    });
    format!(
        "the token in ROOMLOG_TOKEN or --token has expired{when}. Make a new one where the server is configured: \
         {}. A server with --dev prints one at each start",
        make_token()
    )
}

/// Returns a span of time in whole units of its greatest one, such as `2 hours`.
fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or((1, "second"));
    match seconds / unit {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:8080";

    #[test]
    fn errors_say_what_to_do() {
        let unreachable = |cause: &str| Error::Unreachable { url: URL.into(), cause: cause.into() };
        let refused = |code, message: &str| Error::from(Failure::new(code, message));
        let ended = |code: &str| Error::Ended { code: code.into(), message: "the reason".into() };
        for (error, token, advice) in [
            (unreachable("Connection refused"), None, " serve --dev`, or set ROOMLOG_URL"),
            (
                unreachable("no such host"),
                None,
                "no such host. Is that the server's address? Set ROOMLOG_URL",
            ),
            (Error::Foreign { url: URL.into(), what: "HTTP status 502".into() }, None, "such as http://127"),
            (
                refused(ErrorCode::Unauthenticated, "the header is missing"),
                None,
                "Set ROOMLOG_TOKEN or --token:",
            ),
            (
                refused(ErrorCode::Unauthenticated, "not signed with an accepted key"),
                Some("token"),
                "unauthenticated: not signed with an accepted key. Set ROOMLOG_TOKEN",
            ),
            (refused(ErrorCode::Forbidden, "no grant"), Some("token"), "forbidden: no grant; `"),
            (refused(ErrorCode::BadRequest, "`limit` is 1 to 1000"), None, "`limit` is 1 to 1000"),
            (
                ended("token_expired"),
                Some("token"),
                "has expired. Make a new one where the server is configured: `",
            ),
            (ended("replaced"), Some("token"), "the reason"),
        ] {
            let text = advise(error, token).to_string();
            assert!(text.contains(advice), "{text}");
        }
    }

    #[test]
    fn an_expired_token_is_dated() {
        // {"sub":"ann","exp":1700000000}
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjE3MDAwMDAwMDB9.x";
        let text = expired(token);
        assert!(
            text.contains("has expired at 2023-11-14 22:13:20 UTC, ") && text.contains(" days ago"),
            "{text}"
        );
        assert_eq!([0, 61, 7300].map(span), ["0 seconds", "1 minute", "2 hours"]);
    }
}
