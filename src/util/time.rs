//! The wall clock, in the protocol's units.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

/// Parses Unix time in milliseconds, or RFC 3339, such as `2026-01-31T12:00:00Z`. Returns Unix time in
/// milliseconds.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| humantime::parse_rfc3339_weak(text).ok().map(unix_ms))
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

pub(crate) fn now_s() -> u64 {
    now_ms() / 1000
}
