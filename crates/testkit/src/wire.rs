//! A WebSocket below the level of messages. Frames as bytes, written and found, for tests and for the load
//! generator; and a client that sends arbitrary frames, valid or not, in pieces of any size.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Client, Server, Upgrade, everything, from_msgpack, soon};

/// The FIN bit. The constants after it are the opcodes.
pub const FIN: u8 = 0x80;
pub const CONTINUE: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// The bit of a masked frame beside its length.
const MASKED: u8 = 0x80;

/// Appends a client's frame with `first` as its first byte. A mask of zeros costs the client nothing, and the
/// server its full work.
#[inline]
pub fn write_frame(first: u8, mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        short @ 0..=125 => out.push(MASKED | short as u8),
        middle @ 126..=0xffff => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    if mask == [0; 4] {
        out.extend_from_slice(payload);
    } else {
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}

/// A complete frame: its type, and where its payload begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    pub opcode: u8,
    pub payload: usize,
    pub end: usize,
}

/// Returns the first frame of these bytes, masked or not, if it is complete.
#[inline]
pub fn first_frame(bytes: &[u8]) -> Option<Whole> {
    let (opcode, length) = (bytes.first()? & 0xf, *bytes.get(1)?);
    let (length, header) = match length & !MASKED {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (short.into(), 2),
    };
    let payload: usize = header + if bytes[1] & MASKED == 0 { 0 } else { 4 };
    let end = payload.checked_add(usize::try_from(length).ok()?)?;
    (bytes.len() >= end).then_some(Whole { opcode, payload, end })
}

/// Returns a client's frame with `first` as its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::new();
    write_frame(first, MASK, payload, &mut bytes);
    bytes
}

/// Returns a message in fragments of these payloads.
pub fn fragments<'a>(opcode: u8, payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let payloads: Vec<_> = payloads.into_iter().collect();
    let last = payloads.len() - 1;
    let first = |index| if index == 0 { opcode } else { CONTINUE } | if index == last { FIN } else { 0 };
    payloads.iter().enumerate().map(|(index, payload)| frame(first(index), payload)).collect()
}

/// Returns a close frame with this code and reason.
pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// A frame of the server. Pings, and frames that only explain a close (`error`, `goodbye`), are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The answer to the `ping` with this `ref`.
    Answer(u64),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The end of the connection.
    End,
}

/// An authenticated connection.
#[derive(Debug)]
pub struct Wire {
    client: Client,
    msgpack: bool,
    read: Vec<u8>,
}

impl Wire {
    /// Connects with JSON or MessagePack.
    pub async fn connect(server: &Server, msgpack: bool) -> Self {
        let protocols = msgpack.then_some("roomlog.v1.msgpack");
        let upgrade = Upgrade { protocols, ..Upgrade::default() };
        let mut client = Client::connect_with(server, &everything("ann"), upgrade).await;
        client.stream().set_nodelay(true).unwrap();
        Self { client, msgpack, read: Vec::new() }
    }

    /// Sends raw bytes. A server that has already closed the connection need not accept them.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = soon("bytes are sent", self.client.stream().write_all(bytes)).await; // It may be closed.
    }

    /// Returns the next event.
    pub async fn next(&mut self) -> Seen {
        loop {
            let Some((opcode, payload)) = self.frame().await else { return Seen::End };
            match opcode {
                TEXT | BINARY => {
                    if let Some(answer) = self.answer(opcode, &payload) {
                        return Seen::Answer(answer);
                    }
                }
                CLOSE => return Seen::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
                PONG => return Seen::Pong(payload),
                PING => {}
                other => panic!("a frame with the opcode {other}"),
            }
        }
    }

    fn answer(&self, opcode: u8, payload: &[u8]) -> Option<u64> {
        assert_eq!(opcode, if self.msgpack { BINARY } else { TEXT });
        let value =
            if self.msgpack { from_msgpack(payload) } else { serde_json::from_slice(payload).unwrap() };
        match &value["op"] {
            op if op == "pong" => value["ref"].as_u64(),
            op if op == "error" || op == "goodbye" => None,
            _ => panic!("{value}"),
        }
    }

    /// Returns the opcode and payload of the next frame, or `None` at the end.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(Whole { opcode, payload, end }) = first_frame(&self.read) {
                assert_eq!(
                    self.read[0] & 0xf0,
                    FIN,
                    "the server's frames are whole messages without extensions"
                );
                assert_eq!(self.read[1] & MASKED, 0, "servers do not mask");
                let rest = self.read.split_off(end);
                let whole = std::mem::replace(&mut self.read, rest);
                return Some((opcode, whole[payload..].to_vec()));
            }
            let read = soon("the server says something", self.client.stream().read_buf(&mut self.read)).await;
            if !matches!(read, Ok(1..)) {
                assert!(self.read.is_empty(), "an end within a frame: {:?}", self.read);
                return None;
            }
        }
    }
}

/// Returns a `ping` with this `ref` as text, with more bytes in an unknown field.
pub fn ping_text(reference: u64, more: &[u8]) -> Vec<u8> {
    [format!(r#"{{"op":"ping","ref":{reference},"x":""#).as_bytes(), more, b"\"}"].concat()
}

/// Returns a `ping` in this encoding whose message has `bytes` bytes, if it can be that short.
pub fn ping_of(msgpack: bool, reference: u64, bytes: usize) -> Vec<u8> {
    let ping = |padding: usize| {
        let padding = "*".repeat(padding);
        match msgpack {
            true => super::to_msgpack(&json!({ "op": "ping", "ref": reference, "x": padding })),
            false => ping_text(reference, padding.as_bytes()),
        }
    };
    // The padding's own header has one to five bytes.
    let least = ping(0).len();
    (0..=4)
        .map(|header| ping(bytes.saturating_sub(least + header)))
        .find(|ping| ping.len() <= bytes)
        .unwrap_or_else(|| ping(0))
}

/// Formats a value for the text of a failure.
pub fn shown(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_once_it_is_complete() {
        for length in [0, 125, 126, 0xffff, 0x1_0000] {
            let mut out = Vec::new();
            write_frame(FIN | TEXT, [0; 4], &vec![b'x'; length], &mut out);
            assert!(first_frame(&out[..out.len() - 1]).is_none());
            let whole = first_frame(&out).map(|whole| (whole.opcode, whole.end - whole.payload, whole.end));
            assert_eq!(whole, Some((TEXT, length, out.len())));
        }
    }
}
