//! Traces: where the time of a message went, as the spans `publish`, `append` and `deliver`, sent by OTLP.
//!
//! A trace's id is the message's key. So all nodes agree on it, and on whether it is sampled, without telling each other;
//! and spans are made when they are over, of times that are taken anyway. Without a place to send them there is nothing of it.

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

/// Time for the collector to answer, and for what is left to be sent at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The message whose delivery is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// Its key.
    pub key: Uuid,
    /// When Redis appended it, in Unix ms.
    pub appended: u64,
    /// Of which class its room is.
    pub class: Class,
}

/// Makes spans and sends them.
#[derive(Debug)]
pub struct Traces {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    /// Keys below it, of all that there can be, are sampled.
    below: f64,
}

impl Traces {
    /// Starts to send where the configuration says; nothing if it names no place.
    ///
    /// # Errors
    /// If the address is none.
    pub fn start(config: &TracesConfig, node: &str) -> Result<Option<Self>, ExporterBuildError> {
        let Some(url) = &config.otlp_url else { return Ok(None) };
        let _there_is_one_already = rustls::crypto::ring::default_provider().install_default();
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

    /// Whether the message with this key is followed, here and on every node.
    pub fn follows(&self, key: Uuid) -> bool {
        // Keys that clients choose need not be random.
        let mixed = (key.as_u64_pair().0 ^ key.as_u64_pair().1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed as f64) < self.below * u64::MAX as f64
    }

    /// A message came to its end here: it was submitted, then appended, and answered now.
    pub fn published(&self, key: Uuid, room: &str, submitted: Instant, sent: Instant, outcome: &'static str) {
        let (now, root) = (SystemTime::now(), root_of(key));
        let at = |instant: Instant| now - instant.elapsed();
        let attributes = || vec![KeyValue::new("room", room.to_owned()), KeyValue::new("outcome", outcome)];
        let failed = outcome == "unavailable";
        self.send(key, "append", random(), root, SpanKind::Client, at(sent), now, attributes(), failed);
        let none = SpanId::INVALID;
        self.send(key, "publish", root, none, SpanKind::Server, at(submitted), now, attributes(), failed);
    }

    /// A message was written to a subscriber's socket.
    pub fn delivered(&self, message: Timed) {
        let appended = SystemTime::UNIX_EPOCH + Duration::from_millis(message.appended);
        // By the clocks of two machines: a span does not end before it begins.
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

    #[allow(clippy::too_many_arguments)] // A span has so many sides.
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

    /// Sends what is left.
    pub fn flush(&self) {
        let _lost_if_nobody_takes_it = self.processor.shutdown_with_timeout(PATIENCE);
    }
}

/// The id of the span `publish`, which is above the others. Every node finds it.
fn root_of(key: Uuid) -> SpanId {
    SpanId::from(key.as_u64_pair().1 | 1)
}

fn random() -> SpanId {
    SpanId::from(Uuid::new_v4().as_u64_pair().1)
}
