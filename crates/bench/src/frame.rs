//! The few fields of frames that a load generator needs, in either encoding, and the data of its messages:
//! the time of the publish, and the message's number in its room. Frames of the protocol crate own their
//! fields, which would cost an allocation for each and be the generator's time, not the server's.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use roomlog_protocol::{Encoding, encode};

#[derive(Debug, Default, Serialize)]
pub(super) struct Request<'a> {
    pub op: &'a str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a str>,
}

impl Request<'_> {
    /// Returns its bytes, without WebSocket framing.
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        encode::payload(encoding, self).unwrap_or_default()
    }
}

/// A frame of either side, with the fields needed here. Only strings with escapes are copied.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    #[serde(rename = "ref")]
    pub reference: Option<u64>,
    #[serde(borrow)]
    pub room: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub message: Option<Cow<'a, str>>,
}

/// Reads a WebSocket message: one frame, or an array of them.
pub(super) fn each<'a>(
    encoding: Encoding,
    payload: &'a [u8],
    mut take: impl FnMut(Frame<'a>),
) -> Result<(), String> {
    let first = payload.first().copied().unwrap_or_default();
    match encoding {
        Encoding::Json if first == b'[' => {
            let frames: Vec<Frame<'a>> =
                serde_json::from_slice(payload).map_err(|error| error.to_string())?;
            frames.into_iter().for_each(take);
        }
        Encoding::Json => take(serde_json::from_slice(payload).map_err(|error| error.to_string())?),
        Encoding::MessagePack if matches!(first, 0x90..=0x9f | 0xdc | 0xdd) => {
            let frames: Vec<Frame<'a>> = rmp_serde::from_slice(payload).map_err(|error| error.to_string())?;
            frames.into_iter().for_each(take);
        }
        Encoding::MessagePack => take(rmp_serde::from_slice(payload).map_err(|error| error.to_string())?),
    }
    Ok(())
}

/// Minimum size of data in bytes: two numbers.
pub(super) const LEAST_DATA: usize = 32;

/// Returns the data of a message: the time of its publish, its number in the room, and padding.
pub(super) fn data(sent: u64, number: u64, bytes: usize) -> String {
    let fill = bytes.saturating_sub(LEAST_DATA);
    format!("{sent:016x}{number:016x}{:x<fill$}", "")
}

/// Reads the time and the number that [`data`] wrote.
pub(super) fn read_data(data: &str) -> Option<(u64, u64)> {
    let number = |range| u64::from_str_radix(data.get(range)?, 16).ok();
    Some((number(0..16)?, number(16..LEAST_DATA)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn data_has_the_requested_size_a_time_and_a_number() {
        for bytes in [0, 32, 128] {
            let text = data(1 << 40, 7, bytes);
            assert_eq!(text.len(), bytes.max(LEAST_DATA));
            assert_eq!(read_data(&text), Some((1 << 40, 7)));
        }
        assert_eq!(read_data("x"), None);
    }

    #[test]
    fn frames_arrive_singly_or_in_arrays() {
        for encoding in Encoding::ALL {
            let one = Request { op: "publish", room: Some("a"), data: Some("\"d"), ..Request::default() };
            let alone = one.encode(encoding);
            let array = encode::payload(encoding, &[&one, &one]).unwrap();
            for (payload, count) in [(alone, 1), (array, 2)] {
                let mut seen = Vec::new();
                each(encoding, &payload, |frame| seen.push(frame.data.unwrap().into_owned())).unwrap();
                assert_eq!(seen, vec!["\"d"; count]);
            }
        }
    }
}
