//! The key figures of a server, computed from two readings of its metrics, and those of all servers together.

use super::samples::{Buckets, Samples};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Ready,
    /// Messages do not get through, or the server is shutting down.
    NotReady,
    Unreachable(String),
}

/// The figures of one server. Rates are per second since the previous reading, and unknown at the first.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The fields are named after the metrics.
pub struct Figures {
    pub node: String,
    pub state: State,
    pub connections: f64,
    pub subscriptions: f64,
    pub catching_up: f64,
    pub published: Option<f64>,
    pub refused: Option<f64>,
    pub delivered: Option<f64>,
    pub publish: Buckets,
    pub delivery: Buckets,
    pub probe: Buckets,
    /// In cores.
    pub cpu: Option<f64>,
    pub memory: f64,
    pub rewinds: f64,
    pub gaps: f64,
    pub overrun: f64,
    pub lag: f64,
    pub unacknowledged: f64,
    pub durable_as_wanted: bool,
}

impl Figures {
    pub fn unreachable(node: String, reason: &str) -> Self {
        let nothing = Self::of(node, &Samples::default(), None);
        Self { state: State::Unreachable(reason.to_owned()), durable_as_wanted: true, ..nothing }
    }

    /// Computes figures from a reading, and from its difference to the previous one, which is given with its
    /// age in seconds.
    pub fn of(node: String, now: &Samples, before: Option<(&Samples, f64)>) -> Self {
        let rate = |name: &str, label: Option<(&str, &str)>| {
            let (before, seconds) = before.filter(|(_, seconds)| *seconds > 0.0)?;
            // A restarted server counts from 0.
            Some((now.sum(name, label) - before.sum(name, label)).max(0.0) / seconds)
        };
        let spread = |name: &str| {
            let all = now.buckets(name);
            before.map_or(all.clone(), |(before, _)| all.since(&before.buckets(name)))
        };
        let is = |name: &str| now.sum(name, None) >= 1.0;
        let gaps = |reason| now.sum("roomlog_gaps_total", Some(("reason", reason)));
        Self {
            node,
            state: if is("roomlog_ready") { State::Ready } else { State::NotReady },
            connections: now.sum("roomlog_connections", None),
            subscriptions: now.sum("roomlog_subscriptions", None),
            catching_up: now.sum("roomlog_subscriptions_catching_up", None),
            published: rate("roomlog_publishes_total", Some(("outcome", "stored"))),
            refused: rate("roomlog_publishes_total", Some(("outcome", "unavailable"))),
            delivered: rate("roomlog_deliveries_total", None),
            publish: spread("roomlog_publish_seconds"),
            delivery: spread("roomlog_delivery_seconds"),
            probe: spread("roomlog_canary_seconds"),
            cpu: rate("process_cpu_seconds_total", None),
            memory: now.sum("process_resident_memory_bytes", None),
            rewinds: gaps("rewound"),
            gaps: gaps("trimmed"),
            overrun: now.sum("roomlog_trimmed_unacknowledged_total", None),
            lag: now.max("roomlog_subscription_lag_messages"),
            unacknowledged: now.max("roomlog_oldest_unacknowledged_seconds"),
            durable_as_wanted: is("roomlog_durability_as_wanted"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    pub nodes: Vec<Figures>,
    /// Sums, merged distributions, and the worst of values that cannot be summed.
    pub all: Figures,
}

impl Overview {
    pub fn of(nodes: Vec<Figures>) -> Self {
        let mut all = Figures::unreachable("all".into(), "");
        let add = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or_default() + b.unwrap_or_default()),
        };
        for node in &nodes {
            all = Figures {
                connections: all.connections + node.connections,
                subscriptions: all.subscriptions + node.subscriptions,
                catching_up: all.catching_up + node.catching_up,
                published: add(all.published, node.published),
                refused: add(all.refused, node.refused),
                delivered: add(all.delivered, node.delivered),
                publish: all.publish.plus(&node.publish),
                delivery: all.delivery.plus(&node.delivery),
                probe: all.probe.plus(&node.probe),
                cpu: add(all.cpu, node.cpu),
                memory: all.memory + node.memory,
                rewinds: all.rewinds + node.rewinds,
                gaps: all.gaps + node.gaps,
                overrun: all.overrun + node.overrun,
                lag: all.lag.max(node.lag),
                unacknowledged: all.unacknowledged.max(node.unacknowledged),
                durable_as_wanted: all.durable_as_wanted && node.durable_as_wanted,
                ..all
            };
        }
        Self { nodes, all }
    }

    pub fn ready(&self) -> usize {
        self.nodes.iter().filter(|node| node.state == State::Ready).count()
    }
}
