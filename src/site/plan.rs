//! What one node of a site has to be: plain values for the tunnel, the controller and the name server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU8;

use controller::node::{Desired, TunnelLink, Vxlan};
use tunnel::config::{Config, MAX_MTU, MIN_MTU, Peer, PeerKind};

use super::load::Secrets;
use super::types::{Choice, Export, ExportKind, Node, Port, Protocol, Site};

/// Most lanes that `auto` chooses: beyond 4, one TCP flow gains nothing and many flows little (a lane fills a core).
const AUTO_LANES_MAX: usize = 4;

/// Bytes that WireGuard over IPv6 adds to a packet: 40 IP, 8 UDP, 16 header, 16 tag (WireGuard paper, section 5.4.6).
/// Counted for IPv4 too, where it is 20 less, so that both ends of a mixed path agree.
const WIREGUARD_OVERHEAD: u16 = 80;

/// What `auto` values are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// CPU cores that the process may use.
    pub cores: usize,
    /// MTU of the link towards the peers, in bytes.
    pub underlay_mtu: u16,
}

/// What one node has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// The node.
    pub node: Node,
    /// The tunnel device; on gateways only.
    pub tunnel: Option<Config>,
    /// Links, routes, rules and the packet filter.
    pub desired: Desired,
    /// Addresses of this node on which names are served.
    pub dns_listen: Vec<SocketAddr>,
    /// The zone, but for its serial.
    pub zone: dns::ZoneConfig,
    /// Exported services by cluster ID, this cluster's own among them.
    pub services: BTreeMap<String, Vec<dns::Service>>,
}

/// Why a site cannot be planned for a node although the file is right in itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The site has no such node.
    #[error("the site has no node {0:?}")]
    UnknownNode(String),
    /// A gateway without a key.
    #[error("node {0:?} is the gateway, but no private key was read; set privateKeyFile")]
    NoKey(String),
    /// A zone that DNS cannot name.
    #[error("dns.zone: {0}")]
    Zone(#[from] dns::NameError),
    /// A peer with our own key would be ourselves.
    #[error(
        "peer {0} has this cluster's own public key; put the other cluster's key there (linkspan pubkey prints it)"
    )]
    OwnKey(String),
}

/// Plans a node.
///
/// # Errors
/// [`PlanError`], when site, keys and node do not fit together.
pub fn plan(site: &Site, secrets: &Secrets, node: &str, machine: Machine) -> Result<NodePlan, PlanError> {
    let node = site.node(node).ok_or_else(|| PlanError::UnknownNode(node.to_owned()))?;
    let tunnel = if node.gateway { Some(tunnel_config(site, secrets, node, machine)?) } else { None };
    let dns_listen: Vec<_> = site.dns.listen.iter().copied().filter(|at| is_own(site, node, *at)).collect();
    let zone = dns::ZoneConfig {
        origin: site.dns.zone.parse()?,
        ttl: site.dns.ttl,
        server_addresses: dns_listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect(),
        ..Default::default()
    };
    let desired = desired(site, node, tunnel.as_ref(), u32::from(mtu(site, machine)));
    Ok(NodePlan { node: node.clone(), desired, tunnel, dns_listen, zone, services: services(site) })
}

/// `mtu` is that of the gateway's tunnel, as far as another node can tell: its own underlay is the only one that it knows.
fn desired(site: &Site, node: &Node, tunnel: Option<&Config>, mtu: u32) -> Desired {
    let gateways = site.nodes.iter().filter(|node| node.gateway).map(|node| node.name.clone());
    let gateways: Vec<String> = gateways.collect();
    let nodes = site.nodes.iter().map(|node| controller::node::Node {
        name: node.name.clone(),
        address: node.address,
        pod_cidrs: node.pod_cidrs.clone(),
    });
    let link =
        |config: &Config| TunnelLink { link: config.link.clone(), mtu: u32::from(config.mtu), addresses: Vec::new() };
    Desired {
        node: node.name.clone(),
        nodes: nodes.collect(),
        active_gateway: site.active_gateway.clone(),
        gateways,
        tunnel: tunnel.map(link),
        local: site.pod_cidrs.iter().chain(&site.service_cidrs).copied().collect(),
        remote: site.peers.iter().map(|peer| (peer.cluster.clone(), peer.allowed_ips.clone())).collect(),
        own_virtual: site.translation.iter().map(|pair| pair.r#virtual).collect(),
        vxlan: Vxlan { most: Some(mtu), ..Vxlan::default() },
        sources: Vec::new(),
        stale_tunnels: Vec::new(),
    }
}

fn services(site: &Site) -> BTreeMap<String, Vec<dns::Service>> {
    let own = (&site.cluster, &site.exports);
    let all = std::iter::once(own).chain(site.peers.iter().map(|peer| (&peer.cluster, &peer.exports)));
    all.map(|(cluster, exports)| (cluster.clone(), exports.iter().map(|export| service(cluster, export)).collect()))
        .collect()
}

fn service(cluster: &str, export: &Export) -> dns::Service {
    let kind = match &export.kind {
        ExportKind::ClusterSetIp(ips) => dns::ServiceKind::ClusterSetIp { ips: ips.clone() },
        ExportKind::Headless(backends) => dns::ServiceKind::Headless {
            endpoints: backends
                .iter()
                .map(|backend| dns::Endpoint {
                    cluster: cluster.to_owned(),
                    hostname: backend.hostname.clone(),
                    addresses: backend.addresses.clone(),
                    ready: backend.ready,
                })
                .collect(),
        },
    };
    let ports = export.ports.iter().map(port).collect();
    dns::Service { namespace: export.namespace.clone(), name: export.name.clone(), kind, ports }
}

fn port(port: &Port) -> dns::Port {
    dns::Port {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        protocol: match port.protocol {
            Protocol::Tcp => dns::Protocol::Tcp,
            Protocol::Udp => dns::Protocol::Udp,
            Protocol::Sctp => dns::Protocol::Sctp,
        },
        number: port.port,
    }
}

/// Whether a listen address belongs to this node: its own address, one of its pod prefixes, or one that every host has.
fn is_own(site: &Site, node: &Node, at: SocketAddr) -> bool {
    let ip = at.ip();
    let everywhere = ip.is_loopback() || ip.is_unspecified();
    let alone = site.nodes.len() == 1;
    everywhere || alone || ip == node.address || node.pod_cidrs.iter().any(|net| net.contains(&ip))
}

fn tunnel_config(site: &Site, secrets: &Secrets, node: &Node, machine: Machine) -> Result<Config, PlanError> {
    let private_key = secrets.private_key.clone().ok_or_else(|| PlanError::NoKey(node.name.clone()))?;
    let own = private_key.public_key();
    if let Some(peer) = site.peers.iter().find(|peer| peer.public_key == own) {
        return Err(PlanError::OwnKey(peer.cluster.clone()));
    }
    let vanilla = site.peers.iter().any(|peer| peer.lanes.is_none());
    // A gateway that only stands by has its device ready, but calls nobody: the others know the active one.
    let active = site.active_gateway.as_deref() == Some(node.name.as_str());
    let peers = site.peers.iter().filter(|_| active).map(|peer| peer_config(peer, secrets));
    Ok(Config {
        link: site.tunnel.link.clone(),
        private_key,
        listen_port: site.tunnel.listen_port,
        vanilla_port: vanilla.then_some(site.tunnel.vanilla_port),
        lanes: lanes(site, machine),
        mtu: mtu(site, machine),
        dscp: site.tunnel.dscp,
        offloads: site.tunnel.offloads,
        translation: site.translation.clone(),
        families_together: site.of_members,
        peers: peers.collect(),
    })
}

fn lanes(site: &Site, machine: Machine) -> NonZeroU8 {
    match site.tunnel.lanes {
        Choice::Fixed(lanes) => lanes,
        Choice::Auto => {
            let cores = machine.cores.clamp(1, AUTO_LANES_MAX);
            u8::try_from(cores).ok().and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MIN)
        }
    }
}

fn mtu(site: &Site, machine: Machine) -> u16 {
    match site.tunnel.mtu {
        Choice::Fixed(mtu) => mtu,
        Choice::Auto => machine.underlay_mtu.saturating_sub(WIREGUARD_OVERHEAD).clamp(MIN_MTU, MAX_MTU),
    }
}

fn peer_config(peer: &super::types::Peer, secrets: &Secrets) -> Peer {
    Peer {
        name: peer.cluster.clone(),
        public_key: peer.public_key,
        preshared_key: secrets.preshared.get(&peer.cluster).cloned(),
        endpoint: peer.endpoint,
        allowed_ips: peer.allowed_ips.clone(),
        persistent_keepalive: peer.persistent_keepalive,
        kind: match peer.lanes {
            Some(lanes) => PeerKind::Linkspan { lanes },
            None => PeerKind::Vanilla,
        },
        knows_us_by: peer.knows_us_by,
    }
}
