//! TLS over a socket whose two sides are used by different tasks, as with WebSockets. Nothing here waits: the
//! caller waits for the socket.

use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustls::ServerConnection;
use tokio::net::TcpStream;

/// Most bytes that are accepted but not yet sent.
const UNSENT: usize = 64 * 1024;

pub(crate) struct Tls(Mutex<ServerConnection>);

impl Tls {
    pub(crate) fn new(mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(UNSENT));
        Self(Mutex::new(session))
    }

    /// Accepts as much as there is room for, and sends as much as the socket accepts. [`Tls::flush`] sends
    /// the rest.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; any other error is permanent.
    pub(crate) fn write(&self, socket: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.0.lock();
        send(&mut session, socket)?;
        let taken = session.writer().write_vectored(parts)?;
        match send(&mut session, socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Sends the accepted bytes.
    ///
    /// # Errors
    /// `WouldBlock` if the socket does not accept all of them now.
    pub(crate) fn flush(&self, socket: &TcpStream) -> io::Result<()> {
        send(&mut self.0.lock(), socket)
    }

    /// Reads what the client sent. Returns 0 at the end.
    pub(crate) fn poll_read(
        &self,
        socket: &TcpStream,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.read(socket, bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_read_ready(context))?
                }
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn read(&self, socket: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
        let mut session = self.0.lock();
        loop {
            match session.reader().read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if session.read_tls(&mut Now(socket))? == 0 {
                return Ok(0);
            }
            let broken = session.process_new_packets().err();
            match (send(&mut session, socket), broken) {
                (_, Some(error)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                (Err(error), None) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                // It is sent with the next bytes.
                _ => {}
            }
        }
    }

    pub(crate) fn close(&self, socket: &TcpStream) {
        let mut session = self.0.lock();
        session.send_close_notify();
        let _ = send(&mut session, socket); // Best effort: the connection ends.
    }
}

fn send(session: &mut ServerConnection, socket: &TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut Now(socket))?;
    }
    Ok(())
}

/// A socket for I/O that never waits.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
