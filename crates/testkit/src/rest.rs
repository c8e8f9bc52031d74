//! A client of the HTTP interface.

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use super::{Events, Server, from_msgpack, soon, to_msgpack};

const MSGPACK: &str = "application/msgpack";

/// A client for one server, with one token.
#[derive(Debug, Clone)]
pub struct Rest {
    client: Client,
    url: String,
    token: Option<String>,
}

/// A response.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// `Content-Type` of the body.
    pub content_type: String,
    /// The body. Text that is neither JSON nor MessagePack is a string, and no body is null.
    pub body: Value,
}

impl Answer {
    /// Returns the body of a response that must have this status.
    pub fn with(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }

    /// Checks that this is a problem with this status and `code`.
    pub fn problem(self, status: u16, code: &str) {
        assert_eq!((self.status, &self.body["code"]), (status, &code.into()), "{self:?}");
        assert!(self.content_type.starts_with("application/problem+json"), "{self:?}");
        assert!(self.body["title"].is_string() || self.body["detail"].is_string(), "{self:?}");
    }
}

impl Rest {
    pub fn new(server: &Server, token: &str) -> Self {
        Self::anonymous(server).bearing(token)
    }

    /// Creates a client without a token.
    pub fn anonymous(server: &Server) -> Self {
        Self::at(&server.url())
    }

    /// Creates a client without a token for this URL.
    pub fn at(url: &str) -> Self {
        install_tls_provider();
        let client = Client::builder().no_proxy().build().unwrap();
        Self { client, url: url.to_owned(), token: None }
    }

    /// Creates a client for this URL and token that trusts this authority.
    pub fn trusting(url: &str, authority: reqwest::Certificate, token: &str) -> Self {
        install_tls_provider();
        let client = Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
        Self { client, url: url.to_owned(), token: Some(token.to_owned()) }
    }

    /// Uses this token.
    pub fn bearing(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Begins a request.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    /// Returns the messages of a room after an id.
    pub async fn page(&self, room: &str, after: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/rooms/{room}/messages?after={after}")).await.with(200);
        page["messages"].as_array().unwrap().clone()
    }

    /// Sends a `GET` that asks for MessagePack.
    pub async fn get_msgpack(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path).header(ACCEPT, MSGPACK)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Sends a `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a `POST` with a JSON body and an idempotency key.
    pub async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// Sends a `POST` with a MessagePack body, asking for MessagePack.
    pub async fn post_msgpack(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, MSGPACK).header(ACCEPT, MSGPACK);
        answer(request.body(to_msgpack(body))).await
    }

    /// Returns the number of this node's connections of a transport (`websocket`, `sse`, `poll`).
    pub async fn connections(&self, transport: &str) -> usize {
        let metrics = self.get("/metrics").await.with(200);
        let line = metrics
            .as_str()
            .unwrap()
            .lines()
            .find(|line| line.starts_with("roomlog_connections{") && line.contains(transport));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Returns the value of a metric, by its name and labels as `/metrics` writes them.
    pub async fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").await.with(200);
        let value =
            metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }

    /// Opens a stream of Server-Sent Events.
    ///
    /// # Errors
    /// The response, if it is not a stream.
    pub async fn events(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Events, Answer> {
        let mut request = self.request(Method::GET, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = soon("an answer", request.send()).await.unwrap();
        if content_type(&response).starts_with("text/event-stream") {
            Ok(Events::new(response))
        } else {
            Err(read(response).await)
        }
    }
}

/// Makes the process's TLS connections use ring.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // The first one stays.
}

/// Sends a request and reads the response.
pub async fn answer(request: RequestBuilder) -> Answer {
    read(soon("an answer", request.send()).await.unwrap()).await
}

fn content_type(response: &Response) -> String {
    response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()).to_owned()
}

async fn read(response: Response) -> Answer {
    let (status, content_type) = (response.status().as_u16(), content_type(&response));
    let bytes = soon("the body", response.bytes()).await.unwrap();
    let body = match content_type.as_str() {
        _ if bytes.is_empty() => Value::Null,
        MSGPACK => from_msgpack(&bytes),
        json if json.contains("json") => serde_json::from_slice(&bytes).unwrap(),
        _ => String::from_utf8_lossy(&bytes).into(),
    };
    Answer { status, content_type, body }
}
