//! One client's subscription to one room: who it is, where its bytes go, and in which form.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use uuid::Uuid;

use super::outbox::Outbox;
use crate::log::{Entry, Event};
use crate::protocol::encode;
use crate::protocol::frame::{Ended, Frame, Gap};
use crate::protocol::{Encoding, MessageId, RoomName, UserId};
use crate::redis::{Group, Signal};

/// How a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// WebSocket messages in this encoding.
    Frames(Encoding),
    /// Server-Sent Events.
    Events {
        /// Whether signals are wanted among them.
        signals: bool,
        /// The name, of its own choice, in which the client sends signals.
        sender: Option<Uuid>,
    },
}

impl Form {
    /// A live message, shared by all who read this form.
    pub fn message(self, entry: &Entry) -> Bytes {
        match self {
            Self::Frames(encoding) => entry.encoded(encoding).message().clone(),
            Self::Events { .. } => entry.event().clone(),
        }
    }

    /// What somebody who catches up is told of a page, in as few parts as its gaps allow.
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

    /// A `gap`.
    pub fn gap(self, room: &RoomName, gap: Gap) -> Bytes {
        self.frame("gap", &Frame::Gap { room, gap })
    }

    /// `live`, where the form has it.
    pub fn live(self, room: &RoomName, id: MessageId) -> Bytes {
        match self {
            Self::Frames(encoding) => encode::frame(encoding, &Frame::Live { room, id }),
            Self::Events { .. } => Bytes::from_static(b": live\n\n"),
        }
    }

    /// Which of a signal's encodings it takes, if any.
    fn of_signal(self) -> Option<usize> {
        match self {
            Self::Frames(Encoding::Json) => Some(0),
            Self::Frames(Encoding::MessagePack) => Some(1),
            Self::Events { signals: true, .. } => Some(2),
            Self::Events { signals: false, .. } => None,
        }
    }

    /// `unsubscribed`.
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

/// A signal as it is told to many: encoded once for each form, and shared.
pub(super) struct Told<'a> {
    frame: Frame<'a>,
    encoded: [Option<Bytes>; 3],
}

impl<'a> Told<'a> {
    pub fn new(room: &'a RoomName, signal: &'a Signal) -> Self {
        let Signal { from, kind, data, .. } = signal;
        Self { frame: Frame::Signal { room, from: from.as_str(), kind, data }, encoded: Default::default() }
    }

    /// The signal in this form, where it is wanted.
    pub fn to(&mut self, form: Form) -> Option<Bytes> {
        let place = &mut self.encoded[form.of_signal()?];
        Some(place.get_or_insert_with(|| form.frame("signal", &self.frame)).clone())
    }
}

/// A durable subscription as somebody holds it, from one subscribe to what ends that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holding {
    /// The subscription.
    pub group: Group,
    /// Who holds it: `<node>/<session>/<which of that connection's subscribes>`, or a UUID where there is no connection.
    pub holder: String,
}

/// A subscription. The room knows it while it lasts; a reader carries it along while it catches up.
#[derive(Debug)]
pub struct Subscription {
    /// The room.
    pub room: RoomName,
    /// The connection's session.
    pub session: Uuid,
    /// Its user.
    pub user: UserId,
    /// How its client reads.
    pub form: Form,
    /// Where its bytes go.
    pub outbox: Arc<Outbox>,
    /// What it holds, if it is durable.
    pub durable: Option<Holding>,
    /// Set once its client is to be told of what happens in the room.
    begun: AtomicBool,
    /// Why it ended before it began: its client is told when it would begin.
    untold: OnceLock<Ended>,
    ended: AtomicBool,
    pub(super) place: AtomicUsize,
}

impl Subscription {
    /// A subscription that is nowhere yet.
    pub fn new(
        room: RoomName,
        session: Uuid,
        user: UserId,
        form: Form,
        outbox: Arc<Outbox>,
        durable: Option<Holding>,
    ) -> Self {
        Self {
            room,
            session,
            user,
            form,
            outbox,
            durable,
            begun: AtomicBool::new(false),
            untold: OnceLock::new(),
            ended: AtomicBool::new(false),
            place: AtomicUsize::new(usize::MAX),
        }
    }

    /// Whether it is its own client that signals so: that does not come back.
    pub(super) fn is_of(&self, sender: Uuid) -> bool {
        match self.form {
            Form::Frames(_) => self.session == sender,
            Form::Events { sender: own, .. } => own == Some(sender),
        }
    }

    /// Whether its client is told of what happens in the room.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether both are the same durable subscription, each as somebody holds it.
    pub fn is_same_durable(&self, other: &Self) -> bool {
        let groups = self.durable.as_ref().zip(other.durable.as_ref());
        groups.is_some_and(|(one, other)| one.group == other.group)
    }

    /// Its client is told of no end until it begins again.
    pub(super) fn hush(&self) {
        self.begun.store(false, Ordering::Release);
    }

    /// Begins it. What its client is to be told at once, if it is over already.
    pub(super) fn begin(&self) -> Option<Ended> {
        self.begun.store(true, Ordering::Release);
        self.untold.get().copied()
    }

    /// Notes why it ended, for when it begins.
    pub(super) fn tell_later(&self, code: Ended) {
        let _the_first_reason_stands = self.untold.set(code);
    }

    /// Whether it is over, whoever ended it.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends it. Whether it had not ended before.
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
