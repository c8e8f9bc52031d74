//! The fields of a client's frame in either encoding, found but not decoded yet. That way, a frame with a bad
//! field can still be answered by its `ref`.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Undecodable;
use crate::Encoding;
use crate::data::{self, Data, DataError, Head};

/// The elements of a payload, which is one map or an array of them. They are found one at a time, and never
/// collected.
#[derive(Debug)]
pub struct Elements {
    encoding: Encoding,
    payload: Bytes,
    /// The offset of the next element.
    at: usize,
    left: usize,
    array: bool,
}

/// The reason why the elements of a payload cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is malformed.
    Undecodable,
    /// It is an array of more elements than allowed.
    TooMany,
}

impl From<Undecodable> for Refused {
    fn from(Undecodable: Undecodable) -> Self {
        Self::Undecodable
    }
}

impl Elements {
    /// Finds the elements of a payload, at most `most`. An array is walked through once to count and check
    /// its elements, so that a payload that is malformed at its end is refused before its first element is
    /// used. The walk keeps nothing.
    ///
    /// # Errors
    /// See [`Refused`]. A payload that is not an array is checked by [`Elements::next`] alone.
    pub fn of(encoding: Encoding, payload: Bytes, most: usize) -> Result<Self, Refused> {
        let (array, at, left) = match encoding {
            Encoding::Json => match payload.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(at) if payload[at] == b'[' => (true, at + 1, json_count(&payload, most)?),
                _ => (false, 0, 1),
            },
            Encoding::MessagePack => {
                let mut input = &payload[..];
                match data::read_head(&mut input).map_err(|_| Undecodable)? {
                    Head::Array(count) => {
                        let at = payload.len() - input.len();
                        msgpack_check(input, count, most)?;
                        (true, at, count)
                    }
                    _ => (false, 0, 1),
                }
            }
        };
        Ok(Self { encoding, payload, at, left, array })
    }

    /// Returns whether the payload is an array.
    pub fn is_array(&self) -> bool {
        self.array
    }

    /// Returns the number of elements left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Returns the fields of the next element. The inner `None` stands for an element that is not a map.
    pub fn next(&mut self) -> Option<Result<Option<Fields<'_>>, Undecodable>> {
        self.left = self.left.checked_sub(1)?;
        Some(match self.encoding {
            Encoding::Json => self.next_json(),
            Encoding::MessagePack => self.next_msgpack(),
        })
    }

    fn next_json(&mut self) -> Result<Option<Fields<'_>>, Undecodable> {
        if !self.array {
            let value: &RawValue = serde_json::from_slice(&self.payload).map_err(|_| Undecodable)?;
            return Ok(serde_json::from_str(value.get()).ok());
        }
        let rest = &self.payload[self.at..];
        let skipped = rest.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b',').count();
        let mut values = serde_json::Deserializer::from_slice(&rest[skipped..]).into_iter::<&RawValue>();
        let value = values.next().ok_or(Undecodable)?.map_err(|_| Undecodable)?;
        self.at += skipped + values.byte_offset();
        Ok(serde_json::from_str(value.get()).ok())
    }

    fn next_msgpack(&mut self) -> Result<Option<Fields<'_>>, Undecodable> {
        let mut input = &self.payload[self.at..];
        let mut fields = Fields::default();
        let is_map = msgpack_map(&mut input, |name, value| {
            fields.set(name, Field::MessagePack(value));
        })?;
        self.at = self.payload.len() - input.len();
        if !self.array && !input.is_empty() {
            return Err(Undecodable);
        }
        Ok(is_map.then_some(fields))
    }
}

/// Checks an array, and counts its elements.
fn json_count(payload: &[u8], most: usize) -> Result<usize, Refused> {
    struct Counted {
        most: usize,
        too_many: bool,
    }

    impl<'de> Visitor<'de> for &mut Counted {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while array.next_element::<&RawValue>()?.is_some() {
                count += 1;
                if count > self.most {
                    self.too_many = true;
                    return Err(A::Error::custom("too many"));
                }
            }
            Ok(count)
        }
    }

    let mut counted = Counted { most, too_many: false };
    let mut input = serde_json::Deserializer::from_slice(payload);
    let count = input.deserialize_seq(&mut counted).and_then(|count| input.end().map(|()| count));
    count.map_err(|_| if counted.too_many { Refused::TooMany } else { Refused::Undecodable })
}

/// Checks the elements of an array whose header claims `count` of them.
fn msgpack_check(mut input: &[u8], count: usize, most: usize) -> Result<(), Refused> {
    // Each element takes at least one byte.
    if count > input.len() {
        return Err(Refused::Undecodable);
    }
    if count > most {
        return Err(Refused::TooMany);
    }
    for _ in 0..count {
        msgpack_map(&mut input, |_, _| {})?;
    }
    if input.is_empty() { Ok(()) } else { Err(Refused::Undecodable) }
}

/// Moves `input` behind the value at its start. Passes the fields on and returns true if it is a map.
fn msgpack_map<'a>(
    input: &mut &'a [u8],
    mut field: impl FnMut(&'a str, &'a [u8]),
) -> Result<bool, Undecodable> {
    let mut ahead = *input;
    let Head::Map(count) = data::read_head(&mut ahead).map_err(|_| Undecodable)? else {
        measure(input)?;
        return Ok(false);
    };
    *input = ahead;
    for _ in 0..count {
        let name = data::read_text(input).map_err(|_| Undecodable)?;
        field(name, measure(input)?);
    }
    Ok(true)
}

/// Moves `input` behind the value at its start, and returns that value's bytes. Only the structure is checked
/// here. The content is checked where it is used.
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

/// The fields that any client frame may have, found but not decoded yet.
#[derive(Default)]
pub struct Fields<'a> {
    pub op: Option<Field<'a>>,
    pub reference: Option<Field<'a>>,
    pub token: Option<Field<'a>>,
    pub room: Option<Field<'a>>,
    pub since: Option<Field<'a>>,
    pub last: Option<Field<'a>>,
    pub durable: Option<Field<'a>>,
    pub forget: Option<Field<'a>>,
    pub data: Option<Field<'a>>,
    pub kind: Option<Field<'a>>,
    pub key: Option<Field<'a>>,
    pub id: Option<Field<'a>>,
    pub after: Option<Field<'a>>,
    pub before: Option<Field<'a>>,
    pub limit: Option<Field<'a>>,
    pub to: Option<Field<'a>>,
}

/// The value of a field, not decoded yet.
pub enum Field<'a> {
    Json(&'a RawValue),
    MessagePack(&'a [u8]),
}

/// Collects the fields of a JSON object.
impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = object.next_entry::<String, &RawValue>()? {
                    fields.set(&name, Field::Json(value));
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Each accessor returns `None` if the value has another type.
impl Field<'_> {
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Json(value) => serde_json::from_str(value.get()).ok(),
            Self::MessagePack(value) => data::read_text(&mut &**value).ok().map(str::to_owned),
        }
    }

    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Json(value) => serde_json::from_str(value.get()).ok(),
            Self::MessagePack(value) => match data::read_head(&mut &**value) {
                Ok(Head::Unsigned(number)) => Some(number),
                _ => None,
            },
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self {
            Self::Json(value) => serde_json::from_str(value.get()).ok(),
            Self::MessagePack(value) => match data::read_head(&mut &**value) {
                Ok(Head::Bool(value)) => Some(value),
                _ => None,
            },
        }
    }

    pub fn is_null(&self) -> bool {
        match self {
            Self::Json(value) => value.get() == "null",
            Self::MessagePack(value) => data::read_head(&mut &**value) == Ok(Head::Nil),
        }
    }

    /// MessagePack is copied. A slice would keep the whole WebSocket message in memory for as long as the
    /// ring keeps this one.
    pub fn data(&self) -> Result<Data, DataError> {
        match self {
            Self::Json(value) => Data::from_json(value.get()),
            Self::MessagePack(value) => Data::from_msgpack(Bytes::copy_from_slice(value)),
        }
    }
}

impl<'a> Fields<'a> {
    /// Unknown fields are ignored.
    fn set(&mut self, name: &str, value: Field<'a>) {
        let field = match name {
            "op" => &mut self.op,
            "ref" => &mut self.reference,
            "token" => &mut self.token,
            "room" => &mut self.room,
            "since" => &mut self.since,
            "last" => &mut self.last,
            "durable" => &mut self.durable,
            "forget" => &mut self.forget,
            "data" => &mut self.data,
            "type" => &mut self.kind,
            "key" => &mut self.key,
            "id" => &mut self.id,
            "after" => &mut self.after,
            "before" => &mut self.before,
            "limit" => &mut self.limit,
            "to" => &mut self.to,
            _ => return,
        };
        *field = Some(value);
    }
}
