//! Following a room: one subscription that survives reconnects, and delivers each message once, in order, or
//! the gap in its place.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::reader::{Reader, Verdict};
use super::socket::{Frame, Lost, Socket};
use super::types::Message;
use super::{ANSWER_WITHIN, Client, Error, Gap};
use roomlog_protocol::request::Start;
use roomlog_protocol::{MessageId, RoomName, SubscriptionName};

/// Maximum pause before the first reconnect. It doubles with each failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Maximum pause before any reconnect.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// `ref` of a request whose answer is awaited, like [`LAST_ACK`].
const SUBSCRIBE: u64 = 2;
const LAST_ACK: u64 = 3;

/// The room to follow, and the options of the subscription.
#[derive(Debug, Clone)]
pub struct TailOptions {
    /// The room.
    pub room: RoomName,
    /// The start of delivery. Without it, a durable subscription continues at its position, and any other
    /// starts with new messages.
    pub start: Option<Start>,
    /// The name of a durable subscription. The server keeps its position, which moves with [`Tail::ack`].
    pub durable: Option<SubscriptionName>,
}

impl TailOptions {
    /// Options to follow the new messages of a room.
    pub fn new(room: RoomName) -> Self {
        Self { room, start: None, durable: None }
    }
}

/// An event of a [`Tail`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The subscription is confirmed, for the first time or again.
    Subscribed {
        /// The id after which delivery continues.
        position: MessageId,
        /// The room's newest id.
        head: MessageId,
    },
    /// The next message.
    Message(Message),
    /// Messages are lost here.
    Gap(Gap),
    /// All messages up to this id have been delivered. Later ones are live.
    Live(MessageId),
    /// The connection is lost, and will be established again.
    Lost {
        /// The cause.
        error: Error,
        /// Time until the next attempt.
        retry_in: Duration,
    },
}

/// A followed room. Ask for the [`next`](Self::next) event in a loop, and often if the loop is long-running.
/// The server's pings are not answered in between, so it closes a connection after half a minute, and the
/// tail makes a new one.
#[derive(Debug)]
pub struct Tail {
    client: Client,
    options: TailOptions,
    line: Line,
    events: VecDeque<Event>,
    reader: Reader,
    acknowledged: Option<MessageId>,
    sent: Option<MessageId>,
    failures: u32,
}

#[derive(Debug)]
enum Line {
    Up(Box<Socket>),
    Down(Instant),
    Over,
}

impl Tail {
    pub(super) async fn open(client: Client, options: TailOptions) -> Result<Self, Error> {
        let mut tail = Self {
            client,
            options,
            line: Line::Over,
            events: VecDeque::new(),
            reader: Reader(MessageId::ZERO),
            acknowledged: None,
            sent: None,
            failures: 0,
        };
        let (socket, position, head) = tail.subscribe(tail.options.start).await.map_err(|lost| lost.error)?;
        tail.reader = Reader(position);
        tail.events.push_back(Event::Subscribed { position, head });
        tail.line = Line::Up(Box::new(socket));
        Ok(tail)
    }

    /// Returns the next event. The call counts all previous events as handled: after a reconnect, delivery
    /// continues after them. Cancelling it loses no event.
    ///
    /// # Errors
    /// Problems that reconnecting cannot fix, such as a revoked token or a durable subscription that was
    /// taken over. The tail has then ended.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let step = match &mut self.line {
                Line::Up(_) => self.read().await,
                Line::Down(until) => {
                    sleep_until(*until).await;
                    self.reopen().await
                }
                Line::Over => {
                    let message = "this tail has ended".to_owned();
                    return Err(Error::Ended { code: "normal".into(), message });
                }
            };
            if let Err(lost) = step {
                self.lose(lost)?;
            }
        }
    }

    /// Notes that all messages up to this id are handled. The server is notified before the next wait for a
    /// message. Has an effect on durable subscriptions only.
    pub fn ack(&mut self, id: MessageId) {
        if self.options.durable.is_some() {
            self.acknowledged = Some(id);
        }
    }

    /// Ends the subscription, and waits until the position of a durable one is stored.
    ///
    /// # Errors
    /// If that fails. The messages acknowledged last will then be delivered again.
    pub async fn close(mut self) -> Result<(), Error> {
        let line = std::mem::replace(&mut self.line, Line::Over);
        let Line::Up(mut socket) = line else {
            return match self.acknowledged == self.sent {
                true => Ok(()),
                false => Err(Error::Unreachable {
                    url: self.client.base.to_string(),
                    cause: "the connection is lost".into(),
                }),
            };
        };
        let mut stored = Ok(());
        if let Some(id) = self.acknowledged {
            let asked =
                timeout(ANSWER_WITHIN, socket.ask(LAST_ACK, self.ack_frame(id, Some(LAST_ACK)))).await;
            let answered = asked.unwrap_or_else(|_| Err(Error::silent(&self.client.base).into()));
            stored = answered.map(drop).map_err(|lost| lost.error);
        }
        socket.close().await;
        stored
    }

    async fn subscribe(&self, start: Option<Start>) -> Result<(Socket, MessageId, MessageId), Lost> {
        let mut socket = Socket::open(&self.client).await?;
        let TailOptions { room, durable, .. } = &self.options;
        let mut frame = json!({ "op": "subscribe", "ref": SUBSCRIBE, "room": room });
        if let Some(name) = durable {
            frame["durable"] = json!(name);
        }
        match start {
            None => {}
            Some(Start::After(id)) => frame["since"] = json!(id),
            Some(Start::Oldest) => frame["since"] = json!("0"),
            Some(Start::New) => frame["since"] = json!("$"),
            Some(Start::Last(count)) => frame["last"] = json!(count),
        }
        let asked = timeout(ANSWER_WITHIN, socket.ask(SUBSCRIBE, frame)).await;
        let answer = asked.unwrap_or_else(|_| Err(Error::silent(&self.client.base).into()))?;
        match (answer.position, answer.head) {
            (Some(position), Some(head)) => Ok((socket, position, head)),
            _ => Err(Error::foreign(&self.client.base, "`ok` without a position").into()),
        }
    }

    /// Connects again, at the last message that was handled. A durable subscription continues at its own
    /// position: the messages between that and the last one were delivered before.
    async fn reopen(&mut self) -> Result<(), Lost> {
        let start = self.options.durable.is_none().then_some(Start::After(self.reader.0));
        let (socket, _, head) = self.subscribe(start).await?;
        self.failures = 0;
        self.sent = None;
        self.line = Line::Up(Box::new(socket));
        self.events.push_back(Event::Subscribed { position: self.reader.0, head });
        self.events.extend(self.reader.resume(head).map(Event::Gap));
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Lost> {
        let unsent = self.acknowledged.filter(|_| self.acknowledged != self.sent);
        let ack = unsent.map(|id| self.ack_frame(id, None));
        let Line::Up(socket) = &mut self.line else { return Ok(()) };
        // For frames that arrive together, one acknowledgement is sent.
        if let Some(frame) = ack.filter(|_| !socket.has_frames()) {
            socket.send(frame).await?;
            self.sent = unsent;
        }
        let frame = socket.next().await?;
        self.take(frame)
    }

    fn take(&mut self, frame: Frame) -> Result<(), Lost> {
        match frame {
            Frame::Message(message) => {
                let verdict = self.reader.message(message.id);
                if let Verdict::After(gap) = verdict {
                    self.events.push_back(Event::Gap(gap));
                }
                if verdict != Verdict::Known {
                    self.events.push_back(Event::Message(message));
                }
            }
            Frame::Gap(gap) => self.events.extend(self.reader.gap(gap).map(Event::Gap)),
            Frame::Live { id } => self.events.push_back(Event::Live(id)),
            Frame::Unsubscribed { code, message } => return Err(Error::Ended { code, message }.into()),
            Frame::Error { code, message, retry_after_ms, .. } => {
                let error = Error::from(super::error::failure(&code, message, retry_after_ms));
                // If Redis is away now, the server writes the acknowledgement later.
                if !error.is_temporary() {
                    return Err(error.into());
                }
            }
            Frame::Ok(_) | Frame::Goodbye(_) | Frame::Other => {}
        }
        Ok(())
    }

    fn lose(&mut self, lost: Lost) -> Result<(), Error> {
        let Lost { error, retry_after, is_final } = lost;
        if is_final {
            self.line = Line::Over;
            return Err(error);
        }
        let random = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        let retry_in = retry_after.unwrap_or_else(|| pause(self.failures, random));
        self.failures += 1;
        self.line = Line::Down(Instant::now() + retry_in);
        self.events.push_back(Event::Lost { error, retry_in });
        Ok(())
    }

    fn ack_frame(&self, id: MessageId, reference: Option<u64>) -> Value {
        let mut frame = json!({ "op": "ack", "room": self.options.room, "id": id });
        if let Some(reference) = reference {
            frame["ref"] = json!(reference);
        }
        frame
    }
}

/// Returns the pause after this many failures: it doubles with each, and `chance` (0 to 1) shortens it by up
/// to half, so that clients that were disconnected together do not reconnect together.
fn pause(failures: u32, chance: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    longest.div_f64(2.0).mul_f64(1.0 + chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_spread() {
        let ms = |failures, chance| pause(failures, chance).as_millis();
        assert_eq!([ms(0, 0.0), ms(0, 1.0)], [250, 500]);
        assert_eq!([ms(1, 1.0), ms(2, 1.0), ms(5, 1.0)], [1000, 2000, 16_000]);
        assert_eq!([ms(6, 1.0), ms(60, 1.0), ms(u32::MAX, 0.0)], [20_000, 20_000, 10_000]);
    }
}
