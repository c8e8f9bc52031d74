//! Child processes that end with this process, however it ends.

use std::io;
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

type Order = (Command, oneshot::Sender<io::Result<Child>>);

impl Spawner {
    /// Starts the thread. Its children are reaped by the current Tokio runtime.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn start() -> io::Result<Self> {
        let runtime = Handle::current();
        let (sender, orders) = mpsc::sync_channel::<Order>(1);
        let work = move || {
            let _inside = runtime.enter();
            for (mut command, answer) in orders {
                // If the caller no longer waits, this drops the child, which kills it.
                let _nobody_waits = answer.send(command.spawn());
            }
        };
        thread::Builder::new().name("roomlog-children".to_owned()).spawn(work)?;
        Ok(Self(sender))
    }

    /// Starts a process that ends with this one.
    ///
    /// # Errors
    /// If the system refuses to start it.
    pub async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts processes has ended");
        end_with_parent(&mut command);
        let (sender, answer) = oneshot::channel();
        self.0.try_send((command, sender)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Makes the system send SIGTERM to the child when its parent dies for any reason. Only Linux supports this.
/// Elsewhere, the next node ends what was left over.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn end_with_parent(command: &mut Command) {
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
fn end_with_parent(_command: &mut Command) {}
