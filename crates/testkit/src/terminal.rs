//! Commands as a person at a terminal uses them: on a pseudo-terminal of 80 columns.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use parking_lot::Mutex;

use super::process::Process;
use super::server::command;
use super::{eventually, soon};

/// Size of the terminal.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// A `roomlog` on a terminal, without colours. Dropping it kills it.
#[derive(Debug)]
pub struct Terminal {
    process: Process,
    keyboard: File,
    screen: Arc<Mutex<Screen>>,
}

#[derive(Debug, Default)]
struct Screen {
    text: String,
    is_complete: bool,
}

impl Terminal {
    /// Starts `roomlog` with these arguments and this environment.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let pty = openpty(&SIZE, None).expect("a pseudo-terminal");
        let mut command = command(args, env);
        let stdio = || Stdio::from(pty.slave.try_clone().expect("a file"));
        command.env("NO_COLOR", "1").stdin(stdio()).stdout(stdio()).stderr(stdio());
        // The screen is complete once the last file of the terminal is closed: this one must not stay.
        drop(pty.slave);
        let process = Process::start(command).expect("the binary");
        let keyboard = File::from(pty.master);
        let screen = Arc::default();
        follow(keyboard.try_clone().expect("a file"), Arc::clone(&screen));
        Self { process, keyboard, screen }
    }

    /// Waits until the screen shows a text, and returns all that it shows.
    pub async fn shows(&self, text: &str) -> String {
        eventually(text, async || self.screen.lock().text.contains(text)).await;
        self.screen.lock().text.clone()
    }

    /// Types a text, such as `y\n`. The screen shows it too.
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the terminal");
    }

    /// Interrupts the command as Ctrl-C does.
    pub fn interrupt(&self) {
        self.process.signal(Signal::SIGINT).expect("a running command");
    }

    /// Waits for the end of the command, and returns its status with all that the screen shows.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = soon("the command ends", self.process.ended()).await;
        eventually("the output is read", async || self.screen.lock().is_complete).await;
        (status, self.screen.lock().text.clone())
    }
}

/// Reads the terminal in a thread, until the last program on it has ended.
fn follow(mut terminal: File, screen: Arc<Mutex<Screen>>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = terminal.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]).replace("\r\n", "\n");
            screen.lock().text.push_str(&text);
        }
        screen.lock().is_complete = true;
    });
}
