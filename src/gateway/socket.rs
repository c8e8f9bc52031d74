//! The bytes of a WebSocket. Reading is tungstenite's, which is fed from the socket and whose own replies (pongs, closes)
//! go to the outbox; writing is ours: frames are complete when they come, and what waits goes out in one call.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use crate::hub::outbox::{Outbox, Part, Timed};
use crate::protocol::CloseCode;
use crate::telemetry::Metrics;
use crate::time::now_ms;

/// Bytes of a connection's read buffer. It is there for as long as the connection, so it is small.
const READ_BUFFER: usize = 2048;

/// Parts in one write. Linux takes 1024; so many fill a socket's buffer in most cases.
const PARTS_AT_ONCE: usize = 64;

/// The reading side.
pub(super) struct Reader {
    stream: Arc<TcpStream>,
    /// What came behind the upgrade request.
    early: Bytes,
    context: WebSocketContext,
    outbox: Arc<Outbox>,
}

/// What a client sent.
#[derive(Debug)]
pub(super) enum Received {
    /// A text message.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping or pong: it lives.
    Sign,
    /// It closed, or the connection broke.
    End,
    /// What came is against the rules, and the connection must end.
    Bad(CloseCode),
}

impl Reader {
    /// Reads messages of at most so many bytes.
    pub fn new(stream: Arc<TcpStream>, early: Bytes, outbox: Arc<Outbox>, max_message: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        Self { stream, early, context: WebSocketContext::new(Role::Server, Some(config)), outbox }
    }

    /// The next message.
    pub async fn next(&mut self) -> Received {
        loop {
            let mut io = Io { stream: &self.stream, early: &mut self.early, replies: Vec::new() };
            let read = self.context.read(&mut io);
            if !io.replies.is_empty() {
                self.outbox.push(io.replies.into());
            }
            return match read {
                Ok(Message::Text(text)) => Received::Text(text.into()),
                Ok(Message::Binary(bytes)) => Received::Binary(bytes),
                Ok(Message::Close(_)) => continue,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Received::Sign,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.stream.readable().await {
                        Ok(()) => continue,
                        Err(_) => Received::End,
                    }
                }
                Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => Received::End,
                Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    Received::End
                }
                Err(Error::Capacity(_)) => Received::Bad(CloseCode::TooLarge),
                Err(_) => Received::Bad(CloseCode::Undecodable),
            };
        }
    }
}

/// Reads and forgets until the client closes its side. Past the WebSocket reader, which must not be asked for more once it
/// has refused something.
pub(super) async fn drain(stream: &TcpStream) {
    let mut forgotten = [0; 4096];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut forgotten) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

/// The socket as tungstenite sees it.
struct Io<'a> {
    stream: &'a TcpStream,
    early: &'a mut Bytes,
    replies: Vec<u8>,
}

impl Read for Io<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early.is_empty() {
            return self.stream.try_read(buffer);
        }
        let count = self.early.len().min(buffer.len());
        self.early.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what the outbox holds until it is closed and empty.
///
/// # Errors
/// If the connection breaks.
pub(super) async fn write(
    stream: Arc<TcpStream>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
) -> io::Result<()> {
    loop {
        let parts = outbox.take(PARTS_AT_ONCE).await;
        if parts.is_empty() {
            return Ok(());
        }
        let timed: Vec<Timed> = parts.iter().filter_map(|part| part.timed).collect();
        let bytes = write_all(&stream, parts).await?;
        metrics.sent_bytes.increment(bytes);
        if !timed.is_empty() {
            let now = now_ms();
            for Timed { appended, class } in timed {
                metrics.delivered_after(class, now.saturating_sub(appended) as f64 / 1000.0);
            }
        }
    }
}

async fn write_all(stream: &TcpStream, parts: Vec<Part>) -> io::Result<u64> {
    let mut left: VecDeque<Bytes> = parts.into_iter().map(|part| part.bytes).collect();
    let mut total = 0;
    while !left.is_empty() {
        let slices: Vec<IoSlice<'_>> = left.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut written = match stream.try_write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.writable().await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        total += written as u64;
        while let Some(first) = left.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            left.pop_front();
        }
    }
    Ok(total)
}
