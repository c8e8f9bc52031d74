//! The timers of a connection: the time to connect, pings, token expiry, and the return of dismissed clients.
//! Pure: times are arguments.

use std::time::Duration;

use crate::protocol::CloseCode;

pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(25);

pub(crate) const PONG_WITHIN: Duration = Duration::from_secs(10);

pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

const SHORTEST_SPREAD: Duration = Duration::from_secs(5);

/// Dismissed clients that reconnect per second: as many as the remaining nodes can take.
const RETURN_RATE: u64 = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Close(CloseCode),
}

/// The input of [`due`]. Times are milliseconds since the connection was opened, on a monotonic clock. Only
/// the token uses the time of day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub now: u64,
    pub last_input: u64,
    pub pinged: u64,
    /// True if the token has expired; `None` before `connect`.
    pub expired: Option<bool>,
    /// True while bytes wait to be written. A ping would then wait behind them, so a missing pong means
    /// nothing.
    pub blocked: bool,
}

pub(super) fn spread(clients: usize) -> Duration {
    SHORTEST_SPREAD.max(Duration::from_millis(1000 * clients as u64 / RETURN_RATE))
}

pub(super) fn due(clock: Clock) -> Due {
    let Clock { now, last_input, pinged, expired, blocked } = clock;
    let after = |since: u64, wait: Duration| now.saturating_sub(since) >= wait.as_millis() as u64;
    match expired {
        None if after(0, CONNECT_WITHIN) => Due::Close(CloseCode::NoConnect),
        Some(true) => Due::Close(CloseCode::TokenExpired),
        _ if blocked => Due::Nothing,
        _ if pinged > last_input && after(pinged, PONG_WITHIN) => Due::Close(CloseCode::NoPong),
        _ if pinged <= last_input && after(pinged, PING_INTERVAL) => Due::Ping,
        _ => Due::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Clock = Clock { now: 0, last_input: 0, pinged: 0, expired: Some(false), blocked: false };

    #[test]
    fn a_client_must_connect_in_time() {
        assert_eq!(due(Clock { now: 9_999, expired: None, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 10_000, expired: None, ..QUIET }), Due::Close(CloseCode::NoConnect));
    }

    #[test]
    fn a_ping_is_sent_every_25_s_and_its_pong_is_due_within_10() {
        assert_eq!(due(Clock { now: 24_999, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 25_000, ..QUIET }), Due::Ping);
        assert_eq!(due(Clock { now: 34_999, pinged: 25_000, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 35_000, pinged: 25_000, ..QUIET }), Due::Close(CloseCode::NoPong));
        assert_eq!(due(Clock { now: 35_000, pinged: 25_000, last_input: 25_100, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 50_000, pinged: 25_000, last_input: 25_100, ..QUIET }), Due::Ping);
    }

    #[test]
    fn reconnects_are_spread_in_proportion_to_the_number_of_clients() {
        let seconds = [0, 1, 10_000, 20_000, 100_000].map(|clients| spread(clients).as_secs());
        assert_eq!(seconds, [5, 5, 5, 10, 50]);
    }

    #[test]
    fn a_client_that_reads_slowly_is_not_taken_for_dead() {
        assert_eq!(due(Clock { now: 90_000, pinged: 25_000, blocked: true, ..QUIET }), Due::Nothing);
    }

    #[test]
    fn an_expired_token_ends_the_connection_of_a_slow_reader_too() {
        let late = Clock { now: 60_001, expired: Some(true), blocked: true, ..QUIET };
        assert_eq!(due(late), Due::Close(CloseCode::TokenExpired));
    }
}
