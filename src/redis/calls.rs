//! Grouping of many small writes into few calls of functions: one for each room, of bounded size.

use std::collections::HashMap;

use crate::protocol::RoomName;

/// Maximum number of items in one call. Redis runs a call as a whole, at about 5 µs for each item.
const IN_ONE_CALL: usize = 256;

/// Groups items into calls: each for one room, with the indexes of its items.
pub(super) fn calls<'a, T>(
    all: &'a [T],
    room: impl Fn(&'a T) -> &'a RoomName,
) -> Vec<(&'a RoomName, Vec<usize>)> {
    let mut rooms: HashMap<&RoomName, Vec<usize>> = HashMap::new();
    for (index, one) in all.iter().enumerate() {
        rooms.entry(room(one)).or_default().push(index);
    }
    let parts = |(room, indexes): (&'a RoomName, Vec<usize>)| {
        indexes.chunks(IN_ONE_CALL).map(|part| (room, part.to_vec())).collect::<Vec<_>>()
    };
    rooms.into_iter().flat_map(parts).collect()
}
