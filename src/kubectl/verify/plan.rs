//! Which calls prove that clusters are joined.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::kubectl::stage::{self, Cluster, Stage};

/// What a call proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A pod reaches a pod by its address, and is seen with its own.
    Pod,
    /// Packets of full size pass, both ways.
    LargePackets,
    /// A service is reached by name over TCP.
    Service,
    /// And over UDP.
    ServiceUdp,
    /// A pod of a headless service is reached by its own name.
    PodName,
    /// Traffic comes back when a gateway has gone.
    Failover,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod to pod",
            Self::LargePackets => "large packets",
            Self::Service => "service by name",
            Self::ServiceUdp => "service by name, UDP",
            Self::PodName => "pod by name",
            Self::Failover => "gateway restart",
        })
    }
}

/// A call from a test pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What it proves.
    pub kind: Kind,
    /// Cluster ID and pod of the caller.
    pub from: (String, String),
    /// Cluster ID of the server.
    pub to: String,
    /// Name or address and port that is called.
    pub target: String,
    /// By which addresses the server's cluster knows the caller.
    pub seen_as: Vec<IpAddr>,
    /// Which pods may answer.
    pub servers: Vec<String>,
}

/// All calls between all clusters, those of one pod together.
pub fn plan(stage: &Stage) -> Vec<Call> {
    let mut calls = Vec::new();
    for near in &stage.clusters {
        for pod in &near.pods {
            for far in stage.clusters.iter().filter(|far| far.id != near.id) {
                calls.extend(between(near, &pod.name, far));
            }
        }
    }
    calls
}

fn between(near: &Cluster, pod: &str, far: &Cluster) -> Vec<Call> {
    let seen_as = far.known.get(&near.id).and_then(|known| known.pods.get(pod)).cloned().unwrap_or_default();
    let call = |kind, target, servers: Vec<String>| Call {
        kind,
        from: (near.id.clone(), pod.to_owned()),
        to: far.id.clone(),
        target,
        seen_as: seen_as.clone(),
        servers,
    };
    let mut calls = Vec::new();
    let known = near.known.get(&far.id);
    for (server, addresses) in known.iter().flat_map(|known| &known.pods) {
        for address in addresses {
            calls.push(call(Kind::Pod, stage::at(*address), vec![server.clone()]));
        }
    }
    let all: Vec<String> = far.pods.iter().map(|pod| pod.name.clone()).collect();
    let first = known.and_then(|known| known.pods.iter().next());
    if let Some((server, [address, ..])) = first.map(|(server, addresses)| (server, addresses.as_slice())) {
        calls.push(call(Kind::LargePackets, stage::at(*address), vec![server.clone()]));
        let host = format!("{server}.{}.{}", far.id, name(&stage::headless(&far.id)));
        calls.push(call(Kind::PodName, host, vec![server.clone()]));
    }
    let service = name(&stage::service(&far.id));
    calls.push(call(Kind::Service, service.clone(), all.clone()));
    calls.push(call(Kind::ServiceUdp, service, all));
    calls
}

fn name(service: &str) -> String {
    format!("{service}.{}.svc.clusterset.local:{}", stage::NAMESPACE, stage::PORT)
}
