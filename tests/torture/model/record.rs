//! The record of a run: each operation with its outcome, everything that each subscriber saw, the faults, and at the end
//! the logs. The checker knows nothing else.

use std::io::{self, BufRead, Write};

use roomlog_protocol::MessageId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Milliseconds since the run began.
pub type Ms = u64;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was confirmed; with the message's id, for a publish and an ack.
    Ok(MessageId),
    /// It was refused for a reason that trying again does not change.
    Failed(String),
    /// It may have happened: no answer, or `unavailable`.
    Unknown(String),
}

/// Why a subscriber was told of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Retention or a deletion took the messages.
    Trimmed,
    /// Redis lost them.
    Rewound,
}

/// A message in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its id.
    pub id: MessageId,
    /// Its key.
    pub key: Uuid,
    /// Its sender and its data.
    pub sent: String,
}

/// One try to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publish {
    /// When it began.
    pub at: Ms,
    /// When its outcome was known.
    pub till: Ms,
    /// The room.
    pub room: String,
    /// The node that was asked.
    pub node: usize,
    /// The key, the same in each try.
    pub key: Uuid,
    /// The sender and the data.
    pub sent: String,
    /// The outcome.
    pub outcome: Outcome,
}

/// The beginning of a subscription, by a connection or a series of requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opened {
    /// When it was asked for.
    pub at: Ms,
    /// When it stood.
    pub till: Ms,
    /// The number of this session, which all that it sees carries.
    pub session: u64,
    /// The subscriber: a name of its own for each, the same for each holder of a durable subscription.
    pub reader: String,
    /// The room.
    pub room: String,
    /// The node.
    pub node: usize,
    /// Whether the position is Redis's.
    pub durable: bool,
    /// Whether each read is a request that names its position.
    pub by_request: bool,
    /// The position that was asked for, if any.
    pub since: Option<MessageId>,
    /// The position that was told.
    pub position: MessageId,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A try to publish.
    Publish(Publish),
    /// A subscription began.
    Opened(Opened),
    /// A subscriber got a message.
    Message {
        /// When.
        at: Ms,
        /// In which session.
        session: u64,
        /// What came.
        #[serde(flatten)]
        message: Stored,
    },
    /// A subscriber was told of a gap.
    Gap {
        /// When.
        at: Ms,
        /// In which session.
        session: u64,
        /// After which position.
        after: MessageId,
        /// Where delivery goes on.
        next: MessageId,
        /// Why.
        reason: Reason,
    },
    /// A subscriber was told that it is live.
    Live {
        /// When.
        at: Ms,
        /// In which session.
        session: u64,
        /// Up to which message it has all.
        id: MessageId,
    },
    /// A holder acknowledged.
    Ack {
        /// When it was sent.
        at: Ms,
        /// When its outcome was known.
        till: Ms,
        /// In which session.
        session: u64,
        /// Up to which message.
        id: MessageId,
        /// The outcome; unknown if no answer was asked for.
        outcome: Outcome,
    },
    /// A fault began, and was healed.
    Fault {
        /// When.
        at: Ms,
        /// When it was healed.
        till: Ms,
        /// Its place in the plan.
        index: usize,
    },
    /// The faults are over, and nothing is published any more.
    Quiet {
        /// When.
        at: Ms,
    },
    /// At the end: a room as an observer sees it.
    History {
        /// The room.
        room: String,
        /// The observer: a node, or Redis itself.
        observer: String,
        /// Everything that is in it, in order.
        messages: Vec<Stored>,
    },
    /// At the end: the position of a durable subscription.
    Position {
        /// The subscriber.
        reader: String,
        /// The room.
        room: String,
        /// Its position, if it is there.
        position: Option<MessageId>,
    },
    /// Something that must not happen, and needs no checker.
    Broken {
        /// When.
        at: Ms,
        /// A short name.
        rule: String,
        /// What happened.
        text: String,
    },
}

/// Writes events, a line each.
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

/// Reads what [`write`] wrote.
///
/// # Errors
/// Those of the reader, and lines that are no events.
pub fn read(from: impl BufRead) -> io::Result<Vec<Event>> {
    from.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
