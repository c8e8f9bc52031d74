//! The floor: a server that only writes frames to sockets. It has no log, no tokens, and no order to keep
//! between nodes, so others are measured as ratios to it. It writes each message by itself: a server that
//! writes several at once can need less.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use super::frame::{self, Frame};
use roomlog_protocol::wire::write_header;
use roomlog_protocol::{Encoding, encode};
use roomlog_testkit::now_ms;
use roomlog_testkit::wire::{Whole, first_frame};

/// The members of a room, and the number of its newest message.
#[derive(Default)]
struct Room {
    members: Vec<Rc<Peer>>,
    seq: u64,
}

/// Length of the queue of connections that wait to be accepted.
const BACKLOG: u32 = 4096;

type Rooms = Rc<RefCell<HashMap<String, Room>>>;

struct Peer {
    stream: TcpStream,
    encoding: Encoding,
    /// Bytes that the socket has not accepted yet.
    waiting: RefCell<Vec<u8>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    op: &'a str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<u64>,
    room: &'a str,
    id: &'a str,
}

#[derive(Serialize)]
struct Message<'a> {
    op: &'a str,
    room: &'a str,
    id: &'a str,
    key: &'a str,
    from: &'a str,
    r#type: &'a str,
    data: &'a str,
}

/// Serves until the process is ended.
///
/// # Errors
/// If there is no port to listen on.
pub async fn serve() -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    writeln!(io::stderr(), "listening on http://{}", listener.local_addr()?)?;
    let rooms = Rooms::default();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(connection(stream, rooms.clone()));
    }
}

async fn connection(mut stream: TcpStream, rooms: Rooms) {
    let _ = stream.set_nodelay(true); // It is slower at worst.
    let Ok(encoding) = upgrade(&mut stream).await else { return };
    let peer = Rc::new(Peer { stream, encoding, waiting: RefCell::default() });
    let _ = peer.read(&rooms).await; // However it ends, it is gone.
    for room in rooms.borrow_mut().values_mut() {
        room.members.retain(|member| !Rc::ptr_eq(member, &peer));
    }
    rooms.borrow_mut().retain(|_, room| !room.members.is_empty());
}

/// Answers the upgrade request.
async fn upgrade(stream: &mut TcpStream) -> io::Result<Encoding> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let request = String::from_utf8_lossy(&request);
    let header = |name: &str| request.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let asked = header("Sec-WebSocket-Protocol: ");
    let encoding = Encoding::ALL.into_iter().find(|encoding| encoding.subprotocol() == asked);
    let encoding = encoding.unwrap_or(Encoding::Json);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        derive_accept_key(header("Sec-WebSocket-Key: ").as_bytes()),
        encoding.subprotocol()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(encoding)
}

impl Peer {
    /// Reads until the connection ends.
    async fn read(self: &Rc<Self>, rooms: &Rooms) -> io::Result<()> {
        let mut kept: Vec<u8> = Vec::new();
        loop {
            self.stream.readable().await?;
            let mut buffer = [0; 16 * 1024];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => kept.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let mut used = 0;
            while let Some(Whole { payload, end, .. }) = first_frame(&kept[used..]) {
                // The generator's mask is all zeros, so there is nothing to unmask.
                let payload = &kept[used + payload..used + end];
                let handled = frame::each(self.encoding, payload, |frame| self.handle(&frame, rooms));
                handled.map_err(io::Error::other)?;
                used += end;
            }
            kept = kept[used..].to_vec();
        }
    }

    fn handle(self: &Rc<Self>, frame: &Frame<'_>, rooms: &Rooms) {
        let name = frame.room.as_deref().unwrap_or_default();
        match &*frame.op {
            "subscribe" => {
                rooms.borrow_mut().entry(name.to_owned()).or_default().members.push(self.clone());
                self.answer(&Answer { op: "ok", reference: frame.reference, room: name, id: "0-0" });
                self.answer(&Answer { op: "live", reference: None, room: name, id: "0-0" });
            }
            "publish" => {
                let mut rooms = rooms.borrow_mut();
                let room = rooms.entry(name.to_owned()).or_default();
                room.seq += 1;
                let id = format!("{}-{}", now_ms(), room.seq);
                let message = Message {
                    op: "message",
                    room: name,
                    id: &id,
                    key: &Uuid::new_v4().to_string(),
                    from: "bench",
                    r#type: "message",
                    data: frame.data.as_deref().unwrap_or_default(),
                };
                let bytes = whole(self.encoding, &message);
                room.members.iter().for_each(|member| member.write(&bytes));
                self.answer(&Answer { op: "ok", reference: frame.reference, room: name, id: &id });
            }
            "ack" => {}
            _ => self.answer(&Answer { op: "ok", reference: frame.reference, room: name, id: "0-0" }),
        }
    }

    fn answer(self: &Rc<Self>, answer: &Answer<'_>) {
        self.write(&whole(self.encoding, answer));
    }

    /// Writes as much as the socket accepts at once. A task writes the rest.
    fn write(self: &Rc<Self>, bytes: &Bytes) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.is_empty() {
            return waiting.extend_from_slice(bytes);
        }
        let written = match self.stream.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return,
        };
        if written < bytes.len() {
            waiting.extend_from_slice(&bytes[written..]);
            tokio::task::spawn_local(self.clone().write_rest());
        }
    }

    async fn write_rest(self: Rc<Self>) {
        while self.stream.writable().await.is_ok() {
            let mut waiting = self.waiting.borrow_mut();
            match self.stream.try_write(&waiting) {
                Ok(written) => drop(waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if waiting.is_empty() {
                *waiting = Vec::new();
                return;
            }
        }
    }
}

/// Encodes a frame as a WebSocket message.
fn whole(encoding: Encoding, frame: &impl Serialize) -> Bytes {
    let payload = encode::payload(encoding, frame).unwrap_or_default();
    let mut out = Vec::with_capacity(payload.len() + 10);
    write_header(encoding, payload.len(), &mut out);
    out.extend_from_slice(&payload);
    out.into()
}
