//! All connections of a node, and their timers: pings, the time to connect, token expiry. One sweep covers
//! all connections, instead of timers for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::{Claims, Revocations};
use crate::hub::outbox::{Outbox, Writes};
use crate::protocol::frame::Frame;
use crate::protocol::{CloseCode, Encoding, ErrorCode, Failure, encode, wire};
use crate::telemetry::{Metrics, Transport};
use crate::time::now_ms;

pub const PING_INTERVAL: Duration = Duration::from_secs(25);

/// Time within which a pong must follow a ping.
pub const PONG_WITHIN: Duration = Duration::from_secs(10);

/// Time within which a client must send `connect`.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Time for a client to read the remaining bytes and close too, after its connection was ended. Then it is
/// cut.
pub const CUT_AFTER: Duration = Duration::from_secs(3);

/// Shortest time over which the return of dismissed clients is spread.
const SHORTEST_SPREAD: Duration = Duration::from_secs(5);

/// Dismissed clients that reconnect per second: as many as the remaining nodes can take.
const RETURN_RATE: u64 = 2000;

/// Delay before the first of many dismissed clients is asked to return.
const SOONEST_RETURN: Duration = Duration::from_millis(250);

/// Interval at which connections are checked.
const SWEEP: Duration = Duration::from_millis(500);

/// The part of a connection that the registry controls.
#[derive(Debug)]
pub struct Connection {
    pub id: Uuid,
    transport: Transport,
    encoding: Encoding,
    pub outbox: Arc<Outbox>,
    claims: RwLock<Option<Arc<Claims>>>,
    opened: Instant,
    /// Time of the last input, in milliseconds since it was opened.
    heard: AtomicU64,
    /// Time of the last ping, in milliseconds since it was opened.
    pinged: AtomicU64,
    /// Cancelled when the connection is to end.
    pub ending: CancellationToken,
    farewell: OnceLock<Farewell>,
}

/// The way a connection was asked to end.
#[derive(Debug, Clone, Copy)]
struct Farewell {
    code: CloseCode,
    retry_after: Option<Duration>,
    since: Instant,
}

/// The action that is due by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Ping,
    Close(CloseCode),
}

/// The input of [`due`]. Times are milliseconds since the connection was opened, on a monotonic clock. Only
/// the token uses the time of day.
#[derive(Debug, Clone, Copy)]
struct Clock {
    now: u64,
    heard: u64,
    pinged: u64,
    /// True if the token has expired; `None` before `connect`.
    expired: Option<bool>,
    /// True while bytes wait to be written. A ping would then wait behind them, so a missing pong means
    /// nothing.
    blocked: bool,
}

/// Returns the time over which this many clients are to return. Pure.
fn spread(clients: usize) -> Duration {
    SHORTEST_SPREAD.max(Duration::from_millis(1000 * clients as u64 / RETURN_RATE))
}

/// Returns what is due on a WebSocket. Pure.
fn due(clock: Clock) -> Due {
    let Clock { now, heard, pinged, expired, blocked } = clock;
    let after = |since: u64, wait: Duration| now.saturating_sub(since) >= wait.as_millis() as u64;
    match expired {
        None if after(0, CONNECT_WITHIN) => Due::Close(CloseCode::NoConnect),
        Some(true) => Due::Close(CloseCode::TokenExpired),
        _ if blocked => Due::Nothing,
        _ if pinged > heard && after(pinged, PONG_WITHIN) => Due::Close(CloseCode::NoPong),
        _ if pinged <= heard && after(pinged, PING_INTERVAL) => Due::Ping,
        _ => Due::Nothing,
    }
}

impl Connection {
    /// Returns the client's claims, once it has authenticated.
    pub fn claims(&self) -> Option<Arc<Claims>> {
        self.claims.read().clone()
    }

    /// Sets the claims, at the start or when the token is renewed.
    pub fn set_claims(&self, claims: Arc<Claims>) {
        *self.claims.write() = Some(claims);
    }

    pub fn heard(&self) {
        self.heard.store(self.age_ms(Instant::now()), Ordering::Relaxed);
    }

    fn age_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.opened).as_millis() as u64
    }

    /// Asks the connection to end. Its own task ends it, with [`Connection::say_goodbye`].
    pub fn close(&self, code: CloseCode, retry_after: Option<Duration>, metrics: &Metrics) {
        if self.farewell.set(Farewell { code, retry_after, since: Instant::now() }).is_ok() {
            metrics.closed(code);
            self.ending.cancel();
        }
    }

    /// Returns the code with which the connection was asked to end.
    pub fn farewell(&self) -> Option<CloseCode> {
        self.farewell.get().map(|farewell| farewell.code)
    }

    /// Queues the goodbye if the connection was asked to end, and closes the outbox.
    pub fn say_goodbye(&self) {
        if let Some(Farewell { code, retry_after, .. }) = self.farewell.get() {
            let retry_after_ms = retry_after.map(|after| after.as_millis() as u64);
            self.outbox.notice(encode::frame(self.encoding, &Frame::goodbye(*code, retry_after_ms)));
            self.outbox.notice(wire::close(code.number()));
        }
        self.outbox.close();
    }

    fn sweep(&self, now: Instant, now_ms: u64, metrics: &Metrics, writes: &mut Writes) {
        if let Some(farewell) = self.farewell.get() {
            // A WebSocket's own task does this. A request's task may be waiting for a client that does not
            // read.
            if self.transport != Transport::WebSocket && now > farewell.since + CUT_AFTER {
                self.outbox.abandon();
            }
            return;
        }
        let expires = self.claims.read().as_ref().map(|claims| claims.expires.saturating_mul(1000));
        let now = self.age_ms(now);
        let clock = Clock {
            now,
            heard: self.heard.load(Ordering::Relaxed),
            pinged: self.pinged.load(Ordering::Relaxed),
            expired: expires.map(|expires| now_ms > expires),
            blocked: self.transport != Transport::WebSocket || self.outbox.is_waiting(),
        };
        match due(clock) {
            Due::Nothing => {}
            Due::Ping => {
                self.pinged.store(now, Ordering::Relaxed);
                writes.notice(&self.outbox, wire::ping());
            }
            Due::Close(code) => self.close(code, None, metrics),
        }
    }
}

/// Registration guard: dropping it removes the connection.
pub struct Entered {
    registry: Arc<Registry>,
    connection: Arc<Connection>,
}

impl std::ops::Deref for Entered {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.registry.connections.lock().remove(&self.connection.id);
        self.registry.metrics.connections(self.connection.transport).decrement(1);
    }
}

pub struct Registry {
    connections: Mutex<HashMap<Uuid, Arc<Connection>>>,
    limit: usize,
    /// Set when all connections must end, including any that register at that moment.
    closing: OnceLock<CloseCode>,
    metrics: Arc<Metrics>,
}

impl Registry {
    /// Creates a registry of at most `limit` connections.
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        metrics.connection_limit.set(limit as f64);
        Self { connections: Mutex::default(), limit, closing: OnceLock::new(), metrics }
    }

    /// Registers a connection for as long as the returned guard lives. Returns `None` if the node is full.
    pub fn enter(
        this: &Arc<Self>,
        transport: Transport,
        encoding: Encoding,
        outbox: Arc<Outbox>,
        claims: Option<Arc<Claims>>,
    ) -> Option<Entered> {
        let connection = Arc::new(Connection {
            id: Uuid::new_v4(),
            transport,
            encoding,
            outbox,
            claims: RwLock::new(claims),
            opened: Instant::now(),
            heard: AtomicU64::new(0),
            pinged: AtomicU64::new(0),
            ending: CancellationToken::new(),
            farewell: OnceLock::new(),
        });
        let mut connections = this.connections.lock();
        if connections.len() >= this.limit {
            return None;
        }
        connections.insert(connection.id, connection.clone());
        this.metrics.opened(transport);
        if let Some(code) = this.closing.get() {
            connection.close(*code, Some(SOONEST_RETURN), &this.metrics);
        }
        Some(Entered { registry: this.clone(), connection })
    }

    /// Registers a request that waits: an event stream or a long poll.
    ///
    /// # Errors
    /// `too_many` if the node is full.
    pub fn enter_request(
        this: &Arc<Self>,
        transport: Transport,
        outbox: Arc<Outbox>,
        claims: &Arc<Claims>,
    ) -> Result<Entered, Failure> {
        let full = || Failure::new(ErrorCode::TooMany, "this node is full; try again later");
        Self::enter(this, transport, Encoding::Json, outbox, Some(claims.clone())).ok_or_else(full)
    }

    pub fn len(&self) -> usize {
        self.connections.lock().len()
    }

    /// Returns the number of bytes that wait for clients to read them.
    pub fn waiting_bytes(&self) -> usize {
        self.all().iter().map(|connection| connection.outbox.bytes()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the connections with a revoked token.
    pub fn close_revoked(&self, revocations: &Revocations) {
        for connection in self.all() {
            if connection.claims().is_some_and(|claims| revocations.is_revoked(&claims)) {
                connection.close(CloseCode::TokenRevoked, None, &self.metrics);
            }
        }
    }

    /// Closes all connections, and spreads the clients' return over some time, so that they do not all
    /// reconnect at once.
    pub fn close_all(&self, code: CloseCode) {
        let _the_first_reason_stands = self.closing.set(code);
        let all = self.all();
        let spread = spread(all.len());
        for (index, connection) in all.iter().enumerate() {
            let retry_after = SOONEST_RETURN + spread.mul_f64(index as f64 / all.len() as f64);
            connection.close(code, Some(retry_after), &self.metrics);
        }
    }

    /// Checks all connections periodically, until `stop`.
    pub async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (now, now_ms) = (Instant::now(), now_ms());
            // Many may be due at once, after a reconnect storm. Their pings are split among tasks.
            let mut writes = Writes::default();
            for connection in self.all() {
                connection.sweep(now, now_ms, &self.metrics, &mut writes);
            }
        }
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Clock = Clock { now: 0, heard: 0, pinged: 0, expired: Some(false), blocked: false };

    #[test]
    fn a_client_must_connect_in_time() {
        assert_eq!(due(Clock { now: 9_999, expired: None, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 10_000, expired: None, ..QUIET }), Due::Close(CloseCode::NoConnect));
    }

    #[test]
    fn a_ping_comes_every_25_s_and_wants_a_pong_within_10() {
        assert_eq!(due(Clock { now: 24_999, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 25_000, ..QUIET }), Due::Ping);
        assert_eq!(due(Clock { now: 34_999, pinged: 25_000, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 35_000, pinged: 25_000, ..QUIET }), Due::Close(CloseCode::NoPong));
        assert_eq!(due(Clock { now: 35_000, pinged: 25_000, heard: 25_100, ..QUIET }), Due::Nothing);
        assert_eq!(due(Clock { now: 50_000, pinged: 25_000, heard: 25_100, ..QUIET }), Due::Ping);
    }

    #[test]
    fn the_more_clients_are_sent_away_the_longer_they_take_to_come_back() {
        let seconds = [0, 1, 10_000, 20_000, 100_000].map(|clients| spread(clients).as_secs());
        assert_eq!(seconds, [5, 5, 5, 10, 50]);
    }

    #[test]
    fn a_client_that_reads_slowly_is_not_taken_for_dead() {
        assert_eq!(due(Clock { now: 90_000, pinged: 25_000, blocked: true, ..QUIET }), Due::Nothing);
    }

    #[test]
    fn a_token_ends_even_while_the_client_reads_slowly() {
        let late = Clock { now: 60_001, expired: Some(true), blocked: true, ..QUIET };
        assert_eq!(due(late), Due::Close(CloseCode::TokenExpired));
    }
}
