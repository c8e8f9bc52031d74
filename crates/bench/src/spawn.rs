//! Starts the servers to measure: nodes of `roomlog serve` on a fresh Redis, a peer on an equal one, or the
//! floor.

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

/// Time limit for starting, and for ending.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The text before the address in the line that says that a server listens.
const LISTENING: &str = "listening on http://";

/// The text after the address and before the protocol, if that is not Roomlog's own.
const SPEAKING: &str = " speaking ";

/// A server that can be measured.
#[derive(Debug, Clone)]
pub enum Server {
    /// A server that is running already.
    Running(Target),
    /// Roomlog, started for each repeat.
    Roomlog(SpawnOptions),
    /// A peer, by the directory that holds its `start` program. Started for each repeat.
    Peer(PathBuf, SpawnOptions),
    /// The floor, started for each repeat.
    Floor,
}

/// The options with which a server is started.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// The `roomlog` program. `None` means the one beside this program.
    pub program: Option<PathBuf>,
    /// Number of nodes.
    pub nodes: usize,
    /// A Redis to use instead of one of the run's own.
    pub redis_url: Option<String>,
    /// The `appendfsync` setting of the run's own Redis.
    pub fsync: Fsync,
    /// The process id of the Redis at `redis_url`.
    pub redis: Option<u32>,
    /// The address of the Redis at `redis_url`.
    pub redis_address: Option<SocketAddr>,
}

/// A server that is ready. Dropping it kills its processes. [`Started::end`] ends them in an orderly way.
#[derive(Debug)]
pub struct Started {
    pub target: Target,
    processes: Vec<Process>,
    redis: Option<Redis>,
}

impl Server {
    /// Returns the name in the report.
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

    /// Returns whether the server supports this workload. Workloads that it does not support are missing in
    /// the report.
    pub(super) fn can(&self, workload: Workload) -> bool {
        match self {
            Self::Running(_) | Self::Roomlog(_) => true,
            Self::Peer(..) => !matches!(workload, Workload::Durable | Workload::Replay),
            Self::Floor => !matches!(workload, Workload::Replay | Workload::Storm | Workload::Slow),
        }
    }

    /// Returns whether it is measured only for comparison. Its losses, or its failure to start, are reported,
    /// but do not fail the run.
    pub(super) fn is_peer(&self) -> bool {
        matches!(self, Self::Peer(..))
    }

    /// Starts the server, unless it is running.
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

    /// Ends the started processes in an orderly way.
    pub async fn end(mut self) {
        for process in &mut self.processes {
            terminate(&mut process.child).await;
        }
        if let Some(redis) = self.redis {
            redis.end().await;
        }
    }
}

/// Starts the run's Redis, unless one is given. Returns it with its URL.
async fn redis(options: &SpawnOptions) -> Result<(Option<Redis>, String), BenchError> {
    if let Some(url) = &options.redis_url {
        return Ok((None, url.clone()));
    }
    let redis = Redis::start(options.fsync).await?;
    let url = format!("redis://{}", redis.address);
    Ok((Some(redis), url))
}

/// Starts Redis, and one `serve` process for each node.
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
        // All connections belong to one user, and begin at once.
        command.env("ROOMLOG_LIMITS__CREATE_RATE", "0");
        // Messages that are still to be read must not be trimmed.
        command.env("ROOMLOG_ROOMS", "[{ match = \"*\", max_length = 0, max_bytes = \"0B\" }]");
        if redis.is_some() {
            command.env("ROOMLOG_REDIS__DURABILITY", durability);
        }
        processes.push(Process::start(command).await?);
    }
    Ok(Started::of(name, token(options, &secret).await?, processes).with(redis, options))
}

/// Starts Redis, and one process of the peer for each node.
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

/// Returns the command for Roomlog, with no environment except a secret.
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

/// Returns the command for this program to serve the floor.
fn floor() -> Result<Command, BenchError> {
    let mut command = Command::new(this_program()?);
    command.arg("floor");
    Ok(command)
}

fn this_program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(|error| BenchError::Io("this program cannot be found".into(), error))
}

/// A serving process with its children. Dropping it kills them.
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
    /// Starts the process and waits until it prints its address. Later output is read and discarded.
    async fn start(mut command: Command) -> Result<Self, BenchError> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let failed = |error| BenchError::Io(format!("{program} cannot be started"), error);
        let (said, say) = io::pipe().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(say.try_clone().map_err(failed)?).stderr(say);
        // Has its own process group: Ctrl-C goes to the generator only, which then ends the processes that it
        // started.
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
/// Parses the address and dialect of a server, if this line has them.
fn listening(line: &str) -> Option<Result<(SocketAddr, Dialect), BenchError>> {
    let (_, rest) = line.split_once(LISTENING)?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c)).unwrap_or(rest.len());
    let address = rest[..end].parse().ok()?;
    let Some(name) = rest[end..].strip_prefix(SPEAKING) else { return Some(Ok((address, Dialect::Roomlog))) };
    let dialect = Dialect::from_str(name.trim(), false);
    let unknown = |_| BenchError::Refused(format!("nothing here speaks {name}: {line}"));
    Some(dialect.map(|dialect| (address, dialect)).map_err(unknown))
}

/// A process group: the children of a server may outlive the server, but not the measurement.
#[derive(Debug)]
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _all_have_gone = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// Asks a process to end, and waits for its end. It is killed when it is dropped.
pub(super) async fn terminate(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _already_gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _killed_when_dropped = timeout(PATIENCE, child.wait()).await;
    }
}

/// Creates a token for everything that the started server accepts.
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
