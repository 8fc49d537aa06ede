//! Many clusters in one picture: they know each other, and their nodes have answered what a diagnosis asks. All is well but
//! for cluster DNS, which they do not have.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controller::node::Way;
use linkspan::kubectl::diagnose::questions;
use linkspan::kubectl::inspect::{
    Inspection, LinkSeen, LookupSeen, NameSeen, Outcome, PacketSeen, ProbeSeen, Questions, ServiceSeen,
};
use linkspan::kubectl::picture::{Clock, ClusterPicture, NodePicture, Part, Picture, Server, all_nodes};
use linkspan::status::{PeerReport, Report, TunnelReport};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Pods in each cluster besides those of Linkspan.
const PODS: u8 = 30;

/// So many clusters with so many nodes each, at most 250 of either. Each exports one service, and imports that of every
/// other one. What nodes have told first, and whom they reach, is in it.
pub fn fleet(clusters: u8, nodes: u8) -> Picture {
    let members: Part<_> = objects((0..clusters).map(member));
    let of = |at| ClusterPicture { members: members.clone(), ..cluster(at, clusters, nodes) };
    let mut picture = Picture { clusters: (0..clusters).map(of).collect() };
    answer(&mut picture, all_nodes);
    answer(&mut picture, questions);
    picture
}

/// What nodes answer to these questions.
pub fn answer(picture: &mut Picture, asked: impl Fn(&Picture) -> Vec<BTreeMap<String, Questions>>) {
    let clusters = picture.clusters.len() as u8;
    for (at, nodes) in asked(picture).into_iter().enumerate() {
        for (node, questions) in nodes {
            let seen = told(at as u8, clusters, &node, questions);
            picture.clusters[at].inspections.insert(node, Part::Seen(seen));
        }
    }
}

fn id(at: u8) -> String {
    format!("cluster-{at:03}")
}

fn node(at: u8, number: u8) -> String {
    format!("{}-{number}", id(at))
}

fn key(at: u8) -> String {
    STANDARD.encode([at.wrapping_add(1); 32])
}

fn services(at: u8) -> (u8, u8) {
    (16 + at / 16, at % 16 * 16)
}

fn objects<T: DeserializeOwned>(objects: impl Iterator<Item = Value>) -> Part<Vec<T>> {
    Part::Seen(objects.map(|object| serde_json::from_value(object).expect("it is of this kind")).collect())
}

fn member(at: u8) -> Value {
    let yes = |kind: &str| json!({ "type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z" });
    let (second, third) = services(at);
    json!({
        "metadata": { "name": id(at), "namespace": "linkspan-system", "annotations": { "linkspan.dev/joined-at": "2026-11-01T00:00:00Z" } },
        "spec": {
            "clusterID": id(at), "clusterUID": format!("uid-{at}"),
            "podCIDRs": [format!("10.{at}.0.0/16")], "serviceCIDRs": [format!("172.{second}.{third}.0/20")],
            "gateways": [{ "node": node(at, 1), "publicKey": key(at), "endpoints": [format!("192.0.2.{at}:51820")], "lanes": 2, "active": true }],
            "version": "0.1.0", "protocol": 1,
        },
        "status": { "conditions": [yes("Alive"), yes("Joined"), yes("Ready")] },
    })
}

fn cluster(at: u8, clusters: u8, nodes: u8) -> ClusterPicture {
    let (second, third) = services(at);
    let service = |namespace: &str, name: &str, last: u8, selector: Value| {
        let ip = format!("172.{second}.{third}.{last}");
        json!({ "metadata": { "name": name, "namespace": namespace }, "spec": { "clusterIP": ip, "clusterIPs": [ip], "selector": selector } })
    };
    let is = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": kind, "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z" });
    let export = json!({
        "metadata": { "name": format!("web-{at}"), "namespace": "default" },
        "status": { "conditions": [is("Valid", "True"), is("Ready", "True"), is("Conflict", "False")] },
    });
    let import = |of: u8| {
        json!({
            "metadata": { "name": format!("web-{of}"), "namespace": "default" },
            "spec": { "type": "ClusterSetIP", "ips": [format!("172.{second}.{}.{of}", third + 1)], "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
            "status": { "clusters": [{ "cluster": id(of) }], "conditions": [is("Ready", "True")] },
        })
    };
    let record = |of: u8| {
        json!({
            "metadata": { "name": format!("web-{of}"), "namespace": "linkspan-system" },
            "spec": { "clusterID": id(of), "namespace": "default", "name": format!("web-{of}"), "exportedAt": "2026-11-01T00:00:00Z", "type": "ClusterSetIP", "ports": [] },
        })
    };
    let policy = json!({ "metadata": { "name": "all", "namespace": "default" }, "spec": { "podSelector": {}, "ingress": [{}] } });
    ClusterPicture {
        context: id(at),
        server: Part::Seen(Server {
            version: "v1.34.4".to_owned(),
            clock: Some(Clock { before: 100_000, from: 100_000, to: 100_999, after: 100_050 }),
        }),
        id: Part::Seen(Some(id(at))),
        configs: Part::Seen(BTreeMap::new()),
        gateways: objects(
            [json!({
                "metadata": { "name": node(at, 1), "namespace": "linkspan-system" },
                "spec": { "publicKey": key(at), "endpoints": [format!("192.0.2.{at}:51820")], "lanes": 2 },
                "status": { "active": true, "summary": "", "peers": [] },
            })]
            .into_iter(),
        ),
        leases: objects(
            [json!({
                "metadata": { "name": "linkspan-gateway", "namespace": "linkspan-system" },
                "spec": { "holderIdentity": node(at, 1), "renewTime": "1970-01-01T00:01:40.000000Z" },
            })]
            .into_iter(),
        ),
        records: objects((0..clusters).map(record)),
        exports: objects([export].into_iter()),
        imports: objects((0..clusters).map(import)),
        nodes: objects((1..=nodes).map(|number| node_object(at, number))),
        namespaces: objects([json!({ "metadata": { "name": "default" } })].into_iter()),
        pods: objects(pods(at, nodes).into_iter()),
        services: objects(
            [
                service("linkspan-system", "linkspan-dns", 53, json!({ "app.kubernetes.io/component": "dns" })),
                service("default", &format!("web-{at}"), 50, json!({ "app": "web" })),
            ]
            .into_iter(),
        ),
        slices: objects((0..clusters).map(|of| slice(&imported_labels(of), of)).chain([slice(&own_labels(at), at)])),
        policies: objects([policy].into_iter()),
        roles: Part::Seen(roles()),
        ..ClusterPicture::default()
    }
}

fn node_object(at: u8, number: u8) -> Value {
    let cidr = format!("10.{at}.{}.0/24", number - 1);
    json!({
        "metadata": { "name": node(at, number) },
        "spec": { "podCIDR": cidr, "podCIDRs": [cidr] },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": format!("198.18.{at}.{number}") }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn pods(at: u8, nodes: u8) -> Vec<Value> {
    let pod = |namespace: &str, name: String, node: String, address: String, labels: Value| {
        json!({
            "metadata": { "name": name, "namespace": namespace, "labels": labels },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "linkspan/linkspan:0.1.0" }] },
            "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "conditions": [{ "type": "Ready", "status": "True" }] },
        })
    };
    let mut pods = Vec::new();
    for number in 1..=nodes {
        for (component, last) in [("node", 2), ("controller", 3), ("dns", 4)] {
            let labels = json!({ "app.kubernetes.io/name": "linkspan", "app.kubernetes.io/component": component });
            let name = format!("linkspan-{component}-{number}");
            let address = format!("10.{at}.{}.{last}", number - 1);
            pods.push(pod("linkspan-system", name, node(at, number), address, labels));
        }
    }
    for number in 0..PODS {
        let address = format!("10.{at}.{}.{}", number % nodes, 10 + number);
        let labels = json!({ "app": if number < 3 { "web" } else { "other" } });
        pods.push(pod("default", format!("app-{number}"), node(at, 1 + number % nodes), address, labels));
    }
    pods
}

fn imported_labels(of: u8) -> Value {
    json!({ "multicluster.kubernetes.io/service-name": format!("web-{of}"), "multicluster.kubernetes.io/source-cluster": id(of) })
}

fn own_labels(at: u8) -> Value {
    json!({ "kubernetes.io/service-name": format!("web-{at}") })
}

/// A slice of the service that a cluster exports.
fn slice(labels: &Value, of: u8) -> Value {
    json!({
        "metadata": { "name": format!("web-{of}"), "namespace": "default", "labels": labels }, "addressType": "IPv4",
        "endpoints": [{ "addresses": [format!("10.{of}.0.10")], "conditions": { "ready": true } }],
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
    })
}

fn roles() -> Vec<String> {
    let kinds = [
        ("ClusterRole", &["controller", "node"][..]),
        ("ClusterRoleBinding", &["controller", "node"]),
        ("Role", &["controller", "coredns", "node"]),
        ("RoleBinding", &["controller", "coredns", "node"]),
    ];
    kinds.iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind}/linkspan-{name}"))).collect()
}

fn told(at: u8, clusters: u8, node: &str, asked: Questions) -> NodePicture {
    let is_gateway = node.ends_with("-1");
    let peer = |of| PeerReport {
        name: id(of),
        state: "up".to_owned(),
        public_key: key(of),
        endpoint: Some(format!("192.0.2.{of}:51820")),
        mtu: 1420,
        heard_seconds: Some(0.4),
        ..PeerReport::default()
    };
    let tunnel = TunnelReport {
        link: "linkspan0".to_owned(),
        public_key: key(at),
        listen_port: 51820,
        mtu: 1420,
        lanes: 2,
        peers: (0..clusters).filter(|of| *of != at).map(peer).collect(),
        ..TunnelReport::default()
    };
    let status = Report {
        version: "0.1.0".to_owned(),
        cluster: id(at),
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
        inspection: inspection(at, node, asked),
        unanswered: None,
    }
}

fn inspection(at: u8, node: &str, asked: Questions) -> Inspection {
    let (link, to) = match node.ends_with("-1") {
        true => ("linkspan0", None),
        false => ("linkspan-nodes", Some([198, 18, at, 1].into())),
    };
    let way =
        Way { link: Some(link.to_owned()), table: controller::node::mark::TABLE_REMOTE, node: to, ..Way::default() };
    let number: u8 = node.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(1);
    Inspection {
        version: "0.1.0".to_owned(),
        links: ["linkspan0", "linkspan-nodes"]
            .map(|name| LinkSeen { name: name.to_owned(), up: true, mtu: 1420 })
            .into(),
        addresses: vec![format!("198.18.{at}.{number}/24 dev eth0"), format!("10.{at}.{}.1/24 dev cni0", number - 1)],
        lookups: asked.lookups.into_iter().map(|of| LookupSeen { of, way: way.clone() }).collect(),
        packets: asked.packets.into_iter().map(|of| PacketSeen { of, hits: Vec::new() }).collect(),
        services: asked
            .services
            .into_iter()
            .map(|address| ServiceSeen { address, programmed: Some(true), by: "nftables".to_owned() })
            .collect(),
        probes: asked
            .probes
            .into_iter()
            .map(|of| ProbeSeen { of, outcome: Outcome::Answered, detail: "answered".to_owned() })
            .collect(),
        names: asked
            .names
            .into_iter()
            .map(|of| NameSeen { of, addresses: Vec::new(), answer: "NOERROR".to_owned() })
            .collect(),
        ..Inspection::default()
    }
}
