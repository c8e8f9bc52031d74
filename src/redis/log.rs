//! The log's own operations: append, read, and where a room's newest id is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use uuid::Uuid;

use super::durability::Durability;
use super::store::{Command, Store};
use crate::log::{Appended, Entry, Page, Unavailable};
use crate::protocol::frame::Message;
use crate::protocol::request::Draft;
use crate::protocol::{Data, MessageId, RoomName, UserId};
use crate::telemetry::RedisCall;

/// Probes in a node's room of them.
const PROBES: i64 = 16;

/// For how long a room of probes stays after the last one.
const PROBES_STAY: Duration = Duration::from_secs(300);

/// For how long their keys are remembered: nobody sends one again.
const PROBES_KNOWN_FOR: Duration = Duration::from_secs(10);

/// Messages for one room that are appended together, each with its sender.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The room.
    pub room: RoomName,
    /// Whether this node hears the room's bell, and so need not be told by it.
    pub heard: bool,
    /// The messages in order.
    pub messages: Vec<(UserId, Draft)>,
}

impl Store {
    /// Appends batches, all of rooms of this link, in one round trip. For each batch, what became of its messages, in
    /// order. A batch is appended whole or not at all; one whose outcome is unknown may be sent again, since a known
    /// key is not appended twice.
    pub async fn append(&self, link: usize, batches: &[Batch]) -> Vec<Result<Vec<Appended>, Unavailable>> {
        let waits = self.options.durability == Durability::Replica;
        let mut commands = Vec::with_capacity(batches.len() * 2);
        for batch in batches {
            commands.push((&batch.room, self.append_command(batch)));
            if waits {
                commands.push((&batch.room, self.wait()));
            }
        }
        let replies = self.run_many(link, commands).await;
        let stride = if waits { 2 } else { 1 };
        replies
            .chunks(stride)
            .zip(batches)
            .map(|(replies, batch)| {
                if waits && !matches!(replies[1], Ok(Value::Integer(1..))) {
                    return Err(Unavailable);
                }
                appended(replies[0].clone()?, batch.messages.len())
            })
            .collect()
    }

    fn append_command(&self, batch: &Batch) -> Command {
        let room = &batch.room;
        let window = if room.is_canary() { PROBES_KNOWN_FOR } else { self.options.deduplication_window };
        let window = Value::from(window.as_millis() as i64);
        let ears = Value::from(i64::from(batch.heard));
        let messages = batch.messages.iter().flat_map(|(from, draft)| {
            [
                Value::Bytes(Bytes::copy_from_slice(draft.key.as_bytes())),
                Value::from(i64::from(draft.new_key)),
                Value::from(from.as_str()),
                Value::from(draft.kind.as_str()),
                Value::Bytes(draft.data.as_bytes().clone()),
            ]
        });
        self.function(
            RedisCall::Append,
            "append",
            self.keys.log(room),
            [window, ears].into_iter().chain(messages),
        )
    }

    /// The newest ids of rooms of any links.
    ///
    /// # Errors
    /// If any of them cannot be had.
    pub async fn heads(&self, rooms: &[RoomName]) -> Result<Vec<MessageId>, Unavailable> {
        let mut heads = vec![MessageId::ZERO; rooms.len()];
        for link in 0..self.links() {
            let indexes: Vec<usize> =
                (0..rooms.len()).filter(|index| self.link_of(&rooms[*index]) == link).collect();
            // Replies stay small, and no other command waits for long behind these.
            for indexes in indexes.chunks(512) {
                let commands =
                    indexes.iter().map(|index| (&rooms[*index], self.head_command(&rooms[*index])));
                let replies = self.run_many(link, commands.collect()).await;
                for (index, reply) in indexes.iter().zip(replies) {
                    heads[*index] = self.head_of(&rooms[*index], reply?).await?;
                }
            }
        }
        Ok(heads)
    }

    /// The entries after a position, oldest first, at most `limit`; with [`Page::head`] read before them.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn read_after(
        &self,
        room: &RoomName,
        after: MessageId,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let range = [
            Value::from(self.keys.log(room)),
            Value::from(format!("({after}")),
            Value::from("+"),
            Value::from("COUNT"),
            Value::from(limit as i64),
        ];
        let (head, entries) = self.read(room, Command::new(RedisCall::Read, "XRANGE", range)).await?;
        let complete = entries.len() < limit;
        Ok(Page { after, entries, head, complete })
    }

    /// The newest entries before an id (all, where there is none), oldest first, at most `limit`; and the head.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn read_before(
        &self,
        room: &RoomName,
        before: Option<MessageId>,
        limit: usize,
    ) -> Result<(MessageId, Vec<Arc<Entry>>), Unavailable> {
        let range = [
            Value::from(self.keys.log(room)),
            Value::from(before.map_or("+".to_owned(), |id| format!("({id}"))),
            Value::from("-"),
            Value::from("COUNT"),
            Value::from(limit as i64),
        ];
        let (head, mut entries) = self.read(room, Command::new(RedisCall::Read, "XREVRANGE", range)).await?;
        entries.reverse();
        Ok((head, entries))
    }

    async fn read(
        &self,
        room: &RoomName,
        range: Command,
    ) -> Result<(MessageId, Vec<Arc<Entry>>), Unavailable> {
        let replies = self.run(room, [self.head_command(room), range.clone()]).await?;
        let [head, mut entries] = replies.try_into().map_err(|_| Unavailable)?;
        let head = match known_head(&head) {
            Some(head) => head,
            None => {
                // Asked for after the entries were read, and a first message may have come in between: a head that is newer
                // than they are would say that they are lost.
                let head = self.last_id(room).await?;
                if head != MessageId::ZERO {
                    entries = self.run_one(room, range).await?;
                }
                head
            }
        };
        Ok((head, entries.into_array().into_iter().filter_map(|value| entry(room, value)).collect()))
    }

    /// Reads a node's own probe back, and keeps its room small and short-lived.
    ///
    /// # Errors
    /// If Redis cannot be reached, or the log does not have the probe.
    pub async fn read_probe(&self, room: &RoomName, id: MessageId) -> Result<(), Unavailable> {
        let (log, head) = (self.keys.log(room), self.keys.head(room));
        let at = Value::from(id.to_string());
        let stay = Value::from(PROBES_STAY.as_millis() as i64);
        let commands = [
            Command::new(RedisCall::Read, "XRANGE", [Value::from(log.as_str()), at.clone(), at]),
            Command::new(RedisCall::Trim, "XTRIM", [log.as_str().into(), "MAXLEN".into(), PROBES.into()]),
            Command::new(RedisCall::Trim, "PEXPIRE", [log.into(), stay.clone()]),
            Command::new(RedisCall::Trim, "PEXPIRE", [head.into(), stay]),
        ];
        let replies = self.run(room, commands).await?;
        let found = replies.into_iter().next().map(Value::into_array).unwrap_or_default();
        if found.is_empty() { Err(Unavailable) } else { Ok(()) }
    }

    fn head_command(&self, room: &RoomName) -> Command {
        let args = [Value::from(self.keys.head(room)), Value::from("ms"), Value::from("seq")];
        Command::new(RedisCall::Head, "HMGET", args)
    }

    /// The id in a reply to `HMGET ms seq`; where the head is missing, the stream's own last id.
    async fn head_of(&self, room: &RoomName, reply: Value) -> Result<MessageId, Unavailable> {
        match known_head(&reply) {
            Some(head) => Ok(head),
            None => self.last_id(room).await,
        }
    }

    /// The last id of a room's stream, for a room without a head: one without messages, or whose head was lost.
    async fn last_id(&self, room: &RoomName) -> Result<MessageId, Unavailable> {
        let log = self.keys.log(room);
        let exists =
            self.run_one(room, Command::new(RedisCall::Head, "EXISTS", [Value::from(log.as_str())])).await?;
        if exists.as_u64() != Some(1) {
            return Ok(MessageId::ZERO);
        }
        let args = [Value::from("STREAM"), Value::from(log)];
        let info = self.run_one(room, Command::new(RedisCall::Head, "XINFO", args)).await?;
        let last = field(info, "last-generated-id").and_then(|id| id.as_str().and_then(|id| id.parse().ok()));
        last.ok_or(Unavailable)
    }
}

/// The id in a reply to `HMGET ms seq`, if there is a head.
fn known_head(reply: &Value) -> Option<MessageId> {
    let Value::Array(values) = reply else { return None };
    let [ms, seq] = &values[..] else { return None };
    Some(MessageId::new(ms.as_u64()?, seq.as_u64()?))
}

/// The value of a field in a reply of names and values.
fn field(reply: Value, name: &str) -> Option<Value> {
    let mut values = reply.into_array().into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        if key.as_str().as_deref() == Some(name) {
            return Some(value);
        }
    }
    None
}

fn appended(reply: Value, expected: usize) -> Result<Vec<Appended>, Unavailable> {
    let ids: Vec<Appended> = reply
        .into_array()
        .iter()
        .filter_map(|id| {
            let text = id.as_str()?;
            let known = text.strip_prefix('=');
            let id = known.unwrap_or(&text).parse().ok()?;
            Some(Appended { id, duplicate: known.is_some() })
        })
        .collect();
    if ids.len() == expected { Ok(ids) } else { Err(Unavailable) }
}

/// An entry of `XRANGE`. What something else wrote into the stream is read as far as it can be: skipping it would be a
/// hole.
fn entry(room: &RoomName, value: Value) -> Option<Arc<Entry>> {
    let [id, fields] = value.into_array().try_into().ok()?;
    let mut parts = [None, None, None, None];
    let mut fields = fields.into_array().into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let place = match name.as_str().as_deref() {
            Some("key") => 0,
            Some("from") => 1,
            Some("type") => 2,
            Some("data") => 3,
            _ => continue,
        };
        parts[place] = value.into_bytes();
    }
    let id = id.as_str()?.parse().ok()?;
    Some(Arc::new(Entry::new(message(room, id, parts.each_ref().map(Option::as_deref)))))
}

/// A message from its stored parts: key, from, type and data. Copies them: a slice would keep the whole reply in memory.
pub(super) fn message(room: &RoomName, id: MessageId, parts: [Option<&[u8]>; 4]) -> Message {
    let [key, from, kind, data] = parts;
    let text = |part: Option<&[u8]>| part.map(|text| String::from_utf8_lossy(text).into_owned());
    Message {
        room: room.clone(),
        id,
        key: key.and_then(|key| Uuid::from_slice(key).ok()).unwrap_or_default(),
        from: text(from).unwrap_or_default(),
        kind: text(kind).unwrap_or_else(|| crate::protocol::request::DEFAULT_TYPE.into()),
        data: data
            .and_then(|data| Data::from_msgpack(Bytes::copy_from_slice(data)).ok())
            .unwrap_or(Data::NIL),
    }
}
