//! One WebSocket connection: `connection` reads and ends it, `handshake` turns it into a [`Session`], and
//! `ops` maps each request to a service and an answer. Requests go in, frames come out of the send queue.

mod backlog;
pub(crate) mod connection;
mod handshake;
pub(crate) mod inbox;
mod ops;
mod socket;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use self::handshake::Unauthenticated;
use crate::auth::Claims;
use crate::config::LimitsConfig;
use crate::connections::{Connection, Registry};
use crate::hub::send_queue::Permit;
use crate::protocol::{CloseCode, Encoding, Failure, RoomName};
use crate::service::Services;
use crate::service::subscriptions::Open;
use crate::telemetry::Metrics;

const RELEASES_AT_ONCE: usize = 64;

pub struct Shared {
    pub node: String,
    pub services: Arc<Services>,
    pub registry: Arc<Registry>,
    pub limits: LimitsConfig,
    pub metrics: Arc<Metrics>,
    /// Cancelled when the node accepts no more connections.
    pub draining: CancellationToken,
}

/// The session of an authenticated client.
///
/// Requests take effect in the order sent. Publishes continue while the next request is read, since the
/// appender keeps their order. Any other request waits until they have been answered.
pub(crate) struct Session {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    claims: Arc<Claims>,
    encoding: Encoding,
    subscriptions: HashMap<RoomName, Open>,
    /// Number of leases so far, which distinguishes this connection's holders.
    leases: u64,
    in_flight: Arc<Semaphore>,
    /// Consecutive requests above the rate.
    refusals: u32,
    /// For the answer to the frame that is being handled.
    permit: Option<Permit>,
    /// Set if this connection has sent `read`. Publishing then reads up to its own message.
    reads: bool,
}

/// A failed request: reported to the client, or fatal to the connection.
enum Refusal {
    Failed(Failure),
    Closes(Failure, CloseCode),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Arc<Connection>,
        claims: Arc<Claims>,
        encoding: Encoding,
    ) -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(shared.limits.publishes_in_flight)),
            shared,
            connection,
            claims,
            encoding,
            subscriptions: HashMap::new(),
            leases: 0,
            refusals: 0,
            permit: None,
            reads: false,
        }
    }

    /// Ends the session. Its publishes are answered, its subscriptions end, its acknowledgements are written,
    /// and its leases are given up.
    pub(crate) async fn end(mut self) {
        self.settled().await;
        let subscriptions = std::mem::take(&mut self.subscriptions);
        let release = async |subscription: Open| {
            let _ = subscription.release().await; // There is no client left to notify.
        };
        stream::iter(subscriptions.into_values()).for_each_concurrent(RELEASES_AT_ONCE, release).await;
    }

    async fn settled(&self) {
        let all = u32::try_from(self.shared.limits.publishes_in_flight).unwrap_or(u32::MAX);
        let _ = self.in_flight.acquire_many(all).await; // The permits are returned at once.
    }

    fn is_settled(&self) -> bool {
        self.in_flight.available_permits() == self.shared.limits.publishes_in_flight
    }
}

#[cfg(test)]
mod tests;
