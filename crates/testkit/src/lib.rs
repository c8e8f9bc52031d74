//! The foundation of the tests and of the load generator: Redis servers and clusters, servers of the binary
//! under test, tokens, and clients. All processes end with the test, however the test ends.

mod authority;
mod client;
mod clock;
mod cluster;
mod codec;
mod dice;
mod events;
mod nginx;
mod process;
mod prometheus;
mod redis;
mod resp;
mod rest;
mod server;
mod shim;
mod terminal;
mod token;
pub mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

pub use authority::Authority;
pub use client::{Client, Upgrade, id_of, ids, seq, seqs};
pub use clock::Clock;
pub use cluster::{Cluster, Move, SLOTS, Sentinel, form};
pub use codec::{binary, from_msgpack, to_msgpack};
pub use dice::Dice;
pub use events::{Event, Events};
pub use nginx::Nginx;
pub use process::{Lines, Memory, Process, follow, listening};
pub use prometheus::Prometheus;
pub use redis::{Redis, free_port};
pub use resp::{Connection, Place, Reply};
pub use rest::{Answer, Rest, answer, install_tls_provider};
pub use server::{
    NO_CHECKS, Run, Running, Server, program, run, run_program, run_with_input, spawn, spawn_program,
};
pub use shim::{Dials, compiled};
pub use terminal::Terminal;
pub use token::{SECRET, admin, everything, now, now_ms, sign, token, token_for, token_with_id};

/// Returns the absolute path of a file in the repository.
pub fn path(path: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the repository").join(path)
}

/// Returns the text of a file in the repository.
///
/// # Panics
/// If it cannot be read.
pub fn repository(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Time limit for anything that should be quick. Far above the usual time, since tests share few cores.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
///
/// # Panics
/// If it does not within [`DEADLINE`].
pub async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    within(DEADLINE, what, condition).await;
}

/// Waits until a condition holds, for at most `limit`.
///
/// # Panics
/// If it does not hold by then.
pub async fn within(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain for {limit:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the output of a future.
///
/// # Panics
/// If it takes longer than [`DEADLINE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("in vain for {DEADLINE:?}: {what}"))
}

/// Starts a Redis, and a server on it.
pub async fn redis_and_server() -> (Redis, Server) {
    let (redis, [server]) = redis_and_servers().await;
    (redis, server)
}

/// Starts a Redis, and this many servers on it: `let (redis, [one, two]) = redis_and_servers().await;`
pub async fn redis_and_servers<const COUNT: usize>() -> (Redis, [Server; COUNT]) {
    let redis = Redis::start().await;
    let mut servers = Vec::new();
    for _ in 0..COUNT {
        servers.push(Server::on(&redis.url()).await);
    }
    (redis, servers.try_into().expect("as many as were started"))
}

/// Starts a server, and a client that publishes `count` messages to the room `room`. Returns their ids too.
pub async fn room_with(count: usize) -> (Redis, Server, Client, Vec<String>) {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let ids = client.publish_many("room", count, 10).await;
    (redis, server, client, ids)
}

/// Waits until a node serves a room again. After Redis was away, the node's connections come back one by one:
/// the one for appends and reads, and the one for notifications.
pub async fn served_again(server: &Server, room: &str) {
    eventually("the room is served again", async || {
        let mut client = Client::connect(server, &everything("probe")).await;
        let subscribed = client.request(json!({ "op": "subscribe", "room": room })).await;
        subscribed["op"] == "ok"
            && client.request(json!({ "op": "history", "room": room })).await["op"] == "ok"
    })
    .await;
}
