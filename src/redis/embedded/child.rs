//! The Redis process: its start, its log and its end.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::home::Home;
use super::output;
use roomlog_children::Spawner;

const KEPT_LINES: usize = 20;

/// Time to read its last lines after it ended: a process that it forked may still hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The command line of Redis. It sets everything that decides durability, so that no default can change it.
/// It also limits the memory: otherwise the system could kill Redis or the server for using too much.
pub(super) fn arguments(home: &Home, max_memory: u64) -> Vec<OsString> {
    let (pid_file, max_memory) = (home.pid_file(), max_memory.to_string());
    let settings: [(&str, &Path); 18] = [
        ("--port", "0".as_ref()),
        ("--unixsocket", &home.socket),
        ("--unixsocketperm", "700".as_ref()),
        ("--dir", &home.dir),
        ("--pidfile", &pid_file),
        ("--daemonize", "no".as_ref()),
        ("--supervised", "no".as_ref()),
        // Keeps the command line, by which a leftover server is recognised.
        ("--set-proc-title", "no".as_ref()),
        ("--logfile", "".as_ref()),
        ("--loglevel", "notice".as_ref()),
        ("--appendonly", "yes".as_ref()),
        ("--appendfsync", "always".as_ref()),
        ("--no-appendfsync-on-rewrite", "no".as_ref()),
        ("--aof-use-rdb-preamble", "yes".as_ref()),
        ("--aof-load-truncated", "yes".as_ref()),
        ("--save", "".as_ref()),
        ("--maxmemory", max_memory.as_ref()),
        ("--maxmemory-policy", "noeviction".as_ref()),
    ];
    settings.iter().flat_map(|(name, value)| [OsString::from(name), OsString::from(value)]).collect()
}

/// A running Redis. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    follower: AbortOnDropHandle<()>,
}

impl Server {
    pub(super) async fn start(
        spawner: &Spawner,
        program: &Path,
        home: &Home,
        max_memory: u64,
    ) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments(home, max_memory))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // Outside the terminal's process group: Ctrl-C is for the node, which still needs Redis to
            // finish.
            .process_group(0)
            .kill_on_drop(true);
        let child = spawner.spawn(command).await?;
        let lines = Arc::default();
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        let follower = AbortOnDropHandle::new(tokio::spawn(follow(pipe, Arc::clone(&lines))));
        Ok(Self { child, lines, follower })
    }

    /// Waits until it ends. Cancel-safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Returns its last log lines, oldest first. After its end, they include the very last.
    pub(super) async fn last_words(mut self) -> Vec<String> {
        let _ = timeout(LAST_WORDS, &mut self.follower).await; // Whatever was read until then is enough.
        self.lines.lock().iter().cloned().collect()
    }

    pub(super) async fn end(mut self, patience: Duration) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM); // It may have exited already.
        }
        match timeout(patience, self.child.wait()).await {
            Ok(Ok(status)) => tracing::debug!(%status, "embedded Redis stopped"),
            Ok(Err(error)) => tracing::warn!(%error, "the exit status of the embedded Redis is unknown"),
            Err(_) => {
                tracing::warn!(?patience, "embedded Redis did not stop in time and was killed");
                let _ = self.child.kill().await; // It may have exited already.
            }
        }
        let _ = timeout(LAST_WORDS, &mut self.follower).await; // Whatever was read until then is enough.
    }
}

async fn follow(pipe: pipe::Receiver, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(pipe).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        output::hand_on(line);
        let mut kept = kept.lock();
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line.to_owned());
    }
}
