//! The durable subscriptions that connections of this node hold, to be noted in Redis as in use now and then: one that its
//! user is connected to does not expire, however quiet its room is.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::hub::Holding;
use crate::protocol::RoomName;
use crate::redis::Group;

/// What is held, by room and subscription, and by which connection.
#[derive(Debug, Default)]
pub struct Held(Mutex<HashMap<(RoomName, Group), String>>);

impl Held {
    /// A connection holds a subscription.
    pub fn insert(&self, room: &RoomName, holding: &Holding) {
        self.0.lock().insert((room.clone(), holding.group.clone()), holding.holder.clone());
    }

    /// It holds it no more, unless another one does by now.
    pub fn remove(&self, room: &RoomName, holding: &Holding) {
        let key = (room.clone(), holding.group.clone());
        let mut held = self.0.lock();
        if held.get(&key).is_some_and(|holder| *holder == holding.holder) {
            held.remove(&key);
        }
    }

    /// All that is held.
    pub fn all(&self) -> Vec<(RoomName, Holding)> {
        let held = self.0.lock();
        held.iter()
            .map(|((room, group), holder)| {
                (room.clone(), Holding { group: group.clone(), holder: holder.clone() })
            })
            .collect()
    }
}
