//! One client's subscription to one room: its identity, its send queue, and the form of its frames.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use uuid::Uuid;

use super::send_queue::SendQueue;
use crate::log::{Entry, Event, Lease};
use crate::protocol::encode;
use crate::protocol::frame::{Ended, Frame, Gap};
use crate::protocol::{Encoding, MessageId, RoomName, UserId};
use crate::redis::Signal;

/// The form in which a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// WebSocket messages in this encoding.
    Frames(Encoding),
    Events {
        signals: bool,
        /// The session that the client chose for sending signals.
        sender: Option<Uuid>,
    },
}

impl Form {
    /// Encodes a live message, shared by all clients of this form.
    pub fn message(self, entry: &Entry) -> Bytes {
        match self {
            Self::Frames(encoding) => entry.encoded(encoding).message().clone(),
            Self::Events { .. } => entry.event().clone(),
        }
    }

    /// Encodes the events of a page for a client that catches up, in as few parts as its gaps allow.
    pub fn page(self, room: &RoomName, events: &[Event]) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let mut entries: Vec<&Arc<Entry>> = Vec::with_capacity(events.len());
        for event in events {
            match event {
                Event::Message(entry) => entries.push(entry),
                Event::Gap(gap) => {
                    parts.extend(self.run(&std::mem::take(&mut entries)));
                    parts.push(self.gap(room, *gap));
                }
            }
        }
        parts.extend(self.run(&entries));
        parts
    }

    fn run(self, entries: &[&Arc<Entry>]) -> Option<Bytes> {
        match (self, entries) {
            (_, []) => None,
            (_, [one]) => Some(self.message(one)),
            (Self::Frames(encoding), many) => {
                Some(encode::join(encoding, many.iter().map(|entry| entry.encoded(encoding).frame())))
            }
            (Self::Events { .. }, many) => {
                let events: Vec<&[u8]> = many.iter().map(|entry| &entry.event()[..]).collect();
                Some(events.concat().into())
            }
        }
    }

    pub fn gap(self, room: &RoomName, gap: Gap) -> Bytes {
        self.frame("gap", &Frame::Gap { room, gap })
    }

    /// Encodes `live`. An event stream gets a comment instead.
    pub fn live(self, room: &RoomName, id: MessageId) -> Bytes {
        match self {
            Self::Frames(encoding) => encode::frame(encoding, &Frame::Live { room, id }),
            Self::Events { .. } => Bytes::from_static(b": live\n\n"),
        }
    }

    /// Returns the index of the signal encoding for this form, or `None` if it gets no signals.
    fn of_signal(self) -> Option<usize> {
        match self {
            Self::Frames(Encoding::Json) => Some(0),
            Self::Frames(Encoding::MessagePack) => Some(1),
            Self::Events { signals: true, .. } => Some(2),
            Self::Events { signals: false, .. } => None,
        }
    }

    pub fn unsubscribed(self, room: &RoomName, code: Ended) -> Bytes {
        self.frame("unsubscribed", &Frame::Unsubscribed { room, code, message: code.message() })
    }

    fn frame(self, event: &str, frame: &Frame<'_>) -> Bytes {
        match self {
            Self::Frames(encoding) => encode::frame(encoding, frame),
            Self::Events { .. } => {
                let data = serde_json::to_string(frame).unwrap_or_default();
                format!("event: {event}\ndata: {data}\n\n").into()
            }
        }
    }
}

/// A signal for many clients: encoded once for each form, and shared.
pub(super) struct Told<'a> {
    frame: Frame<'a>,
    encoded: [Option<Bytes>; 3],
}

impl<'a> Told<'a> {
    pub fn new(room: &'a RoomName, signal: &'a Signal) -> Self {
        let Signal { from, kind, data, .. } = signal;
        Self { frame: Frame::Signal { room, from: from.as_str(), kind, data }, encoded: Default::default() }
    }

    /// Returns the signal in this form, if the form gets signals.
    pub fn to(&mut self, form: Form) -> Option<Bytes> {
        let place = &mut self.encoded[form.of_signal()?];
        Some(place.get_or_insert_with(|| form.frame("signal", &self.frame)).clone())
    }
}

/// A subscription. The room has it while it lasts, and a reader while it catches up.
#[derive(Debug)]
pub struct Subscription {
    pub room: RoomName,
    pub session: Uuid,
    pub user: UserId,
    pub form: Form,
    pub queue: Arc<SendQueue>,
    /// Its lease, if it is durable.
    pub lease: Option<Lease>,
    /// True while its client is notified of events of the room.
    begun: AtomicBool,
    /// The reason it ended before it began. The client is notified when it begins.
    ended_before: OnceLock<Ended>,
    ended: AtomicBool,
    pub(super) place: AtomicUsize,
}

impl Subscription {
    /// Creates a subscription that is in no room yet.
    pub fn new(
        room: RoomName,
        session: Uuid,
        user: UserId,
        form: Form,
        queue: Arc<SendQueue>,
        lease: Option<Lease>,
    ) -> Self {
        Self {
            room,
            session,
            user,
            form,
            queue,
            lease,
            begun: AtomicBool::new(false),
            ended_before: OnceLock::new(),
            ended: AtomicBool::new(false),
            place: AtomicUsize::new(usize::MAX),
        }
    }

    /// Returns whether its own client is the sender. A client does not receive its own signals.
    pub(super) fn is_of(&self, sender: Uuid) -> bool {
        match self.form {
            Form::Frames(_) => self.session == sender,
            Form::Events { sender: own, .. } => own == Some(sender),
        }
    }

    /// Returns whether its client is notified of events of the room.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Returns whether both are the same durable subscription, regardless of the holder.
    pub fn is_same_durable(&self, other: &Self) -> bool {
        let leases = self.lease.as_ref().zip(other.lease.as_ref());
        leases.is_some_and(|(one, other)| one.durable == other.durable)
    }

    /// Suspends notice of its end until it begins again.
    pub(super) fn mute(&self) {
        self.begun.store(false, Ordering::Release);
    }

    /// Begins it. Returns the reason to report at once if it has already ended.
    pub(super) fn begin(&self) -> Option<Ended> {
        self.begun.store(true, Ordering::Release);
        self.ended_before.get().copied()
    }

    /// Stores the reason it ended, to be reported when it begins.
    pub(super) fn end_later(&self, code: Ended) {
        let _ = self.ended_before.set(code); // The first reason stands.
    }

    /// Returns whether it has ended, for any reason.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends it. Returns `false` if it had already ended.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::Data;

    #[test]
    fn a_signal_is_encoded_once_for_each_form_and_shared() {
        let room = "room".parse().unwrap();
        let data = Data::from_json("\"hello\"").unwrap();
        let signal =
            Signal { session: Uuid::nil(), from: "ann".parse().unwrap(), kind: "t".into(), data, to: None };
        let mut told = Told::new(&room, &signal);
        let events = |signals, sender| Form::Events { signals, sender };
        let forms = [Form::Frames(Encoding::Json), Form::Frames(Encoding::MessagePack), events(true, None)];
        let first = forms.map(|form| told.to(form).unwrap());
        for (form, first) in forms.into_iter().zip(&first) {
            assert_eq!(told.to(form).unwrap().as_ptr(), first.as_ptr());
        }
        assert_eq!(told.to(events(true, Some(Uuid::nil()))).unwrap().as_ptr(), first[2].as_ptr());
        assert_eq!(told.to(events(false, None)), None);
    }
}
