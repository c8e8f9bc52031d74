//! Starts the servers to measure: nodes of `roomlog serve` on a fresh Redis, a peer on an equal one, or the
//! floor. Unlike the test kit's servers, these keep this program's environment and log, of any program, only
//! until they listen, and a failure is a reason in the report instead of a panic.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;
use tokio::time::timeout;

use super::dialect::Dialect;
use super::{BenchError, Node, Target, Workload, process};
use roomlog_testkit::{DEADLINE, Process, Redis, SECRET, follow, listening, token_for};

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

    /// Returns the durability that Roomlog promises with it.
    fn durability(self) -> &'static str {
        match self {
            Self::Everysec => "memory",
            Self::Always => "disk",
        }
    }
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
    nodes: Vec<Serving>,
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
            Self::Running(target) => Ok(Started { target: target.clone(), nodes: Vec::new(), redis: None }),
            Self::Roomlog(options) => roomlog(self.name(), options).await,
            Self::Peer(directory, options) => peer(self.name(), directory, options).await,
            Self::Floor => {
                let floor = Serving::start(floor()?).await?;
                Ok(Started::of(self.name(), String::new(), vec![floor]))
            }
        }
    }
}

impl Started {
    fn of(name: &str, token: String, started: Vec<Serving>) -> Self {
        let nodes = started.iter().map(Serving::node).collect();
        let dialect = started.first().map(|node| node.dialect).unwrap_or_default();
        let target =
            Target { name: name.to_owned(), dialect, nodes, token, redis: None, redis_address: None };
        Self { target, nodes: started, redis: None }
    }

    fn with(mut self, redis: Option<Redis>, options: &SpawnOptions) -> Self {
        let own = redis.as_ref();
        self.target.redis = own.map_or(options.redis, |redis| Some(redis.pid()));
        self.target.redis_address = own.map(address).or(options.redis_address);
        self.redis = redis;
        self
    }

    /// Ends the started processes in an orderly way.
    pub async fn end(mut self) {
        for node in &mut self.nodes {
            let _ = timeout(DEADLINE, node.process.terminate()).await; // It is killed when dropped.
        }
        if let Some(redis) = &mut self.redis {
            let _ = timeout(DEADLINE, redis.terminate()).await; // It is killed when dropped.
        }
    }
}

/// Starts the run's Redis, unless one is given. Returns it with its URL.
async fn redis(options: &SpawnOptions) -> Result<(Option<Redis>, String), BenchError> {
    if let Some(url) = &options.redis_url {
        return Ok((None, url.clone()));
    }
    let settings = ["--appendonly", "yes", "--appendfsync", options.fsync.name()];
    let failed = |error| BenchError::Io("Redis cannot be started".into(), error);
    let redis = Redis::try_on_port(&settings).await.map_err(failed)?;
    let url = redis.url();
    Ok((Some(redis), url))
}

fn address(redis: &Redis) -> SocketAddr {
    ([127, 0, 0, 1], redis.port()).into()
}

/// Starts Redis, and one `serve` process for each node.
async fn roomlog(name: &str, options: &SpawnOptions) -> Result<Started, BenchError> {
    let (redis, url) = redis(options).await?;
    let mut nodes = Vec::new();
    for _ in 0..options.nodes {
        let mut command = program(options)?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--redis-url", &url]);
        command.env("ROOMLOG_AUTH__HS256_SECRET", SECRET);
        command.env_remove("ROOMLOG_CONFIG").env_remove("ROOMLOG_LOG");
        command.env("ROOMLOG_LOG__FORMAT", "text").env("ROOMLOG_LOG__LEVEL", "info");
        // All connections belong to one user, and begin at once.
        command.env("ROOMLOG_LIMITS__CREATE_RATE", "0");
        // Messages that are still to be read must not be trimmed.
        command.env("ROOMLOG_ROOMS", "[{ match = \"*\", max_length = 0, max_bytes = \"0B\" }]");
        if redis.is_some() {
            command.env("ROOMLOG_REDIS__DURABILITY", options.fsync.durability());
        }
        nodes.push(Serving::start(command).await?);
    }
    let everything = json!({ "*": ["read", "write", "manage"] });
    let token = token_for("bench", everything, Duration::from_secs(24 * 3600));
    Ok(Started::of(name, token, nodes).with(redis, options))
}

/// Starts Redis, and one process of the peer for each node.
async fn peer(name: &str, directory: &Path, options: &SpawnOptions) -> Result<Started, BenchError> {
    let (redis, url) = redis(options).await?;
    let mut nodes = Vec::new();
    for _ in 0..options.nodes {
        let mut command = Command::new(directory.join("start"));
        command.env("REDIS_URL", &url).env("NODES", options.nodes.to_string()).env_remove("PORT");
        nodes.push(Serving::start(command).await?);
    }
    Ok(Started::of(name, String::new(), nodes).with(redis, options))
}

/// Returns the command for Roomlog. It keeps this program's environment, where settings to measure may be.
fn program(options: &SpawnOptions) -> Result<Command, BenchError> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => this_program()?.with_file_name("roomlog"),
    };
    if !program.is_file() {
        let missing = format!("{} is missing: build it, or name it with --program", program.display());
        return Err(BenchError::Refused(missing));
    }
    Ok(Command::new(program))
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

/// A serving process. Dropping it kills it, and its children: they may outlive the server, but not the
/// measurement.
#[derive(Debug)]
struct Serving {
    process: Process,
    address: SocketAddr,
    dialect: Dialect,
}

impl Serving {
    /// Starts the process and waits until it prints its address. Later output is read and discarded.
    async fn start(mut command: Command) -> Result<Self, BenchError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |error| BenchError::Io(format!("{program} cannot be started"), error);
        let (said, say) = std::io::pipe().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(say.try_clone().map_err(failed)?).stderr(say);
        // In a group of its own: Ctrl-C goes to the generator only, which then ends what it started.
        let mut process = Process::lead(command).map_err(failed)?;
        let lines = follow(said);
        let found = |lines: &[String]| lines.iter().find_map(|line| speaking(line));
        let late = |_| BenchError::Late(DEADLINE, format!("starting {program}"));
        match timeout(DEADLINE, process.says(&lines, found)).await.map_err(late)? {
            Some(found) => found.map(|(address, dialect)| Self { process, address, dialect }),
            None => {
                let said = lines.lock().join("\n");
                Err(BenchError::Refused(format!("{program} did not start: {said}")))
            }
        }
    }

    fn node(&self) -> Node {
        Node { address: self.address, pids: process::group(self.process.id()) }
    }
}

/// Parses the address and dialect of a server, if this line has them.
fn speaking(line: &str) -> Option<Result<(SocketAddr, Dialect), BenchError>> {
    let (address, rest) = listening(line)?;
    let Some(name) = rest.strip_prefix(SPEAKING) else { return Some(Ok((address, Dialect::Roomlog))) };
    let dialect = Dialect::from_str(name.trim(), false);
    let unknown = |_| BenchError::Refused(format!("nothing here speaks {name}: {line}"));
    Some(dialect.map(|dialect| (address, dialect)).map_err(unknown))
}
