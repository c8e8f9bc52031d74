//! Upkeep of the metrics that are polled, and of the knowledge about Redis: whether it answers, its memory,
//! its configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::pause;
use crate::log::Durability;
use crate::redis::Store;
use crate::redis::durability::{Finding, Severity, findings, in_force};
use crate::redis::embedded::EmbeddedState;
use crate::telemetry::Metrics;

const UPKEEP: Duration = Duration::from_secs(5);

const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

const DELAY_SAMPLES: Duration = Duration::from_millis(250);

/// Number of upkeep rounds after which Redis's configuration is read again: once a minute, and after a
/// reconnect.
const INSPECTION_ROUNDS: u32 = 12;

pub(crate) struct Upkeep {
    store: Arc<Store>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    embedded: Option<EmbeddedState>,
    wanted: Durability,
}

impl Upkeep {
    pub(crate) fn new(
        store: Arc<Store>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        embedded: Option<EmbeddedState>,
        wanted: Durability,
    ) -> Self {
        Self { store, health, metrics, embedded, wanted }
    }

    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (mut restarts, mut rounds, mut connections) = (0, 0u32, 0);
        loop {
            self.metrics.upkeep();
            self.metrics.redis_up.set(f64::from(u8::from(self.store.ping().await)));
            if let Some(state) = &self.embedded {
                self.metrics.embedded_up.set(f64::from(u8::from(state.is_up())));
                self.metrics.embedded_restarts.increment(state.restarts() - restarts);
                restarts = state.restarts();
            }
            rounds += 1;
            // At once after a reconnect: the server may be another one after a failover, or have other
            // settings.
            let made = self.store.shards().connections_made();
            if made != connections || rounds.is_multiple_of(INSPECTION_ROUNDS) {
                connections = made;
                self.inspect_redis(false).await;
            }
            if !pause(&stop, UPKEEP).await {
                return;
            }
        }
    }

    /// Reads Redis's configuration. With `say`, logs where it is less durable than configured.
    pub(crate) async fn inspect_redis(&self, say: bool) {
        let Ok(servers) = self.store.server_facts().await else { return };
        let findings = servers.iter().map(|facts| (findings(facts, self.wanted), facts));
        let gravest = |findings: &[Finding]| findings.iter().map(|finding| finding.severity).max();
        // A message is only as safe as on the worst primary.
        let Some((findings, facts)) = findings.max_by_key(|(findings, _)| gravest(findings)) else { return };
        let in_force = in_force(facts);
        let mut as_wanted = true;
        for Finding { severity, what, consequence, fix } in findings {
            as_wanted &= severity < Severity::Danger;
            if say && severity > Severity::Fine {
                tracing::warn!("{what}: {consequence}. Fix it with: {fix}");
            }
        }
        if say {
            tracing::info!("durability requested: {}; in force: {in_force}", self.wanted);
        }
        self.metrics.durability.set(f64::from(u8::from(as_wanted)));
        *self.health.durability.write() = in_force;
    }
}

pub(crate) async fn watch_memory(store: Arc<Store>, metrics: Arc<Metrics>, stop: CancellationToken) {
    loop {
        if let Ok(full) = store.measure_memory().await {
            metrics.redis_full.set(f64::from(u8::from(full)));
        }
        if !pause(&stop, MEMORY_INTERVAL).await {
            return;
        }
    }
}

pub(crate) async fn measure_delay(metrics: Arc<Metrics>, stop: CancellationToken) {
    loop {
        let due = tokio::time::Instant::now() + DELAY_SAMPLES;
        if !pause(&stop, DELAY_SAMPLES).await {
            return;
        }
        metrics.task_delay.record(due.elapsed());
    }
}
