//! The record of a run: each operation with its outcome, everything that each subscriber saw, the faults, and
//! the final logs. The checker knows nothing else.

use std::io::{self, BufRead, Write};

use roomlog_protocol::MessageId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Milliseconds since the run began.
pub type Ms = u64;

/// The outcome of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Confirmed. The id is that of the published or acknowledged message.
    Ok(MessageId),
    /// Refused for a reason that a retry does not change.
    Failed(String),
    /// Unknown, since there was no answer, or `unavailable`.
    Unknown(String),
}

/// The reason of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Retention or a deletion removed the messages.
    Trimmed,
    /// Redis lost them.
    Rewound,
}

/// A message in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub id: MessageId,
    pub key: Uuid,
    /// Its sender and its data.
    pub sent: String,
}

/// An attempt to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publish {
    /// The time at which it began.
    pub at: Ms,
    /// The time at which its outcome was known.
    pub till: Ms,
    pub room: String,
    /// The node that received the request.
    pub node: usize,
    /// The key, which is the same in each attempt.
    pub key: Uuid,
    /// The sender and the data.
    pub sent: String,
    pub outcome: Outcome,
}

/// The beginning of a subscription, by a connection or a series of requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opened {
    /// The time of the request.
    pub at: Ms,
    /// The time of the confirmation.
    pub till: Ms,
    /// The number of this session, which is part of all its events.
    pub session: u64,
    /// The subscriber: a unique name, shared by all holders of a durable subscription.
    pub reader: String,
    pub room: String,
    pub node: usize,
    /// Set if Redis keeps the position.
    pub durable: bool,
    /// Set if each read is a request that names its position.
    pub by_request: bool,
    /// The requested position, if any.
    pub since: Option<MessageId>,
    /// The confirmed position.
    pub position: MessageId,
}

/// An event of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An attempt to publish.
    Publish(Publish),
    /// A subscription began.
    Opened(Opened),
    /// A subscriber received a message.
    Message {
        at: Ms,
        session: u64,
        #[serde(flatten)]
        message: Stored,
    },
    /// A subscriber was notified of a gap.
    Gap {
        at: Ms,
        session: u64,
        /// The position before the gap.
        after: MessageId,
        /// The id at which delivery continues.
        next: MessageId,
        reason: Reason,
    },
    /// A subscriber was notified that it is live.
    Live {
        at: Ms,
        session: u64,
        /// The message up to which everything was delivered.
        id: MessageId,
    },
    /// A holder acknowledged messages.
    Ack {
        /// The time at which it was sent.
        at: Ms,
        /// The time at which its outcome was known.
        till: Ms,
        session: u64,
        /// The last acknowledged message.
        id: MessageId,
        /// The outcome, unknown if no answer was requested.
        outcome: Outcome,
    },
    /// A fault began, and was healed.
    Fault {
        at: Ms,
        /// The time at which it was healed.
        till: Ms,
        /// Its index in the plan.
        index: usize,
    },
    /// The faults are over, and publishing has stopped.
    Quiet { at: Ms },
    /// The final state of a room, as an observer sees it.
    History {
        room: String,
        /// The observer: a node, or Redis itself.
        observer: String,
        /// All its messages, in order.
        messages: Vec<Stored>,
    },
    /// The final position of a durable subscription.
    Position {
        reader: String,
        room: String,
        /// The position, if the subscription exists.
        position: Option<MessageId>,
    },
    /// A violation that needs no checker.
    Broken {
        at: Ms,
        /// The short name of the rule.
        rule: String,
        /// A description.
        text: String,
    },
}

/// Writes events, one per line.
///
/// # Errors
/// Those of the writer.
pub fn write(events: &[Event], mut to: impl Write) -> io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut to, event)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// Reads the events that [`write`] wrote.
///
/// # Errors
/// Those of the reader, and lines that are not events.
pub fn read(from: impl BufRead) -> io::Result<Vec<Event>> {
    from.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
