//! Failing disks, as the torture runs simulate them: exactly the messages that may be lost by the documented
//! promises are lost.

use serde_json::json;

use crate::harness::{Dials, Redis, Rest, Server, compiled, eventually, everything, free_port};

/// A Redis on a failing disk.
struct Disk {
    dials: Dials,
    redis: Redis,
    _server: Server,
    rest: Rest,
}

impl Disk {
    async fn with(sync: &str) -> Self {
        let dials = Dials::new(&[0, 0, 0]);
        let library = compiled("tests/torture/shims/disk.c").display().to_string();
        let env = vec![("LD_PRELOAD", library), ("TEST_DISK", dials.path().to_owned())];
        let redis = Redis::in_env(env, free_port(), &["--appendonly", "yes", "--appendfsync", sync]).await;
        let server = Server::on(&redis.url()).await;
        let rest = Rest::new(&server, &everything("ann"));
        Self { dials, redis, _server: server, rest }
    }

    /// Publishes `count` messages, each of which is confirmed.
    async fn publish(&self, count: usize) {
        for n in 0..count {
            self.rest.post("/v1/rooms/room/messages", &json!({ "data": n })).await.with(201);
        }
    }

    /// Returns the number of messages that remain after a crash, with a sound disk again.
    async fn left(&mut self) -> usize {
        self.redis.stop();
        self.dials.set(&[0, 0, 0]);
        self.redis.start_again().await;
        let mut left = None;
        eventually("the node has found Redis again", async || {
            let page = self.rest.get("/v1/rooms/room/messages?limit=1000").await;
            left = page.body["messages"].as_array().map(Vec::len);
            left.is_some()
        })
        .await;
        left.unwrap()
    }
}

#[tokio::test]
async fn a_power_failure_loses_only_unsynced_messages() {
    for (sync, sync_ms, left) in [("everysec", 60_000, 0), ("always", 0, 5)] {
        let mut disk = Disk::with(sync).await;
        // Writes stay in the Redis process until they are synced.
        disk.dials.set(&[1, 0, sync_ms]);
        disk.publish(5).await;
        assert_eq!(disk.left().await, left, "{sync}");
        // A crash without a power failure loses nothing.
        disk.publish(5).await;
        assert_eq!(disk.left().await, left + 5, "{sync}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_messages_and_loses_no_written_ones() {
    let mut disk = Disk::with("everysec").await;
    disk.publish(5).await;
    disk.dials.set(&[0, 1, 0]);
    // Redis confirms the messages of the round in which it detects the full disk.
    eventually("messages are refused", async || {
        disk.rest.post("/v1/rooms/room/messages", &json!({ "data": 1 })).await.status == 503
    })
    .await;
    disk.dials.set(&[0, 0, 0]);
    eventually("messages are taken again", async || {
        disk.rest.post("/v1/rooms/room/messages", &json!({ "data": 1 })).await.status == 201
    })
    .await;
    assert!(disk.left().await >= 6);
}
