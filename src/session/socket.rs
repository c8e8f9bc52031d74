//! The two sides of a WebSocket's connection: one reads messages, the other writes the send queue.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::either::Either;

use super::inbox::{Allowance, Inbox, Received};
use crate::hub::send_queue::Sink;
use crate::net::stream::Socket;
use crate::net::tls::Tls;
use crate::telemetry::{Metrics, Timed};

/// Bytes of one read.
const READ: usize = 64 * 1024;

/// Bytes of a message, and of one read, before the client has authenticated. A token has at most 8 KiB.
const STRANGER: usize = 16 * 1024;

thread_local! {
    /// The read buffer for all connections of a thread, so that a silent connection has none of its own.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// Splits a connection. `early` is the input that followed the upgrade request. One message may arrive until
/// [`Reader::allow`].
///
/// Consumes `early`, which keeps the whole buffer of the request alive.
pub(crate) fn split(socket: Socket, early: Bytes, metrics: Arc<Metrics>) -> (Reader, Writer) {
    let (socket, tls) = match socket {
        Either::Left(plain) => (plain, None),
        Either::Right(secure) => {
            let (socket, session) = secure.into_inner();
            (socket, Some(Arc::new(Tls::new(session))))
        }
    };
    let (read, write) = socket.into_split();
    let mut inbox = Inbox::new(Allowance::One(STRANGER));
    inbox.take(&mut early.to_vec());
    let reader = Reader { stream: read, tls: tls.clone(), inbox, at_once: STRANGER };
    (reader, Writer { stream: write, tls, metrics })
}

pub(crate) struct Reader {
    stream: OwnedReadHalf,
    tls: Option<Arc<Tls>>,
    inbox: Inbox,
    at_once: usize,
}

impl Reader {
    /// Lets the client, which has now authenticated, send messages of at most `max_message` bytes.
    pub(super) fn allow(&mut self, max_message: usize) {
        self.at_once = READ;
        self.inbox.allow(Allowance::Many(max_message));
    }

    pub(super) fn allow_another(&mut self) {
        self.inbox.allow(Allowance::One(STRANGER));
    }

    /// Returns the next item from the client. Cancel safe.
    pub(super) async fn next(&mut self) -> Received {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        loop {
            if let Some(received) = self.inbox.next() {
                return Poll::Ready(received);
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let scratch = &mut scratch[..self.at_once];
                let count = match &self.tls {
                    None => {
                        let mut bytes = ReadBuf::new(scratch);
                        ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes))?;
                        bytes.filled().len()
                    }
                    Some(tls) => ready!(tls.poll_read(self.stream.as_ref(), context, scratch))?,
                };
                self.inbox.take(&mut scratch[..count]);
                Poll::Ready(io::Result::Ok(count))
            });
            if !matches!(ready!(read), Ok(1..)) {
                return Poll::Ready(Received::Gone);
            }
        }
    }

    /// Shuts down writing, then reads and discards until the client closes its side too. Closing a socket
    /// with unread input would reset the connection and lose the last bytes written.
    pub(super) async fn finish(self) {
        if let Some(tls) = &self.tls {
            tls.close(self.stream.as_ref());
        }
        let _ = socket2::SockRef::from(self.stream.as_ref()).shutdown(Shutdown::Write); // A broken socket is closed already.
        let mut forgotten = [0; 4096];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut forgotten) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}

pub(crate) struct Writer {
    stream: OwnedWriteHalf,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
}

impl Sink for Writer {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match (&self.tls, parts) {
            // The plain call is cheaper.
            (None, [part]) => self.stream.try_write(part)?,
            (None, parts) => self.stream.try_write_vectored(parts)?,
            (Some(tls), parts) => tls.write(self.stream.as_ref(), parts)?,
        };
        self.metrics.sent_bytes.increment(written as u64);
        Ok(written)
    }

    fn flush(&self) -> io::Result<()> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.flush(self.stream.as_ref()))
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        self.stream.writable().boxed()
    }

    fn shut(&self) {
        let socket = socket2::SockRef::from(self.stream.as_ref());
        // Without this linger setting, the OS would keep the bytes that the client did not read for as long
        // as the client lives.
        let _ = socket.set_linger(Some(Duration::ZERO)); // The option only shortens the close.
        let _ = socket.shutdown(Shutdown::Both); // It may be broken already.
    }

    fn delivered(&self, message: Timed) {
        self.metrics.delivered_to_socket(message);
    }
}
