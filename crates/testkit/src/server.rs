//! The binary under test: servers that end with the test, and commands that run to completion.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::process::{Lines, Memory, Process, listening};
use super::redis::free_port;
use super::token::SECRET;
use super::{eventually, soon};

/// Settings with which position checks are so rare that only the bell can bring a message from another node.
pub const NO_CHECKS: [(&str, &str); 1] = [("ROOMLOG_HUB__CHECK_INTERVAL", "1h")];

/// A running server. Dropping it kills it, and shows its log if the test failed.
#[derive(Debug)]
pub struct Server {
    process: Process,
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
pub(crate) fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
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
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let process = Process::start(command).expect("the binary");
        let server = Self { process, log: Lines::default(), address };
        eventually("the server listens", async || TcpStream::connect(address).await.is_ok()).await;
        server
    }

    async fn started(mut command: Command) -> Result<Self, Vec<String>> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(command).expect("the binary");
        let log = process.stderr();
        let address = |lines: &[String]| lines.iter().find_map(|line| Some(listening(line)?.0));
        let found = soon("the server listens", process.says(&log, address)).await;
        match found.filter(|_| process.exit().is_none()) {
            Some(address) => Ok(Self { process, log, address }),
            None => Err(log.lock().clone()),
        }
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
        self.process.pid()
    }

    /// Returns its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        Memory::of(self.process.id()).expect("a running server").rss
    }

    /// Returns its peak resident memory in bytes.
    pub fn peak_memory(&self) -> u64 {
        Memory::of(self.process.id()).expect("a running server").peak
    }

    /// Returns the number of its open files, connections included.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        soon("the server ends", self.process.ended()).await
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
    let _ = stdin.write_all(input.as_bytes()).await; // It may end without reading it.
    drop(stdin);
    let output = soon("the command ends", child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A `roomlog` that keeps running, and its output. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    process: Process,
    lines: Lines,
}

/// Starts `roomlog` with these arguments and this environment.
pub fn spawn(args: &[&str], env: &[(&str, &str)]) -> Running {
    spawn_program("roomlog", args, env)
}

/// Starts another program of this workspace.
pub fn spawn_program(name: &str, args: &[&str], env: &[(&str, &str)]) -> Running {
    let mut command = command_of(name, args, env);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::start(command).unwrap();
    let lines = process.stdout();
    Running { process, lines }
}

impl Running {
    /// Waits until it has printed `count` lines, and returns them.
    pub async fn lines(&self, count: usize) -> Vec<String> {
        eventually("the command prints", async || self.lines.lock().len() >= count).await;
        self.lines.lock().clone()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Interrupts it as Ctrl-C does, and waits for its end.
    pub async fn interrupt(&mut self) -> ExitStatus {
        self.process.signal(Signal::SIGINT).unwrap();
        soon("the command ends", self.process.ended()).await
    }
}
