//! The log: text for people on a terminal, JSON elsewhere, always on standard error. Never payloads or tokens.
//!
//! A line that comes of a request or of a session names it, by the span that it is written in. A span costs memory as long as it
//! lives, so there is none for a connection: one is made where a session does what may fail. Spans are of the level `error`,
//! since finer ones are gone where `log.level` is `warn`, and with them the names.

use std::io::IsTerminal;

use tracing::Span;
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::config::{LogConfig, LogFormat};

/// Starts logging, for the whole process. `ROOMLOG_LOG` may hold finer directives than `log.level`, such as
/// `info,roomlog::hub=debug`.
pub fn start(config: &LogConfig) {
    let level = config.level.as_str();
    // fred tells of each lost connection at several levels; what matters of it is logged where it is handled.
    let directives = std::env::var("ROOMLOG_LOG").unwrap_or_else(|_| format!("{level},fred=off"));
    let filter = EnvFilter::builder().parse_lossy(directives);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
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
