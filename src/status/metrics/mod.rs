//! Metrics, made from the report at each scrape: as families of values, which are told as OpenMetrics text or over OTLP.
//!
//! Series are bounded: one set for each configured peer and lane, and lists that are fixed in the code. All of them bear
//! the cluster's ID, so that those of a fleet can be put together.

mod node;
mod roles;

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::report::Report;

/// What [`encode`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Begins the name of every metric.
pub const PREFIX: &str = "linkspan";

/// Name and value of a label.
pub type Label = (&'static str, String);

/// Values of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name, without [`PREFIX`], and without `_total` on counters.
    pub name: &'static str,
    /// What it tells, for people.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// The values, each with its labels.
    pub series: Vec<(Vec<Label>, f64)>,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It grows from zero at the start of the process.
    Counter,
}

/// All that a report tells.
pub fn families(report: &Report) -> Vec<Family> {
    let mut out = Out::default();
    node::process(&mut out, report);
    if let Some(pass) = &report.pass {
        node::passes(&mut out, pass);
    }
    if let Some(tunnel) = &report.tunnel {
        node::device(&mut out, tunnel);
        node::peers(&mut out, tunnel);
        node::lanes(&mut out, tunnel);
    }
    if let Some(names) = &report.names {
        roles::zone(&mut out, names);
    }
    if let Some(controller) = &report.controller {
        roles::controller(&mut out, controller);
    }
    if let Some(otlp) = &report.otlp {
        roles::otlp(&mut out, otlp);
    }
    out.0
}

/// Renders a report in OpenMetrics text.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
pub fn encode(report: &Report) -> Result<String, fmt::Error> {
    let cluster = (Cow::Borrowed("cluster"), Cow::Owned(report.cluster.clone()));
    let mut registry = Registry::with_prefix_and_labels(PREFIX, std::iter::once(cluster));
    registry.register_collector(Box::new(Scrape(families(report))));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
            };
            let mut encoder = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in &family.series {
                let encoder = encoder.encode_family(labels)?;
                match family.kind {
                    Kind::Gauge => ConstGauge::new(*value).encode(encoder)?,
                    Kind::Counter => ConstCounter::new(*value).encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

/// Families that are being put together.
#[derive(Default)]
struct Out(Vec<Family>);

impl Out {
    fn gauge(&mut self, name: &'static str, help: &'static str, series: impl IntoIterator<Item = (Vec<Label>, f64)>) {
        let series = series.into_iter().collect();
        self.0.push(Family { name, help, kind: Kind::Gauge, series });
    }

    fn counter(&mut self, name: &'static str, help: &'static str, series: impl IntoIterator<Item = (Vec<Label>, u64)>) {
        let series = series.into_iter().map(|(labels, value)| (labels, value as f64)).collect();
        self.0.push(Family { name, help, kind: Kind::Counter, series });
    }

    /// One value, or none where it is not known.
    fn value(&mut self, name: &'static str, help: &'static str, value: impl Into<Option<f64>>) {
        self.gauge(name, help, value.into().map(|value| (Vec::new(), value)));
    }

    fn truth(&mut self, name: &'static str, help: &'static str, so: bool) {
        self.value(name, help, truth(so));
    }
}

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_bears_the_cluster_help_and_the_marks_of_open_metrics() {
        let report = Report { cluster: "paris".to_owned(), version: "1".to_owned(), ..Report::default() };
        let text = encode(&report).expect("encoded");
        assert!(text.contains("# HELP linkspan_ready 1 when "), "{text}");
        assert!(text.contains("linkspan_ready{cluster=\"paris\"} 0.0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn names_are_told_once_and_end_as_their_unit_or_kind_asks() {
        let families = families(&full());
        let mut names: Vec<_> = families.iter().map(|family| family.name).collect();
        assert!(names.len() > 50, "{names:?}");
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "a name is there twice");
        for family in &families {
            // The encoder adds it to counters.
            assert!(!family.name.ends_with("_total"), "{}", family.name);
            assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{}", family.name);
        }
    }

    /// A report with every part that there is.
    fn full() -> Report {
        use super::super::*;
        let peer = PeerReport { lanes: vec![LaneReport::default()], ..PeerReport::default() };
        Report {
            pass: Some(PassReport::default()),
            tunnel: Some(TunnelReport { peers: vec![peer], ..TunnelReport::default() }),
            names: Some(NamesReport::default()),
            otlp: Some(crate::otlp::OtlpReport::default()),
            controller: Some(ControllerReport {
                leads: true,
                broker: Some(BrokerReport::default()),
                services: Some(ServicesReport::default()),
            }),
            ..Report::default()
        }
    }
}
