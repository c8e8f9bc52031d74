//! One subscription of a connection: what the server's frames mean for the reader of a room, and when to
//! subscribe again. No I/O: events go to the reader's queue.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use roomlog_protocol::frame::Gap;
use roomlog_protocol::request::Start;
use roomlog_protocol::{Failure, MessageId};

use super::Error;
use super::frames::Frame;
use super::reader::{Reader, Verdict};
use super::tail::{Event, TailOptions};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// Number of events that wait for a reader. Beyond it, its subscription pauses.
pub(super) const QUEUE: usize = 1000;

/// Number of waiting events at which a paused subscription continues.
pub(super) const RESUME: usize = QUEUE / 4;

/// Pause after a temporary refusal that does not name one.
const PAUSE: Duration = Duration::from_secs(1);

/// The reader's ends of a follower's channels.
#[derive(Debug)]
pub(super) struct Ends {
    pub events: mpsc::Receiver<Event>,
    pub end: oneshot::Receiver<Error>,
    pub first: oneshot::Receiver<Result<(), Error>>,
    pub acknowledged: watch::Sender<Option<MessageId>>,
}

/// The state of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be asked for at this time.
    Due(Instant),
    /// Asked for, under this `ref`.
    Asked(u64),
    /// Frames of the room are of this subscription.
    Held,
    /// The reader is slow. Frames of the room are dropped, since they will come again.
    Paused,
    /// There is no connection.
    Down,
}

/// A subscription over all connections.
#[derive(Debug)]
pub(super) struct Follower {
    /// Tells it from another one of the same room.
    pub id: Uuid,
    pub options: TailOptions,
    pub phase: Phase,
    /// Set once the reader wants to end: reports whether its position is stored.
    leaving: Option<oneshot::Sender<Result<(), Error>>>,
    /// Set once that was asked.
    is_last_ack_sent: bool,
    events: mpsc::Sender<Event>,
    end: Option<oneshot::Sender<Error>>,
    first: Option<oneshot::Sender<Result<(), Error>>>,
    /// Set if a temporary failure before the first confirmation is retried.
    is_patient: bool,
    acknowledged: watch::Receiver<Option<MessageId>>,
    sent: Option<MessageId>,
    reader: Option<Reader>,
    /// Set if the server lost the position of a durable subscription, so that it must be told.
    is_forgotten: bool,
}

impl Follower {
    pub fn new(options: TailOptions, is_patient: bool) -> (Self, Ends) {
        let (events, events_end) = mpsc::channel(QUEUE);
        let (end, end_end) = oneshot::channel();
        let (first, first_end) = oneshot::channel();
        let (acknowledged_end, acknowledged) = watch::channel(None);
        let follower = Self {
            id: Uuid::new_v4(),
            options,
            phase: Phase::Down,
            leaving: None,
            is_last_ack_sent: false,
            events,
            end: Some(end),
            first: Some(first),
            is_patient,
            acknowledged,
            sent: None,
            reader: None,
            is_forgotten: false,
        };
        let ends =
            Ends { events: events_end, end: end_end, first: first_end, acknowledged: acknowledged_end };
        (follower, ends)
    }

    /// Returns the id up to which the room was read.
    pub fn position(&self) -> Option<MessageId> {
        self.reader.map(|reader| reader.0)
    }

    /// Returns whether the reader is gone.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Returns the start of the next subscription. A durable one continues at its own position, which another
    /// device may have moved: messages between that and the last one were delivered before.
    pub fn start(&self) -> Option<Start> {
        match self.reader {
            None => self.options.start,
            Some(reader) if self.options.durable.is_none() || self.is_forgotten => {
                Some(Start::After(reader.0))
            }
            Some(_) => None,
        }
    }

    /// Continues a paused subscription, if the reader has caught up.
    pub fn resume(&mut self, now: Instant) {
        if self.phase == Phase::Paused && self.events.capacity() >= QUEUE / 2 {
            self.phase = Phase::Due(now);
        }
    }

    /// Returns the position to send, if it is not sent yet.
    pub fn unsent_ack(&mut self) -> Option<MessageId> {
        let acknowledged = self.last_ack();
        if self.phase != Phase::Held || acknowledged == self.sent {
            return None;
        }
        self.sent = acknowledged;
        acknowledged
    }

    /// Notes that the reader leaves, and is to be told when its position is stored.
    pub fn leave(&mut self, reply: oneshot::Sender<Result<(), Error>>) {
        self.leaving = Some(reply);
        if self.last_ack().is_none() {
            self.left(Ok(()));
        }
    }

    /// Returns the position of which a reader that leaves wants to know that it is stored. Once.
    pub fn ack_to_confirm(&mut self) -> Option<MessageId> {
        let is_ready = self.leaving.is_some() && matches!(self.phase, Phase::Held | Phase::Paused);
        if !is_ready || std::mem::replace(&mut self.is_last_ack_sent, true) {
            return None;
        }
        self.last_ack()
    }

    /// Tells a reader that leaves whether its position is stored.
    pub fn left(&mut self, outcome: Result<(), Error>) {
        if let Some(leaving) = self.leaving.take() {
            let _ = leaving.send(outcome); // Nobody may wait for it.
        }
    }

    fn last_ack(&self) -> Option<MessageId> {
        *self.acknowledged.borrow()
    }

    /// Returns whether the server knows all that the reader acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        self.last_ack() == self.sent
    }

    /// Takes the answer to `subscribe`.
    pub fn subscribed(
        &mut self,
        reference: Option<u64>,
        position: MessageId,
        head: MessageId,
        created: bool,
        now: Instant,
    ) {
        if !self.awaits(reference) {
            return;
        }
        let Some(mut reader) = self.reader else {
            self.phase = Phase::Held;
            self.reader = Some(Reader(position));
            self.tell(Event::Subscribed { position, head });
            if let Some(first) = self.first.take() {
                let _ = first.send(Ok(())); // The reader may be gone.
            }
            return;
        };
        if created && !self.is_forgotten {
            self.is_forgotten = true;
            self.phase = Phase::Due(now);
            return;
        }
        self.is_forgotten = false;
        self.phase = Phase::Held;
        self.sent = None;
        if self.options.durable.is_some() && position > reader.0 {
            // Another holder has handled what lies between.
            reader = Reader(position);
        }
        let gap = reader.resume(head);
        self.tell(Event::Subscribed { position: reader.0, head });
        if let Some(gap) = gap {
            self.deliver(None, Some(gap), reader);
        } else {
            self.reader = Some(reader);
        }
    }

    /// Takes a refusal of `subscribe`.
    ///
    /// # Errors
    /// If the subscription has ended with it.
    pub fn refused(&mut self, reference: Option<u64>, failure: Failure, now: Instant) -> Result<(), Error> {
        if !self.awaits(reference) {
            return Ok(());
        }
        let is_first = self.reader.is_none() && !self.is_patient;
        if is_first || !failure.code.is_temporary() {
            return Err(failure.into());
        }
        self.phase = Phase::Due(now + failure.retry_after_ms.map_or(PAUSE, Duration::from_millis));
        Ok(())
    }

    /// Takes a frame of the room.
    ///
    /// # Errors
    /// If the subscription has ended with it.
    pub fn take(&mut self, frame: Frame) -> Result<(), Error> {
        if let Frame::Unsubscribed { code, message, .. } = frame {
            // One that is asked for follows the one that has ended.
            return match self.phase {
                Phase::Held | Phase::Paused => Err(Error::Ended { code, message }),
                _ => Ok(()),
            };
        }
        let (Phase::Held, Some(mut reader)) = (self.phase, self.reader) else {
            return Ok(());
        };
        match frame {
            Frame::Message(message) => match reader.message(message.id) {
                Verdict::Known => {}
                Verdict::Next => self.deliver(Some(Event::Message(message)), None, reader),
                Verdict::After(gap) => self.deliver(Some(Event::Message(message)), Some(gap), reader),
            },
            Frame::Gap { gap, .. } => {
                if let Some(gap) = reader.gap(gap) {
                    self.deliver(None, Some(gap), reader);
                }
            }
            Frame::Live { id, .. } => self.tell(Event::Live(id)),
            _ => {}
        }
        Ok(())
    }

    /// Takes the loss of the connection, and returns whether the subscription outlives it.
    pub fn lost(&mut self, error: &Error, retry_in: Duration) -> bool {
        if self.reader.is_none() && !self.is_patient {
            return false;
        }
        self.left(Err(error.clone()));
        if self.phase != Phase::Paused {
            self.phase = Phase::Down;
        }
        self.tell(Event::Lost { error: error.clone(), retry_in });
        true
    }

    /// Takes the news of a connection.
    pub fn connected(&mut self, now: Instant) {
        if self.phase != Phase::Paused {
            self.phase = Phase::Due(now);
        }
    }

    /// Ends the subscription. The reader gets the error after the events that wait.
    pub fn end(mut self, error: Error) {
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(error.clone())); // The reader may be gone.
        }
        self.left(Err(error.clone()));
        if let Some(end) = self.end.take() {
            let _ = end.send(error); // The reader may be gone.
        }
    }

    /// Returns whether this is the `ref` of the newest `subscribe`.
    fn awaits(&self, reference: Option<u64>) -> bool {
        reference.is_some_and(|reference| self.phase == Phase::Asked(reference))
    }

    /// Queues a gap and an event after it, and advances to `reader`; or pauses if they do not fit.
    fn deliver(&mut self, event: Option<Event>, gap: Option<Gap>, reader: Reader) {
        if self.events.capacity() < 2 {
            self.phase = Phase::Paused;
            return;
        }
        self.reader = Some(reader);
        for event in gap.map(Event::Gap).into_iter().chain(event) {
            self.tell(event);
        }
    }

    /// Queues an event if there is room. News of the connection are not worth waiting for.
    fn tell(&self, event: Event) {
        let _ = self.events.try_send(event); // The queue is full, or the reader is gone.
    }
}
