//! An entry of a room's log, with its encodings, each made once and shared by all readers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::protocol::MessageId;
use crate::protocol::encode::{self, Encoded, Format};
use crate::protocol::frame::Message;

#[derive(Debug)]
pub struct Entry {
    pub message: Message,
    encoded: [OnceLock<Encoded>; Format::COUNT],
    weight: Mutex<Weight>,
}

/// The memory of an entry's encodings, and the total that counts it.
#[derive(Debug, Default)]
struct Weight {
    encoded: usize,
    counted_in: Option<Arc<AtomicUsize>>,
}

impl Entry {
    pub fn new(message: Message) -> Self {
        Self { message, encoded: Default::default(), weight: Mutex::default() }
    }

    pub fn id(&self) -> MessageId {
        self.message.id
    }

    pub fn encoded(&self, format: impl Into<Format>) -> &Encoded {
        let format = format.into();
        self.encoded[format.index()].get_or_init(|| {
            let encoded = encode::message(format, &self.message);
            self.grew(encoded.message().len());
            encoded
        })
    }

    fn grew(&self, bytes: usize) {
        let mut weight = self.weight.lock();
        weight.encoded += bytes;
        if let Some(total) = &weight.counted_in {
            total.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Counts the entry in a total, including its later encodings. An entry is in one total at a time.
    pub fn count_in(&self, total: &Arc<AtomicUsize>) {
        self.count_no_more();
        let mut weight = self.weight.lock();
        total.fetch_add(self.size() + weight.encoded, Ordering::Relaxed);
        weight.counted_in = Some(total.clone());
    }

    pub fn count_no_more(&self) {
        let mut weight = self.weight.lock();
        if let Some(total) = weight.counted_in.take() {
            total.fetch_sub(self.size() + weight.encoded, Ordering::Relaxed);
        }
    }

    /// Returns the bytes of the message, without its encodings.
    pub fn size(&self) -> usize {
        let Message { room, from, kind, data, .. } = &self.message;
        128 + room.as_str().len() + from.len() + kind.len() + data.as_bytes().len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Entry {
    pub fn sample(id: MessageId, bytes: usize) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self::new(Message {
            room: "room".parse().unwrap(),
            id,
            key: uuid::Uuid::nil(),
            from: "ann".into(),
            kind: "message".into(),
            data: crate::protocol::Data::from_json(&format!("\"{}\"", "x".repeat(bytes))).unwrap(),
        }))
    }
}
