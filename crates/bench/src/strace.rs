//! Counts a server's system calls with `strace`.

use std::cell::Cell;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::BenchError;
use roomlog_testkit::Process;

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
    let mut strace = Process::lead(command).map_err(failed)?;
    let lines = strace.stderr();
    // strace reports each process once it is attached to all of the process's threads.
    let attached = |lines: &[String]| lines.iter().filter(|line| line.contains("attached")).count();
    let all = |lines: &[String]| (attached(lines) >= pids.len()).then_some(());
    if strace.says(&lines, all).await.is_none() {
        let said = lines.lock().join("; ");
        return Err(BenchError::Refused(format!("strace cannot attach: {said}")));
    }
    let before = received.get();
    tokio::time::sleep(TIME).await;
    let received = received.get() - before;
    let _ = strace.signal(Signal::SIGINT); // If it has ended, it has counted nothing.
    let calls = strace.says(&lines, |lines| lines.iter().find_map(|line| total(line))).await;
    let calls = calls.ok_or_else(|| BenchError::Refused("strace counted nothing".into()))?;
    Ok((calls, received))
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
