//! Messages over REST: publishing, history, long polling, and deletion of one message.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::Permission;
use crate::history;
use crate::http::extract::{Accept, Bearer, Body, Id, Query, Room};
use crate::http::problem::{Problem, ProblemBody};
use crate::hub::outbox::Outbox;
use crate::net::admission::Place;
use crate::node::Node;
use crate::protocol::decode::{self, Drafts};
use crate::protocol::frame::{HistoryPage, as_text};
use crate::protocol::request::{Draft, Range};
use crate::protocol::{CloseCode, ErrorCode, Failure, RoomName};
use crate::session::rate;
use crate::session::registry::{Connection, Registry};
use crate::telemetry::Transport;
use crate::time::parse_ms;

/// Most messages in one batch.
const BATCH: usize = 1000;

/// Longest wait of a long poll, in seconds.
const LONGEST_WAIT: u64 = 60;

/// A message to publish.
#[derive(ToSchema)]
#[allow(dead_code)] // For the document: bodies are read as publish frames are.
pub struct NewMessage {
    /// Any JSON value; in MessagePack also binary.
    #[schema(value_type = Object)]
    data: (),
    /// `message` by default.
    r#type: Option<String>,
}

/// A message to publish, and its room.
#[derive(ToSchema)]
#[allow(dead_code)] // As above.
pub struct NewMessageIn {
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
pub struct Published {
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
pub enum BatchItem {
    /// The message is stored.
    Published(Published),
    /// The message is not stored.
    Failed {
        /// The reason.
        error: BatchError,
    },
}

/// The reason why a message of a batch was not stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchError {
    /// The protocol's code.
    #[schema(value_type = String)]
    code: ErrorCode,
    /// The problem, and what to do about it.
    message: String,
    /// The number of milliseconds after which to try again, if that can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
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
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn publish(
    State(node): State<Arc<Node>>,
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
    let published = store(&node, &bearer, room, draft)?.await?;
    let status = if published.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    Ok(accept.reply(status, &published))
}

/// Publishes messages to any number of rooms.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages",
    request_body = Vec<NewMessageIn>,
    responses(
        (status = 200, description = "What became of each, in the same order", body = Vec<BatchItem>),
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn publish_batch(
    State(node): State<Arc<Node>>,
    bearer: Bearer,
    accept: Accept,
    Body(encoding, body): Body,
) -> Result<Response, Problem> {
    // All are queued, in order, before the first is awaited.
    let storing: Vec<_> = Drafts::of(encoding, body, BATCH)?
        .map(|draft| {
            let (room, draft) = draft?;
            store(&node, &bearer, room, draft)
        })
        .collect();
    let mut items = Vec::with_capacity(storing.len());
    for storing in storing {
        let stored = match storing {
            Ok(storing) => storing.await,
            Err(problem) => Err(problem),
        };
        items.push(match stored {
            Ok(published) => BatchItem::Published(published),
            Err(Problem(Failure { code, message, retry_after_ms })) => {
                BatchItem::Failed { error: BatchError { code, message, retry_after_ms } }
            }
        });
    }
    Ok(accept.reply(StatusCode::OK, &items))
}

/// Queues a message immediately. The returned future waits until it is stored.
fn store(
    node: &Node,
    bearer: &Bearer,
    room: RoomName,
    draft: Draft,
) -> Result<impl Future<Output = Result<Published, Problem>> + use<>, Problem> {
    bearer.require(&room, Permission::Write)?;
    let spent = node.publishing.spend(&bearer.user, Instant::now());
    spent.map_err(|wait| rate::refusal(rate::PUBLISHES, wait))?;
    node.takes(&room, &draft.data)?;
    let key = draft.key;
    let appending = node.appender.append(&room, bearer.0.user.clone(), draft);
    Ok(async move {
        let appended = appending.await?;
        Ok(Published { id: appended.id, key, duplicate: appended.duplicate })
    })
}

/// The part of a room's history to read.
#[derive(Debug, Deserialize, IntoParams)]
pub struct HistoryQuery {
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
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn history(
    State(node): State<Arc<Node>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
    Query(query): Query<HistoryQuery>,
    Extension(place): Extension<Arc<Place>>,
) -> Result<Response, Problem> {
    bearer.require(&room, Permission::Read)?;
    let (range, limit) = (query.range()?, decode::limit(query.limit)?);
    let wait = query.wait.unwrap_or_default();
    if wait > LONGEST_WAIT {
        return Err(Failure::bad_request("`wait` is at most 60 seconds").into());
    }
    let mut page = if wait == 0 {
        history::page(&node.store, &room, range, limit).await?
    } else {
        let outbox = Arc::new(Outbox::taken(0, move || place.cut()));
        let connection = Registry::enter_request(&node.registry, Transport::Poll, outbox, &bearer.0)?;
        node.not_revoked(&bearer)?;
        wait_for_page(&node, &connection, &room, range, limit, Duration::from_secs(wait)).await?
    };
    if query.order == Some(Order::Desc) {
        page.messages.reverse();
    }
    Ok(accept.reply(StatusCode::OK, &page))
}

/// Waits for a page with messages. Returns an empty one when the time is over or the server shuts down. Fails
/// when the token expires or is revoked.
async fn wait_for_page(
    node: &Node,
    connection: &Connection,
    room: &RoomName,
    range: Range,
    limit: usize,
    wait: Duration,
) -> Result<HistoryPage, Problem> {
    let deadline = Instant::now() + wait;
    loop {
        // Repeated each time, since the room may have been deleted and created again.
        let hold = node.hub.hold(room).await?;
        let page = history::page(&node.store, room, range, limit).await?;
        if !page.messages.is_empty() || page.gap.is_some() {
            return Ok(page);
        }
        tokio::select! {
            () = hold.moved_from(page.head) => {}
            () = tokio::time::sleep_until(deadline) => return Ok(page),
            () = connection.ending.cancelled() => {
                return match connection.farewell() {
                    Some(CloseCode::TokenExpired) => {
                        Err(Failure::new(ErrorCode::TokenExpired, "the token has expired").into())
                    }
                    Some(CloseCode::TokenRevoked) => {
                        Err(Failure::new(ErrorCode::TokenRevoked, "the token was revoked").into())
                    }
                    _ => Ok(page),
                };
            }
        }
    }
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
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn delete(
    State(node): State<Arc<Node>>,
    bearer: Bearer,
    Room(room): Room,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    bearer.require(&room, Permission::Manage)?;
    if let Some(cut) = node.store.delete_message(&room, id).await? {
        node.hub.evict(&room, cut);
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::new(ErrorCode::NotFound, "there is no such message in this room").into())
    }
}
