//! The names of all keys and channels in Redis. Every key of a room has the hash tag `{room}`, so that a room
//! is in one slot of a cluster.

use crate::protocol::RoomName;

#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The stream of a room's messages. Functions derive the room's other names from this one (`of` in
    /// `functions/shared.lua`). The hashes key → id, `keys:<window>`, are named there only.
    pub(super) fn log(&self, room: &RoomName) -> String {
        self.of(room, "log")
    }

    /// A hash with the head: `ms` and `seq` of the room's newest id, and its history.
    pub(super) fn head(&self, room: &RoomName) -> String {
        self.of(room, "head")
    }

    /// A hash of the room's durable subscriptions: `<user>/<name>` → `<position> <last used, Unix ms>
    /// <holder>`. The library of functions derives the names of its indexes from this one.
    pub(super) fn subs(&self, room: &RoomName) -> String {
        self.of(room, "subs")
    }

    /// The sharded pub/sub channel for live copies of appended messages, signals and notices.
    pub(super) fn pubsub(&self, room: &RoomName) -> String {
        self.of(room, "bell")
    }

    /// The pattern that matches the head of every room, and its durable subscriptions, which can exist before
    /// the first message. It matches a few other keys too.
    pub(super) fn every_room(&self) -> String {
        format!("{}{{*}}:[hs][eu][ab][ds]", escape_glob(&self.prefix))
    }

    /// Returns the room of a key that [`Keys::every_room`] matched. Internal rooms give `None`: they are
    /// neither listed nor trimmed.
    pub(super) fn room_of(&self, key: &str) -> Option<RoomName> {
        self.name_in(key, "head").or_else(|| self.name_in(key, "subs"))?.parse().ok()
    }

    /// Returns the room of a channel, including internal rooms.
    pub(super) fn room_of_bell(&self, channel: &str) -> Option<RoomName> {
        let name = self.name_in(channel, "bell")?;
        name.parse().ok().or_else(|| RoomName::internal_named(name))
    }

    fn name_in<'a>(&self, key: &'a str, kind: &str) -> Option<&'a str> {
        let (room, found) = key.strip_prefix(&self.prefix)?.strip_prefix('{')?.rsplit_once("}:")?;
        (found == kind).then_some(room)
    }

    pub(super) fn revocations(&self) -> String {
        format!("{}revocations", self.prefix)
    }

    pub(super) fn janitor(&self) -> String {
        format!("{}janitor", self.prefix)
    }

    /// A queue of rooms for the janitor. A cluster has several, each with its hash tag.
    pub(super) fn due(&self, tag: Option<&str>) -> String {
        tag.map_or_else(|| format!("{}due", self.prefix), |tag| format!("{}due:{{{tag}}}", self.prefix))
    }

    pub(super) fn node(&self, node: &str) -> String {
        format!("{}node:{node}", self.prefix)
    }

    pub(super) fn pattern(&self) -> String {
        format!("{}*", escape_glob(&self.prefix))
    }

    fn of(&self, room: &RoomName, kind: &str) -> String {
        format!("{}{{{room}}}:{kind}", self.prefix)
    }
}

fn escape_glob(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if "*?[]\\^-".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::log::internal::PROBES;

    #[test]
    fn a_room_is_found_in_its_keys() {
        let keys = Keys::new("my:{x}*:");
        let room: RoomName = "chat:a@b".parse().unwrap();
        assert_eq!(keys.room_of_bell(&keys.pubsub(&room)), Some(room.clone()));
        assert_eq!(keys.room_of(&keys.head(&room)), Some(room.clone()));
        assert_eq!(keys.room_of(&keys.subs(&room)), Some(room.clone()));
        assert_eq!(keys.room_of(&keys.log(&room)), None);
        assert_eq!(keys.room_of_bell(&keys.head(&room)), None);
        assert_eq!(keys.room_of_bell("rl:{a}:bell"), None);
        let probes = RoomName::internal(PROBES, "node");
        assert_eq!(keys.room_of_bell(&keys.pubsub(&probes)), Some(probes.clone()));
        assert_eq!(keys.room_of(&keys.head(&probes)), None);
        assert_eq!(keys.every_room(), "my:{x}\\*:{*}:[hs][eu][ab][ds]");
    }
}
