//! The health of a node, as shown to operators: readiness, the durability in force, metrics.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::probe::Probes;
use crate::connections::Registry;
use crate::protocol::{ErrorCode, Failure};
use crate::telemetry::Metrics;

pub struct Health {
    probes: Arc<Probes>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
    pub(super) durability: RwLock<String>,
}

impl Health {
    pub fn new(
        probes: Arc<Probes>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        draining: CancellationToken,
    ) -> Self {
        Self { probes, registry, metrics, draining, durability: RwLock::default() }
    }

    /// Returns the durability in force if clients may be sent here: the node's own probes return, and it is
    /// not shutting down.
    ///
    /// # Errors
    /// `unavailable`, with the reason.
    pub fn ready(&self) -> Result<String, Failure> {
        if self.draining.is_cancelled() {
            return Err(Failure::new(ErrorCode::Unavailable, "the server is shutting down"));
        }
        if !self.probes.are_well() {
            let message =
                "no probe of this node has returned through Redis for 10 seconds; see roomlog_canaries_total";
            return Err(Failure::new(ErrorCode::Unavailable, message));
        }
        Ok(self.durability.read().clone())
    }

    /// Renders the metrics in Prometheus's text format. It depends on nothing outside this process, so it
    /// works during any failure.
    pub fn render_metrics(&self) -> String {
        self.metrics.ready.set(f64::from(u8::from(self.ready().is_ok())));
        self.metrics.outbox_bytes.set(self.registry.waiting_bytes() as f64);
        self.metrics.render()
    }
}
