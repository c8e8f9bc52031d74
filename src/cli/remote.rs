//! Common parts of the commands that talk to a server: its address, the token, and advice on errors.

use std::future::Future;

use clap::Args;

use super::Failed;
use super::output::Output;
use crate::protocol::ErrorCode;
use roomlog_client::{Client, Error};

/// The server, and the output format.
#[derive(Debug, Args)]
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
    pub(super) fn client(&self) -> Result<Client, Failed> {
        Ok(Client::new(&self.url, self.token.as_deref())?)
    }

    pub(super) fn output(&self) -> Output {
        Output::new(self.json)
    }
}

pub(super) fn run<T>(command: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

pub(super) fn advise(error: Error) -> Failed {
    match error {
        Error::Unreachable { url, cause } if cause.contains("refused") => {
            format!("cannot reach {url}: is the server running? start it with `roomlog serve --dev`").into()
        }
        Error::Unreachable { url, cause } => {
            format!("cannot reach {url}: {cause}; --url or ROOMLOG_URL says where the server is").into()
        }
        Error::Foreign { .. } => format!("{error}; is --url or ROOMLOG_URL right?").into(),
        Error::Refused(failure) => match failure.code {
            ErrorCode::Unauthenticated | ErrorCode::TokenExpired | ErrorCode::TokenRevoked => format!(
                "{}: set ROOMLOG_TOKEN to a valid token; `roomlog serve --dev` prints one, `roomlog token` makes one",
                failure.message
            )
            .into(),
            ErrorCode::Forbidden => {
                format!("{}; `roomlog token --room` makes one that does", failure.message).into()
            }
            _ => failure.to_string().into(),
        },
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Failure;

    #[test]
    fn errors_are_one_line_that_says_what_to_do() {
        let url = "http://127.0.0.1:8080".to_owned();
        let refused = Failure::new(ErrorCode::Unauthenticated, "the header is missing");
        for (error, advice) in [
            (
                Error::Unreachable { url: url.clone(), cause: "Connection refused".into() },
                "roomlog serve --dev",
            ),
            (Error::Unreachable { url: url.clone(), cause: "no such host".into() }, "no such host; --url"),
            (Error::Foreign { url, what: "HTTP status 502".into() }, "is --url or ROOMLOG_URL right?"),
            (refused.into(), "set ROOMLOG_TOKEN"),
            (Failure::bad_request("`limit` is 1 to 1000").into(), "`limit` is 1 to 1000"),
        ] {
            let line = advise(error).to_string();
            assert!(line.contains(advice) && !line.contains('\n'), "{line}");
        }
    }
}
