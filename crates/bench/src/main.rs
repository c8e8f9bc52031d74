//! The command `roomlog-bench`.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Parser, ValueEnum};
use reqwest::Url;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use roomlog_bench::{
    self as bench, Dialect, Findings, Fsync, Node, Plan, Quick, Server, SpawnOptions, Sweep, Target, Workload,
};
use roomlog_protocol::Encoding;

/// Measures a server under load: latency, CPU and memory, with every message checked for loss, duplicates
/// and order.
#[derive(Debug, Parser)]
#[command(name = "roomlog-bench", version, max_term_width = 100)]
struct Bench {
    /// What to measure
    workload: What,
    /// Start the server that is measured, with a Redis of its own in a temporary directory
    #[arg(long)]
    spawn: bool,
    /// The server's program, instead of the `roomlog` beside this one
    #[arg(long, value_name = "PATH", requires = "spawn")]
    program: Option<PathBuf>,
    /// Measure a server that only writes frames to sockets beside it, and print ratios to that
    #[arg(long)]
    floor: bool,
    /// Measure another server beside it, by the directory that holds its `start`; several times for several
    #[arg(long, value_name = "DIRECTORY", requires = "spawn")]
    peer: Vec<PathBuf>,
    /// Nodes of each server that is started, on one Redis; the members of each room are spread over them
    #[arg(long, value_name = "N", default_value = "1", requires = "spawn", value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// Rooms; in `sweep`, the most rooms and the most members
    #[arg(long, value_name = "N")]
    rooms: Option<usize>,
    /// Members of each room
    #[arg(long, value_name = "N")]
    members: Option<usize>,
    /// Messages a second that are offered, over all rooms
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Messages that are published at once, at the same rate
    #[arg(long, value_name = "N")]
    burst: Option<usize>,
    /// Bytes of a message's data
    #[arg(long, value_name = "BYTES")]
    payload: Option<usize>,
    /// Publishes in flight of each publisher, where a workload has a window
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    window: Option<u16>,
    /// Messages in the history that `replay` reads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Time that is measured
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Time under load before that
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    warmup: Option<Duration>,
    /// How often it is measured; figures are medians
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
    /// Search for the highest rate that `rooms` holds, too: 99 of 100 messages within 50 ms, and none lost
    #[arg(long)]
    highest: bool,
    /// Count the server's system calls with strace, after what is measured
    #[arg(long)]
    syscalls: bool,
    /// Speak MessagePack instead of JSON
    #[arg(long)]
    msgpack: bool,
    /// Address of the server, where none is started
    #[arg(long, env = "ROOMLOG_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Token to use there, which may read and write all rooms
    #[arg(long, env = "ROOMLOG_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Redis of the server, where none is started for it
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// When the Redis that is started has messages on its disk
    #[arg(long, value_name = "WHEN", default_value = "everysec", conflicts_with = "redis_url")]
    redis_fsync: Fsync,
    /// Process of a server that was not started here, for its CPU and memory
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Process of a Redis that was not started here, for its CPU
    #[arg(long, value_name = "PID")]
    redis_pid: Option<u32>,
    /// Draw a chart into this file, as SVG
    #[arg(long, value_name = "FILE.svg", value_parser = svg)]
    plot: Option<PathBuf>,
    /// The ratios with which `quick` compares
    #[arg(long, value_name = "FILE", default_value = "crates/bench/recorded.json")]
    recorded: PathBuf,
    /// Record the ratios of `quick` there
    #[arg(long)]
    record: bool,
    /// Print JSON, as is done where standard output is no terminal
    #[arg(long)]
    json: bool,
}

/// A failed measurement, described for people.
type Failed = Box<dyn Error>;

/// A workload, or several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    One(Workload),
    Sweep,
    Quick,
}

impl ValueEnum for What {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<What>> = LazyLock::new(|| {
            let workloads = Workload::value_variants().iter().copied().map(What::One);
            workloads.chain([What::Sweep, What::Quick]).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::One(workload) => workload.to_possible_value(),
            Self::Sweep => Some(PossibleValue::new("sweep").help(
                "`rooms` with 10 to 10,000 rooms and `fanout` with 10 to 10,000 members: whether a delivery costs the same",
            )),
            Self::Quick => Some(PossibleValue::new("quick").help(
                "Short runs beside the floor, compared with recorded ones: fails if one became worse by more than 10 %",
            )),
        }
    }
}

fn main() -> ExitCode {
    bench::raise_open_files();
    let done = match std::env::args().nth(1).as_deref() {
        // Used to start the floor, and by nothing else.
        Some("floor") => local(bench::floor::serve()).map_err(Failed::from),
        _ => Bench::parse().run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader of the output, such as `head`, has read enough.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[allow(clippy::print_stderr)] // Standard error is for this.
fn complain(error: &dyn Error) {
    eprintln!("roomlog-bench: {error}");
}

impl Bench {
    fn run(self) -> Result<(), Failed> {
        let report = local(self.measure())?;
        if let Some(path) = &self.plot {
            report.plot(path)?;
        }
        let mut out = io::stdout();
        if self.json || !out.is_terminal() {
            writeln!(out, "{}", report.to_json())?;
        } else {
            write!(out, "{}", report.to_table())?;
        }
        out.flush()?;
        report.problem().map_or(Ok(()), |problem| Err(problem.into()))
    }

    async fn measure(&self) -> Result<Box<dyn Findings>, Failed> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            findings = self.findings() => findings,
            _ = terminate.recv() => Err("ended by a signal".into()),
            _ = interrupt.recv() => Err("ended by a signal".into()),
        }
    }

    async fn findings(&self) -> Result<Box<dyn Findings>, Failed> {
        let mut servers = vec![self.server()?];
        servers.extend(self.peer.iter().map(|directory| Server::Peer(directory.clone(), self.options())));
        servers.extend(self.floor.then_some(Server::Floor));
        Ok(match self.workload {
            What::One(workload) => Box::new(bench::run(&self.plan(Plan::of(workload)), &servers).await?),
            What::Sweep => Box::new(Sweep::run(&self.plan(Sweep::plan()), &servers).await?),
            What::Quick => {
                let recorded = Quick::recorded(&self.recorded)?;
                let plans: Vec<Plan> = Quick::workloads().map(|one| self.plan(Quick::plan(one))).collect();
                // When recording anew, nothing counts as worse.
                let recorded = if self.record { Default::default() } else { recorded };
                let quick = Quick::run(&plans, self.server()?, recorded).await?;
                if self.record {
                    quick.record(&self.recorded)?;
                }
                Box::new(quick)
            }
        })
    }

    /// Applies the options of the command line to a plan.
    fn plan(&self, plan: Plan) -> Plan {
        Plan {
            workload: plan.workload,
            rooms: self.rooms.unwrap_or(plan.rooms),
            members: self.members.unwrap_or(plan.members),
            rate: self.rate.unwrap_or(plan.rate),
            burst: self.burst.unwrap_or(plan.burst),
            payload: self.payload.unwrap_or(plan.payload),
            window: self.window.map_or(plan.window, usize::from),
            messages: self.messages.unwrap_or(plan.messages),
            duration: self.duration.unwrap_or(plan.duration),
            warmup: self.warmup.unwrap_or(plan.warmup),
            repeats: self.repeats.unwrap_or(plan.repeats),
            encoding: if self.msgpack { Encoding::MessagePack } else { Encoding::Json },
            highest: self.highest,
            syscalls: self.syscalls,
        }
    }

    /// Returns the server to measure: one to be started, or one that is running already.
    fn server(&self) -> Result<Server, Failed> {
        if self.spawn {
            return Ok(Server::Roomlog(self.options()));
        }
        let token =
            self.token.clone().ok_or("--token or ROOMLOG_TOKEN is needed; or --spawn starts a server")?;
        let node =
            Node { address: address(&self.url, "http", 80)?, pids: self.server_pid.into_iter().collect() };
        Ok(Server::Running(Target {
            name: "roomlog".into(),
            dialect: Dialect::Roomlog,
            nodes: vec![node],
            token,
            redis: self.redis_pid,
            redis_address: self.redis_address(),
        }))
    }

    /// Returns the options with which servers are started.
    fn options(&self) -> SpawnOptions {
        SpawnOptions {
            program: self.program.clone(),
            nodes: self.nodes.into(),
            redis_url: self.redis_url.clone(),
            fsync: self.redis_fsync,
            redis: self.redis_pid,
            redis_address: self.redis_address(),
        }
    }

    /// A Redis with another kind of address is used too, but not inspected.
    fn redis_address(&self) -> Option<SocketAddr> {
        self.redis_url.as_deref().and_then(|url| address(url, "redis", 6379).ok())
    }
}

/// Runs on this thread alone, with tasks that share its data.
fn local<T, E: From<io::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// Returns the socket address in a URL of this scheme.
fn address(url: &str, scheme: &str, port: u16) -> Result<SocketAddr, Failed> {
    let url: Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if url.scheme() != scheme {
        return Err(format!("{url}: it is measured without TLS, at a {scheme}:// address").into());
    }
    let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or(port));
    let host = host.trim_matches(['[', ']']);
    let mut addresses = (host, port).to_socket_addrs().map_err(|error| format!("{url}: {error}"))?;
    addresses.next().ok_or_else(|| format!("{url} has no address").into())
}

/// Parses the path of a chart.
fn svg(path: &str) -> Result<PathBuf, String> {
    if !path.ends_with(".svg") {
        return Err("charts are SVG: name it so, FILE.svg".into());
    }
    Ok(path.into())
}
