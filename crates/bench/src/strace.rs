//! Counts a server's system calls with `strace`.

use std::cell::Cell;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::BenchError;

/// Duration of the count.
const TIME: Duration = Duration::from_secs(2);

/// Counts the system calls of processes, and the messages received meanwhile.
pub(super) async fn count(pids: &[u32], received: &Cell<u64>) -> Result<(u64, u64), BenchError> {
    if pids.is_empty() {
        return Err(BenchError::Plan(
            "--syscalls needs the server's process: --spawn, or --server-pid".into(),
        ));
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => BenchError::Plan(
            "--syscalls needs strace, which is not installed: apt-get install strace, or its like".into(),
        ),
        _ => BenchError::Io("strace".into(), error),
    };
    let mut command = Command::new("strace");
    command.args(["-c", "-f"]).args(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut strace = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
    let stderr = strace.stderr.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Vec::new();
    // strace reports each process once it is attached to all of the process's threads.
    let mut attached = 0;
    while attached < pids.len() {
        let line = lines.next_line().await.map_err(failed)?;
        let line =
            line.ok_or_else(|| BenchError::Refused(format!("strace cannot attach: {}", said.join("; "))))?;
        attached += usize::from(line.contains("attached"));
        said.push(line);
    }
    let before = received.get();
    tokio::time::sleep(TIME).await;
    let received = received.get() - before;
    if let Some(pid) = strace.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _already_gone = kill(Pid::from_raw(pid), Signal::SIGINT);
    }
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        if let Some(calls) = total(&line) {
            return Ok((calls, received));
        }
    }
    Err(BenchError::Refused("strace counted nothing".into()))
}

/// Returns the number of calls in the last line of the table: share, seconds, µs per call, calls, perhaps
/// errors, `total`.
fn total(line: &str) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    fields.last().filter(|last| **last == "total")?;
    fields.get(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_the_total_line() {
        assert_eq!(total("100.00    0.011112           1      6151        14 total"), Some(6151));
        assert_eq!(total("100.00    0.011112           1      6151           total"), Some(6151));
        assert_eq!(total(" 98.12    0.010000           1      6000           writev"), None);
    }
}
