//! Subscribing with `last`: the position before the newest messages is found without reading them.

use serde_json::{Value, json};

use crate::harness::{Client, Dice, Redis, Server, everything, redis_and_server};

/// Appends messages with these ids, as another node might have done some time ago.
fn append(redis: &Redis, room: &str, ids: &[(u64, u64)], head: (u64, u64), data: &[u8]) {
    let (log, head_key) = (format!("rl:{{{room}}}:log"), format!("rl:{{{room}}}:head"));
    for (ms, seq) in ids {
        let id = format!("{ms}-{seq}");
        let fields: [&[u8]; 8] = [b"key", &[7; 16], b"from", b"ann", b"type", b"message", b"data", data];
        redis.ask(&[&[&b"XADD"[..], log.as_bytes(), id.as_bytes()][..], &fields].concat());
    }
    redis.ask(&["HSET", &head_key, "ms", &head.0.to_string(), "seq", &head.1.to_string()]);
}

/// Returns the number of bytes that Redis has sent.
fn sent(redis: &Redis) -> u64 {
    let stats = redis.ask(&["INFO", "stats"]).text();
    let bytes = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    bytes.unwrap().trim().parse().unwrap()
}

/// Returns the position right before a message: the id of the one before it, unless that is gone.
fn right_before(ids: &[(u64, u64)], index: usize) -> String {
    let (ms, seq) = ids[index];
    let before = index.checked_sub(1).map(|index| ids[index]).filter(|before| before.1 == seq - 1);
    let (ms, seq) = before.unwrap_or((ms, seq - 1));
    format!("{ms}-{seq}")
}

#[tokio::test]
async fn large_messages_are_not_read_to_be_counted() {
    const COUNT: u64 = 500;
    let (redis, server) = redis_and_server().await;
    let text = "x".repeat(60_000);
    let data = [&b"\xda\xea\x60"[..], text.as_bytes()].concat();
    let now = crate::harness::now() * 1000 - COUNT;
    let ids: Vec<(u64, u64)> = (1..=COUNT).map(|seq| (now + seq, seq)).collect();
    append(&redis, "room", &ids, ids[COUNT as usize - 1], &data);
    let mut client = Client::connect(&server, &everything("bob")).await;
    let before = sent(&redis);
    for last in [1000, 1000, 1000, 1000, 1000, 499, 499, 499, 499, 499] {
        // Sent in one WebSocket message, so that hardly anything is delivered in between.
        let subscribe = json!({ "op": "subscribe", "room": "room", "last": last, "ref": 900_001 });
        let unsubscribe = json!({ "op": "unsubscribe", "room": "room", "ref": 900_002 });
        client.send(json!([subscribe, unsubscribe])).await;
        let answer = client.answer(900_001).await;
        let start = (COUNT as usize).saturating_sub(last);
        assert_eq!(answer["position"], right_before(&ids, start), "{answer}");
        assert_eq!(client.answer(900_002).await["op"], "ok");
    }
    let megabytes = (sent(&redis) - before) / 1_000_000;
    assert!(megabytes < 30, "{megabytes} MB");
}

/// Rules: op-11.
#[tokio::test]
async fn the_newest_messages_are_found_with_any_times_and_holes() {
    let redis = Redis::start().await;
    // Messages of these times are too old to be kept.
    let server = Server::with(&redis.url(), &[("ROOMLOG_RETENTION__INTERVAL", "1h")]).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let (mut ms, first, count) = (1_000_000_000_000, dice.between(1, 500), dice.between(1, 400));
        let steps: &[u64] = match seed % 4 {
            0 => &[0],
            1 => &[0, 0, 0, 0, 1, 1, 50],
            2 => &[1, 1000, 1_000_000],
            _ => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 3_000_000_000],
        };
        let mut ids: Vec<(u64, u64)> = (first..first + count)
            .map(|seq| {
                ms += dice.pick(steps);
                (ms, seq)
            })
            .collect();
        let head = ids[ids.len() - 1];
        // In some rooms messages were deleted: sometimes all of them, or the newest.
        let deleted = if seed % 5 == 0 { dice.between(1, 20).min(count) } else { 0 };
        for _ in 0..deleted {
            ids.remove(dice.roll(ids.len() as u64) as usize);
        }
        let room = format!("room.{seed}");
        append(&redis, &room, &ids, head, b"\x01");
        for last in [1, 2, 3, 99, 100, 101, 250, ids.len() as u64, ids.len() as u64 + 1, 1000] {
            if last == 0 {
                continue;
            }
            let answer = client.subscribe(&room, json!({ "last": last })).await;
            let start = ids.len().saturating_sub(last as usize);
            let expected =
                if ids.is_empty() { format!("{}-{}", head.0, head.1) } else { right_before(&ids, start) };
            assert_eq!(answer["position"], expected, "seed {seed}, last {last}");
            client.ok(json!({ "op": "unsubscribe", "room": room })).await;
        }
    }
}

/// Rules: op-11.
#[tokio::test]
async fn the_newest_messages_are_delivered_if_some_were_deleted() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_RETENTION__INTERVAL", "1h")]).await;
    let ids: Vec<(u64, u64)> = (1..=20).filter(|seq| ![5, 18].contains(seq)).map(|seq| (seq, seq)).collect();
    append(&redis, "room", &ids, (20, 20), b"\x01");
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "last": 4 })).await;
    let frames = client.until("live").await;
    let seqs: Vec<Value> = frames.iter().map(|frame| frame["id"].clone()).collect();
    assert_eq!(
        seqs,
        ["16-16", "17-17", "", "19-19", "20-20"].map(|id| if id.is_empty() {
            Value::Null
        } else {
            json!(id)
        })
    );
    assert_eq!(frames[2]["reason"], "trimmed");
}
