//! A connection with its protocol: what the protocol says is written at once, and each received event is
//! passed on.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;

use super::BenchError;
use super::dialect::{Heard, Speech};
use super::socket::{Inbox, Socket};

/// A connection that speaks a dialect.
#[derive(Debug)]
pub(super) struct Line {
    socket: Socket,
    speech: RefCell<Box<dyn Speech>>,
    inbox: RefCell<Inbox>,
    /// Set once the backlog has arrived.
    live: Cell<bool>,
}

impl Line {
    /// Connects as connection number `index` of the run, and sends the greeting.
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

    /// Returns whether the backlog has arrived.
    pub fn is_live(&self) -> bool {
        self.live.get()
    }

    /// Returns the protocol of the publisher, where publishing takes a connection of its own.
    pub fn publisher(&self) -> Option<Box<dyn Speech>> {
        self.speech.borrow().publisher()
    }

    /// Publishes all of these with one write.
    pub async fn publish(&self, all: impl Iterator<Item = String>) -> io::Result<()> {
        let mut out = Vec::new();
        all.for_each(|data| self.speech.borrow_mut().publish(&data, &mut out));
        self.socket.write(&out).await
    }

    /// Waits for input, passes its events on, and sends the answers that are due. For one task only.
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
