//! Decodes the bytes of a WebSocket message into requests, in either encoding.
//!
//! Decoding has two steps. First, an encoding finds the fields of a frame, without decoding their values.
//! Then one piece of code, common to both encodings, checks them. That way, a frame with a bad field can
//! still be answered by its `ref`. Frames are decoded one at a time, as they are handled: however many frames
//! a message holds, only one of them is in memory.

mod fields;

use bytes::Bytes;
use uuid::Uuid;

use self::fields::{Elements, Field, Fields, Refused};
use super::Encoding;
use super::codes::{ErrorCode, Failure};
use super::data::Data;
use super::ids::{InvalidId, RoomName};
use super::request::{
    DEFAULT_TYPE, Draft, HISTORY_LIMIT, MAX_LAST, MAX_TYPE, Range, Request, SignalDraft, Start,
};

/// One frame of a client: the request or the reason for its refusal, and the address of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// `ref` of the frame, which the answer repeats.
    pub reference: Option<u64>,
    /// The checked request.
    pub request: Result<Request, Failure>,
}

/// The payload is not JSON, or not MessagePack. Nothing in it can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload cannot be decoded")]
pub struct Undecodable;

/// Maximum number of frames in one WebSocket message. Without it, one megabyte of tiny malformed frames would
/// cause a hundred megabytes of answers.
pub const MAX_FRAMES: usize = 4096;

/// The frames of a WebSocket message, decoded one at a time.
#[derive(Debug)]
pub struct Frames(Result<Elements, Option<Failure>>);

impl Frames {
    /// Finds the frames of a payload, which is one frame or an array of them. An array is checked as a whole
    /// before its first frame. One of more than [`MAX_FRAMES`] yields a single frame that fails.
    ///
    /// # Errors
    /// [`Undecodable`] if an array is malformed. For a single frame, [`Frames::next`] reports it.
    pub fn of(encoding: Encoding, payload: Bytes) -> Result<Self, Undecodable> {
        match Elements::of(encoding, payload, MAX_FRAMES) {
            Ok(elements) => Ok(Self(Ok(elements))),
            Err(Refused::TooMany) => Ok(Self(Err(Some(too_many_frames())))),
            Err(Refused::Undecodable) => Err(Undecodable),
        }
    }

    /// Returns the next frame where only `connect` is allowed. Of any other frame, only `op` and `ref` are
    /// read.
    pub fn greeting(&mut self) -> Option<Result<Incoming, Undecodable>> {
        self.read(|fields| fields.greeting())
    }

    fn read(&mut self, check: impl Fn(&Fields<'_>) -> Incoming) -> Option<Result<Incoming, Undecodable>> {
        match &mut self.0 {
            Ok(elements) => {
                let fields = elements.next()?;
                Some(fields.map(|fields| fields.as_ref().map_or_else(not_a_frame, check)))
            }
            Err(failure) => {
                failure.take().map(|failure| Ok(Incoming { reference: None, request: Err(failure) }))
            }
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Incoming, Undecodable>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read(|fields| fields.check())
    }
}

/// Decodes a message to publish: a map with the fields of a `publish` frame.
///
/// # Errors
/// `bad_request`, naming the field.
pub fn draft(encoding: Encoding, body: &Bytes) -> Result<Draft, Failure> {
    one(encoding, body, |fields| fields.draft())
}

/// Decodes a signal: a map with the fields of a `signal` frame.
///
/// # Errors
/// `bad_request`, naming the field.
pub fn signal(encoding: Encoding, body: &Bytes) -> Result<SignalDraft, Failure> {
    one(encoding, body, |fields| fields.signal())
}

fn one<T>(
    encoding: Encoding,
    body: &Bytes,
    read: impl FnOnce(&Fields<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Ok(mut elements) = Elements::of(encoding, body.clone(), 1)
        && !elements.is_array()
        && let Some(Ok(Some(fields))) = elements.next()
    {
        return read(&fields);
    }
    Err(Failure::bad_request("the body must be one map with a field `data`"))
}

/// A message to publish, and its room.
pub type Addressed = (RoomName, Draft);

/// The messages of an array to publish, each with its room, decoded one at a time.
#[derive(Debug)]
pub struct Drafts(Elements);

impl Drafts {
    /// Finds the messages of a body.
    ///
    /// # Errors
    /// `bad_request` if the body as a whole is malformed, or has more than `most` messages.
    pub fn of(encoding: Encoding, body: Bytes, most: usize) -> Result<Self, Failure> {
        match Elements::of(encoding, body, most) {
            Ok(elements) if elements.is_array() => Ok(Self(elements)),
            Err(Refused::TooMany) => {
                Err(Failure::bad_request(format!("a batch has at most {most} messages")))
            }
            Ok(_) | Err(Refused::Undecodable) => {
                Err(Failure::bad_request("the body must be an array of maps with `room` and `data`"))
            }
        }
    }
}

impl Iterator for Drafts {
    type Item = Result<Addressed, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.0.next()? {
            Ok(Some(fields)) => fields.room().and_then(|room| Ok((room, fields.draft()?))),
            Ok(None) | Err(Undecodable) => Err(Failure::bad_request("each message must be a map")),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.left(), Some(self.0.left()))
    }
}

fn not_a_frame() -> Incoming {
    let message = "a frame is a map with a text field `op`";
    Incoming { reference: None, request: Err(Failure::new(ErrorCode::BadFrame, message)) }
}

fn too_many_frames() -> Failure {
    let message = format!("a WebSocket message holds at most {MAX_FRAMES} frames; none of these took effect");
    Failure::new(ErrorCode::BadFrame, message)
}

impl Fields<'_> {
    fn check(&self) -> Incoming {
        self.incoming(|op| self.request(op))
    }

    fn greeting(&self) -> Incoming {
        self.incoming(|op| match op {
            "connect" => self.request(op),
            _ => Err(Failure::new(ErrorCode::Unauthenticated, "the first frame must be `connect`")),
        })
    }

    fn incoming(&self, request: impl FnOnce(&str) -> Result<Request, Failure>) -> Incoming {
        let reference = match self.reference.as_ref().map(Field::unsigned) {
            None => None,
            Some(Some(number)) => Some(number),
            Some(None) => {
                let failure = Failure::new(ErrorCode::BadFrame, "`ref` must be an unsigned integer");
                return Incoming { reference: None, request: Err(failure) };
            }
        };
        let Some(op) = self.op.as_ref().and_then(Field::text) else {
            return Incoming { reference, ..not_a_frame() };
        };
        Incoming { reference, request: request(&op) }
    }

    fn request(&self, op: &str) -> Result<Request, Failure> {
        Ok(match op {
            "connect" => Request::Connect { token: optional("token", &self.token, Field::text, TEXT)? },
            "subscribe" => {
                Request::Subscribe { room: self.room()?, start: self.start()?, durable: self.durable()? }
            }
            "unsubscribe" => Request::Unsubscribe {
                room: self.room()?,
                forget: optional("forget", &self.forget, Field::boolean, "true or false")?.unwrap_or(false),
            },
            "publish" => Request::Publish { room: self.room()?, message: self.draft()? },
            "ack" => Request::Ack { room: self.room()?, id: parsed("id", &self.id)? },
            "read" => Request::Read { room: self.room()?, id: parsed("id", &self.id)? },
            "history" => Request::History { room: self.room()?, range: self.range()?, limit: self.limit()? },
            "signal" => Request::Signal { room: self.room()?, signal: self.signal()? },
            "auth" => Request::Auth { token: required("token", &self.token, Field::text, TEXT)? },
            "ping" => Request::Ping,
            _ => {
                let message = "there is no such op in version 1 of the protocol";
                return Err(Failure::new(ErrorCode::UnknownOp, message));
            }
        })
    }

    fn room(&self) -> Result<RoomName, Failure> {
        parsed("room", &self.room)
    }

    fn durable(&self) -> Result<Option<super::SubscriptionName>, Failure> {
        optional_parsed("durable", &self.durable)
    }

    fn data(&self) -> Result<Data, Failure> {
        let value = self.data.as_ref().ok_or_else(|| missing("data"))?;
        value.data().map_err(|error| Failure::bad_request(error.to_string()))
    }

    fn draft(&self) -> Result<Draft, Failure> {
        let kind = optional("type", &self.kind, Field::text, TEXT)?;
        let key = optional("key", &self.key, Field::text, TEXT)?;
        Ok(Draft {
            new_key: key.is_none(),
            key: key.map_or_else(|| Ok(Uuid::new_v4()), |text| message_key(&text))?,
            kind: kind.map_or_else(|| Ok(DEFAULT_TYPE.into()), message_type)?,
            data: self.data()?,
        })
    }

    fn signal(&self) -> Result<SignalDraft, Failure> {
        Ok(SignalDraft {
            kind: message_type(required("type", &self.kind, Field::text, TEXT)?)?,
            data: self.data()?,
            to: optional_parsed("to", &self.to)?,
        })
    }

    fn start(&self) -> Result<Option<Start>, Failure> {
        let since = optional("since", &self.since, Field::text, "an id, \"0\" or \"$\"")?;
        let last = optional("last", &self.last, Field::unsigned, "a number")?;
        start(since.as_deref(), last)
    }

    fn range(&self) -> Result<Range, Failure> {
        let after = optional("after", &self.after, Field::text, TEXT)?;
        let before = optional("before", &self.before, Field::text, TEXT)?;
        range(after.as_deref(), before.as_deref())
    }

    fn limit(&self) -> Result<usize, Failure> {
        limit(optional("limit", &self.limit, Field::unsigned, "a number")?)
    }
}

/// Checks `since` and `last`, of which at most one may be given.
///
/// # Errors
/// `bad_request`, with the values that are allowed.
pub fn start(since: Option<&str>, last: Option<u64>) -> Result<Option<Start>, Failure> {
    match (since, last) {
        (None, None) => Ok(None),
        (Some("$"), None) => Ok(Some(Start::New)),
        (Some("0" | "0-0"), None) => Ok(Some(Start::Oldest)),
        (Some(id), None) => Ok(Some(Start::After(named("since", id.parse())?))),
        (None, Some(count)) if count <= MAX_LAST => Ok(Some(Start::Last(count as usize))),
        (None, Some(_)) => Err(Failure::bad_request(format!("`last` is at most {MAX_LAST}"))),
        (Some(_), Some(_)) => Err(Failure::bad_request("give `since` or `last`, not both")),
    }
}

/// Checks `after` and `before`, of which at most one may be given. Neither means the newest messages.
///
/// # Errors
/// `bad_request`, with the values that are allowed.
pub fn range(after: Option<&str>, before: Option<&str>) -> Result<Range, Failure> {
    match (after, before) {
        (None, None) => Ok(Range::Newest),
        (Some("0" | "0-0"), None) => Ok(Range::Oldest),
        (Some(id), None) => Ok(Range::After(named("after", id.parse())?)),
        (None, Some(id)) => Ok(Range::Before(named("before", id.parse())?)),
        (Some(_), Some(_)) => Err(Failure::bad_request("give `after` or `before`, not both")),
    }
}

/// Checks `limit`, or returns the default.
///
/// # Errors
/// `bad_request` if it is 0 or above the maximum.
pub fn limit(limit: Option<u64>) -> Result<usize, Failure> {
    let limit = limit.unwrap_or(HISTORY_LIMIT.0);
    if (1..=HISTORY_LIMIT.1).contains(&limit) {
        Ok(limit as usize)
    } else {
        Err(Failure::bad_request(format!("`limit` is a number from 1 to {}", HISTORY_LIMIT.1)))
    }
}

/// Checks the `type` of a message or signal.
///
/// # Errors
/// `bad_request` if it is empty, longer than [`MAX_TYPE`] bytes, or has control characters (which Server-Sent
/// Events cannot carry).
pub fn message_type(text: String) -> Result<String, Failure> {
    if (1..=MAX_TYPE).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(Failure::bad_request("`type` is 1 to 64 bytes of text without control characters"))
    }
}

/// Checks a message's `key`.
///
/// # Errors
/// `bad_request` if it is not a UUID.
pub fn message_key(text: &str) -> Result<Uuid, Failure> {
    text.parse().map_err(|_| Failure::bad_request("`key` must be a UUID"))
}

const TEXT: &str = "text";

fn missing(name: &str) -> Failure {
    Failure::bad_request(format!("`{name}` is missing"))
}

fn named<T>(name: &str, result: Result<T, InvalidId>) -> Result<T, Failure> {
    result.map_err(|error| Failure::bad_request(format!("`{name}`: {error}")))
}

fn optional<'a, T>(
    name: &str,
    value: &Option<Field<'a>>,
    read: impl Fn(&Field<'a>) -> Option<T>,
    wanted: &str,
) -> Result<Option<T>, Failure> {
    match value {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Failure::bad_request(format!("`{name}` must be {wanted}"))),
        },
    }
}

fn required<'a, T>(
    name: &str,
    value: &Option<Field<'a>>,
    read: impl Fn(&Field<'a>) -> Option<T>,
    wanted: &str,
) -> Result<T, Failure> {
    optional(name, value, read, wanted)?.ok_or_else(|| missing(name))
}

fn optional_parsed<T: std::str::FromStr<Err = InvalidId>>(
    name: &str,
    value: &Option<Field<'_>>,
) -> Result<Option<T>, Failure> {
    optional(name, value, Field::text, TEXT)?.map(|text| named(name, text.parse())).transpose()
}

fn parsed<T: std::str::FromStr<Err = InvalidId>>(
    name: &str,
    value: &Option<Field<'_>>,
) -> Result<T, Failure> {
    optional_parsed(name, value)?.ok_or_else(|| missing(name))
}

#[cfg(test)]
mod tests;
