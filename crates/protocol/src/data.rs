//! A message's `data`: one MessagePack value, checked once where it enters, then carried as bytes.
//!
//! Everything that JSON can hold is allowed, and binary. Extension types, maps with keys that are not
//! strings, NaN and infinite numbers, and nesting deeper than [`MAX_DEPTH`] are refused.

use std::cell::Cell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rmp::Marker;
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::codes::{ErrorCode, Failure};

/// Maximum nesting depth of arrays and maps.
pub const MAX_DEPTH: usize = 32;

/// The rule by which a value is not allowed as `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The bytes end within a value, or continue after it.
    #[error("the MessagePack is cut short or malformed")]
    Malformed,
    /// A text is not UTF-8.
    #[error("a text in data is not UTF-8")]
    NotUtf8,
    /// Extension types have no counterpart in JSON.
    #[error("data may not hold MessagePack extension types")]
    Extension,
    /// A map's key is not a string.
    #[error("the keys of maps in data must be strings")]
    KeyNotText,
    /// A number is NaN or infinite.
    #[error("numbers in data must be finite")]
    NotFinite,
    /// The nesting is deeper than [`MAX_DEPTH`].
    #[error("data is nested deeper than 32 levels")]
    TooDeep,
    /// The text is not JSON.
    #[error("data is not valid JSON")]
    NotJson,
}

/// A checked value, as MessagePack. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(Bytes);

impl Data {
    /// `nil`, which stands for unreadable data that some other program wrote into Redis.
    pub const NIL: Self = Self(Bytes::from_static(&[0xc0]));

    /// Checks that the bytes are exactly one allowed value, and wraps them without copying.
    ///
    /// # Errors
    /// The rule that the value breaks.
    pub fn from_msgpack(bytes: Bytes) -> Result<Self, DataError> {
        let mut rest = &bytes[..];
        skip(&mut rest, MAX_DEPTH)?;
        if rest.is_empty() { Ok(Self(bytes)) } else { Err(DataError::Malformed) }
    }

    /// Converts JSON text.
    ///
    /// # Errors
    /// [`DataError::NotJson`], or [`DataError::TooDeep`].
    pub fn from_json(text: &str) -> Result<Self, DataError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
            if error.to_string().starts_with("recursion limit") {
                DataError::TooDeep
            } else {
                DataError::NotJson
            }
        })?;
        let bytes = rmp_serde::to_vec(&value).map_err(|_| DataError::NotJson)?;
        Self::from_msgpack(bytes.into())
    }

    /// Returns the value as MessagePack.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Checks its size as stored, in bytes.
    ///
    /// # Errors
    /// `too_large`.
    pub fn fits(&self, limit: usize) -> Result<(), Failure> {
        if self.0.len() <= limit {
            return Ok(());
        }
        let message = format!("`data` takes {} bytes as stored, and the limit is {limit}", self.0.len());
        Err(Failure::new(ErrorCode::TooLarge, message))
    }
}

/// Serializes the value itself, whatever the format. Binary becomes base64 text in human-readable formats.
impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Cursor(Cell::new(&self.0)).serialize(serializer)
    }
}

/// Checks the value at the start of `input`, and moves `input` behind it.
///
/// # Errors
/// The rule that the value breaks. `input` is then somewhere within the value.
pub fn skip(input: &mut &[u8], depth: usize) -> Result<(), DataError> {
    let depth_left = || depth.checked_sub(1).ok_or(DataError::TooDeep);
    match read_head(input)? {
        Head::Nil | Head::Bool(_) | Head::Unsigned(_) | Head::Signed(_) => {}
        Head::Float(number) => {
            if !number.is_finite() {
                return Err(DataError::NotFinite);
            }
        }
        Head::Text(length) => {
            std::str::from_utf8(take(input, length)?).map_err(|_| DataError::NotUtf8)?;
        }
        Head::Binary(length) => {
            take(input, length)?;
        }
        Head::Extension(_) => return Err(DataError::Extension),
        Head::Array(count) => {
            let depth = depth_left()?;
            for _ in 0..count {
                skip(input, depth)?;
            }
        }
        Head::Map(count) => {
            let depth = depth_left()?;
            for _ in 0..count {
                read_text(input)?;
                skip(input, depth)?;
            }
        }
    }
    Ok(())
}

/// Reads the text at the start of `input`, as a map's key.
///
/// # Errors
/// [`DataError::KeyNotText`] if it is something else.
pub fn read_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, DataError> {
    match read_head(input)? {
        Head::Text(length) => std::str::from_utf8(take(input, length)?).map_err(|_| DataError::NotUtf8),
        _ => Err(DataError::KeyNotText),
    }
}

/// The head of a MessagePack value: all of a scalar, the length of anything else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head {
    /// `nil`
    Nil,
    /// `true` or `false`
    Bool(bool),
    /// A number that is not negative.
    Unsigned(u64),
    /// A negative number.
    Signed(i64),
    /// A floating-point number of either width.
    Float(f64),
    /// A text of this many bytes, which follow.
    Text(usize),
    /// Binary of this many bytes, which follow.
    Binary(usize),
    /// An array of this many values, which follow.
    Array(usize),
    /// A map of this many pairs, which follow.
    Map(usize),
    /// An extension type of this many bytes, which follow. It can be decoded, but is never allowed in
    /// [`Data`].
    Extension(usize),
}

/// Reads a value's head, and moves `input` behind it.
///
/// # Errors
/// [`DataError::Malformed`].
pub fn read_head(input: &mut &[u8]) -> Result<Head, DataError> {
    fn number<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DataError> {
        take(input, N)?.try_into().map_err(|_| DataError::Malformed)
    }
    let unsigned = |input: &mut &[u8], width: usize| -> Result<u64, DataError> {
        Ok(take(input, width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let length = |input: &mut &[u8], width: usize| -> Result<usize, DataError> {
        usize::try_from(unsigned(input, width)?).map_err(|_| DataError::Malformed)
    };
    let signed =
        |number: i64| if number < 0 { Head::Signed(number) } else { Head::Unsigned(number.unsigned_abs()) };
    Ok(match Marker::from_u8(take(input, 1)?[0]) {
        Marker::Null => Head::Nil,
        Marker::True => Head::Bool(true),
        Marker::False => Head::Bool(false),
        Marker::FixPos(number) => Head::Unsigned(number.into()),
        Marker::FixNeg(number) => Head::Signed(number.into()),
        Marker::U8 => Head::Unsigned(unsigned(input, 1)?),
        Marker::U16 => Head::Unsigned(unsigned(input, 2)?),
        Marker::U32 => Head::Unsigned(unsigned(input, 4)?),
        Marker::U64 => Head::Unsigned(unsigned(input, 8)?),
        Marker::I8 => signed(i8::from_be_bytes(number(input)?).into()),
        Marker::I16 => signed(i16::from_be_bytes(number(input)?).into()),
        Marker::I32 => signed(i32::from_be_bytes(number(input)?).into()),
        Marker::I64 => signed(i64::from_be_bytes(number(input)?)),
        Marker::F32 => Head::Float(f32::from_be_bytes(number(input)?).into()),
        Marker::F64 => Head::Float(f64::from_be_bytes(number(input)?)),
        Marker::FixStr(length) => Head::Text(length.into()),
        Marker::Str8 => Head::Text(length(input, 1)?),
        Marker::Str16 => Head::Text(length(input, 2)?),
        Marker::Str32 => Head::Text(length(input, 4)?),
        Marker::Bin8 => Head::Binary(length(input, 1)?),
        Marker::Bin16 => Head::Binary(length(input, 2)?),
        Marker::Bin32 => Head::Binary(length(input, 4)?),
        Marker::FixArray(count) => Head::Array(count.into()),
        Marker::Array16 => Head::Array(length(input, 2)?),
        Marker::Array32 => Head::Array(length(input, 4)?),
        Marker::FixMap(count) => Head::Map(count.into()),
        Marker::Map16 => Head::Map(length(input, 2)?),
        Marker::Map32 => Head::Map(length(input, 4)?),
        Marker::FixExt1 => Head::Extension(1 + 1),
        Marker::FixExt2 => Head::Extension(1 + 2),
        Marker::FixExt4 => Head::Extension(1 + 4),
        Marker::FixExt8 => Head::Extension(1 + 8),
        Marker::FixExt16 => Head::Extension(1 + 16),
        Marker::Ext8 => Head::Extension(1 + length(input, 1)?),
        Marker::Ext16 => Head::Extension(1 + length(input, 2)?),
        Marker::Ext32 => Head::Extension(1 + length(input, 4)?),
        Marker::Reserved => return Err(DataError::Malformed),
    })
}

/// Takes `length` bytes from the start of `input`.
///
/// # Errors
/// [`DataError::Malformed`] if there are fewer.
pub fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], DataError> {
    let (taken, rest) = input.split_at_checked(length).ok_or(DataError::Malformed)?;
    *input = rest;
    Ok(taken)
}

/// A position in checked MessagePack. Serializing it serializes the value there and advances, so that arrays
/// and maps can pass the same cursor to each of their elements.
struct Cursor<'a>(Cell<&'a [u8]>);

impl Serialize for Cursor<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut input = self.0.get();
        let head = read_head(&mut input).map_err(S::Error::custom)?;
        let text: &[u8] = match head {
            Head::Text(length) | Head::Binary(length) => {
                take(&mut input, length).map_err(S::Error::custom)?
            }
            _ => &[],
        };
        self.0.set(input);
        match head {
            Head::Nil => serializer.serialize_unit(),
            Head::Bool(value) => serializer.serialize_bool(value),
            Head::Unsigned(value) => serializer.serialize_u64(value),
            Head::Signed(value) => serializer.serialize_i64(value),
            Head::Float(value) => serializer.serialize_f64(value),
            Head::Text(_) => serializer.serialize_str(std::str::from_utf8(text).map_err(S::Error::custom)?),
            Head::Binary(_) if serializer.is_human_readable() => {
                serializer.serialize_str(&STANDARD.encode(text))
            }
            Head::Binary(_) => serializer.serialize_bytes(text),
            Head::Array(count) => {
                let mut array = serializer.serialize_seq(Some(count))?;
                for _ in 0..count {
                    array.serialize_element(self)?;
                }
                array.end()
            }
            Head::Extension(_) => Err(S::Error::custom(DataError::Extension)),
            Head::Map(count) => {
                let mut map = serializer.serialize_map(Some(count))?;
                for _ in 0..count {
                    map.serialize_entry(self, self)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(bytes: &[u8]) -> DataError {
        Data::from_msgpack(Bytes::copy_from_slice(bytes)).unwrap_err()
    }

    #[test]
    fn values_without_a_json_equivalent_are_refused() {
        assert_eq!(refused(&[]), DataError::Malformed);
        assert_eq!(refused(&[0xc1]), DataError::Malformed);
        assert_eq!(refused(&[0xc0, 0xc0]), DataError::Malformed);
        assert_eq!(refused(&[0xd4, 1, 2]), DataError::Extension);
        assert_eq!(refused(&[0x81, 1, 2]), DataError::KeyNotText);
        assert_eq!(refused(&[0xa1, 0xff]), DataError::NotUtf8);
        assert_eq!(refused(&rmp_serde::to_vec(&f64::NAN).unwrap()), DataError::NotFinite);
        assert_eq!(refused(&rmp_serde::to_vec(&f32::INFINITY).unwrap()), DataError::NotFinite);
        assert_eq!(refused(&[0xdd, 0xff, 0xff, 0xff, 0xff]), DataError::Malformed);
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
        assert!(Data::from_msgpack(nested(MAX_DEPTH).into()).is_ok());
        assert_eq!(refused(&nested(MAX_DEPTH + 1)), DataError::TooDeep);
        assert_eq!(refused(&nested(100_000)), DataError::TooDeep);
        let json = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Data::from_json(&json), Err(DataError::TooDeep));
    }

    #[test]
    fn binary_becomes_base64_for_json_readers_only() {
        let data = Data::from_msgpack(Bytes::from_static(&[0xc4, 3, 1, 2, 255])).unwrap();
        assert_eq!(serde_json::to_value(&data).unwrap(), json!("AQL/"));
        assert_eq!(rmp_serde::to_vec(&data).unwrap(), [0xc4, 3, 1, 2, 255]);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|value| json!(value)),
            any::<u64>().prop_map(|value| json!(value)),
            (-1e300..1e300f64).prop_map(|value| json!(value)),
            ".*".prop_map(|value| json!(value)),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(|values| json!(values)),
                prop::collection::hash_map(".{0,40}", inner, 0..20).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_survives_a_round_trip(value in any_json()) {
            let data = Data::from_json(&value.to_string()).unwrap();
            prop_assert_eq!(serde_json::to_value(&data).unwrap(), value);
            prop_assert_eq!(rmp_serde::to_vec(&data).unwrap(), data.as_bytes().to_vec());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(data) = Data::from_msgpack(bytes.into()) {
                serde_json::to_string(&data).unwrap();
            }
        }
    }
}
