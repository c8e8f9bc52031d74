//! Child processes that end with this process, however it ends.

use std::io;
use std::process;
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Starts processes from one thread that lives as long as this value. Linux sends the signal for a parent's
/// death when the *thread* that started the child ends, so a thread of a pool would not do.
#[derive(Debug)]
pub struct Spawner(mpsc::SyncSender<Order>);

/// Number of processes that can wait to be started. To start one takes a few milliseconds.
const QUEUE: usize = 64;

type Order = Box<dyn FnOnce() + Send>;

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn start() -> io::Result<Self> {
        let (sender, orders) = mpsc::sync_channel::<Order>(QUEUE);
        let work = move || orders.into_iter().for_each(|order| order());
        thread::Builder::new().name("roomlog-children".to_owned()).spawn(work)?;
        Ok(Self(sender))
    }

    /// Starts a process that ends with this one. The current Tokio runtime reaps it.
    ///
    /// # Errors
    /// If the system refuses to start it.
    pub async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        end_with_parent(command.as_std_mut());
        let (runtime, (sender, answer)) = (Handle::current(), oneshot::channel());
        self.order(move || {
            let _guard = runtime.enter();
            let _ = sender.send(command.spawn()); // Without a caller, the child is dropped, which kills it.
        })?;
        answer.await.map_err(|_| gone())?
    }

    /// Starts a process that ends with this one, for callers without a runtime. The caller reaps it.
    ///
    /// # Errors
    /// If the system refuses to start it.
    pub fn spawn_std(&self, mut command: process::Command) -> io::Result<process::Child> {
        end_with_parent(&mut command);
        let (sender, answer) = mpsc::sync_channel(1);
        self.order(move || {
            let _ = sender.send(command.spawn()); // The caller waits below.
        })?;
        answer.recv().map_err(|_| gone())?
    }

    fn order(&self, order: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.0.send(Box::new(order)).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts processes has ended")
}

/// Makes the system send SIGTERM to the child when its parent dies for any reason. Only Linux supports this.
/// Elsewhere, the next node ends what was left over.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn end_with_parent(command: &mut process::Command) {
    use std::os::unix::process::CommandExt;

    let parent = Pid::this();
    let arrange = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have died before the signal was arranged.
        if Pid::parent() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls (prctl, getppid) that are
    // async-signal-safe. It allocates nothing and takes no lock.
    unsafe { command.pre_exec(arrange) };
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut process::Command) {}
