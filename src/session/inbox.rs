//! Decodes incoming bytes of a WebSocket (RFC 6455, section 5) into whole messages. Pure.
//!
//! Most connections are silent most of the time, so it keeps memory only while something is partly received,
//! and little of it before the client has authenticated. tungstenite parses the headers.

use std::collections::VecDeque;
use std::io::Cursor;

use bytes::Bytes;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::protocol::CloseCode;

/// Longest payload of a control frame, in bytes.
const MAX_CONTROL: usize = 125;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    Text(Bytes),
    Binary(Bytes),
    /// A ping, with the payload of its pong.
    Ping(Bytes),
    Pong,
    /// A close, with its code if there is one.
    Close(Option<u16>),
    /// A violation of the protocol. The connection must end.
    Bad(CloseCode),
    /// The connection broke, or the client closed its side without a close frame.
    Gone,
}

impl Received {
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Close(_) | Self::Bad(_) | Self::Gone)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// One message of at most this many bytes. Anything after it waits until [`Inbox::allow`].
    One(usize),
    /// Any number, of at most this many bytes each.
    Many(usize),
}

impl Allowance {
    fn bytes(self) -> usize {
        let (Self::One(bytes) | Self::Many(bytes)) = self;
        bytes
    }
}

#[derive(Debug)]
pub(crate) struct Inbox {
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// A message with more fragments to come.
    fragments: Option<(Data, Vec<u8>)>,
    ready: VecDeque<Received>,
    allowance: Allowance,
    /// Set once the only allowed message has arrived.
    spent: bool,
    /// Set after a close or a violation: nothing more is read.
    over: bool,
}

impl Inbox {
    pub(crate) fn new(allowance: Allowance) -> Self {
        let (partial, ready) = (Vec::new(), VecDeque::new());
        Self { partial, fragments: None, ready, allowance, spent: false, over: false }
    }

    /// Sets the allowance, and continues with input that waited for it.
    pub(crate) fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
        self.spent = false;
        let mut waiting = std::mem::take(&mut self.partial);
        self.take(&mut waiting);
    }

    pub(crate) fn next(&mut self) -> Option<Received> {
        let next = self.ready.pop_front();
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        next
    }

    /// Takes received bytes, and unmasks them in place.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) {
        if self.partial.is_empty() {
            let used = self.frames(bytes);
            self.partial = bytes[used..].to_vec();
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            let used = self.frames(&mut all);
            all.drain(..used);
            if !all.is_empty() {
                self.partial = all;
            }
        }
    }

    fn frames(&mut self, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        while !self.over {
            if self.spent {
                return used;
            }
            match self.frame(&mut bytes[used..]) {
                Ok(Some(length)) => used += length,
                Ok(None) => return used,
                Err(code) => {
                    self.over = true;
                    self.ready.push_back(Received::Bad(code));
                }
            }
        }
        bytes.len()
    }

    /// Takes the first frame if it is complete, and returns its length in bytes.
    fn frame(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, CloseCode> {
        let mut cursor = Cursor::new(&*bytes);
        let header = FrameHeader::parse(&mut cursor).map_err(|_| CloseCode::ProtocolError)?;
        let Some((header, length)) = header else { return Ok(None) };
        let start = cursor.position() as usize;
        let length = usize::try_from(length).map_err(|_| CloseCode::TooLarge)?;
        self.check(&header, length)?;
        let end = start + length;
        let (Some(payload), Some(mask)) = (bytes.get_mut(start..end), header.mask) else { return Ok(None) };
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        match header.opcode {
            OpCode::Control(Control::Ping) => {
                self.ready.push_back(Received::Ping(Bytes::copy_from_slice(payload)))
            }
            OpCode::Control(Control::Close) => {
                let code = close_code(payload)?;
                self.over = true;
                self.ready.push_back(Received::Close(code));
            }
            OpCode::Control(_) => self.ready.push_back(Received::Pong),
            OpCode::Data(kind) => self.data(kind, payload, header.is_final)?,
        }
        Ok(Some(end))
    }

    /// Checks the rules that apply to a frame's header, before all of it has arrived.
    fn check(&self, header: &FrameHeader, length: usize) -> Result<(), CloseCode> {
        let known =
            !matches!(header.opcode, OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)));
        let plain = !header.rsv1 && !header.rsv2 && !header.rsv3;
        let short =
            !matches!(header.opcode, OpCode::Control(_)) || (header.is_final && length <= MAX_CONTROL);
        if !known || !plain || !short || header.mask.is_none() {
            return Err(CloseCode::ProtocolError);
        }
        let before = self.fragments.as_ref().map_or(0, |(_, fragments)| fragments.len());
        if length > self.allowance.bytes().saturating_sub(before) && matches!(header.opcode, OpCode::Data(_))
        {
            return Err(CloseCode::TooLarge);
        }
        Ok(())
    }

    fn data(&mut self, kind: Data, payload: &[u8], last: bool) -> Result<(), CloseCode> {
        let (kind, message) = match (self.fragments.take(), kind) {
            (None, Data::Continue) => return Err(CloseCode::ProtocolError),
            (None, kind) if last => (kind, Bytes::copy_from_slice(payload)),
            (None, kind) => {
                self.fragments = Some((kind, payload.to_vec()));
                return Ok(());
            }
            (Some((kind, mut message)), Data::Continue) => {
                message.extend_from_slice(payload);
                if !last {
                    self.fragments = Some((kind, message));
                    return Ok(());
                }
                (kind, message.into())
            }
            (Some(_), _) => return Err(CloseCode::ProtocolError),
        };
        self.spent = matches!(self.allowance, Allowance::One(_));
        self.ready.push_back(match kind {
            Data::Text => Received::Text(message),
            _ => Received::Binary(message),
        });
        Ok(())
    }
}

/// Parses the code of a close frame's payload. It is followed by a reason, which is text.
fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseCode> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(CloseCode::ProtocolError) };
    };
    let code = u16::from_be_bytes(*code);
    // Other codes are reserved, or stand for ends without a close frame.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(CloseCode::ProtocolError);
    }
    std::str::from_utf8(reason).map(|_| Some(code)).map_err(|_| CloseCode::Undecodable)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::Message;
    use tungstenite::protocol::frame::{CloseFrame, Frame};
    use tungstenite::protocol::{Role, WebSocket};

    use super::*;

    fn sent(messages: &[Message]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let mut client = WebSocket::from_raw_socket(&mut out, Role::Client, None);
        messages.iter().for_each(|message| client.write(message.clone()).unwrap());
        client.flush().unwrap();
        drop(client);
        out.into_inner()
    }

    fn received(inbox: &mut Inbox) -> Vec<Received> {
        std::iter::from_fn(|| inbox.next()).collect()
    }

    fn take(bytes: &[u8]) -> Vec<Received> {
        let mut inbox = Inbox::new(Allowance::Many(1000));
        inbox.take(&mut bytes.to_vec());
        received(&mut inbox)
    }

    fn fragment(payload: &str, kind: Data, last: bool) -> Message {
        Message::Frame(Frame::message(payload.to_owned(), OpCode::Data(kind), last))
    }

    fn expected(message: &Message) -> Received {
        match message {
            Message::Text(text) => Received::Text(text.clone().into()),
            Message::Binary(bytes) => Received::Binary(bytes.clone()),
            Message::Ping(bytes) => Received::Ping(bytes.clone()),
            _ => Received::Pong,
        }
    }

    #[test]
    fn nothing_is_read_after_a_close() {
        let close = CloseFrame { code: 4000.into(), reason: "bye".into() };
        let mut bytes = sent(&[Message::text("a"), Message::Close(Some(close))]);
        bytes.extend(sent(&[Message::text("b")]));
        assert_eq!(take(&bytes), [Received::Text("a".into()), Received::Close(Some(4000))]);
        assert_eq!(take(&sent(&[Message::Close(None)])), [Received::Close(None)]);
    }

    #[test]
    fn fragments_are_one_message_and_a_ping_may_come_between() {
        let messages = [
            fragment("ab", Data::Text, false),
            Message::Ping("now".into()),
            fragment("c", Data::Continue, false),
            fragment("d", Data::Continue, true),
        ];
        assert_eq!(take(&sent(&messages)), [Received::Ping("now".into()), Received::Text("abcd".into())]);
    }

    #[test]
    fn violations_of_the_protocol_are_reported() {
        let bad = [Received::Bad(CloseCode::ProtocolError)];
        assert_eq!(take(&sent(&[fragment("a", Data::Continue, true)])), bad, "a fragment of nothing");
        let two = [fragment("a", Data::Text, false), fragment("b", Data::Text, true)];
        assert_eq!(take(&sent(&two)), bad, "a message within another");
        assert_eq!(take(&[0x81, 1, b'a']), bad, "not masked");
        assert_eq!(take(&[0xc1, 0x81, 0, 0, 0, 0, b'a']), bad, "a reserved bit");
        assert_eq!(take(&[0x83, 0x81, 0, 0, 0, 0, b'a']), bad, "an unknown opcode");
        assert_eq!(take(&[0x09, 0x81, 0, 0, 0, 0, b'a']), bad, "a ping in fragments");
        assert_eq!(take(&[0x89, 0xfe, 0, 126, 0, 0, 0, 0]), bad, "a long ping");
        assert_eq!(take(&[0x88, 0x81, 0, 0, 0, 0, 3]), bad, "half a close code");
        assert_eq!(take(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xed]), bad, "a reserved close code");
        let no_text = [Received::Bad(CloseCode::Undecodable)];
        assert_eq!(take(&[0x88, 0x83, 0, 0, 0, 0, 3, 0xe8, 0xff]), no_text, "a reason that is no text");
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_header_alone() {
        let large = [Received::Bad(CloseCode::TooLarge)];
        assert_eq!(take(&sent(&[Message::text("x".repeat(1000))])).len(), 1);
        assert_eq!(take(&sent(&[Message::text("x".repeat(1001))])[..8]), large);
        let part = |last| fragment(&"x".repeat(600), if last { Data::Continue } else { Data::Text }, last);
        assert_eq!(take(&sent(&[part(false), part(true)])), large, "together");
        assert_eq!(take(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), large);
    }

    #[test]
    fn only_one_message_is_taken_while_one_is_allowed() {
        let mut inbox = Inbox::new(Allowance::One(10));
        let ping = Message::Ping("now".into());
        inbox.take(&mut sent(&[
            ping,
            Message::text("a"),
            Message::text("b".repeat(500)),
            Message::text("c"),
        ]));
        assert_eq!(received(&mut inbox), [Received::Ping("now".into()), Received::Text("a".into())]);
        inbox.allow(Allowance::Many(1000));
        assert_eq!(
            received(&mut inbox),
            [Received::Text("b".repeat(500).into()), Received::Text("c".into())]
        );

        let mut inbox = Inbox::new(Allowance::One(10));
        inbox.take(&mut sent(&[Message::text("a".repeat(11))])[..6]);
        assert_eq!(received(&mut inbox), [Received::Bad(CloseCode::TooLarge)]);
    }

    #[test]
    fn an_inbox_without_a_partial_message_keeps_no_memory() {
        let mut inbox = Inbox::new(Allowance::Many(1000));
        inbox.take(&mut sent(&[Message::text("a"), Message::text("b")]));
        received(&mut inbox);
        assert_eq!((inbox.partial.capacity(), inbox.ready.capacity()), (0, 0));
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            "[a-z]{0,300}".prop_map(Message::text),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Message::binary),
            prop::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| Message::Ping(bytes.into())),
            Just(Message::Pong("here".into())),
        ]
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_their_bytes_are_split(
            messages in prop::collection::vec(message(), 0..20),
            pieces in prop::collection::vec(1..200usize, 1..20),
        ) {
            let bytes = sent(&messages);
            let (mut inbox, mut had, mut left) = (Inbox::new(Allowance::Many(1000)), Vec::new(), &bytes[..]);
            for piece in pieces.iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let (now, later) = left.split_at((*piece).min(left.len()));
                inbox.take(&mut now.to_vec());
                had.extend(received(&mut inbox));
                left = later;
            }
            prop_assert_eq!(had, messages.iter().map(expected).collect::<Vec<_>>());
        }

        #[test]
        fn arbitrary_bytes_never_panic_the_inbox(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut inbox = Inbox::new(Allowance::Many(1000));
            for mut piece in pieces {
                inbox.take(&mut piece);
                while inbox.next().is_some() {}
            }
        }
    }
}
