//! Rooms over REST: description, listing, deletion.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::extract::{Accept, Bearer, Query, Room};
use crate::http::problem::Problem;
use crate::protocol::{Failure, MessageId, Pattern, RoomName};
use crate::redis::RoomCursor;
use crate::service::Services;

/// A room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomInfo {
    /// Its name.
    #[schema(value_type = String)]
    room: RoomName,
    /// The newest id ever given.
    #[schema(value_type = String)]
    head: MessageId,
    /// The oldest id that is retained.
    #[schema(value_type = Option<String>)]
    first: Option<MessageId>,
    /// The number of retained messages.
    length: u64,
    /// The bytes of Redis's memory that they use, as Redis estimates it.
    bytes: u64,
    /// The number of live subscribers on this node.
    subscribers: usize,
    /// The number of durable subscriptions.
    subscriptions: u64,
}

/// A page of the rooms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomList {
    /// The names of the rooms.
    #[schema(value_type = Vec<String>)]
    rooms: BTreeSet<RoomName>,
    /// The cursor of the next page; null at the end.
    cursor: Option<String>,
}

/// The rooms to list.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct ListQuery {
    /// A pattern, in which `*` stands for any run of characters.
    r#match: Option<String>,
    /// The `cursor` of the previous answer.
    cursor: Option<String>,
}

/// Describes a room.
#[utoipa::path(
    get, path = "/v1/rooms/{room}", tag = "rooms",
    params(("room" = String, Path, description = "The room's name")),
    responses(
        (status = 200, description = "The room", body = RoomInfo),
        Problem,
    )
)]
pub(crate) async fn describe(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
) -> Result<Response, Problem> {
    let (facts, subscribers) = services.rooms.describe(&bearer, &room).await?;
    let info = RoomInfo {
        room,
        head: facts.head,
        first: facts.first,
        length: facts.length,
        bytes: facts.bytes,
        subscribers,
        subscriptions: facts.subscriptions,
    };
    Ok(accept.reply(StatusCode::OK, &info))
}

/// Deletes a room with all that belongs to it.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}", tag = "rooms",
    params(("room" = String, Path, description = "The room's name")),
    responses(
        (status = 204, description = "Deleted; its subscribers are told"),
        Problem,
    )
)]
pub(crate) async fn delete(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
) -> Result<StatusCode, Problem> {
    services.rooms.delete(&bearer, &room).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists rooms, in pages of varying size. A page may be empty before the end.
#[utoipa::path(
    get, path = "/v1/rooms", tag = "rooms",
    params(ListQuery),
    responses(
        (status = 200, description = "Some of the rooms", body = RoomList),
        Problem,
    )
)]
pub(crate) async fn list(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    accept: Accept,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let pattern: Pattern = query.r#match.as_deref().unwrap_or("*").parse()?;
    let cursor = match &query.cursor {
        None => RoomCursor::default(),
        Some(text) => RoomCursor::parse(text)
            .ok_or_else(|| Failure::bad_request("`cursor` must come from the previous answer"))?,
    };
    let (rooms, next) = services.rooms.list(&bearer, &pattern, cursor).await?;
    Ok(accept.reply(StatusCode::OK, &RoomList { rooms, cursor: next.map(|cursor| cursor.text()) }))
}
