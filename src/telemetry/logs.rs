//! The log: text for people on a terminal, JSON elsewhere, always on standard error. Never payloads or tokens.
//!
//! A line that comes of a request or of a session names it, by the span that it is written in. A span costs memory as long as it
//! lives, so there is none for a connection: one is made where a session does what may fail. Spans are of the level `error`,
//! since finer ones are gone where `log.level` is `warn`, and with them the names.
//!
//! A thread of its own writes the lines: whoever reads them may be slow, or stand still.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::Span;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::config::{LogConfig, LogFormat};

/// Lines that wait to be written; further ones are dropped.
const WAITING: usize = 4096;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines were dropped.
pub fn dropped() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Starts logging, for the whole process. `ROOMLOG_LOG` may hold finer directives than `log.level`, such as
/// `info,roomlog::hub=debug`. Dropping the guard writes the lines that wait, if somebody reads them within a second.
pub fn start(config: &LogConfig) -> WorkerGuard {
    let level = config.level.as_str();
    // fred tells of each lost connection at several levels; what matters of it is logged where it is handled.
    let directives = std::env::var("ROOMLOG_LOG").unwrap_or_else(|_| format!("{level},fred=off"));
    let filter = EnvFilter::builder().parse_lossy(directives);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    let _started_before = LOST.set(writer.error_counter());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let terminal = std::io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let _started_before = if text {
        log.with_ansi(terminal).with_target(false).try_init()
    } else {
        log.json().flatten_event(true).try_init()
    };
    guard
}

/// The span for what comes of a request.
pub fn request(id: &str) -> Span {
    tracing::error_span!("request", id, session = tracing::field::Empty)
}

/// The span for what comes of a session.
pub fn session(id: Uuid) -> Span {
    tracing::error_span!("session", %id)
}

/// Notes, in the span of the request that opened it, which session this is.
pub fn opens(session: Uuid) {
    Span::current().record("session", tracing::field::display(session));
}
