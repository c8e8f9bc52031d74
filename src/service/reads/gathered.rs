//! Read positions that wait to be written: the newest of each user and room. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::protocol::{MessageId, RoomName, UserId};

/// Maximum number of positions that wait. Redis takes that many within a second; more wait only if it cannot
/// be reached.
const MOST: usize = 100_000;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Position<W> {
    pub id: MessageId,
    /// Callbacks of clients that wait until it is written.
    pub waiting: Vec<W>,
}

#[derive(Debug)]
pub(super) struct Gathered<W> {
    positions: HashMap<(RoomName, UserId), Position<W>>,
    /// True while a client waits for the next write.
    awaited: bool,
    /// Writes in progress.
    writing: usize,
}

impl<W> Default for Gathered<W> {
    fn default() -> Self {
        Self { positions: HashMap::new(), awaited: false, writing: 0 }
    }
}

impl<W> Gathered<W> {
    /// Returns whether a position of this user and room can be added, or too many wait.
    pub(super) fn has_room(&self, room: &RoomName, user: &UserId) -> bool {
        self.positions.len() < MOST || self.positions.contains_key(&(room.clone(), user.clone()))
    }

    pub(super) fn note(&mut self, room: RoomName, user: UserId, position: Position<W>) {
        self.awaited |= !position.waiting.is_empty();
        match self.positions.entry((room, user)) {
            Entry::Occupied(mut earlier) => {
                let earlier = earlier.get_mut();
                earlier.id = earlier.id.max(position.id);
                earlier.waiting.extend(position.waiting);
            }
            Entry::Vacant(place) => {
                place.insert(position);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Returns whether nothing waits or is being written.
    pub(super) fn is_idle(&self) -> bool {
        self.positions.is_empty() && self.writing == 0
    }

    /// Takes all positions. Call [`Gathered::written`] afterwards.
    pub(super) fn take(&mut self) -> Vec<(RoomName, UserId, Position<W>)> {
        self.writing += 1;
        self.awaited = false;
        self.positions.drain().map(|((room, user), position)| (room, user, position)).collect()
    }

    /// Records the end of a write, and keeps the positions that failed for the next one. If too many wait,
    /// they are dropped: clients send their newest position again when they reconnect.
    pub(super) fn written(&mut self, failed: Vec<(RoomName, UserId, Position<W>)>) {
        self.writing -= 1;
        for (room, user, position) in failed {
            if self.has_room(&room, &user) {
                self.note(room, user, position);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn position(seq: u64, waiting: &[u8]) -> Position<u8> {
        Position { id: MessageId::new(1, seq), waiting: waiting.to_vec() }
    }

    /// Returns `false` if there is no room.
    fn note(gathered: &mut Gathered<u8>, user: &str, position: Position<u8>) -> bool {
        let (room, user) = ("chat".parse().unwrap(), user.parse().unwrap());
        let has_room = gathered.has_room(&room, &user);
        if has_room {
            gathered.note(room, user, position);
        }
        has_room
    }

    #[test]
    fn the_newest_position_of_a_user_is_written_for_all_who_wait() {
        let mut gathered = Gathered::default();
        for (seq, waiting) in [(3, &[1][..]), (5, &[]), (4, &[2])] {
            assert!(note(&mut gathered, "ann", position(seq, waiting)));
        }
        assert!(gathered.is_awaited());
        let taken = gathered.take();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].2, position(5, &[1, 2]));
        assert!(gathered.is_empty() && !gathered.is_awaited() && !gathered.is_idle());
        gathered.written(Vec::new());
        assert!(gathered.is_idle());
    }

    #[test]
    fn a_failed_position_never_replaces_a_newer_one() {
        let mut gathered = Gathered::default();
        assert!(note(&mut gathered, "ann", position(3, &[])));
        let taken = gathered.take();
        assert!(note(&mut gathered, "ann", position(7, &[])));
        gathered.written(taken);
        assert_eq!(gathered.take()[0].2, position(7, &[]));
    }

    #[test]
    fn the_number_of_waiting_positions_is_bounded() {
        let mut gathered = Gathered::default();
        for user in 0..MOST {
            assert!(note(&mut gathered, &user.to_string(), position(1, &[])));
        }
        assert!(!note(&mut gathered, "late", position(1, &[])));
        assert!(note(&mut gathered, "7", position(2, &[])), "a newer position of the same user replaces it");
    }
}
