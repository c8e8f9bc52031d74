//! Positions that Redis computes from a room's log, without sending its messages.

use fred::types::Value;

use super::log::epoch;
use super::store::Store;
use crate::log::{Epoch, Position, Unavailable};
use crate::protocol::{MessageId, RoomName};
use crate::telemetry::RedisCall;

impl Store {
    /// Returns the position before the newest `count` messages of a room, or before the oldest if there are
    /// fewer.
    pub async fn before_last(&self, room: &RoomName, count: usize) -> Result<MessageId, Unavailable> {
        let (mut left, mut position) = (count as u64, "+".to_owned());
        loop {
            let args = [left.to_string(), position].map(Value::from);
            let command = self.function(RedisCall::Read, "before_last", self.keys.log(room), args);
            let reply = self.run_one(room, command).await?.into_array();
            let [reached, still] = &reply[..] else { return Err(Unavailable) };
            let reached = reached.as_str().ok_or(Unavailable)?;
            match still.as_u64() {
                Some(0) => return reached.parse().map_err(|_| Unavailable),
                // Each call counts at least one message, so the loop ends.
                Some(still) if still < left => (left, position) = (still, reached.into_owned()),
                _ => return Err(Unavailable),
            }
        }
    }

    /// Returns the current epoch of a room's log, and the newest id that it shares with the history in which
    /// a position was read. The id is `None` if the log has the position.
    pub(super) async fn fork(
        &self,
        room: &RoomName,
        position: Position,
    ) -> Result<(Epoch, Option<MessageId>), Unavailable> {
        let args = [position.id.to_string(), format!("{:016x}", position.epoch.0)].map(Value::from);
        let command = self.function(RedisCall::Read, "locate", self.keys.log(room), args);
        let reply = self.run_one(room, command).await?.into_array();
        let text = |index: usize| reply.get(index).and_then(Value::as_str);
        let epoch = text(0).and_then(|name| epoch(&name)).ok_or(Unavailable)?;
        let fork = text(1).map(|id| id.parse().map_err(|_| Unavailable)).transpose()?;
        Ok((epoch, fork))
    }
}
