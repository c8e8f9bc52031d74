//! A WebSocket to the server: connected and authenticated, then carrying frames in both directions.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Payload;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::error::{Error, failure};
use super::types::Message;
use super::{ANSWER_WITHIN, Client, problem};
use roomlog_protocol::frame::Gap;
use roomlog_protocol::{Encoding, MessageId};

/// Grace time beyond the interval of the server's pings. A connection that is silent for longer is dead.
const GRACE: Duration = Duration::from_secs(15);

/// Maximum size of a WebSocket message in bytes: far more than a server sends, whatever its limits.
const LARGEST: usize = 256 << 20;

/// Close codes after which connecting again is useless.
const FINAL: std::ops::RangeInclusive<u16> = 4500..=4999;

/// A frame of the server. Frames that a tail does not need are `Other`.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Frame {
    Ok(Answer),
    Error {
        #[serde(rename = "ref")]
        reference: Option<u64>,
        code: String,
        message: String,
        retry_after_ms: Option<u64>,
    },
    Message(Message),
    Live {
        id: MessageId,
    },
    Gap(Gap),
    Unsubscribed {
        code: String,
        message: String,
    },
    Goodbye(Goodbye),
    #[serde(other)]
    Other,
}

/// The fields of an `ok` that a tail needs.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(rename = "ref")]
    pub reference: Option<u64>,
    pub ping: Option<u64>,
    pub position: Option<MessageId>,
    pub head: Option<MessageId>,
}

/// The content of a `goodbye`: the reason for the coming close.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Goodbye {
    code: String,
    message: String,
    retry_after_ms: Option<u64>,
}

/// The end of a connection.
#[derive(Debug)]
pub(super) struct Lost {
    /// The error to report.
    pub error: Error,
    /// Time that the server asks to wait before connecting again.
    pub retry_after: Option<Duration>,
    /// Set if connecting again is useless.
    pub is_final: bool,
}

/// An authenticated connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    frames: VecDeque<Frame>,
    goodbye: Option<Goodbye>,
    patience: Duration,
    url: String,
}

impl Socket {
    /// Connects and authenticates.
    pub async fn open(client: &Client) -> Result<Self, Lost> {
        let opened = timeout(ANSWER_WITHIN, Self::handshake(client)).await;
        opened.unwrap_or_else(|_| Err(Error::silent(&client.base).into()))
    }

    async fn handshake(client: &Client) -> Result<Self, Lost> {
        let mut url = client.address("v1/ws")?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        let _both_are_of_the_web = url.set_scheme(scheme);
        let unusable = |error: SocketError| Error::Unusable(format!("{url}: {error}"));
        let mut request = url.as_str().into_client_request().map_err(unusable)?;
        let subprotocol = HeaderValue::from_static(Encoding::Json.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        let most = Some(LARGEST);
        let config = WebSocketConfig::default().max_message_size(most).max_frame_size(most);
        let connected = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
        let (stream, _) = connected.map_err(|error| refused(client, error))?;
        let url = client.base.to_string();
        let mut socket =
            Self { stream, frames: VecDeque::new(), goodbye: None, patience: ANSWER_WITHIN, url };
        let answer = socket.ask(1, json!({ "op": "connect", "ref": 1, "token": client.token })).await?;
        socket.patience = Duration::from_secs(answer.ping.unwrap_or_default()) + GRACE;
        Ok(socket)
    }

    /// Sends a request and waits for its answer. Frames that arrive before it are dropped.
    pub async fn ask(&mut self, reference: u64, frame: Value) -> Result<Answer, Lost> {
        self.send(frame).await?;
        loop {
            match self.next().await? {
                Frame::Ok(answer) if answer.reference == Some(reference) => return Ok(answer),
                Frame::Error { reference: Some(of), code, message, retry_after_ms } if of == reference => {
                    return Err(Error::from(failure(&code, message, retry_after_ms)).into());
                }
                _ => {}
            }
        }
    }

    pub async fn send(&mut self, frame: Value) -> Result<(), Lost> {
        match timeout(self.patience, self.stream.send(Payload::text(frame.to_string()))).await {
            Ok(sent) => sent.map_err(|error| self.lost(&error)),
            Err(_) => Err(Error::silent(&self.url).into()),
        }
    }

    /// Returns whether the next frame has arrived already.
    pub fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Returns the next frame. Cancel safe.
    pub async fn next(&mut self) -> Result<Frame, Lost> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                if let Frame::Goodbye(goodbye) = &frame {
                    self.goodbye = Some(goodbye.clone());
                }
                return Ok(frame);
            }
            let Ok(received) = timeout(self.patience, self.stream.next()).await else {
                return Err(Error::silent(&self.url).into());
            };
            match received {
                Some(Ok(Payload::Text(text))) => {
                    let frames = parse(text.as_str());
                    self.frames = frames.map_err(|error| Error::foreign(&self.url, error.to_string()))?;
                }
                Some(Ok(Payload::Close(frame))) => {
                    return Err(self.closed(frame.map_or(1005, |frame| frame.code.into())));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.lost(&error)),
                None => return Err(self.lost(&SocketError::ConnectionClosed)),
            }
        }
    }

    /// Closes the connection in an orderly way, as far as the server cooperates.
    pub async fn close(mut self) {
        let closing = async {
            let _gone_is_closed_too = self.stream.close(None).await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        let _time_is_up = timeout(Duration::from_secs(1), closing).await;
    }

    fn closed(&mut self, number: u16) -> Lost {
        let (code, message, retry_after) = match self.goodbye.take() {
            Some(Goodbye { code, message, retry_after_ms }) => {
                (code, message, retry_after_ms.map(Duration::from_millis))
            }
            None => (number.to_string(), "the connection was closed".to_owned(), None),
        };
        let is_final = FINAL.contains(&number);
        let error = if is_final {
            Error::Ended { code, message }
        } else {
            Error::Unreachable { url: self.url.trim_end_matches('/').to_owned(), cause: message }
        };
        Lost { error, retry_after, is_final }
    }

    /// Returns the reason for a broken connection: the preceding goodbye, if there was one.
    fn lost(&mut self, error: &SocketError) -> Lost {
        match &self.goodbye {
            Some(_) => self.closed(1006),
            None => Error::unreachable(&self.url, error).into(),
        }
    }
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        let retry_after = error.retry_after_ms().map(Duration::from_millis);
        Self { is_final: !error.is_temporary(), retry_after, error }
    }
}

/// Parses a WebSocket message: one frame, or an array of them.
fn parse(text: &str) -> Result<VecDeque<Frame>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        Ok(VecDeque::from([serde_json::from_str(text)?]))
    }
}

/// Returns the error for a failed upgrade.
fn refused(client: &Client, error: SocketError) -> Error {
    match error {
        SocketError::Http(response) => {
            let refusal = response.body().as_deref().and_then(problem).map(Error::from);
            refusal
                .unwrap_or_else(|| Error::foreign(&client.base, format!("HTTP status {}", response.status())))
        }
        SocketError::Protocol(error) => Error::foreign(&client.base, error.to_string()),
        error => Error::unreachable(&client.base, &error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_alone_or_many_to_an_array_and_new_ones_are_passed_over() {
        let message = r#"{"op":"message","room":"a","id":"5-1","key":"3b6c6e0e-7d6c-4f0f-8b5e-0a4f3c7f6a11","from":"ann","type":"message","data":[1.5,{"z":null,"a":2}],"new":0}"#;
        let gap = r#"{"op":"gap","room":"a","after":"5-1","next":"9-4","reason":"trimmed"}"#;
        let frames = parse(&format!("[{message}, {gap}, {{\"op\":\"dance\"}}]")).unwrap();
        let frames: Vec<Frame> = frames.into();
        let [Frame::Message(message), Frame::Gap(gap), Frame::Other] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert_eq!(message.data.to_string(), r#"[1.5,{"z":null,"a":2}]"#);
        assert_eq!(gap.next, MessageId::new(9, 4));
        let alone = parse(r#"{"op":"ok","ref":2,"room":"a","position":"5-1","head":"5-1"}"#).unwrap();
        assert!(matches!(&alone[0], Frame::Ok(Answer { reference: Some(2), head: Some(_), .. })));
        assert!(parse("hello").is_err());
    }
}
