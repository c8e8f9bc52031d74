//! The names and ids of the protocol as types: parsed once, at the edge, and never checked again inside.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Maximum length of a room name, in bytes.
pub const MAX_ROOM_NAME: usize = 128;

/// Maximum length of the name of a durable subscription, in bytes.
pub const MAX_SUBSCRIPTION_NAME: usize = 64;

/// Maximum length of a user name, in bytes. It becomes part of Redis keys and of consumer group names.
pub const MAX_USER_ID: usize = 256;

/// First character of the rooms that servers keep for themselves.
const INTERNAL: char = '.';

/// The fault in a name or an id, in words for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub &'static str);

/// A room's name: `[A-Za-z0-9@][A-Za-z0-9._:@-]{0,127}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a room that servers keep for themselves, by purpose and name. Clients cannot name it.
    pub fn internal(purpose: &str, name: &str) -> Self {
        Self(format!("{INTERNAL}{purpose}{INTERNAL}{name}").into())
    }

    /// Returns the internal room with this full name, or `None` if it is not the name of one.
    pub fn internal_named(name: &str) -> Option<Self> {
        name.starts_with(INTERNAL).then(|| Self(name.into()))
    }

    /// Returns the purpose of an internal room, or `None` for a room of clients.
    pub fn purpose(&self) -> Option<&str> {
        self.0.strip_prefix(INTERNAL)?.split(INTERNAL).next()
    }

    /// Returns whether servers keep this room for themselves.
    pub fn is_internal(&self) -> bool {
        self.0.starts_with(INTERNAL)
    }

    /// Returns the user whose inbox this room is (`@<user>`), or `None` if it is not an inbox.
    pub fn inbox_of(&self) -> Option<&str> {
        self.0.strip_prefix('@')
    }
}

impl FromStr for RoomName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const RULE: InvalidId = InvalidId(
            "a room name is 1 to 128 of A-Z a-z 0-9 . _ : @ - and begins with a letter, a digit or @",
        );
        let bytes = text.as_bytes();
        let first = *bytes.first().ok_or(RULE)?;
        let rest_is_fine = bytes[1..].iter().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(b));
        if bytes.len() <= MAX_ROOM_NAME && (first.is_ascii_alphanumeric() || first == b'@') && rest_is_fine {
            Ok(Self(text.into()))
        } else {
            Err(RULE)
        }
    }
}

/// The authenticated user (`sub` of the token). Any text of 1 to 256 bytes without control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Returns the sender of a server's own messages.
    pub fn internal(purpose: &str) -> Self {
        Self(purpose.into())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = !text.is_empty() && text.len() <= MAX_USER_ID;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId("a user is 1 to 256 bytes of text without control characters"))
        }
    }
}

/// The name of a durable subscription: `[A-Za-z0-9._-]{1,64}`, unique for a user and room.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionName(Arc<str>);

impl SubscriptionName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubscriptionName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=MAX_SUBSCRIPTION_NAME).contains(&text.len());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId("a durable subscription's name is 1 to 64 of A-Z a-z 0-9 . _ -"))
        }
    }
}

/// Implements printing and serde for types that hold an `Arc<str>` and are parsed with [`FromStr`].
macro_rules! text_of {
    ($($name:ident),*) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(super) use text_of;

text_of!(RoomName, UserId, SubscriptionName);

/// A message's id, `<ms>-<seq>`, which is also its entry's id in the Redis Stream. Ordered as Redis orders
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MessageId {
    /// Unix time in milliseconds. It never decreases within a room.
    pub ms: u64,
    /// The room's own counter: 1, 2, 3 … without a hole.
    pub seq: u64,
}

impl MessageId {
    /// Exclusive upper bound of both parts: time until the year 10889, and the integers that Redis's
    /// functions count exactly.
    const BOUND: Self = Self { ms: 1 << 48, seq: 1 << 53 };

    /// The position before the first message of any room: `0-0`.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };

    /// Creates an id from its parts: Unix milliseconds and the room's counter.
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Returns the smallest id that the message after this one can have.
    pub const fn successor(self) -> Self {
        Self { ms: self.ms, seq: self.seq.saturating_add(1) }
    }

    /// Returns the greatest position directly before this message: one that it follows without a hole.
    pub const fn predecessor(self) -> Self {
        Self { ms: self.ms, seq: self.seq.saturating_sub(1) }
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;

    /// Parses `<ms>-<seq>`, and `0` as [`MessageId::ZERO`].
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const RULE: InvalidId = InvalidId(
            "an id is <ms>-<seq>, two decimal numbers below 2^48 and 2^53, such as 1700000000000-42",
        );
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let number = |part: &str| {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                part.parse::<u64>().map_err(|_| RULE)
            } else {
                Err(RULE)
            }
        };
        let (ms, seq) = text.split_once('-').ok_or(RULE)?;
        let id = Self { ms: number(ms)?, seq: number(seq)? };
        if id.ms < Self::BOUND.ms && id.seq < Self::BOUND.seq { Ok(id) } else { Err(RULE) }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names_follow_the_rule() {
        for good in ["a", "chat.general", "@ann", "A-b:c@d_e.f", "9", &"x".repeat(128)] {
            assert!(good.parse::<RoomName>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "a{b", "ä", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<RoomName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn subscription_names_follow_the_rule() {
        for good in ["phone", "a.b-c_9", &"x".repeat(64)] {
            assert!(good.parse::<SubscriptionName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a@b", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<SubscriptionName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_parse_what_they_print_and_sort_as_numbers() {
        let id = MessageId::new(1_700_000_000_000, 42);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(MessageId::new(5, 9) < MessageId::new(5, 10));
        assert!(MessageId::new(5, 10) < MessageId::new(6, 1));
        assert_eq!("0".parse(), Ok(MessageId::ZERO));
        let greatest = MessageId::new((1 << 48) - 1, (1 << 53) - 1);
        assert_eq!(greatest.to_string().parse(), Ok(greatest));
        for bad in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "+1-2",
            "1-x",
            "99999999999999999999-1",
            "281474976710656-1",
            "1-9007199254740992",
        ] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
        }
    }
}
