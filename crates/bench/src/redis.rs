//! The Redis of a run: a process of its own for each server that is started, on a free port and in a
//! temporary directory, so that all servers have an equal one.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::BenchError;
use super::spawn::{PATIENCE, terminate};
use roomlog_children::Spawner;

/// Programs that can serve as the Redis of a run.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

/// The time at which the run's Redis has a message on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fsync {
    /// Within a second
    Everysec,
    /// Before the publish is confirmed
    Always,
}

impl Fsync {
    /// Returns the value of Redis's `appendfsync`.
    fn name(self) -> &'static str {
        match self {
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}

/// A Redis that was started. Dropping it kills it and removes its data. The process ends before the directory
/// is removed.
#[derive(Debug)]
pub(super) struct Redis {
    pub address: SocketAddr,
    child: Child,
    _spawner: Spawner,
    _directory: Directory,
}

impl Redis {
    /// Starts a Redis and waits until it answers.
    pub async fn start(fsync: Fsync) -> Result<Self, BenchError> {
        let directory = Directory::make()?;
        let failed = |error| BenchError::Io("Redis cannot be started".into(), error);
        // The port was free a moment ago, which is good enough for a measurement.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).map_err(failed)?;
        let mut command = Command::new(program()?);
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &address.port().to_string(),
            "--logfile",
            "redis.log",
        ]);
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", fsync.name()]);
        command.args(["--maxmemory-policy", "noeviction", "--daemonize", "no"]);
        command.arg("--dir").arg(&directory.0).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).process_group(0).kill_on_drop(true);
        let spawner = Spawner::start().map_err(failed)?;
        let child = spawner.spawn(command).await.map_err(failed)?;
        let redis = Self { address, child, _spawner: spawner, _directory: directory };
        let answers = async {
            while redis.ping().await.is_err() {
                sleep(Duration::from_millis(10)).await
            }
        };
        timeout(PATIENCE, answers).await.map_err(|_| redis.late())?;
        Ok(redis)
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub async fn end(mut self) {
        terminate(&mut self.child).await;
    }

    async fn ping(&self) -> io::Result<()> {
        let mut socket = TcpStream::connect(self.address).await?;
        socket.write_all(b"PING\r\n").await?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).await?;
        if &answer == b"+PONG" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn late(&self) -> BenchError {
        let log = std::fs::read_to_string(self._directory.0.join("redis.log")).unwrap_or_default();
        BenchError::Late(PATIENCE, format!("starting Redis: {log}"))
    }
}

/// Returns the first of [`SERVERS`] that is on PATH.
fn program() -> Result<PathBuf, BenchError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        SERVERS.iter().flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)));
    places.find(|place| place.is_file()).ok_or_else(|| {
        BenchError::Refused(format!(
            "no {} on PATH: install Redis or Valkey 7.0 or newer",
            SERVERS.join(" or ")
        ))
    })
}

/// A directory for the run's data, removed on drop.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self, BenchError> {
        let name = format!("roomlog-bench-{}", Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        let made = std::fs::create_dir(&path);
        made.map_err(|error| BenchError::Io(format!("cannot make {}", path.display()), error))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}
