//! Management of rooms: measuring, listing, trimming and deleting.

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::store::Store;
use crate::log::retention::{Plan, RoomFacts};
use crate::log::{Cut, Unavailable};
use crate::protocol::{MessageId, RoomName};
use crate::telemetry::RedisCall;

/// The position of a listing of rooms: a primary, and Redis's own cursor there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomCursor {
    node: usize,
    cursor: String,
}

impl RoomCursor {
    pub fn of_shard(node: usize) -> Self {
        Self { node, ..Self::default() }
    }

    pub fn is_of_shard(&self, node: usize) -> bool {
        self.node == node
    }

    pub fn text(&self) -> String {
        format!("{}.{}", self.node, self.cursor)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (node, cursor) = text.split_once('.')?;
        cursor.parse::<u64>().ok()?;
        Some(Self { node: node.parse().ok()?, cursor: cursor.into() })
    }
}

impl Store {
    pub async fn facts(&self, room: &RoomName) -> Result<RoomFacts, Unavailable> {
        let command = self.function(RedisCall::Manage, "look", self.keys.log(room), []);
        let reply = self.run_one(room, command).await?;
        let [now, head, first, length, bytes, subscriptions, lowest, used] =
            reply.into_array().try_into().map_err(|_| Unavailable)?;
        let id = |value: Value| value.as_str().and_then(|id| id.parse::<MessageId>().ok());
        Ok(RoomFacts {
            now_ms: now.as_u64().ok_or(Unavailable)?,
            head: id(head).ok_or(Unavailable)?,
            first: id(first),
            length: length.as_u64().unwrap_or_default(),
            bytes: bytes.as_u64().unwrap_or_default(),
            subscriptions: subscriptions.as_u64().unwrap_or_default(),
            lowest: id(lowest),
            used_ms: used.as_u64(),
        })
    }

    /// Carries out a plan that was made when the room's newest id was `head`, in steps that leave Redis time
    /// for other commands. Returns the number of entries removed, and the oldest that is left.
    pub async fn trim(
        &self,
        room: &RoomName,
        plan: &Plan,
        head: MessageId,
    ) -> Result<(u64, Option<MessageId>), Unavailable> {
        let args = [
            plan.keep_length.map_or(String::new(), |length| length.to_string()),
            head.seq.to_string(),
            plan.before.map_or(String::new(), |id| id.to_string()),
        ];
        let mut removed = 0;
        loop {
            let args = args.clone().map(Value::from);
            let command = self.function(RedisCall::Trim, "trim", self.keys.log(room), args);
            let reply = self.run_one(room, command).await?;
            let [gone, first, done] = reply.into_array().try_into().map_err(|_| Unavailable)?;
            removed += gone.as_u64().unwrap_or_default();
            if done.as_u64() == Some(1) {
                return Ok((removed, first.as_str().and_then(|id| id.parse().ok())));
            }
        }
    }

    /// Deletes a room if it is empty and has had no new message since its newest id was `head`. Returns true
    /// if it was deleted.
    pub async fn delete_if_empty(&self, room: &RoomName, head: MessageId) -> Result<bool, Unavailable> {
        let args = [Value::from(head.to_string())];
        let command = self.function(RedisCall::Trim, "delete_if_empty", self.keys.log(room), args);
        Ok(self.run_one(room, command).await?.as_u64() == Some(1))
    }

    /// Deletes one message. Nodes that have it in memory are notified through the room's channel. Returns the
    /// cut if the message existed.
    pub async fn delete_message(&self, room: &RoomName, id: MessageId) -> Result<Option<Cut>, Unavailable> {
        let command =
            self.function(RedisCall::Manage, "delete_message", self.keys.log(room), [id.to_string().into()]);
        let reply = self.run_one(room, command).await?.into_array();
        let [before, name, after] = &reply[..] else { return Ok(None) };
        let cut = || {
            let before = before.as_str()?.parse().ok()?;
            Some(Cut { before, name: name.as_u64()?, after: after.as_u64()? })
        };
        cut().map(Some).ok_or(Unavailable)
    }

    /// Deletes a room and all that belongs to it. Its subscribers are notified through its channel. Returns
    /// its newest id if it existed.
    pub async fn delete_room(&self, room: &RoomName) -> Result<Option<MessageId>, Unavailable> {
        let window = Value::from(self.options.deduplication_window.as_millis() as i64);
        let command = self.function(RedisCall::Manage, "delete", self.keys.log(room), [window]);
        Ok(self.run_one(room, command).await?.as_str().and_then(|head| head.parse().ok()))
    }

    /// Returns some of the rooms, in no order, and the cursor to continue from; `None` at the end. Each room
    /// that exists throughout is found at least once. One with durable subscriptions may be found twice.
    pub async fn rooms(&self, from: &RoomCursor) -> Result<(Vec<RoomName>, Option<RoomCursor>), Unavailable> {
        let shards = self.shards.map().serving();
        let shard = shards.get(from.node).ok_or(Unavailable)?;
        let cursor = if from.cursor.is_empty() { "0" } else { &from.cursor };
        let pattern = self.keys.every_room();
        let args = [cursor, "MATCH", &pattern, "COUNT", "1000"].map(Value::from).to_vec();
        let scan = CustomCommand::new_static("SCAN", ClusterHash::Random, false);
        let reply: Value = shard.client()?.custom(scan, args).await.map_err(|error| {
            tracing::warn!(%error, "rooms cannot be listed");
            Unavailable
        })?;
        let [cursor, keys] = reply.into_array().try_into().map_err(|_| Unavailable)?;
        let rooms = keys.into_array().iter().filter_map(|key| self.keys.room_of(&key.as_str()?)).collect();
        let cursor = cursor.into_string().ok_or(Unavailable)?;
        let next = if cursor != "0" {
            Some(RoomCursor { node: from.node, cursor })
        } else if from.node + 1 < shards.len() {
            Some(RoomCursor { node: from.node + 1, cursor: "0".into() })
        } else {
            None
        };
        Ok((rooms, next))
    }
}
