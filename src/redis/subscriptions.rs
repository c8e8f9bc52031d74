//! Durable subscriptions: positions that outlive connections, and which connection holds each.

use std::collections::{BTreeMap, HashMap};

use fred::types::Value;

use super::store::{Command, Store};
use crate::log::Unavailable;
use crate::protocol::{MessageId, RoomName, SubscriptionName, UserId};
use crate::telemetry::RedisCall;

/// A durable subscription's name within its room: `<user>/<name>`, also its consumer group's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(String);

impl Group {
    /// The group of a user's subscription.
    pub fn new(user: &UserId, name: &SubscriptionName) -> Self {
        Self(format!("{user}/{name}"))
    }

    /// The group as it is called in Redis.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// User and name. A user may contain a slash, a name may not.
    pub fn parts(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl From<String> for Group {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Where a durable subscription starts when it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachAt {
    /// At the stored position; at the room's newest id where there is none.
    Stored,
    /// At the stored position; at this id where there is none.
    StoredOr(MessageId),
    /// At this id, whatever is stored.
    Id(MessageId),
    /// With what is new, whatever is stored.
    New,
    /// With the oldest entry, whatever is stored.
    Oldest,
}

/// Why a durable subscription was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAttached {
    /// Redis cannot be reached.
    Unavailable,
    /// It is new, and Redis is nearly full.
    Full,
    /// It is new, and the user has made too many.
    TooFast,
    /// It is new, and the user has as many of this room as one may have.
    TooMany,
    /// No message can have the id at which it is to start.
    NoSuchPosition,
}

impl From<Unavailable> for NotAttached {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// A durable subscription that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// All up to here is acknowledged.
    pub position: MessageId,
    /// The room's newest id.
    pub head: MessageId,
    /// Whether there was none before.
    pub created: bool,
}

/// A durable subscription as Redis has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Whose, and its name.
    pub group: Group,
    /// All up to here is acknowledged.
    pub position: MessageId,
    /// When it was last used, in Unix ms of Redis's clock.
    pub used: u64,
    /// Who holds it: a connection, as `<node>/<session>/<number>`, or a client without one, by a name that has no node.
    pub holder: Option<String>,
}

impl Stored {
    /// The node of the connection that holds it.
    pub fn node(&self) -> Option<&str> {
        self.holder.as_deref().and_then(|holder| holder.split_once('/')).map(|(node, _)| node)
    }

    fn parse(group: String, value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let position = words.next()?.parse().ok()?;
        let used = words.next()?.parse().ok()?;
        let holder = words.next().filter(|holder| *holder != "-").map(str::to_owned);
        Some(Self { group: group.into(), position, used, holder })
    }
}

/// An acknowledgement to write.
#[derive(Debug, Clone)]
pub struct Ack {
    /// The room.
    pub room: RoomName,
    /// Which durable subscription.
    pub group: Group,
    /// By whom.
    pub holder: String,
    /// All up to and including each of these is handled; newest first. Where Redis lost some, the others count.
    pub ids: Vec<MessageId>,
}

/// Subscriptions in one call: Redis runs it as a whole, some 5 µs each.
const IN_ONE_CALL: usize = 256;

/// The calls for these subscriptions: each of one room, with the indexes of its subscriptions.
fn calls<'a, T>(all: &'a [T], room: impl Fn(&'a T) -> &'a RoomName) -> Vec<(&'a RoomName, Vec<usize>)> {
    let mut rooms: HashMap<&RoomName, Vec<usize>> = HashMap::new();
    for (index, one) in all.iter().enumerate() {
        rooms.entry(room(one)).or_default().push(index);
    }
    let parts = |(room, indexes): (&'a RoomName, Vec<usize>)| {
        indexes.chunks(IN_ONE_CALL).map(|part| (room, part.to_vec())).collect::<Vec<_>>()
    };
    rooms.into_iter().flat_map(parts).collect()
}

/// The outcome for each subscription, by the replies to these calls: whether its holder still has it.
fn outcomes(
    calls: &[(&RoomName, Vec<usize>)],
    replies: Vec<Result<Value, Unavailable>>,
) -> Vec<Result<bool, Unavailable>> {
    let mut outcomes = vec![Err(Unavailable); calls.iter().map(|(_, indexes)| indexes.len()).sum()];
    for ((_, indexes), reply) in calls.iter().zip(replies) {
        let held = reply.map(Value::into_array).unwrap_or_default();
        for (index, held) in indexes.iter().zip(held) {
            outcomes[*index] = Ok(held.as_u64() == Some(1));
        }
    }
    outcomes
}

/// Ids as functions read them.
fn joined(ids: &[MessageId]) -> String {
    ids.iter().map(MessageId::to_string).collect::<Vec<_>>().join(",")
}

impl Store {
    /// Makes somebody the holder of a durable subscription, which is created where it is new. Whoever held it is told
    /// through the bell.
    ///
    /// # Errors
    /// If Redis cannot be reached; or if it is new, and Redis has no room for it, the caller does not want that, or the user
    /// has `most` of this room.
    pub async fn attach(
        &self,
        room: &RoomName,
        group: &Group,
        holder: &str,
        at: AttachAt,
        may_create: bool,
        most: usize,
    ) -> Result<Attached, NotAttached> {
        let (start, replaces) = match at {
            AttachAt::Stored => ("$".to_owned(), "0"),
            AttachAt::StoredOr(id) => (id.to_string(), "0"),
            AttachAt::Id(id) => (id.to_string(), "1"),
            AttachAt::New => ("$".to_owned(), "1"),
            AttachAt::Oldest => ("0".to_owned(), "1"),
        };
        const FULL: &str = "full";
        const TOO_FAST: &str = "too fast";
        let no_new = match may_create {
            true if self.is_full(room) => FULL,
            true => "",
            false => TOO_FAST,
        };
        let most = most.to_string();
        let args = [group.as_str(), holder, &start, replaces, no_new, &most].map(Value::from);
        let reply =
            self.run_one(room, self.function(RedisCall::Attach, "attach", self.keys.log(room), args)).await?;
        match reply.as_str().as_deref() {
            Some(FULL) => return Err(NotAttached::Full),
            Some(TOO_FAST) => return Err(NotAttached::TooFast),
            Some("many") => return Err(NotAttached::TooMany),
            Some("bad") => return Err(NotAttached::NoSuchPosition),
            _ => {}
        }
        let reply = reply.into_array();
        let id = |at: usize| reply.get(at)?.as_str()?.parse().ok();
        let (Some(position), Some(head)) = (id(0), id(1)) else { return Err(NotAttached::Unavailable) };
        let created = reply.get(2).and_then(Value::as_u64) == Some(1);
        self.note(room);
        Ok(Attached { position, head, created })
    }

    /// Writes acknowledgements: those of a room together, the rooms of a shard in few round trips, and the shards at the same
    /// time. For each, whether the connection still holds the subscription; where it does not, the position has not moved.
    pub async fn acknowledge(&self, acks: &[Ack]) -> Vec<Result<bool, Unavailable>> {
        let calls = calls(acks, |ack| &ack.room);
        let commands = calls.iter().map(|(room, indexes)| {
            let args = indexes.iter().flat_map(|index| {
                let Ack { group, holder, ids, .. } = &acks[*index];
                [group.as_str(), holder, &joined(ids)].map(Value::from)
            });
            (*room, self.function(RedisCall::Ack, "ack", self.keys.log(room), args))
        });
        let replies = self.run_each(commands.collect()).await;
        calls
            .iter()
            .zip(&replies)
            .filter(|(_, reply)| reply.is_ok())
            .for_each(|((room, _), _)| self.note(room));
        outcomes(&calls, replies)
    }

    /// Gives a durable subscription up, if this holder still has it, and moves its position to the last acknowledged ids, newest
    /// first, in the same step. Whether it had it; where ids are given, also if it was given up there before.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn detach(
        &self,
        room: &RoomName,
        group: &Group,
        holder: &str,
        acked: &[MessageId],
    ) -> Result<bool, Unavailable> {
        let args = [group.as_str(), holder, &joined(acked)].map(Value::from);
        let command = self.function(RedisCall::Attach, "detach", self.keys.log(room), args);
        let reply = self.run_one(room, command).await?;
        self.note(room);
        Ok(reply.as_u64() == Some(1))
    }

    /// Notes that durable subscriptions are in use, each of a room, a group and the holder that must still have it. Sends them
    /// as [`Store::acknowledge`] does. For each, whether the holder still has it.
    pub async fn renew(&self, held: &[(&RoomName, &Group, &str)]) -> Vec<Result<bool, Unavailable>> {
        let calls = calls(held, |(room, ..)| room);
        let commands = calls.iter().map(|(room, indexes)| {
            let args = indexes.iter().flat_map(|index| {
                let (_, group, holder) = held[*index];
                [group.as_str(), holder].map(Value::from)
            });
            (*room, self.function(RedisCall::Attach, "renew", self.keys.subs(room), args))
        });
        outcomes(&calls, self.run_each(commands.collect()).await)
    }

    /// Deletes a durable subscription and its position; the connection that holds it is told through the bell. Whether
    /// there was one.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn forget(&self, room: &RoomName, group: &Group) -> Result<bool, Unavailable> {
        let args = [Value::from(group.as_str())];
        let command = self.function(RedisCall::Manage, "forget", self.keys.log(room), args);
        let reply = self.run_one(room, command).await?;
        self.note(room);
        Ok(reply.as_u64() == Some(1))
    }

    /// Deletes durable subscriptions that were not used since `before_ms`, and returns them. Looks at some only: whether it
    /// looked at as many as it may, so that there may be more.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn expire(&self, room: &RoomName, before_ms: u64) -> Result<(Vec<Group>, bool), Unavailable> {
        const AT_ONCE: usize = 256;
        let args = [Value::from(before_ms.to_string()), Value::from(AT_ONCE as i64)];
        let command = self.function(RedisCall::Manage, "expire", self.keys.log(room), args);
        let reply = self.run_one(room, command).await?;
        let [looked_at, gone] = reply.into_array().try_into().map_err(|_| Unavailable)?;
        let gone: Vec<String> = gone.convert().unwrap_or_default();
        Ok((gone.into_iter().map(Group::from).collect(), looked_at.as_usize() == Some(AT_ONCE)))
    }

    /// The durable subscriptions whose positions are before a `seq`, with their positions, the furthest behind first; at most
    /// `limit`.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn behind(
        &self,
        room: &RoomName,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<(Group, MessageId)>, Unavailable> {
        let args = [Value::from(seq.to_string()), Value::from(limit as i64)];
        let command = self.function(RedisCall::Manage, "behind", self.keys.log(room), args);
        let pairs: Vec<(String, String)> = self.run_one(room, command).await?.convert().unwrap_or_default();
        let parsed = pairs.into_iter().filter_map(|(group, id)| Some((Group::from(group), id.parse().ok()?)));
        Ok(parsed.collect())
    }

    /// Some of a room's durable subscriptions, about `limit`, in the order of their names, and where to go on; `None` at the
    /// end. A cursor is that of the answer before, 0 at the start. Each that is there throughout is found at least once.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn subscriptions(
        &self,
        room: &RoomName,
        mut cursor: u64,
        limit: usize,
    ) -> Result<(Vec<Stored>, Option<u64>), Unavailable> {
        let mut found = BTreeMap::new();
        loop {
            let from = [self.keys.subs(room), cursor.to_string(), "COUNT".into(), limit.to_string()];
            let command = Command::new(RedisCall::Manage, "HSCAN", from.map(Value::from));
            let reply = self.run_one(room, command).await?;
            let [next, pairs] = reply.into_array().try_into().map_err(|_| Unavailable)?;
            let pairs: Vec<(String, String)> = pairs.convert().unwrap_or_default();
            found.extend(pairs);
            cursor = next.as_u64().ok_or(Unavailable)?;
            if cursor == 0 || found.len() >= limit {
                break;
            }
        }
        let all = found.into_iter().filter_map(|(group, value)| Stored::parse(group, &value)).collect();
        Ok((all, (cursor != 0).then_some(cursor)))
    }
}
