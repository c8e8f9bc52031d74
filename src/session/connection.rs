//! The life of a WebSocket after its upgrade. One task reads what the client sends, lets the session handle
//! it, and ends the connection.
//!
//! It continues to read while a frame is handled, so pings are answered whatever a request waits for, and the
//! connection can end at any moment. A request in progress then completes behind the closed socket, so that
//! nothing it acquired leaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, FutureExt, ready};
use tokio::time::timeout;
use tracing::Instrument;

use super::backlog::Backlog;
use super::inbox::Received;
use super::socket::{self, Reader};
use super::{Session, Shared, Unauthenticated};
use crate::connections::{CUT_AFTER, Connection, ConnectionGuard, Registry};
use crate::hub::send_queue::SendQueue;
use crate::net::admission::Place;
use crate::net::stream::Socket;
use crate::protocol::decode::{Frames, Incoming, Undecodable};
use crate::protocol::frame::Frame;
use crate::protocol::{CloseCode, Encoding, ErrorCode, Failure, encode, wire};
use crate::telemetry::{Transport, logs};

/// Time to answer requests in progress before a client is notified of a restart. Longer than a publish waits
/// for Redis.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Serves one client until its connection and its session have ended. Not an `async fn`, which would keep its
/// arguments in memory, next to the values made from them, for the life of the connection.
pub(crate) fn serve(
    shared: Arc<Shared>,
    socket: Socket,
    place: Arc<Place>,
    early: Bytes,
    encoding: Encoding,
    token: Option<String>,
) -> impl Future<Output = ()> {
    let (reader, writer) = socket::split(socket, early, shared.metrics.clone());
    let limits = &shared.limits;
    // One more than the limit of publishes, so that the frame being handled can be answered too.
    let queue = Arc::new(SendQueue::to(writer, limits.outbox, limits.publishes_in_flight + 1));
    let entered = Registry::enter(&shared.registry, Transport::WebSocket, encoding, queue.clone(), None);
    let Some(connection) = entered else {
        shared.metrics.closed(CloseCode::Overloaded);
        queue.notice(encode::frame(encoding, &Frame::goodbye(CloseCode::Overloaded, Some(5_000))));
        queue.notice(wire::close(CloseCode::Overloaded.number()));
        queue.close();
        return Either::Left(async move { close(&queue, reader).await }.boxed());
    };
    let handshake = Unauthenticated::new(shared.clone(), Arc::clone(&connection), encoding, token);
    let mut listener = Listener {
        shared,
        connection,
        place,
        encoding,
        reader,
        backlog: Backlog::default(),
        is_known: false,
        client: Client::Unauthenticated(handshake),
    };
    Either::Right(async move {
        listener.listen().await;
        let Listener { connection, reader, client, .. } = listener;
        Box::pin(async move { end(&connection, reader, client).await }).await;
    })
}

async fn end(connection: &Connection, reader: Reader, client: Client) {
    let ended = async {
        let session = match client {
            Client::Session(session) => Some(session),
            Client::Busy(handled) => handled.await,
            Client::Unauthenticated(_) | Client::Over => None,
        };
        if let Some(session) = session {
            session.end().await;
        }
    };
    let mut ended = std::pin::pin!(ended.instrument(logs::session(connection.id)));
    let restarts = connection.farewell() == Some(CloseCode::Restarting);
    // A restart leaves time to answer requests in progress.
    let has_ended = restarts && timeout(ANSWER_WITHIN, &mut ended).await.is_ok();
    connection.say_goodbye();
    let closed = close(&connection.queue, reader);
    if has_ended {
        closed.await;
    } else {
        tokio::join!(closed, ended);
    }
}

/// Closes a socket once its queue is written, or when the client has not read it in time.
async fn close(queue: &SendQueue, reader: Reader) {
    let closed = async {
        queue.written().await;
        reader.finish().await;
    };
    if timeout(CUT_AFTER, closed).await.is_err() {
        queue.abandon();
    }
}

enum Client {
    Unauthenticated(Unauthenticated),
    Session(Session),
    /// A frame is being handled. The session is there afterwards, unless the handshake failed.
    Busy(BoxFuture<'static, Option<Session>>),
    /// The handshake failed, or the client is moving from one state to another.
    Over,
}

struct Listener {
    shared: Arc<Shared>,
    connection: ConnectionGuard,
    place: Arc<Place>,
    encoding: Encoding,
    reader: Reader,
    backlog: Backlog,
    is_known: bool,
    client: Client,
}

impl Listener {
    async fn listen(&mut self) {
        loop {
            let received = match self.backlog.pop() {
                Some(received) => received,
                None => tokio::select! {
                    () = self.connection.ending.cancelled() => return,
                    () = self.place.was_cut(), if !self.is_known => return self.make_way(),
                    received = self.reader.next() => received,
                },
            };
            let payload = match (received, self.encoding) {
                (Received::Text(payload), Encoding::Json) => payload,
                (Received::Binary(payload), Encoding::MessagePack) => payload,
                (Received::Ping(payload), _) => {
                    self.pong(&payload);
                    continue;
                }
                (Received::Pong, _) => {
                    self.connection.saw_input();
                    continue;
                }
                (Received::Close(code), _) => {
                    let close = code.map_or_else(wire::close_without_code, wire::close);
                    self.connection.queue.notice(close);
                    return self.shared.metrics.closed(CloseCode::Normal);
                }
                (Received::Gone, _) => {
                    let overrun = self.connection.queue.is_overrun();
                    let code = if overrun { CloseCode::Overloaded } else { CloseCode::Normal };
                    return self.shared.metrics.closed(code);
                }
                (Received::Bad(code), _) => return self.connection.close(code, None, &self.shared.metrics),
                (Received::Text(_) | Received::Binary(_), _) => {
                    return self.undecodable("text is for JSON, binary for MessagePack");
                }
            };
            self.connection.saw_input();
            self.shared.metrics.received_bytes.increment(payload.len() as u64);
            if self.message(payload).await == Err(Undecodable) {
                return self.undecodable("the payload cannot be decoded");
            }
            if self.connection.ending.is_cancelled() {
                return;
            }
        }
    }

    /// Handles the frames of a message, each before the next is decoded. From the first frame that has to
    /// wait, the rest is in a box, so that the future that mostly waits for messages stays small.
    fn message(&mut self, payload: Bytes) -> impl Future<Output = Result<(), Undecodable>> {
        match self.begin(payload) {
            Ok(Some((frame, frames))) => Either::Left(Box::pin(self.rest(frame, frames))),
            Ok(None) => Either::Right(ready(Ok(()))),
            Err(Undecodable) => Either::Right(ready(Err(Undecodable))),
        }
    }

    fn begin(&mut self, payload: Bytes) -> Result<Option<(Incoming, Frames)>, Undecodable> {
        let mut frames = Frames::of(self.encoding, payload)?;
        Ok(self.handle_at_once(&mut frames)?.map(|frame| (frame, frames)))
    }

    async fn rest(&mut self, frame: Incoming, mut frames: Frames) -> Result<(), Undecodable> {
        let mut next = Some(frame);
        while let Some(frame) = next {
            self.handle(frame).await;
            next = self.handle_at_once(&mut frames)?;
        }
        Ok(())
    }

    /// Handles frames up to the first that has to wait, and returns that one.
    fn handle_at_once(&mut self, frames: &mut Frames) -> Result<Option<Incoming>, Undecodable> {
        while !self.connection.ending.is_cancelled() {
            match &mut self.client {
                Client::Session(session) => {
                    let Some(frame) = frames.next() else { break };
                    if let Some(frame) = session.try_handle(frame?) {
                        return Ok(Some(frame));
                    }
                }
                Client::Unauthenticated(_) => match frames.greeting() {
                    Some(frame) => return frame.map(Some),
                    None => {
                        self.reader.allow_another();
                        break;
                    }
                },
                Client::Busy(_) | Client::Over => break,
            }
        }
        Ok(None)
    }

    /// Handles a frame that has to wait, as soon as there is room for its answer. A client that does not read
    /// its answers has to wait.
    async fn handle(&mut self, frame: Incoming) {
        let queue = self.connection.queue.clone();
        let Some(Some(permit)) = self.read_while(queue.has_room()).await else { return };
        let span = logs::session(self.connection.id);
        let mut handled = match std::mem::replace(&mut self.client, Client::Over) {
            Client::Unauthenticated(handshake) => handshake.connect(frame, permit).instrument(span).boxed(),
            Client::Session(mut session) => {
                let handled = async move {
                    session.handle(frame, permit).await;
                    Some(session)
                };
                handled.instrument(span).boxed()
            }
            Client::Busy(_) | Client::Over => return,
        };
        self.client = match self.read_while(&mut handled).await {
            Some(Some(session)) => Client::Session(session),
            Some(None) => Client::Over,
            None => Client::Busy(handled),
        };
        if !self.is_known && matches!(self.client, Client::Session(_)) {
            self.is_known = true;
            self.place.known();
            self.reader.allow(self.shared.limits.max_payload());
        }
    }

    /// Awaits a future, and continues to read meanwhile. Returns `None` if the connection is ended first.
    async fn read_while<T>(&mut self, awaited: impl Future<Output = T>) -> Option<T> {
        let mut awaited = std::pin::pin!(awaited);
        loop {
            let received = tokio::select! {
                biased;
                outcome = &mut awaited => return Some(outcome),
                () = self.connection.ending.cancelled() => return None,
                () = self.place.was_cut(), if !self.is_known => {
                    self.make_way();
                    return None;
                }
                // Nothing more is accepted from a client before it has authenticated.
                received = self.reader.next(), if self.is_known && self.backlog.has_room() => received,
            };
            match received {
                Received::Ping(payload) => self.pong(&payload),
                Received::Pong => self.connection.saw_input(),
                later => self.backlog.push(later),
            }
        }
    }

    fn pong(&self, payload: &[u8]) {
        self.connection.queue.pong(wire::pong(payload));
        self.connection.saw_input();
    }

    /// Ends the connection because it has been unauthenticated for too long while others wait.
    fn make_way(&self) {
        self.connection.close(CloseCode::Overloaded, None, &self.shared.metrics);
    }

    fn undecodable(&self, message: &str) {
        let failure = Failure::new(ErrorCode::BadFrame, message);
        self.connection.queue.notice(encode::frame(self.encoding, &Frame::error(None, failure)));
        self.connection.close(CloseCode::Undecodable, None, &self.shared.metrics);
    }
}
