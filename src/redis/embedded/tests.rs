//! The embedded Redis against the real server, faults included. Nothing sleeps for a guessed time: tests wait
//! for the expected state, under a deadline.

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::*;

/// Names the data directory for [`a_node_to_be_killed`].
const HELPER: &str = "ROOMLOG_TEST_EMBEDDED_HELPER";

fn options(dir: &Path) -> EmbeddedOptions {
    EmbeddedOptions { data_dir: dir.to_owned(), server: None, max_memory: None }
}

async fn start(dir: &Path) -> Embedded {
    Embedded::start(&options(dir)).await.unwrap()
}

async fn ask(dir: &Path, command: &[&str]) -> std::io::Result<Reply> {
    resp::ask(&dir.join("redis.sock"), command).await
}

async fn set(dir: &Path, value: &str) {
    assert_eq!(ask(dir, &["SET", "key", value]).await.unwrap(), Reply::Status("OK".to_owned()));
}

async fn get(dir: &Path) -> Option<String> {
    match ask(dir, &["GET", "key"]).await.unwrap() {
        Reply::Bulk(value) => value,
        other => panic!("{other:?}"),
    }
}

/// The raw reply of Redis to `CONFIG GET`: `*2`, the name's length, the name, the value's length, the value.
fn config(dir: &Path, name: &str) -> String {
    let mut stream = UnixStream::connect(dir.join("redis.sock")).unwrap();
    write!(stream, "CONFIG GET {name}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn pid_of(dir: &Path) -> Option<i32> {
    fs::read_to_string(dir.join("redis.pid")).ok()?.trim().parse().ok()
}

/// Returns true if the process runs. A process that ended but was not reaped does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn leave_over(dir: &Path) -> std::process::Child {
    let home = Home::open(dir).unwrap();
    let mut command = Command::new("redis-server");
    command
        .args(child::arguments(&home, 1 << 30))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    command.spawn().unwrap()
}

#[tokio::test]
async fn starts_answers_and_stops() {
    let dir = TempDir::new().unwrap();
    let redis = start(dir.path()).await;
    assert!(redis.url().starts_with("redis+unix:///") && redis.url().ends_with("/redis.sock"));
    assert!(redis.state().is_up());
    let info = ask(dir.path(), &["INFO", "persistence"]).await.unwrap();
    assert!(matches!(info, Reply::Bulk(Some(text)) if text.contains("aof_enabled:1")));

    let (state, pid) = (redis.state(), pid_of(dir.path()).unwrap());
    redis.stop().await;
    assert!(!state.is_up() && !runs(pid));
}

#[tokio::test]
async fn settings_are_those_that_durability_needs() {
    let dir = TempDir::new().unwrap();
    let redis = start(dir.path()).await;
    for (name, expected) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
        ("maxmemory-policy", "noeviction"),
        ("save", ""),
        ("port", "0"),
    ] {
        let answer = config(dir.path(), name);
        assert_eq!(answer.lines().nth(4), Some(expected), "{name}: {answer}");
    }
    redis.stop().await;
}

#[tokio::test]
async fn a_second_one_on_the_same_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let first = start(dir.path()).await;
    set(dir.path(), "first").await;
    let error = Embedded::start(&options(dir.path())).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
    assert_eq!(get(dir.path()).await.as_deref(), Some("first"));
    first.stop().await;
}

#[tokio::test]
async fn data_survives_stop_and_start() {
    let dir = TempDir::new().unwrap();
    let redis = start(dir.path()).await;
    set(dir.path(), "kept").await;
    redis.stop().await;
    let redis = start(dir.path()).await;
    assert_eq!(get(dir.path()).await.as_deref(), Some("kept"));
    redis.stop().await;
}

#[tokio::test]
async fn a_killed_redis_is_started_again_with_its_data() {
    let dir = TempDir::new().unwrap();
    let redis = start(dir.path()).await;
    let state = redis.state();
    for round in 1..=2 {
        set(dir.path(), &round.to_string()).await;
        kill(Pid::from_raw(pid_of(dir.path()).unwrap()), Signal::SIGKILL).unwrap();
        eventually("a restart", async || state.restarts() == round && state.is_up()).await;
        assert_eq!(get(dir.path()).await, Some(round.to_string()));
    }
    redis.stop().await;
}

#[tokio::test]
async fn stopping_while_it_is_down_ends_too() {
    let dir = TempDir::new().unwrap();
    let redis = start(dir.path()).await;
    let state = redis.state();
    kill(Pid::from_raw(pid_of(dir.path()).unwrap()), Signal::SIGKILL).unwrap();
    eventually("its death is seen", async || !state.is_up()).await;
    redis.stop().await;
    start(dir.path()).await.stop().await;
}

#[tokio::test]
async fn dropping_ends_redis_and_frees_the_directory() {
    let dir = TempDir::new().unwrap();
    let redis = start(dir.path()).await;
    let pid = pid_of(dir.path()).unwrap();
    drop(redis);
    eventually("the end", async || !runs(pid)).await;
    start(dir.path()).await.stop().await;
}

#[tokio::test]
async fn a_leftover_redis_is_replaced() {
    let dir = TempDir::new().unwrap();
    let mut old = leave_over(dir.path());
    eventually("an answer", async || ask(dir.path(), &["PING"]).await.is_ok()).await;
    set(dir.path(), "old").await;

    let redis = start(dir.path()).await;
    assert!(old.wait().unwrap().success(), "it was asked, not killed");
    assert_eq!(get(dir.path()).await.as_deref(), Some("old"));
    redis.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_leftover_redis_without_its_socket_is_found_by_its_process() {
    let dir = TempDir::new().unwrap();
    let mut old = leave_over(dir.path());
    eventually("an answer", async || ask(dir.path(), &["PING"]).await.is_ok()).await;
    fs::remove_file(dir.path().join("redis.sock")).unwrap();

    let home = Home::open(dir.path()).unwrap();
    leftover::end(&home, Duration::from_millis(500)).await.unwrap();
    eventually("its end", async || old.try_wait().unwrap().is_some()).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_leftover_redis_that_hangs_is_killed() {
    let dir = TempDir::new().unwrap();
    let mut old = leave_over(dir.path());
    eventually("an answer", async || ask(dir.path(), &["PING"]).await.is_ok()).await;
    kill(Pid::from_raw(old.id().try_into().unwrap()), Signal::SIGSTOP).unwrap();

    let home = Home::open(dir.path()).unwrap();
    leftover::end(&home, Duration::from_millis(50)).await.unwrap();
    assert!(!old.wait().unwrap().success());
}

#[tokio::test]
async fn a_long_path_has_its_socket_in_another_directory() {
    let dir = TempDir::new().unwrap();
    let long = dir.path().join("long/".repeat(30)).join("with a space");
    let redis = start(&long).await;
    let socket = redis.url().strip_prefix("redis+unix://").unwrap().to_owned();
    assert!(socket.len() <= 103 && !socket.contains(' '), "{socket}");
    let pong = resp::ask(Path::new(&socket), &["PING"]).await.unwrap();
    assert_eq!(pong, Reply::Status("PONG".to_owned()));
    assert!(long.join("appendonlydir").is_dir());
    redis.stop().await;
    fs::remove_dir(Path::new(&socket).parent().unwrap()).unwrap();
}

#[tokio::test]
async fn a_failure_shows_the_last_lines_of_redis() {
    let dir = TempDir::new().unwrap();
    let aof = dir.path().join("appendonlydir");
    fs::create_dir(&aof).unwrap();
    fs::write(aof.join("appendonly.aof.manifest"), "nonsense\n").unwrap();
    let error = Embedded::start(&options(dir.path())).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, EmbeddedError::Failed { .. }), "{text}");
    assert!(text.contains("exit status: 1") && text.contains("Invalid AOF manifest"), "{text}");
}

/// Not a test of its own: the node that the next test kills.
#[tokio::test]
async fn a_node_to_be_killed() {
    if let Some(dir) = env::var_os(HELPER) {
        let _redis = start(Path::new(&dir)).await;
        std::future::pending::<()>().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_node_ends_its_redis() {
    let dir = TempDir::new().unwrap();
    let mut node = Command::new(env::current_exe().unwrap())
        .args(["--exact", "redis::embedded::tests::a_node_to_be_killed"])
        .env(HELPER, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("an answer", async || ask(dir.path(), &["PING"]).await.is_ok()).await;
    set(dir.path(), "confirmed").await;
    let pid = pid_of(dir.path()).unwrap();
    assert!(runs(pid));

    node.kill().unwrap();
    node.wait().unwrap();
    eventually("the end of Redis", async || !runs(pid)).await;

    let redis = start(dir.path()).await;
    assert_eq!(get(dir.path()).await.as_deref(), Some("confirmed"));
    redis.stop().await;
}
