//! Checks ids that clients name against the newest message of a room.

use std::sync::Arc;

use crate::hub::Hub;
use crate::protocol::{Failure, MessageId, RoomName};
use crate::redis::Store;

pub struct Heads {
    store: Arc<Store>,
    hub: Arc<Hub>,
}

impl Heads {
    pub fn new(store: Arc<Store>, hub: Arc<Hub>) -> Self {
        Self { store, hub }
    }

    /// Returns whether this node has seen the room up to this id.
    pub fn is_known(&self, room: &RoomName, id: MessageId) -> bool {
        self.hub.active(room).is_some_and(|room| id <= room.position())
    }

    /// Checks that an id is not beyond the room's newest message.
    ///
    /// # Errors
    /// `bad_request` if it is, `unavailable` if that cannot be determined.
    pub async fn check(&self, room: &RoomName, id: MessageId) -> Result<(), Failure> {
        if !self.is_known(room, id) && id > self.store.head(room).await?.id {
            return Err(Failure::bad_request("`id` is beyond the newest message of the room"));
        }
        Ok(())
    }
}
