//! `roomlog top` and `doctor --ready` against real servers. The layout is tested beside its view.

use serde_json::json;

use crate::harness::{
    Client, Redis, Server, eventually, everything, redis_and_server, redis_and_servers, run,
};

#[tokio::test]
async fn a_snapshot_shows_the_state_of_all_servers() {
    let (_redis, [one, mut two]) = redis_and_servers().await;
    let mut client = Client::connect(&one, &everything("ann")).await;
    client.join("room").await;
    client.publish("room", json!(1)).await;
    let urls = [one.url(), two.url()];
    let text = run(&["top", &urls[0], &urls[1]], &[]).await.success();
    assert!(text.starts_with("Roomlog  2 of 2 ready"), "{text}");
    let row = text.lines().find(|line| line.starts_with(&one.address.to_string())).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..4], ["ready", "1", "1"], "{text}");
    assert!(words[9].ends_with('M'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    two.kill();
    let text = run(&["top", &urls[0], &urls[1]], &[]).await.success();
    assert!(text.starts_with("Roomlog  1 of 2 ready") && text.contains("GONE"), "{text}");
    let none = run(&["top", &urls[1]], &[]).await;
    assert!(none.failure().contains("no server is ready"));
    assert!(run(&["top", "127.0.0.1:8080"], &[]).await.failure().contains("http://127.0.0.1:8080"));
}

/// `script` provides a terminal, and `q` comes from its input.
#[tokio::test]
async fn on_a_terminal_it_runs_until_q_is_pressed() {
    let (_redis, server) = redis_and_server().await;
    let command = format!("stty cols 80 rows 24; {} top {}", env!("CARGO_BIN_EXE_roomlog"), server.url());
    let mut child = tokio::process::Command::new("script")
        .args(["--quiet", "--command", &command, "/dev/null"])
        .env("TERM", "xterm-256color")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut screen = Vec::new();
    crate::harness::soon("it draws", async {
        while !String::from_utf8_lossy(&screen).contains("ready") {
            tokio::io::AsyncReadExt::read_buf(&mut output, &mut screen).await.unwrap();
        }
    })
    .await;
    tokio::io::AsyncWriteExt::write_all(&mut input, b"q").await.unwrap();
    let ended = crate::harness::soon("it quits", child.wait()).await.unwrap();
    assert!(ended.success(), "{ended:?}");
}

#[tokio::test]
async fn a_command_checks_readiness() {
    let mut redis = Redis::durable().await;
    let server = Server::on(&redis.url()).await;
    let address = server.address.to_string();
    let env = [("ROOMLOG_SERVER__LISTEN", &*address)];
    let ready = run(&["doctor", "--ready"], &env).await.success();
    assert!(["ready; Redis ", "ready; Valkey "].iter().any(|start| ready.starts_with(start)), "{ready}");
    redis.stop();
    eventually("it says no", async || !run(&["doctor", "--ready"], &env).await.status.success()).await;
    assert!(run(&["doctor", "--ready"], &env).await.failure().contains("no probe"));
    let nobody = [("ROOMLOG_SERVER__LISTEN", "127.0.0.1:1")];
    assert!(run(&["doctor", "--ready"], &nobody).await.failure().contains("nothing answers at 127.0.0.1:1"));
}
