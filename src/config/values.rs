//! The format of configuration values: durations, sizes, counts, addresses, and text that may be empty. Each
//! module is used by `#[serde(with = …)]`. Zero or an empty text means none where the name says so. Errors
//! explain the rule without repeating the value.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

type Read<T> = Result<T, String>;

fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    rule: impl FnOnce(&Value) -> Read<T>,
) -> Result<T, D::Error> {
    rule(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn text(value: &Value) -> Read<&str> {
    value.as_str().ok_or_else(|| "must be text in quotes".into())
}

fn parse_duration(value: &Value) -> Read<Duration> {
    let duration = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    duration.ok_or_else(|| "must be a duration such as \"500ms\", \"30s\", \"5m\", \"1h\" or \"30d\"".into())
}

/// Formats a duration in the greatest unit that divides it.
fn print_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let ms = duration.as_millis();
    if ms == 0 || !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return humantime::format_duration(duration).to_string();
    }
    let (unit, size) = UNITS.into_iter().find(|(_, size)| ms.is_multiple_of(*size)).unwrap_or(("ms", 1));
    format!("{}{unit}", ms / size)
}

fn parse_count<T: TryFrom<i64>>(value: &Value) -> Read<T> {
    let count = value.as_integer().and_then(|number| T::try_from(number).ok());
    count.ok_or_else(|| "must be a whole number, not negative".into())
}

fn parse_bytes<T: TryFrom<i64>>(value: &Value) -> Read<T> {
    let bytes = value.as_str().map_or(value.as_integer(), size);
    bytes
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| "must be a number of bytes, or text such as \"64KiB\" or \"1GB\"".into())
}

/// Parses `64KiB`, `1GB` or `512`: a whole number with an optional unit, decimal or binary.
fn size(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: i64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000_i64.pow(2),
        "gb" => 1000_i64.pow(3),
        "tb" => 1000_i64.pow(4),
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<i64>().ok()?.checked_mul(unit)
}

fn positive<T: Default + PartialEq>(value: T) -> Read<T> {
    if value == T::default() { Err("must be more than 0".into()) } else { Ok(value) }
}

fn not_zero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

pub(super) mod duration {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        read(deserializer, |value| parse_duration(value).and_then(positive))
    }

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&print_duration(*value))
    }
}

pub(super) mod duration_or_zero {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        read(deserializer, |value| parse_duration(value).map(not_zero))
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration::serialize(&value.unwrap_or_default(), serializer)
    }
}

pub(super) fn count<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + Default + PartialEq,
{
    read(deserializer, |value| parse_count(value).and_then(positive))
}

pub(super) fn bytes<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + Default + PartialEq,
{
    read(deserializer, |value| parse_bytes(value).and_then(positive))
}

pub(super) mod count_or_zero {
    use super::*;

    pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: TryFrom<i64> + Default + PartialEq,
    {
        read(deserializer, |value| parse_count(value).map(not_zero))
    }

    pub(crate) fn serialize<S, T>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: Serialize + Default + Copy,
    {
        value.unwrap_or_default().serialize(serializer)
    }
}

pub(super) mod bytes_or_zero {
    use super::*;

    pub(crate) use super::count_or_zero::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        read(deserializer, |value| parse_bytes(value).map(not_zero))
    }
}

pub(super) mod bytes_or_empty {
    use super::*;

    pub(crate) use super::or_empty::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        read(deserializer, |value| match value.as_str() {
            Some("") => Ok(None),
            _ => parse_bytes(value).and_then(positive).map(Some),
        })
    }
}

pub(super) mod or_empty {
    use super::*;

    pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: DeserializeOwned,
    {
        read(deserializer, |value| {
            if text(value)?.is_empty() {
                return Ok(None);
            }
            value.clone().try_into().map(Some).map_err(|error| error.message().into())
        })
    }

    pub(crate) fn serialize<S: Serializer, T: Serialize>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }
}

fn parse_address(value: &Value) -> Read<SocketAddr> {
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| {
        "must be an IP address and a port, such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\""
            .into()
    })
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    read(deserializer, parse_address)
}

pub(super) fn address_or_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    read(deserializer, |value| match value.as_str() {
        Some("") => Ok(None),
        _ => parse_address(value).map(Some),
    })
}

pub(super) fn ruled<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    rule: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    read(deserializer, |value| rule(text(value)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("512", 512),
            ("1GB", 1_000_000_000),
            ("64KiB", 65536),
            ("2 mb", 2_000_000),
            ("0", 0),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "GB", "-1", "1.5GB", "1 parsec", "9999999999GB", "1é"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_read_back_what_they_print() {
        for text in ["30d", "5m", "90s", "400d", "250ms", "36h"] {
            let duration = humantime::parse_duration(text).unwrap();
            assert_eq!(print_duration(duration), text);
        }
        for nanoseconds in [0, 1, 1_500_000, 1_000_000_001] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(humantime::parse_duration(&print_duration(duration)).unwrap(), duration);
        }
    }
}
