//! Tests of the hub with rooms that were deleted.
#![allow(clippy::unwrap_used)]

use uuid::Uuid;

use super::send_queue::SendQueue;
use super::*;
use crate::config::Config;
use crate::log::{DurableId, Lease};
use crate::protocol::Encoding;
use crate::redis::simulated::Peer;

fn hub() -> Arc<Hub> {
    let config = Config::load(None, std::iter::empty(), Vec::new()).unwrap();
    let metrics = Arc::new(Metrics::new(&config.rooms));
    let options = HubOptions {
        ring_messages: 1,
        ring_bytes: 1,
        ring_budget: 1,
        linger: Duration::ZERO,
        check_interval: Duration::ZERO,
    };
    Hub::new(
        Store::simulated(Peer::Network(0), &config, metrics.clone(), CancellationToken::new()),
        options,
        metrics,
    )
}

#[test]
fn a_failed_retake_reports_that_the_room_was_deleted() {
    let (hub, name): (_, RoomName) = (hub(), "room".parse().unwrap());
    let room = Arc::new(Room::new(name.clone(), hub.limits.clone(), hub.metrics.clone()));
    hub.rooms.write().insert(name.clone(), room.clone());
    let guard = room.guard().unwrap();
    let queue = Arc::new(SendQueue::taken(1000, || ()));
    let user = "ann".parse().unwrap();
    let receives = Receives { format: Encoding::Json.into(), pushes: true, sender: None };
    let durable = DurableId::new(&user, &"phone".parse().unwrap());
    let lease = Lease { durable, holder: "node/session/0".to_owned() };
    let subscription =
        Subscription::new(name.clone(), Uuid::nil(), user, queue.clone(), receives, Some(lease));
    let subscription = Arc::new(subscription);
    guard.enter(&subscription).unwrap();
    guard.begin(&subscription);
    guard.mute(&subscription);
    hub.deleted(&name, MessageId::ZERO);
    assert_eq!((subscription.has_ended(), queue.bytes()), (true, 0));
    guard.unmute(&subscription);
    assert!(queue.bytes() > 0);
}
