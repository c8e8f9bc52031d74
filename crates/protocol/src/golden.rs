//! The golden frames of `tests/fixtures/protocol`, with which every client is tested too. Clients' frames
//! mean the same in both encodings, and the server's frames have exactly these bytes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use super::decode::{Frames, Incoming};
use super::frame::{Answer, Ended, Frame, Gap, GapReason, HistoryPage, Message};
use super::request::Request;
use super::{CloseCode, Data, Encoding, ErrorCode, Failure, RoomName, encode};

struct Golden {
    name: String,
    json: String,
    msgpack: Vec<u8>,
    binary: bool,
}

fn golden(direction: &str) -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/protocol");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let values = files.filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| {
        let value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        value
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let golden: Vec<Golden> = values
        .filter(|value| value["direction"] == direction)
        .map(|value| Golden {
            name: text(&value["name"]),
            json: text(&value["json"]),
            msgpack: bytes(value["msgpack"].as_str().unwrap()),
            binary: value["binary"] == true,
        })
        .collect();
    assert!(golden.len() >= 20, "the golden frames are missing");
    golden
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn decode(encoding: Encoding, payload: Bytes) -> Vec<Incoming> {
    Frames::of(encoding, payload).unwrap().map(Result::unwrap).collect()
}

/// Replaces the values that the server generates anew each time.
fn settled(frames: Vec<Incoming>) -> Vec<Incoming> {
    let settle = |mut frame: Incoming| {
        if let Ok(Request::Publish { message, .. }) = &mut frame.request
            && message.new_key
        {
            message.set_key(uuid::Uuid::nil());
        }
        frame
    };
    frames.into_iter().map(settle).collect()
}

#[test]
fn requests_mean_the_same_in_both_encodings() {
    for Golden { name, json, msgpack, binary } in golden("client") {
        let json = settled(decode(Encoding::Json, json.into()));
        let msgpack = settled(decode(Encoding::MessagePack, msgpack.into()));
        assert!(msgpack.iter().all(|frame| frame.request.is_ok()), "{name}: {msgpack:?}");
        // In JSON, binary is text. Only its readers know that it is base64.
        if binary {
            assert_eq!(json.len(), msgpack.len(), "{name}");
        } else {
            assert_eq!(json, msgpack, "{name}");
        }
    }
}

/// Builds the message of a golden frame, with the data's bytes of either encoding.
fn message(frame: &Value, data: Data) -> Message {
    let text = |field: &str| frame[field].as_str().unwrap();
    Message {
        room: text("room").parse().unwrap(),
        id: text("id").parse().unwrap(),
        key: text("key").parse().unwrap(),
        from: text("from").into(),
        kind: text("type").into(),
        data,
    }
}

#[test]
fn messages_have_exactly_these_bytes() {
    let mut seen = 0;
    for Golden { name, json, msgpack, .. } in golden("server") {
        let frame: Value = serde_json::from_str(&json).unwrap();
        if frame["op"] != "message" {
            continue;
        }
        // `data` is the last field: its bytes follow its name.
        let at = msgpack.windows(5).rposition(|window| window == b"\xa4data").unwrap() + 5;
        let data = Data::from_msgpack(Bytes::copy_from_slice(&msgpack[at..])).unwrap();
        let message = message(&frame, data);
        let text = encode::message(Encoding::Json, &message);
        assert_eq!(String::from_utf8_lossy(text.frame()), json, "{name}");
        assert_eq!(encode::message(Encoding::MessagePack, &message).frame(), msgpack, "{name}");
        seen += 1;
    }
    assert!(seen >= 3);
}

/// Returns the frame that the server would send for this golden frame, or `None` for messages, which have a
/// test of their own.
fn said(name: &str, frame: &Value) -> Option<Frame> {
    let room = || frame["room"].as_str().unwrap().parse::<RoomName>().unwrap();
    let reference = frame["ref"].as_u64();
    let id = |field: &str| frame[field].as_str().unwrap().parse().unwrap();
    let ok = |answer: Answer| Some(Frame::Ok { reference, answer });
    let expires = frame["expires"].as_u64();
    match name.strip_prefix("server-")?.split('-').collect::<Vec<_>>()[..] {
        ["ok", "connect", ..] => ok(Answer::Connected {
            session: frame["session"].as_str()?.parse().ok()?,
            user: frame["user"].as_str()?.parse().ok()?,
            ping: frame["ping"].as_u64()?,
            expires,
            max_message: frame["max_message"].as_u64()? as usize,
        }),
        ["ok", "auth", ..] => ok(Answer::Renewed { expires }),
        ["ok", "subscribe", ..] => {
            let created = frame.get("created").is_some();
            ok(Answer::Subscribed { room: room(), position: id("position"), head: id("head"), created })
        }
        ["ok", "publish", ..] => {
            ok(Answer::Published { id: id("id"), duplicate: frame.get("duplicate").is_some() })
        }
        ["ok", "history", ..] => {
            let messages = frame["messages"].as_array()?.iter();
            let messages =
                messages.map(|inner| message(inner, Data::from_json(&inner["data"].to_string()).unwrap()));
            ok(Answer::History(HistoryPage {
                messages: messages.collect(),
                more: frame["more"] == true,
                head: id("head"),
                gap: frame.get("gap").map(gap),
            }))
        }
        ["ok"] => ok(Answer::Done {}),
        ["error", ..] => {
            let code = |code: &&ErrorCode| frame["code"] == code.as_str();
            let mut failure = Failure::new(*ErrorCode::ALL.iter().find(code)?, frame["message"].as_str()?);
            failure.retry_after_ms = frame["retry_after_ms"].as_u64();
            Some(Frame::error(reference, failure))
        }
        ["live"] => Some(Frame::Live { room: room(), id: id("id") }),
        ["gap", ..] => Some(Frame::Gap { room: room(), gap: gap(frame) }),
        ["signal", ..] => Some(Frame::Signal {
            room: room(),
            from: frame["from"].as_str()?.parse().ok()?,
            kind: frame["type"].as_str()?.into(),
            data: Data::from_json(&frame["data"].to_string()).ok()?,
            sys: frame["sys"].as_bool().unwrap_or_default(),
        }),
        ["unsubscribed"] => Some(Frame::unsubscribed(room(), Ended::Replaced)),
        ["goodbye", "restarting"] => {
            Some(Frame::goodbye(CloseCode::Restarting, frame["retry_after_ms"].as_u64()))
        }
        ["goodbye"] => Some(Frame::goodbye(CloseCode::Unauthenticated, None)),
        ["pong", ..] => Some(Frame::Pong { reference }),
        _ => None,
    }
}

fn gap(frame: &Value) -> Gap {
    let id = |field: &str| frame[field].as_str().unwrap().parse().unwrap();
    let reason = serde_json::from_value::<GapReason>(frame["reason"].clone()).unwrap();
    Gap { after: id("after"), next: id("next"), reason }
}

#[test]
fn other_server_frames_have_exactly_these_bytes() {
    for Golden { name, json, msgpack, .. } in golden("server") {
        if name.starts_with("server-message") {
            continue;
        }
        let frame: Value = serde_json::from_str(&json).unwrap();
        let said = said(&name, &frame).unwrap_or_else(|| panic!("{name} has no case in this test"));
        let text = encode::payload(Encoding::Json, &said).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), json, "{name}");
        assert_eq!(encode::payload(Encoding::MessagePack, &said).unwrap(), msgpack, "{name}");
    }
}
