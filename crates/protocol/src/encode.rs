//! Encodes frames as the bytes that go on a socket: complete WebSocket messages in either encoding, or
//! Server-Sent Events.
//!
//! A `message` frame is written once for each format ([`message`]) and shared by all readers. For a
//! subscription that is catching up, many of them are joined ([`join`]).

use bytes::{Buf, Bytes};
use serde::Serialize;
use serde::ser::SerializeStruct;

use super::frame::{Frame, Message};
use super::wire::{MAX_HEADER, header_len, write_header};
use super::{Encoding, Failure};

/// The format in which a client receives frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// WebSocket messages in this encoding.
    WebSocket(Encoding),
    /// Server-Sent Events, with the frame as JSON in `data`.
    EventStream,
}

impl Format {
    /// The number of formats.
    pub const COUNT: usize = 3;

    /// Returns the position of the format in a cache of all formats.
    pub const fn index(self) -> usize {
        match self {
            Self::WebSocket(Encoding::Json) => 0,
            Self::WebSocket(Encoding::MessagePack) => 1,
            Self::EventStream => 2,
        }
    }
}

impl From<Encoding> for Format {
    fn from(encoding: Encoding) -> Self {
        Self::WebSocket(encoding)
    }
}

/// One encoded `message` frame: as bytes that are complete by themselves, and as a part for [`join`].
#[derive(Debug, Clone)]
pub struct Encoded {
    message: Bytes,
    header: usize,
}

impl Encoded {
    /// Returns the whole: a WebSocket message or an event.
    pub fn message(&self) -> &Bytes {
        &self.message
    }

    /// Returns the part to join: without the WebSocket header.
    pub fn frame(&self) -> &[u8] {
        &self.message[self.header..]
    }
}

/// Encodes a frame that stands by itself. In an event stream, `live` is a comment.
pub fn frame(format: impl Into<Format>, frame: &Frame) -> Bytes {
    match format.into() {
        Format::WebSocket(encoding) => {
            let written = whole(encoding, 128, |out| {
                write(encoding, frame, out).unwrap_or_else(|error| {
                    tracing::error!(%error, "a frame could not be encoded");
                    out.truncate(MAX_HEADER);
                    let failure =
                        Failure::new(super::ErrorCode::Internal, "the response could not be encoded");
                    let _ = write(encoding, &Frame::error(None, failure), out);
                });
            });
            written.message
        }
        Format::EventStream if matches!(frame, Frame::Live { .. }) => Bytes::from_static(b": live\n\n"),
        Format::EventStream => {
            let data = serde_json::to_string(frame).unwrap_or_default();
            format!("event: {}\ndata: {data}\n\n", frame.op()).into()
        }
    }
}

/// Encodes a `message` frame. As an event, it has the message's id and type, and the message in `data`.
pub fn message(format: impl Into<Format>, message: &Message) -> Encoded {
    let Message { room, from, kind, data, .. } = message;
    // JSON takes a little more than the stored bytes. Names and ids take some 150 bytes in either encoding.
    let bytes = 160 + room.as_str().len() + from.len() + kind.len() + data.as_bytes().len() * 9 / 8;
    match format.into() {
        Format::WebSocket(encoding) => whole(encoding, bytes, |out| match encoding {
            Encoding::Json => drop(write(encoding, &MessageFrame(message), out)),
            Encoding::MessagePack => message_as_msgpack(message, out),
        }),
        Format::EventStream => {
            let data = serde_json::to_string(message).unwrap_or_default();
            let event = format!("id: {}\nevent: {kind}\ndata: {data}\n\n", message.id);
            Encoded { message: event.into(), header: 0 }
        }
    }
}

/// Joins the parts of encoded messages: into one WebSocket message that holds an array, or into one run of
/// events.
pub fn join<'a>(format: impl Into<Format>, frames: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Bytes {
    let bytes: usize = frames.clone().map(|frame| frame.len() + 1).sum();
    let encoding = match format.into() {
        Format::WebSocket(encoding) => encoding,
        Format::EventStream => {
            let mut out = Vec::with_capacity(bytes);
            frames.for_each(|frame| out.extend_from_slice(frame));
            return out.into();
        }
    };
    let joined = whole(encoding, bytes + 5, |out| match encoding {
        Encoding::Json => {
            for (index, frame) in frames.enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                out.extend_from_slice(frame);
            }
            out.push(b']');
        }
        Encoding::MessagePack => {
            let _ = rmp::encode::write_array_len(out, frames.len() as u32);
            frames.for_each(|frame| out.extend_from_slice(frame));
        }
    });
    joined.message
}

/// Encodes a frame's payload in one of the two encodings, without a WebSocket header.
///
/// # Errors
/// Those of the serializer. Frames of this protocol always serialize.
pub fn payload(encoding: Encoding, frame: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    write(encoding, frame, &mut out)?;
    Ok(out)
}

fn write(encoding: Encoding, frame: &impl Serialize, out: &mut Vec<u8>) -> Result<(), String> {
    match encoding {
        Encoding::Json => serde_json::to_writer(out, frame).map_err(|error| error.to_string()),
        Encoding::MessagePack => {
            rmp_serde::encode::write_named(out, frame).map_err(|error| error.to_string())
        }
    }
}

/// Builds a WebSocket message from the payload that `write` appends, of about `bytes` bytes. The payload is
/// written first, behind room for the longest header: the header's length depends on the payload's, and this
/// way nothing is copied.
fn whole(encoding: Encoding, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Encoded {
    let mut out = Vec::with_capacity(MAX_HEADER + bytes);
    out.resize(MAX_HEADER, 0);
    write(&mut out);
    let length = out.len() - MAX_HEADER;
    let header = header_len(length);
    write_header(encoding, length, &mut out[MAX_HEADER - header..MAX_HEADER]);
    let mut message = Bytes::from(out);
    message.advance(MAX_HEADER - header);
    Encoded { message, header }
}

struct MessageFrame<'a>(&'a Message);

impl Serialize for MessageFrame<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Message { room, id, key, from, kind, data } = self.0;
        let mut frame = serializer.serialize_struct("message", 7)?;
        frame.serialize_field("op", "message")?;
        frame.serialize_field("room", room)?;
        frame.serialize_field("id", id)?;
        frame.serialize_field("key", &key.hyphenated())?;
        frame.serialize_field("from", from)?;
        frame.serialize_field("type", kind)?;
        frame.serialize_field("data", data)?;
        frame.end()
    }
}

/// Written by hand, since `data` is MessagePack already: it is copied, not parsed.
fn message_as_msgpack(message: &Message, out: &mut Vec<u8>) {
    let _ = rmp::encode::write_map_len(out, 7);
    let mut write = |name: &str, value: &str| {
        let _ = rmp::encode::write_str(out, name);
        let _ = rmp::encode::write_str(out, value);
    };
    write("op", "message");
    write("room", message.room.as_str());
    write("id", &message.id.to_string());
    write("key", message.key.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    write("from", &message.from);
    write("type", &message.kind);
    let _ = rmp::encode::write_str(out, "data");
    out.extend_from_slice(message.data.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::Data;
    use super::*;

    fn sample(text: &str) -> Message {
        Message {
            room: "chat".parse().unwrap(),
            id: "1700000000000-42".parse().unwrap(),
            key: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap(),
            from: "ann".into(),
            kind: "message".into(),
            data: Data::from_json(&json!({ "text": text }).to_string()).unwrap(),
        }
    }

    fn expected(text: &str) -> serde_json::Value {
        json!({
            "op": "message", "room": "chat", "id": "1700000000000-42",
            "key": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "from": "ann", "type": "message",
            "data": { "text": text },
        })
    }

    fn read(encoding: Encoding, payload: &[u8]) -> serde_json::Value {
        match encoding {
            Encoding::Json => serde_json::from_slice(payload).unwrap(),
            Encoding::MessagePack => rmp_serde::from_slice(payload).unwrap(),
        }
    }

    #[test]
    fn a_message_reads_the_same_in_both_encodings() {
        for encoding in Encoding::ALL {
            let encoded = message(encoding, &sample("hi"));
            assert_eq!(read(encoding, encoded.frame()), expected("hi"));
            assert_eq!(encoded.message()[0], if encoding == Encoding::Json { 0x81 } else { 0x82 });
        }
    }

    #[test]
    fn joined_messages_are_an_array() {
        for encoding in Encoding::ALL {
            let two = [message(encoding, &sample("a")), message(encoding, &sample(&"b".repeat(70_000)))];
            let joined = join(encoding, two.iter().map(Encoded::frame));
            let array = read(encoding, &joined[10..]);
            assert_eq!(array, json!([expected("a"), expected(&"b".repeat(70_000))]));
        }
    }

    #[test]
    fn frames_are_flat_maps() {
        let failure = Failure::unavailable();
        for encoding in Encoding::ALL {
            let bytes = payload(encoding, &Frame::error(Some(7), failure.clone())).unwrap();
            let map = read(encoding, &bytes);
            assert_eq!(map["op"], "error");
            assert_eq!(map["ref"], 7);
            assert_eq!(map["code"], "unavailable");
            assert_eq!(map["retry_after_ms"], 1000);
        }
    }

    #[test]
    fn events_have_the_messages_id_and_type_or_the_frames_op() {
        let events = [message(Format::EventStream, &sample("a")), message(Format::EventStream, &sample("b"))];
        let joined = String::from_utf8(join(Format::EventStream, events.iter().map(Encoded::frame)).into());
        let mut first = expected("a");
        first.as_object_mut().unwrap().shift_remove("op");
        let joined = joined.unwrap();
        let (head, data) = joined.split_once("\ndata: ").unwrap();
        assert_eq!(head, "id: 1700000000000-42\nevent: message");
        let (data, second) = data.split_once("\n\n").unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(data).unwrap(), first);
        assert!(second.starts_with("id: 1700000000000-42\n") && second.ends_with("\n\n"));
        let live = Frame::Live { room: "chat".parse().unwrap(), id: "1-1".parse().unwrap() };
        assert_eq!(frame(Format::EventStream, &live), ": live\n\n");
        let pong = frame(Format::EventStream, &Frame::Pong { reference: None });
        assert_eq!(pong, "event: pong\ndata: {\"op\":\"pong\"}\n\n");
    }
}
