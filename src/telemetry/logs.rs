//! The log on standard error: text for people on a terminal, JSON elsewhere. It never contains payloads or
//! tokens.
//!
//! Lines that belong to a request or a session name it, through their span. A span takes memory while it
//! exists, so connections have none: a session creates one around operations that may fail. Spans have the
//! level `error`, since lower levels disappear where `log.level` is `warn`, and the names with them.
//!
//! A thread of its own writes the lines: the reader of standard error may be slow, or stop reading.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::Span;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::config::{LogConfig, LogFormat};

/// Maximum number of lines that wait to be written; further ones are dropped.
const WAITING: usize = 4096;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

pub(crate) fn dropped() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Starts logging for the whole process. `ROOMLOG_LOG` may contain finer directives than `log.level`, such as
/// `info,roomlog::hub=debug`. Dropping the guard writes the waiting lines, if they are read within a second.
pub(crate) fn start(config: &LogConfig) -> WorkerGuard {
    let level = config.level.as_str();
    // fred logs each lost connection at several levels. The important ones are logged where they are handled.
    let directives = std::env::var("ROOMLOG_LOG").unwrap_or_else(|_| format!("{level},fred=off"));
    let filter = EnvFilter::builder().parse_lossy(directives);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    let _ = LOST.set(writer.error_counter()); // Already set by an earlier start.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let terminal = std::io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    // Already set by an earlier start.
    let _ = if text {
        log.with_ansi(terminal).with_target(false).try_init()
    } else {
        log.json().flatten_event(true).try_init()
    };
    guard
}

pub(crate) fn request(id: &str) -> Span {
    tracing::error_span!("request", id, session = tracing::field::Empty)
}

pub(crate) fn session(id: Uuid) -> Span {
    tracing::error_span!("session", %id)
}

pub(crate) fn opens(session: Uuid) {
    Span::current().record("session", tracing::field::display(session));
}
