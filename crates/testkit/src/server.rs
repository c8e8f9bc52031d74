//! The binary under test: servers that end with the test, and commands that run to completion.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::redis::free_port;
use super::token::SECRET;
use super::{eventually, soon};

/// Settings with which position checks are so rare that only the bell can bring a message from another node.
pub const NO_CHECKS: [(&str, &str); 1] = [("ROOMLOG_HUB__CHECK_INTERVAL", "1h")];

/// The lines that a process has written to its standard error.
pub type Lines = Arc<Mutex<Vec<String>>>;

/// A running server. Dropping it kills it, and shows its log if the test failed.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: Lines,
    pub address: SocketAddr,
}

/// Returns the path of a program of this workspace, built with the same profile as the running test.
///
/// # Panics
/// If it does not exist.
pub fn program(name: &str) -> PathBuf {
    let program = built().join(name);
    assert!(program.exists(), "{} is missing: cargo build --workspace", program.display());
    program
}

/// Returns the folder with the programs of this build. The test's binary is in a subfolder of it.
pub(crate) fn built() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this program");
    test.ancestors().nth(2).expect("a build folder").to_owned()
}

/// Returns the `roomlog` command with these arguments, and with only the environment that is given here.
fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    command_of("roomlog", args, env)
}

fn command_of(name: &str, args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program(name));
    command.args(args).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("ROOMLOG_LOG__FORMAT", "text").env("ROOMLOG_AUTH__HS256_SECRET", SECRET);
    command.envs(env.iter().copied()).stdin(Stdio::null());
    command
}

impl Server {
    /// Starts a server on the Redis at `url`.
    pub async fn on(url: &str) -> Self {
        Self::with(url, &[]).await
    }

    /// Starts a server on the Redis at `url`, with more settings: `("ROOMLOG_<SECTION>__<KEY>", "value")`.
    pub async fn with(url: &str, env: &[(&str, &str)]) -> Self {
        let env: Vec<_> = [("ROOMLOG_REDIS__URL", url)].iter().chain(env).copied().collect();
        Self::serve(&[], &env).await
    }

    /// Starts a server at this address on the Redis at `url`.
    pub async fn at(address: &str, url: &str) -> Self {
        Self::listen(address, &[], &[("ROOMLOG_REDIS__URL", url)]).await
    }

    /// Starts `roomlog serve` with these arguments and this environment on a port that the system chooses.
    pub async fn serve(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::listen("127.0.0.1:0", args, env).await
    }

    /// Starts `roomlog serve` at this address.
    pub async fn listen(address: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::try_listen(address, args, env).await.unwrap_or_else(|log| panic!("the server ended: {log:#?}"))
    }

    /// Starts `roomlog serve` at this address.
    ///
    /// # Errors
    /// Its log, if it ends instead.
    pub async fn try_listen(address: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Self, Vec<String>> {
        let args: Vec<_> = ["serve", "--listen", address].iter().chain(args).copied().collect();
        Self::started(command(&args, env)).await
    }

    /// Starts a server on the Redis at `url` with these limits of open files.
    pub async fn with_open_files(url: &str, soft: usize, hard: usize) -> Self {
        let serve = command(&["serve", "--listen", "127.0.0.1:0"], &[("ROOMLOG_REDIS__URL", url)]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\""));
        shell.arg(serve.get_program()).args(serve.get_args()).env_clear();
        shell.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::started(shell).await.unwrap_or_else(|log| panic!("the server ended: {log:#?}"))
    }

    /// Starts a server whose standard error is a pipe that nobody reads.
    pub async fn unread(env: &[(&str, &str)]) -> Self {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let mut command = command(&["serve", "--listen", &address.to_string()], env);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary");
        let server = Self { child, log: Lines::default(), address };
        eventually("the server listens", async || TcpStream::connect(address).await.is_ok()).await;
        server
    }

    async fn started(mut command: Command) -> Result<Self, Vec<String>> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary");
        let log = follow(child.stderr.take().unwrap());
        let address = "127.0.0.1:0".parse().unwrap();
        let mut server = Self { child, log, address };
        let (mut found, mut ended) = (None, false);
        eventually("the server listens", async || {
            ended = server.child.try_wait().unwrap().is_some();
            found = server.log.lock().iter().find_map(|line| address_in(line));
            found.is_some() || ended
        })
        .await;
        let Some(address) = found.filter(|_| !ended) else { return Err(server.log()) };
        server.address = address;
        Ok(server)
    }

    /// Sends requests to a proxy at this address instead of the server itself.
    pub fn behind(&mut self, proxy: SocketAddr) {
        self.address = proxy;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Returns its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Returns its peak resident memory in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns the number of its open files, connections included.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        let _already_gone = self.child.kill();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- log of the server at {}", self.address);
            self.log.lock().iter().for_each(|line| println!("{line}"));
        } else {
            let panicked = self.log.lock().iter().find(|line| line.contains("panicked at")).cloned();
            assert_eq!(panicked, None, "a task of the server panicked");
        }
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http")?;
    let rest = rest.trim_start_matches('s').strip_prefix("://")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c)).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Collects the output of a process in a thread, so that the process never waits for a busy test.
pub fn follow(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let writer = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            writer.lock().push(line);
        }
    });
    lines
}

/// The result of a command.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Returns the standard output of a command that must succeed.
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }

    /// Returns the standard error of a command that must fail.
    pub fn failure(self) -> String {
        assert!(self.status.code().is_some_and(|code| code != 0), "{self:?}");
        self.stderr
    }
}

/// Runs `roomlog` to completion.
pub async fn run(args: &[&str], env: &[(&str, &str)]) -> Run {
    run_with_input(args, env, "").await
}

/// Runs `roomlog` to completion with this standard input.
pub async fn run_with_input(args: &[&str], env: &[(&str, &str)], input: &str) -> Run {
    run_to_end(command(args, env), input).await
}

/// Runs another program of this workspace to completion.
pub async fn run_program(name: &str, args: &[&str], env: &[(&str, &str)]) -> Run {
    run_to_end(command_of(name, args, env), "").await
}

async fn run_to_end(command: Command, input: &str) -> Run {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _or_it_ended_without = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = soon("the command ends", child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A `roomlog` that keeps running, and its output. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Lines,
}

/// Starts `roomlog` with these arguments and this environment.
pub fn spawn(args: &[&str], env: &[(&str, &str)]) -> Running {
    spawn_program("roomlog", args, env)
}

/// Starts another program of this workspace.
pub fn spawn_program(name: &str, args: &[&str], env: &[(&str, &str)]) -> Running {
    let mut child = command_of(name, args, env).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = follow(child.stdout.take().unwrap());
    Running { child, lines }
}

impl Running {
    /// Waits until it has printed `count` lines, and returns them.
    pub async fn lines(&self, count: usize) -> Vec<String> {
        eventually("the command prints", async || self.lines.lock().len() >= count).await;
        self.lines.lock().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts it as Ctrl-C does, and waits for its end.
    pub async fn interrupt(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).unwrap();
        let mut status = None;
        eventually("the command ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        self.child.wait().unwrap();
    }
}
