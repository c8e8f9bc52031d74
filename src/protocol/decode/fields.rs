//! The fields of a client's frame in either encoding, found but not yet looked into. So a frame with a bad field can still
//! be answered by its `ref`.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Undecodable;
use crate::protocol::Encoding;
use crate::protocol::data::{self, Data, DataError, Head};

/// The maps of a payload; `None` stands for a value that is none.
pub struct Maps<'a> {
    /// Whether the payload was an array.
    pub array: bool,
    /// What was in it.
    pub maps: Vec<Option<Fields<'a>>>,
}

/// Finds the maps of a payload, which is one or an array of them.
pub fn maps(encoding: Encoding, payload: &Bytes) -> Result<Maps<'_>, Undecodable> {
    match encoding {
        Encoding::Json => json_maps(payload),
        Encoding::MessagePack => msgpack_maps(payload),
    }
}

fn json_maps(payload: &[u8]) -> Result<Maps<'_>, Undecodable> {
    let array = payload.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let values: Vec<&RawValue> = if array {
        serde_json::from_slice(payload).map_err(|_| Undecodable)?
    } else {
        vec![serde_json::from_slice(payload).map_err(|_| Undecodable)?]
    };
    let maps = values.into_iter().map(|value| serde_json::from_str(value.get()).ok()).collect();
    Ok(Maps { array, maps })
}

fn msgpack_maps(payload: &Bytes) -> Result<Maps<'_>, Undecodable> {
    let mut input = &payload[..];
    let (array, count) = match data::read_head(&mut &payload[..]).map_err(|_| Undecodable)? {
        Head::Array(count) => {
            data::read_head(&mut input).map_err(|_| Undecodable)?;
            (true, count)
        }
        _ => (false, 1),
    };
    // Each value takes a byte at least: what claims more is malformed, and must not reserve memory for it.
    if count > input.len() {
        return Err(Undecodable);
    }
    let mut maps = Vec::with_capacity(count);
    for _ in 0..count {
        maps.push(msgpack_map(payload, &mut input)?);
    }
    if input.is_empty() { Ok(Maps { array, maps }) } else { Err(Undecodable) }
}

/// The map at the start of `input`, which lies within `payload`; `None` if it is no map.
fn msgpack_map<'a>(payload: &Bytes, input: &mut &[u8]) -> Result<Option<Fields<'a>>, Undecodable> {
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
        fields.set(name, Field::MessagePack(value));
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

/// The fields that any client frame may have, found but not yet looked into.
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

/// A field's value, not yet looked into.
pub enum Field<'a> {
    Json(&'a RawValue),
    MessagePack(Bytes),
}

/// The fields of a JSON object.
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

/// Each is `None` where the value is of another type.
impl Field<'_> {
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Json(value) => serde_json::from_str(value.get()).ok(),
            Self::MessagePack(value) => data::read_text(&mut &value[..]).ok().map(str::to_owned),
        }
    }

    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Json(value) => serde_json::from_str(value.get()).ok(),
            Self::MessagePack(value) => match data::read_head(&mut &value[..]) {
                Ok(Head::Unsigned(number)) => Some(number),
                _ => None,
            },
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self {
            Self::Json(value) => serde_json::from_str(value.get()).ok(),
            Self::MessagePack(value) => match data::read_head(&mut &value[..]) {
                Ok(Head::Bool(value)) => Some(value),
                _ => None,
            },
        }
    }

    pub fn is_null(&self) -> bool {
        match self {
            Self::Json(value) => value.get() == "null",
            Self::MessagePack(value) => data::read_head(&mut &value[..]) == Ok(Head::Nil),
        }
    }

    /// MessagePack is copied: a slice would keep the whole WebSocket message in memory for as long as the ring keeps this one.
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
