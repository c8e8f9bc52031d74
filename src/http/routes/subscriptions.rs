//! Durable subscriptions over REST: listing and deletion, and, for clients without a WebSocket, taking and
//! acknowledging.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::extract::{Accept, Bearer, Body, DurablePath, Query, Room};
use crate::http::problem::{Problem, ProblemBody};
use crate::log::{Attached, Lease};
use crate::protocol::{Failure, MessageId, decode};
use crate::service::subscriptions::Listed;
use crate::service::{Services, leases};

/// A durable subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubscriptionInfo {
    /// Its user.
    user: String,
    /// Its name.
    name: String,
    /// The last acknowledged id.
    #[schema(value_type = String)]
    position: MessageId,
    /// The number of messages that are not acknowledged.
    lag: u64,
    /// True if a connection holds it now. A client that took it over HTTP has none.
    connected: bool,
}

/// A durable subscription to take.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewSubscription {
    /// Its name.
    durable: String,
    /// The start, regardless of the stored position: an id (everything after it), `0` (everything that is
    /// retained) or `$` (only new messages).
    since: Option<String>,
    /// The start if it is new: with this many of the newest messages, 0 to 1000.
    last: Option<u64>,
}

/// A durable subscription that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Taken {
    /// The holder to name in acknowledgements and in event streams. It is different each time.
    holder: String,
    /// The last acknowledged id.
    #[schema(value_type = String)]
    position: MessageId,
    /// The room's newest id.
    #[schema(value_type = String)]
    head: MessageId,
    /// True if the subscription is new.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    created: bool,
}

/// An acknowledgement.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewAck {
    /// The subscription's name.
    durable: String,
    /// The holder from the response when the subscription was taken.
    holder: String,
    /// The last id that is handled, together with everything before it.
    id: String,
}

/// Most subscriptions in a response, and the default.
const PAGE: u64 = 1000;

/// The subscriptions to list.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct SubscriptionQuery {
    /// About how many subscriptions to return, 1 to 1000; 1000 by default.
    limit: Option<u64>,
    /// Where to continue: as in the `Link` header of the previous answer.
    after: Option<u64>,
}

/// Lists a room's durable subscriptions, in pages.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/subscriptions", tag = "rooms",
    params(("room" = String, Path, description = "The room's name"), SubscriptionQuery),
    responses(
        (
            status = 200, description = "The subscriptions", body = Vec<SubscriptionInfo>,
            headers(("Link" = Option<String>, description = "Where there are more: `<…>; rel=\"next\"`")),
        ),
        Problem,
    )
)]
pub(crate) async fn list(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
    Query(query): Query<SubscriptionQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Failure::bad_request(format!("`limit` must be 1 to {PAGE}")).into());
    }
    let cursor = query.after.unwrap_or_default();
    let (listed, next) = services.subscriptions.list(&bearer, &room, cursor, limit as usize).await?;
    let info = |Listed { record, lag, connected }: &Listed| {
        let (user, name) = record.durable.parts();
        let (user, name) = (user.into(), name.into());
        SubscriptionInfo { user, name, position: record.position, lag: *lag, connected: *connected }
    };
    let infos: Vec<SubscriptionInfo> = listed.iter().map(info).collect();
    let mut reply = accept.reply(StatusCode::OK, &infos);
    if let Some(next) = next {
        let link = format!("</v1/rooms/{room}/subscriptions?limit={limit}&after={next}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            reply.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(reply)
}

/// Deletes a durable subscription and its position.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/subscriptions/{user}/{name}", tag = "rooms",
    params(
        ("room" = String, Path, description = "The room's name"),
        ("user" = String, Path, description = "Whose subscription"),
        ("name" = String, Path, description = "Its name"),
    ),
    responses(
        (status = 204, description = "Deleted; a connection that held it is told"),
        Problem,
    )
)]
pub(crate) async fn delete(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    DurablePath(durable): DurablePath,
) -> Result<StatusCode, Problem> {
    services.subscriptions.delete(&bearer, &room, &durable).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a durable subscription of the caller, and creates it if it is new. Notifies its previous holder.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/subscriptions", tag = "rooms",
    params(("room" = String, Path, description = "The room's name")),
    request_body = NewSubscription,
    responses(
        (status = 200, description = "Taken", body = Taken),
        Problem,
    )
)]
pub(crate) async fn take(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
    body: Body,
) -> Result<Response, Problem> {
    let NewSubscription { durable, since, last } = body.read()?;
    let start = decode::start(since.as_deref(), last)?;
    let taken = services.subscriptions.take(&bearer, &room, &durable.parse()?, start).await?;
    let (Lease { holder, .. }, Attached { position, head, created }) = taken;
    let taken = Taken { holder, position, head, created };
    Ok(accept.reply(StatusCode::OK, &taken))
}

/// Moves the position of a durable subscription that the caller has taken. It never goes back.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/acks", tag = "rooms",
    params(("room" = String, Path, description = "The room's name")),
    request_body = NewAck,
    responses(
        (status = 204, description = "The position is at this id, or behind it"),
        (status = 409, content_type = "application/problem+json", description = "Somebody else has taken the subscription, or it was deleted", body = ProblemBody),
        Problem,
    )
)]
pub(crate) async fn acknowledge(
    State(services): State<Arc<Services>>,
    bearer: Bearer,
    Room(room): Room,
    body: Body,
) -> Result<StatusCode, Problem> {
    let NewAck { durable, holder, id } = body.read()?;
    let lease = leases::presented(&bearer.user, &durable.parse()?, &holder)?;
    services.acks.acknowledge(&bearer, &room, &lease, id.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
