//! Applies the revocations of all nodes on this one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::log::Unavailable;
use crate::service::access::Access;

/// Polling interval. Every node must apply a revocation within 2 s.
const INTERVAL: Duration = Duration::from_millis(500);

/// Reads the revocations until all are known. Call it before anybody can connect: a revoked token must never
/// be accepted, not even briefly.
pub(crate) async fn read_all(access: &Access) {
    while access.read_revocations().await == Err(Unavailable) {
        tokio::time::sleep(INTERVAL).await;
    }
}

pub(crate) async fn follow(access: Arc<Access>, stop: CancellationToken) {
    while pause(&stop, INTERVAL).await {
        if access.read_revocations().await == Err(Unavailable) {
            tracing::debug!("revocations cannot be read; trying again");
        }
    }
}
