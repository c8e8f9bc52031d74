//! A connection and the talk on it: what one side says goes out as it is said, and each thing heard is handed on.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;

use super::BenchError;
use super::dialect::{Heard, Speech};
use super::socket::{Inbox, Socket};

/// A connection that speaks.
#[derive(Debug)]
pub(super) struct Line {
    socket: Socket,
    speech: RefCell<Box<dyn Speech>>,
    inbox: RefCell<Inbox>,
    /// Whether what was missed has come.
    live: Cell<bool>,
}

impl Line {
    /// Connects, as the `index`th connection of the run, and says hello.
    pub async fn open(
        address: SocketAddr,
        index: u64,
        speech: Box<dyn Speech>,
        small: bool,
    ) -> Result<Self, BenchError> {
        let (socket, inbox) = Socket::open(address, index, &speech.upgrade(), small).await?;
        let live = Cell::new(speech.is_live_at_once());
        let line = Self { socket, speech: RefCell::new(speech), inbox: RefCell::new(inbox), live };
        let mut hello = Vec::new();
        line.speech.borrow().hello(&mut hello);
        let said = line.socket.write(&hello).await;
        said.map_err(|error| BenchError::Io(format!("cannot speak to {address}"), error))?;
        Ok(line)
    }

    /// Whether all that was missed has come.
    pub fn is_live(&self) -> bool {
        self.live.get()
    }

    /// Who publishes, where that takes a connection of its own.
    pub fn publisher(&self) -> Option<Box<dyn Speech>> {
        self.speech.borrow().publisher()
    }

    /// Publishes all of these with one write.
    pub async fn publish(&self, all: impl Iterator<Item = String>) -> io::Result<()> {
        let mut out = Vec::new();
        all.for_each(|data| self.speech.borrow_mut().publish(&data, &mut out));
        self.socket.write(&out).await
    }

    /// Waits for something, hands it on, and answers what is to be answered. One task does that.
    pub async fn receive(&self, mut take: impl FnMut(Heard<'_>)) -> io::Result<()> {
        let (mut inbox, mut out) = (self.inbox.take(), Vec::new());
        let hear = |payload: &[u8]| {
            self.speech.borrow_mut().hear(payload, &mut out, &mut |heard| match heard {
                Heard::Live => self.live.set(true),
                other => take(other),
            })
        };
        self.socket.receive(&mut inbox, hear).await?;
        self.inbox.replace(inbox);
        self.socket.write(&out).await
    }
}
