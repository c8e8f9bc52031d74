//! Rooms as a whole: description, listing and deletion, and deletion of one message.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::auth::{Claims, Permission};
use crate::hub::Hub;
use crate::log::Push;
use crate::protocol::frame::Frame;
use crate::protocol::{Data, ErrorCode, Failure, MessageId, Pattern, RoomName};
use crate::redis::{RoomCursor, RoomFacts, Store};

pub(crate) const KNOW: [Permission; 2] = [Permission::Read, Permission::Manage];

/// Fewest rooms in a page of the listing, if there are that many.
const ROOMS: usize = 100;

/// Scans of Redis for one page. A pattern that few rooms match must not delay the response for long.
const SCANS: usize = 50;

/// The type of the signal that announces a deleted message.
const DELETED: &str = "$deleted";

pub struct Rooms {
    store: Arc<Store>,
    hub: Arc<Hub>,
}

impl Rooms {
    pub fn new(store: Arc<Store>, hub: Arc<Hub>) -> Self {
        Self { store, hub }
    }

    /// Returns the state of a room, and the number of its subscribers on this node.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn describe(&self, caller: &Claims, room: &RoomName) -> Result<(RoomFacts, usize), Failure> {
        caller.require_any(room, &KNOW)?;
        let facts = self.store.facts(room).await?;
        let subscribers = self.hub.subscribers(room);
        if facts.head == MessageId::ZERO && facts.length == 0 && facts.subscriptions == 0 && subscribers == 0
        {
            return Err(no_such_room());
        }
        Ok((facts, subscribers))
    }

    /// Returns some of the rooms that match a pattern, and the cursor to continue from; `None` at the end.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn list(
        &self,
        caller: &Claims,
        pattern: &Pattern,
        mut cursor: RoomCursor,
    ) -> Result<(BTreeSet<RoomName>, Option<RoomCursor>), Failure> {
        caller.require_manage_all()?;
        let mut rooms = BTreeSet::new();
        for _ in 0..SCANS {
            let (found, next) = self.store.rooms(&cursor).await?;
            rooms.extend(found.into_iter().filter(|room| pattern.matches(room)));
            match next {
                None => return Ok((rooms, None)),
                Some(next) => cursor = next,
            }
            if rooms.len() >= ROOMS {
                break;
            }
        }
        Ok((rooms, Some(cursor)))
    }

    /// Deletes a room with all that belongs to it, and ends its subscriptions.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn delete(&self, caller: &Claims, room: &RoomName) -> Result<(), Failure> {
        caller.require(room, Permission::Manage)?;
        let head = self.store.delete_room(room).await?.ok_or_else(no_such_room)?;
        // Ends here immediately, so that the caller finds the room gone. Other nodes are notified over
        // pub/sub.
        self.hub.deleted(room, head);
        Ok(())
    }

    /// Deletes one message. Present subscribers are told; readers that reach its place get a gap.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn delete_message(
        &self,
        caller: &Claims,
        room: &RoomName,
        id: MessageId,
    ) -> Result<(), Failure> {
        caller.require(room, Permission::Manage)?;
        let missing = || Failure::new(ErrorCode::NotFound, "there is no such message in this room");
        let cut = self.store.delete_message(room, id).await?.ok_or_else(missing)?;
        self.hub.evict(room, cut);
        self.announce_deleted(caller, room, id).await;
        Ok(())
    }

    /// Tells present subscribers to stop showing a message. Best effort, as all signals: the message is gone
    /// either way.
    async fn announce_deleted(&self, caller: &Claims, room: &RoomName, id: MessageId) {
        let Ok(data) = Data::from_json(&format!("{{\"id\":\"{id}\"}}")) else { return };
        let (kind, from) = (DELETED.to_owned(), caller.user.clone());
        let frame = Frame::Signal { room: room.clone(), from, kind, data, sys: true };
        if let Err(error) = self.store.push(room, &Push { frame, to: None, except: None }).await {
            tracing::debug!(%room, %id, %error, "subscribers were not told of a deleted message");
        }
    }
}

fn no_such_room() -> Failure {
    Failure::new(ErrorCode::NotFound, "there is no such room")
}
