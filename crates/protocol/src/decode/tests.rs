//! Tests of decoding: frames and bodies that are accepted, and those that are refused.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Decodes all frames of a payload.
fn decode(encoding: Encoding, payload: &Bytes) -> Result<Vec<Incoming>, Undecodable> {
    Frames::of(encoding, payload.clone())?.collect()
}

/// Decodes one frame in both encodings, which must agree except for keys that the server makes.
fn check(frame: serde_json::Value) -> Incoming {
    let json = one(Encoding::Json, frame.to_string().into());
    let msgpack = one(Encoding::MessagePack, rmp_serde::to_vec_named(&frame).unwrap().into());
    if frame.get("key").is_some() || frame["op"] != "publish" {
        assert_eq!(json, msgpack);
    }
    json
}

fn one(encoding: Encoding, payload: Bytes) -> Incoming {
    let mut frames = decode(encoding, &payload).unwrap();
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

fn request(frame: serde_json::Value) -> Request {
    check(frame).request.unwrap()
}

fn refused(frame: serde_json::Value) -> (ErrorCode, String) {
    let failure = check(frame).request.unwrap_err();
    (failure.code, failure.message)
}

#[test]
fn each_op_is_understood() {
    let room = || "chat".parse().unwrap();
    assert_eq!(request(json!({"op": "connect", "token": "t"})), Request::Connect { token: Some("t".into()) });
    assert_eq!(
        request(json!({"op": "subscribe", "room": "chat", "since": "5-6", "durable": "phone"})),
        Request::Subscribe {
            room: room(),
            start: Some(Start::After("5-6".parse().unwrap())),
            durable: Some("phone".parse().unwrap())
        }
    );
    assert_eq!(
        request(json!({"op": "subscribe", "room": "chat", "last": 0})),
        Request::Subscribe { room: room(), start: Some(Start::Last(0)), durable: None }
    );
    assert_eq!(
        request(json!({"op": "unsubscribe", "room": "chat", "forget": true})),
        Request::Unsubscribe { room: room(), forget: true }
    );
    let key = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    assert_eq!(
        request(json!({"op": "publish", "room": "chat", "data": null, "key": key})),
        Request::Publish {
            room: room(),
            message: Draft {
                key: key.parse().unwrap(),
                new_key: false,
                kind: "message".into(),
                data: Data::NIL
            }
        }
    );
    assert_eq!(
        request(json!({"op": "ack", "room": "chat", "id": "5-6"})),
        Request::Ack { room: room(), id: "5-6".parse().unwrap() }
    );
    assert_eq!(
        request(json!({"op": "read", "room": "chat", "id": "5-6"})),
        Request::Read { room: room(), id: "5-6".parse().unwrap() }
    );
    assert_eq!(
        request(json!({"op": "history", "room": "chat"})),
        Request::History { room: room(), range: Range::Newest, limit: 100 }
    );
    assert_eq!(
        request(json!({"op": "signal", "room": "chat", "type": "typing", "data": null, "to": "bob"})),
        Request::Signal {
            room: room(),
            signal: SignalDraft { kind: "typing".into(), data: Data::NIL, to: Some("bob".parse().unwrap()) }
        }
    );
    assert_eq!(request(json!({"op": "auth", "token": "t"})), Request::Auth { token: "t".into() });
    assert_eq!(request(json!({"op": "ping", "extra": [1, {"a": 2}]})), Request::Ping);
}

#[test]
fn a_bad_field_is_answered_by_ref_and_named() {
    let frame = json!({"op": "ack", "ref": 9, "room": "chat", "id": 5});
    assert_eq!(check(frame.clone()).reference, Some(9));
    assert_eq!(refused(frame), (ErrorCode::BadRequest, "`id` must be text".into()));
    for (frame, name) in [
        (json!({"op": "subscribe"}), "`room`"),
        (json!({"op": "subscribe", "room": "a b"}), "`room`"),
        (json!({"op": "subscribe", "room": "a", "last": 1001}), "`last`"),
        (json!({"op": "subscribe", "room": "a", "last": -1}), "`last`"),
        (json!({"op": "subscribe", "room": "a", "last": 1, "since": "0"}), "`since`"),
        (json!({"op": "subscribe", "room": "a", "since": "x"}), "`since`"),
        (json!({"op": "subscribe", "room": "a", "durable": "a/b"}), "`durable`"),
        (json!({"op": "publish", "room": "a"}), "`data`"),
        (json!({"op": "publish", "room": "a", "data": 1, "key": "x"}), "`key`"),
        (json!({"op": "publish", "room": "a", "data": 1, "type": ""}), "`type`"),
        (json!({"op": "publish", "room": "a", "data": 1, "type": "a\nb"}), "`type`"),
        (json!({"op": "history", "room": "a", "limit": 0}), "`limit`"),
        (json!({"op": "history", "room": "a", "limit": 1001}), "`limit`"),
        (json!({"op": "history", "room": "a", "after": "0", "before": "1-1"}), "`after`"),
        (json!({"op": "unsubscribe", "room": "a", "forget": 1}), "`forget`"),
        (json!({"op": "signal", "room": "a", "data": 1}), "`type`"),
        (json!({"op": "auth"}), "`token`"),
    ] {
        let (code, message) = refused(frame.clone());
        assert_eq!(code, ErrorCode::BadRequest, "{frame}");
        assert!(message.contains(name), "{frame}: {message}");
    }
}

#[test]
fn values_that_are_not_frames_are_reported_as_such() {
    for frame in
        [json!(1), json!("a"), json!(null), json!({}), json!({"op": 1}), json!({"op": "ping", "ref": -1})]
    {
        assert_eq!(refused(frame).0, ErrorCode::BadFrame);
    }
    assert_eq!(refused(json!({"op": "dance"})).0, ErrorCode::UnknownOp);
}

#[test]
fn an_array_may_have_many_frames() {
    let frames = json!([{"op": "ping", "ref": 1}, 5, {"op": "ping", "ref": 2}]);
    for (encoding, payload) in [
        (Encoding::Json, frames.to_string().into_bytes()),
        (Encoding::MessagePack, rmp_serde::to_vec_named(&frames).unwrap()),
    ] {
        let decoded = decode(encoding, &payload.into()).unwrap();
        assert_eq!(decoded.iter().map(|frame| frame.reference).collect::<Vec<_>>(), [Some(1), None, Some(2)]);
        assert!(decoded[1].request.is_err());
    }
}

#[test]
fn an_array_has_a_maximum_number_of_frames() {
    let frames = vec![json!({"op": "ping"}); MAX_FRAMES + 1];
    for (encoding, payload) in [
        (Encoding::Json, serde_json::to_vec(&frames).unwrap()),
        (Encoding::MessagePack, rmp_serde::to_vec_named(&frames).unwrap()),
    ] {
        let decoded = decode(encoding, &payload.into()).unwrap();
        assert_eq!(decoded.len(), 1);
        assert_eq!(decoded[0].request.as_ref().unwrap_err().code, ErrorCode::BadFrame);
    }
    let claimed = Bytes::from_static(&[0xdd, 0, 1, 0, 0]);
    assert_eq!(decode(Encoding::MessagePack, &claimed), Err(Undecodable));
}

/// The decoder keeps nothing of an array of many claimed or real elements before the first of them is used.
#[test]
fn frames_of_an_array_are_never_collected() {
    assert!(size_of::<Frames>() <= 128, "{}", size_of::<Frames>());
    let nils = Bytes::from([&[0xdd, 0, 0x0f, 0xff, 0xf0][..], &vec![0xc0; 0xf_fff0]].concat());
    let ones = Bytes::from(format!("[{}1]", "1,".repeat(500_000)));
    for (encoding, payload) in [(Encoding::MessagePack, nils), (Encoding::Json, ones)] {
        let mut frames = Frames::of(encoding, payload.clone()).unwrap();
        let refused = frames.next().unwrap().unwrap().request.unwrap_err();
        assert_eq!((refused.code, frames.next()), (ErrorCode::BadFrame, None));
        let refused = Drafts::of(encoding, payload, 1000).unwrap_err();
        assert_eq!(refused.message, "a batch has at most 1000 messages");
    }
}

#[test]
fn a_malformed_end_is_found_before_the_first_frame_is_used() {
    let json = Bytes::from_static(b"[{\"op\":\"ping\"},{]");
    assert_eq!(Frames::of(Encoding::Json, json).unwrap_err(), Undecodable);
    let after = Bytes::from_static(b"[{\"op\":\"ping\"}] x");
    assert_eq!(Frames::of(Encoding::Json, after).unwrap_err(), Undecodable);
    let key_is_no_text = Bytes::from_static(&[0x92, 0x81, 0xa2, b'o', b'p', 0xc0, 0x81, 1, 1]);
    assert_eq!(Frames::of(Encoding::MessagePack, key_is_no_text).unwrap_err(), Undecodable);
}

#[test]
fn elements_of_any_kind_and_spacing_are_separated() {
    let payload =
        Bytes::from_static(b" [ 1 ,\"a,]\",[{}],{ \"op\" : \"ping\",\"ref\":3 }\n,true,null , -1.5e3] ");
    let references: Vec<_> =
        decode(Encoding::Json, &payload).unwrap().iter().map(|one| one.reference).collect();
    assert_eq!(references, [None, None, None, Some(3), None, None, None]);
    for encoding in Encoding::ALL {
        let empty: &'static [u8] = if encoding == Encoding::Json { b"[ ]" } else { &[0x90] };
        assert_eq!(decode(encoding, &Bytes::from_static(empty)), Ok(Vec::new()));
    }
}

#[test]
fn before_connect_only_op_and_ref_of_other_frames_are_read() {
    let deep =
        format!(r#"{{"op":"publish","room":"?","ref":7,"data":{}}}"#, "[".repeat(50) + &"]".repeat(50));
    let payload = Bytes::from(format!(r#"[{{"op":"connect","token":"t"}},{deep},5]"#));
    let mut frames = Frames::of(Encoding::Json, payload).unwrap();
    let mut greeting = || frames.greeting().map(Result::unwrap);
    assert_eq!(greeting().unwrap().request, Ok(Request::Connect { token: Some("t".into()) }));
    let publish = greeting().unwrap();
    assert_eq!((publish.reference, publish.request.unwrap_err().code), (Some(7), ErrorCode::Unauthenticated));
    assert_eq!(greeting().unwrap().request.unwrap_err().code, ErrorCode::BadFrame);
    assert_eq!(greeting(), None);
}

#[test]
fn malformed_payloads_are_undecodable() {
    for payload in ["", "{", "[1", "nul", "{\"op\":\"ping\"} x", "[{]"] {
        assert_eq!(decode(Encoding::Json, &Bytes::from(payload)), Err(Undecodable), "{payload}");
    }
    for payload in
        [&[][..], &[0xc1], &[0x81], &[0x81, 0xa2, b'o'], &[0xc0, 0xc0], &[0xdd, 255, 255, 255, 255]]
    {
        let payload = Bytes::copy_from_slice(payload);
        assert_eq!(decode(Encoding::MessagePack, &payload), Err(Undecodable), "{payload:?}");
    }
}

#[test]
fn data_is_refused_without_losing_the_ref() {
    let mut frame = vec![0x84];
    for text in ["op", "publish", "room", "a", "data"] {
        rmp::encode::write_str(&mut frame, text).unwrap();
    }
    frame.extend_from_slice(&[0xc7, 3, 9, 1, 2, 3]);
    rmp::encode::write_str(&mut frame, "ref").unwrap();
    frame.push(7);
    let incoming = one(Encoding::MessagePack, frame.into());
    assert_eq!(incoming.reference, Some(7));
    assert_eq!(incoming.request.unwrap_err().code, ErrorCode::BadRequest);

    let deep =
        format!(r#"{{"op":"publish","room":"a","ref":7,"data":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let incoming = one(Encoding::Json, deep.into());
    assert_eq!(incoming.reference, Some(7));
    assert_eq!(incoming.request.unwrap_err().code, ErrorCode::BadRequest);
}

proptest! {
    #[test]
    fn arbitrary_payloads_are_decoded_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in Encoding::ALL {
            let _ = decode(encoding, &Bytes::from(bytes.clone()));
        }
    }

    #[test]
    fn a_frame_cut_or_changed_anywhere_is_decoded_or_refused_without_a_panic(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let frame = json!({"op": "publish", "ref": 3, "room": "chat", "type": "x", "data": {"a": [1, 2.5, "ü", null]}});
        for (encoding, mut payload) in [
            (Encoding::Json, frame.to_string().into_bytes()),
            (Encoding::MessagePack, rmp_serde::to_vec_named(&frame).unwrap()),
        ] {
            let at = at.index(payload.len());
            if cut { payload.truncate(at) } else { payload[at] = byte }
            let _ = decode(encoding, &payload.into());
        }
    }
}
