//! Starting what is measured: this program's own `serve` with a Redis in a directory that is there for the run only, or
//! the floor.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{BenchError, Target};
use crate::auth::{Permission, RoomGrants, mint};
use crate::config::Config;

/// Time to start, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the token holds.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// What comes before the address in the line that says that a server listens.
const LISTENING: &str = "listening on http://";

/// When the Redis of the run has a message on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fsync {
    /// Within a second
    Everysec,
    /// Before the publish is confirmed
    Always,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// A Redis to use, instead of one of the run's own.
    pub redis_url: Option<String>,
    /// How the run's own Redis is set.
    pub fsync: Fsync,
    /// The process of the Redis at `redis_url`.
    pub redis: Option<u32>,
}

/// A server that was started. Dropping it kills it; [`Spawned::end`] is the gentle way.
#[derive(Debug)]
pub struct Spawned {
    /// How to load it.
    pub target: Target,
    child: Child,
    _log: AbortOnDropHandle<()>,
    _directory: Option<Directory>,
}

impl Spawned {
    /// Starts `serve`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn serve(options: &SpawnOptions) -> Result<Self, BenchError> {
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut command = roomlog(&["serve", "--listen", "127.0.0.1:0"])?;
        command.env("ROOMLOG_AUTH__HS256_SECRET", &secret).env("ROOMLOG_LOG__FORMAT", "text");
        command.env_remove("ROOMLOG_CONFIG").env_remove("ROOMLOG_LOG");
        command.env("ROOMLOG_LOG__LEVEL", "info");
        let directory = match &options.redis_url {
            Some(url) => {
                command.args(["--redis-url", url]);
                None
            }
            None => {
                let directory = Directory::make()?;
                command.arg("--data-dir").arg(&directory.0).env_remove("ROOMLOG_REDIS__URL");
                if options.fsync == Fsync::Everysec {
                    command.env("ROOMLOG_REDIS__DURABILITY", "memory");
                }
                Some(directory)
            }
        };
        let (child, address, log) = start(command).await?;
        let redis = match &directory {
            Some(directory) => directory.redis(options.fsync).await?,
            None => options.redis,
        };
        let (server, token) = (child.id(), token(&secret)?);
        let target = Target { name: "roomlog", address, token, server, redis };
        Ok(Self { target, child, _log: log, _directory: directory })
    }

    /// Starts the floor.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn floor() -> Result<Self, BenchError> {
        let (child, address, log) = start(roomlog(&["bench-floor"])?).await?;
        let target = Target { name: "floor", address, token: String::new(), server: child.id(), redis: None };
        Ok(Self { target, child, _log: log, _directory: None })
    }

    /// Ends it in an orderly way.
    pub async fn end(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _already_gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _killed_when_dropped = timeout(PATIENCE, self.child.wait()).await;
        }
    }
}

/// This program.
fn roomlog(args: &[&str]) -> Result<Command, BenchError> {
    let program = std::env::current_exe()
        .map_err(|error| BenchError::Io("this program cannot be found".into(), error))?;
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C is for the generator, which then ends what it started.
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    Ok(command)
}

/// Starts a server and waits until it says where it listens. What it says later is read and forgotten.
async fn start(mut command: Command) -> Result<(Child, SocketAddr, AbortOnDropHandle<()>), BenchError> {
    let failed = |error| BenchError::Io("the server cannot be started".into(), error);
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().map_err(failed)?;
    let stderr = child.stderr.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let mut lines = BufReader::new(stderr).lines();
    let listening = async {
        let mut said = Vec::new();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            if let Some((_, rest)) = line.split_once(LISTENING) {
                let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c));
                if let Ok(address) = rest[..end.unwrap_or(rest.len())].parse() {
                    return Ok(address);
                }
            }
            said.push(line);
        }
        Err(BenchError::Refused(format!("the server did not start: {}", said.join("\n"))))
    };
    let late = |_| BenchError::Late(PATIENCE, "starting the server".into());
    let address = timeout(PATIENCE, listening).await.map_err(late)??;
    let forget = async move { while let Ok(Some(_)) = lines.next_line().await {} };
    Ok((child, address, AbortOnDropHandle::new(tokio::spawn(forget))))
}

/// A token for everything, as the server that was started takes it.
fn token(secret: &str) -> Result<String, BenchError> {
    let minted = || -> Result<String, Box<dyn std::error::Error>> {
        let overrides = vec![("auth.hs256_secret".to_owned(), toml::Value::String(secret.to_owned()))];
        let config = Config::load(None, std::env::vars(), overrides)?;
        let all = RoomGrants::from([("*".parse()?, Permission::ALL.to_vec())]);
        Ok(mint(&config.auth, &"bench".parse()?, &all, TTL, None)?)
    };
    minted().map_err(|error| BenchError::Refused(format!("no token can be made: {error}")))
}

/// The data directory of the run's own Redis, which goes when it is dropped.
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

    /// Sets the Redis in it, and says which process it is.
    async fn redis(&self, fsync: Fsync) -> Result<Option<u32>, BenchError> {
        if fsync == Fsync::Everysec {
            let told = async {
                let mut socket = UnixStream::connect(self.0.join("redis.sock")).await?;
                socket.write_all(b"CONFIG SET appendfsync everysec\r\n").await?;
                let mut answer = [0; 5];
                socket.read_exact(&mut answer).await?;
                if &answer == b"+OK\r\n" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
            };
            told.await.map_err(|error| BenchError::Io("Redis cannot be set".into(), error))?;
        }
        let pid = std::fs::read_to_string(self.0.join("redis.pid")).unwrap_or_default();
        Ok(pid.trim().parse().ok())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}
