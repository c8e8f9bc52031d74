//! Durable subscriptions: positions that outlive connections, and the holder of each.

use std::collections::BTreeMap;

use fred::types::Value;

use super::calls::calls;
use super::store::{Command, Store};
use crate::log::{AttachAt, Attached, DurableId, Lease, NotAttached, Unavailable};
use crate::protocol::{MessageId, RoomName};
use crate::telemetry::RedisCall;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableRecord {
    pub durable: DurableId,
    pub position: MessageId,
    /// The time of its last use, in Unix ms of Redis's clock.
    pub used: u64,
    /// A connection, as `<node>/<session>/<number>`, or a client without one, by a name that has no node.
    pub holder: Option<String>,
}

impl DurableRecord {
    pub fn node(&self) -> Option<&str> {
        self.holder.as_deref().and_then(|holder| holder.split_once('/')).map(|(node, _)| node)
    }

    fn parse(durable: String, value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let position = words.next()?.parse().ok()?;
        let used = words.next()?.parse().ok()?;
        let holder = words.next().filter(|holder| *holder != "-").map(str::to_owned);
        Some(Self { durable: durable.into(), position, used, holder })
    }
}

#[derive(Debug, Clone)]
pub struct Ack {
    pub room: RoomName,
    pub lease: Lease,
    /// The acknowledged ids, newest first: everything up to and including each is handled. Where Redis lost
    /// some, the others count.
    pub ids: Vec<MessageId>,
}

/// Returns the outcome for each subscription from the replies to these calls: true if its holder still has
/// it.
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

fn joined(ids: &[MessageId]) -> String {
    ids.iter().map(MessageId::to_string).collect::<Vec<_>>().join(",")
}

impl Store {
    /// Takes a lease on a durable subscription, and creates the subscription if it is new. The previous
    /// holder is notified through the room's channel.
    ///
    /// # Errors If the subscription is new, and Redis has no room for it, the caller does not allow that, or
    /// the user has `most` in this room.
    pub async fn attach(
        &self,
        room: &RoomName,
        Lease { durable, holder }: &Lease,
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
        let args = [durable.as_str(), holder, &start, replaces, no_new, &most].map(Value::from);
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

    /// Writes acknowledgements: those of a room together, the rooms of a shard in few round trips, the shards
    /// concurrently. For each, returns true if the holder still has the subscription. Otherwise its position
    /// has not moved.
    pub async fn acknowledge(&self, acks: &[Ack]) -> Vec<Result<bool, Unavailable>> {
        let calls = calls(acks, |ack| &ack.room);
        let commands = calls.iter().map(|(room, indexes)| {
            let args = indexes.iter().flat_map(|index| {
                let Ack { lease: Lease { durable, holder }, ids, .. } = &acks[*index];
                [durable.as_str(), holder, &joined(ids)].map(Value::from)
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

    /// Gives up a durable subscription if this holder still has it, and in the same step moves its position
    /// to the last acknowledged ids, newest first. Returns true if the holder had it; with ids, also if it
    /// was given up at these ids before.
    pub async fn detach(
        &self,
        room: &RoomName,
        Lease { durable, holder }: &Lease,
        acked: &[MessageId],
    ) -> Result<bool, Unavailable> {
        let args = [durable.as_str(), holder, &joined(acked)].map(Value::from);
        let command = self.function(RedisCall::Attach, "detach", self.keys.log(room), args);
        let reply = self.run_one(room, command).await?;
        self.note(room);
        Ok(reply.as_u64() == Some(1))
    }

    /// Marks durable subscriptions as used, if the leases on them are still valid. Sends them as
    /// [`Store::acknowledge`] does. For each, returns true if the holder still has it.
    pub async fn renew(&self, held: &[(RoomName, Lease)]) -> Vec<Result<bool, Unavailable>> {
        let calls = calls(held, |(room, _)| room);
        let commands = calls.iter().map(|(room, indexes)| {
            let args = indexes.iter().flat_map(|index| {
                let (_, Lease { durable, holder }) = &held[*index];
                [durable.as_str(), holder].map(Value::from)
            });
            (*room, self.function(RedisCall::Attach, "renew", self.keys.subs(room), args))
        });
        outcomes(&calls, self.run_each(commands.collect()).await)
    }

    /// Deletes a durable subscription and its position. Its holder is notified through the room's channel.
    /// Returns true if it existed.
    pub async fn forget(&self, room: &RoomName, durable: &DurableId) -> Result<bool, Unavailable> {
        let args = [Value::from(durable.as_str())];
        let command = self.function(RedisCall::Manage, "forget", self.keys.log(room), args);
        let reply = self.run_one(room, command).await?;
        self.note(room);
        Ok(reply.as_u64() == Some(1))
    }

    /// Deletes durable subscriptions that were not used since `before_ms`, and returns them. A call examines
    /// a limited number. The flag is true if it reached that limit, so that there may be more.
    pub async fn expire(
        &self,
        room: &RoomName,
        before_ms: u64,
    ) -> Result<(Vec<DurableId>, bool), Unavailable> {
        const AT_ONCE: usize = 256;
        let args = [Value::from(before_ms.to_string()), Value::from(AT_ONCE as i64)];
        let command = self.function(RedisCall::Manage, "expire", self.keys.log(room), args);
        let reply = self.run_one(room, command).await?;
        let [looked_at, gone] = reply.into_array().try_into().map_err(|_| Unavailable)?;
        let gone: Vec<String> = gone.convert().unwrap_or_default();
        Ok((gone.into_iter().map(DurableId::from).collect(), looked_at.as_usize() == Some(AT_ONCE)))
    }

    /// Returns at most `limit` durable subscriptions whose positions are before a `seq`, with their
    /// positions, the furthest behind first.
    pub async fn behind(
        &self,
        room: &RoomName,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<(DurableId, MessageId)>, Unavailable> {
        let args = [Value::from(seq.to_string()), Value::from(limit as i64)];
        let command = self.function(RedisCall::Manage, "behind", self.keys.log(room), args);
        let pairs: Vec<(String, String)> = self.run_one(room, command).await?.convert().unwrap_or_default();
        let parsed =
            pairs.into_iter().filter_map(|(durable, id)| Some((DurableId::from(durable), id.parse().ok()?)));
        Ok(parsed.collect())
    }

    /// Returns about `limit` of a room's durable subscriptions, ordered by name, and the cursor to continue
    /// from; `None` at the end. The first call takes 0, later ones the cursor of the previous answer. Each
    /// that exists throughout is found at least once.
    pub async fn subscriptions(
        &self,
        room: &RoomName,
        mut cursor: u64,
        limit: usize,
    ) -> Result<(Vec<DurableRecord>, Option<u64>), Unavailable> {
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
        let all =
            found.into_iter().filter_map(|(durable, value)| DurableRecord::parse(durable, &value)).collect();
        Ok((all, (cursor != 0).then_some(cursor)))
    }
}
