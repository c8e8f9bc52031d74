//! The bell: a shard channel for each room that is active on a node, on which Redis sends live copies of appended messages,
//! signals and notices. It may lose, repeat or reorder: it is an accelerator, and the log is the truth. `ears` listens.

use std::sync::Arc;

use bytes::Bytes;
use fred::types::Value;
use uuid::Uuid;

use super::log::message;
use super::store::Store;
use super::subscriptions::Group;
use crate::log::{Cut, Entry, Run, Unavailable};
use crate::protocol::data::{self, Head};
use crate::protocol::{Data, MessageId, RoomName, UserId};
use crate::telemetry::RedisCall;

/// What the bell says of a room.
#[derive(Debug)]
pub enum Ring {
    /// Messages were appended.
    Messages(Run),
    /// Somebody present has something to say.
    Signal(Signal),
    /// A connection took a durable subscription over.
    Taken {
        /// The subscription.
        group: Group,
        /// Who held it before.
        holder: String,
    },
    /// A durable subscription was deleted.
    Forgotten {
        /// The subscription.
        group: Group,
        /// Who held it.
        holder: String,
    },
    /// Messages were deleted or trimmed.
    Cut(Cut),
    /// The room was deleted, when this was its newest id.
    Deleted(MessageId),
}

/// What happens on the bell's connections.
#[derive(Debug)]
pub enum BellEvent {
    /// A room's bell rang.
    Ring(RoomName, Ring),
    /// Rings may have been lost, of any room.
    Interrupted,
}

/// A signal on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The connection that sent it, which does not get it back.
    pub session: Uuid,
    /// Its user.
    pub from: UserId,
    /// What kind of signal.
    pub kind: String,
    /// Its content.
    pub data: Data,
    /// The one user who shall get it.
    pub to: Option<UserId>,
}

/// Gets what happens on the bell's connections. Must not block.
pub type Ear = Arc<dyn Fn(BellEvent) + Send + Sync>;

impl Store {
    /// Rings a room's bell with a signal.
    ///
    /// # Errors
    /// If Redis cannot be reached.
    pub async fn signal(&self, room: &RoomName, signal: &Signal) -> Result<(), Unavailable> {
        let command = super::store::Command::new(
            RedisCall::Signal,
            "SPUBLISH",
            [Value::from(self.keys.bell(room)), Value::Bytes(encode_signal(signal))],
        );
        self.run_one(room, command).await.map(drop)
    }
}

/// A signal as the bell carries it: an array of `s`, session, from, type, data, and the one it is for.
fn encode_signal(signal: &Signal) -> Bytes {
    let mut out = vec![0x96];
    let mut write = |part: &[u8]| {
        let _infallible = rmp::encode::write_bin(&mut out, part);
    };
    write(b"s");
    write(signal.session.as_bytes());
    write(signal.from.as_str().as_bytes());
    write(signal.kind.as_bytes());
    write(signal.data.as_bytes());
    write(signal.to.as_ref().map_or("", UserId::as_str).as_bytes());
    out.into()
}

/// Reads what rang: a MessagePack array of texts or binaries, the first of which says what it is.
pub(crate) fn ring(room: &RoomName, payload: &Bytes) -> Option<Ring> {
    let parts = parts(payload)?;
    let (kind, parts) = parts.split_first()?;
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
    match (*kind, parts) {
        (b"m", [epoch, after, parts @ ..]) if !parts.is_empty() && parts.len() % 5 == 0 => {
            let entry = |parts: &[&[u8]]| {
                let id = std::str::from_utf8(parts[0]).ok()?.parse().ok()?;
                let fields = [Some(parts[1]), Some(parts[2]), Some(parts[3]), Some(parts[4])];
                Some(Arc::new(Entry::new(message(room, id, fields))))
            };
            Some(Ring::Messages(Run {
                epoch: super::log::epoch(&text(epoch)?)?,
                after: text(after)?.parse().ok()?,
                entries: parts.chunks(5).map(entry).collect::<Option<_>>()?,
            }))
        }
        (b"s", [session, from, kind, data, to]) => Some(Ring::Signal(Signal {
            session: Uuid::from_slice(session).ok()?,
            from: text(from)?.parse().ok()?,
            kind: text(kind)?,
            data: Data::from_msgpack(Bytes::copy_from_slice(data)).ok()?,
            to: if to.is_empty() { None } else { Some(text(to)?.parse().ok()?) },
        })),
        (b"t", [group, holder]) => Some(Ring::Taken { group: text(group)?.into(), holder: text(holder)? }),
        (b"f", [group, holder]) => {
            Some(Ring::Forgotten { group: text(group)?.into(), holder: text(holder)? })
        }
        (b"x", [before, name, after]) => Some(Ring::Cut(Cut {
            before: text(before)?.parse().ok()?,
            name: text(name)?.parse().ok()?,
            after: text(after)?.parse().ok()?,
        })),
        (b"d", [head]) => Some(Ring::Deleted(text(head)?.parse().ok()?)),
        _ => None,
    }
}

fn parts(payload: &[u8]) -> Option<Vec<&[u8]>> {
    let mut input = payload;
    let Ok(Head::Array(count)) = data::read_head(&mut input) else { return None };
    let mut parts = Vec::new();
    for _ in 0..count {
        match data::read_head(&mut input) {
            Ok(Head::Text(length) | Head::Binary(length)) => parts.push(data::take(&mut input, length).ok()?),
            _ => return None,
        }
    }
    Some(parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signal_rings_as_it_was_sent() {
        let signal = Signal {
            session: Uuid::new_v4(),
            from: "ann".parse().unwrap(),
            kind: "typing".into(),
            data: Data::from_json("{\"a\":[1]}").unwrap(),
            to: Some("bob".parse().unwrap()),
        };
        let room = "chat".parse().unwrap();
        for to in [None, signal.to.clone()] {
            let signal = Signal { to, ..signal.clone() };
            let Some(Ring::Signal(heard)) = ring(&room, &encode_signal(&signal)) else { panic!("no signal") };
            assert_eq!(heard, signal);
        }
    }

    proptest! {
        #[test]
        fn anything_may_ring(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ring(&"chat".parse().unwrap(), &payload.into());
        }
    }
}
