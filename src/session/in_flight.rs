//! How many publishes of a connection wait for Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts what is on its way.
#[derive(Debug)]
pub struct InFlight {
    count: AtomicUsize,
    limit: usize,
    landed: Notify,
}

/// One thing on its way; it has landed when this is dropped.
#[derive(Debug)]
pub struct Landing(Arc<InFlight>);

impl InFlight {
    /// A count with a bound.
    pub fn new(limit: usize) -> Self {
        Self { count: AtomicUsize::new(0), limit, landed: Notify::new() }
    }

    /// One more is on its way.
    pub fn take_off(self: &Arc<Self>) -> Landing {
        self.count.fetch_add(1, Ordering::AcqRel);
        Landing(self.clone())
    }

    /// Whether the bound is reached.
    pub fn is_full(&self) -> bool {
        self.count.load(Ordering::Acquire) >= self.limit
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits until the bound is not reached.
    pub async fn has_room(&self) {
        self.at_most(self.limit.saturating_sub(1)).await;
    }

    /// Waits until nothing is on its way.
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
