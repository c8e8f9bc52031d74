//! Read positions of users, and the unread counts computed from them.

use fred::types::Value;

use super::calls::calls;
use super::store::Store;
use crate::log::{ReadState, Unavailable};
use crate::protocol::{MessageId, RoomName, UserId};
use crate::telemetry::RedisCall;

/// A user has read a room up to this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadUpTo {
    pub room: RoomName,
    pub user: UserId,
    pub id: MessageId,
}

impl Store {
    /// Moves read positions forward; never back. Those of a room are sent together, the rooms of a shard in
    /// few round trips, the shards concurrently.
    pub async fn read_up_to(&self, reads: &[ReadUpTo]) -> Vec<Result<(), Unavailable>> {
        let calls = calls(reads, |read| &read.room);
        let commands = calls.iter().map(|(room, indexes)| {
            let args = indexes.iter().flat_map(|index| {
                let ReadUpTo { user, id, .. } = &reads[*index];
                [Value::from(user.as_str()), Value::from(id.to_string())]
            });
            (*room, self.function(RedisCall::Read, "read_up_to", self.keys.log(room), args))
        });
        let replies = self.run_each(commands.collect()).await;
        let mut outcomes = vec![Err(Unavailable); reads.len()];
        for ((_, indexes), reply) in calls.iter().zip(replies) {
            indexes
                .iter()
                .for_each(|index| outcomes[*index] = reply.as_ref().map(drop).map_err(|error| *error));
        }
        outcomes
    }

    /// Returns how far a user has read each of these rooms, in the same order.
    pub async fn read_states(
        &self,
        rooms: &[RoomName],
        user: &UserId,
    ) -> Vec<Result<ReadState, Unavailable>> {
        let commands = rooms.iter().map(|room| {
            let args = [Value::from(user.as_str())];
            (room, self.function(RedisCall::Read, "unread", self.keys.log(room), args))
        });
        self.run_each(commands.collect()).await.into_iter().map(|reply| parse(reply?)).collect()
    }
}

fn parse(reply: Value) -> Result<ReadState, Unavailable> {
    let [head, read, unread] = reply.into_array().try_into().map_err(|_| Unavailable)?;
    let id = |value: &Value| value.as_str()?.parse().ok();
    Ok(ReadState {
        head: id(&head).ok_or(Unavailable)?,
        read: id(&read),
        unread: unread.as_u64().ok_or(Unavailable)?,
    })
}
