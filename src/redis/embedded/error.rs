//! The errors that keep the embedded Redis from starting. Each message says what to do about it.

use std::io;
use std::path::PathBuf;

/// The reason why the embedded Redis did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmbeddedError {
    /// A file is in the place of the data directory.
    #[error(
        "the data directory {} is not a directory: remove or rename that file, or choose another directory with --data-dir",
        .0.display()
    )]
    NotADirectory(PathBuf),

    /// The data directory cannot be created or written to.
    #[error(
        "the data directory {} cannot be used ({source}): make it writable for the user that runs roomlog, or choose another directory with --data-dir",
        .path.display()
    )]
    Unwritable {
        /// The directory, or the file in it, that was refused.
        path: PathBuf,
        source: io::Error,
    },

    /// Another node uses the data directory.
    #[error(
        "the data directory {} is in use by another roomlog{}: stop that one, or choose another directory with --data-dir",
        .path.display(), .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        path: PathBuf,
        /// The process that uses it, if known.
        pid: Option<u32>,
    },

    /// No directory for the socket is both short enough for a Unix socket and safe.
    #[error(
        "the directory {} cannot hold the socket of the embedded Redis ({problem}): remove it, or choose a data directory with a shorter path with --data-dir",
        .path.display()
    )]
    Socket {
        /// The directory that was tried last.
        path: PathBuf,
        problem: String,
    },

    /// Neither `redis-server` nor `valkey-server` is on `PATH`.
    #[error(
        "no redis-server or valkey-server (7.0 or newer) is on PATH. Install one:\n{advice}\nor use a Redis that runs already, with --redis-url redis://HOST:6379"
    )]
    NotInstalled {
        /// The commands that install one on this machine.
        advice: String,
    },

    /// The program cannot be run.
    #[error("{} cannot be run as a Redis server: {problem}", .path.display())]
    Unusable { path: PathBuf, problem: String },

    /// The installed server is older than 7.0, which has no functions and no sharded pub/sub.
    #[error(
        "{} is version {version}, and roomlog needs Redis 7.0 or newer, or Valkey. Install one:\n{advice}\nor use a Redis that runs already, with --redis-url redis://HOST:6379",
        .path.display()
    )]
    TooOld {
        path: PathBuf,
        /// The version that it reports.
        version: String,
        /// The commands that install a newer one on this machine.
        advice: String,
    },

    /// A Redis that an earlier node left behind does not end.
    #[error(
        "a Redis of an earlier roomlog still runs on {} (pid {}) and does not end: stop it by hand, then start again",
        .path.display(), .pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    Leftover {
        path: PathBuf,
        /// Its process, if known.
        pid: Option<i32>,
    },

    /// The process could not be started.
    #[error("{} could not be started: {source}", .path.display())]
    Spawn { path: PathBuf, source: io::Error },

    /// Redis ended before it was ready, or never answered.
    #[error("the embedded Redis did not start: it {what}. Its last words:\n{}", .log.join("\n"))]
    Failed {
        /// How it ended, or that it did not answer.
        what: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
}
