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
use crate::hub::outbox::Outbox;
use crate::net::admission::Place;
use crate::net::stream::Socket;
use crate::node::Node;
use crate::protocol::decode::{Frames, Incoming, Undecodable};
use crate::protocol::frame::Frame;
use crate::protocol::{CloseCode, Encoding, ErrorCode, Failure, encode, wire};
use crate::session::Session;
use crate::session::registry::{CUT_AFTER, Connection, Entered, Registry};
use crate::telemetry::{Transport, logs};

/// Time to answer requests in progress before a client is notified of a restart. Longer than a publish waits
/// for Redis.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Serves one client until its connection and its session have ended. Not an `async fn`, which would keep its
/// arguments in memory, next to the values made from them, for the life of the connection.
pub(crate) fn serve(
    node: Arc<Node>,
    socket: Socket,
    place: Arc<Place>,
    early: Bytes,
    encoding: Encoding,
    token: Option<String>,
) -> impl Future<Output = ()> {
    let (reader, writer) = socket::split(socket, early, node.metrics.clone());
    let limits = &node.config.limits;
    // One more than the limit of publishes, so that the frame being handled can be answered too.
    let outbox = Arc::new(Outbox::to(writer, limits.outbox, limits.publishes_in_flight + 1));
    let entered = Registry::enter(&node.registry, Transport::WebSocket, encoding, outbox.clone(), None);
    let Some(connection) = entered else {
        node.metrics.closed(CloseCode::Overloaded);
        outbox.notice(encode::frame(encoding, &Frame::goodbye(CloseCode::Overloaded, Some(5_000))));
        outbox.notice(wire::close(CloseCode::Overloaded.number()));
        outbox.close();
        return Either::Left(async move { close(&outbox, reader).await }.boxed());
    };
    let session = Session::new(node.clone(), Arc::clone(&connection), encoding, token);
    let mut listener = Listener {
        node,
        connection,
        place,
        encoding,
        reader,
        backlog: Backlog::default(),
        is_known: false,
        work: Work::Idle(session),
    };
    Either::Right(async move {
        listener.listen().await;
        let Listener { connection, reader, work, .. } = listener;
        Box::pin(async move { end(&connection, reader, work).await }).await;
    })
}

/// Sends the goodbye, closes the socket, and ends the session.
async fn end(connection: &Connection, reader: Reader, work: Work) {
    let ended = async {
        let session = match work {
            Work::Idle(session) => session,
            Work::Busy(handled) => handled.await,
            Work::Moved => return,
        };
        session.end().await;
    };
    let mut ended = std::pin::pin!(ended.instrument(logs::session(connection.id)));
    let restarts = connection.farewell() == Some(CloseCode::Restarting);
    // A restart leaves time to answer requests in progress.
    let has_ended = restarts && timeout(ANSWER_WITHIN, &mut ended).await.is_ok();
    connection.say_goodbye();
    let closed = close(&connection.outbox, reader);
    if has_ended {
        closed.await;
    } else {
        tokio::join!(closed, ended);
    }
}

/// Closes a socket once its queue is written, or when the client has not read it in time.
async fn close(outbox: &Outbox, reader: Reader) {
    let closed = async {
        outbox.written().await;
        reader.finish().await;
    };
    if timeout(CUT_AFTER, closed).await.is_err() {
        outbox.abandon();
    }
}

enum Work {
    Idle(Session),
    /// It was handling a frame when the connection was ended.
    Busy(BoxFuture<'static, Session>),
    /// It is changing from one state to the other.
    Moved,
}

struct Listener {
    node: Arc<Node>,
    connection: Entered,
    place: Arc<Place>,
    encoding: Encoding,
    reader: Reader,
    /// Messages that arrived while an earlier frame was handled.
    backlog: Backlog,
    /// Set once the client has authenticated.
    is_known: bool,
    work: Work,
}

impl Listener {
    /// Reads and handles messages until the client closes or violates the protocol, or the connection is
    /// ended.
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
                    self.connection.heard();
                    continue;
                }
                (Received::Close(code), _) => {
                    let close = code.map_or_else(wire::close_without_code, wire::close);
                    self.connection.outbox.notice(close);
                    return self.node.metrics.closed(CloseCode::Normal);
                }
                (Received::Gone, _) => {
                    let overrun = self.connection.outbox.is_overrun();
                    let code = if overrun { CloseCode::Overloaded } else { CloseCode::Normal };
                    return self.node.metrics.closed(code);
                }
                (Received::Bad(code), _) => return self.connection.close(code, None, &self.node.metrics),
                (Received::Text(_) | Received::Binary(_), _) => {
                    return self.undecodable("text is for JSON, binary for MessagePack");
                }
            };
            self.connection.heard();
            self.node.metrics.received_bytes.increment(payload.len() as u64);
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
        loop {
            if self.connection.ending.is_cancelled() {
                return Ok(None);
            }
            if !self.is_known && self.connection.claims().is_some() {
                self.is_known = true;
                self.place.known();
                self.reader.allow(self.node.config.limits.max_payload());
            }
            let Some(frame) = (if self.is_known { frames.next() } else { frames.greeting() }) else { break };
            let Work::Idle(session) = &mut self.work else { return Ok(None) };
            if let Some(frame) = session.try_handle(frame?) {
                return Ok(Some(frame));
            }
        }
        if !self.is_known {
            self.reader.allow_another();
        }
        Ok(None)
    }

    /// Handles a frame that has to wait, as soon as there is room for its answer. A client that does not read
    /// its answers has to wait.
    async fn handle(&mut self, frame: Incoming) {
        let outbox = self.connection.outbox.clone();
        let Some(Some(permit)) = self.read_while(outbox.has_room()).await else { return };
        let Work::Idle(mut session) = std::mem::replace(&mut self.work, Work::Moved) else { return };
        let handled = async move {
            session.handle(frame, permit).await;
            session
        };
        let mut handled = handled.instrument(logs::session(self.connection.id)).boxed();
        self.work = match self.read_while(&mut handled).await {
            Some(session) => Work::Idle(session),
            None => Work::Busy(handled),
        };
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
                Received::Pong => self.connection.heard(),
                later => self.backlog.push(later),
            }
        }
    }

    fn pong(&self, payload: &[u8]) {
        self.connection.outbox.pong(wire::pong(payload));
        self.connection.heard();
    }

    /// Ends the connection because it has been unauthenticated for too long while others wait.
    fn make_way(&self) {
        self.connection.close(CloseCode::Overloaded, None, &self.node.metrics);
    }

    fn undecodable(&self, message: &str) {
        let failure = Failure::new(ErrorCode::BadFrame, message);
        self.connection.outbox.notice(encode::frame(self.encoding, &Frame::error(None, &failure)));
        self.connection.close(CloseCode::Undecodable, None, &self.node.metrics);
    }
}
