//! Notifications: a sharded pub/sub channel for each room that is active on a node. Redis sends live copies
//! of appended messages, signals and notices on it. Notifications may be lost, repeated or reordered: they
//! only save time, and the log is the truth. `pubsub` subscribes.

use std::sync::Arc;

use bytes::Bytes;
use fred::types::Value;
use uuid::Uuid;

use super::log::message;
use super::store::{Command, Store};
use crate::log::{Cut, Entry, Lease, Push, Run, Unavailable};
use crate::protocol::data::{self, Head};
use crate::protocol::frame::Frame;
use crate::protocol::{Data, MessageId, RoomName, UserId};
use crate::telemetry::RedisCall;

#[derive(Debug)]
pub enum Notification {
    Messages(Run),
    Push(Push),
    /// A lease ended because a new holder took over its durable subscription.
    LeaseTaken(Lease),
    /// A lease ended because its durable subscription was deleted.
    LeaseDeleted(Lease),
    Cut(Cut),
    /// The room was deleted. Its newest id was this.
    RoomDeleted(MessageId),
}

#[derive(Debug)]
pub enum PubSubEvent {
    Notification(RoomName, Notification),
    /// Notifications may have been lost, for any room.
    Interrupted,
}

/// Handler of pub/sub events. Must not block.
pub(crate) type OnEvent = Arc<dyn Fn(PubSubEvent) + Send + Sync>;

impl Store {
    pub async fn push(&self, room: &RoomName, push: &Push) -> Result<(), Unavailable> {
        let Some(payload) = encode(push) else {
            tracing::error!(op = push.frame.op(), "this frame cannot be pushed to other nodes");
            return Err(Unavailable);
        };
        let channel = Value::from(self.keys.pubsub(room));
        let command = Command::new(RedisCall::Signal, "SPUBLISH", [channel, Value::Bytes(payload)]);
        self.run_one(room, command).await.map(drop)
    }
}

/// Encodes a push for the channel. A signal is a MessagePack array of `s`, or `S` for one of the server,
/// session, from, type, data and recipient. No other frame is pushed.
fn encode(push: &Push) -> Option<Bytes> {
    let Frame::Signal { from, kind, data, sys, .. } = &push.frame else { return None };
    let mut out = vec![0x96];
    let mut write = |part: &[u8]| {
        let _ = rmp::encode::write_bin(&mut out, part);
    };
    write(if *sys { b"S" } else { b"s" });
    write(push.except.unwrap_or_default().as_bytes());
    write(from.as_str().as_bytes());
    write(kind.as_bytes());
    write(data.as_bytes());
    write(push.to.as_ref().map_or("", UserId::as_str).as_bytes());
    Some(out.into())
}

/// Decodes a notification: a MessagePack array of strings or binaries, the first of which is its kind.
pub(crate) fn decode(room: &RoomName, payload: &Bytes) -> Option<Notification> {
    let parts = parts(payload)?;
    let (tag, parts) = parts.split_first()?;
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
    let lease = |durable, holder| Some(Lease { durable: text(durable)?.into(), holder: text(holder)? });
    match (*tag, parts) {
        (b"m", [epoch, after, parts @ ..]) if !parts.is_empty() && parts.len() % 5 == 0 => {
            let entry = |parts: &[&[u8]]| {
                let id = std::str::from_utf8(parts[0]).ok()?.parse().ok()?;
                let fields = [Some(parts[1]), Some(parts[2]), Some(parts[3]), Some(parts[4])];
                Some(Arc::new(Entry::new(message(room, id, fields))))
            };
            Some(Notification::Messages(Run {
                epoch: super::log::epoch(&text(epoch)?)?,
                after: text(after)?.parse().ok()?,
                entries: parts.chunks(5).map(entry).collect::<Option<_>>()?,
            }))
        }
        (b"s" | b"S", [session, from, kind, data, to]) => Some(Notification::Push(Push {
            frame: Frame::Signal {
                room: room.clone(),
                from: text(from)?.parse().ok()?,
                kind: text(kind)?,
                data: Data::from_msgpack(Bytes::copy_from_slice(data)).ok()?,
                sys: *tag == b"S",
            },
            to: if to.is_empty() { None } else { Some(text(to)?.parse().ok()?) },
            except: Some(Uuid::from_slice(session).ok()?),
        })),
        (b"t", [durable, holder]) => Some(Notification::LeaseTaken(lease(durable, holder)?)),
        (b"f", [durable, holder]) => Some(Notification::LeaseDeleted(lease(durable, holder)?)),
        (b"x", [before, name, after]) => Some(Notification::Cut(Cut {
            before: text(before)?.parse().ok()?,
            name: text(name)?.parse().ok()?,
            after: text(after)?.parse().ok()?,
        })),
        (b"d", [head]) => Some(Notification::RoomDeleted(text(head)?.parse().ok()?)),
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
    fn a_push_arrives_as_it_was_sent() {
        let room: RoomName = "chat".parse().unwrap();
        for (sys, to) in [(false, None), (true, None), (false, Some("bob".parse().unwrap()))] {
            let frame = Frame::Signal {
                room: room.clone(),
                from: "ann".parse().unwrap(),
                kind: "typing".into(),
                data: Data::from_json("{\"a\":[1]}").unwrap(),
                sys,
            };
            let push = Push { frame, to, except: Some(Uuid::new_v4()) };
            let Some(Notification::Push(decoded)) = decode(&room, &encode(&push).unwrap()) else {
                panic!("no push")
            };
            assert_eq!(decoded, push);
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_decoded_or_refused(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&"chat".parse().unwrap(), &payload.into());
        }
    }
}
