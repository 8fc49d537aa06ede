//! Reports, log records and spans as messages of OTLP.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use crate::status::metrics::{Kind, PREFIX, families};
use crate::status::{Report, VERSION};

/// Something that happened.
#[derive(Debug)]
pub(super) enum Item {
    Log(Box<LogRecord>),
    Span(Box<Span>),
}

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    /// The cluster's ID.
    pub(super) cluster: String,
    /// Name of the node or of the pod.
    pub(super) instance: String,
    /// What the process is.
    pub(super) role: &'static str,
}

impl Resource {
    /// By the names of OpenTelemetry's semantic conventions.
    fn message(&self) -> Option<ProtoResource> {
        let attributes = vec![
            text("service.name", "linkspan"),
            text("service.version", VERSION),
            text("service.instance.id", &self.instance),
            text("k8s.cluster.name", &self.cluster),
            text("linkspan.role", self.role),
        ];
        Some(ProtoResource { attributes, ..ProtoResource::default() })
    }
}

/// An attribute with a text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "linkspan".to_owned(), version: VERSION.to_owned(), ..Default::default() })
}

/// The metrics of a report. `started` and `now` are nanoseconds since 1970.
pub(super) fn metrics(resource: &Resource, report: &Report, started: u64, now: u64) -> Vec<u8> {
    let metrics = families(report).into_iter().map(|family| {
        let start_time_unix_nano = if family.kind == Kind::Counter { started } else { 0 };
        let points = family.series.into_iter().map(|(labels, value)| NumberDataPoint {
            // Backends keep labels of points as they are, and attributes of resources often not: alerts go by this one.
            attributes: std::iter::once(text("cluster", &resource.cluster))
                .chain(labels.iter().map(|(name, value)| text(name, value)))
                .collect(),
            start_time_unix_nano,
            time_unix_nano: now,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        });
        let data_points = points.collect();
        let data = match family.kind {
            Kind::Gauge => Data::Gauge(Gauge { data_points }),
            Kind::Counter => Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
        };
        Metric {
            name: format!("{PREFIX}_{}", family.name),
            description: family.help.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    });
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics: metrics.collect(), ..Default::default() }];
    let resource = ResourceMetrics { resource: resource.message(), scope_metrics, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec()
}

/// Log records and spans, as far as there are any.
pub(super) fn items(resource: &Resource, items: Vec<Item>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let (mut log_records, mut spans) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Log(record) => log_records.push(*record),
            Item::Span(span) => spans.push(*span),
        }
    }
    let logs = (!log_records.is_empty()).then(|| {
        let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..Default::default() }];
        let resource = ResourceLogs { resource: resource.message(), scope_logs, ..Default::default() };
        ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
    });
    let spans = (!spans.is_empty()).then(|| {
        let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..Default::default() }];
        let resource = ResourceSpans { resource: resource.message(), scope_spans, ..Default::default() };
        ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec()
    });
    (logs, spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::RestartReport;

    #[test]
    fn counters_have_a_start_and_gauges_have_none() {
        let resource = Resource { cluster: "paris".to_owned(), instance: "gw".to_owned(), role: "node" };
        let restarts = vec![RestartReport { task: "node".to_owned(), restarts: 3, error: String::new() }];
        let report = Report { ready: true, restarts, ..Report::default() };
        let request =
            ExportMetricsServiceRequest::decode(metrics(&resource, &report, 5, 9).as_slice()).expect("decoded");
        let told = &request.resource_metrics[0];
        let attributes = &told.resource.as_ref().expect("there").attributes;
        assert!(attributes.contains(&text("k8s.cluster.name", "paris")), "{attributes:?}");
        assert!(attributes.contains(&text("linkspan.role", "node")), "{attributes:?}");
        let find = |name: &str| {
            let metrics = &told.scope_metrics[0].metrics;
            metrics.iter().find(|metric| metric.name == name).and_then(|metric| metric.data.clone()).expect("there")
        };
        let Data::Gauge(ready) = find("linkspan_ready") else { panic!("no gauge") };
        assert_eq!(ready.data_points[0].value, Some(Number::AsDouble(1.0)));
        assert_eq!((ready.data_points[0].start_time_unix_nano, ready.data_points[0].time_unix_nano), (0, 9));
        let Data::Sum(restarts) = find("linkspan_task_restarts") else { panic!("no sum") };
        assert!(restarts.is_monotonic && restarts.data_points[0].start_time_unix_nano == 5);
        assert_eq!(restarts.data_points[0].attributes, [text("cluster", "paris"), text("task", "node")]);
    }

    #[test]
    fn nothing_makes_no_batch() {
        let resource = Resource { cluster: String::new(), instance: String::new(), role: "dns" };
        assert_eq!(items(&resource, Vec::new()), (None, None));
    }
}
