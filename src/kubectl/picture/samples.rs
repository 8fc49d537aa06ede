//! Pictures for tests: two clusters of two nodes in which all is as it should be. Tests break one thing each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use controller::coredns::{Action, Observed, plan};
use controller::node::Way;
use serde_json::{Value, json};

use super::{Clock, ClusterPicture, NodePicture, Part, Picture, Server};
use crate::kubectl::inspect::{
    Inspection, LinkSeen, LookupSeen, NameQuestion, NameSeen, Outcome, PacketSeen, ProbeSeen, Questions, ServiceSeen,
};
use crate::status::{PeerReport, Report, TunnelReport};

/// A cluster, as its addresses begin.
struct Shape {
    id: &'static str,
    /// Third byte of node addresses.
    site: u8,
    /// Second byte of pod addresses; services have the next.
    net: u8,
    key: &'static str,
}

const PARIS: Shape = Shape { id: "paris", site: 7, net: 42, key: "4ieHM0riiQ+O0/9YXR+U2dlFob6y27ZP+9Up+8G3XiI=" };
const BERLIN: Shape = Shape { id: "berlin", site: 8, net: 52, key: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=" };

/// Two clusters, joined and healthy, whose nodes have answered everything that a diagnosis asks.
///
/// - `paris` has pod `default/client` (10.42.1.7) on its worker `paris-2`;
/// - `berlin` exports `default/web`, whose pods are `on-berlin-1` (10.52.0.9) on the gateway and `on-berlin-2` (10.52.1.9).
pub fn healthy() -> Picture {
    let mut picture = Picture { clusters: vec![cluster(&PARIS, &BERLIN), cluster(&BERLIN, &PARIS)] };
    answer(&mut picture, super::all_nodes);
    answer(&mut picture, crate::kubectl::diagnose::questions);
    picture
}

/// Lets all nodes answer as healthy ones do.
pub fn answer(picture: &mut Picture, asked: impl Fn(&Picture) -> Vec<BTreeMap<String, Questions>>) {
    let asked = asked(picture);
    for (at, nodes) in asked.into_iter().enumerate() {
        for (node, questions) in nodes {
            let seen = node_picture(picture, &picture.clusters[at], &node, &questions);
            picture.clusters[at].inspections.insert(node, Part::Seen(seen));
        }
    }
}

/// Changes what a node has told.
pub fn alter(cluster: &mut ClusterPicture, node: &str, change: impl FnOnce(&mut NodePicture)) {
    match cluster.inspections.get_mut(node) {
        Some(Part::Seen(seen)) => change(seen),
        other => panic!("{node} has told nothing: {other:?}"),
    }
}

/// Changes how the active gateway sees a peer.
pub fn alter_peer(cluster: &mut ClusterPicture, peer: &str, change: impl FnOnce(&mut PeerReport)) {
    let gateway = cluster.active_gateway().unwrap();
    alter(cluster, &gateway, |node| {
        let Part::Seen(status) = &mut node.status else { panic!("no status") };
        let tunnel = status.tunnel.as_mut().unwrap();
        change(tunnel.peers.iter_mut().find(|found| found.name == peer).unwrap());
    });
}

/// Objects of a kind.
pub fn objects<T: serde::de::DeserializeOwned>(list: Value) -> Part<Vec<T>> {
    Part::Seen(serde_json::from_value(list).unwrap())
}

fn cluster(own: &Shape, other: &Shape) -> ClusterPicture {
    let id = own.id;
    let mut cluster = ClusterPicture {
        context: id.to_owned(),
        server: Part::Seen(Server {
            version: "v1.34.4".to_owned(),
            clock: Some(Clock { before: 100_000, from: 100_000, to: 100_999, after: 100_050 }),
        }),
        id: Part::Seen(Some(id.to_owned())),
        members: objects(json!([member(own, true), member(other, false)])),
        gateways: objects(json!([gateway(own)])),
        leases: objects(json!([{
            "metadata": { "name": "linkspan-gateway", "namespace": "linkspan-system" },
            "spec": { "holderIdentity": format!("{id}-1"), "renewTime": "1970-01-01T00:01:40.000000Z" },
        }])),
        records: objects(json!([])),
        exports: objects(if id == "berlin" { json!([export()]) } else { json!([]) }),
        imports: objects(json!([import(own)])),
        nodes: objects(json!([node(own, 1), node(own, 2)])),
        namespaces: objects(
            json!([{ "metadata": { "name": "default", "labels": { "kubernetes.io/metadata.name": "default" } } }]),
        ),
        pods: objects(Value::Array(pods(own))),
        services: objects(Value::Array(services(own))),
        slices: objects(Value::Array(slices(own))),
        policies: objects(json!([])),
        roles: Part::Seen(roles()),
        ..ClusterPicture::default()
    };
    cluster.configs = Part::Seen(configs(own));
    cluster
}

fn member(shape: &Shape, own: bool) -> Value {
    let yes = |kind: &str, reason: &str| json!({ "type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z" });
    let conditions = match own {
        true => json!([
            yes("BrokerReachable", "Reachable"),
            yes("Joined", "Joined"),
            yes("Published", "Published"),
            yes("Ready", "Ready"),
            yes("Unique", "Unique"),
            yes("Virtual", "NotNeeded")
        ]),
        false => json!([yes("Alive", "Heartbeat"), yes("Ready", "Ready"), yes("Records", "Accepted")]),
    };
    json!({
        "metadata": { "name": shape.id, "namespace": "linkspan-system", "annotations": { "linkspan.dev/joined-at": format!("2026-11-0{}T00:00:00Z", shape.site) } },
        "spec": {
            "clusterID": shape.id, "clusterUID": format!("uid-{}", shape.id),
            "podCIDRs": [format!("10.{}.0.0/16", shape.net)], "serviceCIDRs": [format!("10.{}.0.0/16", shape.net + 1)],
            "gateways": [{ "node": format!("{}-1", shape.id), "publicKey": shape.key, "endpoints": [format!("192.168.{}.11:51820", shape.site)], "lanes": 2, "active": true }],
            "version": "0.1.0", "protocol": 1,
        },
        "status": { "conditions": conditions },
    })
}

fn gateway(shape: &Shape) -> Value {
    json!({
        "metadata": { "name": format!("{}-1", shape.id), "namespace": "linkspan-system" },
        "spec": { "publicKey": shape.key, "endpoints": [format!("192.168.{}.11:51820", shape.site)], "lanes": 2 },
        "status": { "active": true, "summary": "1/1 up", "peers": [] },
    })
}

fn node(shape: &Shape, number: u8) -> Value {
    let cidr = format!("10.{}.{}.0/24", shape.net, number - 1);
    json!({
        "metadata": { "name": format!("{}-{number}", shape.id) },
        "spec": { "podCIDR": cidr, "podCIDRs": [cidr] },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": format!("192.168.{}.1{number}", shape.site) }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// A pod that runs and is ready.
pub fn pod(namespace: &str, name: &str, node: &str, address: &str, labels: Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "tools" }] },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": "c", "image": "tools", "imageID": "", "ready": true, "restartCount": 0 }],
        },
    })
}

fn pods(shape: &Shape) -> Vec<Value> {
    let id = shape.id;
    let mut pods = Vec::new();
    for number in 1..=2u8 {
        let node = format!("{id}-{number}");
        let ours = |component: &str, address: String| {
            let labels = json!({ "app.kubernetes.io/name": "linkspan", "app.kubernetes.io/component": component });
            let mut pod = pod("linkspan-system", &format!("linkspan-{component}-{number}"), &node, &address, labels);
            pod["spec"]["containers"][0]["image"] = "linkspan/linkspan:0.1.0".into();
            pod
        };
        let mut of_node = ours("node", format!("192.168.{}.1{number}", shape.site));
        of_node["spec"]["hostNetwork"] = true.into();
        pods.push(of_node);
        pods.push(ours("controller", format!("10.{}.{}.20", shape.net, number - 1)));
        pods.push(ours("dns", format!("10.{}.{}.21", shape.net, number - 1)));
        if id == "berlin" {
            let address = format!("10.52.{}.9", number - 1);
            pods.push(pod("default", &format!("on-{node}"), &node, &address, json!({ "app": "web" })));
        }
    }
    if id == "paris" {
        pods.push(pod("default", "client", "paris-2", "10.42.1.7", json!({ "app": "client" })));
    }
    pods
}

fn services(shape: &Shape) -> Vec<Value> {
    let service = |namespace: &str, name: &str, last: u8, selector: Value| {
        let ip = format!("10.{}.0.{last}", shape.net + 1);
        json!({
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "clusterIP": ip, "clusterIPs": [ip], "selector": selector, "ports": [{ "name": "http", "port": 80 }] },
        })
    };
    let mut services = vec![
        service("kube-system", "kube-dns", 10, json!({ "k8s-app": "kube-dns" })),
        service("linkspan-system", "linkspan-dns", 53, json!({ "app.kubernetes.io/component": "dns" })),
    ];
    if shape.id == "berlin" {
        services.push(service("default", "web", 50, json!({ "app": "web" })));
    }
    services
}

fn slice(namespace: &str, name: &str, labels: Value, addresses: &[String], port: u16) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({ "addresses": [address], "conditions": { "ready": true } })).collect();
    json!({
        "metadata": { "name": name, "namespace": namespace, "labels": labels }, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
    })
}

fn slices(shape: &Shape) -> Vec<Value> {
    let web = ["10.52.0.9".to_owned(), "10.52.1.9".to_owned()];
    let own = json!({ "multicluster.kubernetes.io/service-name": "web", "multicluster.kubernetes.io/source-cluster": "berlin" });
    let dns = [format!("10.{}.0.21", shape.net), format!("10.{}.1.21", shape.net)];
    let mut slices = vec![
        slice("default", "imported-web-berlin", own, &web, 80),
        slice("linkspan-system", "linkspan-dns-x", json!({ "kubernetes.io/service-name": "linkspan-dns" }), &dns, 5353),
    ];
    if shape.id == "berlin" {
        slices.push(slice("default", "web-x", json!({ "kubernetes.io/service-name": "web" }), &web, 80));
    }
    slices
}

fn export() -> Value {
    let is = |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z" });
    json!({
        "metadata": { "name": "web", "namespace": "default" },
        "status": { "conditions": [is("Valid", "True", "Valid"), is("Ready", "True", "Exported"), is("Conflict", "False", "NoConflicts")] },
    })
}

fn import(shape: &Shape) -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "type": "ClusterSetIP", "ips": [format!("10.{}.0.77", shape.net + 1)], "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
        "status": { "clusters": [{ "cluster": "berlin" }], "conditions": [{ "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z" }] },
    })
}

/// As K3s lays it out, shortened, with what Linkspan adds.
fn configs(shape: &Shape) -> BTreeMap<String, k8s_openapi::api::core::v1::ConfigMap> {
    let corefile = ".:53 {\n    kubernetes cluster.local\n    import /etc/coredns/custom/*.override\n}\nimport /etc/coredns/custom/*.server\n";
    let forward_to = vec![IpAddr::from([10, shape.net + 1, 0, 53])];
    let actions = plan(&Observed { corefile: Some(corefile.to_owned()), custom: None, forward_to }).unwrap();
    let [Action::ApplyCustom { data, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    let config = |name: &str, data: Value| {
        let object = json!({ "metadata": { "name": name, "namespace": "kube-system" }, "data": data });
        (format!("kube-system/{name}"), serde_json::from_value(object).unwrap())
    };
    BTreeMap::from([config("coredns", json!({ "Corefile": corefile })), config("coredns-custom", json!(data))])
}

fn roles() -> Vec<String> {
    let names =
        |kind: &str, names: &[&str]| names.iter().map(|name| format!("{kind}/linkspan-{name}")).collect::<Vec<_>>();
    [
        names("ClusterRole", &["controller", "dns", "node", "viewer", "edit"]),
        names("ClusterRoleBinding", &["controller", "dns", "node"]),
        names("Role", &["controller", "coredns", "dns", "node"]),
        names("RoleBinding", &["controller", "coredns", "dns", "node"]),
    ]
    .concat()
}

/// What a healthy node says.
fn node_picture(picture: &Picture, cluster: &ClusterPicture, node: &str, asked: &Questions) -> NodePicture {
    let id = cluster.id().unwrap();
    let shape = if id == "paris" { PARIS } else { BERLIN };
    let other = if id == "paris" { BERLIN } else { PARIS };
    let is_gateway = node.ends_with("-1");
    let peer = PeerReport {
        name: other.id.to_owned(),
        state: "up".to_owned(),
        reason: "the path answers".to_owned(),
        public_key: other.key.to_owned(),
        endpoint: Some(format!("192.168.{}.11:51820", other.site)),
        rtt_ms: Some(0.5),
        mtu: 1420,
        heard_seconds: Some(0.4),
        calls_sent: 1,
        calls_heard: 0,
        ..PeerReport::default()
    };
    let tunnel = TunnelReport {
        link: "linkspan0".to_owned(),
        public_key: shape.key.to_owned(),
        listen_port: 51820,
        mtu: 1420,
        lanes: 2,
        peers: vec![peer],
        ..TunnelReport::default()
    };
    let status = Report {
        version: "0.1.0".to_owned(),
        cluster: id.to_owned(),
        node: node.to_owned(),
        gateway: is_gateway,
        ready: true,
        tunnel: is_gateway.then_some(tunnel),
        ..Report::default()
    };
    NodePicture {
        pod: "linkspan-node".to_owned(),
        clock: Some(Clock { before: 100_100, from: 100_150, to: 100_150, after: 100_200 }),
        status: Part::Seen(status),
        inspection: inspection(picture, cluster, node, asked),
        unanswered: None,
    }
}

fn inspection(picture: &Picture, cluster: &ClusterPicture, node: &str, asked: &Questions) -> Inspection {
    let is_gateway = node.ends_with("-1");
    let net = if cluster.id() == Some("paris") { PARIS.net } else { BERLIN.net };
    let third = if is_gateway { 0 } else { 1 };
    let link = |name: &str| LinkSeen { name: name.to_owned(), up: true, mtu: 1420 };
    let mut links = vec![link("linkspan-nodes")];
    links.extend(is_gateway.then(|| link("linkspan0")));
    let way = |to: IpAddr| match cluster.place(to) {
        Some(place) if Some(place.cluster.as_str()) != cluster.id() => Way {
            link: Some(if is_gateway { "linkspan0" } else { "linkspan-nodes" }.to_owned()),
            table: 10_810,
            node: (!is_gateway).then(|| cluster.node_address(&cluster.active_gateway().unwrap()).unwrap()),
            ..Way::default()
        },
        _ => Way { link: Some("cni0".to_owned()), table: 254, ..Way::default() },
    };
    let resolves = |of: &NameQuestion| {
        let mut imports = cluster.imports.all().iter();
        let known = imports.find(|import| of.name.starts_with(import.metadata.name.as_deref().unwrap()));
        let ips = known.into_iter().flat_map(|import| import.spec.ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap()));
        ips.filter(|ip| ip.is_ipv6() == of.v6).collect()
    };
    let _ = picture;
    Inspection {
        version: "0.1.0".to_owned(),
        links,
        addresses: vec![format!("10.{net}.{third}.1/24 dev cni0")],
        udp_ports: vec![4790, 51820],
        lookups: asked.lookups.iter().map(|of| LookupSeen { of: of.clone(), way: way(of.to) }).collect(),
        packets: asked.packets.iter().map(|of| PacketSeen { of: of.clone(), hits: Vec::new() }).collect(),
        services: asked
            .services
            .iter()
            .map(|at| ServiceSeen { address: *at, programmed: Some(true), by: "nftables".to_owned() })
            .collect(),
        probes: asked
            .probes
            .iter()
            .map(|of| ProbeSeen { of: *of, outcome: Outcome::Answered, detail: "answered".to_owned() })
            .collect(),
        names: asked
            .names
            .iter()
            .map(|of| NameSeen { of: of.clone(), addresses: resolves(of), answer: "NOERROR".to_owned() })
            .collect(),
        ..Inspection::default()
    }
}
