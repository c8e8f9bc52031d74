//! The embedded Redis: the machine's own `redis-server` or `valkey-server` as a supervised child, on a Unix
//! socket in the data directory. Every append is on disk before it is confirmed. It is the same engine as in
//! production.
//!
//! A lock prevents two on one directory. It ends with its parent, however that ends, by a death signal; where
//! that fails, the next start ends the leftover. It is restarted if it dies.

mod child;
mod error;
mod home;
mod leftover;
mod output;
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
pub(crate) use self::error::EmbeddedError;
use self::home::Home;
use self::program::Program;
use self::resp::Reply;
use crate::util::memory;
use roomlog_children::Spawner;

/// Time that a Redis gets to end before the next, harder step.
const PATIENCE: Duration = Duration::from_secs(10);

/// Maximum time that a live Redis may refuse connections before the start fails. Loading has no limit.
const SILENCE: Duration = Duration::from_secs(30);

const REPORT: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(10);

/// Pauses between restarts: they double from the first to the longest, and start over once it has run for a
/// steady time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const STEADY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(crate) struct EmbeddedOptions {
    /// Created if it is missing, accessible to this user only.
    pub data_dir: PathBuf,
    /// `None` takes the first `redis-server` or `valkey-server` on `PATH` that is new enough.
    pub server: Option<PathBuf>,
    /// In bytes; `None` is half of the memory of the machine or the container.
    pub max_memory: Option<u64>,
}

const UNKNOWN_MEMORY: u64 = 1 << 30;

/// The state of the embedded Redis, for metrics and readiness. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct EmbeddedState(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    up: AtomicBool,
    restarts: AtomicU64,
}

impl EmbeddedState {
    /// Returns true if it accepts commands: its process is alive and its data is loaded.
    pub(crate) fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Acquire)
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.0.restarts.load(Ordering::Relaxed)
    }

    fn set_up(&self, up: bool) {
        self.0.up.store(up, Ordering::Release);
    }
}

/// A running embedded Redis. Dropping it kills the process at once; [`Embedded::stop`] ends it in an orderly
/// way.
#[derive(Debug)]
pub(crate) struct Embedded {
    url: String,
    state: EmbeddedState,
    stop: CancellationToken,
    supervisor: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Running { url: String },
    Idle { program: PathBuf, version: String },
}

impl Embedded {
    /// Checks if a Redis runs on the data directory, and if not, which program would be started. Changes
    /// nothing.
    pub(crate) async fn find(options: &EmbeddedOptions) -> Result<Found, EmbeddedError> {
        if let Some(socket) = home::existing_socket(&options.data_dir)
            && resp::ask(&socket, &["PING"]).await.is_ok()
        {
            return Ok(Found::Running { url: url_of(&socket) });
        }
        let Program { path: program, version } = Program::find(options.server.as_deref()).await?;
        Ok(Found::Idle { program, version })
    }

    /// Starts Redis and returns when it is ready. Loading its data may take long.
    pub(crate) async fn start(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
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
        Ok(Self { url, state, stop, supervisor })
    }

    /// Its URL: `redis+unix:///path/of/the/socket`.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn state(&self) -> EmbeddedState {
        self.state.clone()
    }

    /// Ends it in an orderly way; call when nothing needs it any more. Kills it after ten seconds. Confirmed
    /// writes survive either way.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of the embedded Redis failed");
        }
    }
}

/// Keeps one Redis running. Fields are dropped in order: the lock must go last.
#[derive(Debug)]
struct Keeper {
    program: Program,
    max_memory: u64,
    state: EmbeddedState,
    spawner: Spawner,
    home: Home,
}

impl Keeper {
    async fn keep(self, mut server: Server, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let ended = stop.run_until_cancelled(server.ended()).await;
            self.state.set_up(false);
            let Some(status) = ended else { return server.end(PATIENCE).await };

            let log = server.last_words().await.join("\n");
            tracing::error!(status = in_words(status), log, "embedded Redis died; restarting it");
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

    /// Waits until Redis answers `PONG`, and returns true. Returns false if nothing listens for too long.
    async fn answers(&self) -> bool {
        let (mut answered, mut reported) = (Instant::now(), Instant::now());
        loop {
            match resp::ask(&self.home.socket, &["PING"]).await {
                Ok(Reply::Status(_)) => return true,
                Err(error) if error.kind() != std::io::ErrorKind::TimedOut => {
                    if answered.elapsed() > SILENCE {
                        return false;
                    }
                }
                // LOADING, or too busy loading to answer.
                Ok(_) | Err(_) => answered = Instant::now(),
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                let loaded = self.loaded().await;
                tracing::info!(loaded, "embedded Redis is loading its data");
            }
            sleep(POLL).await;
        }
    }

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
