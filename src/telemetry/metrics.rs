//! The metrics of one server. Not a global: two servers in one process count apart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::names::{CatchUpReason, Hole, Kind, Name, Outcome, Path, Queue, RedisCall, Transport};
use crate::protocol::CloseCode;
use crate::protocol::frame::GapReason;

/// Metrics as all parts of a server share them.
pub type Shared = Arc<Metrics>;

/// Upper bounds of the durations' buckets, in seconds: from what a local Redis takes to what a client gives up after.
const BUCKETS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// A handle for each metric, or for each value of its label.
#[allow(missing_docs)] // Each is documented by its `Name`.
pub struct Metrics {
    handle: PrometheusHandle,
    connections: Vec<Gauge>,
    closed: Vec<Counter>,
    publishes: Vec<Counter>,
    pub publish_seconds: Histogram,
    deliveries: Vec<Counter>,
    pub delivery_seconds: Histogram,
    pub signals: Counter,
    pub acks: Counter,
    pub ack_writes: Counter,
    catch_ups: Vec<Counter>,
    gaps: Vec<Counter>,
    holes: Vec<Counter>,
    pub subscriptions: Gauge,
    pub catching_up: Gauge,
    pub rooms: Gauge,
    pub ring_bytes: Gauge,
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    pub queued: Gauge,
    pub queued_bytes: Gauge,
    full_queues: Vec<Counter>,
    redis_calls: Vec<[Counter; 2]>,
    redis_seconds: Vec<Histogram>,
    pub lag: Gauge,
    pub trimmed: Counter,
    pub overrun: Counter,
    pub janitor: Gauge,
    pub redis_up: Gauge,
    pub durability: Gauge,
    pub embedded_up: Gauge,
    pub embedded_restarts: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let builder = PrometheusBuilder::new();
        let builder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
            .unwrap_or_else(|_no_buckets| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        for name in Name::ALL {
            let (key, help) = (KeyName::from(name.as_str()), name.help().into());
            match name.kind() {
                Kind::Counter => recorder.describe_counter(key, None, help),
                Kind::Gauge => recorder.describe_gauge(key, None, help),
                Kind::Histogram => recorder.describe_histogram(key, None, help),
            }
        }
        let make = Make(&recorder);
        Self {
            connections: Transport::ALL
                .iter()
                .map(|transport| make.gauge(Name::Connections, &[("transport", transport.as_str())]))
                .collect(),
            closed: CloseCode::ALL
                .iter()
                .map(|code| make.counter(Name::Closed, &[("code", code.as_str())]))
                .collect(),
            publishes: Outcome::ALL
                .iter()
                .map(|outcome| make.counter(Name::Publishes, &[("outcome", outcome.as_str())]))
                .collect(),
            publish_seconds: make.histogram(Name::PublishSeconds, &[]),
            deliveries: Path::ALL
                .iter()
                .map(|path| make.counter(Name::Deliveries, &[("path", path.as_str())]))
                .collect(),
            delivery_seconds: make.histogram(Name::DeliverySeconds, &[]),
            signals: make.counter(Name::Signals, &[]),
            acks: make.counter(Name::Acks, &[]),
            ack_writes: make.counter(Name::AckWrites, &[]),
            catch_ups: CatchUpReason::ALL
                .iter()
                .map(|reason| make.counter(Name::CatchUps, &[("reason", reason.as_str())]))
                .collect(),
            gaps: ["trimmed", "rewound"].map(|reason| make.counter(Name::Gaps, &[("reason", reason)])).into(),
            holes: Hole::ALL
                .iter()
                .map(|hole| make.counter(Name::Holes, &[("found_by", hole.as_str())]))
                .collect(),
            subscriptions: make.gauge(Name::Subscriptions, &[]),
            catching_up: make.gauge(Name::CatchingUp, &[]),
            rooms: make.gauge(Name::Rooms, &[]),
            ring_bytes: make.gauge(Name::RingBytes, &[]),
            sent_bytes: make.counter(Name::SentBytes, &[]),
            received_bytes: make.counter(Name::ReceivedBytes, &[]),
            queued: make.gauge(Name::Queued, &[]),
            queued_bytes: make.gauge(Name::QueuedBytes, &[]),
            full_queues: Queue::ALL
                .iter()
                .map(|queue| make.counter(Name::FullQueues, &[("queue", queue.as_str())]))
                .collect(),
            redis_calls: RedisCall::ALL
                .iter()
                .map(|call| {
                    ["ok", "failed"].map(|outcome| {
                        make.counter(Name::RedisCalls, &[("call", call.as_str()), ("outcome", outcome)])
                    })
                })
                .collect(),
            redis_seconds: RedisCall::ALL
                .iter()
                .map(|call| make.histogram(Name::RedisSeconds, &[("call", call.as_str())]))
                .collect(),
            lag: make.gauge(Name::Lag, &[]),
            trimmed: make.counter(Name::Trimmed, &[]),
            overrun: make.counter(Name::Overrun, &[]),
            janitor: make.gauge(Name::Janitor, &[]),
            redis_up: make.gauge(Name::Ready, &[]),
            durability: make.gauge(Name::Durability, &[]),
            embedded_up: make.gauge(Name::EmbeddedUp, &[]),
            embedded_restarts: make.counter(Name::EmbeddedRestarts, &[]),
            handle: recorder.handle(),
        }
    }
}

impl Metrics {
    /// Everything as Prometheus reads it.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds what was recorded into the buckets; to be called every few seconds, since it is kept one by one until then.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The connections of a transport.
    pub fn connections(&self, transport: Transport) -> &Gauge {
        &self.connections[transport as usize]
    }

    /// A connection was closed by the server.
    pub fn closed(&self, code: CloseCode) {
        self.closed[code as usize].increment(1);
    }

    /// A publish came to its end.
    pub fn published(&self, outcome: Outcome, started: Instant) {
        self.publishes[outcome as usize].increment(1);
        self.publish_seconds.record(started.elapsed());
    }

    /// Messages were handed to subscribers.
    pub fn delivered(&self, path: Path, messages: usize) {
        self.deliveries[path as usize].increment(messages as u64);
    }

    /// A subscription began to catch up.
    pub fn catch_up(&self, reason: CatchUpReason) {
        self.catch_ups[reason as usize].increment(1);
    }

    /// A subscriber was told of a gap.
    pub fn gap(&self, reason: GapReason) {
        self.gaps[reason as usize].increment(1);
    }

    /// A hole was found in what the bell brought.
    pub fn hole(&self, found_by: Hole) {
        self.holes[found_by as usize].increment(1);
    }

    /// A bounded queue was full.
    pub fn full(&self, queue: Queue) {
        self.full_queues[queue as usize].increment(1);
    }

    /// A command to Redis ended.
    pub fn redis_call(&self, call: RedisCall, elapsed: Duration, ok: bool) {
        self.redis_calls[call as usize][usize::from(!ok)].increment(1);
        self.redis_seconds[call as usize].record(elapsed);
    }
}

struct Make<'a>(&'a PrometheusRecorder);

impl Make<'_> {
    fn counter(&self, name: Name, labels: &[(&'static str, &'static str)]) -> Counter {
        self.0.register_counter(&key(name, labels), &METADATA)
    }

    fn gauge(&self, name: Name, labels: &[(&'static str, &'static str)]) -> Gauge {
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    fn histogram(&self, name: Name, labels: &[(&'static str, &'static str)]) -> Histogram {
        self.0.register_histogram(&key(name, labels), &METADATA)
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(name: Name, labels: &[(&'static str, &'static str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::from_static_parts(name, value)).collect();
    Key::from_parts(name.as_str(), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_rendered_from_the_start() {
        let metrics = Metrics::default();
        metrics.gap(GapReason::Rewound);
        metrics.redis_call(RedisCall::Append, Duration::from_millis(3), false);
        metrics.publish_seconds.record(0.1);
        metrics.delivery_seconds.record(0.1);
        let text = metrics.render();
        for name in Name::ALL {
            assert!(text.contains(&format!("# HELP {} ", name.as_str())), "{}", name.as_str());
        }
        assert!(text.contains("roomlog_gaps_total{reason=\"rewound\"} 1"));
        assert!(text.contains("roomlog_redis_calls_total{call=\"append\",outcome=\"failed\"} 1"));
    }
}
