//! What is logged, as log records, and what takes time, as spans.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::encode::{Item, attribute, text};
use super::unix_nanoseconds;

/// Target of spans that are exported. They are of level debug, so that log lines do not bear them.
pub const SPANS: &str = controller::SPANS;
/// Longest text of an attribute or a message, in bytes.
const TEXT_MAX: usize = 4096;

/// Takes events and spans out of `tracing`. Never waits: what does not fit is told to `dropped`.
pub struct Bridge {
    items: mpsc::Sender<Item>,
    seed: u64,
    next: AtomicU64,
    dropped: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bridge")
    }
}

impl Bridge {
    pub(super) fn new(items: mpsc::Sender<Item>, seed: u64, dropped: impl Fn() + Send + Sync + 'static) -> Self {
        Self { items, seed, next: AtomicU64::new(0), dropped: Box::new(dropped) }
    }

    fn send(&self, item: Item) {
        if self.items.try_send(item).is_err() {
            (self.dropped)();
        }
    }

    /// A number that no other one of this process is, and hardly one of another process: SplitMix64.
    fn id(&self) -> u64 {
        let step = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut z = self.seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // All zeroes mean none.
        (z ^ (z >> 31)).max(1)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Bridge {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id).filter(|span| span.metadata().target() == SPANS) else { return };
        // The nearest one that is exported, too.
        let parent = span.scope().skip(1).find_map(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Span>().map(|parent| (parent.trace_id.clone(), parent.span_id.clone()))
        });
        let (trace_id, parent_span_id) = parent.unwrap_or_else(|| {
            (u128::from(self.id()).wrapping_shl(64).wrapping_add(self.id().into()).to_be_bytes().to_vec(), Vec::new())
        });
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let started = Span {
            trace_id,
            span_id: self.id().to_be_bytes().to_vec(),
            parent_span_id,
            name: span.name().to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: unix_nanoseconds(),
            attributes: fields.attributes,
            ..Span::default()
        };
        span.extensions_mut().insert(started);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(span) = span.extensions_mut().get_mut::<Span>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            span.attributes.append(&mut fields.attributes);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).and_then(|span| span.extensions_mut().remove::<Span>());
        if let Some(mut span) = span {
            span.end_time_unix_nano = unix_nanoseconds();
            self.send(Item::Span(Box::new(span)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.attributes.push(text("log.target", event.metadata().target()));
        let inside = context.event_scope(event).into_iter().flatten().find_map(|span| {
            let extensions = span.extensions();
            extensions.get::<Span>().map(|span| (span.trace_id.clone(), span.span_id.clone()))
        });
        let (trace_id, span_id) = inside.unwrap_or_default();
        let now = unix_nanoseconds();
        let level = event.metadata().level();
        self.send(Item::Log(Box::new(LogRecord {
            time_unix_nano: now,
            observed_time_unix_nano: now,
            severity_number: severity(level),
            severity_text: level.to_string(),
            body: Some(AnyValue { value: Some(Value::StringValue(fields.message)) }),
            attributes: fields.attributes,
            trace_id,
            span_id,
            ..LogRecord::default()
        })));
    }
}

/// Severity numbers of OpenTelemetry's data model for logs.
fn severity(level: &Level) -> i32 {
    match *level {
        Level::TRACE => 1,
        Level::DEBUG => 5,
        Level::INFO => 9,
        Level::WARN => 13,
        Level::ERROR => 17,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    attributes: Vec<KeyValue>,
}

impl Fields {
    fn text(&mut self, field: &Field, value: String) {
        let mut value = value;
        if value.len() > TEXT_MAX {
            value.truncate((0..=TEXT_MAX).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0));
        }
        match field.name() {
            "message" => self.message = value,
            name => self.attributes.push(text(name, &value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(attribute(field.name(), Value::IntValue(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.attributes.push(attribute(field.name(), Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attributes.push(attribute(field.name(), Value::DoubleValue(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(attribute(field.name(), Value::BoolValue(value)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn bridged(capacity: usize, log: impl FnOnce()) -> (Vec<Item>, u64) {
        let (sender, mut items) = mpsc::channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        let bridge = Bridge::new(sender, 7, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(bridge), log);
        let mut taken = Vec::new();
        while let Ok(item) = items.try_recv() {
            taken.push(item);
        }
        (taken, dropped.load(Ordering::Relaxed))
    }

    #[test]
    fn a_log_line_bears_its_span_and_a_span_its_parent() {
        let (items, dropped) = bridged(8, || {
            let pass = tracing::debug_span!(target: SPANS, "pass", trigger = "clock", failed = tracing::field::Empty);
            let _entered = pass.enter();
            let foreign = tracing::info_span!("of somebody else");
            foreign.in_scope(|| {
                tracing::debug_span!(target: SPANS, "write").in_scope(|| tracing::warn!(count = 3, "failed to write"));
            });
            pass.record("failed", 1);
        });
        assert_eq!((items.len(), dropped), (3, 0));
        let [Item::Log(log), Item::Span(write), Item::Span(pass)] = items.as_slice() else { panic!("{items:?}") };
        assert_eq!((log.severity_number, log.severity_text.as_str()), (13, "WARN"));
        assert_eq!(log.body.as_ref().expect("there").value, Some(Value::StringValue("failed to write".to_owned())));
        assert!(log.attributes.contains(&attribute("count", Value::IntValue(3))));
        assert_eq!((&log.trace_id, &log.span_id), (&write.trace_id, &write.span_id));
        assert_eq!((pass.name.as_str(), pass.trace_id.len(), pass.span_id.len()), ("pass", 16, 8));
        assert_eq!(pass.attributes, [text("trigger", "clock"), attribute("failed", Value::IntValue(1))]);
        assert!(pass.parent_span_id.is_empty() && pass.start_time_unix_nano <= pass.end_time_unix_nano);
        // The one between them is not exported.
        assert_eq!((&write.trace_id, &write.parent_span_id), (&pass.trace_id, &pass.span_id));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_waits_for_nobody() {
        let (items, dropped) = bridged(2, || (0..5).for_each(|number| tracing::info!(number, "line")));
        assert_eq!((items.len(), dropped), (2, 3));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let (items, _) = bridged(2, || tracing::info!("{}", "é".repeat(TEXT_MAX)));
        let [Item::Log(log)] = items.as_slice() else { panic!("{items:?}") };
        let Some(Value::StringValue(body)) = &log.body.as_ref().expect("there").value else { panic!("{log:?}") };
        assert_eq!(body.len(), TEXT_MAX);
    }
}
