//! A Redis (or Valkey) process in its own directory, which can be stopped, started again and frozen.

use std::io;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::process::Process;
use super::resp::{self, Place, Reply};
use super::{Clock, DEADLINE, eventually, soon};

const LOG: &str = "redis.log";

const SENTINEL: &str = "--sentinel";

/// A running Redis. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    dir: TempDir,
    place: Place,
    settings: Vec<String>,
    surroundings: Surroundings,
    process: Process,
}

/// The conditions under which it runs.
#[derive(Debug, Default)]
struct Surroundings {
    /// Extra time of each disk sync.
    delay: Duration,
    env: Vec<(&'static str, String)>,
    /// Set to run Valkey, whatever else is installed.
    valkey: bool,
}

impl Redis {
    /// Starts a Redis on a Unix socket, without persistence.
    pub async fn start() -> Self {
        Self::start_with(None, &["--appendonly", "no"]).await
    }

    /// Starts a Redis on a port whose data survives its own `kill -9`.
    pub async fn durable() -> Self {
        Self::start_with(Some(free_port()), &["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts a Redis on a free port with these settings.
    pub async fn on_port(settings: &[&str]) -> Self {
        Self::start_with(Some(free_port()), settings).await
    }

    /// Starts a Redis on a port, on a disk that takes `delay` longer for each sync.
    pub async fn on_disk_that_takes(delay: Duration, settings: &[&str]) -> Self {
        let surroundings = Surroundings { delay, ..Surroundings::default() };
        Self::start_in(surroundings, Some(free_port()), settings).await
    }

    /// Starts a Redis on a port, which follows this clock.
    pub async fn on_clock(clock: &Clock, settings: &[&str]) -> Self {
        Self::in_env(clock.env().to_vec(), free_port(), settings).await
    }

    /// Starts a Redis on this port, with additional environment variables.
    pub async fn in_env(env: Vec<(&'static str, String)>, port: u16, settings: &[&str]) -> Self {
        Self::start_in(Surroundings { env, ..Surroundings::default() }, Some(port), settings).await
    }

    /// Starts a Valkey on a free port with these settings.
    pub async fn valkey(settings: &[&str]) -> Self {
        let surroundings = Surroundings { valkey: true, ..Surroundings::default() };
        Self::start_in(surroundings, Some(free_port()), settings).await
    }

    pub async fn sentinel() -> Self {
        Self::on_port(&[SENTINEL]).await
    }

    /// Starts a replica of this server, of the same kind, and waits until it has caught up.
    pub async fn replica(&self) -> Self {
        let primary = format!("127.0.0.1 {}", self.port());
        let surroundings = Surroundings { valkey: self.surroundings.valkey, ..Surroundings::default() };
        let settings = ["--appendonly", "no", "--replicaof", &primary];
        let replica = Self::start_in(surroundings, Some(free_port()), &settings).await;
        eventually("the replica follows", async || {
            replica.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
        })
        .await;
        replica
    }

    /// Starts a Redis with these settings on this port, or on a Unix socket if there is none.
    pub async fn start_with(port: Option<u16>, settings: &[&str]) -> Self {
        Self::start_in(Surroundings::default(), port, settings).await
    }

    /// Starts a Redis on a free port with these settings, for programs that must not panic.
    ///
    /// # Errors
    /// If none is installed, or it does not answer. The error then has its log.
    pub async fn try_on_port(settings: &[&str]) -> io::Result<Self> {
        Self::try_start_in(Surroundings::default(), Some(free_port()), settings).await
    }

    async fn start_in(surroundings: Surroundings, port: Option<u16>, settings: &[&str]) -> Self {
        Self::try_start_in(surroundings, port, settings).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start_in(
        surroundings: Surroundings,
        port: Option<u16>,
        settings: &[&str],
    ) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("roomlog-").tempdir()?;
        let place = port.map_or_else(|| Place::Socket(dir.path().join("redis.sock")), Place::Port);
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let process = spawn(&dir, &place, &settings, &surroundings)?;
        let mut redis = Self { dir, place, settings, surroundings, process };
        redis.wait().await?;
        Ok(redis)
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Socket(path) => format!("redis+unix://{}", path.display()),
            Place::Port(port) => format!("redis://127.0.0.1:{port}"),
        }
    }

    pub fn port(&self) -> u16 {
        match self.place {
            Place::Port(port) => port,
            Place::Socket(_) => panic!("this Redis is on a socket"),
        }
    }

    /// Sends a command and returns the reply.
    ///
    /// # Panics
    /// If it does not answer, or returns an error.
    pub fn ask<A: AsRef<[u8]>>(&self, command: &[A]) -> Reply {
        match resp::ask(&self.place, command).unwrap() {
            Reply::Error(error) => {
                let words: Vec<_> =
                    command.iter().map(|word| String::from_utf8_lossy(word.as_ref())).collect();
                panic!("Redis refused {words:?}: {error}")
            }
            reply => reply,
        }
    }

    /// Returns its address, for commands while this value is borrowed elsewhere.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default()
    }

    /// Returns how often a command was called since the statistics were reset.
    pub fn calls(&self, command: &str) -> u64 {
        let stats = self.ask(&["INFO", "commandstats"]).text();
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
    }

    /// Kills it as a crash would.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(&mut self) {
        soon("Redis ends", self.process.terminate()).await;
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.exit().is_some()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Starts it again after [`Redis::stop`], with the data that it kept.
    pub async fn start_again(&mut self) {
        self.process = spawn(&self.dir, &self.place, &self.settings, &self.surroundings).unwrap();
        self.wait().await.unwrap();
    }

    /// Freezes it: its connections stay open, and it answers nothing.
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP).unwrap();
    }

    /// Resumes it after [`Redis::pause`].
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT).unwrap();
    }

    async fn wait(&mut self) -> io::Result<()> {
        let failed = |what: &str, log: String| Err(io::Error::other(format!("Redis {what}: {log}")));
        let answer = async {
            while !matches!(resp::ask(&self.place, &["PING"]), Ok(Reply::Bytes(_))) {
                if self.process.exit().is_some() {
                    return failed("ended right after its start", self.log());
                }
                sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        match timeout(DEADLINE, answer).await {
            Ok(answer) => answer,
            Err(_) => failed("does not answer", self.log()),
        }
    }
}

fn spawn(
    dir: &TempDir,
    place: &Place,
    settings: &[String],
    surroundings: &Surroundings,
) -> io::Result<Process> {
    let (dir, delay) = (dir.path(), surroundings.delay);
    let start = |program: &str| {
        let mut command = if delay.is_zero() { Command::new(program) } else { delayed(program, delay) };
        if settings.iter().any(|setting| setting == SENTINEL) {
            // A sentinel keeps its state in its configuration file, which must exist first.
            let path = dir.join("sentinel.conf");
            std::fs::write(&path, "")?;
            command.arg(path);
        }
        match place {
            Place::Socket(path) => command.args(["--port", "0", "--unixsocket"]).arg(path),
            Place::Port(port) => command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]),
        };
        command.arg("--dir").arg(dir).arg("--logfile").arg(dir.join(LOG));
        command
            .args([
                "--repl-diskless-sync-delay",
                "0",
                "--save",
                "",
                "--maxmemory-policy",
                "noeviction",
                "--daemonize",
                "no",
            ])
            .args(settings)
            .envs(surroundings.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::start(command)
    };
    if surroundings.valkey {
        // On PATH, or where scripts/install-deps.sh puts it on systems without a package.
        let data = std::env::var("XDG_DATA_HOME")
            .or_else(|_| std::env::var("HOME").map(|home| home + "/.local/share"));
        let own = format!("{}/roomlog/valkey/valkey-server", data.unwrap_or_default());
        return start("valkey-server")
            .or_else(|_| start(&own))
            .map_err(|error| missing("valkey-server", error));
    }
    start("redis-server")
        .or_else(|_| start("valkey-server"))
        .map_err(|error| missing("redis-server or valkey-server", error))
}

fn missing(program: &str, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::other(format!(
            "no {program} on PATH: install Redis or Valkey 7.0 or newer (`make deps`)"
        )),
        _ => error,
    }
}

/// Runs a program whose disk syncs take longer. strace is detached from it (`-D`), so that the child process
/// is the program itself.
fn delayed(program: &str, delay: Duration) -> Command {
    let mut command = Command::new("strace");
    command.args([
        "-D",
        "-f",
        "--seccomp-bpf",
        "-qqq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
    ]);
    command.arg(format!("inject=fsync,fdatasync:delay_enter={}", delay.as_micros())).arg(program);
    command
}

/// Returns a port that nothing uses, and whose cluster bus port (10,000 above it) is free too. Both are below
/// the range of ephemeral ports, so no outgoing connection takes them by chance.
pub fn free_port() -> u16 {
    const FIRST: u16 = 11_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run in parallel begin at different ports.
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}
