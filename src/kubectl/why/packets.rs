//! What the packet filters of the nodes on the way do to the packets of one connection.

use std::net::IpAddr;

use controller::node::Way;
use controller::node::filter::{Effect, Packet, Passage};

use super::Hop;
use super::ends::Client;
use super::flow::Target;
use crate::kubectl::diagnose::{Fault, cni, firewall};
use crate::kubectl::inspect::{Inspection, PacketSeen, is_of_filter};
use crate::kubectl::picture::ClusterPicture;
use crate::kubectl::picture::facts::on_host_network;

/// A connection, as one of the clusters sees its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) client: IpAddr,
    server: IpAddr,
    /// The server's.
    port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    protocol: String,
}

/// Where on its way a packet passes a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// On the client's node.
    Client,
    /// On the gateway of the client's cluster, if it is another node.
    Leaving,
    /// On the gateway of the server's cluster.
    Arriving,
    /// On the server's node, if it is another one.
    Server,
}

impl Connection {
    /// In the client's cluster.
    pub(super) fn near(from: &Client<'_>, target: &Target) -> Option<Self> {
        Some(Self::of(from.address_to(target.address)?, target.address, target))
    }

    /// In the server's cluster.
    pub(super) fn far(from: &Client<'_>, far: &ClusterPicture, native: IpAddr, target: &Target) -> Option<Self> {
        let client = far.calls(from.cluster.id()?, from.address_to(native)?)?;
        Some(Self::of(client, native, target))
    }

    fn of(client: IpAddr, server: IpAddr, target: &Target) -> Self {
        Self { client, server, port: target.port, protocol: target.protocol.to_ascii_lowercase() }
    }

    /// Whether a packet is one from its client to its server.
    fn has(&self, packet: &Packet) -> bool {
        packet.from == self.client
            && packet.to == self.server
            && packet.port == self.port
            && packet.protocol == self.protocol
    }

    /// Whether a packet is one of its answers.
    fn answers(&self, packet: &Packet) -> bool {
        packet.from == self.server
            && packet.to == self.client
            && packet.source_port == self.port
            && packet.protocol == self.protocol
    }

    fn packet(&self, input: Option<String>, output: Option<String>, passage: Passage) -> Packet {
        Packet {
            from: self.client,
            to: self.server,
            protocol: self.protocol.clone(),
            port: self.port,
            source_port: None,
            input,
            output,
            passage,
        }
    }
}

/// A packet, and its answer.
pub(super) fn both_ways(packet: Packet) -> [Packet; 2] {
    let Packet { from, to, protocol, port, input, output, passage, .. } = packet.clone();
    let passage = match passage {
        Passage::Out => Passage::In,
        Passage::In => Passage::Out,
        Passage::Through => Passage::Through,
    };
    let answer =
        Packet { from: to, to: from, protocol, port: None, source_port: port, input: output, output: input, passage };
    [packet, answer]
}

/// The packet that a node of the client's cluster is asked about; nothing where it passes another one.
pub(super) fn leaving(from: &Client<'_>, target: &Target, node: &str) -> Option<Packet> {
    let (cluster, connection) = (from.cluster, Connection::near(from, target)?);
    let is_gateway = cluster.active_gateway().as_deref() == Some(node);
    let stage = match (from.node.as_deref() == Some(node), is_gateway) {
        (true, _) => Stage::Client,
        (false, true) => Stage::Leaving,
        (false, false) => return None,
    };
    Some(pass(cluster, node, stage, &connection, from.is_on_node()))
}

/// The packet that a node of the server's cluster is asked about; nothing where it passes another one.
pub(super) fn arriving(
    from: &Client<'_>,
    far: &ClusterPicture,
    native: IpAddr,
    target: &Target,
    node: &str,
) -> Option<Packet> {
    let connection = Connection::far(from, far, native, target)?;
    let is_gateway = far.active_gateway().as_deref() == Some(node);
    let has_server = far.node_of_address(native).as_deref() == Some(node);
    let stage = match (is_gateway, has_server) {
        (true, _) => Stage::Arriving,
        (false, true) => Stage::Server,
        (false, false) => return None,
    };
    let is_on_node = far.pod_by_address(native).is_none_or(on_host_network);
    Some(pass(far, node, stage, &connection, has_server && is_on_node))
}

/// `is_end` tells that the node itself is the client or the server.
fn pass(cluster: &ClusterPicture, node: &str, stage: Stage, connection: &Connection, is_end: bool) -> Packet {
    let tunnel = || cluster.tunnel().map(|tunnel| tunnel.link.clone());
    let (input, output) = match stage {
        Stage::Client => (cluster.pod_link(node), cluster.way_out(node)),
        Stage::Leaving => (cluster.nodes_link(node), tunnel()),
        Stage::Arriving => (tunnel(), onward(cluster, node, connection.server)),
        Stage::Server => (cluster.nodes_link(node), cluster.pod_link(node)),
    };
    match (is_end, stage) {
        (false, _) => connection.packet(input, output, Passage::Through),
        (true, Stage::Client) => connection.packet(None, output, Passage::Out),
        (true, _) => connection.packet(input, None, Passage::In),
    }
}

/// The link by which a gateway hands on what comes out of the tunnel, once it has told the way.
fn onward(cluster: &ClusterPicture, gateway: &str, native: IpAddr) -> Option<String> {
    inward(cluster.inspection(gateway)?, native)?.link.clone()
}

/// The way of packets that come out of the tunnel of a gateway for an address.
pub(super) fn inward(seen: &Inspection, native: IpAddr) -> Option<&Way> {
    let found = seen.lookups.iter().find(|found| found.of.to == native && found.of.arriving.is_some());
    found.map(|found| &found.way)
}

/// What the packet filter of a node does to a connection.
pub(super) fn hop(cluster: &ClusterPicture, node: &str, seen: &Inspection, connection: Option<&Connection>) -> Hop {
    let is_gateway = cluster.active_gateway().as_deref() == Some(node);
    let (here, what) =
        (cluster.name(), format!("packet filter of {} {node}", if is_gateway { "gateway" } else { "node" }));
    if let Some(why) = seen.unseen.iter().find(|text| is_of_filter(text)) {
        return Hop::unseen(here, what, why.clone());
    }
    let Some(connection) = connection else {
        return Hop::unseen(here, what, "the client has no address of that family");
    };
    let own: Vec<&PacketSeen> = seen.packets.iter().filter(|packet| connection.has(&packet.of)).collect();
    if own.is_empty() {
        return Hop::unseen(here, what, "it did not tell what it does to this connection");
    }
    let rule = cni::masquerade(own.iter().copied()).or_else(|| firewall::dropped(node, own.iter().copied()));
    let answers = seen.packets.iter().filter(|packet| connection.answers(&packet.of));
    let rule = rule.or_else(|| firewall::dropped(node, answers).map(of_answers));
    Hop::judged(here, what, rule, harmless(&own))
}

/// What is told of a rule that drops answers: the listing does not tell whether an earlier one lets through what belongs to
/// a connection, which most firewalls do.
fn of_answers(fault: Fault) -> Fault {
    let cause =
        "a firewall rule on this node drops answers, if none before it accepts packets of connections that it knows";
    let mut fault = Fault { cause: cause.to_owned(), ..fault };
    fault.soften();
    fault
}

/// What is told where no rule surely touches it: those that perhaps do, as port or set decide, are named.
fn harmless(packets: &[&PacketSeen]) -> String {
    let touches = |effect| !matches!(effect, Effect::Dnat);
    let mut hits = packets.iter().flat_map(|packet| &packet.hits).filter(|hit| !hit.ours && touches(hit.effect));
    match hits.next() {
        Some(hit) => {
            format!("no rule of others surely touches it; chain {} perhaps {} it: {}", hit.place, hit.effect, hit.rule)
        }
        None => "no rule of others touches it".to_owned(),
    }
}
