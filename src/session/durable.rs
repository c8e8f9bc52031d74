//! Durable subscriptions, held by a connection, or by a client that comes over HTTP without one.

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::hub::outbox::Writes;
use crate::hub::{Holding, Room};
use crate::log::Unavailable;
use crate::node::Node;
use crate::protocol::request::Start;
use crate::protocol::{ErrorCode, Failure, MessageId, RoomName, SubscriptionName, UserId};
use crate::redis::{AttachAt, Attached, Group, NotAttached};
use crate::session::rate;

/// Creates a new hold for a client that comes over HTTP.
pub fn holding(user: &UserId, name: &SubscriptionName) -> Holding {
    held_as(user, name, Uuid::new_v4())
}

/// Restores the hold that such a client presents. `holder` came from `POST …/subscriptions`.
///
/// # Errors
/// `bad_request` if `holder` is malformed.
pub fn holding_of(user: &UserId, name: &SubscriptionName, holder: &str) -> Result<Holding, Failure> {
    let holder = holder.parse().map_err(|_| {
        Failure::bad_request("`holder` must be that of the answer to POST /v1/rooms/{room}/subscriptions")
    })?;
    Ok(held_as(user, name, holder))
}

/// Names the holder without a node, since no node knows whether the client is still there.
fn held_as(user: &UserId, name: &SubscriptionName, holder: Uuid) -> Holding {
    Holding { group: Group::new(user, name), holder: holder.simple().to_string() }
}

/// Takes a user's durable subscription, creating it if it is new.
///
/// # Errors
/// `unavailable` if Redis cannot be reached, or has no room for a new one; `rate_limited` if it is new and
/// the user creates too many too fast; `too_many` if the user has the most that are allowed in the room.
pub async fn take(
    node: &Node,
    room: &Room,
    user: &UserId,
    holding: &Holding,
    start: Option<Start>,
) -> Result<Attached, Failure> {
    let at = match start {
        None => AttachAt::Stored,
        Some(Start::After(id)) => AttachAt::Id(id),
        Some(Start::New) => AttachAt::New,
        Some(Start::Oldest) => AttachAt::Oldest,
        // `last` applies to the first use only. Later ones continue from the stored position.
        Some(Start::Last(_)) => {
            let position = node.hub.position(room, start).await;
            AttachAt::StoredOr(position.map_err(|Unavailable| Failure::unavailable())?)
        }
    };
    let Holding { group, holder } = holding;
    let most = node.config.limits.durable_subscriptions;
    let spent = node.creating.spend(user, Instant::now());
    let attached = node.store.attach(&room.name, group, holder, at, spent.is_ok(), most).await;
    if spent.is_ok() && !attached.is_ok_and(|attached| attached.created) {
        node.creating.give_back(user);
    }
    attached.map_err(|refused| match (refused, spent) {
        (NotAttached::TooFast, Err(wait)) => rate::refusal(rate::CREATIONS, wait),
        (NotAttached::Unavailable | NotAttached::TooFast, _) => Failure::unavailable(),
        (NotAttached::Full, _) => Failure::full(),
        (NotAttached::TooMany, _) => {
            let message = format!("a user has at most {most} durable subscriptions of a room");
            Failure::new(ErrorCode::TooMany, message)
        }
        (NotAttached::NoSuchPosition, _) => Failure::bad_request("no message can have the id in `since`"),
    })
}

/// Returns whether this node has seen the room up to this id.
pub fn is_known(node: &Node, room: &RoomName, id: MessageId) -> bool {
    node.hub.active(room).is_some_and(|room| id <= room.position())
}

/// Checks that an id to acknowledge is not beyond the room's newest message.
///
/// # Errors
/// `bad_request` if it is, `unavailable` if that cannot be determined.
pub async fn check(node: &Node, room: &RoomName, id: MessageId) -> Result<(), Failure> {
    if !is_known(node, room, id)
        && id > node.store.head(room).await.map_err(|Unavailable| Failure::unavailable())?.id
    {
        return Err(Failure::bad_request("`id` is beyond the newest message of the room"));
    }
    Ok(())
}

/// Acknowledges for a client without a connection, and waits until the position is written.
///
/// # Errors
/// `bad_request` for an id beyond the newest, `not_subscribed` if the client no longer holds the
/// subscription, `unavailable`.
pub async fn acknowledge(
    node: &Node,
    room: &RoomName,
    holding: &Holding,
    id: MessageId,
) -> Result<(), Failure> {
    let _waits = node.acks.waiting.token();
    check(node, room, id).await?;
    let (written, outcome) = oneshot::channel();
    let written = Box::new(move |outcome, _: &mut Writes| {
        let _the_client_may_have_gone = written.send(outcome);
    });
    node.acks.note(room, holding, None, id, Some(written));
    match outcome.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(lost()),
        Ok(Err(Unavailable)) | Err(_) => Err(Failure::unavailable()),
    }
}

/// Returns the failure of a client that no longer holds a durable subscription.
pub fn lost() -> Failure {
    let message =
        "this holder has lost the durable subscription: a newer one took it over, or it was deleted";
    Failure::new(ErrorCode::NotSubscribed, message)
}
