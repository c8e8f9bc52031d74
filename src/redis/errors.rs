//! The reasons why a Redis cannot be used, with advice. The client library passes on TLS and system errors in
//! Rust's debug format.

use fred::error::{Error, ErrorKind};

use crate::util::tls;

const LOGIN: &str = "put a user and password that Redis knows into redis.url: redis://user:password@host:6379, or \
                     redis://:password@host:6379 for the user `default`; write / as %2F in them, @ as %40, % as %25";

const PERMISSIONS: &str =
    "grant the missing rights with ACL SETUSER; `roomlog doctor --acl` prints a sufficient rule";

const ADDRESS: &str = "is it running, and is redis.url right?";

const PLAIN: &str = "is it running, and is redis.url right? If Redis expects TLS, use rediss://";

const TLS: &str = "is it running, and does it use TLS on this port? If not, use redis://";

#[derive(Debug, thiserror::Error)]
#[error("cannot use the Redis at {0}: {1}")]
pub(crate) struct Unusable(pub String, pub ConnectError);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "redis.url cannot be used: {0}. Forms: redis://host:6379, rediss://…, redis-cluster://host:6379?node=host2:6379, \
         redis-sentinel://host:26379?sentinelServiceName=main, redis+unix:///path; with a password \
         redis://user:password@host:6379, where / is written as %2F, @ as %40, % as %25"
    )]
    Url(String),
    #[error("{problem}; {advice}")]
    Refused { problem: String, advice: &'static str },
}

impl ConnectError {
    pub(super) fn new(error: &Error, tls: bool) -> Self {
        let details = error.details();
        let (problem, advice) = match error.kind() {
            ErrorKind::Url | ErrorKind::Config => return Self::Url(details.to_owned()),
            ErrorKind::Timeout => return Self::silent(tls),
            _ if details.starts_with("NOAUTH") => ("it requires a password".to_owned(), LOGIN),
            _ if details.starts_with("WRONGPASS") => ("it refused the user or password".to_owned(), LOGIN),
            _ if is_denial(error) => (format!("it denied: {details}"), PERMISSIONS),
            _ if let Some(advice) = tls::advice(details) => (of_tls(details), advice),
            _ if tls => (words(error), TLS),
            // A server that expects TLS does this when it gets none.
            _ if details.contains("ConnectionReset") => (words(error), PLAIN),
            _ => (words(error), ADDRESS),
        };
        Self::Refused { problem, advice }
    }

    pub(super) fn silent(tls: bool) -> Self {
        let advice = if tls { TLS } else { ADDRESS };
        Self::Refused { problem: "no answer in time".into(), advice }
    }

    pub(super) fn unknown_to_sentinels(name: &str) -> Self {
        let problem = format!("its sentinels know no primary called {name}");
        Self::Refused { problem, advice: "is sentinelServiceName in redis.url right?" }
    }

    pub(super) fn no_cluster() -> Self {
        let problem = "it does not report the slots of a cluster".to_owned();
        Self::Refused { problem, advice: "if Redis is not a cluster, use redis://" }
    }

    /// Fails only if an ACL denied the trial. Other errors may be temporary, and the call is made again where
    /// it is needed.
    pub(super) fn unless_allowed(trial: Result<(), Error>) -> Result<(), Self> {
        match trial {
            Err(error) if is_denial(&error) => Err(Self::new(&error, false)),
            _ => Ok(()),
        }
    }

    pub(super) fn functions(error: &Error) -> Self {
        if is_denial(error) {
            return Self::new(error, false);
        }
        let problem = format!("its functions cannot be loaded ({error})");
        Self::Refused { problem, advice: "Redis 7.0 or newer is needed" }
    }
}

fn is_denial(error: &Error) -> bool {
    error.details().starts_with("NOPERM")
}

fn of_tls(details: &str) -> String {
    let inner = details.split_once("error: ").map_or(details, |(_, inner)| inner);
    format!("TLS failed with {}", inner.trim_end_matches([' ', '}']))
}

fn words(error: &Error) -> String {
    let details = error.details();
    let message = details.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    message.map_or_else(|| error.to_string(), |(message, _)| message.to_lowercase())
}
