//! Ten thousand connections at once, and a shutdown of the server while they are open.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Client, Redis, Rest, Server, Upgrade, admin, eventually, everything};

const CONNECTIONS: usize = 10_000;

/// Number of connections that are opened at a time.
const AT_ONCE: usize = 500;

/// Number of the connections whose clients read nothing.
const DEAF: usize = 100;

/// Grace time for requests in progress at shutdown, as configured below.
const GRACE: Duration = Duration::from_secs(10);

/// Raises this process's limit of open files as far as possible.
fn raise_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        hard > CONNECTIONS as u64 + 1000,
        "{hard} open files are too few: raise the hard limit (ulimit -Hn)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Connects, and joins one of a hundred rooms.
async fn join(server: &Server, number: usize, upgrade: Upgrade<'_>) -> Client {
    let mut client =
        Client::connect_with(server, &everything(&format!("user.{}", number % 500)), upgrade).await;
    client.join(&format!("room.{}", number % 100)).await;
    client
}

#[tokio::test]
async fn a_shutdown_notifies_ten_thousand_clients_in_time() {
    raise_files();
    let redis = Redis::start().await;
    let mut server = Server::with(&redis.url(), &[("ROOMLOG_SERVER__SHUTDOWN_GRACE", "10s")]).await;
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for first in (0..CONNECTIONS - DEAF).step_by(AT_ONCE) {
        let numbers = first..(first + AT_ONCE).min(CONNECTIONS - DEAF);
        let joining = numbers.map(|number| join(&server, number, Upgrade::default()));
        clients.extend(futures_util::future::join_all(joining).await);
    }
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        deaf.push(join(&server, 0, Upgrade { buffer: Some(4096), ..Upgrade::default() }).await);
    }
    let rest = Rest::new(&server, &admin());
    eventually("all are connected", async || rest.connections("websocket").await == CONNECTIONS).await;
    // More than the sockets accept of clients that do not read.
    let data = "x".repeat(50_000);
    for _ in 0..40 {
        rest.post("/v1/rooms/room.0/messages", &json!({ "data": data })).await.with(201);
    }

    server.signal(Signal::SIGTERM);
    let ended = Instant::now();
    let mut told = JoinSet::new();
    for mut client in clients {
        told.spawn(async move {
            let goodbye = loop {
                match client.next_or_closed().await {
                    Some(frame) if frame["op"] == "goodbye" => break frame,
                    Some(_) => {}
                    None => panic!("closed without a goodbye"),
                }
            };
            (goodbye["retry_after_ms"].as_u64().unwrap(), client.closed().await)
        });
    }
    let told = told.join_all().await;
    assert_eq!(told.len(), CONNECTIONS - DEAF);
    assert!(told.iter().all(|(_, code)| *code == 1012));
    // They are not all told to reconnect at the same moment.
    let (first, last) = (told.iter().map(|told| told.0).min(), told.iter().map(|told| told.0).max());
    assert!(last.unwrap() - first.unwrap() > 1000, "{first:?} to {last:?}");
    let status = server.ended().await;
    assert!(status.success(), "{status}");
    assert!(ended.elapsed() < GRACE + Duration::from_secs(5), "{:?}", ended.elapsed());
    drop(deaf);
}
