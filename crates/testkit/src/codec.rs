//! MessagePack as JSON values, so that tests read both encodings alike. Binary is `{"$binary": "<base64>"}`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

const BINARY: &str = "$binary";

/// Returns the JSON value that stands for these bytes.
pub fn binary(bytes: &[u8]) -> Value {
    json!({ BINARY: STANDARD.encode(bytes) })
}

pub fn to_msgpack(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec(&Outgoing(value)).unwrap()
}

/// Reads MessagePack.
///
/// # Panics
/// If it is malformed, or has bytes after the value.
pub fn from_msgpack(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    let Incoming(value) = Incoming::deserialize(&mut reader).unwrap();
    assert!(rest.is_empty(), "{} bytes after {value}", rest.len());
    value
}

struct Outgoing<'a>(&'a Value);

impl Serialize for Outgoing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => match map.get(BINARY).and_then(Value::as_str) {
                Some(text) => serializer.serialize_bytes(&STANDARD.decode(text).unwrap()),
                None => {
                    let mut out = serializer.serialize_map(Some(map.len()))?;
                    for (name, value) in map {
                        out.serialize_entry(name, &Outgoing(value))?;
                    }
                    out.end()
                }
            },
            Value::Array(values) => serializer.collect_seq(values.iter().map(Outgoing)),
            other => other.serialize(serializer),
        }
    }
}

struct Incoming(Value);

impl<'de> Deserialize<'de> for Incoming {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON can hold, or binary")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(binary(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Incoming(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((name, Incoming(value))) = map.next_entry::<String, _>()? {
            let twice = values.insert(name, value);
            assert!(twice.is_none(), "a field is there twice");
        }
        Ok(Value::Object(values))
    }
}
