//! Messages over REST: publishing, history, long polling, and deletion of one message.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::Claims;
use crate::connections::Registry;
use crate::http::extract::{Accept, Bearer, Body, Id, Query, Room};
use crate::http::problem::{ItemError, Problem};
use crate::hub::send_queue::SendQueue;
use crate::log::Appended;
use crate::net::admission::Place;
use crate::protocol::decode::{self, Drafts};
use crate::protocol::frame::{HistoryPage, as_text};
use crate::protocol::request::{Draft, Range};
use crate::protocol::{Failure, RoomName};
use crate::service::Services;
use crate::session::Shared;
use crate::telemetry::Transport;
use crate::util::time::parse_ms;

const BATCH: usize = 1000;

/// Longest wait of a long poll, in seconds.
const LONGEST_WAIT: u64 = 60;

/// A message to publish.
#[derive(ToSchema)]
#[allow(dead_code)] // For the document: bodies are read as publish frames are.
pub(crate) struct NewMessage {
    /// Any JSON value; in MessagePack also binary.
    #[schema(value_type = Object)]
    data: (),
    /// `message` by default.
    r#type: Option<String>,
}

/// A message to publish, and its room.
#[derive(ToSchema)]
#[allow(dead_code)] // As above.
pub(crate) struct NewMessageIn {
    /// The name of the room.
    room: String,
    /// Any JSON value; in MessagePack also binary.
    #[schema(value_type = Object)]
    data: (),
    /// `message` by default.
    r#type: Option<String>,
    /// The message's key. The server creates one by default.
    key: Option<Uuid>,
}

/// A stored message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Published {
    /// Its id.
    #[schema(value_type = String, example = "1700000000000-42")]
    id: crate::protocol::MessageId,
    /// Its key.
    #[serde(serialize_with = "as_text")]
    key: Uuid,
    /// True if the key was already known, so that nothing new was stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// The outcome of one message of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum BatchItem {
    /// The message is stored.
    Published(Published),
    /// The message is not stored.
    Failed {
        /// The reason.
        error: ItemError,
    },
}

/// Publishes a message.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/messages", tag = "messages",
    params(
        ("room" = String, Path, description = "The room's name"),
        ("Idempotency-Key" = Option<Uuid>, Header, description = "The message's key: sending it again stores nothing new"),
    ),
    request_body = NewMessage,
    responses(
        (status = 201, description = "Stored", body = Published),
        (status = 200, description = "The key was known: the id is that of the first time", body = Published),
        Problem,
    )
)]
pub(crate) async fn publish(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
    headers: HeaderMap,
    Body(encoding, body): Body,
) -> Result<Response, Problem> {
    let mut draft = decode::draft(encoding, &body)?;
    if let Some(key) = headers.get("idempotency-key") {
        // RFC drafts write it as a quoted string, but most clients omit the quotes.
        let key = decode::message_key(key.to_str().unwrap_or_default().trim_matches('"'))
            .map_err(|_| Failure::bad_request("the header `Idempotency-Key` must be a UUID"))?;
        draft.set_key(key);
    }
    let published = store(&services, &bearer, room, draft)?.await?;
    let status = if published.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    Ok(accept.reply(status, &published))
}

/// Publishes messages to any number of rooms.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages",
    request_body = Vec<NewMessageIn>,
    responses(
        (status = 200, description = "What became of each, in the same order", body = Vec<BatchItem>),
        Problem,
    )
)]
pub(crate) async fn publish_batch(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    accept: Accept,
    Body(encoding, body): Body,
) -> Result<Response, Problem> {
    // All are queued, in order, before the first is awaited.
    let storing: Vec<_> = Drafts::of(encoding, body, BATCH)?
        .map(|draft| {
            let (room, draft) = draft?;
            store(&services, &bearer, room, draft)
        })
        .collect();
    let mut items = Vec::with_capacity(storing.len());
    for storing in storing {
        let stored = match storing {
            Ok(storing) => storing.await,
            Err(failure) => Err(failure),
        };
        items.push(match stored {
            Ok(published) => BatchItem::Published(published),
            Err(failure) => BatchItem::Failed { error: failure.into() },
        });
    }
    Ok(accept.reply(StatusCode::OK, &items))
}

/// Queues a message immediately. The returned future waits until it is stored.
fn store(
    services: &Services,
    caller: &Claims,
    room: RoomName,
    draft: Draft,
) -> Result<impl Future<Output = Result<Published, Failure>> + use<>, Failure> {
    let key = draft.key;
    let storing = services.publisher.admit(caller, room, draft)?.store();
    Ok(async move {
        let Appended { id, duplicate } = storing.await?;
        Ok(Published { id, key, duplicate })
    })
}

/// The part of a room's history to read.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct HistoryQuery {
    /// Messages after this id; `0` for the oldest retained ones.
    after: Option<String>,
    /// The newest messages before this id.
    before: Option<String>,
    /// Messages from this time on: Unix milliseconds, or RFC 3339 such as `2026-01-31T12:00:00Z`.
    from_time: Option<String>,
    /// Most messages, 1 to 1000; 100 by default.
    limit: Option<u64>,
    /// `asc` (oldest first, the default) or `desc`. Without a bound, it also selects the oldest or the newest
    /// messages.
    order: Option<Order>,
    /// Seconds to wait for a message before an empty answer, at most 60.
    wait: Option<u64>,
}

/// The order of messages in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

impl HistoryQuery {
    fn range(&self) -> Result<Range, Failure> {
        match (&self.from_time, &self.after, &self.before) {
            (None, None, None) if self.order == Some(Order::Desc) => Ok(Range::Newest),
            (None, None, None) => Ok(Range::Oldest),
            (None, after, before) => decode::range(after.as_deref(), before.as_deref()),
            (Some(time), None, None) => parse_ms(time).map(Range::FromTime).ok_or_else(|| {
                Failure::bad_request(
                    "`from_time` is Unix milliseconds, or a time such as 2026-01-31T12:00:00Z",
                )
            }),
            (Some(_), ..) => Err(Failure::bad_request("give one of `after`, `before` and `from_time`")),
        }
    }
}

/// Reads a page of a room's history, or waits for its next message.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/messages", tag = "messages",
    params(("room" = String, Path, description = "The room's name"), HistoryQuery),
    responses(
        (status = 200, description = "The page", body = HistoryPage),
        Problem,
    )
)]
pub(crate) async fn history(
    State(shared): State<Arc<Shared>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
    Query(query): Query<HistoryQuery>,
    Extension(place): Extension<Arc<Place>>,
) -> Result<Response, Problem> {
    let (range, limit) = (query.range()?, decode::limit(query.limit)?);
    let wait = query.wait.unwrap_or_default();
    if wait > LONGEST_WAIT {
        return Err(Failure::bad_request(format!("`wait` is at most {LONGEST_WAIT} seconds")).into());
    }
    let Services { history, access, .. } = &*shared.services;
    let mut page = if wait == 0 {
        history.page(&bearer, &room, range, limit).await?
    } else {
        let queue = Arc::new(SendQueue::taken(0, move || place.cut()));
        let connection = Registry::enter_request(&shared.registry, Transport::Poll, queue, &bearer.0)?;
        access.not_revoked(&bearer)?;
        let wait = Duration::from_secs(wait);
        history.wait(&bearer, &room, (range, limit), wait, connection.ended()).await?
    };
    if query.order == Some(Order::Desc) {
        page.messages.reverse();
    }
    Ok(accept.reply(StatusCode::OK, &page))
}

/// Deletes one message. Readers that reach its place get a gap.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/messages/{id}", tag = "messages",
    params(
        ("room" = String, Path, description = "The room's name"),
        ("id" = String, Path, description = "The message's id"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        Problem,
    )
)]
pub(crate) async fn delete(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    services.rooms.delete_message(&bearer, &room, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
