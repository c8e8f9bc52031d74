//! The use of a connection that is up: carries what the outbox and the followers have to send, and their
//! answers. They decide what is sent when; here is the I/O and the clock.

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use roomlog_protocol::{Failure, RoomName};

use super::super::Error;
use super::super::backoff::chance;
use super::super::connection::State;
use super::super::follower::{Follower, Phase};
use super::super::frames::{self, Answer, Frame};
use super::super::line::{Asked, Line};
use super::super::outbox::{Found, Settled, Step};
use super::super::publication::{PublishError, Ticket};
use super::super::socket::{Lost, Socket};
use super::{Command, Driver, FOREVER};

impl Driver {
    /// Uses a connection until it is lost, or closed by this client.
    pub(super) async fn converse(&mut self, socket: Socket) -> Result<(), Lost> {
        self.is_welcome = true;
        self.state.send_replace(State::Connected);
        let now = Instant::now();
        self.followers.values_mut().for_each(|follower| follower.connected(now));
        self.is_woken = true;
        let mut line = Line::new(socket, self.remote.tokens.clone());
        loop {
            if std::mem::take(&mut self.is_woken) {
                self.serve_followers(&mut line);
            }
            self.publish(&mut line);
            if self.is_over() {
                line.socket.close().await;
                return Ok(());
            }
            let next = self.outbox.wake_at().into_iter().chain(self.next_due).chain(self.closing).min();
            tokio::select! {
                received = line.socket.next() => {
                    for frame in received? {
                        self.take(frame, &mut line)?;
                    }
                }
                command = self.commands.recv(), if !self.is_detached => {
                    self.is_woken |= !matches!(command, Some(Command::Publish { .. }));
                    self.apply(command);
                }
                () = self.wake.notified() => self.is_woken = true,
                () = sleep_until(next.unwrap_or_else(|| Instant::now() + FOREVER)) => self.is_woken = true,
                token = &mut line.renewal => line.renew(token),
            }
        }
    }

    /// Sends what may be sent of the outbox.
    fn publish(&mut self, line: &mut Line) {
        let now = Instant::now();
        let Self { outbox, followers, .. } = self;
        while let Some(step) = outbox.next(now, |room| followers.get(room).and_then(Follower::position)) {
            let reference = line.reference();
            match step {
                Step::Publish(room, entry) => {
                    let room = room.clone();
                    match frames::publish(reference, &room, entry, line.socket.largest) {
                        Ok(frame) => line.ask(reference, Asked::Publish(room), frame),
                        Err(failure) => settle(outbox.answered(&room, Err(failure), now, chance())),
                    }
                }
                Step::Search(room, after) => {
                    let frame = frames::history(reference, room, after);
                    line.ask(reference, Asked::Search(room.clone()), frame);
                }
            }
        }
    }

    /// Sends what followers have to send, and drops those without a reader.
    fn serve_followers(&mut self, line: &mut Line) {
        let now = Instant::now();
        self.next_due = None;
        self.followers.retain(|room, follower| {
            follower.resume(now);
            match follower.phase {
                Phase::Due(at) if at > now => {
                    self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
                }
                Phase::Due(_) => {
                    let reference = line.reference();
                    let durable = follower.options.durable.as_ref();
                    let frame = frames::subscribe(reference, room, follower.start(), durable);
                    line.ask(reference, Asked::Subscribe(room.clone()), frame);
                    follower.phase = Phase::Asked(reference);
                }
                _ => {}
            }
            if let Some(id) = follower.unsent_ack() {
                line.socket.queue(frames::ack(None, room, id));
            }
            if let Some(id) = follower.ack_to_confirm() {
                let reference = line.reference();
                line.ask(reference, Asked::LastAck(room.clone()), frames::ack(Some(reference), room, id));
            }
            if follower.is_abandoned() {
                line.socket.queue(frames::unsubscribe(room));
                return false;
            }
            true
        });
    }

    /// Takes a frame of the server.
    fn take(&mut self, frame: Frame, line: &mut Line) -> Result<(), Lost> {
        match frame {
            Frame::Ok(answer) => {
                if let Some(asked) = line.answered(answer.reference) {
                    self.answered(asked, *answer, line)?;
                }
            }
            Frame::Error(refusal) => {
                let reference = refusal.reference;
                let failure = Failure::from(refusal);
                match line.answered(reference) {
                    Some(asked) => self.refused(asked, reference, failure, line),
                    None => debug!("the server refuses a frame: {failure}"),
                }
            }
            Frame::Message(_) | Frame::Live { .. } | Frame::Gap { .. } | Frame::Unsubscribed { .. } => {
                self.follow(frame, line);
            }
            Frame::Goodbye(_) | Frame::Other => {}
        }
        Ok(())
    }

    fn follow(&mut self, frame: Frame, line: &mut Line) {
        let room = match &frame {
            Frame::Message(message) => &message.room,
            Frame::Live { room, .. } | Frame::Gap { room, .. } | Frame::Unsubscribed { room, .. } => room,
            _ => return,
        };
        let room = room.clone();
        let Some(follower) = self.followers.get_mut(&room) else { return };
        let was_held = follower.phase == Phase::Held;
        if let Err(error) = follower.take(frame) {
            self.end(&room, error);
        } else if was_held && follower.phase == Phase::Paused {
            self.is_woken = true;
            // A durable subscription is kept, since another connection could take it.
            if follower.options.durable.is_none() {
                line.socket.queue(frames::unsubscribe(&room));
            }
        }
    }

    fn answered(&mut self, asked: Asked, answer: Answer, line: &mut Line) -> Result<(), Lost> {
        let incomplete = || Lost::retry(Error::foreign(&self.remote.url, "an `ok` lacks a field"));
        let now = Instant::now();
        match asked {
            Asked::Publish(room) => {
                let id = answer.id.ok_or_else(incomplete)?;
                settle(self.outbox.answered(&room, Ok((id, answer.duplicate)), now, chance()));
            }
            Asked::Search(room) => {
                let messages = answer.messages.ok_or_else(incomplete)?;
                let found = Found { messages, more: answer.more };
                settle(self.outbox.searched(&room, Ok(found), now, chance()));
            }
            Asked::Subscribe(room) => {
                let (position, head) = answer.position.zip(answer.head).ok_or_else(incomplete)?;
                if let Some(follower) = self.followers.get_mut(&room) {
                    follower.subscribed(answer.reference, position, head, answer.created, now);
                }
                self.is_woken = true;
            }
            Asked::LastAck(room) => self.left(&room, Ok(())),
            Asked::Auth => line.renewed(Ok(())),
        }
        Ok(())
    }

    fn refused(&mut self, asked: Asked, reference: Option<u64>, failure: Failure, line: &mut Line) {
        let now = Instant::now();
        match asked {
            Asked::Publish(room) => settle(self.outbox.answered(&room, Err(failure), now, chance())),
            Asked::Search(room) => settle(self.outbox.searched(&room, Err(failure), now, chance())),
            Asked::Subscribe(room) => {
                if let Some(follower) = self.followers.get_mut(&room)
                    && let Err(error) = follower.refused(reference, failure, now)
                {
                    self.end(&room, error);
                }
                self.is_woken = true;
            }
            Asked::LastAck(room) => self.left(&room, Err(failure.into())),
            Asked::Auth => line.renewed(Err(failure.into())),
        }
    }

    fn end(&mut self, room: &RoomName, error: Error) {
        if let Some(follower) = self.followers.remove(room) {
            follower.end(error);
        }
    }

    fn left(&mut self, room: &RoomName, outcome: Result<(), Error>) {
        if let Some(follower) = self.followers.get_mut(room) {
            follower.left(outcome);
        }
    }
}

fn settle(settled: Option<Settled<Ticket>>) {
    if let Some(Settled { ticket, outcome }) = settled {
        ticket.settle(outcome.map_err(PublishError::Refused));
    }
}
