//! The load generator behind `roomlog-bench`: workloads, each against a running server or one that it starts,
//! and against a floor that only writes frames, so that figures can be read as ratios of one run.
//!
//! It is one thread with hand-driven sockets, so that it costs little next to the server that it measures.
//! Its own CPU time is in the report. Every message is checked for loss, duplicates and order, for each room
//! and receiver.

mod dialect;
pub mod floor;
mod frame;
mod line;
mod load;
mod member;
mod plot;
mod process;
mod quick;
mod report;
mod socket;
mod spawn;
mod strace;
mod sweep;
mod tally;
mod track;
mod workloads;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

pub use self::dialect::Dialect;
pub use self::quick::Quick;
use self::report::Figures;
pub use self::report::{Findings, Outcome, Report};
pub use self::spawn::{Fsync, Server, SpawnOptions, Started};
pub use self::sweep::Sweep;
use self::tally::Tally;
use roomlog_protocol::Encoding;

/// A kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Joined connections that are silent: memory of each
    Idle,
    /// One large room: what a delivery costs
    Fanout,
    /// Many small rooms: what a publish and its few deliveries cost
    Rooms,
    /// `rooms` with durable subscriptions, where each message is acknowledged: the extra cost of that
    Durable,
    /// As fast as confirmations arrive, with a window of publishes in flight
    Publish,
    /// A room with a long history: reading all of it over REST and WebSocket, beside bare reads from Redis
    Replay,
    /// All connections drop at once, miss messages, and come back: how long until all have everything
    Storm,
    /// `fanout` with readers that stop: the effect on the others and on the server's memory
    Slow,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", PossibleValue::get_name))
    }
}

/// A workload with its parameters.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub workload: Workload,
    pub rooms: usize,
    /// Members of each room. Each is a connection, and the first of each room publishes.
    pub members: usize,
    /// Offered rate in messages a second, over all rooms.
    pub rate: f64,
    /// Number of messages that are published at once, at the same rate.
    pub burst: usize,
    /// Size of a message's data in bytes.
    pub payload: usize,
    /// Maximum number of publishes in flight of each publisher, where the workload has a window.
    pub window: usize,
    /// Number of messages in the history that is replayed.
    pub messages: u64,
    /// Duration of the measurement.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// Time under load before the measurement.
    #[serde(serialize_with = "seconds")]
    pub warmup: Duration,
    /// Number of runs. Figures are their medians.
    pub repeats: usize,
    #[serde(serialize_with = "subprotocol")]
    pub encoding: Encoding,
    /// Set to search for the highest rate that a server holds.
    pub highest: bool,
    /// Set to count system calls.
    pub syscalls: bool,
}

impl Plan {
    /// Returns a workload with its default parameters.
    pub fn of(workload: Workload) -> Self {
        let (rooms, members, rate, payload) = match workload {
            Workload::Idle => (1, 5000, 0.0, 128),
            Workload::Fanout => (1, 1000, 50.0, 128),
            Workload::Rooms | Workload::Durable => (500, 4, 2000.0, 128),
            Workload::Publish => (100, 2, 0.0, 128),
            Workload::Replay => (1, 1, 0.0, 128),
            Workload::Storm => (10, 100, 0.0, 128),
            // Enough bytes that a reader that stops fills its buffers.
            Workload::Slow => (1, 1000, 50.0, 2048),
        };
        Self {
            workload,
            rooms,
            members,
            rate,
            payload,
            burst: 1,
            // As many as a connection may have in flight if the room is to be filled.
            window: if workload == Workload::Replay { 256 } else { 64 },
            messages: 1_000_000,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(2),
            repeats: 3,
            encoding: Encoding::Json,
            highest: false,
            syscalls: false,
        }
    }

    /// Returns whether messages are published at an offered rate.
    fn has_rate(&self) -> bool {
        matches!(self.workload, Workload::Fanout | Workload::Rooms | Workload::Durable | Workload::Slow)
    }

    /// Describes its rooms and members for people.
    fn size(&self) -> String {
        format!("{} room{} of {}", self.rooms, if self.rooms == 1 { "" } else { "s" }, self.members)
    }

    /// Returns the number of connections that it needs.
    fn connections(&self) -> usize {
        self.rooms * self.members
    }

    /// Checks that it can run here.
    ///
    /// # Errors
    /// If it makes no sense, or needs more than is available.
    fn check(&self) -> Result<(), BenchError> {
        let refused = |what: String| Err(BenchError::Plan(what));
        if self.rooms == 0 || self.members == 0 || self.repeats == 0 || self.burst == 0 {
            return refused("rooms, members, repeats and a burst are at least 1".into());
        }
        if self.has_rate() && (!self.rate.is_finite() || self.rate <= 0.0) {
            return refused("--rate is more than 0".into());
        }
        if self.highest && self.workload != Workload::Rooms {
            return refused("--highest is for rooms".into());
        }
        if self.workload == Workload::Replay && self.connections() > 1 {
            return refused("replay has one room with one member, which fills it".into());
        }
        let (needed, most) = (self.connections(), connections_at_most());
        if needed > most {
            return refused(format!(
                "{} take {needed} connections, but files that may be open here are enough for {most}: raise the hard \
                 limit (ulimit -Hn), or take fewer",
                self.size()
            ));
        }
        Ok(())
    }
}

/// A server under load: one node, or several on one Redis.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name in the report.
    pub name: String,
    pub dialect: Dialect,
    /// Its nodes, at least one. The members of each room are spread over them.
    pub nodes: Vec<Node>,
    /// The token to use there, which grants everything.
    pub token: String,
    /// The process id of its Redis, if that is on this machine.
    pub redis: Option<u32>,
    /// The address of its Redis, if known.
    pub redis_address: Option<SocketAddr>,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub address: SocketAddr,
    /// Its process ids, as far as they are known and on this machine.
    pub pids: Vec<u32>,
}

impl Target {
    /// Returns the address to which the member with this index connects.
    fn address(&self, index: usize) -> SocketAddr {
        self.nodes[index % self.nodes.len()].address
    }

    /// Returns the process ids of all its nodes.
    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().flat_map(|node| node.pids.iter().copied()).collect()
    }
}

/// The reason why a measurement cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server cannot be reached, or the connection broke.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The server did not do what it was asked.
    #[error("{0}")]
    Refused(String),
    /// An operation took too long.
    #[error("in vain for {0:?}: {1}")]
    Late(Duration, String),
    /// The plan makes no sense.
    #[error("{0}")]
    Plan(String),
}

/// Measures each of the servers in turn, as often as the plan says. Servers are started anew for each repeat,
/// so that none finds memory or data of an earlier one.
///
/// # Errors
/// If a server cannot be started or reached, or refuses.
pub async fn run(plan: &Plan, servers: &[Server]) -> Result<Report, BenchError> {
    plan.check()?;
    let mut outcomes: Vec<Outcome> = servers.iter().map(Outcome::new).collect();
    for repeat in 1..=plan.repeats {
        for (server, outcome) in servers.iter().zip(&mut outcomes) {
            if !server.can(plan.workload) || outcome.has_failed() {
                continue;
            }
            let tally = Rc::new(Tally::new());
            let title =
                format!("{}, {}: {} {repeat}/{}", plan.workload, plan.size(), server.name(), plan.repeats);
            let figures = tokio::select! {
                figures = measure(plan, server, &tally) => figures,
                never = progress(&title, &tally) => match never {},
            };
            match figures {
                Ok(figures) => outcome.add(figures, &tally),
                // The others can still be measured.
                Err(error) if server.is_peer() => outcome.fail(&error),
                Err(error) => return Err(error),
            }
        }
    }
    clear()?;
    Ok(Report::new(plan.clone(), outcomes))
}

/// Runs the plan once, with a server of its own.
async fn measure(plan: &Plan, server: &Server, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let started = server.start().await?;
    let figures = workloads::run(plan, &started.target, tally).await;
    started.end().await;
    figures
}

/// Returns the number of connections for which the limit of open files suffices, in this process and in each
/// that it starts. A node keeps at most a quarter of its files for connections that have not presented a
/// token, and some for itself.
fn connections_at_most() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(now, _)| now);
    usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX).saturating_sub(64)
}

/// Raises the limit of open files as far as the system allows, for this process and those that it starts.
pub fn raise_open_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most); // As many as before will do.
    }
}

/// Prints a line of progress each second if standard error is a terminal.
async fn progress(title: &str, tally: &Tally) -> std::convert::Infallible {
    let terminal = io::stderr().is_terminal();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if terminal {
            let received = tally.received.get();
            let doing = tally.doing.get();
            let rate = received - before;
            // The terminal may be gone.
            let _ = write!(io::stderr(), "\r\x1b[K{title}  {doing}  {received} delivered, {rate}/s");
            before = received;
        }
    }
}

fn clear() -> Result<(), BenchError> {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r\x1b[K").map_err(|error| BenchError::Io("standard error".into(), error))?;
    }
    Ok(())
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn subprotocol<S: serde::Serializer>(encoding: &Encoding, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(encoding.subprotocol())
}
