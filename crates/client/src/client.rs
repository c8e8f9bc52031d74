//! The HTTP side of a client: publishing, history and rooms, a request at a time.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use roomlog_protocol::request::Range;
use roomlog_protocol::{ErrorCode, Failure, Pattern, RoomName};

use super::connection::{ConnectOptions, Connection};
use super::error::{self, Error};
use super::tail::{Tail, TailOptions};
use super::token::Tokens;
use super::types::{NewMessage, Page, Published, Room, RoomList};

/// Time limit for establishing a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Time limit for an answer. The server gives up on Redis long before.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A server, and the token to use there. Cheap to clone. Proxy settings of the environment are ignored, since
/// most proxies would pass neither half of the protocol.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    pub(super) base: Url,
    pub(super) tokens: Tokens,
}

impl Client {
    /// Creates a client of the server at `url`, such as `https://rooms.example.com`. Sends nothing yet.
    ///
    /// # Errors
    /// [`Error::Unusable`] for an invalid address or token.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, Error> {
        Self::with(url, Tokens::fixed(token)?)
    }

    /// Creates a client of the server at `url`, whose tokens come from a function: typically a request to the
    /// application's own server. The function is called when the first token is needed, again before a token
    /// ends, and when the server refuses one as expired. It has 30 s for each.
    ///
    /// # Errors
    /// [`Error::Unusable`] for an invalid address.
    pub fn with_tokens<F, R, E>(url: &str, fetch: F) -> Result<Self, Error>
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        Self::with(url, Tokens::function(fetch))
    }

    fn with(url: &str, tokens: Tokens) -> Result<Self, Error> {
        // Fails if the process has a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Error::Unusable(format!("TLS cannot be used: {error}")))?;
        Ok(Self { http, base: base(url)?, tokens })
    }

    /// Connects over WebSocket, for publishing through an outbox and for following rooms. Returns at once: the
    /// connection is established in the background, and again whenever it is lost.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn connect(&self, options: ConnectOptions) -> Connection {
        Connection::open(self.clone(), options, true)
    }

    /// Stores a message, or finds that its key was stored before.
    ///
    /// # Errors
    /// The server's refusal, or no answer. After a temporary error, publish the same message again.
    pub async fn publish(&self, message: &NewMessage) -> Result<Published, Error> {
        let NewMessage { room, key, .. } = message;
        let request = self.request(Method::POST, &format!("v1/rooms/{room}/messages")).await?;
        self.answer(request.header("idempotency-key", key.to_string()).json(message)).await
    }

    /// Stores messages, of any rooms, in their order, and returns the result of each. At most 1000 messages,
    /// and together at most 16 times the limit of one message.
    ///
    /// # Errors
    /// If the request as a whole was refused, or not answered.
    pub async fn publish_all(
        &self,
        messages: &[NewMessage],
    ) -> Result<Vec<Result<Published, Failure>>, Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Item {
            Published(Published),
            Failed { error: ItemError },
        }
        #[derive(Deserialize)]
        struct ItemError {
            code: String,
            message: String,
        }
        let items: Vec<Item> =
            self.answer(self.request(Method::POST, "v1/messages").await?.json(messages)).await?;
        if items.len() != messages.len() {
            return Err(Error::foreign(&self.base, "a batch was answered with another number of items"));
        }
        let outcome = |item| match item {
            Item::Published(published) => Ok(published),
            Item::Failed { error } => Err(error::failure(&error.code, error.message, None)),
        };
        Ok(items.into_iter().map(outcome).collect())
    }

    /// Reads a page of a room's history, of at most `limit` (1 to 1000) messages.
    ///
    /// # Errors
    /// The server's refusal, or no answer.
    pub async fn history(&self, room: &RoomName, range: Range, limit: usize) -> Result<Page, Error> {
        let request = self.request(Method::GET, &format!("v1/rooms/{room}/messages")).await?;
        let request = request.query(&[("limit", limit)]);
        let request = match range {
            Range::After(id) => request.query(&[("after", id.to_string())]),
            Range::Oldest => request,
            Range::FromTime(ms) => request.query(&[("from_time", ms)]),
            Range::Before(id) => request.query(&[("before", id.to_string())]),
            Range::Newest => request.query(&[("order", "desc")]),
        };
        let mut page: Page = self.answer(request).await?;
        if range == Range::Newest {
            page.messages.reverse();
        }
        Ok(page)
    }

    /// Describes a room.
    ///
    /// # Errors
    /// `not_found`, any other refusal, or no answer.
    pub async fn room(&self, room: &RoomName) -> Result<Room, Error> {
        self.answer(self.request(Method::GET, &format!("v1/rooms/{room}")).await?).await
    }

    /// Lists rooms, from the beginning or from the end of the previous page.
    ///
    /// # Errors
    /// The server's refusal, or no answer.
    pub async fn rooms(&self, pattern: Option<&Pattern>, cursor: Option<&str>) -> Result<RoomList, Error> {
        let pattern = pattern.map(|pattern| ("match", pattern.as_str()));
        let query: Vec<_> = pattern.into_iter().chain(cursor.map(|cursor| ("cursor", cursor))).collect();
        self.answer(self.request(Method::GET, "v1/rooms").await?.query(&query)).await
    }

    /// Follows a room over a connection of its own. Returns once the server has confirmed the subscription.
    /// [`Connection::tail`] shares a connection.
    ///
    /// # Errors
    /// The server's refusal, or no answer. Nothing is retried up to this point.
    pub async fn tail(&self, options: TailOptions) -> Result<Tail, Error> {
        let connection = Connection::open(self.clone(), ConnectOptions::default(), false);
        Tail::open(connection, options, false).await
    }

    pub(super) async fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Error> {
        self.request_to(method, self.address(path)?).await
    }

    pub(super) async fn request_to(&self, method: Method, address: Url) -> Result<RequestBuilder, Error> {
        let request = self.http.request(method, address);
        Ok(match self.tokens.get().await? {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    pub(super) fn address(&self, path: &str) -> Result<Url, Error> {
        self.base.join(path).map_err(|error| Error::Unusable(format!("{}{path}: {error}", self.base)))
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        Ok(self.answer_with_headers(request).await?.1)
    }

    pub(super) async fn answer_with_headers<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<(HeaderMap, T), Error> {
        let response = self.send(request).await?;
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(|error| self.broken(&error))?;
        let body =
            serde_json::from_slice(&body).map_err(|error| Error::foreign(&self.base, error.to_string()))?;
        Ok((headers, body))
    }

    /// Sends a request whose answer has no content.
    pub(super) async fn done(&self, request: RequestBuilder) -> Result<(), Error> {
        self.send(request).await.map(drop)
    }

    /// Returns the response, if it is a success.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let refusal = self.refusal(response).await;
        if let Error::Refused(Failure { code: ErrorCode::TokenExpired, .. }) = refusal {
            self.tokens.spent().await;
        }
        Err(refusal)
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        match error.is_timeout() {
            true => Error::silent(&self.base),
            false => Error::unreachable(&self.base, error),
        }
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        problem(&body)
            .map_or_else(|| Error::foreign(&self.base, format!("HTTP status {status}")), Error::from)
    }
}

/// Parses `application/problem+json`.
pub(super) fn problem(body: &[u8]) -> Option<Failure> {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
        detail: String,
        retry_after_ms: Option<u64>,
    }
    let Problem { code, detail, retry_after_ms } = serde_json::from_slice(body).ok()?;
    Some(error::failure(&code, detail, retry_after_ms))
}

/// Parses the base address for paths, which must end with a slash.
fn base(url: &str) -> Result<Url, Error> {
    let unusable = |why: &str| {
        Error::Unusable(format!("{url:?} is no address of a server ({why}); write it as http://HOST:PORT"))
    };
    let mut base: Url = url.parse().map_err(|_| unusable("it is not a URL"))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(unusable("it must begin with http:// or https://"));
    }
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    base.set_query(None);
    base.set_fragment(None);
    Ok(base)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_have_a_path_and_must_be_of_the_web() {
        for (url, address) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/rooms"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1/rooms"),
            ("https://example.com/rooms", "https://example.com/rooms/v1/rooms"),
        ] {
            let client = Client::new(url, None).unwrap();
            assert_eq!(client.address("v1/rooms").unwrap().as_str(), address);
        }
        for url in ["", "127.0.0.1:8080", "localhost", "localhost:8080", "ftp://localhost", "http://"] {
            let error = Client::new(url, None).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn problems_are_read_and_other_pages_are_not() {
        let body = br#"{"type":"about:blank","title":"x","status":429,"detail":"slow","code":"rate_limited","retry_after_ms":7}"#;
        let failure = problem(body).unwrap();
        assert_eq!((failure.to_string(), failure.retry_after_ms), ("rate_limited: slow".into(), Some(7)));
        assert_eq!(problem(b"<html>Bad gateway"), None);
    }
}
