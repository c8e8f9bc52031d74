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

use crate::auth::Permission;
use crate::http::extract::{Bearer, Query, Room};
use crate::http::problem::{Problem, ProblemBody};
use crate::hub::outbox::Outbox;
use crate::hub::{Form, Holding, Subscription};
use crate::log::Unavailable;
use crate::net::admission::Place;
use crate::node::Node;
use crate::protocol::decode;
use crate::protocol::{ErrorCode, Failure, UserId};
use crate::session::durable;
use crate::session::registry::{Entered, Registry};
use crate::telemetry::{Transport, logs};

/// Time of silence after which a comment shows that the stream is alive.
const COMMENT_AFTER: Duration = Duration::from_secs(15);

const COMMENT: Bytes = Bytes::from_static(b": \n\n");

/// The start of the stream, unless `Last-Event-ID` gives it.
#[derive(Debug, Deserialize, IntoParams)]
pub struct StartQuery {
    /// An id (everything after it), `0` (everything that is retained) or `$` (only new messages, the
    /// default).
    since: Option<String>,
    /// Start with this many of the newest messages, 0 to 1000.
    last: Option<u64>,
}

/// Options of the stream.
#[derive(Debug, Deserialize, IntoParams)]
pub struct LiveQuery {
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
    /// Returns the hold on the stream's durable subscription, if it has one.
    fn holding(&self, user: &UserId) -> Result<Option<Holding>, Failure> {
        match (&self.durable, &self.holder) {
            (None, None) => Ok(None),
            (Some(name), Some(holder)) => durable::holding_of(user, &name.parse()?, holder).map(Some),
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
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn stream(
    State(node): State<Arc<Node>>,
    Bearer(claims): Bearer,
    Room(room): Room,
    Query(query): Query<StartQuery>,
    Query(live): Query<LiveQuery>,
    Extension(place): Extension<Arc<Place>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    claims.require(&room, Permission::Read)?;
    let resumed = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    let start = match resumed {
        Some(id) => decode::start(Some(id), None)?,
        None => decode::start(query.since.as_deref(), query.last)?,
    };
    let holding = live.holding(&claims.user)?;
    if node.draining.is_cancelled() {
        return Err(Failure::new(ErrorCode::Unavailable, "the server ends").into());
    }
    let outbox = Arc::new(Outbox::taken(node.config.limits.outbox, move || place.cut()));
    let user = claims.user.clone();
    let connection = Registry::enter_request(&node.registry, Transport::Events, outbox.clone(), &claims)?;
    logs::opens(connection.id);
    node.not_revoked(&claims)?;
    let mut stream = Stream { node: node.clone(), connection, subscription: None };
    let hold = node.hub.hold(&room).await?;
    let position = node.hub.position(&hold, start).await?;
    let id = stream.connection.id;
    let form = Form::Events { signals: live.signals, sender: live.session };
    let subscription = Arc::new(Subscription::new(room, id, user, form, outbox.clone(), holding));
    stream.subscription = Some(subscription.clone());
    // Shows immediately that the stream is open, also to proxies that wait for a first byte.
    outbox.notice(COMMENT);
    node.hub.enter(&hold, &subscription)?;
    if let Some(holding) = &subscription.durable {
        // Checked after the subscription is registered here, so that an immediate takeover is noticed.
        let held = [(&hold.name, &holding.group, holding.holder.as_str())];
        if !node.store.renew(&held).await.pop().unwrap_or(Err(Unavailable))? {
            return Err(durable::lost().into());
        }
        node.held.insert(&hold.name, holding);
    }
    node.hub.begin(&hold, &subscription, position);
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
    node: Arc<Node>,
    connection: Entered,
    subscription: Option<Arc<Subscription>>,
}

impl Stream {
    /// Returns the next bytes to send, or `None` at the end.
    async fn next(&self) -> Option<Bytes> {
        let subscription = self.subscription.as_ref()?;
        let outbox = &self.connection.outbox;
        if subscription.has_ended() && !outbox.is_waiting() {
            return None;
        }
        let parts = tokio::select! {
            () = self.connection.ending.cancelled() => return None,
            parts = outbox.take(16) => parts,
            () = tokio::time::sleep(COMMENT_AFTER) => return Some(COMMENT),
        };
        if subscription.has_ended() {
            outbox.close();
        }
        let mut bytes: Vec<Bytes> = parts
            .into_iter()
            .map(|part| {
                if let Some(message) = part.timed {
                    self.node.metrics.delivered_to_socket(message);
                }
                part.bytes
            })
            .collect();
        let bytes = if bytes.len() == 1 { bytes.remove(0) } else { bytes.concat().into() };
        self.node.metrics.sent_bytes.increment(bytes.len() as u64);
        (!bytes.is_empty()).then_some(bytes)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(subscription) = &self.subscription {
            self.node.hub.unsubscribe(subscription);
            if let Some(holding) = &subscription.durable {
                self.node.held.remove(&subscription.room, holding);
            }
        }
        self.connection.outbox.close();
    }
}
