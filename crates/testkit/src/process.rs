//! Child processes of tests and of the load generator. Each ends with its value, and with this process, however
//! that ends. Also their output, line by line, and their memory.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;
use roomlog_children::Spawner;
use tokio::time::{sleep, timeout};

static SPAWNER: LazyLock<Spawner> = LazyLock::new(|| Spawner::start().expect("a thread"));

const POLL: Duration = Duration::from_millis(10);

/// Time after the end of a process in which its last lines are read. A process that it has started may keep
/// the output open for longer.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The lines that a process has written.
pub type Lines = Arc<Mutex<Vec<String>>>;

/// A process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    leads: bool,
}

impl Process {
    /// Starts a process.
    ///
    /// # Errors
    /// If the system refuses, or there is no such program.
    pub fn start(command: Command) -> io::Result<Self> {
        Ok(Self { child: SPAWNER.spawn_std(command)?, leads: false })
    }

    /// Starts a process in a group of its own: Ctrl-C does not reach it, and dropping it kills its children
    /// too.
    ///
    /// # Errors
    /// If the system refuses, or there is no such program.
    pub fn lead(mut command: Command) -> io::Result<Self> {
        command.process_group(0);
        Ok(Self { child: SPAWNER.spawn_std(command)?, leads: true })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Collects its standard output, which must be piped.
    pub fn stdout(&mut self) -> Lines {
        follow(self.child.stdout.take().expect("a piped output"))
    }

    /// Collects its standard error, which must be piped.
    pub fn stderr(&mut self) -> Lines {
        follow(self.child.stderr.take().expect("a piped output"))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    /// Returns how it ended, if it has.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        loop {
            match self.exit() {
                Some(status) => return status,
                None => sleep(POLL).await,
            }
        }
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        let _ = self.signal(Signal::SIGTERM); // It may have ended already.
        self.ended().await
    }

    /// Kills it as a crash would, and its group if it leads one.
    pub fn kill(&mut self) {
        if self.leads {
            let _ = killpg(self.pid(), Signal::SIGKILL); // The group may be gone already.
        } else {
            let _ = self.child.kill(); // It may be gone already.
        }
        self.child.wait().expect("the end of a child");
    }

    /// Waits until `find` finds something in its lines. Returns `None` if it ends without that.
    pub async fn says<T>(&mut self, lines: &Lines, find: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        loop {
            let ended = self.exit().is_some();
            if ended {
                let _ = timeout(LAST_LINES, complete(lines)).await; // The lines so far must do then.
            }
            let found = find(&lines.lock());
            if found.is_some() || ended {
                return found;
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Collects the output of a process in a thread, so that the process never waits for a busy test. Lines are
/// discarded once nobody holds the returned value.
pub fn follow(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let writer = Arc::downgrade(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(lines) = writer.upgrade() {
                lines.lock().push(line);
            }
        }
    });
    lines
}

/// Waits for the end of the output, where the thread of [`follow`] drops its reference.
async fn complete(lines: &Lines) {
    while Arc::weak_count(lines) > 0 {
        sleep(POLL).await;
    }
}

/// Parses the address in the line with which a server says that it listens. Returns it with the rest of the
/// line.
pub fn listening(line: &str) -> Option<(SocketAddr, &str)> {
    let (_, rest) = line.split_once("listening on http")?;
    let rest = rest.trim_start_matches('s').strip_prefix("://")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c)).unwrap_or(rest.len());
    Some((rest[..end].parse().ok()?, &rest[end..]))
}

/// Memory of a process, in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Memory {
    /// Resident now.
    pub rss: u64,
    /// Resident now, with shared memory divided by the number of processes that share it.
    pub pss: u64,
    /// Peak of the resident memory.
    pub peak: u64,
}

impl Memory {
    /// Reads it from `/proc`. Returns `None` if there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let (rss, peak) = (field(&status, "VmRSS:")?, field(&status, "VmHWM:")?);
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        Some(Self { rss, pss: field(&rollup, "Pss:").unwrap_or(rss), peak })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reported_in_bytes() {
        assert_eq!(field("VmHWM:\t  900 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(field("", "VmRSS:"), None);
    }

    #[tokio::test]
    async fn the_last_lines_of_a_process_that_ends_are_read() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two"]).stdout(std::process::Stdio::piped());
        let mut process = Process::start(command).unwrap();
        let lines = process.stdout();
        assert_eq!(process.says(&lines, |_| None::<()>).await, None);
        assert_eq!(*lines.lock(), ["one", "two"]);
    }
}
