//! The embedded Redis: the machine's own `redis-server` or `valkey-server` as a supervised child, on a Unix socket
//! in the data directory, with every append on disk before it is confirmed. The same engine as in production.
//!
//! It is never two on one directory (a lock), ends with its parent however that ends (a death signal; and
//! where that fails, the next start ends what was left over), and is started again if it dies.

mod child;
mod error;
mod home;
mod leftover;
mod log;
mod program;
mod resp;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::child::Server;
pub use self::error::EmbeddedError;
use self::home::Home;
use self::program::Program;
use self::resp::Reply;
use crate::memory;
use roomlog_children::Spawner;

/// How long a Redis that shall end may take before the next, harder step.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a living Redis may refuse connections before the start has failed. Loading has no limit.
const SILENCE: Duration = Duration::from_secs(30);

/// How often a long start says how far it is.
const REPORT: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(10);

/// Pauses before it is started again: doubling from the first to the longest, and from the first again once it ran
/// for a steady time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const STEADY: Duration = Duration::from_secs(30);

/// What the embedded Redis is started with.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Where it keeps its data; made, for this user only, if it is missing.
    pub data_dir: PathBuf,
    /// The program to run; without it, the first `redis-server` or `valkey-server` on `PATH` that is new enough.
    pub server: Option<PathBuf>,
    /// Bytes of memory that it may take; without it, half of what the machine or the container has.
    pub max_memory: Option<u64>,
}

/// The memory of a Redis for which none is set, where the system does not say how much there is.
const UNKNOWN_MEMORY: u64 = 1 << 30;

/// Whether the embedded Redis is up, for metrics and readiness. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedState(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    up: AtomicBool,
    restarts: AtomicU64,
}

impl EmbeddedState {
    /// Whether it is ready for commands: its data is loaded and its process lives.
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Acquire)
    }

    /// How often it was started again after it died.
    pub fn restarts(&self) -> u64 {
        self.0.restarts.load(Ordering::Relaxed)
    }

    fn set_up(&self, up: bool) {
        self.0.up.store(up, Ordering::Release);
    }
}

/// The embedded Redis. Dropping it kills the process at once; [`Embedded::stop`] is the gentle way.
#[derive(Debug)]
pub struct Embedded {
    url: String,
    version: String,
    state: EmbeddedState,
    stop: CancellationToken,
    supervisor: AbortOnDropHandle<()>,
}

/// What there is of the embedded Redis, before anything is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// One runs on the data directory.
    Running {
        /// Where it listens.
        url: String,
    },
    /// None does.
    Idle {
        /// The program that would be started.
        program: PathBuf,
        /// Its version, such as `7.0.15`.
        version: String,
    },
}

impl Embedded {
    /// Looks whether a Redis runs on the data directory, and which would be started if not. Changes nothing.
    ///
    /// # Errors
    /// If none runs, and no suitable server is installed.
    pub async fn find(options: &EmbeddedOptions) -> Result<Found, EmbeddedError> {
        if let Some(socket) = home::existing_socket(&options.data_dir)
            && resp::ask(&socket, &["PING"]).await.is_ok()
        {
            return Ok(Found::Running { url: url_of(&socket) });
        }
        let Program { path: program, version } = Program::find(options.server.as_deref()).await?;
        Ok(Found::Idle { program, version })
    }

    /// Starts Redis and returns when it is ready, which takes as long as loading its data takes.
    ///
    /// # Errors
    /// If no suitable server is installed, the data directory cannot be used or is in use, or Redis fails.
    pub async fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let program = Program::find(options.server.as_deref()).await?;
        let home = Home::open(&options.data_dir)?;
        leftover::end(&home, PATIENCE).await?;

        let spawner =
            Spawner::start().map_err(|source| EmbeddedError::Spawn { path: program.path.clone(), source })?;
        let url = url_of(&home.socket);
        let version = program.version.clone();
        let state = EmbeddedState::default();
        let half = || memory::limit().map_or(UNKNOWN_MEMORY, |limit| limit / 2);
        let max_memory = options.max_memory.unwrap_or_else(half);
        let keeper = Keeper { program, max_memory, home, spawner, state: state.clone() };
        let server = keeper.launch().await?;
        tracing::info!(
            program = %keeper.program.path.display(), version, dir = %keeper.home.dir.display(), url,
            "embedded Redis is ready"
        );

        state.set_up(true);
        let stop = CancellationToken::new();
        let supervisor = AbortOnDropHandle::new(tokio::spawn(keeper.keep(server, stop.clone())));
        Ok(Self { url, version, state, stop, supervisor })
    }

    /// Where it listens: `redis+unix:///path/of/the/socket`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The version of the program, such as `7.0.15`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A handle that tells whether it is up.
    pub fn state(&self) -> EmbeddedState {
        self.state.clone()
    }

    /// Ends it in an orderly way, to be called when nothing needs it any more. It is killed if that takes more
    /// than ten seconds; nothing confirmed is lost either way.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of the embedded Redis failed");
        }
    }
}

/// Keeps one Redis running. The order of the fields is the order of their end: the lock goes last.
#[derive(Debug)]
struct Keeper {
    program: Program,
    max_memory: u64,
    state: EmbeddedState,
    spawner: Spawner,
    home: Home,
}

impl Keeper {
    /// Waits for the end of Redis and starts it again, until told to stop.
    async fn keep(self, mut server: Server, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let ended = stop.run_until_cancelled(server.ended()).await;
            self.state.set_up(false);
            let Some(status) = ended else { return server.end(PATIENCE).await };

            let log = server.last_words().await.join("\n");
            tracing::error!(status = in_words(status), log, "embedded Redis died and is started again");
            if started.elapsed() >= STEADY {
                pause = FIRST_PAUSE;
            }
            let Some(next) = stop.run_until_cancelled(self.launch_again(&mut pause)).await else { return };
            server = next;
            self.state.0.restarts.fetch_add(1, Ordering::Relaxed);
            self.state.set_up(true);
            tracing::info!(restarts = self.state.restarts(), "embedded Redis is ready again");
        }
    }

    /// Tries until it is ready, with growing pauses.
    async fn launch_again(&self, pause: &mut Duration) -> Server {
        loop {
            sleep(*pause).await;
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            match self.launch().await {
                Ok(server) => return server,
                Err(error) => tracing::error!(%error, again_in = ?*pause, "embedded Redis is still down"),
            }
        }
    }

    /// Starts the process and waits until it is ready.
    async fn launch(&self) -> Result<Server, EmbeddedError> {
        let mut server = Server::start(&self.spawner, &self.program.path, &self.home, self.max_memory)
            .await
            .map_err(|source| EmbeddedError::Spawn { path: self.program.path.clone(), source })?;
        let problem = tokio::select! {
            biased;
            status = server.ended() => format!("ended ({})", in_words(status)),
            answers = self.answers() => match answers {
                true => return Ok(server),
                false => format!("did not listen on its socket within {} s", SILENCE.as_secs()),
            },
        };
        Err(EmbeddedError::Failed { what: problem, log: server.last_words().await })
    }

    /// Waits until Redis answers `PONG`: true; or nothing listens for too long: false.
    async fn answers(&self) -> bool {
        let (mut heard, mut reported) = (Instant::now(), Instant::now());
        loop {
            match resp::ask(&self.home.socket, &["PING"]).await {
                Ok(Reply::Status(_)) => return true,
                Err(error) if error.kind() != std::io::ErrorKind::TimedOut => {
                    if heard.elapsed() > SILENCE {
                        return false;
                    }
                }
                // LOADING, or too busy with that to answer.
                Ok(_) | Err(_) => heard = Instant::now(),
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                let loaded = self.loaded().await;
                tracing::info!(loaded, "embedded Redis is loading its data");
            }
            sleep(POLL).await;
        }
    }

    /// How much of its data it has loaded, in percent, as far as it says.
    async fn loaded(&self) -> String {
        let answer = resp::ask(&self.home.socket, &["INFO", "persistence"]).await;
        let Ok(Reply::Bulk(Some(info))) = answer else { return "unknown".to_owned() };
        let loaded = info.lines().find_map(|line| line.strip_prefix("loading_loaded_perc:"));
        loaded.map_or_else(|| "unknown".to_owned(), |percent| format!("{} %", percent.trim()))
    }
}

fn url_of(socket: &Path) -> String {
    format!("redis+unix://{}", socket.display())
}

fn in_words(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}
