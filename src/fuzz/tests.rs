//! Runs the bodies with random mutations of valid inputs, for a moment, or for `ROOMLOG_FUZZ_SECONDS`. With
//! `ROOMLOG_FUZZ_CORPUS`, the valid inputs are written there too, in one folder per body, as the initial
//! corpus of `cargo fuzz`.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::*;

fn valid(name: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let frames = |field: &str| {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/protocol").read_dir().unwrap();
        let files =
            files.map(|file| file.unwrap().path()).filter(|path| path.extension() == Some("json".as_ref()));
        let frames =
            files.map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap());
        let clients = frames.filter(|frame| frame["direction"] == "client");
        clients.map(|frame| frame[field].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let digits = |text: &String| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let in_the_future = jsonwebtoken::get_current_timestamp() + (1 << 30);
    match name {
        "json" => frames("json").into_iter().map(String::into_bytes).collect(),
        "msgpack" => frames("msgpack").iter().map(digits).collect(),
        "ids" => texts(&["chat.general", "@ann", "ann", "phone-1_2.3", "1795331063141-1", "0-0", "2.17", "$"]),
        "patterns" => texts(&["chat.*\nchat.general", "*\n@ann", "a*b*c\nabbc", "room\nroom", "**a*\nba"]),
        "tokens" => vec![
            format!("{{\"alg\":\"HS256\"}}\n{{\"sub\":\"ann\",\"exp\":{in_the_future},\"rooms\":{{\"*\":[\"read\"]}}}}").into(),
            format!("{{\"alg\":\"HS256\",\"typ\":\"JWT\"}}\n{{\"sub\":\"ann\",\"exp\":{in_the_future}.5,\"nbf\":1,\"iat\":1,\"jti\":\"a\"}}").into(),
        ],
        // The sizes of the pieces, and the frames: a ping, a text in fragments, a close.
        "inbox" => vec![
            b"\x03\x89\x84\x01\x02\x03\x04\x61\x62\x63\x64\x01\x81\x00\x00\x00\x00\x61\x80\x81\x00\x00\x00\x00\x62".to_vec(),
            b"\x10\x82\xfe\x00\x80\x00\x00\x00\x00".iter().copied().chain([7; 128]).collect(),
            b"\xff\x88\x85\x00\x00\x00\x00\x03\xe8bye".to_vec(),
        ],
        "upgrade" => texts(&[
            "connection: upgrade\nupgrade: websocket\nsec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n\
             sec-websocket-protocol: roomlog.v1.msgpack, roomlog.v1.json\nauthorization: Bearer a.b.c\norigin: https://a.example",
        ]),
        "notifications" => vec![
            rmp_serde::to_vec(&("m", "1-1", "0123456789abcdef", "ann", "message", "\u{1}")).unwrap(),
            rmp_serde::to_vec(&("s", "0123456789abcdef", "ann", "typing", "\u{1}", "")).unwrap(),
            rmp_serde::to_vec(&("t", "ann/phone", "node/session/1")).unwrap(),
            rmp_serde::to_vec(&("d", "1-1")).unwrap(),
        ],
        other => panic!("no inputs for {other}"),
    }
}

/// A mutation at a position, which wraps around the input's length.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize, usize),
    Join(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let interesting = prop_oneof![
        any::<u8>(),
        prop::sample::select(&b"\x00\x7f\x80\xff\xc0\xdf\xdd\"\\{}[],:*@./-0\n "[..])
    ];
    prop_oneof![
        (any::<usize>(), interesting.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<usize>(), prop::collection::vec(interesting, 1..9))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<usize>(), 1..20usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<usize>(), 1..20usize, 1..200usize)
            .prop_map(|(at, count, times)| Change::Repeat(at, count, times)),
        any::<usize>().prop_map(Change::Join),
    ]
}

fn changed(valid: &[Vec<u8>], which: usize, changes: &[Change]) -> Vec<u8> {
    let mut input = valid[which % valid.len()].clone();
    for change in changes {
        let place = |at: &usize, input: &[u8]| at % (input.len() + 1);
        match change {
            Change::Set(at, byte) => {
                let at = place(at, &input);
                input.get_mut(at).into_iter().for_each(|old| *old = *byte);
            }
            Change::Insert(at, bytes) => {
                let at = place(at, &input);
                input.splice(at..at, bytes.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = place(at, &input);
                input.drain(at..(at + count).min(input.len()));
            }
            Change::Repeat(at, count, times) => {
                let at = place(at, &input);
                let part = input[at..(at + count).min(input.len())].repeat(*times);
                input.splice(at..at, part);
            }
            Change::Join(other) => input.extend(&valid[other % valid.len()]),
        }
    }
    input
}

fn run(name: &str) {
    let valid = valid(name);
    if let Ok(corpus) = std::env::var("ROOMLOG_FUZZ_CORPUS") {
        let folder = Path::new(&corpus).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, input) in valid.iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), input).unwrap();
        }
    }
    let (_, body) = BODIES.into_iter().find(|(body, _)| *body == name).unwrap();
    valid.iter().for_each(|input| body(input));
    let input = (any::<usize>(), prop::collection::vec(change(), 0..8));
    let whole = |input: (usize, Vec<Change>)| changed(&valid, input.0, &input.1);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let seconds = std::env::var("ROOMLOG_FUZZ_SECONDS").map_or(0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0;
    loop {
        runner
            .run(&input, |input| {
                let bytes = whole(input);
                let outcome = std::panic::catch_unwind(|| body(&bytes));
                prop_assert!(outcome.is_ok(), "{name} fails with {}", bytes.escape_ascii());
                Ok(())
            })
            .unwrap();
        count += 300;
        if Instant::now() >= end {
            break;
        }
    }
    println!("{name}: {count} inputs");
}

#[test]
fn json_is_safe() {
    run("json");
}

#[test]
fn msgpack_is_safe() {
    run("msgpack");
}

#[test]
fn ids_are_safe() {
    run("ids");
}

#[test]
fn patterns_are_safe() {
    run("patterns");
}

#[test]
fn tokens_are_safe() {
    run("tokens");
}

#[test]
fn the_inbox_is_safe() {
    run("inbox");
}

#[test]
fn upgrades_are_safe() {
    run("upgrade");
}

#[test]
fn notifications_are_decoded_or_refused() {
    run("notifications");
}
