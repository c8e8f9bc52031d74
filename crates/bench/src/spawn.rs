//! Starting what is measured: nodes of `roomlog serve` on a fresh Redis, of a peer on one like it, or the floor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::dialect::Dialect;
use super::redis::{Fsync, Redis};
use super::{BenchError, Node, Target, Workload, process};
use roomlog_children::Spawner;

/// Time to start, and to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What comes before the address in the line that says that a server listens.
const LISTENING: &str = "listening on http://";

/// What comes behind it before the protocol, if that is not Roomlog's own.
const SPEAKING: &str = " speaking ";

/// A server that can be measured.
#[derive(Debug, Clone)]
pub enum Server {
    /// One that runs already.
    Running(Target),
    /// Roomlog, started for each repeat.
    Roomlog(SpawnOptions),
    /// Another one, by the directory that holds its `start`, started for each repeat.
    Peer(PathBuf, SpawnOptions),
    /// The floor, started for each repeat.
    Floor,
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// The program `roomlog`; without one, that beside this program.
    pub program: Option<PathBuf>,
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
            Self::Peer(directory, _) => {
                directory.file_name().and_then(|name| name.to_str()).unwrap_or("peer")
            }
            Self::Floor => "floor",
        }
    }

    /// Whether it can do this. What it cannot is missing in the report.
    pub(super) fn can(&self, workload: Workload) -> bool {
        match self {
            Self::Running(_) | Self::Roomlog(_) => true,
            Self::Peer(..) => !matches!(workload, Workload::Durable | Workload::Replay),
            Self::Floor => !matches!(workload, Workload::Replay | Workload::Storm | Workload::Slow),
        }
    }

    /// Whether it is measured for comparison only: what it loses and whether it starts at all is in the report, but no
    /// reason to fail.
    pub(super) fn is_peer(&self) -> bool {
        matches!(self, Self::Peer(..))
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
            Self::Peer(directory, options) => peer(self.name(), directory, options).await,
            Self::Floor => {
                let process = Process::start(floor()?).await?;
                Ok(Started::of(self.name(), String::new(), vec![process]))
            }
        }
    }
}

impl Started {
    fn of(name: &str, token: String, processes: Vec<Process>) -> Self {
        let nodes = processes.iter().map(Process::node).collect();
        let dialect = processes.first().map(|process| process.dialect).unwrap_or_default();
        let target =
            Target { name: name.to_owned(), dialect, nodes, token, redis: None, redis_address: None };
        Self { target, processes, redis: None }
    }

    fn with(mut self, redis: Option<Redis>, options: &SpawnOptions) -> Self {
        self.target.redis = redis.as_ref().map_or(options.redis, Redis::pid);
        self.target.redis_address = redis.as_ref().map(|redis| redis.address).or(options.redis_address);
        self.redis = redis;
        self
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

/// The Redis of the run, if none is given, and its URL.
async fn redis(options: &SpawnOptions) -> Result<(Option<Redis>, String), BenchError> {
    if let Some(url) = &options.redis_url {
        return Ok((None, url.clone()));
    }
    let redis = Redis::start(options.fsync).await?;
    let url = format!("redis://{}", redis.address);
    Ok((Some(redis), url))
}

/// Starts Redis, and `serve` as often as there are to be nodes.
async fn roomlog(name: &str, options: &SpawnOptions) -> Result<Started, BenchError> {
    let (redis, url) = redis(options).await?;
    let durability = match options.fsync {
        Fsync::Always => "disk",
        Fsync::Everysec => "memory",
    };
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut processes = Vec::new();
    for _ in 0..options.nodes {
        let mut command = program(options, &secret)?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--redis-url", &url]);
        command.env("ROOMLOG_LOG__FORMAT", "text").env("ROOMLOG_LOG__LEVEL", "info");
        // All connections are one user's, and begin at once.
        command.env("ROOMLOG_LIMITS__CREATE_RATE", "0");
        // Nothing is trimmed that is still to be read.
        command.env("ROOMLOG_ROOMS", "[{ match = \"*\", max_length = 0, max_bytes = \"0B\" }]");
        if redis.is_some() {
            command.env("ROOMLOG_REDIS__DURABILITY", durability);
        }
        processes.push(Process::start(command).await?);
    }
    Ok(Started::of(name, token(options, &secret).await?, processes).with(redis, options))
}

/// Starts Redis, and a peer as often as there are to be nodes.
async fn peer(name: &str, directory: &Path, options: &SpawnOptions) -> Result<Started, BenchError> {
    let (redis, url) = redis(options).await?;
    let mut processes = Vec::new();
    for _ in 0..options.nodes {
        let mut command = Command::new(directory.join("start"));
        command.env("REDIS_URL", &url).env("NODES", options.nodes.to_string()).env_remove("PORT");
        processes.push(Process::start(command).await?);
    }
    Ok(Started::of(name, String::new(), processes).with(redis, options))
}

/// Roomlog's program, with nothing of this environment but a secret.
fn program(options: &SpawnOptions, secret: &str) -> Result<Command, BenchError> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => this_program()?.with_file_name("roomlog"),
    };
    if !program.is_file() {
        let missing = format!("{} is missing: build it, or name it with --program", program.display());
        return Err(BenchError::Refused(missing));
    }
    let mut command = Command::new(program);
    command.env("ROOMLOG_AUTH__HS256_SECRET", secret).env_remove("ROOMLOG_CONFIG").env_remove("ROOMLOG_LOG");
    Ok(command)
}

/// This program, to serve the floor.
fn floor() -> Result<Command, BenchError> {
    let mut command = Command::new(this_program()?);
    command.arg("floor");
    Ok(command)
}

fn this_program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(|error| BenchError::Io("this program cannot be found".into(), error))
}

/// A process that serves, with what it starts itself. Dropping it kills them.
#[derive(Debug)]
struct Process {
    child: Child,
    address: SocketAddr,
    dialect: Dialect,
    _group: Group,
    _log: AbortOnDropHandle<()>,
    _spawner: Spawner,
}

impl Process {
    /// Starts it and waits until it says where it listens. What it says later is read and forgotten.
    async fn start(mut command: Command) -> Result<Self, BenchError> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let failed = |error| BenchError::Io(format!("{program} cannot be started"), error);
        let (said, say) = io::pipe().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(say.try_clone().map_err(failed)?).stderr(say);
        // A group of its own: Ctrl-C is for the generator, which then ends what it started.
        command.process_group(0).kill_on_drop(true);
        let spawner = Spawner::start().map_err(failed)?;
        let child = spawner.spawn(command).await.map_err(failed)?;
        let said = pipe::Receiver::from_owned_fd(OwnedFd::from(said)).map_err(failed)?;
        let mut lines = BufReader::new(said).lines();
        let group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()));
        let listening = async {
            let mut said = Vec::new();
            while let Some(line) = lines.next_line().await.map_err(failed)? {
                if let Some(found) = listening(&line) {
                    return found;
                }
                said.push(line);
            }
            Err(BenchError::Refused(format!("{program} did not start: {}", said.join("\n"))))
        };
        let late = |_| BenchError::Late(PATIENCE, format!("starting {program}"));
        let (address, dialect) = timeout(PATIENCE, listening).await.map_err(late)??;
        let forget = async move { while let Ok(Some(_)) = lines.next_line().await {} };
        let log = AbortOnDropHandle::new(tokio::spawn(forget));
        Ok(Self { child, address, dialect, _group: group, _log: log, _spawner: spawner })
    }

    fn node(&self) -> Node {
        let pids = self.child.id().map(process::group).unwrap_or_default();
        Node { address: self.address, pids }
    }
}
/// Where a server listens and what it speaks there, if this line says it.
fn listening(line: &str) -> Option<Result<(SocketAddr, Dialect), BenchError>> {
    let (_, rest) = line.split_once(LISTENING)?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c)).unwrap_or(rest.len());
    let address = rest[..end].parse().ok()?;
    let Some(name) = rest[end..].strip_prefix(SPEAKING) else { return Some(Ok((address, Dialect::Roomlog))) };
    let dialect = Dialect::from_str(name.trim(), false);
    let unknown = |_| BenchError::Refused(format!("nothing here speaks {name}: {line}"));
    Some(dialect.map(|dialect| (address, dialect)).map_err(unknown))
}

/// What a server has started itself may outlive it, but not the measurement.
#[derive(Debug)]
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _all_have_gone = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
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
async fn token(options: &SpawnOptions, secret: &str) -> Result<String, BenchError> {
    let mut command = program(options, secret)?;
    command.args(["token", "--user", "bench", "--room", "*=read,write,manage", "--ttl", "24h"]);
    let failed = |error| BenchError::Io("no token can be made".into(), error);
    let made = command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(failed)?;
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        return Err(BenchError::Refused(format!("no token can be made: {why}")));
    }
    Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned())
}
