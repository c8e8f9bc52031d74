//! Starting what is measured: nodes of this program's own `serve` on a fresh Redis, or the floor.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::redis::{Fsync, Redis};
use super::{BenchError, Node, Target};
use crate::auth::{Permission, RoomGrants, mint};
use crate::config::Config;

/// Time to start, and to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long the token holds.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// What comes before the address in the line that says that a server listens.
const LISTENING: &str = "listening on http://";

/// A server that can be measured.
#[derive(Debug, Clone)]
pub enum Server {
    /// One that runs already.
    Running(Target),
    /// This program's own, started for each repeat.
    Roomlog(SpawnOptions),
    /// The floor, started for each repeat.
    Floor,
}

/// How this program's own server is started.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// How many nodes.
    pub nodes: usize,
    /// A Redis to use, instead of one of the run's own.
    pub redis_url: Option<String>,
    /// How the run's own Redis is set.
    pub fsync: Fsync,
    /// The process of the Redis at `redis_url`.
    pub redis: Option<u32>,
    /// The address of the Redis at `redis_url`.
    pub redis_address: Option<SocketAddr>,
}

/// A server that is ready. Dropping it kills what was started; [`Started::end`] is the gentle way.
#[derive(Debug)]
pub struct Started {
    /// How to load it.
    pub target: Target,
    processes: Vec<Process>,
    redis: Option<Redis>,
}

impl Server {
    /// What it is called in the report.
    pub fn name(&self) -> &str {
        match self {
            Self::Running(target) => &target.name,
            Self::Roomlog(_) => "roomlog",
            Self::Floor => "floor",
        }
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(&self) -> Result<Started, BenchError> {
        match self {
            Self::Running(target) => {
                Ok(Started { target: target.clone(), processes: Vec::new(), redis: None })
            }
            Self::Roomlog(options) => roomlog(self.name(), options).await,
            Self::Floor => {
                let process = Process::start(program(&["bench-floor"])?).await?;
                Ok(Started::of(self.name(), String::new(), vec![process]))
            }
        }
    }
}

impl Started {
    fn of(name: &str, token: String, processes: Vec<Process>) -> Self {
        let nodes = processes.iter().map(Process::node).collect();
        let target = Target { name: name.to_owned(), nodes, token, redis: None, redis_address: None };
        Self { target, processes, redis: None }
    }

    /// Ends what was started, in an orderly way.
    pub async fn end(mut self) {
        for process in &mut self.processes {
            terminate(&mut process.child).await;
        }
        if let Some(redis) = self.redis {
            redis.end().await;
        }
    }
}

/// Starts Redis, and `serve` as often as there are to be nodes.
async fn roomlog(name: &str, options: &SpawnOptions) -> Result<Started, BenchError> {
    let redis = match options.redis_url {
        Some(_) => None,
        None => Some(Redis::start(options.fsync).await?),
    };
    let own = redis.as_ref().map(|redis| format!("redis://{}", redis.address));
    let url = options.redis_url.clone().or(own).unwrap_or_default();
    let durability = match options.fsync {
        Fsync::Always => "disk",
        Fsync::Everysec => "memory",
    };
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut processes = Vec::new();
    for _ in 0..options.nodes {
        let mut command = program(&["serve", "--listen", "127.0.0.1:0", "--redis-url", &url])?;
        command.env("ROOMLOG_AUTH__HS256_SECRET", &secret).env("ROOMLOG_LOG__FORMAT", "text");
        command.env_remove("ROOMLOG_CONFIG").env_remove("ROOMLOG_LOG");
        command.env("ROOMLOG_LOG__LEVEL", "info");
        if redis.is_some() {
            command.env("ROOMLOG_REDIS__DURABILITY", durability);
        }
        processes.push(Process::start(command).await?);
    }
    let mut started = Started::of(name, token(&secret)?, processes);
    started.target.redis = redis.as_ref().map_or(options.redis, Redis::pid);
    started.target.redis_address = redis.as_ref().map(|redis| redis.address).or(options.redis_address);
    started.redis = redis;
    Ok(started)
}

/// This program.
fn program(args: &[&str]) -> Result<Command, BenchError> {
    let program = std::env::current_exe()
        .map_err(|error| BenchError::Io("this program cannot be found".into(), error))?;
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C is for the generator, which then ends what it started.
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    Ok(command)
}

/// A process that serves. Dropping it kills it.
#[derive(Debug)]
struct Process {
    child: Child,
    address: SocketAddr,
    _log: AbortOnDropHandle<()>,
}

impl Process {
    /// Starts it and waits until it says where it listens. What it says later is read and forgotten.
    async fn start(mut command: Command) -> Result<Self, BenchError> {
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
        Ok(Self { child, address, _log: AbortOnDropHandle::new(tokio::spawn(forget)) })
    }

    fn node(&self) -> Node {
        Node { address: self.address, pids: self.child.id().into_iter().collect() }
    }
}

/// Asks a process to end, and waits for that; it is killed when it is dropped.
pub(super) async fn terminate(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _already_gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _killed_when_dropped = timeout(PATIENCE, child.wait()).await;
    }
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
