//! Of name servers and controllers.

use super::super::controller::{BrokerReport, ConditionCount, ControllerReport, ServicesReport, WorkReport};
use super::super::report::NamesReport;
use super::{Label, Out};
use crate::otlp::OtlpReport;

/// Kinds of answers by the code that they bear (RFC 1035, section 4.1.1). FORMERR stands for NOTIMP and BADVERS, too.
const RCODES: [(&str, &[&str]); 5] = [
    ("NOERROR", &["answered", "no-data"]),
    ("NXDOMAIN", &["no-such-name"]),
    ("SERVFAIL", &["not-synced"]),
    ("REFUSED", &["refused"]),
    ("FORMERR", &["malformed"]),
];

pub(super) fn zone(out: &mut Out, names: &NamesReport) {
    out.truth("dns_synced", "1 once a zone is published", names.synced);
    out.value("dns_names", "Names in the zone", names.names as f64);
    out.value("dns_serial", "Serial of the zone; one more with each change", f64::from(names.serial));
    let published = names.published.map(|second| second as f64);
    out.value("dns_zone_timestamp_seconds", "When the zone last changed, in seconds since 1970", published);
    let known = names.paths.known;
    out.truth("dns_path_states_known", "1 while names follow path states; 0 while every cluster is trusted", known);
    let waiting = names.listeners.iter().filter(|listener| listener.waiting.is_some()).count();
    out.value("dns_waiting_listeners", "Addresses that cannot be served yet", waiting as f64);
    let count = |kind: &&str| names.answers.iter().find(|answer| answer.reason == **kind).map_or(0, |kind| kind.count);
    let protocols = [("UDP", "udp-query"), ("TCP", "tcp-query")];
    let queries = protocols.map(|(protocol, kind)| (vec![("protocol", protocol.to_owned())], count(&kind)));
    out.counter("dns_queries", "Queries that were answered, by protocol", queries);
    let responses = RCODES.map(|(rcode, kinds)| (vec![("rcode", rcode.to_owned())], kinds.iter().map(count).sum()));
    out.counter("dns_responses", "Answers by response code; FORMERR counts NOTIMP and BADVERS, too", responses);
    out.counter("dns_truncated_responses", "Answers over UDP that were cut short", [(Vec::new(), count(&"truncated"))]);
    let failed = [(Vec::new(), count(&"send-failed"))];
    out.counter("dns_send_failures", "Answers over UDP that could not be sent", failed);
}

pub(super) fn controller(out: &mut Out, controller: &ControllerReport) {
    out.truth("controller_leads", "1 on the process that holds Lease linkspan-controller", controller.leads);
    let parts = [
        ("broker", controller.broker.as_ref().map(|broker| broker.work)),
        ("services", controller.services.as_ref().map(|services| services.work)),
    ];
    work(out, &parts);
    if let Some(broker) = &controller.broker {
        self::broker(out, broker);
    }
    if let Some(services) = &controller.services {
        self::services(out, services);
    }
}

pub(super) fn otlp(out: &mut Out, otlp: &OtlpReport) {
    out.truth("otlp_reachable", "1 while the OTLP collector takes what is sent", otlp.reachable);
    out.value("otlp_buffered_bytes", "What waits for the OTLP collector", otlp.buffered_bytes as f64);
    let help = "Log records and spans that came too fast to be exported";
    out.counter("otlp_dropped_items", help, [(Vec::new(), otlp.dropped_items)]);
    let help = "Batches that the OTLP collector refused, or for which it was away for too long";
    out.counter("otlp_dropped_batches", help, [(Vec::new(), otlp.dropped_batches)]);
}

fn work(out: &mut Out, parts: &[(&'static str, Option<WorkReport>)]) {
    let label = |part: &str| vec![("part", part.to_owned())];
    let each = |value: fn(WorkReport) -> u64| {
        let known = |(part, work): &(&'static str, Option<WorkReport>)| work.map(|work| (label(part), value(work)));
        parts.iter().filter_map(known).collect::<Vec<_>>()
    };
    let waiting = each(|work| work.waiting).into_iter().map(|(labels, value)| (labels, value as f64));
    out.counter("controller_passes", "Passes of the controller that wrote something", each(|work| work.passes));
    out.counter("controller_writes", "Writes of the controller that went well", each(|work| work.written));
    out.counter("controller_write_failures", "Writes of the controller that failed", each(|work| work.failed));
    out.gauge("controller_waiting", "Things whose last write failed, and is tried again", waiting);
}

fn by_condition(counts: &[ConditionCount]) -> impl Iterator<Item = (Vec<Label>, f64)> + '_ {
    counts.iter().map(|count| {
        let labels = vec![("condition", count.condition.clone()), ("status", count.status.clone())];
        (labels, count.count as f64)
    })
}

fn broker(out: &mut Out, broker: &BrokerReport) {
    let second = |time: Option<i64>| time.map(|second| second as f64);
    out.truth("broker_joined", "1 while the cluster is a member of a clusterset", broker.joined);
    out.truth("broker_reachable", "1 when the broker answered the last heartbeat", broker.reachable);
    let contact = second(broker.contact);
    out.value("broker_contact_timestamp_seconds", "When the broker answered last, in seconds since 1970", contact);
    let connected = second(broker.connected);
    let help = "Since when the broker has answered without a break, in seconds since 1970";
    out.value("broker_connected_timestamp_seconds", help, connected);
    let expires = second(broker.credential_expires);
    let help = "When the credential for the broker expires unless it renews itself, in seconds since 1970";
    out.value("broker_credential_expiry_timestamp_seconds", help, expires);
    let renews = second(broker.credential_renews);
    let help = "When the credential for the broker is due to renew itself, in seconds since 1970";
    out.value("broker_credential_renewal_timestamp_seconds", help, renews);
    out.gauge("members", "Members of the clusterset by condition and its status", by_condition(&broker.members));
    let records = broker.records;
    let of = |origin: &str, state: &str, count: u64| {
        (vec![("origin", origin.to_owned()), ("state", state.to_owned())], count as f64)
    };
    let records = [
        of("own", "published", records.own.saturating_sub(records.own_refused)),
        of("own", "refused", records.own_refused),
        // A record of others that is refused is copied without its endpoints, so that people see it.
        of("others", "accepted", records.copied.saturating_sub(records.refused)),
        of("others", "refused", records.refused),
    ];
    out.gauge("service_records", "ServiceRecords by origin, and by what became of them", records);
}

fn services(out: &mut Out, services: &ServicesReport) {
    out.truth("services_listed", "1 once all objects of services have been listed", services.listed);
    out.value("service_exports", "ServiceExports of this cluster", services.exports as f64);
    let exports = by_condition(&services.exports_by_condition);
    out.gauge("service_export_conditions", "ServiceExports of this cluster by condition and its status", exports);
    let imports = services.imports.iter().map(|each| (vec![("type", each.kind.clone())], each.count as f64));
    out.gauge("service_imports", "ServiceImports of this cluster by type", imports);
}

#[cfg(test)]
mod tests {
    use super::super::super::report::DropReport;
    use super::*;

    #[test]
    fn answers_are_counted_by_their_codes() {
        let kind = |reason: &str, count| DropReport { reason: reason.to_owned(), count };
        let names = NamesReport {
            answers: vec![kind("answered", 5), kind("no-data", 2), kind("no-such-name", 3), kind("tcp-query", 4)],
            ..NamesReport::default()
        };
        let mut out = Out::default();
        zone(&mut out, &names);
        let family = |name: &'static str| out.0.iter().find(|family| family.name == name).expect(name);
        let values =
            |name: &'static str| family(name).series.iter().map(|(labels, value)| (labels[0].1.as_str(), *value));
        let responses: Vec<_> = values("dns_responses").collect();
        assert_eq!(responses[..3], [("NOERROR", 7.0), ("NXDOMAIN", 3.0), ("SERVFAIL", 0.0)]);
        assert_eq!(values("dns_queries").collect::<Vec<_>>(), [("UDP", 0.0), ("TCP", 4.0)]);
    }
}
