//! The metrics of one server. They are not global: two servers in one process count separately.

use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::class::{Class, Classes};
use super::logs;
use super::names::{
    CanaryOutcome, CatchUpReason, Direction, Hole, Kind, Name, Outcome, Path, Queue, RedisCall, Success,
    Switch, Transport,
};
use super::process::Process;
use super::traces::{Timed, Traces};
use crate::config::RoomPolicies;
use crate::protocol::frame::GapReason;
use crate::protocol::{CloseCode, RoomName};
use crate::util::time::now_ms;

/// Upper bounds of the duration buckets, in seconds: from the time of a local Redis to a client's time-out.
const BUCKETS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Finer buckets, for latencies that people notice: a quantile is accurate to a third of its value.
const FINE_BUCKETS: [f64; 28] = [
    0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05,
    0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0,
];

const FINE: [Name; 4] = [Name::PublishSeconds, Name::DeliverySeconds, Name::CanarySeconds, Name::TaskDelay];

#[allow(missing_docs)] // Each is documented by its `Name`.
pub struct Metrics {
    pub traces: Option<Traces>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Process,
    classes: Classes,
    by_class: Vec<OfClass>,
    pub ready: Gauge,
    canaries: Vec<Counter>,
    pub canary_seconds: Histogram,
    connections: Vec<Gauge>,
    pub connection_limit: Gauge,
    pub sockets: Gauge,
    opened: Vec<Counter>,
    closed: Vec<Counter>,
    pub signals: Counter,
    pub acks: Counter,
    pub ack_writes: Counter,
    pub reads: Counter,
    pub read_writes: Counter,
    catch_ups: Vec<Counter>,
    holes: Vec<Counter>,
    pub subscriptions: Gauge,
    pub catching_up: Gauge,
    pub rooms: Gauge,
    pub ring_bytes: Gauge,
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    pub queued: Gauge,
    pub queued_bytes: Gauge,
    pub outbox_bytes: Gauge,
    full_queues: Vec<Counter>,
    redis_calls: Vec<[Counter; 2]>,
    redis_seconds: Vec<Histogram>,
    pub janitor: Gauge,
    pub retention_held: Gauge,
    pub redis_up: Gauge,
    pub primaries: Gauge,
    pub primaries_well: Gauge,
    pub redis_full: Gauge,
    pub durability: Gauge,
    pub embedded_up: Gauge,
    pub embedded_restarts: Counter,
    key_sets: Vec<Counter>,
    pub task_delay: Histogram,
}

#[allow(missing_docs)]
pub struct OfClass {
    publishes: Vec<Counter>,
    publish_seconds: Histogram,
    deliveries: Vec<Counter>,
    delivery_seconds: Histogram,
    gaps: Vec<Counter>,
    pub lag: Gauge,
    pub unacknowledged: Gauge,
    pub trimmed: Counter,
    pub overrun: Counter,
}

impl OfClass {
    fn new(make: &Make<'_>, class: &str) -> Self {
        let each = |name: Name, label: &'static str, values: Vec<&'static str>| -> Vec<Counter> {
            values.into_iter().map(|value| make.counter(name, &[("class", class), (label, value)])).collect()
        };
        let one = [("class", class)];
        Self {
            publishes: each(
                Name::Publishes,
                "outcome",
                Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect(),
            ),
            publish_seconds: make.histogram(Name::PublishSeconds, &one),
            deliveries: each(Name::Deliveries, "path", Path::ALL.iter().map(|path| path.as_str()).collect()),
            delivery_seconds: make.histogram(Name::DeliverySeconds, &one),
            gaps: each(Name::Gaps, "reason", vec!["trimmed", "rewound"]),
            lag: make.gauge(Name::Lag, &one),
            unacknowledged: make.gauge(Name::Unacknowledged, &one),
            trimmed: make.counter(Name::Trimmed, &one),
            overrun: make.counter(Name::Overrun, &one),
        }
    }

    fn uncounted() -> Self {
        Self {
            publishes: Outcome::ALL.iter().map(|_| Counter::noop()).collect(),
            publish_seconds: Histogram::noop(),
            deliveries: Path::ALL.iter().map(|_| Counter::noop()).collect(),
            delivery_seconds: Histogram::noop(),
            gaps: vec![Counter::noop(), Counter::noop()],
            lag: Gauge::noop(),
            unacknowledged: Gauge::noop(),
            trimmed: Counter::noop(),
            overrun: Counter::noop(),
        }
    }
}

fn redis_calls(make: &Make<'_>) -> Vec<[Counter; 2]> {
    let counter = |call: &RedisCall, outcome| {
        make.counter(Name::RedisCalls, &[("call", call.as_str()), ("outcome", outcome)])
    };
    RedisCall::ALL.iter().map(|call| ["ok", "failed"].map(|outcome| counter(call, outcome))).collect()
}

impl Metrics {
    pub fn new(rooms: &RoomPolicies) -> Self {
        let recorder = recorder();
        let make = Make(&recorder);
        let classes = Classes::new(rooms);
        let mut by_class: Vec<OfClass> =
            classes.labels().iter().map(|class| OfClass::new(&make, class)).collect();
        by_class.push(OfClass::uncounted());
        let counters = |name: Name, label: &'static str, values: Vec<&'static str>| -> Vec<Counter> {
            values.into_iter().map(|value| make.counter(name, &[(label, value)])).collect()
        };
        macro_rules! each {
            ($name:ident, $label:literal, $values:ident) => {
                counters(Name::$name, $label, $values::ALL.iter().map(|value| value.as_str()).collect())
            };
        }
        make.gauge(Name::Build, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        Self {
            traces: None,
            process: Process::new(
                &recorder,
                each!(ContextSwitches, "kind", Switch),
                each!(SystemCalls, "kind", Direction),
                make.gauge(Name::MemoryLimit, &[]),
                [make.gauge(Name::Tasks, &[]), make.gauge(Name::TaskQueue, &[])],
            ),
            classes,
            by_class,
            ready: make.gauge(Name::Ready, &[]),
            canaries: each!(Canaries, "outcome", CanaryOutcome),
            canary_seconds: make.histogram(Name::CanarySeconds, &[]),
            connections: Transport::ALL
                .iter()
                .map(|transport| make.gauge(Name::Connections, &[("transport", transport.as_str())]))
                .collect(),
            connection_limit: make.gauge(Name::ConnectionLimit, &[]),
            sockets: make.gauge(Name::Sockets, &[]),
            opened: each!(Opened, "transport", Transport),
            closed: each!(Closed, "code", CloseCode),
            signals: make.counter(Name::Signals, &[]),
            acks: make.counter(Name::Acks, &[]),
            ack_writes: make.counter(Name::AckWrites, &[]),
            reads: make.counter(Name::Reads, &[]),
            read_writes: make.counter(Name::ReadWrites, &[]),
            catch_ups: each!(CatchUps, "reason", CatchUpReason),
            holes: each!(Holes, "found_by", Hole),
            subscriptions: make.gauge(Name::Subscriptions, &[]),
            catching_up: make.gauge(Name::CatchingUp, &[]),
            rooms: make.gauge(Name::Rooms, &[]),
            ring_bytes: make.gauge(Name::RingBytes, &[]),
            sent_bytes: make.counter(Name::SentBytes, &[]),
            received_bytes: make.counter(Name::ReceivedBytes, &[]),
            queued: make.gauge(Name::Queued, &[]),
            queued_bytes: make.gauge(Name::QueuedBytes, &[]),
            outbox_bytes: make.gauge(Name::OutboxBytes, &[]),
            full_queues: each!(FullQueues, "queue", Queue),
            redis_calls: redis_calls(&make),
            redis_seconds: RedisCall::ALL
                .iter()
                .map(|call| make.histogram(Name::RedisSeconds, &[("call", call.as_str())]))
                .collect(),
            janitor: make.gauge(Name::Janitor, &[]),
            retention_held: make.gauge(Name::RetentionHeld, &[]),
            redis_up: make.gauge(Name::RedisUp, &[]),
            primaries: make.gauge(Name::Primaries, &[]),
            primaries_well: make.gauge(Name::PrimariesWell, &[]),
            redis_full: make.gauge(Name::RedisFull, &[]),
            durability: make.gauge(Name::Durability, &[]),
            embedded_up: make.gauge(Name::EmbeddedUp, &[]),
            embedded_restarts: make.counter(Name::EmbeddedRestarts, &[]),
            key_sets: each!(KeySets, "outcome", Success),
            task_delay: make.histogram(Name::TaskDelay, &[]),
            handle: recorder.handle(),
            recorder,
        }
    }

    pub fn render(&self) -> String {
        self.process.sample(&self.recorder);
        self.full_queues[Queue::Log as usize].absolute(logs::dropped());
        self.handle.render()
    }

    /// Drains recorded samples into buckets. Call it every few seconds: samples are buffered until then.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    pub fn class(&self, room: &RoomName) -> Class {
        self.classes.of(room)
    }

    pub fn of(&self, class: Class) -> &OfClass {
        &self.by_class[class.index()]
    }

    /// The metrics of each class but that of probes, in the order of [`Class::index`].
    pub fn each_class(&self) -> &[OfClass] {
        &self.by_class[..self.classes.labels().len()]
    }

    pub fn canary(&self, outcome: CanaryOutcome) {
        self.canaries[outcome as usize].increment(1);
    }

    pub fn connections(&self, transport: Transport) -> &Gauge {
        &self.connections[transport as usize]
    }

    pub fn opened(&self, transport: Transport) {
        self.opened[transport as usize].increment(1);
        self.connections(transport).increment(1);
    }

    pub fn closed(&self, code: CloseCode) {
        self.closed[code as usize].increment(1);
    }

    pub fn published(&self, class: Class, outcome: Outcome, started: Instant) {
        let counted = self.of(class);
        counted.publishes[outcome as usize].increment(1);
        counted.publish_seconds.record(started.elapsed());
    }

    pub fn delivered(&self, class: Class, path: Path, messages: usize) {
        self.of(class).deliveries[path as usize].increment(messages as u64);
    }

    pub fn delivered_to_socket(&self, message: Timed) {
        let seconds = now_ms().saturating_sub(message.appended) as f64 / 1000.0;
        self.of(message.class).delivery_seconds.record(seconds);
        if let Some(traces) = self.traces.as_ref().filter(|traces| traces.follows(message.key)) {
            traces.delivered(message);
        }
    }

    pub fn catch_up(&self, reason: CatchUpReason) {
        self.catch_ups[reason as usize].increment(1);
    }

    pub fn gap(&self, class: Class, reason: GapReason) {
        self.of(class).gaps[reason as usize].increment(1);
    }

    pub fn hole(&self, found_by: Hole) {
        self.holes[found_by as usize].increment(1);
    }

    pub fn full(&self, queue: Queue) {
        self.full_queues[queue as usize].increment(1);
    }

    pub fn redis_call(&self, call: RedisCall, elapsed: Duration, ok: bool) {
        self.redis_calls[call as usize][usize::from(!ok)].increment(1);
        self.redis_seconds[call as usize].record(elapsed);
    }

    pub fn key_set(&self, outcome: Success) {
        self.key_sets[outcome as usize].increment(1);
    }
}

/// Builds a recorder that knows each metric's description. It uses buckets instead of native histograms: the
/// exporter offers those only over protobuf, so that a plain reader of `/metrics` would find nothing.
fn recorder() -> PrometheusRecorder {
    let fine = FINE.iter().map(|name| (Matcher::Full(name.as_str().into()), &FINE_BUCKETS[..]));
    let builder = std::iter::once((Matcher::Suffix("_seconds".into()), &BUCKETS[..]))
        .chain(fine)
        .try_fold(PrometheusBuilder::new(), |builder, (matcher, buckets)| {
            builder.set_buckets_for_metric(matcher, buckets)
        });
    let recorder = builder.unwrap_or_else(|_no_buckets| PrometheusBuilder::new()).build_recorder();
    for name in Name::ALL {
        let (key, help) = (KeyName::from(name.as_str()), name.help().into());
        match name.kind() {
            Kind::Counter => recorder.describe_counter(key, None, help),
            Kind::Gauge => recorder.describe_gauge(key, None, help),
            Kind::Histogram => recorder.describe_histogram(key, None, help),
        }
    }
    recorder
}

struct Make<'a>(&'a PrometheusRecorder);

impl Make<'_> {
    fn counter(&self, name: Name, labels: &[(&'static str, &str)]) -> Counter {
        self.0.register_counter(&key(name, labels), &METADATA)
    }

    fn gauge(&self, name: Name, labels: &[(&'static str, &str)]) -> Gauge {
        self.0.register_gauge(&key(name, labels), &METADATA)
    }

    fn histogram(&self, name: Name, labels: &[(&'static str, &str)]) -> Histogram {
        self.0.register_histogram(&key(name, labels), &METADATA)
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(name: Name, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name.as_str(), labels)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_metric_is_rendered_from_the_start() {
        let config = Config::load(None, std::iter::empty(), Vec::new()).unwrap();
        let metrics = Metrics::new(&config.rooms);
        let class = metrics.class(&"room".parse().unwrap());
        metrics.gap(class, GapReason::Rewound);
        metrics.gap(metrics.class(&RoomName::internal("canary", "me")), GapReason::Rewound);
        metrics.redis_call(RedisCall::Append, Duration::from_millis(3), false);
        metrics.published(class, Outcome::Stored, Instant::now());
        metrics.delivered_to_socket(Timed { key: uuid::Uuid::nil(), appended: 1, class });
        metrics.canary_seconds.record(0.1);
        metrics.task_delay.record(0.1);
        let text = metrics.render();
        for name in Name::ALL {
            assert!(text.contains(&format!("# HELP {} ", name.as_str())), "{}", name.as_str());
        }
        assert!(text.contains("roomlog_gaps_total{class=\"other\",reason=\"rewound\"} 1"));
        assert!(text.contains("roomlog_redis_calls_total{call=\"append\",outcome=\"failed\"} 1"));
        assert!(text.contains("process_resident_memory_bytes "));
    }
}
