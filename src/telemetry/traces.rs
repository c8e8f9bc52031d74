//! Traces: the time that a message spends in the spans `publish`, `append` and `deliver`, sent by OTLP.
//!
//! A trace's id is the message's key. So all nodes agree on it, and on sampling, without communication. Spans
//! are created when they are over, from times that are measured anyway. Without a destination, none of this
//! exists.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor};
use uuid::Uuid;

use super::class::Class;
use crate::config::TracesConfig;
use crate::util::tls;

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    pub key: Uuid,
    /// The time at which Redis appended it, in Unix ms.
    pub appended: u64,
    pub class: Class,
}

#[derive(Debug)]
pub struct Traces {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    /// Keys below this value, out of the whole range, are sampled.
    below: f64,
}

impl Traces {
    /// Starts sending to the configured destination; returns `None` without one.
    pub fn start(config: &TracesConfig, node: &str) -> Result<Option<Self>, ExporterBuildError> {
        let Some(url) = &config.otlp_url else { return Ok(None) };
        tls::install_provider();
        let exporter =
            SpanExporter::builder().with_http().with_endpoint(url.expose()).with_timeout(PATIENCE).build()?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let resource = Resource::builder_empty().with_service_name("roomlog");
        let attributes = [
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_owned()),
        ];
        processor.set_resource(&resource.with_attributes(attributes).build());
        let scope = InstrumentationScope::builder("roomlog").build();
        Ok(Some(Self { processor, scope, below: config.sample }))
    }

    /// Returns true if the message with this key is sampled, here and on every node.
    pub fn follows(&self, key: Uuid) -> bool {
        // Keys that clients choose need not be random.
        let mixed = (key.as_u64_pair().0 ^ key.as_u64_pair().1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed as f64) < self.below * u64::MAX as f64
    }

    pub fn published(&self, key: Uuid, room: &str, submitted: Instant, sent: Instant, outcome: &'static str) {
        let (now, root) = (SystemTime::now(), root_of(key));
        let at = |instant: Instant| now - instant.elapsed();
        let attributes = || vec![KeyValue::new("room", room.to_owned()), KeyValue::new("outcome", outcome)];
        let failed = outcome == "unavailable";
        self.send(key, "append", random(), root, SpanKind::Client, at(sent), now, attributes(), failed);
        let none = SpanId::INVALID;
        self.send(key, "publish", root, none, SpanKind::Server, at(submitted), now, attributes(), failed);
    }

    pub fn delivered(&self, message: Timed) {
        let appended = SystemTime::UNIX_EPOCH + Duration::from_millis(message.appended);
        // The times come from the clocks of two machines, and a span must not end before it begins.
        let now = SystemTime::now().max(appended);
        let root = root_of(message.key);
        self.send(
            message.key,
            "deliver",
            random(),
            root,
            SpanKind::Consumer,
            appended,
            now,
            Vec::new(),
            false,
        );
    }

    #[allow(clippy::too_many_arguments)] // A span has many attributes.
    fn send(
        &self,
        key: Uuid,
        name: &'static str,
        id: SpanId,
        parent: SpanId,
        kind: SpanKind,
        start: SystemTime,
        end: SystemTime,
        attributes: Vec<KeyValue>,
        failed: bool,
    ) {
        let trace = TraceId::from_bytes(key.into_bytes());
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: kind,
            name: Cow::Borrowed(name),
            start_time: start,
            end_time: end,
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: if failed { Status::error("unavailable") } else { Status::Unset },
            instrumentation_scope: self.scope.clone(),
        });
    }

    pub fn flush(&self) {
        let _ = self.processor.shutdown_with_timeout(PATIENCE); // A collector that does not answer loses them.
    }
}

/// Returns the id of the span `publish`, the parent of the others. Every node can derive it.
fn root_of(key: Uuid) -> SpanId {
    SpanId::from(key.as_u64_pair().1 | 1)
}

fn random() -> SpanId {
    SpanId::from(Uuid::new_v4().as_u64_pair().1)
}
