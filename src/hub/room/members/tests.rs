//! Tests of finding members after others have left.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use uuid::Uuid;

use super::*;
use crate::config::Config;
use crate::hub::recent::RecentLimits;
use crate::hub::send_queue::SendQueue;
use crate::hub::subscription::Receives;
use crate::log::{DurableId, Lease};
use crate::protocol::Encoding;
use crate::telemetry::Metrics;

fn room() -> Room {
    let config = Config::load(None, std::iter::empty(), Vec::new()).unwrap();
    let limits = RecentLimits { messages: 1, bytes: 1, budget: 1, spent: Arc::new(AtomicUsize::new(0)) };
    Room::new("room".parse().unwrap(), limits, Arc::new(Metrics::new(&config.rooms)))
}

fn member(room: &Room, durable: Option<Lease>) -> Arc<Subscription> {
    let queue = Arc::new(SendQueue::taken(1000, || ()));
    let user = "ann".parse().unwrap();
    let receives = Receives { format: Encoding::Json.into(), pushes: true, sender: None };
    let subscription =
        Arc::new(Subscription::new(room.name.clone(), Uuid::nil(), user, queue, receives, durable));
    room.enter(&subscription).unwrap();
    subscription
}

fn lease(holder: usize) -> Lease {
    let durable = DurableId::new(&"ann".parse().unwrap(), &"phone".parse().unwrap());
    Lease { durable, holder: format!("node/session/{holder}") }
}

#[test]
fn ending_a_lease_ends_exactly_the_subscriptions_of_its_holder() {
    let room = room();
    let [first, same, other] = [1, 1, 2].map(|holder| member(&room, Some(lease(holder))));
    let [left, live] = [Some(lease(1)), None].map(|durable| member(&room, durable));
    room.leave(&left);
    room.end_lease(&lease(1), Ended::Replaced);
    let ended = [&first, &same, &other, &live].map(|subscription| subscription.has_ended());
    assert_eq!(ended, [true, true, false, false]);
    room.end_lease(&lease(2), Ended::Deleted);
    assert!(other.has_ended());
    assert!(room.state.lock().holders.0.is_empty());
    assert_eq!(room.members(), 1);
}

#[test]
fn members_that_left_take_no_slots() {
    let room = room();
    let members: Vec<_> = (0..20_000).map(|n| member(&room, Some(lease(n)))).collect();
    let (stay, leave): (Vec<_>, Vec<_>) = members.iter().enumerate().partition(|(index, _)| index % 100 == 0);
    for (_, subscription) in leave {
        assert!(room.leave(subscription));
    }
    assert_eq!(room.members(), 200);
    assert!(room.state.lock().members.capacity() <= VACANT + 4 * 200);
    // The remaining members were moved, and are still found.
    for (index, (number, subscription)) in stay.into_iter().enumerate() {
        match index % 3 {
            0 => assert!(room.leave(subscription)),
            1 => room.end_lease(&lease(number), Ended::Replaced),
            _ => room.end(subscription, Ended::Forbidden),
        }
        assert!(subscription.has_ended());
        assert_eq!(room.members(), 199 - index);
    }
}
