//! A client's socket, as hyper reads and writes it. It has the connection's place, and is reset if that was
//! cut.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::admission::Place;

pub(crate) type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

pub(crate) struct Stream {
    /// `None` once it is taken for an upgrade.
    socket: Option<Socket>,
    place: Arc<Place>,
}

impl Stream {
    pub(crate) fn new(socket: Socket, place: Arc<Place>) -> Self {
        Self { socket: Some(socket), place }
    }

    pub(crate) fn into_parts(mut self) -> Option<(Socket, Arc<Place>)> {
        Some((self.socket.take()?, self.place.clone()))
    }

    fn socket(&mut self) -> io::Result<Pin<&mut Socket>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.place.is_cut()) {
            let socket = match socket {
                Either::Left(plain) => plain,
                Either::Right(tls) => tls.get_ref().0,
            };
            // Otherwise the OS would keep the bytes that the client did not read for as long as the client
            // lives.
            let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)); // The option only shortens the close.
        }
    }
}
