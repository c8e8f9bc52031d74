//! A WebSocket to the server: connected and authenticated, then carrying frames in both directions.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message as Payload;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use roomlog_protocol::{CloseCode, Encoding, ErrorCode, Failure};

use super::client::{ANSWER_WITHIN, Client, problem};
use super::error::Error;
use super::frames::{self, Frame, Goodbye};

/// Time without any sign of life after which a ping is sent, unless the server names another one.
const PING: Duration = Duration::from_secs(25);

/// Time limit for a sign of life after a ping.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Time to close in an orderly way, if the server does not cooperate.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Maximum size of a WebSocket message in bytes: far more than a server sends, whatever its limits.
const LARGEST: usize = 256 << 20;

/// Maximum size of a sent WebSocket message, in messages of the maximum size.
const MESSAGES_PER_FRAME: usize = 16;

/// `ref` of `connect`.
pub(super) const CONNECT: u64 = 1;

/// The end of a connection.
#[derive(Debug)]
pub(super) struct Lost {
    /// The error to report.
    pub error: Error,
    /// Time that the server asks to wait before connecting again.
    pub retry_after: Option<Duration>,
    /// The remedy.
    pub remedy: Remedy,
}

/// The remedy for the loss of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Connecting again.
    Retry,
    /// Connecting again with a new token.
    NewToken,
    /// The token does not verify. If it did before, the server's keys have changed, and a new token may help.
    OtherToken,
    /// Nothing.
    None,
}

/// A WebSocket over any transport.
pub(super) trait Wire:
    Stream<Item = Result<Payload, SocketError>> + Sink<Payload, Error = SocketError> + Send + Unpin
{
}

impl<W> Wire for W where
    W: Stream<Item = Result<Payload, SocketError>> + Sink<Payload, Error = SocketError> + Send + Unpin
{
}

/// An authenticated connection.
pub(super) struct Socket {
    wire: Box<dyn Wire>,
    outgoing: VecDeque<Payload>,
    is_flushed: bool,
    goodbye: Option<Goodbye>,
    heard: Instant,
    pinged: Option<Instant>,
    ping: Duration,
    url: String,
    /// Maximum size of a frame that the server accepts, in bytes.
    pub largest: usize,
}

impl Socket {
    /// Connects and authenticates.
    pub async fn open(client: &Client) -> Result<Self, Lost> {
        let token = client.tokens.get().await.map_err(Lost::retry)?;
        let opened = timeout(ANSWER_WITHIN, Self::handshake(client, token)).await;
        opened.unwrap_or_else(|_| Err(Lost::retry(Error::silent(&client.base))))
    }

    async fn handshake(client: &Client, token: Option<String>) -> Result<Self, Lost> {
        let mut url = client.address("v1/ws").map_err(Lost::never)?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        let _ = url.set_scheme(scheme); // Cannot fail: both are of the web.
        let unusable = |error: SocketError| Lost::never(Error::Unusable(format!("{url}: {error}")));
        let mut request = url.as_str().into_client_request().map_err(unusable)?;
        let subprotocol = HeaderValue::from_static(Encoding::Json.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        let most = Some(LARGEST);
        let config = WebSocketConfig::default().max_message_size(most).max_frame_size(most);
        let connected = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
        let (wire, _) = connected.map_err(|error| refused(client, error))?;
        Self::introduce(Box::new(wire), token.as_deref(), client.base.to_string()).await
    }

    /// Authenticates a connection with a server.
    pub async fn introduce(wire: Box<dyn Wire>, token: Option<&str>, url: String) -> Result<Self, Lost> {
        let mut socket = Self {
            wire,
            outgoing: VecDeque::new(),
            is_flushed: true,
            goodbye: None,
            heard: Instant::now(),
            pinged: None,
            ping: PING,
            url,
            largest: usize::MAX,
        };
        socket.queue(frames::connect(CONNECT, token));
        loop {
            for frame in socket.next().await? {
                match frame {
                    Frame::Ok(answer) if answer.reference == Some(CONNECT) => {
                        socket.ping = answer.ping.map_or(PING, Duration::from_secs);
                        let limit = answer.max_message.unwrap_or(usize::MAX);
                        socket.largest = limit.saturating_mul(MESSAGES_PER_FRAME);
                        return Ok(socket);
                    }
                    Frame::Error(refusal) => return Err(Lost::unwelcome(refusal.into())),
                    frame => socket.note(&frame),
                }
            }
        }
    }

    /// Queues a frame. It is sent while [`next`](Self::next) is awaited.
    pub fn queue(&mut self, frame: String) {
        self.outgoing.push_back(Payload::text(frame));
    }

    /// Returns the frames of the next WebSocket message, and sends what is queued meanwhile. Cancel safe.
    pub async fn next(&mut self) -> Result<VecDeque<Frame>, Lost> {
        loop {
            let deadline = match self.pinged {
                Some(pinged) => pinged + PONG_WITHIN,
                None => self.heard + self.ping,
            };
            let Ok(received) = timeout_at(deadline, poll_fn(|cx| self.poll(cx))).await else {
                if self.pinged.is_some() {
                    return Err(Lost::retry(Error::silent(&self.url)));
                }
                self.pinged = Some(Instant::now());
                self.outgoing.push_back(Payload::Ping(Default::default()));
                continue;
            };
            self.heard = Instant::now();
            self.pinged = None;
            match received {
                Some(Ok(Payload::Text(text))) => {
                    let frames = frames::parse(text.as_str());
                    let frames =
                        frames.map_err(|error| Lost::retry(Error::foreign(&self.url, error.to_string())))?;
                    frames.iter().for_each(|frame| self.note(frame));
                    return Ok(frames);
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

    /// Sends what is queued, and closes the connection in an orderly way, as far as the server cooperates.
    pub async fn close(mut self) {
        let closing = async {
            while let Some(payload) = self.outgoing.pop_front() {
                self.wire.feed(payload).await?;
            }
            self.wire.send(Payload::Close(None)).await?;
            while let Some(Ok(_)) = self.wire.next().await {}
            Ok::<_, SocketError>(())
        };
        let _ = timeout(CLOSE_WITHIN, closing).await; // A connection that is gone is closed too.
    }

    /// Writes what the socket accepts, and reads. Both at once: a server that waits until its answers are
    /// read does not read either.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Payload, SocketError>>> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            // The reason, such as a goodbye, may have arrived before.
            return match self.wire.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(payload))) => Poll::Ready(Some(Ok(payload))),
                _ => Poll::Ready(Some(Err(error))),
            };
        }
        self.wire.poll_next_unpin(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        while !self.outgoing.is_empty() {
            ready!(self.wire.poll_ready_unpin(cx))?;
            if let Some(payload) = self.outgoing.pop_front() {
                self.is_flushed = false;
                self.wire.start_send_unpin(payload)?;
            }
        }
        if !self.is_flushed {
            ready!(self.wire.poll_flush_unpin(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn note(&mut self, frame: &Frame) {
        if let Frame::Goodbye(goodbye) = frame {
            self.goodbye = Some(goodbye.clone());
        }
    }

    fn closed(&mut self, number: u16) -> Lost {
        let (code, message, retry_after) = match self.goodbye.take() {
            Some(Goodbye { code, message, retry_after_ms }) => {
                (code, message, retry_after_ms.map(Duration::from_millis))
            }
            None => (number.to_string(), "the connection was closed".to_owned(), None),
        };
        let remedy = remedy(number);
        let error = match remedy {
            Remedy::Retry => {
                Error::Unreachable { url: self.url.trim_end_matches('/').to_owned(), cause: message }
            }
            _ => Error::Ended { code, message },
        };
        Lost { error, retry_after, remedy }
    }

    /// Returns the reason for a broken connection: the preceding goodbye, if there was one.
    fn lost(&mut self, error: &SocketError) -> Lost {
        match &self.goodbye {
            Some(goodbye) => {
                let close = CloseCode::ALL.into_iter().find(|close| close.as_str() == goodbye.code);
                self.closed(close.map_or(1006, CloseCode::number))
            }
            None => Lost::retry(Error::unreachable(&self.url, error)),
        }
    }
}

impl Lost {
    /// A loss after which connecting again helps.
    pub fn retry(error: Error) -> Self {
        let retry_after = error.retry_after_ms().map(Duration::from_millis);
        Self { error, retry_after, remedy: Remedy::Retry }
    }

    /// A loss after which nothing helps.
    pub fn never(error: Error) -> Self {
        Self { error, retry_after: None, remedy: Remedy::None }
    }

    /// The server refused `connect`.
    fn unwelcome(failure: Failure) -> Self {
        let remedy = match failure.code {
            ErrorCode::TokenExpired => Remedy::NewToken,
            ErrorCode::Unauthenticated => Remedy::OtherToken,
            code if code.is_temporary() => Remedy::Retry,
            _ => Remedy::None,
        };
        Self { remedy, ..Self::retry(failure.into()) }
    }
}

/// Returns what helps after a close with this number. Unknown numbers from 4500 on are final too.
fn remedy(number: u16) -> Remedy {
    match CloseCode::ALL.into_iter().find(|close| close.number() == number) {
        Some(CloseCode::TokenExpired) => Remedy::NewToken,
        Some(CloseCode::Unauthenticated) => Remedy::OtherToken,
        Some(close) if close.is_final() => Remedy::None,
        None if (4500..5000).contains(&number) => Remedy::None,
        _ => Remedy::Retry,
    }
}

/// Returns the loss for a failed upgrade. A proxy may answer for a server that restarts.
fn refused(client: &Client, error: SocketError) -> Lost {
    Lost::retry(match error {
        SocketError::Http(response) => {
            let refusal = response.body().as_deref().and_then(problem).map(Error::from);
            refusal
                .unwrap_or_else(|| Error::foreign(&client.base, format!("HTTP status {}", response.status())))
        }
        SocketError::Protocol(error) => Error::foreign(&client.base, error.to_string()),
        error => Error::unreachable(&client.base, &error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_say_what_to_do() {
        for close in CloseCode::ALL {
            let expected = match close {
                CloseCode::TokenExpired => Remedy::NewToken,
                CloseCode::Unauthenticated => Remedy::OtherToken,
                CloseCode::TokenRevoked | CloseCode::LimitsIgnored => Remedy::None,
                _ => Remedy::Retry,
            };
            assert_eq!(remedy(close.number()), expected, "{close:?}");
        }
        assert_eq!([4499, 4500, 4999].map(remedy), [Remedy::Retry, Remedy::None, Remedy::None]);
        assert_eq!([1005, 1006, 5000].map(remedy), [Remedy::Retry; 3]);
    }

    #[test]
    fn a_refused_connect_says_what_to_do() {
        let remedy = |code| Lost::unwelcome(Failure::new(code, "no")).remedy;
        assert_eq!(remedy(ErrorCode::TokenExpired), Remedy::NewToken);
        assert_eq!(remedy(ErrorCode::Unauthenticated), Remedy::OtherToken);
        assert_eq!(remedy(ErrorCode::Unavailable), Remedy::Retry);
        assert_eq!(remedy(ErrorCode::TokenRevoked), Remedy::None);
        let lost = Lost::unwelcome(Failure::unavailable());
        assert_eq!(lost.retry_after, Some(Duration::from_secs(1)));
    }
}
