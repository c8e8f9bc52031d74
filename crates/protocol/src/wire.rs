//! WebSocket framing of the server's messages (RFC 6455, section 5.2). Server frames are not masked, so one
//! buffer can be shared by all sockets. Clients' frames are decoded in `session/inbox.rs` of the server.

use bytes::{BufMut, Bytes};

use super::Encoding;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Length of the longest header of an unmasked frame, in bytes.
pub const MAX_HEADER: usize = 10;

/// Returns the length of the header of a frame with `length` bytes of payload.
pub fn header_len(length: usize) -> usize {
    match length {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => MAX_HEADER,
    }
}

/// Writes the header of a frame that holds a whole message of `length` bytes.
pub fn write_header(encoding: Encoding, length: usize, out: impl BufMut) {
    let opcode = match encoding {
        Encoding::Json => TEXT,
        Encoding::MessagePack => BINARY,
    };
    header(opcode, length, out);
}

/// Returns a ping without a payload.
pub fn ping() -> Bytes {
    const EMPTY_PING: [u8; 2] = [FIN | PING, 0];
    Bytes::from_static(&EMPTY_PING)
}

/// Returns the answer to a ping, with its payload of at most 125 bytes.
pub fn pong(payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(2 + payload.len());
    header(PONG, payload.len(), &mut out);
    out.extend_from_slice(payload);
    out.into()
}

/// Returns a close frame without a code, in answer to one that had none.
pub fn close_without_code() -> Bytes {
    const EMPTY_CLOSE: [u8; 2] = [FIN | CLOSE, 0];
    Bytes::from_static(&EMPTY_CLOSE)
}

/// Returns a close frame with this code and no reason. The `goodbye` before it has the message.
pub fn close(code: u16) -> Bytes {
    let [high, low] = code.to_be_bytes();
    Bytes::copy_from_slice(&[FIN | CLOSE, 2, high, low])
}

fn header(opcode: u8, length: usize, mut out: impl BufMut) {
    out.put_u8(FIN | opcode);
    match header_len(length) {
        2 => out.put_u8(length as u8),
        4 => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}
