//! A line on a terminal that shows how far long work is.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two changes of the line, and before it is shown first.
const INTERVAL: Duration = Duration::from_millis(200);

/// The count of what is done. Shown on standard error, if that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    /// What is counted, such as `messages`.
    unit: &'static str,
    /// `None` where nothing is to be shown.
    shown: Option<Instant>,
    length: usize,
}

impl Progress {
    pub(super) fn new(unit: &'static str) -> Self {
        Self { unit, shown: io::stderr().is_terminal().then(Instant::now), length: 0 }
    }

    /// Returns progress that is never shown, for work whose results appear on the terminal one by one.
    pub(super) fn hidden() -> Self {
        Self { unit: "", shown: None, length: 0 }
    }

    pub(super) fn show(&mut self, count: usize) -> io::Result<()> {
        if self.shown.is_none_or(|at| at.elapsed() < INTERVAL) {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        let line = format!("{count} {}", self.unit);
        self.length = line.len();
        write!(io::stderr(), "\r{line}")
    }

    /// Removes the line.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.length) {
            0 => Ok(()),
            length => write!(io::stderr(), "\r{:length$}\r", ""),
        }
    }
}
