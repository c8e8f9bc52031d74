//! From the bytes of a WebSocket message to requests, in either encoding.
//!
//! Decoding has two steps: an encoding finds the fields of each frame ([`Fields`]), without looking into them; then
//! one piece of code, for both encodings, checks them. So a frame with a bad field can still be answered by its `ref`.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Encoding;
use super::codes::{ErrorCode, Failure};
use super::data::{self, Data, Head};
use super::ids::InvalidId;
use super::request::{DEFAULT_TYPE, Draft, HISTORY_LIMIT, MAX_LAST, MAX_TYPE, Range, Request, Start};

/// One frame of a client: what it asks, or why it cannot be done, and how to address the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// `ref` of the frame, to be repeated in the answer.
    pub reference: Option<u64>,
    /// The checked request.
    pub request: Result<Request, Failure>,
}

/// The payload is not JSON, or not MessagePack: nothing in it can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload cannot be decoded")]
pub struct Undecodable;

/// Most frames in one WebSocket message: a megabyte of tiny malformed frames would otherwise ask for a hundred of answers.
pub const MAX_FRAMES: usize = 4096;

/// Decodes a WebSocket message, which holds one frame or an array of frames.
///
/// # Errors
/// [`Undecodable`] if the payload as a whole is malformed.
pub fn decode(encoding: Encoding, payload: &Bytes) -> Result<Vec<Incoming>, Undecodable> {
    match encoding {
        Encoding::Json => decode_json(payload),
        Encoding::MessagePack => decode_msgpack(payload),
    }
}

fn decode_json(payload: &[u8]) -> Result<Vec<Incoming>, Undecodable> {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let frames: Vec<&RawValue> = serde_json::from_slice(payload).map_err(|_| Undecodable)?;
        if frames.len() > MAX_FRAMES {
            return Ok(vec![too_many_frames()]);
        }
        Ok(frames.into_iter().map(json_frame).collect())
    } else {
        let frame: &RawValue = serde_json::from_slice(payload).map_err(|_| Undecodable)?;
        Ok(vec![json_frame(frame)])
    }
}

fn json_frame(frame: &RawValue) -> Incoming {
    match serde_json::from_str::<Fields<&RawValue>>(frame.get()) {
        Ok(fields) => fields.check(),
        Err(_) => not_a_frame(),
    }
}

fn decode_msgpack(payload: &Bytes) -> Result<Vec<Incoming>, Undecodable> {
    let mut input = &payload[..];
    let frames = match data::read_head(&mut &payload[..]).map_err(|_| Undecodable)? {
        Head::Array(count) => {
            data::read_head(&mut input).map_err(|_| Undecodable)?;
            count
        }
        _ => 1,
    };
    if frames > MAX_FRAMES {
        return Ok(vec![too_many_frames()]);
    }
    let mut incoming = Vec::with_capacity(frames);
    for _ in 0..frames {
        incoming.push(match msgpack_fields(payload, &mut input)? {
            Some(fields) => fields.check(),
            None => not_a_frame(),
        });
    }
    if input.is_empty() { Ok(incoming) } else { Err(Undecodable) }
}

/// The fields of the frame at the start of `input`, which lies within `payload`; `None` if it is no map.
fn msgpack_fields(payload: &Bytes, input: &mut &[u8]) -> Result<Option<Fields<Bytes>>, Undecodable> {
    let mut ahead = *input;
    let Head::Map(count) = data::read_head(&mut ahead).map_err(|_| Undecodable)? else {
        measure(input)?;
        return Ok(None);
    };
    *input = ahead;
    let mut fields = Fields::default();
    for _ in 0..count {
        let name = data::read_text(input).map_err(|_| Undecodable)?;
        let value = payload.slice_ref(measure(input)?);
        if let Some(field) = fields.named(name) {
            *field = Some(value);
        }
    }
    Ok(Some(fields))
}

/// Moves `input` behind the value at its start, and returns that value's bytes. Only the shape is looked at: what the
/// value may hold is checked where it is used.
fn measure<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Undecodable> {
    let start = *input;
    let mut values_left = 1usize;
    while values_left > 0 {
        values_left -= 1;
        let more = match data::read_head(input) {
            Ok(Head::Text(length) | Head::Binary(length) | Head::Extension(length)) => {
                data::take(input, length).map_err(|_| Undecodable)?;
                0
            }
            Ok(Head::Array(count)) => count,
            Ok(Head::Map(count)) => count.checked_mul(2).ok_or(Undecodable)?,
            Ok(_) => 0,
            Err(_) => return Err(Undecodable),
        };
        values_left = values_left.checked_add(more).ok_or(Undecodable)?;
    }
    Ok(&start[..start.len() - input.len()])
}

fn not_a_frame() -> Incoming {
    let message = "a frame is a map with a text field `op`";
    Incoming { reference: None, request: Err(Failure::new(ErrorCode::BadFrame, message)) }
}

fn too_many_frames() -> Incoming {
    let message = format!("a WebSocket message holds at most {MAX_FRAMES} frames; none of these took effect");
    Incoming { reference: None, request: Err(Failure::new(ErrorCode::BadFrame, message)) }
}

/// The fields that any client frame may have, found but not yet looked into.
#[derive(Deserialize)]
#[serde(bound = "V: Deserialize<'de>")]
struct Fields<V> {
    op: Option<V>,
    r#ref: Option<V>,
    token: Option<V>,
    room: Option<V>,
    since: Option<V>,
    last: Option<V>,
    durable: Option<V>,
    forget: Option<V>,
    #[serde(default, deserialize_with = "null_too")]
    data: Option<V>,
    r#type: Option<V>,
    key: Option<V>,
    id: Option<V>,
    after: Option<V>,
    before: Option<V>,
    limit: Option<V>,
    to: Option<V>,
}

/// Serde takes `null` for a missing field; as `data` it is a value.
fn null_too<'de, D: serde::Deserializer<'de>, V: Deserialize<'de>>(field: D) -> Result<Option<V>, D::Error> {
    V::deserialize(field).map(Some)
}

impl<V> Default for Fields<V> {
    fn default() -> Self {
        Self {
            op: None,
            r#ref: None,
            token: None,
            room: None,
            since: None,
            last: None,
            durable: None,
            forget: None,
            data: None,
            r#type: None,
            key: None,
            id: None,
            after: None,
            before: None,
            limit: None,
            to: None,
        }
    }
}

impl<V> Fields<V> {
    fn named(&mut self, name: &str) -> Option<&mut Option<V>> {
        Some(match name {
            "op" => &mut self.op,
            "ref" => &mut self.r#ref,
            "token" => &mut self.token,
            "room" => &mut self.room,
            "since" => &mut self.since,
            "last" => &mut self.last,
            "durable" => &mut self.durable,
            "forget" => &mut self.forget,
            "data" => &mut self.data,
            "type" => &mut self.r#type,
            "key" => &mut self.key,
            "id" => &mut self.id,
            "after" => &mut self.after,
            "before" => &mut self.before,
            "limit" => &mut self.limit,
            "to" => &mut self.to,
            _ => return None,
        })
    }
}

/// A field's value in some encoding. Each method is `None` where the value is of another type.
trait Value {
    fn text(&self) -> Option<String>;
    fn unsigned(&self) -> Option<u64>;
    fn boolean(&self) -> Option<bool>;
    fn is_null(&self) -> bool;
    fn data(&self) -> Result<Data, data::DataError>;
}

impl Value for &RawValue {
    fn text(&self) -> Option<String> {
        serde_json::from_str(self.get()).ok()
    }

    fn unsigned(&self) -> Option<u64> {
        serde_json::from_str(self.get()).ok()
    }

    fn boolean(&self) -> Option<bool> {
        serde_json::from_str(self.get()).ok()
    }

    fn is_null(&self) -> bool {
        self.get() == "null"
    }

    fn data(&self) -> Result<Data, data::DataError> {
        Data::from_json(self.get())
    }
}

impl Value for Bytes {
    fn text(&self) -> Option<String> {
        data::read_text(&mut &self[..]).ok().map(str::to_owned)
    }

    fn unsigned(&self) -> Option<u64> {
        match data::read_head(&mut &self[..]) {
            Ok(Head::Unsigned(number)) => Some(number),
            _ => None,
        }
    }

    fn boolean(&self) -> Option<bool> {
        match data::read_head(&mut &self[..]) {
            Ok(Head::Bool(value)) => Some(value),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        data::read_head(&mut &self[..]) == Ok(Head::Nil)
    }

    /// Copies: a slice would keep the whole WebSocket message in memory for as long as the ring keeps this one.
    fn data(&self) -> Result<Data, data::DataError> {
        Data::from_msgpack(Bytes::copy_from_slice(self))
    }
}

impl<V: Value> Fields<V> {
    fn check(self) -> Incoming {
        let reference = match &self.r#ref {
            None => None,
            Some(value) => match value.unsigned() {
                Some(number) => Some(number),
                None => {
                    let failure = Failure::new(ErrorCode::BadFrame, "`ref` must be an unsigned integer");
                    return Incoming { reference: None, request: Err(failure) };
                }
            },
        };
        let Some(op) = self.op.as_ref().and_then(V::text) else {
            return Incoming { reference, ..not_a_frame() };
        };
        Incoming { reference, request: self.request(&op) }
    }

    fn request(&self, op: &str) -> Result<Request, Failure> {
        Ok(match op {
            "connect" => Request::Connect { token: optional("token", &self.token, V::text, TEXT)? },
            "subscribe" => {
                Request::Subscribe { room: self.room()?, start: self.start()?, durable: self.durable()? }
            }
            "unsubscribe" => Request::Unsubscribe {
                room: self.room()?,
                forget: optional("forget", &self.forget, V::boolean, "true or false")?.unwrap_or(false),
            },
            "publish" => Request::Publish { room: self.room()?, message: self.draft()? },
            "ack" => Request::Ack { room: self.room()?, id: parsed("id", &self.id)? },
            "history" => Request::History { room: self.room()?, range: self.range()?, limit: self.limit()? },
            "signal" => Request::Signal {
                room: self.room()?,
                kind: message_type(required("type", &self.r#type, V::text, TEXT)?)?,
                data: self.data()?,
                to: optional_parsed("to", &self.to)?,
            },
            "auth" => Request::Auth { token: required("token", &self.token, V::text, TEXT)? },
            "ping" => Request::Ping,
            _ => {
                let message = "there is no such op in version 1 of the protocol";
                return Err(Failure::new(ErrorCode::UnknownOp, message));
            }
        })
    }

    fn room(&self) -> Result<super::RoomName, Failure> {
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
        let kind = optional("type", &self.r#type, V::text, TEXT)?;
        let key = optional("key", &self.key, V::text, TEXT)?;
        Ok(Draft {
            key: key.map_or_else(|| Ok(Uuid::new_v4()), |text| message_key(&text))?,
            kind: kind.map_or_else(|| Ok(DEFAULT_TYPE.into()), message_type)?,
            data: self.data()?,
        })
    }

    fn start(&self) -> Result<Option<Start>, Failure> {
        let since = optional("since", &self.since, V::text, "an id, \"0\" or \"$\"")?;
        let last = optional("last", &self.last, V::unsigned, "a number from 0 to 1000")?;
        start(since.as_deref(), last)
    }

    fn range(&self) -> Result<Range, Failure> {
        let after = optional("after", &self.after, V::text, TEXT)?;
        let before = optional("before", &self.before, V::text, TEXT)?;
        range(after.as_deref(), before.as_deref())
    }

    fn limit(&self) -> Result<usize, Failure> {
        limit(optional("limit", &self.limit, V::unsigned, "a number from 1 to 1000")?)
    }
}

/// Checks `since` and `last`, of which at most one may be given.
///
/// # Errors
/// `bad_request`, saying what is allowed.
pub fn start(since: Option<&str>, last: Option<u64>) -> Result<Option<Start>, Failure> {
    match (since, last) {
        (None, None) => Ok(None),
        (Some("$"), None) => Ok(Some(Start::New)),
        (Some("0" | "0-0"), None) => Ok(Some(Start::Oldest)),
        (Some(id), None) => Ok(Some(Start::After(named("since", id.parse())?))),
        (None, Some(count)) if count <= MAX_LAST => Ok(Some(Start::Last(count as usize))),
        (None, Some(_)) => Err(Failure::bad_request("`last` is at most 1000")),
        (Some(_), Some(_)) => Err(Failure::bad_request("give `since` or `last`, not both")),
    }
}

/// Checks `after` and `before`, of which at most one may be given; neither means the newest messages.
///
/// # Errors
/// `bad_request`, saying what is allowed.
pub fn range(after: Option<&str>, before: Option<&str>) -> Result<Range, Failure> {
    match (after, before) {
        (None, None) => Ok(Range::Newest),
        (Some("0" | "0-0"), None) => Ok(Range::Oldest),
        (Some(id), None) => Ok(Range::After(named("after", id.parse())?)),
        (None, Some(id)) => Ok(Range::Before(named("before", id.parse())?)),
        (Some(_), Some(_)) => Err(Failure::bad_request("give `after` or `before`, not both")),
    }
}

/// Checks `limit`, or takes the default.
///
/// # Errors
/// `bad_request` if it is 0 or above the most that may be asked for.
pub fn limit(limit: Option<u64>) -> Result<usize, Failure> {
    let limit = limit.unwrap_or(HISTORY_LIMIT.0);
    if (1..=HISTORY_LIMIT.1).contains(&limit) {
        Ok(limit as usize)
    } else {
        Err(Failure::bad_request("`limit` is a number from 1 to 1000"))
    }
}

/// Checks a message's or signal's `type`.
///
/// # Errors
/// `bad_request` if it is empty, longer than [`MAX_TYPE`] bytes, or holds control characters (which Server-Sent Events
/// could not carry).
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
/// `bad_request` if it is no UUID.
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

fn optional<V: Value, T>(
    name: &str,
    value: &Option<V>,
    read: impl Fn(&V) -> Option<T>,
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

fn required<V: Value, T>(
    name: &str,
    value: &Option<V>,
    read: impl Fn(&V) -> Option<T>,
    wanted: &str,
) -> Result<T, Failure> {
    optional(name, value, read, wanted)?.ok_or_else(|| missing(name))
}

fn optional_parsed<V: Value, T: std::str::FromStr<Err = InvalidId>>(
    name: &str,
    value: &Option<V>,
) -> Result<Option<T>, Failure> {
    optional(name, value, V::text, TEXT)?.map(|text| named(name, text.parse())).transpose()
}

fn parsed<V: Value, T: std::str::FromStr<Err = InvalidId>>(
    name: &str,
    value: &Option<V>,
) -> Result<T, Failure> {
    optional_parsed(name, value)?.ok_or_else(|| missing(name))
}

#[cfg(test)]
mod tests;
