//! The durable subscriptions that connections and event streams of this node hold, to be noted in Redis as in use now and then:
//! one that its user follows does not expire, however quiet its room is.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::hub::Holding;
use crate::protocol::RoomName;
use crate::redis::Store;

/// What is held. Holders may overlap, where one takes a subscription over: only the newest one's notes count in Redis.
#[derive(Debug, Default)]
pub struct Held(Mutex<HashSet<(RoomName, Holding)>>);

impl Held {
    /// A subscription is held.
    pub fn insert(&self, room: &RoomName, holding: &Holding) {
        self.0.lock().insert((room.clone(), holding.clone()));
    }

    /// It is held so no more.
    pub fn remove(&self, room: &RoomName, holding: &Holding) {
        self.0.lock().remove(&(room.clone(), holding.clone()));
    }

    /// Notes in Redis that all of it is in use. For what cannot be noted, the next time is early enough.
    pub async fn renew(&self, store: &Store) {
        let held: Vec<(RoomName, Holding)> = self.0.lock().iter().cloned().collect();
        let held: Vec<_> =
            held.iter().map(|(room, Holding { group, holder })| (room, group, holder.as_str())).collect();
        store.renew(&held).await;
    }
}
