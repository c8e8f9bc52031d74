//! The connections of a node, WebSockets and waiting requests alike: a connection as its owner and the
//! registry see it, the registry of all, and their timers.

pub(crate) mod keepalive;
mod registry;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::keepalive::{Clock, Due, due};
pub(crate) use self::registry::{ConnectionGuard, Registry};
use crate::auth::Claims;
use crate::hub::send_queue::{SendQueue, WriteBatch};
use crate::protocol::frame::Frame;
use crate::protocol::{CloseCode, Encoding, ErrorCode, Failure, encode, wire};
use crate::telemetry::{Metrics, Transport};

/// Time for a client to read the remaining bytes and close too, after its connection was ended. Then it is
/// cut.
pub(crate) const CUT_AFTER: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Connection {
    pub id: Uuid,
    transport: Transport,
    encoding: Encoding,
    pub queue: Arc<SendQueue>,
    claims: RwLock<Option<Arc<Claims>>>,
    opened: Instant,
    /// Time of the last input, in milliseconds since it was opened.
    last_input: AtomicU64,
    /// Time of the last ping, in milliseconds since it was opened.
    pinged: AtomicU64,
    pub ending: CancellationToken,
    farewell: OnceLock<Farewell>,
}

#[derive(Debug, Clone, Copy)]
struct Farewell {
    code: CloseCode,
    retry_after: Option<Duration>,
    since: Instant,
}

impl Connection {
    fn new(
        transport: Transport,
        encoding: Encoding,
        queue: Arc<SendQueue>,
        claims: Option<Arc<Claims>>,
    ) -> Self {
        Self {
            id: Uuid::new_v4(),
            transport,
            encoding,
            queue,
            claims: RwLock::new(claims),
            opened: Instant::now(),
            last_input: AtomicU64::new(0),
            pinged: AtomicU64::new(0),
            ending: CancellationToken::new(),
            farewell: OnceLock::new(),
        }
    }

    pub fn claims(&self) -> Option<Arc<Claims>> {
        self.claims.read().clone()
    }

    pub fn set_claims(&self, claims: Arc<Claims>) {
        *self.claims.write() = Some(claims);
    }

    pub fn saw_input(&self) {
        self.last_input.store(self.age_ms(Instant::now()), Ordering::Relaxed);
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

    pub fn farewell(&self) -> Option<CloseCode> {
        self.farewell.get().map(|farewell| farewell.code)
    }

    /// Waits until the connection is asked to end.
    ///
    /// # Errors
    /// `token_expired` or `token_revoked` if that is the reason.
    pub async fn ended(&self) -> Result<(), Failure> {
        self.ending.cancelled().await;
        match self.farewell() {
            Some(CloseCode::TokenExpired) => {
                Err(Failure::new(ErrorCode::TokenExpired, "the token has expired"))
            }
            Some(CloseCode::TokenRevoked) => {
                Err(Failure::new(ErrorCode::TokenRevoked, "the token was revoked"))
            }
            _ => Ok(()),
        }
    }

    /// Queues the goodbye if the connection was asked to end, and closes the send queue.
    pub fn say_goodbye(&self) {
        if let Some(Farewell { code, retry_after, .. }) = self.farewell.get() {
            let retry_after_ms = retry_after.map(|after| after.as_millis() as u64);
            self.queue.notice(encode::frame(self.encoding, &Frame::goodbye(*code, retry_after_ms)));
            self.queue.notice(wire::close(code.number()));
        }
        self.queue.close();
    }

    fn sweep(&self, now: Instant, now_ms: u64, metrics: &Metrics, writes: &mut WriteBatch) {
        if let Some(farewell) = self.farewell.get() {
            // A WebSocket's own task does this. A request's task may be waiting for a client that does not
            // read.
            if self.transport != Transport::WebSocket && now > farewell.since + CUT_AFTER {
                self.queue.abandon();
            }
            return;
        }
        let expires = self.claims.read().as_ref().map(|claims| claims.expires.saturating_mul(1000));
        let now = self.age_ms(now);
        let clock = Clock {
            now,
            last_input: self.last_input.load(Ordering::Relaxed),
            pinged: self.pinged.load(Ordering::Relaxed),
            expired: expires.map(|expires| now_ms > expires),
            blocked: self.transport != Transport::WebSocket || self.queue.is_waiting(),
        };
        match due(clock) {
            Due::Nothing => {}
            Due::Ping => {
                self.pinged.store(now, Ordering::Relaxed);
                writes.notice(&self.queue, wire::ping());
            }
            Due::Close(code) => self.close(code, None, metrics),
        }
    }
}

#[cfg(test)]
mod tests;
