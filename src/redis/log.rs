//! Operations on the log: append, read, and look up a room's head.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use uuid::Uuid;

use super::shards::Shard;
use super::store::{Command, Failure, Store, slot_of};
use crate::log::internal;
use crate::log::{Appended, Entry, Epoch, Head, Page, Position, Unavailable};
use crate::protocol::frame::Message;
use crate::protocol::request::Draft;
use crate::protocol::{Data, MessageId, RoomName, UserId};
use crate::tasks::planted;
use crate::telemetry::RedisCall;

const PROBES: i64 = 16;

const PROBES_STAY: Duration = Duration::from_secs(300);

/// Time that the keys of probes are remembered: none is ever sent again.
const PROBES_KNOWN_FOR: Duration = Duration::from_secs(10);

fn is_probe(room: &RoomName) -> bool {
    room.purpose() == Some(internal::PROBES)
}

#[derive(Debug, Clone)]
pub struct Batch {
    pub room: RoomName,
    /// True if this node is subscribed to the room's channel. Redis skips the live copy if no other node is:
    /// the reply is enough for this one.
    pub subscribed: bool,
    pub messages: Vec<(UserId, Draft)>,
}

#[derive(Debug, Clone)]
pub struct AppendedBatch {
    pub epoch: Epoch,
    /// The id before its first new message.
    pub after: MessageId,
    pub messages: Vec<Appended>,
}

impl Store {
    /// Appends batches, all of rooms of one shard and one lane, in one round trip. Returns the outcome of
    /// each batch, in order. A batch is appended whole or not at all. One whose outcome is unknown may be
    /// sent again, since a known key is not appended twice.
    pub async fn append(&self, shard: &Arc<Shard>, batches: &[Batch]) -> Vec<Result<AppendedBatch, Failure>> {
        let commands: Vec<_> =
            batches.iter().map(|batch| (slot_of(&batch.room), self.append_command(batch))).collect();
        let Some((slot, _)) = commands.first() else { return Vec::new() };
        // Probes do not wait for a replica: a node without one still serves everything but publishes.
        let (link, probes) = (shard.link(*slot), batches.iter().any(|batch| is_probe(&batch.room)));
        let replies = if self.wire.waits() && probes {
            let (probes, appends): (Vec<usize>, Vec<usize>) =
                (0..batches.len()).partition(|index| is_probe(&batches[*index].room));
            let part = |part: &[usize]| part.iter().map(|index| commands[*index].clone()).collect::<Vec<_>>();
            let (probe_commands, append_commands) = (part(&probes), part(&appends));
            let (probed, appended) = tokio::join!(
                self.wire.send(shard, link, &probe_commands),
                self.wire.append(shard, shard.append_link(*slot), &append_commands)
            );
            let mut replies: Vec<_> =
                probes.into_iter().zip(probed).chain(appends.into_iter().zip(appended)).collect();
            replies.sort_by_key(|(index, _)| *index);
            replies.into_iter().map(|(_, reply)| reply).collect()
        } else {
            self.wire.append(shard, shard.append_link(*slot), &commands).await
        };
        // Whatever the outcome: a batch with an unknown outcome may be in the log.
        batches.iter().for_each(|batch| self.note(&batch.room));
        replies
            .into_iter()
            .zip(batches)
            .map(|(reply, batch)| {
                stored(reply?, batch.messages.len()).map_err(|Unavailable| Failure::Unavailable)
            })
            .collect()
    }

    fn append_command(&self, batch: &Batch) -> Command {
        let room = &batch.room;
        let window = if is_probe(room) { PROBES_KNOWN_FOR } else { self.options.deduplication_window };
        let window = Value::from(window.as_millis() as i64);
        let subscribed = Value::from(i64::from(batch.subscribed));
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
            [window, subscribed].into_iter().chain(messages),
        )
    }

    /// Returns the head of each of these rooms, on any shards. The failure of one does not affect the others.
    pub async fn heads(&self, rooms: &[RoomName]) -> Vec<Result<Head, Unavailable>> {
        let commands = rooms.iter().map(|room| (room, self.head_command(room))).collect();
        let mut heads: Vec<Result<Option<Head>, Unavailable>> = self
            .run_each(commands)
            .await
            .into_iter()
            .map(|reply| reply.map(|reply| known_head(&reply)))
            .collect();
        let headless: Vec<usize> = (0..rooms.len()).filter(|index| heads[*index] == Ok(None)).collect();
        if !headless.is_empty() {
            let last = self.last_ids(headless.iter().map(|index| &rooms[*index]).collect()).await;
            for (index, last) in headless.into_iter().zip(last) {
                heads[index] = last.map(Some);
            }
        }
        heads.into_iter().map(|head| head.map(Option::unwrap_or_default)).collect()
    }

    pub async fn head(&self, room: &RoomName) -> Result<Head, Unavailable> {
        self.heads(std::slice::from_ref(room)).await.pop().unwrap_or(Err(Unavailable))
    }

    /// Reads at most `limit` entries after a position, oldest first. Where the log does not have the
    /// position, the page begins at the fork.
    pub async fn read_after(
        &self,
        room: &RoomName,
        after: Position,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        // Before the first message of a log that may have been replaced meanwhile, with earlier times.
        let start = if after.id.seq == 0 { MessageId::ZERO } else { after.id };
        let after = Position { id: start, ..after };
        let page = self.read_from(room, after, start.to_string(), limit + 1).await?;
        if has_position(&page) || planted!(ReadAsksNoFork) {
            return Ok(without_position(page));
        }
        let (epoch, fork) = self.fork(room, after).await?;
        let page = match fork {
            None => without_position(page),
            Some(fork) => {
                let page = self.read_from(room, fork.into(), fork.to_string(), limit + 1).await?;
                Page { after, fork: Some(fork), ..without_position(page) }
            }
        };
        // Otherwise an epoch began in between, and the page is from another history than the requested one.
        if page.head.epoch == epoch { Ok(page) } else { Box::pin(self.read_after(room, after, limit)).await }
    }

    /// Reads at most `limit` entries from a time on, in Unix ms, oldest first; 0 reads from the start. The
    /// page begins right before its first entry.
    pub async fn read_since(&self, room: &RoomName, ms: u64, limit: usize) -> Result<Page, Unavailable> {
        let page = self.read_from(room, Position::default(), ms.to_string(), limit).await?;
        let after = page.entries.first().map_or(page.head.id, |first| first.id().predecessor());
        let after = if after.seq == 0 { MessageId::ZERO } else { after };
        Ok(Page { after: after.into(), ..page })
    }

    async fn read_from(
        &self,
        room: &RoomName,
        after: Position,
        start: String,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let range = [
            Value::from(self.keys.log(room)),
            Value::from(start),
            Value::from("+"),
            Value::from("COUNT"),
            Value::from(limit as i64),
        ];
        let (head, entries) = self.read(room, Command::new(RedisCall::Read, "XRANGE", range)).await?;
        let complete = entries.len() < limit;
        Ok(Page { after, fork: None, entries, head, complete })
    }

    /// Returns at most `limit` of the newest entries before an id (of all entries without one), oldest first,
    /// and the head.
    pub async fn read_before(
        &self,
        room: &RoomName,
        before: Option<MessageId>,
        limit: usize,
    ) -> Result<(Head, Vec<Arc<Entry>>), Unavailable> {
        let range = [
            Value::from(self.keys.log(room)),
            Value::from(match before {
                None => "+".to_owned(),
                // Nothing precedes it, and Redis rejects such an interval.
                Some(MessageId::ZERO) => MessageId::ZERO.to_string(),
                Some(id) => format!("({id}"),
            }),
            Value::from("-"),
            Value::from("COUNT"),
            Value::from(limit as i64),
        ];
        let (head, mut entries) = self.read(room, Command::new(RedisCall::Read, "XREVRANGE", range)).await?;
        entries.reverse();
        Ok((head, entries))
    }

    async fn read(&self, room: &RoomName, range: Command) -> Result<(Head, Vec<Arc<Entry>>), Unavailable> {
        let epoch = [Value::from(self.keys.head(room)), Value::from("epoch")];
        let epoch = Command::new(RedisCall::Head, "HGET", epoch);
        let mut commands = [self.head_command(room), range.clone(), epoch];
        if planted!(HeadAfterEntries) {
            commands.swap(0, 1);
        }
        let replies = self.run(room, commands).await?;
        let [mut head, mut entries, epoch] = replies.try_into().map_err(|_| Unavailable)?;
        if planted!(HeadAfterEntries) {
            std::mem::swap(&mut head, &mut entries);
        }
        let epoch = epoch.as_str().and_then(|name| self::epoch(&name)).unwrap_or_default();
        let head = match known_head(&head) {
            Some(head) if head.epoch == epoch => head,
            // An epoch began in between. That happens once only.
            _ if epoch != Epoch::UNKNOWN => return Box::pin(self.read(room, range)).await,
            Some(head) => head,
            None => {
                // Read after the entries, and a first message may have been appended in between. A head newer
                // than the entries would make them look lost.
                let head = self.last_ids(vec![room]).await.pop().unwrap_or(Err(Unavailable))?;
                if head != Head::default() {
                    entries = self.run_one(room, range).await?;
                }
                head
            }
        };
        Ok((head, entries.into_array().into_iter().filter_map(|value| entry(room, value)).collect()))
    }

    /// Reads a node's own probe back, and keeps its room small and short-lived.
    ///
    /// # Errors Also if the log does not have the probe.
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
        let head = self.keys.head(room);
        let args = [head.as_str(), "ms", "seq", "epoch", "cut"].map(Value::from);
        Command::new(RedisCall::Head, "HMGET", args)
    }

    /// Returns the last ids of rooms' streams, for rooms without a head: those without messages, or whose
    /// head was lost.
    async fn last_ids(&self, rooms: Vec<&RoomName>) -> Vec<Result<Head, Unavailable>> {
        let ask = |room, name, before: Option<&str>| {
            let args = before.map(Value::from).into_iter().chain([Value::from(self.keys.log(room))]);
            (room, Command::new(RedisCall::Head, name, args))
        };
        let exist = self.run_each(rooms.iter().map(|room| ask(*room, "EXISTS", None)).collect()).await;
        let mut last: Vec<_> = exist
            .iter()
            .map(|exists| exists.as_ref().map(|_| Head::default()).map_err(|Unavailable| Unavailable))
            .collect();
        let there: Vec<usize> = (0..rooms.len())
            .filter(|index| exist[*index].as_ref().is_ok_and(|exists| exists.as_u64() == Some(1)))
            .collect();
        let infos = there.iter().map(|index| ask(rooms[*index], "XINFO", Some("STREAM"))).collect();
        for (index, info) in there.into_iter().zip(self.run_each(infos).await) {
            last[index] = info.and_then(|info| {
                let id = field(info, "last-generated-id");
                let id = id.and_then(|id| id.as_str()?.parse().ok()).ok_or(Unavailable)?;
                Ok(Head { id, ..Head::default() })
            });
        }
        last
    }
}

fn known_head(reply: &Value) -> Option<Head> {
    let Value::Array(values) = reply else { return None };
    let [ms, seq, epoch, cut] = &values[..] else { return None };
    let id = match (ms.as_u64()?, seq.as_u64()?) {
        (_, 0) => MessageId::ZERO,
        (ms, seq) => MessageId::new(ms, seq),
    };
    let epoch = epoch.as_str().and_then(|name| self::epoch(&name)).unwrap_or_default();
    Some(Head { id, epoch, cut: cut.as_u64().unwrap_or_default() })
}

pub(super) fn epoch(name: &str) -> Option<Epoch> {
    u64::from_str_radix(name, 16).ok().map(Epoch)
}

/// Returns true if a page that was read from its position on proves that the log has the position.
fn has_position(page: &Page) -> bool {
    let Position { id, epoch } = page.after;
    // The server itself lets readers begin right before an entry.
    let is_there = match page.entries.first().map(|entry| entry.id()) {
        Some(first) => first == id || first == id.successor(),
        None => page.head.id == id,
    };
    id.seq == 0 || (is_there && epoch.agrees(page.head.epoch))
}

fn without_position(mut page: Page) -> Page {
    if page.entries.first().is_some_and(|first| first.id() == page.after.id) {
        page.entries.remove(0);
    }
    page
}

fn field(reply: Value, name: &str) -> Option<Value> {
    let mut values = reply.into_array().into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        if key.as_str().as_deref() == Some(name) {
            return Some(value);
        }
    }
    None
}

fn stored(reply: Value, expected: usize) -> Result<AppendedBatch, Unavailable> {
    let mut parts =
        reply.into_array().into_iter().filter_map(|part| part.as_str().map(|text| text.to_string()));
    let epoch = parts.next().and_then(|name| epoch(&name)).ok_or(Unavailable)?;
    let after = parts.next().and_then(|id| id.parse().ok()).ok_or(Unavailable)?;
    let messages: Vec<Appended> = parts
        .filter_map(|text| {
            let known = text.strip_prefix('=');
            let id = known.unwrap_or(&text).parse().ok()?;
            Some(Appended { id, duplicate: known.is_some() })
        })
        .collect();
    if messages.len() == expected { Ok(AppendedBatch { epoch, after, messages }) } else { Err(Unavailable) }
}

/// Decodes an entry of `XRANGE`. Entries that another program wrote are decoded as far as possible: skipping
/// one would be a hole.
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

/// Builds a message from its stored parts: key, from, type and data. Copies them, since a slice would keep
/// the whole reply in memory.
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
