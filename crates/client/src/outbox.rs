//! Decides which message is sent next, and what an answer does. No I/O, no clock.
//!
//! Each room has a lane, in which the messages go one after the other: a message follows only when the one
//! before it is confirmed or refused. So their order holds whatever fails. A message keeps its key, by which
//! the server recognizes it when it comes again. The server forgets keys after a while, so a message that
//! may be stored already is searched for in the history first, if it is known after which id to search.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

use roomlog_protocol::{ErrorCode, Failure, MessageId, RoomName};

use super::frames::Stored;
use super::types::{NewMessage, Published};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// Maximum number of requests that wait for an answer. The server closes a connection for good after 100
/// messages in a row that its rate limit refused, so it is below that.
pub(super) const MAX_IN_FLIGHT: usize = 64;

/// Pause after a temporary refusal that does not name one.
const PAUSE: Duration = Duration::from_secs(1);

/// Number of rooms whose newest confirmed message is remembered while no message waits for them.
const REMEMBERED: usize = 1024;

/// A message that waits, without its room.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub key: Uuid,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    pub data: Box<RawValue>,
}

impl Entry {
    pub fn of(message: &NewMessage) -> Self {
        let data = serde_json::value::to_raw_value(&message.data);
        // A JSON value always serializes.
        Self { key: message.key, kind: message.kind.clone(), data: data.unwrap_or_default() }
    }

    /// Returns the size that counts towards the limit of an outbox, in bytes.
    pub fn size(&self) -> usize {
        self.data.get().len()
    }

    pub fn into_message(self, room: RoomName) -> NewMessage {
        let data = serde_json::from_str(self.data.get()).unwrap_or_default();
        NewMessage { room, data, kind: self.kind, key: self.key }
    }
}

/// The next request to send.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Publish the message.
    Publish(&'a RoomName, &'a Entry),
    /// Read the history after this id.
    Search(&'a RoomName, MessageId),
}

/// A message that has its outcome, with the ticket that came with it.
#[derive(Debug)]
pub(super) struct Settled<T> {
    pub ticket: T,
    pub outcome: Result<Published, Failure>,
}

/// A part of a room's history, in answer to [`Step::Search`].
#[derive(Debug)]
pub(super) struct Found {
    pub messages: Vec<Stored>,
    pub more: bool,
}

#[derive(Debug)]
struct Item<T> {
    entry: Entry,
    ticket: T,
    /// Set once it may be stored without a confirmation.
    is_uncertain: bool,
    /// Position from before it was sent first: if it is stored, then after this. `None` if it is not known,
    /// or if the history may not be read.
    after: Option<MessageId>,
    was_sent: bool,
}

/// The state of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing waits.
    Empty,
    /// Listed in `ready`.
    Ready,
    /// Listed in `paused`.
    Paused,
    Publishing,
    Searching,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<Item<T>>,
    phase: Phase,
    /// Newest confirmed message.
    confirmed: Option<MessageId>,
}

/// All messages that wait. `T` is what comes with a message until it is settled.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    lanes: HashMap<RoomName, Lane<T>>,
    ready: VecDeque<RoomName>,
    paused: BTreeSet<(Instant, RoomName)>,
    /// Nothing is sent before this time: the rate limit is exceeded, and it applies to all rooms.
    blocked_until: Option<Instant>,
    in_flight: usize,
    /// Maximum of `in_flight` for now. It shrinks to 1 when the rate limit is exceeded, and doubles with each
    /// success.
    window: usize,
    len: usize,
}

impl<T> Outbox<T> {
    pub fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            paused: BTreeSet::new(),
            blocked_until: None,
            in_flight: 0,
            window: MAX_IN_FLIGHT,
            len: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a message.
    pub fn push(&mut self, room: RoomName, entry: Entry, ticket: T) {
        let empty = || Lane { waiting: VecDeque::new(), phase: Phase::Empty, confirmed: None };
        let lane = self.lanes.entry(room.clone()).or_insert_with(empty);
        lane.waiting.push_back(Item { entry, ticket, is_uncertain: false, after: None, was_sent: false });
        self.len += 1;
        if lane.phase == Phase::Empty {
            lane.phase = Phase::Ready;
            self.ready.push_back(room);
        }
    }

    /// Returns the next request, which counts as sent. `position` is the id up to which a room was read, if
    /// it is followed.
    pub fn next(
        &mut self,
        now: Instant,
        position: impl FnOnce(&RoomName) -> Option<MessageId>,
    ) -> Option<Step<'_>> {
        if self.blocked_until.is_some_and(|until| now < until) || self.in_flight >= self.window {
            return None;
        }
        self.blocked_until = None;
        while let Some((until, _)) = self.paused.first()
            && *until <= now
            && let Some((_, room)) = self.paused.pop_first()
        {
            self.enter(room, Phase::Ready);
        }
        let room = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&room)?;
        let item = lane.waiting.front_mut()?;
        self.in_flight += 1;
        if item.is_uncertain && item.after.is_some() {
            lane.phase = Phase::Searching;
        } else {
            lane.phase = Phase::Publishing;
            if !item.was_sent {
                item.was_sent = true;
                item.after = lane.confirmed.max(position(&room));
            }
        }
        let (room, lane) = self.lanes.get_key_value(&room)?;
        let item = lane.waiting.front()?;
        match (lane.phase, item.after) {
            (Phase::Searching, Some(after)) => Some(Step::Search(room, after)),
            _ => Some(Step::Publish(room, &item.entry)),
        }
    }

    /// Takes the answer to a [`Step::Publish`]. `chance` (0 to 1) lengthens a pause by up to a quarter.
    pub fn answered(
        &mut self,
        room: &RoomName,
        answer: Result<(MessageId, bool), Failure>,
        now: Instant,
        chance: f64,
    ) -> Option<Settled<T>> {
        let lane = self.landed(room, Phase::Publishing)?;
        match answer {
            Ok((id, duplicate)) => self.confirm(room, id, duplicate),
            Err(failure) if failure.code.is_temporary() => {
                if failure.code != ErrorCode::RateLimited
                    && let Some(item) = lane.waiting.front_mut()
                {
                    // Redis did not confirm, and may have stored it all the same.
                    item.is_uncertain = true;
                }
                self.pause(room, &failure, now, chance);
                None
            }
            Err(failure) => self.settle(room, |_| Err(failure)),
        }
    }

    /// Takes the answer to a [`Step::Search`].
    pub fn searched(
        &mut self,
        room: &RoomName,
        answer: Result<Found, Failure>,
        now: Instant,
        chance: f64,
    ) -> Option<Settled<T>> {
        let lane = self.landed(room, Phase::Searching)?;
        let item = lane.waiting.front_mut()?;
        match answer {
            Ok(Found { messages, more }) => {
                if let Some(own) = messages.iter().find(|stored| stored.key == item.entry.key) {
                    return self.confirm(room, own.id, true);
                }
                item.after = messages.last().map(|stored| stored.id).or(item.after);
                // An empty page with more to come would be asked for without end.
                item.is_uncertain = more && !messages.is_empty();
                self.enter(room.clone(), Phase::Ready);
            }
            Err(failure) if failure.code.is_temporary() => self.pause(room, &failure, now, chance),
            Err(_) => {
                // A client that may write and not read has only the server's memory of keys.
                item.after = None;
                self.enter(room.clone(), Phase::Ready);
            }
        }
        None
    }

    /// Notes that no answer will come to what was sent. It is sent again.
    pub fn disconnected(&mut self) {
        self.in_flight = 0;
        for (room, lane) in &mut self.lanes {
            if !matches!(lane.phase, Phase::Publishing | Phase::Searching) {
                continue;
            }
            if let Some(item) = lane.waiting.front_mut() {
                item.is_uncertain |= lane.phase == Phase::Publishing;
            }
            lane.phase = Phase::Ready;
            self.ready.push_back(room.clone());
        }
    }

    /// Returns the time at which [`next`](Self::next) may return more, if nothing else happens.
    pub fn wake_at(&self) -> Option<Instant> {
        if self.in_flight >= self.window {
            return None;
        }
        let paused = self.paused.first().map(|(until, _)| *until);
        match self.blocked_until {
            Some(until) if !self.ready.is_empty() => Some(until),
            Some(until) => paused.map(|paused| paused.max(until)),
            None => paused,
        }
    }

    /// Takes all messages out, in the order of each room.
    pub fn drain(&mut self) -> Vec<(RoomName, Entry, T)> {
        let lanes = std::mem::replace(self, Self::new()).lanes;
        let items = lanes.into_iter().flat_map(|(room, lane)| {
            lane.waiting.into_iter().map(move |item| (room.clone(), item.entry, item.ticket))
        });
        items.collect()
    }

    /// Returns the lane of an answer that is awaited.
    fn landed(&mut self, room: &RoomName, phase: Phase) -> Option<&mut Lane<T>> {
        let lane = self.lanes.get_mut(room).filter(|lane| lane.phase == phase)?;
        self.in_flight -= 1;
        Some(lane)
    }

    fn enter(&mut self, room: RoomName, phase: Phase) {
        if let Some(lane) = self.lanes.get_mut(&room) {
            lane.phase = phase;
            if phase == Phase::Ready {
                self.ready.push_back(room);
            }
        }
    }

    /// The rate limit applies to the user, so everything waits. Otherwise the room does: its part of Redis
    /// may be the only one that is away.
    fn pause(&mut self, room: &RoomName, failure: &Failure, now: Instant, chance: f64) {
        let asked = failure.retry_after_ms.map_or(PAUSE, Duration::from_millis);
        let until = now + asked.mul_f64(1.0 + chance / 4.0);
        if failure.code == ErrorCode::RateLimited {
            self.window = 1;
            self.blocked_until = self.blocked_until.max(Some(until));
            self.enter(room.clone(), Phase::Ready);
        } else {
            self.enter(room.clone(), Phase::Paused);
            self.paused.insert((until, room.clone()));
        }
    }

    fn confirm(&mut self, room: &RoomName, id: MessageId, duplicate: bool) -> Option<Settled<T>> {
        self.window = (self.window * 2).min(MAX_IN_FLIGHT);
        if let Some(lane) = self.lanes.get_mut(room) {
            // The newest one, also if Redis has lost messages and ids have gone back.
            lane.confirmed = Some(id);
        }
        self.settle(room, |key| Ok(Published { id, key, duplicate }))
    }

    fn settle(
        &mut self,
        room: &RoomName,
        outcome: impl FnOnce(Uuid) -> Result<Published, Failure>,
    ) -> Option<Settled<T>> {
        let lane = self.lanes.get_mut(room)?;
        let item = lane.waiting.pop_front()?;
        self.len -= 1;
        if lane.waiting.is_empty() {
            lane.phase = Phase::Empty;
            if self.lanes.len() > REMEMBERED {
                self.lanes.remove(room);
            }
        } else {
            self.enter(room.clone(), Phase::Ready);
        }
        Some(Settled { outcome: outcome(item.entry.key), ticket: item.ticket })
    }
}
