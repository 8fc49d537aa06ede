//! What was seen, as rows: pure.

use controller::api::{
    GatewayNode, ImportPort, ImportType, Member, PeerState, PeerStatus, ServiceExport, ServiceImport,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Seen, Topic};
use crate::kubectl::image::Image;
use crate::kubectl::output::{Field, Tone};
use crate::status::VERSION;
use crate::status::units::{bytes, milliseconds, percent, span};

/// All rows of a topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sheet {
    /// Titles.
    pub columns: Vec<&'static str>,
    /// Titles of further columns for `-o wide`.
    pub wide: Vec<&'static str>,
    /// The rows, by context.
    pub entries: Vec<Entry>,
}

/// One row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// The context that it was seen in.
    pub context: String,
    /// KIND/NAME.
    pub name: String,
    /// For people, in the order of the columns.
    pub fields: Vec<Field>,
    /// For programs, without the context.
    pub value: Value,
}

impl Entry {
    /// For programs.
    pub fn into_value(mut self) -> Value {
        self.value["context"] = self.context.into();
        self.value
    }
}

/// The rows of a topic; of [`Topic::All`], which is none of its own, there are none.
pub(super) fn sheet(topic: Topic, seen: &[Seen]) -> Sheet {
    type Rows = fn(&Seen) -> Vec<Entry>;
    let (columns, wide, rows): (&[&'static str], &[&'static str], Rows) = match topic {
        Topic::Members => (&["CLUSTER", "READY", "GATEWAYS", "VERSION", "MESSAGE"], &["UID"], members),
        Topic::Gateways => (&["NODE", "ACTIVE", "PEERS", "ENDPOINTS"], &["LANES", "PUBLIC KEY"], gateways),
        Topic::Connections => (
            &["GATEWAY", "CLUSTER", "STATE", "RTT", "LOSS", "MTU", "RX", "TX", "HANDSHAKE", "REASON"],
            &["DOWN SINCE", "OBSERVED"],
            connections,
        ),
        Topic::Exports => (&["NAMESPACE", "NAME", "VALID", "READY", "CONFLICT", "MESSAGE"], &[], exports),
        Topic::Imports => (&["NAMESPACE", "NAME", "TYPE", "IPS", "PORTS", "CLUSTERS"], &["NAMES"], imports),
        Topic::Networks => (&["CLUSTER", "PODS", "SERVICES", "VIRTUAL"], &["RESTING"], networks),
        Topic::Versions => (&["COMPONENT", "VERSION", "READY"], &["IMAGE"], versions),
        Topic::All => (&[], &[], |_| Vec::new()),
    };
    let entries = seen.iter().flat_map(|seen| {
        let context = seen.context.clone();
        rows(seen).into_iter().map(move |entry| Entry { context: context.clone(), ..entry })
    });
    Sheet { columns: columns.to_vec(), wide: wide.to_vec(), entries: entries.collect() }
}

fn entry(name: String, fields: Vec<Field>, value: Value) -> Entry {
    Entry { context: String::new(), name, fields, value }
}

fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// `True`, `False` or what else a condition says; its tone tells whether `good` is what it should be.
fn verdict(conditions: &[Condition], kind: &str, good: &str) -> Field {
    match condition(conditions, kind) {
        None => Field::new("Unknown", Tone::Warning),
        Some(condition) if condition.status == good => Field::new(&condition.status, Tone::Good),
        Some(condition) => Field::new(&condition.status, Tone::Bad),
    }
}

fn members(seen: &Seen) -> Vec<Entry> {
    let row = |member: &Member| {
        let conditions = member.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let ready = condition(conditions, "Ready");
        let is_own = seen.own.as_deref() == Some(member.spec.cluster_id.as_str());
        let name = member.name_any();
        let gateways = member
            .spec
            .gateways
            .iter()
            .map(|gateway| if gateway.active { format!("{}*", gateway.node) } else { gateway.node.clone() });
        let gateways: Vec<String> = gateways.collect();
        let message = ready.filter(|ready| ready.status != "True").map(|ready| seen.speech.spoken(&ready.message));
        let shown = match (is_own, &message) {
            (_, Some(message)) => message.clone(),
            (true, None) => "this cluster".to_owned(),
            (false, None) => String::new(),
        };
        let fields = vec![
            name.as_str().into(),
            verdict(conditions, "Ready", "True"),
            gateways.join(" ").into(),
            member.spec.version.as_str().into(),
            shown.into(),
            member.spec.cluster_uid.as_str().into(),
        ];
        let value = json!({
            "cluster": name,
            "own": is_own,
            "ready": ready.map(|ready| ready.status == "True"),
            "reason": ready.map(|ready| &ready.reason),
            "message": message,
            "gateways": member.spec.gateways,
            "version": member.spec.version,
            "protocol": member.spec.protocol,
            "uid": member.spec.cluster_uid,
            "conditions": conditions,
        });
        entry(format!("member/{name}"), fields, value)
    };
    seen.members.iter().map(row).collect()
}

fn gateways(seen: &Seen) -> Vec<Entry> {
    let row = |gateway: &GatewayNode| {
        let (name, spec) = (gateway.name_any(), &gateway.spec);
        let status = gateway.status.clone().unwrap_or_default();
        let fields = vec![
            name.as_str().into(),
            if status.active { Field::new("yes", Tone::Good) } else { Field::from("no") },
            status.summary.as_str().into(),
            spec.endpoints.join(" ").into(),
            spec.lanes.into(),
            spec.public_key.as_str().into(),
        ];
        let value = json!({
            "node": name,
            "active": status.active,
            "peers": status.summary,
            "endpoints": spec.endpoints,
            "lanes": spec.lanes,
            "publicKey": spec.public_key,
            "conditions": status.conditions,
        });
        entry(format!("gatewaynode/{name}"), fields, value)
    };
    seen.gateways.iter().map(row).collect()
}

/// Of active gateways: the others carry nothing.
fn connections(seen: &Seen) -> Vec<Entry> {
    let active = seen.gateways.iter().filter_map(|gateway| {
        let status = gateway.status.as_ref().filter(|status| status.active)?;
        let observed = status.observed.as_ref().map(|time| time.0);
        Some(status.peers.iter().map(move |peer| connection(&gateway.name_any(), observed, seen.now, peer)))
    });
    active.flatten().collect()
}

/// How long a cluster has not been reached: `down (5m3s)`, and `connecting (down 5m3s)` while it is called again.
fn state(word: &str, peer: &PeerStatus, now: Option<Timestamp>) -> String {
    let since = peer.down_since.as_ref().map(|since| since.0);
    let Some((since, now)) = since.zip(now) else { return word.to_owned() };
    // A clock that is behind makes nothing of it.
    let lasted = span(now.duration_since(since).as_secs_f64());
    match peer.state {
        PeerState::Down => format!("{word} ({lasted})"),
        _ => format!("{word} (down {lasted})"),
    }
}

fn connection(node: &str, observed: Option<Timestamp>, now: Option<Timestamp>, peer: &PeerStatus) -> Entry {
    let (word, tone) = match peer.state {
        PeerState::Up => ("up", Tone::Good),
        PeerState::Idle => ("idle", Tone::Plain),
        PeerState::Connecting => ("connecting", Tone::Warning),
        PeerState::Down => ("down", Tone::Bad),
        PeerState::Unknown => ("unknown", Tone::Warning),
    };
    let rtt = peer.rtt_microseconds.map(|rtt| rtt as f64 / 1000.0);
    let loss = f64::from(peer.loss_permille) / 1000.0;
    let lossy = if peer.loss_permille > 0 { Tone::Warning } else { Tone::Plain };
    let handshake = peer.handshake_age_seconds.map(|age| format!("{} ago", span(age as f64)));
    let since = peer.down_since.as_ref().map(|since| since.0.to_string());
    let told = |time: Timestamp| time.to_string();
    let fields = vec![
        node.into(),
        peer.cluster.as_str().into(),
        Field::new(state(word, peer, now.or(observed)), tone),
        milliseconds(rtt).into(),
        Field::new(percent(loss), lossy),
        peer.mtu.into(),
        bytes(peer.rx_bytes).into(),
        bytes(peer.tx_bytes).into(),
        handshake.unwrap_or_else(|| "never".to_owned()).into(),
        peer.reason.as_str().into(),
        since.clone().unwrap_or_default().into(),
        observed.map(told).unwrap_or_default().into(),
    ];
    let value = json!({
        "gateway": node,
        "cluster": peer.cluster,
        "state": word,
        "reason": peer.reason,
        "rttMilliseconds": rtt,
        "loss": loss,
        "mtu": peer.mtu,
        "rxBytes": peer.rx_bytes,
        "txBytes": peer.tx_bytes,
        "handshakeSeconds": peer.handshake_age_seconds,
        "downSince": since,
        "observed": observed.map(told),
    });
    entry(format!("connection/{node}.{}", peer.cluster), fields, value)
}

fn exports(seen: &Seen) -> Vec<Entry> {
    let row = |export: &ServiceExport| {
        let (namespace, name) = (export.namespace().unwrap_or_default(), export.name_any());
        let conditions = export.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let bad = [("Valid", "True"), ("Ready", "True"), ("Conflict", "False")];
        let bad = bad.into_iter().find_map(|(kind, good)| {
            let bad = condition(conditions, kind).filter(|condition| condition.status != good)?;
            Some(seen.speech.spoken(&bad.message))
        });
        let message = match conditions.is_empty() {
            true => "no controller has looked at it yet".to_owned(),
            false => bad.unwrap_or_default(),
        };
        // Conflict is told by its controller alone when there is one.
        let conflict = match condition(conditions, "Conflict") {
            None => Field::from(""),
            Some(_) => verdict(conditions, "Conflict", "False"),
        };
        let fields = vec![
            namespace.as_str().into(),
            name.as_str().into(),
            verdict(conditions, "Valid", "True"),
            verdict(conditions, "Ready", "True"),
            conflict,
            message.as_str().into(),
        ];
        let value = json!({ "namespace": namespace, "name": name, "message": message, "conditions": conditions });
        entry(format!("serviceexport/{namespace}/{name}"), fields, value)
    };
    seen.exports.iter().map(row).collect()
}

fn imports(seen: &Seen) -> Vec<Entry> {
    let row = |import: &ServiceImport| {
        let (namespace, name) = (import.namespace().unwrap_or_default(), import.name_any());
        let kind = match import.spec.kind {
            ImportType::ClusterSetIP => "ClusterSetIP",
            ImportType::Headless => "Headless",
            ImportType::Unknown => "Unknown",
        };
        let clusters = import.status.iter().flat_map(|status| &status.clusters);
        let clusters: Vec<&str> = clusters.map(|cluster| cluster.cluster.as_str()).collect();
        let dns = format!("{name}.{namespace}.svc.clusterset.local");
        let fields = vec![
            namespace.as_str().into(),
            name.as_str().into(),
            kind.into(),
            import.spec.ips.join(" ").into(),
            import.spec.ports.iter().map(port).collect::<Vec<_>>().join(" ").into(),
            clusters.join(" ").into(),
            dns.as_str().into(),
        ];
        let value = json!({
            "namespace": namespace,
            "name": name,
            "type": kind,
            "ips": import.spec.ips,
            "ports": import.spec.ports,
            "clusters": clusters,
            "dnsName": dns,
        });
        entry(format!("serviceimport/{namespace}/{name}"), fields, value)
    };
    seen.imports.iter().map(row).collect()
}

/// `80/TCP`, as kubectl writes ports of Services.
fn port(port: &ImportPort) -> String {
    format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or("TCP"))
}

fn networks(seen: &Seen) -> Vec<Entry> {
    let row = |member: &Member| {
        let (name, spec) = (member.name_any(), &member.spec);
        let pairs = spec.virtual_cidrs.iter().map(|pair| format!("{} as {}", pair.pods, pair.r#virtual));
        let mut pairs: Vec<String> = pairs.collect();
        if spec.virtual_only {
            pairs.push("(only so)".to_owned());
        }
        let resting: Vec<&str> = spec.resting_cidrs.iter().map(|resting| resting.r#virtual.as_str()).collect();
        let fields = vec![
            name.as_str().into(),
            spec.pod_cidrs.join(" ").into(),
            spec.service_cidrs.join(" ").into(),
            pairs.join(" ").into(),
            resting.join(" ").into(),
        ];
        let value = json!({
            "cluster": name,
            "podCIDRs": spec.pod_cidrs,
            "serviceCIDRs": spec.service_cidrs,
            "virtualCIDRs": spec.virtual_cidrs,
            "virtualOnly": spec.virtual_only,
            "restingCIDRs": spec.resting_cidrs,
        });
        entry(format!("member/{name}"), fields, value)
    };
    seen.members.iter().map(row).collect()
}

fn versions(seen: &Seen) -> Vec<Entry> {
    let simple = |component: &str, version: &str| {
        let value = json!({ "component": component, "version": version });
        entry(format!("version/{component}"), vec![component.into(), version.into(), "".into(), "".into()], value)
    };
    let mut rows = vec![simple("kubectl-linkspan", VERSION)];
    rows.extend(seen.kubernetes.as_deref().map(|version| simple("kubernetes", version)));
    rows.extend(seen.workloads.iter().map(|workload| {
        let tag = &version_of(&workload.image);
        let tone = if workload.ready >= workload.wanted { Tone::Good } else { Tone::Bad };
        let ready = format!("{}/{}", workload.ready, workload.wanted);
        let fields = vec![
            workload.name.as_str().into(),
            tag.as_str().into(),
            Field::new(ready, tone),
            workload.image.as_str().into(),
        ];
        let value = json!({
            "component": workload.name,
            "version": tag,
            "image": workload.image,
            "ready": workload.ready,
            "wanted": workload.wanted,
        });
        entry(format!("version/{}", workload.name), fields, value)
    }));
    rows.extend(seen.members.iter().map(|member| {
        let (name, spec) = (member.name_any(), &member.spec);
        let component = format!("member {name}");
        let value = json!({ "component": component, "version": spec.version, "protocol": spec.protocol });
        let fields = vec![component.as_str().into(), spec.version.as_str().into(), "".into(), "".into()];
        entry(format!("version/member-{name}"), fields, value)
    }));
    rows
}

/// The tag of an image; where it has none, the first digits of its digest, as `docker images` shows them.
fn version_of(image: &str) -> String {
    const DIGITS: usize = 12;
    let Image { tag, digest, .. } = Image::of(image);
    match (tag, digest.map(|digest| digest.split_once(':').unwrap_or(("", digest)))) {
        (Some(tag), _) => tag.to_owned(),
        (None, Some((algorithm, digits))) => {
            format!("{algorithm}:{}", digits.chars().take(DIGITS).collect::<String>())
        }
        (None, None) => image.to_owned(),
    }
}

#[cfg(test)]
mod tests;
