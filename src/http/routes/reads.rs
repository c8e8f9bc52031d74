//! Read positions and unread counts over REST.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::extract::{Accept, Bearer, Body, Query, Room};
use crate::http::problem::{ItemError, Problem};
use crate::log::ReadState;
use crate::protocol::{MessageId, RoomName};
use crate::service::Services;

/// How far the caller has read a room.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewRead {
    /// The last message that the caller has read, together with all before it.
    id: String,
}

/// The rooms to look at.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct MineQuery {
    /// Names of rooms, separated by commas, at most 500.
    rooms: String,
}

/// The caller's rooms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Mine {
    /// One entry for each room, in the order asked for.
    rooms: Vec<MineItem>,
}

/// One of the caller's rooms.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum MineItem {
    /// How far the caller has read it.
    Read(MyRoom),
    /// The room cannot be read.
    Failed {
        /// Its name.
        #[schema(value_type = String)]
        room: RoomName,
        /// The reason.
        error: ItemError,
    },
}

/// How far the caller has read a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MyRoom {
    /// Its name.
    #[schema(value_type = String)]
    room: RoomName,
    /// The newest id ever given; `0-0` before the first.
    #[schema(value_type = String)]
    head: MessageId,
    /// The last message that the caller has read. Null if there is none, or if it is long gone.
    #[schema(value_type = Option<String>)]
    read: Option<MessageId>,
    /// The number of messages after that which the room still has.
    unread: u64,
}

/// Moves the caller's read position in a room forward. It never goes back.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/read", tag = "rooms",
    params(("room" = String, Path, description = "The room's name")),
    request_body = NewRead,
    responses(
        (status = 204, description = "The position is at this id, or beyond it"),
        Problem,
    )
)]
pub(crate) async fn read(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    body: Body,
) -> Result<StatusCode, Problem> {
    let NewRead { id } = body.read()?;
    services.reads.read_now(&bearer, &room, id.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells how many messages the caller has not read, for many rooms at once.
#[utoipa::path(
    get, path = "/v1/me/rooms", tag = "rooms",
    params(MineQuery),
    responses(
        (status = 200, description = "The rooms, in the order asked for", body = Mine),
        Problem,
    )
)]
pub(crate) async fn mine(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    accept: Accept,
    Query(query): Query<MineQuery>,
) -> Result<Response, Problem> {
    let rooms: Vec<RoomName> = query.rooms.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let states = services.reads.states(&bearer, &rooms).await?;
    let item = |(room, state)| match state {
        Ok(ReadState { head, read, unread }) => MineItem::Read(MyRoom { room, head, read, unread }),
        Err(failure) => MineItem::Failed { room, error: ItemError::from(failure) },
    };
    let rooms = rooms.into_iter().zip(states).map(item).collect();
    Ok(accept.reply(StatusCode::OK, &Mine { rooms }))
}
