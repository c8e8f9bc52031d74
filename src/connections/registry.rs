//! The registry of all connections of a node. One sweep covers their timers, instead of timers for each.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Connection;
use super::keepalive::spread;
use crate::auth::{Claims, Revocations};
use crate::hub::send_queue::{SendQueue, WriteBatch};
use crate::protocol::{CloseCode, Encoding, ErrorCode, Failure};
use crate::telemetry::{Metrics, Transport};
use crate::util::time::now_ms;

/// Delay before the first of many dismissed clients is asked to return.
const SOONEST_RETURN: Duration = Duration::from_millis(250);

const SWEEP: Duration = Duration::from_millis(500);

/// Registration guard: dropping it removes the connection.
pub struct ConnectionGuard {
    registry: Arc<Registry>,
    connection: Arc<Connection>,
}

impl std::ops::Deref for ConnectionGuard {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for ConnectionGuard {
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
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        metrics.connection_limit.set(limit as f64);
        Self { connections: Mutex::default(), limit, closing: OnceLock::new(), metrics }
    }

    /// Registers a connection for as long as the returned guard lives. Returns `None` if the node is full.
    pub fn enter(
        this: &Arc<Self>,
        transport: Transport,
        encoding: Encoding,
        queue: Arc<SendQueue>,
        claims: Option<Arc<Claims>>,
    ) -> Option<ConnectionGuard> {
        let connection = Arc::new(Connection::new(transport, encoding, queue, claims));
        let mut connections = this.connections.lock();
        if connections.len() >= this.limit {
            return None;
        }
        connections.insert(connection.id, connection.clone());
        this.metrics.opened(transport);
        if let Some(code) = this.closing.get() {
            connection.close(*code, Some(SOONEST_RETURN), &this.metrics);
        }
        Some(ConnectionGuard { registry: this.clone(), connection })
    }

    /// Registers a request that waits: an event stream or a long poll.
    ///
    /// # Errors
    /// `too_many` if the node is full.
    pub fn enter_request(
        this: &Arc<Self>,
        transport: Transport,
        queue: Arc<SendQueue>,
        claims: &Arc<Claims>,
    ) -> Result<ConnectionGuard, Failure> {
        let full = || Failure::new(ErrorCode::TooMany, "this node is full; try again later");
        Self::enter(this, transport, Encoding::Json, queue, Some(claims.clone())).ok_or_else(full)
    }

    pub fn len(&self) -> usize {
        self.connections.lock().len()
    }

    pub fn waiting_bytes(&self) -> usize {
        self.all().iter().map(|connection| connection.queue.bytes()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

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
        let _ = self.closing.set(code); // The first reason stands.
        let all = self.all();
        let spread = spread(all.len());
        for (index, connection) in all.iter().enumerate() {
            let retry_after = SOONEST_RETURN + spread.mul_f64(index as f64 / all.len() as f64);
            connection.close(code, Some(retry_after), &self.metrics);
        }
    }

    pub async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (now, now_ms) = (Instant::now(), now_ms());
            // Many may be due at once, after a reconnect storm. Their pings are split among tasks.
            let mut writes = WriteBatch::default();
            for connection in self.all() {
                connection.sweep(now, now_ms, &self.metrics, &mut writes);
            }
        }
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().values().cloned().collect()
    }
}
