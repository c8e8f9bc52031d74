//! Leases on durable subscriptions: their names, and those that this node's connections and event streams
//! hold. These are periodically marked as in use in Redis, so that a subscription with a connected user does
//! not expire, however quiet its room is.

use std::collections::HashSet;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::log::{DurableId, Lease};
use crate::protocol::{Failure, RoomName, SubscriptionName, UserId};
use crate::redis::Store;

/// Creates the lease of a connection. `number` distinguishes the connection's leases, so that a late
/// notification about an earlier one does not affect this one.
pub(crate) fn of_connection(
    user: &UserId,
    name: &SubscriptionName,
    (node, session, number): (&str, Uuid, u64),
) -> Lease {
    Lease { durable: DurableId::new(user, name), holder: format!("{node}/{session}/{number}") }
}

pub(crate) fn of_client(user: &UserId, name: &SubscriptionName) -> Lease {
    held_by(user, name, Uuid::new_v4())
}

/// Restores the lease that such a client presents. `holder` came from `POST …/subscriptions`.
///
/// # Errors
/// `bad_request` if `holder` is malformed.
pub(crate) fn presented(user: &UserId, name: &SubscriptionName, holder: &str) -> Result<Lease, Failure> {
    let holder = holder.parse().map_err(|_| {
        Failure::bad_request("`holder` must be that of the answer to POST /v1/rooms/{room}/subscriptions")
    })?;
    Ok(held_by(user, name, holder))
}

/// Names the holder without a node, since no node knows whether the client is still there.
fn held_by(user: &UserId, name: &SubscriptionName, holder: Uuid) -> Lease {
    Lease { durable: DurableId::new(user, name), holder: holder.simple().to_string() }
}

/// The leases of this node. They may overlap during a takeover, but Redis accepts only the newest holder's
/// mark.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashSet<(RoomName, Lease)>>);

impl Leases {
    pub(crate) fn insert(&self, room: &RoomName, lease: &Lease) {
        self.0.lock().insert((room.clone(), lease.clone()));
    }

    pub(crate) fn remove(&self, room: &RoomName, lease: &Lease) {
        self.0.lock().remove(&(room.clone(), lease.clone()));
    }

    /// Marks all of them as in use in Redis. Failures can wait for the next time.
    pub(crate) async fn renew(&self, store: &Store) {
        let leases: Vec<(RoomName, Lease)> = self.0.lock().iter().cloned().collect();
        store.renew(&leases).await;
    }
}
