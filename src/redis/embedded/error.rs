//! The errors that keep the embedded Redis from starting. Each message says what to do about it.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum EmbeddedError {
    #[error(
        "the data directory {} is not a directory: remove or rename that file, or choose another directory with --data-dir",
        .0.display()
    )]
    NotADirectory(PathBuf),

    #[error(
        "the data directory {} cannot be used ({source}): make it writable for the user that runs roomlog, or choose another directory with --data-dir",
        .path.display()
    )]
    Unwritable {
        /// The directory, or the file in it, that was refused.
        path: PathBuf,
        source: io::Error,
    },

    #[error(
        "the data directory {} is in use by another roomlog{}: stop that one, or choose another directory with --data-dir",
        .path.display(), .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse { path: PathBuf, pid: Option<u32> },

    /// No directory for the socket is both short enough for a Unix socket and safe.
    #[error(
        "the directory {} cannot hold the socket of the embedded Redis ({problem}): remove it, or choose a data directory with a shorter path with --data-dir",
        .path.display()
    )]
    Socket { path: PathBuf, problem: String },

    #[error(
        "no redis-server or valkey-server (7.0 or newer) is on PATH. Install one:\n{advice}\nor use a Redis that runs already, with --redis-url redis://HOST:6379"
    )]
    NotInstalled { advice: String },

    #[error("{} cannot be run as a Redis server: {problem}", .path.display())]
    Unusable { path: PathBuf, problem: String },

    /// The installed server is older than 7.0, which has no functions and no sharded pub/sub.
    #[error(
        "{} is version {version}, and roomlog needs Redis 7.0 or newer, or Valkey. Install one:\n{advice}\nor use a Redis that runs already, with --redis-url redis://HOST:6379",
        .path.display()
    )]
    TooOld { path: PathBuf, version: String, advice: String },

    #[error(
        "a Redis of an earlier roomlog is still running on {} (pid {}) and cannot be stopped: stop it by hand, then start again",
        .path.display(), .pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    Leftover { path: PathBuf, pid: Option<i32> },

    #[error("{} could not be started: {source}", .path.display())]
    Spawn { path: PathBuf, source: io::Error },

    #[error("the embedded Redis did not start: it {what}. Its last log lines:\n{}", .log.join("\n"))]
    Failed { what: String, log: Vec<String> },
}
