//! Rooms as things to manage: what there is to know of one, listing, deleting, trimming.

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::store::{Command, Store};
use crate::log::retention::{Plan, RoomFacts};
use crate::log::{Cut, Unavailable};
use crate::protocol::{MessageId, RoomName};
use crate::telemetry::RedisCall;

/// Where a listing of rooms goes on: which primary, and Redis's own cursor there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomCursor {
    node: usize,
    cursor: String,
}

impl RoomCursor {
    /// As text for a client to hand back.
    pub fn text(&self) -> String {
        format!("{}.{}", self.node, self.cursor)
    }

    /// Reads what [`RoomCursor::text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, cursor) = text.split_once('.')?;
        cursor.parse::<u64>().ok()?;
        Some(Self { node: node.parse().ok()?, cursor: cursor.into() })
    }
}

impl Store {
    /// Measures a room's log.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn facts(&self, room: &RoomName) -> Result<RoomFacts, Unavailable> {
        let log = self.keys.log(room);
        let command = |name, args: &[&str]| {
            Command::new(RedisCall::Manage, name, args.iter().map(|arg| Value::from(*arg)))
        };
        let commands = [
            command("XLEN", &[&log]),
            command("MEMORY", &["USAGE", &log, "SAMPLES", "16"]),
            command("XRANGE", &[&log, "-", "+", "COUNT", "1"]),
        ];
        let head = self.head(room).await?.id;
        let replies = self.run(room, commands).await?;
        let [length, bytes, first] = replies.try_into().map_err(|_| Unavailable)?;
        let first = first
            .into_array()
            .into_iter()
            .next()
            .and_then(|entry| entry.into_array().first()?.as_str()?.parse().ok());
        Ok(RoomFacts {
            head,
            first,
            length: length.as_u64().unwrap_or_default(),
            bytes: bytes.as_u64().unwrap_or_default(),
        })
    }

    /// Carries out a plan that was made when the room's newest id was `head`. How many entries went, and the oldest that is
    /// left.
    ///
    /// # Errors
    /// If Redis cannot be reached.
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
        let command = self.function(RedisCall::Trim, "trim", self.keys.log(room), args.map(Value::from));
        let reply = self.run_one(room, command).await?;
        let [removed, first] = reply.into_array().try_into().map_err(|_| Unavailable)?;
        let first = first.as_str().and_then(|id| id.parse().ok());
        Ok((removed.as_u64().unwrap_or_default(), first))
    }

    /// Deletes a room in which nothing is left and to which nothing came since its newest id was `head`. Whether it did.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn delete_if_empty(&self, room: &RoomName, head: MessageId) -> Result<bool, Unavailable> {
        let args = [Value::from(head.to_string())];
        let command = self.function(RedisCall::Trim, "delete_if_empty", self.keys.log(room), args);
        Ok(self.run_one(room, command).await?.as_u64() == Some(1))
    }

    /// Deletes one message; nodes that keep it in memory are told through the bell. Returns the cut, if there was such a
    /// message.
    ///
    /// # Errors
    /// If Redis cannot be reached.
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

    /// Deletes a room with all that belongs to it; its subscribers are told through the bell. Its newest
    /// id, if there was such a room.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn delete_room(&self, room: &RoomName) -> Result<Option<MessageId>, Unavailable> {
        let window = Value::from(self.options.deduplication_window.as_millis() as i64);
        let command = self.function(RedisCall::Manage, "delete", self.keys.log(room), [window]);
        Ok(self.run_one(room, command).await?.as_str().and_then(|head| head.parse().ok()))
    }

    /// Some of the rooms, in no order, and where to go on; `None` at the end. Each room that is there throughout is
    /// found at least once.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn rooms(&self, from: &RoomCursor) -> Result<(Vec<RoomName>, Option<RoomCursor>), Unavailable> {
        let shards = self.shards.map().serving();
        let shard = shards.get(from.node).ok_or(Unavailable)?;
        let cursor = if from.cursor.is_empty() { "0" } else { &from.cursor };
        let pattern = self.keys.every_head();
        let args = [cursor, "MATCH", &pattern, "COUNT", "1000"].map(Value::from).to_vec();
        let scan = CustomCommand::new_static("SCAN", ClusterHash::Random, false);
        let reply: Value = shard.client()?.custom(scan, args).await.map_err(|error| {
            tracing::warn!(%error, "rooms cannot be listed");
            Unavailable
        })?;
        let [cursor, keys] = reply.into_array().try_into().map_err(|_| Unavailable)?;
        let rooms =
            keys.into_array().iter().filter_map(|key| self.keys.room_of_head(&key.as_str()?)).collect();
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
