//! Signs of life in Redis: of the node, and of the leases that its connections hold.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::redis::Store;
use crate::service::subscriptions::Subscriptions;

/// Interval of the node's liveness marks, and the time that each is valid.
const LIFE_SIGN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));

const RENEWAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

pub(crate) async fn show_life(store: Arc<Store>, node: String, stop: CancellationToken) {
    let (interval, expiry) = LIFE_SIGN;
    loop {
        let _ = store.node_lives(&node, expiry).await; // The next mark follows soon.
        if !pause(&stop, interval).await {
            return;
        }
    }
}

/// Renews the leases of this node, until `stop`. A durable subscription that is unused for `ttl` expires.
pub(crate) async fn renew_leases(subscriptions: Arc<Subscriptions>, ttl: Duration, stop: CancellationToken) {
    let interval = (ttl / 4).clamp(RENEWAL.0, RENEWAL.1);
    while pause(&stop, interval).await {
        subscriptions.renew_leases().await;
    }
}
