//! A WebSocket with minimal overhead for a load generator: a TCP socket, no buffer except while a frame is
//! half received, and no library around it. It trusts the server to follow the protocol. The client of the
//! tests checks everything and keeps what it receives, which would cost more than the server under load.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

use super::BenchError;
use super::dialect::Upgrade;
use roomlog_testkit::wire::{BINARY, CLOSE, FIN, PING, PONG, TEXT, Whole, first_frame, write_frame};

/// A mask of zeros, which clients may choose: the server has its full work, this side none.
const MASK: [u8; 4] = [0; 4];

/// Size of the read buffer in bytes, shared by all sockets of the thread.
const SCRATCH: usize = 256 * 1024;

/// Size in bytes of the buffers, and of the segments, of a reader that should soon notice that it is slow.
/// Loopback's defaults would hide megabytes.
const SMALL_BUFFER: u32 = 4096;
const SMALL_SEGMENT: u32 = 536;

/// Connections from one loopback address, which has some 28,000 ports. Further connections use further
/// addresses.
const FROM_ONE_ADDRESS: u64 = 10_000;

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// The type of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) enum Opcode {
    Text = TEXT as isize,
    Binary = BINARY as isize,
}

impl Opcode {
    /// Appends a frame that holds a whole message.
    pub fn write(self, payload: &[u8], out: &mut Vec<u8>) {
        write_frame(FIN | self as u8, MASK, payload, out);
    }
}

/// An upgraded connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Held during a write, which may take several system calls.
    writing: Mutex<()>,
}

/// Received bytes that are not a whole frame yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Socket {
    /// Connects as connection number `index` of the run, and upgrades. Bytes that the server has sent by then
    /// are in the inbox.
    pub async fn open(
        address: SocketAddr,
        index: u64,
        upgrade: &Upgrade,
        small: bool,
    ) -> Result<(Self, Inbox), BenchError> {
        let failed = |error| BenchError::Io(format!("cannot connect to {address}"), error);
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(failed)?;
        if let Some(from) = source(address, index) {
            socket.bind(from).map_err(failed)?;
        }
        if small {
            socket.set_recv_buffer_size(SMALL_BUFFER).map_err(failed)?;
            socket2::SockRef::from(&socket).set_mss(SMALL_SEGMENT).map_err(failed)?;
        }
        let mut stream = socket.connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let Upgrade { path, subprotocol } = upgrade;
        let subprotocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            subprotocol.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::with_capacity(512);
        let end = loop {
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut answer).await.map_err(failed)? == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let status = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        if !status.starts_with(b"HTTP/1.1 101") {
            let status = String::from_utf8_lossy(status);
            return Err(BenchError::Refused(format!("{address} does not speak WebSocket: {status}")));
        }
        Ok((Self { stream, writing: Mutex::new(()) }, Inbox(answer[end..].to_vec())))
    }

    /// Writes all of it.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let _guard = self.writing.lock().await;
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the available bytes, at least one, and passes on each complete message. Answers pings.
    pub async fn receive(
        &self,
        inbox: &mut Inbox,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> io::Result<()> {
        // Complete messages are in here only if they arrived with the answer to the upgrade.
        let used = self.parse(&inbox.0, &mut take)?;
        if used > 0 {
            inbox.0.drain(..used);
            return Ok(());
        }
        loop {
            self.stream.readable().await?;
            let read: io::Result<()> = READ.with_borrow_mut(|scratch| {
                let kept = inbox.0.len();
                if scratch.len() < kept + SCRATCH {
                    scratch.resize(kept + SCRATCH, 0);
                }
                scratch[..kept].copy_from_slice(&inbox.0);
                let count = match self.stream.try_read(&mut scratch[kept..]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    other => other?,
                };
                let bytes = &scratch[..kept + count];
                let used = self.parse(bytes, &mut take)?;
                // Sized exactly, so that waiting bytes do not count as the generator's memory.
                inbox.0 = bytes[used..].to_vec();
                Ok(())
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Passes on all complete messages, and returns their size in bytes.
    fn parse(&self, bytes: &[u8], take: &mut impl FnMut(&[u8]) -> Result<(), String>) -> io::Result<usize> {
        let mut used = 0;
        while let Some(Whole { opcode, payload, end }) = first_frame(&bytes[used..]) {
            let payload = &bytes[used + payload..used + end];
            match opcode {
                TEXT | BINARY => take(payload).map_err(io::Error::other)?,
                CLOSE => return Err(io::ErrorKind::ConnectionAborted.into()),
                PING => {
                    let mut pong = Vec::new();
                    write_frame(FIN | PONG, MASK, payload, &mut pong);
                    let _ = self.stream.try_write(&pong); // Without one, the server closes.
                }
                _ => {}
            }
            used += end;
        }
        Ok(used)
    }
}

/// Returns the source address of connection number `index`, if one loopback address has too few ports for it.
fn source(to: SocketAddr, index: u64) -> Option<SocketAddr> {
    let SocketAddr::V4(to) = to else { return None };
    let further = u8::try_from(index / FROM_ONE_ADDRESS).unwrap_or(u8::MAX).min(253);
    let address = Ipv4Addr::new(127, 0, 0, 1 + further);
    (to.ip().is_loopback() && further > 0).then(|| (address, 0).into())
}
