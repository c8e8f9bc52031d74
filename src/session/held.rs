//! The durable subscriptions that connections and event streams of this node hold. They are periodically
//! marked as in use in Redis, so that a subscription with a connected user does not expire, however quiet its
//! room is.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::hub::Holding;
use crate::protocol::RoomName;
use crate::redis::Store;

/// The holds of this node. They may overlap during a takeover, but Redis accepts only the newest holder's
/// mark.
#[derive(Debug, Default)]
pub struct Held(Mutex<HashSet<(RoomName, Holding)>>);

impl Held {
    pub fn insert(&self, room: &RoomName, holding: &Holding) {
        self.0.lock().insert((room.clone(), holding.clone()));
    }

    pub fn remove(&self, room: &RoomName, holding: &Holding) {
        self.0.lock().remove(&(room.clone(), holding.clone()));
    }

    /// Marks all of them as in use in Redis. Failures can wait for the next time.
    pub async fn renew(&self, store: &Store) {
        let held: Vec<(RoomName, Holding)> = self.0.lock().iter().cloned().collect();
        let held: Vec<_> =
            held.iter().map(|(room, Holding { group, holder })| (room, group, holder.as_str())).collect();
        store.renew(&held).await;
    }
}
