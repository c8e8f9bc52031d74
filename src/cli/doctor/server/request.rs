//! Requests of `roomlog doctor` to a server, without a token.

use jiff::fmt::rfc2822;
use reqwest::header::{DATE, ORIGIN};
use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use serde::Deserialize;

use super::super::TIMEOUT;
use crate::cli::Failed;
use crate::cli::remote::cause;
use crate::util::time::now_ms;
use crate::util::tls;

#[derive(Debug)]
pub(super) struct Requests {
    client: Client,
    url: Url,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    /// How far the server's clock is ahead of this machine's, in milliseconds, at least; `None` if it does
    /// not tell.
    pub(super) ahead_ms: Option<i64>,
}

impl Requests {
    pub(super) fn new(url: &str) -> Result<Self, Failed> {
        tls::install_provider();
        let client =
            Client::builder().timeout(TIMEOUT).redirect(redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { client, url: format!("{}/", url.trim_end_matches('/')).parse()? })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// # Errors
    /// The cause, if there is no answer.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.send(self.client.get(self.address(path)?)).await
    }

    /// Sends a request as a page of this origin does.
    pub(super) async fn get_from(&self, path: &str, origin: &str) -> Result<Answer, String> {
        self.send(self.client.get(self.address(path)?).header(ORIGIN, origin)).await
    }

    fn address(&self, path: &str) -> Result<Url, String> {
        self.url.join(path).map_err(|error| error.to_string())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, String> {
        let before = now_ms();
        let response = request.send().await.map_err(|error| cause(&error))?;
        let after = now_ms();
        let status = response.status();
        let date = response.headers().get(DATE).and_then(|date| {
            let time = rfc2822::DateTimeParser::new().parse_timestamp(date.to_str().ok()?).ok()?;
            u64::try_from(time.as_millisecond()).ok()
        });
        let ahead_ms = date.map(|date| ahead(date, before, after));
        let body = response.text().await.map_err(|error| cause(&error))?;
        Ok(Answer { status, body, ahead_ms })
    }
}

impl Answer {
    /// Returns the reason in a refusal of a Roomlog server.
    pub(super) fn problem(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            detail: String,
        }
        let Problem { code, detail } = serde_json::from_str(&self.body).ok()?;
        Some(format!("{code}: {detail}"))
    }
}

/// Compares the second that a server names with the time of this machine, at some moment between two. Returns
/// the smallest difference that explains both; 0 if they may agree.
fn ahead(second_ms: u64, before_ms: u64, after_ms: u64) -> i64 {
    let least = second_ms as i64 - after_ms as i64;
    let most = second_ms as i64 + 999 - before_ms as i64;
    0.clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_as_far_as_whole_seconds_allow() {
        assert_eq!(ahead(10_000, 10_200, 10_400), 0);
        assert_eq!(ahead(10_000, 9_990, 10_010), 0);
        assert_eq!(ahead(20_000, 10_200, 10_400), 9_600);
        assert_eq!(ahead(10_000, 20_000, 20_400), -9_001);
    }
}
