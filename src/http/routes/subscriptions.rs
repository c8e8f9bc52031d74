//! Durable subscriptions over REST: listing and deletion, and, for clients without a WebSocket, taking and
//! acknowledging.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::rooms::KNOW;
use crate::auth::Permission;
use crate::http::extract::{Accept, Bearer, Body, Query, Room, Subscription};
use crate::http::problem::{Problem, ProblemBody};
use crate::node::Node;
use crate::protocol::{ErrorCode, Failure, MessageId, decode};
use crate::session::durable;

/// A durable subscription.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionInfo {
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
pub struct NewSubscription {
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
pub struct Taken {
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
pub struct NewAck {
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
pub struct SubscriptionQuery {
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
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn list(
    State(node): State<Arc<Node>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
    Query(query): Query<SubscriptionQuery>,
) -> Result<Response, Problem> {
    bearer.require_any(&room, &KNOW)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Failure::bad_request(format!("`limit` must be 1 to {PAGE}")).into());
    }
    let facts = node.store.facts(&room).await?;
    let after = query.after.unwrap_or_default();
    let (stored, next) = node.store.subscriptions(&room, after, limit as usize).await?;
    let mut alive: HashMap<&str, bool> = HashMap::new();
    for holder in stored.iter().filter_map(|stored| stored.node()) {
        if !alive.contains_key(holder) {
            alive.insert(holder, node.store.is_alive(holder).await?);
        }
    }
    let infos: Vec<SubscriptionInfo> = stored
        .iter()
        .map(|stored| {
            let (user, name) = stored.group.parts();
            SubscriptionInfo {
                user: user.into(),
                name: name.into(),
                position: stored.position,
                lag: facts.after(stored.position),
                connected: stored.node().is_some_and(|node| alive.get(node) == Some(&true)),
            }
        })
        .collect();
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
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn delete(
    State(node): State<Arc<Node>>,
    bearer: Bearer,
    Room(room): Room,
    Subscription(group): Subscription,
) -> Result<StatusCode, Problem> {
    bearer.require(&room, Permission::Manage)?;
    if node.store.forget(&room, &group).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::new(ErrorCode::NotFound, "there is no such subscription of this room").into())
    }
}

/// Takes a durable subscription of the caller, and creates it if it is new. Notifies its previous holder.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/subscriptions", tag = "rooms",
    params(("room" = String, Path, description = "The room's name")),
    request_body = NewSubscription,
    responses(
        (status = 200, description = "Taken", body = Taken),
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn take(
    State(node): State<Arc<Node>>,
    bearer: Bearer,
    Room(room): Room,
    accept: Accept,
    body: Body,
) -> Result<Response, Problem> {
    bearer.require(&room, Permission::Read)?;
    let NewSubscription { durable, since, last } = body.read()?;
    let holding = durable::holding(&bearer.user, &durable.parse()?);
    let start = decode::start(since.as_deref(), last)?;
    let hold = node.hub.hold(&room).await?;
    let taken = durable::take(&node, &hold, &bearer.user, &holding, start).await?;
    let head = taken.head.max(hold.position());
    let taken = Taken { holder: holding.holder, position: taken.position, head, created: taken.created };
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
        (status = "default", content_type = "application/problem+json", description = "Why it failed", body = ProblemBody),
    )
)]
pub async fn acknowledge(
    State(node): State<Arc<Node>>,
    bearer: Bearer,
    Room(room): Room,
    body: Body,
) -> Result<StatusCode, Problem> {
    bearer.require(&room, Permission::Read)?;
    let NewAck { durable, holder, id } = body.read()?;
    let holding = durable::holding_of(&bearer.user, &durable.parse()?, &holder)?;
    durable::acknowledge(&node, &room, &holding, id.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
