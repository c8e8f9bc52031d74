//! The wall clock, as the protocol counts it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Unix time in seconds.
pub fn now_s() -> u64 {
    now_ms() / 1000
}
