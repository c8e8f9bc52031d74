//! The periodic tasks of a node, until it stops.

use std::sync::Arc;
use std::time::Duration;

use super::{Node, REVOCATIONS_INTERVAL};
use crate::janitor;
use crate::log::Unavailable;
use crate::redis::durability::{self, Finding, Severity};
use crate::redis::embedded::Embedded;
use crate::time::now_s;

/// Interval of the node's liveness marks, and the time that each is valid.
const LIFE_SIGN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));

/// Minimum and maximum interval at which the node marks the durable subscriptions of its connections as used.
const RENEWAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// Interval at which metrics are drained and polled figures are read.
const UPKEEP: Duration = Duration::from_secs(5);

/// Interval at which Redis's memory is measured.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

/// Sampling interval of the scheduling delay of tasks.
const DELAY_SAMPLES: Duration = Duration::from_millis(250);

/// Number of upkeep rounds after which Redis's configuration is read again: once a minute, and after a
/// reconnect.
const INSPECTION_ROUNDS: u32 = 12;

impl Node {
    pub(super) fn run_tasks(self: &Arc<Self>, revocations_read: String) {
        let stop = &self.stop;
        let mut tasks = self.tasks.lock();
        tasks.push(tokio::spawn(self.registry.clone().sweep(stop.clone())));
        tasks.push(tokio::spawn(self.verifier.clone().refresh_loop(stop.clone())));
        tasks.push(tokio::spawn(self.clone().follow_revocations(revocations_read)));
        tasks.push(tokio::spawn(self.clone().show_life()));
        tasks.push(tokio::spawn(self.clone().renew_held()));
        tasks.push(tokio::spawn(self.clone().keep_up()));
        tasks.push(tokio::spawn(self.canary.clone().run(stop.clone())));
        tasks.push(tokio::spawn(self.clone().measure_delay()));
        tasks.push(tokio::spawn(self.clone().watch_memory()));
        tasks.push(tokio::spawn(janitor::run(self.clone(), stop.clone())));
    }

    async fn follow_revocations(self: Arc<Self>, mut position: String) {
        while !self.stop.is_cancelled() {
            if self.read_revocations(&mut position).await == Err(Unavailable) {
                tracing::debug!("revocations cannot be read; trying again");
            }
            if self.revocations.read().is_due(now_s()) {
                self.revocations.write().expire(now_s());
            }
            self.pause(REVOCATIONS_INTERVAL).await;
        }
    }

    async fn show_life(self: Arc<Self>) {
        let (interval, expiry) = LIFE_SIGN;
        while !self.stop.is_cancelled() {
            let _shown_again_soon = self.store.node_lives(&self.id, expiry).await;
            self.pause(interval).await;
        }
    }

    async fn renew_held(self: Arc<Self>) {
        let interval = RENEWAL.0.max(RENEWAL.1.min(self.config.retention.subscription_ttl / 4));
        while !self.stop.is_cancelled() {
            self.pause(interval).await;
            self.held.renew(&self.store).await;
        }
    }

    async fn keep_up(self: Arc<Self>) {
        let (mut restarts, mut rounds, mut connections) = (0, 0u32, 0);
        while !self.stop.is_cancelled() {
            self.metrics.upkeep();
            self.metrics.redis_up.set(f64::from(u8::from(self.store.ping().await)));
            if let Some(state) = self.embedded.lock().as_ref().map(Embedded::state) {
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
            self.pause(UPKEEP).await;
        }
    }

    /// Watches for Redis's memory to become full.
    async fn watch_memory(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            if let Ok(full) = self.store.measure_memory().await {
                self.metrics.redis_full.set(f64::from(u8::from(full)));
            }
            self.pause(MEMORY_INTERVAL).await;
        }
    }

    /// Measures the scheduling delay of the runtime: how late a periodic task wakes up.
    async fn measure_delay(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            let due = tokio::time::Instant::now() + DELAY_SAMPLES;
            tokio::time::sleep_until(due).await;
            self.metrics.task_delay.record(due.elapsed());
        }
    }

    /// Reads Redis's configuration, and logs where it is less than configured.
    pub(super) async fn inspect_redis(&self, say: bool) {
        let Ok(servers) = self.store.server_facts().await else { return };
        let wanted = self.config.durability();
        let findings = servers.iter().map(|facts| (durability::findings(facts, wanted), facts));
        let gravest = |findings: &[Finding]| findings.iter().map(|finding| finding.severity).max();
        // A message is only as safe as on the worst primary.
        let Some((findings, facts)) = findings.max_by_key(|(findings, _)| gravest(findings)) else { return };
        let in_force = durability::in_force(facts);
        let mut as_wanted = true;
        for Finding { severity, what, consequence, fix } in findings {
            as_wanted &= severity < Severity::Danger;
            if say && severity > Severity::Fine {
                tracing::warn!("{what}: {consequence}. Fix it with: {fix}");
            }
        }
        if say {
            tracing::info!("durability asked for: {wanted}; in force: {in_force}");
        }
        self.metrics.durability.set(f64::from(u8::from(as_wanted)));
        *self.durability.write() = in_force;
    }

    pub(super) async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }
}
