//! Signals over REST. Clients receive them as Server-Sent Events.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::http::extract::{Bearer, Body, Query, Room};
use crate::http::problem::Problem;
use crate::protocol::decode;
use crate::service::Services;

/// A signal to send.
#[derive(ToSchema)]
#[allow(dead_code)] // For the document: bodies are read as signal frames are.
pub(crate) struct NewSignal {
    /// Its type.
    r#type: String,
    /// Any JSON value; in MessagePack also binary.
    #[schema(value_type = Object)]
    data: (),
    /// The one user who is to receive it.
    to: Option<String>,
}

/// The sender of a signal.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct SenderQuery {
    /// A UUID that the client chooses. Its event streams with the same UUID do not receive the signal.
    session: Option<Uuid>,
}

/// Sends a signal, which is not stored, to those present in a room.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/signals", tag = "live",
    params(("room" = String, Path, description = "The room's name"), SenderQuery),
    request_body = NewSignal,
    responses(
        (status = 204, description = "Sent"),
        Problem,
    )
)]
pub(crate) async fn send(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    Query(sender): Query<SenderQuery>,
    Body(encoding, body): Body,
) -> Result<StatusCode, Problem> {
    let draft = decode::signal(encoding, &body)?;
    let session = sender.session.unwrap_or_else(Uuid::new_v4);
    services.pusher.signal(&bearer, &room, session, draft).await?;
    Ok(StatusCode::NO_CONTENT)
}
