//! `GET /v1/rooms/{room}/events`: a room as Server-Sent Events. The same subscription as over WebSocket, in
//! another form.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::connections::{ConnectionGuard, Registry};
use crate::http::extract::{Bearer, Query, Room};
use crate::http::problem::Problem;
use crate::hub::Receives;
use crate::hub::send_queue::SendQueue;
use crate::log::Lease;
use crate::net::admission::Place;
use crate::protocol::decode;
use crate::protocol::encode::Format;
use crate::protocol::{ErrorCode, Failure, UserId};
use crate::service::leases;
use crate::service::subscriptions::{Durable, Open, Spec};
use crate::session::Shared;
use crate::telemetry::{Metrics, Transport, logs};

/// Time of silence after which a comment shows that the stream is alive.
const COMMENT_AFTER: Duration = Duration::from_secs(15);

const COMMENT: Bytes = Bytes::from_static(b": \n\n");

/// The start of the stream, unless `Last-Event-ID` gives it.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct StartQuery {
    /// An id (everything after it), `0` (everything that is retained) or `$` (only new messages, the
    /// default).
    since: Option<String>,
    /// Start with this many of the newest messages, 0 to 1000.
    last: Option<u64>,
}

/// Options of the stream.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct LiveQuery {
    /// Includes signals.
    #[serde(default)]
    signals: bool,
    /// A UUID that the client chooses. Signals sent with the same UUID are not returned to it.
    session: Option<Uuid>,
    /// The name of the caller's durable subscription, with `holder`. The stream ends when another holder
    /// takes the subscription.
    durable: Option<String>,
    /// The holder from the response when the subscription was taken.
    holder: Option<String>,
}

impl LiveQuery {
    fn lease(&self, user: &UserId) -> Result<Option<Lease>, Failure> {
        match (&self.durable, &self.holder) {
            (None, None) => Ok(None),
            (Some(name), Some(holder)) => leases::presented(user, &name.parse()?, holder).map(Some),
            _ => Err(Failure::bad_request("give both `durable` and `holder`, or neither")),
        }
    }
}

/// Streams a room's messages.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/events", tag = "live",
    params(
        ("room" = String, Path, description = "The room's name"),
        StartQuery,
        LiveQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Resumes after this id; goes before `since` and `last`"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String,
         description = "`id:` the message's id, `event:` its type, `data:` the message as JSON. Without `id:`: `event: gap` where messages are lost, `event: signal`, `event: unsubscribed`"),
        Problem,
    )
)]
pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    Bearer(claims): Bearer,
    Room(room): Room,
    Query(query): Query<StartQuery>,
    Query(live): Query<LiveQuery>,
    Extension(place): Extension<Arc<Place>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let resumed = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    let start = match resumed {
        Some(id) => decode::start(Some(id), None)?,
        None => decode::start(query.since.as_deref(), query.last)?,
    };
    let durable = live.lease(&claims.user)?.map(Durable::Resume);
    if shared.draining.is_cancelled() {
        return Err(Failure::new(ErrorCode::Unavailable, "the server is shutting down").into());
    }
    let queue = Arc::new(SendQueue::taken(shared.limits.outbox, move || place.cut()));
    let connection = Registry::enter_request(&shared.registry, Transport::Events, queue.clone(), &claims)?;
    logs::opens(connection.id);
    shared.services.access.not_revoked(&claims)?;
    let session = connection.id;
    let receives = Receives { format: Format::EventStream, pushes: live.signals, sender: live.session };
    let spec = Spec { room, start, durable, session, queue: queue.clone(), receives };
    let pending = shared.services.subscriptions.open(&claims, spec, None).await?;
    // Shows immediately that the stream is open, also to proxies that wait for a first byte.
    queue.notice(COMMENT);
    let stream = Stream { subscription: pending.start(), connection, metrics: shared.metrics.clone() };
    let body = Body::from_stream(futures_util::stream::unfold(stream, |stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(bytes), stream))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        // Otherwise nginx would hold events back until its buffer is full.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

/// An open stream. Dropped when the client has disconnected.
struct Stream {
    subscription: Open,
    connection: ConnectionGuard,
    metrics: Arc<Metrics>,
}

impl Stream {
    /// Returns the next bytes to send, or `None` at the end.
    async fn next(&self) -> Option<Bytes> {
        let queue = &self.connection.queue;
        if self.subscription.has_ended() && !queue.is_waiting() {
            return None;
        }
        let parts = tokio::select! {
            () = self.connection.ending.cancelled() => return None,
            parts = queue.take(16) => parts,
            () = tokio::time::sleep(COMMENT_AFTER) => return Some(COMMENT),
        };
        if self.subscription.has_ended() {
            queue.close();
        }
        let mut bytes: Vec<Bytes> = parts
            .into_iter()
            .map(|part| {
                if let Some(message) = part.timed {
                    self.metrics.delivered_to_socket(message);
                }
                part.bytes
            })
            .collect();
        let bytes = if bytes.len() == 1 { bytes.remove(0) } else { bytes.concat().into() };
        self.metrics.sent_bytes.increment(bytes.len() as u64);
        (!bytes.is_empty()).then_some(bytes)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.queue.close();
    }
}
