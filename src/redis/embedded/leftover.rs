//! Ends a Redis that an earlier node left behind, before the next one starts. It is asked first, then
//! signalled. Its process id is checked against its command line, so that no other process gets a signal.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::EmbeddedError;
use super::home::Home;
use super::resp;

const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask,
    Terminate,
    Kill,
}

pub(super) async fn end(home: &Home, patience: Duration) -> Result<(), EmbeddedError> {
    for step in [Step::Ask, Step::Terminate, Step::Kill] {
        if !is_there(home).await {
            return Ok(());
        }
        let pid = process(home);
        tracing::warn!(dir = %home.dir.display(), ?pid, ?step, "stopping the Redis of an earlier node");
        take(step, home, pid).await;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && is_there(home).await {
            sleep(POLL).await;
        }
    }
    if is_there(home).await {
        let pid = process(home).map(Pid::as_raw);
        return Err(EmbeddedError::Leftover { path: home.dir.clone(), pid });
    }
    Ok(())
}

async fn take(step: Step, home: &Home, pid: Option<Pid>) {
    let signal = match step {
        Step::Ask => {
            // It closes the connection instead of answering; the end is checked below.
            let _ = resp::ask(&home.socket, &["SHUTDOWN", "NOSAVE"]).await; // Redis closes the connection instead of answering.
            return;
        }
        Step::Terminate => Signal::SIGTERM,
        Step::Kill => Signal::SIGKILL,
    };
    if let Some(pid) = pid {
        let _ = kill(pid, signal); // It may have exited already.
    }
}

async fn is_there(home: &Home) -> bool {
    process(home).is_some() || listens(&home.socket).await
}

async fn listens(socket: &Path) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match resp::ask(socket, &["PING"]).await {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ConnectionRefused | NotFound),
    }
}

/// Returns the live process that the pid file names, if it is a Redis with this directory. Process ids are
/// reused, so the file alone proves nothing. Without `/proc` the command line is unknown, and the socket has
/// to be enough.
fn process(home: &Home) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(home.pid_file()).ok()?.trim().parse().ok()?;
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    is_ours(&command_line, &home.dir).then(|| Pid::from_raw(pid))
}

/// Returns true if a command line (NUL-terminated words) is that of a Redis started here on `dir`.
fn is_ours(command_line: &[u8], dir: &Path) -> bool {
    let words: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let program = words.first().map(|word| String::from_utf8_lossy(word)).unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    let dir = dir.as_os_str().as_encoded_bytes();
    (name.contains("redis") || name.contains("valkey"))
        && words.windows(2).any(|pair| pair[0] == b"--dir" && pair[1] == dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_redis_on_this_directory_is_ours() {
        let dir = Path::new("/var/lib/roomlog");
        for (line, ours) in [
            ("/usr/bin/redis-server\0--port\x000\0--dir\0/var/lib/roomlog\0--save\0\0", true),
            ("valkey-server\0--dir\0/var/lib/roomlog\0", true),
            ("/usr/bin/redis-server\0--dir\0/var/lib/roomlog2\0", false),
            ("/usr/bin/redis-server\0--dir\0/var/lib\0", false),
            ("/usr/bin/redis-server *:6379\0\0", false),
            ("/var/lib/redis/backup\0--dir\0/var/lib/roomlog\0", false),
            ("", false),
        ] {
            assert_eq!(is_ours(line.as_bytes(), dir), ours, "{line:?}");
        }
    }
}
