//! The rooms that the janitor must look at. Nodes note the rooms in which something happened, and write the
//! notes every few seconds to queues in Redis, ordered by due time. An append cannot do that: in a cluster it
//! touches its own slot only. If a node dies before it writes its notes, the sweep finds those rooms.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fred::types::Value;
use fred::util::redis_keyslot;
use parking_lot::Mutex;

use super::nodes::ms;
use super::store::{Store, slot_of};
use crate::log::Unavailable;
use crate::protocol::RoomName;

/// Number of queues in a cluster. Each serves an equal part of the slots and is itself stored in one of them,
/// so one dead primary stops few others. A single server has one queue.
const QUEUES: u16 = 16;

const SLOTS: u16 = 16_384;

const AT_ONCE: usize = 256;

/// Rooms in which something happened on this node, and that are not written to a queue yet. At most as many
/// as there are active rooms.
pub(super) type Notes = Mutex<HashSet<RoomName>>;

#[derive(Debug)]
pub struct Taken {
    /// The time of taking, in Unix ms of the queue's Redis.
    pub now_ms: u64,
    pub rooms: Vec<RoomName>,
    /// True if more rooms may be due.
    pub more: bool,
    again: String,
}

impl Store {
    /// Notes that something happened in a room: messages were appended, or positions moved.
    pub(super) fn note(&self, room: &RoomName) {
        if !room.is_internal() {
            self.notes.lock().insert(room.clone());
        }
    }

    pub fn queues(&self) -> u16 {
        if self.clustered() { QUEUES } else { 1 }
    }

    fn queue_of(&self, room: &RoomName) -> u16 {
        slot_of(room) / (SLOTS / self.queues())
    }

    fn queue(&self, queue: u16) -> String {
        match self.queues() {
            1 => self.keys.due(None),
            queues => {
                let slots = SLOTS / queues;
                let mut tags = (0..).map(|n: u32| format!("due.{queue}.{n}"));
                let tag = tags.find(|tag| redis_keyslot(tag.as_bytes()) / slots == queue);
                self.keys.due(tag.as_deref())
            }
        }
    }

    /// Writes the notes to the queues. Notes that cannot be written are kept.
    pub async fn write_notes(&self) {
        let noted = std::mem::take(&mut *self.notes.lock());
        self.in_queues("note", noted.into_iter().collect()).await;
    }

    /// Adds rooms to their queues, unless they are in one already. Returns the number added.
    pub async fn enlist(&self, rooms: Vec<RoomName>) -> u64 {
        self.in_queues("enlist", rooms).await
    }

    async fn in_queues(&self, function: &str, rooms: Vec<RoomName>) -> u64 {
        let mut by_queue: HashMap<u16, Vec<RoomName>> = HashMap::new();
        for room in rooms {
            by_queue.entry(self.queue_of(&room)).or_default().push(room);
        }
        let calls = by_queue.into_iter().map(|(queue, rooms)| async move {
            let mut count = 0;
            for part in rooms.chunks(AT_ONCE) {
                let args = part.iter().map(|room| Value::from(room.as_str()));
                match self.agree(function, self.queue(queue), args).await {
                    Ok(reply) => count += reply.as_u64().unwrap_or_default(),
                    Err(Unavailable) => self.notes.lock().extend(part.iter().cloned()),
                }
            }
            count
        });
        futures_util::future::join_all(calls).await.into_iter().sum()
    }

    /// Takes due rooms from a queue. They are due again after `patience`, unless [`Store::settle`] sets
    /// another time.
    pub async fn take_due(&self, queue: u16, patience: Duration) -> Result<Taken, Unavailable> {
        let args = [Value::from(AT_ONCE as i64), ms(patience)];
        let reply = self.agree("take", self.queue(queue), args).await?;
        let [now, again, rooms] = reply.into_array().try_into().map_err(|_| Unavailable)?;
        let rooms: Vec<String> = rooms.convert().unwrap_or_default();
        Ok(Taken {
            now_ms: now.as_u64().ok_or(Unavailable)?,
            again: again.as_string().ok_or(Unavailable)?,
            more: rooms.len() == AT_ONCE,
            rooms: rooms.iter().filter_map(|room| room.parse().ok()).collect(),
        })
    }

    /// Sets when the taken rooms are due next, in Unix ms; `None` for a room that no longer exists.
    pub async fn settle(
        &self,
        queue: u16,
        taken: &Taken,
        looked_at: &[(RoomName, Option<u64>)],
    ) -> Result<(), Unavailable> {
        let next = looked_at.iter().flat_map(|(room, due)| {
            [room.as_str().to_owned(), due.map_or(String::new(), |due| due.to_string())]
        });
        let args = std::iter::once(taken.again.clone()).chain(next).map(Value::from);
        self.agree("settle", self.queue(queue), args).await.map(drop)
    }
}
