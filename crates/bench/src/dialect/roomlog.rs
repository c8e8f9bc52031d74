//! Roomlog's own protocol, in both encodings. Servers without a protocol of their own speak it too.

use super::{Heard, Hello, Speech, Upgrade};
use crate::frame::{self, Frame, Request};
use crate::socket::Opcode;
use roomlog_protocol::Encoding;

/// References of the requests that each member sends once. Its publishes all have [`PUBLISH`].
const CONNECT: u64 = 1;
const SUBSCRIBE: u64 = 2;
const PUBLISH: u64 = 3;

#[derive(Debug)]
pub(super) struct Member {
    encoding: Encoding,
    room: String,
    durable: bool,
    hello: Vec<u8>,
}

impl Member {
    pub fn new(encoding: Encoding, hello: Hello<'_>) -> Self {
        let Hello { token, room, since, durable } = hello;
        let connect =
            Request { op: "connect", reference: Some(CONNECT), token: Some(token), ..Request::default() };
        let subscribe = Request {
            op: "subscribe",
            reference: Some(SUBSCRIBE),
            room: Some(room),
            since: since.filter(|since| !since.is_empty()),
            durable,
            ..Request::default()
        };
        let mut hello = Vec::new();
        write(encoding, &connect, &mut hello);
        write(encoding, &subscribe, &mut hello);
        Self { encoding, room: room.to_owned(), durable: durable.is_some(), hello }
    }
}

fn write(encoding: Encoding, request: &Request<'_>, out: &mut Vec<u8>) {
    let opcode = if encoding == Encoding::Json { Opcode::Text } else { Opcode::Binary };
    opcode.write(&request.encode(encoding), out);
}

impl Speech for Member {
    fn upgrade(&self) -> Upgrade {
        Upgrade { path: "/v1/ws".into(), subprotocol: Some(self.encoding.subprotocol()) }
    }

    fn hello(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hello);
    }

    fn publish(&mut self, data: &str, out: &mut Vec<u8>) {
        let (room, data) = (Some(self.room.as_str()), Some(data));
        let request = Request { op: "publish", reference: Some(PUBLISH), room, data, ..Request::default() };
        write(self.encoding, &request, out);
    }

    fn hear(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String> {
        frame::each(self.encoding, payload, |frame| self.take(&frame, out, take))
    }
}

impl Member {
    fn take(&self, frame: &Frame<'_>, out: &mut Vec<u8>, take: &mut dyn FnMut(Heard<'_>)) {
        match &*frame.op {
            "message" => {
                let id = frame.id.as_deref().unwrap_or_default();
                if self.durable {
                    let (room, id) = (Some(self.room.as_str()), Some(id));
                    write(self.encoding, &Request { op: "ack", room, id, ..Request::default() }, out);
                }
                let data = frame.data.as_deref().unwrap_or_default();
                take(Heard::Message { room: frame.room.as_deref().unwrap_or_default(), id, data });
            }
            "ok" if frame.reference == Some(PUBLISH) => take(Heard::Confirmed),
            "live" => take(Heard::Live),
            "ok" | "pong" => {}
            op => {
                let said = frame.message.as_deref().or(frame.code.as_deref()).unwrap_or_default();
                let publish = frame.reference == Some(PUBLISH);
                take(Heard::Refused { publish, why: format!("{op}: {said}").into() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::testing::{hear, hello, publish};

    #[test]
    fn returning_members_resume_and_durable_members_acknowledge() {
        let asked = Hello { token: "t", room: "a", since: Some("1-1"), durable: Some("d") };
        let mut member = Member::new(Encoding::Json, asked);
        assert_eq!(
            hello(&member),
            [
                r#"{"op":"connect","ref":1,"token":"t"}"#,
                r#"{"op":"subscribe","ref":2,"room":"a","since":"1-1","durable":"d"}"#
            ]
        );
        assert_eq!(publish(&mut member, "x"), [r#"{"op":"publish","ref":3,"room":"a","data":"x"}"#]);
        let frames =
            r#"[{"op":"ok","ref":3},{"op":"message","room":"a","id":"1-2","data":"x"},{"op":"live"}]"#;
        let (heard, said) = hear(&mut member, frames);
        assert_eq!(heard, ["confirmed", "message a 1-2 x", "live"]);
        assert_eq!(said, [r#"{"op":"ack","room":"a","id":"1-2"}"#]);
        let (heard, _) = hear(&mut member, r#"{"op":"error","ref":3,"code":"rate_limited"}"#);
        assert_eq!(heard, ["refused publish: error: rate_limited"]);
    }
}
