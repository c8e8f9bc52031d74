//! The number of a connection's publishes that wait for Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A bounded counter of operations in progress.
#[derive(Debug)]
pub struct InFlight {
    count: AtomicUsize,
    limit: usize,
    landed: Notify,
}

/// A permit for one operation, released on drop.
#[derive(Debug)]
pub struct Landing(Arc<InFlight>);

impl InFlight {
    pub fn new(limit: usize) -> Self {
        Self { count: AtomicUsize::new(0), limit, landed: Notify::new() }
    }

    /// Counts one more operation. Does not wait.
    pub fn take_off(self: &Arc<Self>) -> Landing {
        self.count.fetch_add(1, Ordering::AcqRel);
        Landing(self.clone())
    }

    /// Returns whether the limit is reached.
    pub fn is_full(&self) -> bool {
        self.count.load(Ordering::Acquire) >= self.limit
    }

    /// Returns whether no operation is in progress.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits until the count is below the limit.
    pub async fn has_room(&self) {
        self.at_most(self.limit.saturating_sub(1)).await;
    }

    /// Waits until no operation is in progress.
    pub async fn drained(&self) {
        self.at_most(0).await;
    }

    async fn at_most(&self, count: usize) {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            landed.as_mut().enable();
            if self.count.load(Ordering::Acquire) <= count {
                return;
            }
            landed.await;
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.landed.notify_waiters();
    }
}
