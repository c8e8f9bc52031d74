//! The frames of the protocol that a connection sends and receives, as JSON.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use roomlog_protocol::frame::Gap;
use roomlog_protocol::request::{HISTORY_LIMIT, Start};
use roomlog_protocol::{ErrorCode, Failure, MessageId, RoomName, SubscriptionName};

use super::error::failure;
use super::outbox::Entry;
use super::types::Message;

/// A frame of the server. Frames that a client does not need are `Other`.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Frame {
    Ok(Box<Answer>),
    Error(Refusal),
    Message(Message),
    Live {
        room: RoomName,
        id: MessageId,
    },
    Gap {
        room: RoomName,
        #[serde(flatten)]
        gap: Gap,
    },
    Unsubscribed {
        room: RoomName,
        code: String,
        message: String,
    },
    Goodbye(Goodbye),
    #[serde(other)]
    Other,
}

/// The fields of an `ok` that a client needs.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Answer {
    #[serde(rename = "ref")]
    pub reference: Option<u64>,
    /// To `connect`.
    pub ping: Option<u64>,
    pub max_message: Option<usize>,
    /// To `subscribe`.
    pub position: Option<MessageId>,
    pub head: Option<MessageId>,
    #[serde(default)]
    pub created: bool,
    /// To `publish`.
    pub id: Option<MessageId>,
    #[serde(default)]
    pub duplicate: bool,
    /// To `history`.
    pub messages: Option<Vec<Stored>>,
    #[serde(default)]
    pub more: bool,
}

/// A message in a page of history, as far as it matters for finding one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Stored {
    pub id: MessageId,
    pub key: Uuid,
}

/// An `error`.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(rename = "ref")]
    pub reference: Option<u64>,
    code: String,
    message: String,
    retry_after_ms: Option<u64>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        failure(&refusal.code, refusal.message, refusal.retry_after_ms)
    }
}

/// A `goodbye`: the reason for the coming close.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Goodbye {
    pub code: String,
    pub message: String,
    pub retry_after_ms: Option<u64>,
}

/// Parses a WebSocket message: one frame, or an array of them.
pub(super) fn parse(text: &str) -> Result<VecDeque<Frame>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        Ok(VecDeque::from([serde_json::from_str(text)?]))
    }
}

pub(super) fn connect(reference: u64, token: Option<&str>) -> String {
    json!({ "op": "connect", "ref": reference, "token": token }).to_string()
}

pub(super) fn auth(reference: u64, token: &str) -> String {
    json!({ "op": "auth", "ref": reference, "token": token }).to_string()
}

/// Returns a `publish`, or the failure if it is larger than the server accepts.
pub(super) fn publish(
    reference: u64,
    room: &RoomName,
    entry: &Entry,
    largest: usize,
) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Publish<'a> {
        op: &'static str,
        #[serde(rename = "ref")]
        reference: u64,
        room: &'a RoomName,
        #[serde(flatten)]
        entry: &'a Entry,
    }
    let frame = Publish { op: "publish", reference, room, entry };
    let text = serde_json::to_string(&frame).map_err(|error| Failure::bad_request(error.to_string()))?;
    if text.len() > largest {
        // The server would close the connection, and again after each reconnect.
        let message = format!("the frame takes {} bytes, and the server accepts {largest}", text.len());
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    Ok(text)
}

/// Returns a request for the messages after this one.
pub(super) fn history(reference: u64, room: &RoomName, after: MessageId) -> String {
    let (_, limit) = HISTORY_LIMIT;
    json!({ "op": "history", "ref": reference, "room": room, "after": after, "limit": limit }).to_string()
}

pub(super) fn subscribe(
    reference: u64,
    room: &RoomName,
    start: Option<Start>,
    durable: Option<&SubscriptionName>,
) -> String {
    let mut frame = json!({ "op": "subscribe", "ref": reference, "room": room });
    if let Some(name) = durable {
        frame["durable"] = json!(name);
    }
    match start {
        None => {}
        Some(Start::After(id)) => frame["since"] = json!(id),
        Some(Start::Oldest) => frame["since"] = json!("0"),
        Some(Start::New) => frame["since"] = json!("$"),
        Some(Start::Last(count)) => frame["last"] = json!(count),
    }
    frame.to_string()
}

pub(super) fn unsubscribe(room: &RoomName) -> String {
    json!({ "op": "unsubscribe", "room": room }).to_string()
}

pub(super) fn ack(reference: Option<u64>, room: &RoomName, id: MessageId) -> String {
    let mut frame = json!({ "op": "ack", "room": room, "id": id });
    if let Some(reference) = reference {
        frame["ref"] = Value::from(reference);
    }
    frame.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use roomlog_protocol::decode::Frames;
    use roomlog_protocol::request::{Draft, Range, Request};
    use roomlog_protocol::{Data, Encoding};

    use super::super::types::NewMessage;
    use super::*;

    #[test]
    fn frames_come_alone_or_many_to_an_array_and_new_ones_are_passed_over() {
        let message = r#"{"op":"message","room":"a","id":"5-1","key":"3b6c6e0e-7d6c-4f0f-8b5e-0a4f3c7f6a11","from":"ann","type":"message","data":[1.5,{"z":null,"a":2}],"new":0}"#;
        let gap = r#"{"op":"gap","room":"a","after":"5-1","next":"9-4","reason":"trimmed"}"#;
        let frames = parse(&format!("[{message}, {gap}, {{\"op\":\"dance\"}}]")).unwrap();
        let frames: Vec<Frame> = frames.into();
        let [Frame::Message(message), Frame::Gap { gap, .. }, Frame::Other] = &frames[..] else {
            panic!("{frames:?}")
        };
        assert_eq!(message.data.to_string(), r#"[1.5,{"z":null,"a":2}]"#);
        assert_eq!(gap.next, MessageId::new(9, 4));
        let alone = parse(r#"{"op":"ok","ref":2,"room":"a","position":"5-1","head":"5-1"}"#).unwrap();
        let Frame::Ok(answer) = &alone[0] else { panic!("{alone:?}") };
        assert_eq!((answer.reference, answer.head), (Some(2), Some(MessageId::new(5, 1))));
        assert!(parse("hello").is_err());
    }

    /// The golden frames with which the server and all clients are tested.
    #[test]
    fn golden_frames_of_the_server_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/protocol");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let Some(form) = name.strip_prefix("server-") else { continue };
            let golden: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            for frame in parse(golden["json"].as_str().unwrap()).unwrap() {
                let is_expected = match form.split('-').next().unwrap() {
                    "ok" => matches!(frame, Frame::Ok(_)),
                    "error" => matches!(frame, Frame::Error(_)),
                    "message" | "messages" => matches!(frame, Frame::Message(_)),
                    "gap" => matches!(frame, Frame::Gap { .. }),
                    "live" => matches!(frame, Frame::Live { .. }),
                    "unsubscribed" => matches!(frame, Frame::Unsubscribed { .. }),
                    "goodbye" => matches!(frame, Frame::Goodbye(_)),
                    _ => matches!(frame, Frame::Other),
                };
                assert!(is_expected, "{name}: {frame:?}");
                count += 1;
            }
        }
        assert!(count > 20, "the golden frames are missing");
    }

    fn read_by_the_server(text: String) -> (Option<u64>, Request) {
        let mut frames = Frames::of(Encoding::Json, text.into_bytes().into()).unwrap();
        let frame = frames.next().unwrap().unwrap();
        assert!(frames.next().is_none());
        (frame.reference, frame.request.unwrap())
    }

    #[test]
    fn the_server_reads_what_is_sent() {
        let room: RoomName = "a".parse().unwrap();
        let id = MessageId::new(5, 1);
        let reads = |text, reference, request| assert_eq!(read_by_the_server(text), (reference, request));
        reads(connect(1, Some("t")), Some(1), Request::Connect { token: Some("t".into()) });
        reads(connect(1, None), Some(1), Request::Connect { token: None });
        reads(auth(2, "t"), Some(2), Request::Auth { token: "t".into() });
        let request = Request::History { room: room.clone(), range: Range::After(id), limit: 1000 };
        reads(history(3, &room, id), Some(3), request);
        let request = Request::Unsubscribe { room: room.clone(), forget: false };
        reads(unsubscribe(&room), None, request);
        reads(ack(None, &room, id), None, Request::Ack { room: room.clone(), id });
        reads(ack(Some(4), &room, id), Some(4), Request::Ack { room: room.clone(), id });
        let starts = [Start::After(id), Start::Oldest, Start::New, Start::Last(7)].map(Some);
        for start in starts.into_iter().chain([None]) {
            for durable in [None, Some("phone".parse().unwrap())] {
                let text = subscribe(5, &room, start, durable.as_ref());
                reads(text, Some(5), Request::Subscribe { room: room.clone(), start, durable });
            }
        }
        let mut message = NewMessage::new(room.clone(), json!({ "z": 1.5, "a": [null, "\u{1F600}"] }));
        for kind in ["message", "note"] {
            let text = publish(6, &room, &Entry::of(&message), 1000).unwrap();
            let data = Data::from_json(&message.data.to_string()).unwrap();
            let draft = Draft { key: message.key, new_key: false, kind: kind.into(), data };
            reads(text, Some(6), Request::Publish { room: room.clone(), message: draft });
            message.kind = Some("note".into());
        }
    }

    #[test]
    fn publishes_are_bounded() {
        let room: RoomName = "a".parse().unwrap();
        let entry = Entry::of(&NewMessage::new(room.clone(), json!([2.5])));
        let text = publish(7, &room, &entry, 1000).unwrap();
        assert_eq!(publish(7, &room, &entry, text.len()).unwrap(), text);
        assert_eq!(publish(7, &room, &entry, text.len() - 1).unwrap_err().code, ErrorCode::TooLarge);
    }
}
