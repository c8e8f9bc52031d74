//! Frames for many subscribers: encoded once for each format, and shared.

use std::sync::Arc;

use bytes::Bytes;

use crate::log::{Entry, Event};
use crate::protocol::RoomName;
use crate::protocol::encode::{self, Format};
use crate::protocol::frame::Frame;

pub(super) struct Shared<'a> {
    frame: &'a Frame,
    encoded: [Option<Bytes>; Format::COUNT],
}

impl<'a> Shared<'a> {
    pub(super) fn new(frame: &'a Frame) -> Self {
        Self { frame, encoded: Default::default() }
    }

    pub(super) fn encoded(&mut self, format: Format) -> Bytes {
        let encoded = &mut self.encoded[format.index()];
        encoded.get_or_insert_with(|| encode::frame(format, self.frame)).clone()
    }
}

/// Encodes the events of a page for a client that catches up, in as few parts as its gaps allow.
pub(super) fn page(format: Format, room: &RoomName, events: &[Event]) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut entries: Vec<&Arc<Entry>> = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Event::Message(entry) => entries.push(entry),
            Event::Gap(gap) => {
                parts.extend(run(format, &std::mem::take(&mut entries)));
                parts.push(encode::frame(format, &Frame::Gap { room: room.clone(), gap: *gap }));
            }
        }
    }
    parts.extend(run(format, &entries));
    parts
}

fn run(format: Format, entries: &[&Arc<Entry>]) -> Option<Bytes> {
    match entries {
        [] => None,
        [one] => Some(one.encoded(format).message().clone()),
        many => Some(encode::join(format, many.iter().map(|entry| entry.encoded(format).frame()))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::Encoding;

    #[test]
    fn a_frame_is_encoded_once_for_each_format_and_shared() {
        let frame = Frame::Pong { reference: None };
        let mut shared = Shared::new(&frame);
        let [json, msgpack] = Encoding::ALL.map(Format::from);
        for format in [json, msgpack, Format::EventStream] {
            let first = shared.encoded(format);
            assert_eq!(first, encode::frame(format, &frame));
            assert_eq!(shared.encoded(format).as_ptr(), first.as_ptr());
        }
    }
}
