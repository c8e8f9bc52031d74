//! The server with its own Redis: the data that it keeps, the processes that it leaves behind, and its errors
//! when it cannot start.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Client, Rest, Server, admin, eventually, everything, id_of, run, seqs, within};

async fn start(dir: &Path) -> Server {
    Server::serve(&["--data-dir", dir.to_str().unwrap()], &[]).await
}

fn redis_of(dir: &Path) -> Pid {
    Pid::from_raw(std::fs::read_to_string(dir.join("redis.pid")).unwrap().trim().parse().unwrap())
}

fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

/// Without a limit, the embedded Redis would grow until the system kills it.
#[tokio::test]
async fn memory_is_limited_and_doctor_reports_when_it_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let limit = async |server: &Server| {
        let ready = Rest::anonymous(server).get("/readyz").await.with(200);
        let (_, limit) = ready.as_str().unwrap().split_once("memory limit ").unwrap();
        limit.split_once(" MiB").unwrap().0.parse::<u64>().unwrap()
    };
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap();
    let machine = machine.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let machine: u64 = machine.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
    assert!((64..=machine / 2).contains(&limit(&server).await));
    drop(server);

    let args = ["--data-dir", dir.path().to_str().unwrap()];
    let env = [("ROOMLOG_EMBEDDED__MAX_MEMORY", "10MiB")];
    let server = Server::serve(&args, &env).await;
    assert_eq!(limit(&server).await, 10);
    let rest = Rest::new(&server, &admin());
    let publish = json!({ "data": "x".repeat(60_000) });
    eventually("it is full", async || {
        let answer = rest.post("/v1/rooms/room/messages", &publish).await;
        answer.status == 503 && answer.body["detail"].as_str().unwrap().contains("nearly full")
    })
    .await;
    let found = run(&[&["doctor"], &args[..]].concat(), &env).await.success();
    assert!(found.contains("% of maxmemory is in use"), "{found}");
}

#[tokio::test]
async fn data_survives_a_clean_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.subscribe("room", json!({ "durable": "phone" })).await;
    client.until("live").await;
    let ids = client.publish_many("room", 20, 100).await;
    client.ok(json!({ "op": "ack", "room": "room", "id": ids[4] })).await;
    let redis = redis_of(dir.path());
    assert!(server.terminate().await.success());
    eventually("its Redis has ended too", async || !runs(redis)).await;

    let server = start(dir.path()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.subscribe("room", json!({ "durable": "phone" })).await;
    assert_eq!(crate::harness::ids(&client.until("live").await), ids[5..]);
    assert_eq!(crate::harness::seq(&client.publish("room", json!(1)).await), 21);
}

#[tokio::test]
async fn a_kill_loses_nothing_and_does_not_block_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut stored = 0;
    for _ in 0..3 {
        let mut server = start(dir.path()).await;
        let redis = redis_of(dir.path());
        let mut client = Client::connect(&server, &everything("ann")).await;
        stored += client.publish_many("room", 100, 100).await.len();
        server.kill();
        within(Duration::from_secs(10), "its Redis ends with it", async || !runs(redis)).await;
    }
    let server = start(dir.path()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.subscribe("room", json!({ "since": "0" })).await;
    let messages = client.until("live").await;
    assert_eq!(seqs(&messages), (1..=stored as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_crashed_embedded_redis_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.join("room").await;
    client.publish("room", json!(1)).await;
    nix::sys::signal::kill(redis_of(dir.path()), Signal::SIGKILL).unwrap();
    let publish = json!({ "op": "publish", "room": "room", "data": 2, "key": uuid::Uuid::new_v4() });
    let mut id = None;
    eventually("publishing goes on", async || {
        let answer = client.request(publish.clone()).await;
        id = (answer["op"] == "ok").then(|| id_of(&answer));
        id.is_some()
    })
    .await;
    let messages = client.messages(2).await;
    assert_eq!(seqs(&messages), [1, 2]);
    assert_eq!(id, Some(id_of(&messages[1])));
    let ready = Rest::anonymous(&server);
    eventually("it is ready again", async || ready.get("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_fails_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path()).await;
    let path = dir.path().to_str().unwrap();
    let error = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path], &[]).await.failure();
    assert!(error.contains("--data-dir") && error.contains(path), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    Client::connect(&first, &everything("ann")).await.publish("room", json!(1)).await;
}

/// Arguments, environment, and words that the error must contain.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[tokio::test]
async fn errors_at_startup_are_clear() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let nowhere = "redis://127.0.0.1:1";
    let cases: [Case<'_>; 6] = [
        (&["--listen", &address, "--data-dir", path], &[], &[&address, "--listen"]),
        (&["--data-dir", file], &[], &[file, "--data-dir"]),
        (&["--data-dir", path], &[("PATH", "/nonexistent")], &["redis-server", "--redis-url"]),
        (&["--redis-url", nowhere], &[], &["127.0.0.1:1"]),
        (&["--data-dir", path], &[("ROOMLOG_AUTH__HS256_SECRET", "")], &["hs256_secret"]),
        (&["--data-dir", path], &[("ROOMLOG_LIMITS__MAX_MESAGE", "1")], &["ROOMLOG_LIMITS__MAX_MESAGE"]),
    ];
    for (args, env, words) in cases {
        let listen = if args.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] };
        let args = [&["serve"], listen, args].concat();
        let error = run(&args, env).await.failure();
        for word in words {
            assert!(error.contains(word), "{args:?} {env:?} should name {word}:\n{error}");
        }
        assert!(!error.contains("panicked"), "{error}");
    }
}
