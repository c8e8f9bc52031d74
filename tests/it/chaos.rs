//! Everything at once: writers, readers that move between two nodes, and faults all the while. Each reader
//! sees every message once and in order, or is notified of a gap.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::harness::{Client, DEADLINE, Dice, Redis, Server, Upgrade, everything, id_of, seq};

const ROOM: &str = "room";

/// Duration of the faults.
const FAULTS_FOR: Duration = Duration::from_secs(8);

/// Publishes until the faults are over, retrying each message with its key until it is confirmed. Returns the
/// confirmed ids.
async fn write(server: &Server, mut dice: Dice, over: Arc<AtomicBool>) -> Vec<String> {
    let mut client = Client::connect(server, &everything("writer")).await;
    let mut confirmed = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let count = 1 + dice.roll(20);
        let mut frames: Vec<Value> = (0..count)
            .map(|_| json!({ "op": "publish", "room": ROOM, "data": "x".repeat(50), "key": Uuid::new_v4() }))
            .collect();
        let tried = Instant::now();
        while !frames.is_empty() {
            assert!(tried.elapsed() < DEADLINE, "publishing does not go on");
            let mut refs = Vec::new();
            for frame in &frames {
                refs.push(client.ask(frame.clone()).await);
            }
            let mut failed = Vec::new();
            for (reference, frame) in refs.into_iter().zip(frames) {
                let answer = client.answer(reference).await;
                match answer["op"].as_str() {
                    Some("ok") => confirmed.push(id_of(&answer)),
                    _ => failed.push(frame),
                }
            }
            frames = failed;
        }
        sleep(Duration::from_millis(dice.roll(30))).await;
    }
    confirmed
}

/// The messages that a reader has seen, checked on arrival.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    last: Option<String>,
}

impl Seen {
    fn take(&mut self, frame: &Value) {
        let position = self.last.as_deref().map_or(0, seq);
        match frame["op"].as_str() {
            Some("message") => {
                let id = id_of(frame);
                assert_eq!(seq(&id), position + 1, "after {:?} came {id}", self.last);
                self.ids.insert(id.clone());
                self.last = Some(id);
            }
            Some("gap") => panic!("nothing was lost, but {frame} came"),
            _ => {}
        }
    }
}

/// Reads, sometimes quickly and sometimes not at all, leaving and resuming on another node, until it has seen
/// the last message.
async fn read(servers: &[Server], mut dice: Dice, over: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    loop {
        let upgrade = Upgrade { buffer: Some(4096), ..Upgrade::default() };
        let server = &servers[dice.roll(servers.len() as u64) as usize];
        let mut client = Client::connect_with(server, &everything("reader"), upgrade).await;
        let since = seen.last.clone().unwrap_or_else(|| "0".into());
        let answer = client.request(json!({ "op": "subscribe", "room": ROOM, "since": since })).await;
        if answer["op"] != "ok" {
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        for _ in 0..dice.roll(40) {
            if dice.roll(10) == 0 {
                sleep(Duration::from_millis(dice.roll(300))).await;
            }
            let Ok(frame) = timeout(Duration::from_millis(200), client.next()).await else { continue };
            seen.take(&frame);
        }
        if over.load(Ordering::Relaxed) {
            // The last connection: everything that is left, and one more message.
            while let Ok(frame) = timeout(Duration::from_secs(8), client.next()).await {
                seen.take(&frame);
                if frame["data"] == "the end" {
                    return seen;
                }
            }
        }
    }
}

#[tokio::test]
async fn readers_miss_nothing_under_random_faults() {
    let seed = Uuid::new_v4().as_u64_pair().0;
    println!("the seed is {seed}");
    let mut dice = Dice::new(seed);
    let redis = Redis::start().await;
    // Little memory and frequent checks, so that rare cases happen often.
    let env = [
        ("ROOMLOG_HUB__RING_MESSAGES", "20"),
        ("ROOMLOG_HUB__LINGER", "100ms"),
        ("ROOMLOG_HUB__CHECK_INTERVAL", "500ms"),
        ("ROOMLOG_LIMITS__OUTBOX", "65536"),
    ];
    let servers = [Server::with(&redis.url(), &env).await, Server::with(&redis.url(), &env).await];
    let over = Arc::new(AtomicBool::new(false));

    let faults = async {
        let started = Instant::now();
        while started.elapsed() < FAULTS_FOR {
            sleep(Duration::from_millis(dice.roll(400))).await;
            match dice.roll(6) {
                0 => drop(redis.ask(&["FUNCTION", "FLUSH"])),
                1 | 2 => drop(redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"])),
                3 => drop(redis.ask(&["CLIENT", "KILL", "TYPE", "normal"])),
                4 => drop(redis.ask(&["CLIENT", "PAUSE", "300", "ALL"])),
                _ => {
                    redis.pause();
                    sleep(Duration::from_millis(dice.roll(700))).await;
                    redis.resume();
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let writers =
        join_all((1..=3).map(|n| write(&servers[n % 2], Dice::new(seed ^ (n as u64) << 32), over.clone())));
    let readers = join_all((1..=6).map(|n| read(&servers, Dice::new(seed ^ (n << 40)), over.clone())));
    let end = async {
        let ((), confirmed) = tokio::join!(faults, writers);
        let mut client = Client::connect(&servers[0], &everything("writer")).await;
        let key = Uuid::new_v4();
        let last = json!({ "op": "publish", "room": ROOM, "data": "the end", "key": key });
        crate::harness::eventually("publishing goes on", async || {
            client.request(last.clone()).await["op"] == "ok"
        })
        .await;
        confirmed.concat()
    };
    let (confirmed, readers) =
        timeout(4 * DEADLINE, async { tokio::join!(end, readers) }).await.expect("an end");
    assert!(confirmed.len() > 100, "{} messages", confirmed.len());
    for reader in readers {
        assert!(confirmed.iter().all(|id| reader.ids.contains(id)), "a confirmed message is missing");
    }
    let stored = redis.ask(&["XLEN", "rl:{room}:log"]).number();
    assert_eq!(stored, confirmed.len() as i64 + 1, "each key is stored once");
}
