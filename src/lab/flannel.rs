//! flannel's VXLAN backend and its masquerade rules, as flannel 0.26 leaves them on a node (`--ip-masq`, iptables).

use std::net::IpAddr;

use ipnet::IpNet;

use super::plan::{Node, Site};

/// MTU of pods and of the pod bridge: 1500 less what VXLAN over IPv4 adds, as flannel computes it.
pub const POD_MTU: u16 = 1450;
/// The same over IPv6.
const V6_MTU: u16 = 1430;

/// Lines for `ip -batch` in the node's namespace: the VXLAN link of each family with one route and one permanent
/// neighbour entry for each other node of the site.
pub fn links(site: &Site, node: &Node) -> String {
    let mut lines = String::new();
    for (at, net) in node.pod_cidrs.iter().enumerate() {
        let (link, mtu) = link_of(net);
        let local = node.addresses[at].addr();
        lines += &format!(
            "link add {link} address {mac} mtu {mtu} type vxlan id 1 local {local} dev eth0 dstport 8472 nolearning\n\
             addr add {vtep}/{full} dev {link} {dad}\n\
             link set {link} up\n",
            mac = node.vtep_mac,
            vtep = net.network(),
            full = net.max_prefix_len(),
            dad = dad(net),
        );
        for other in others(site, node) {
            let (their, mac) = (&other.pod_cidrs[at], &other.vtep_mac);
            let vtep = their.network();
            lines += &format!(
                "route add {their} via {vtep} dev {link} onlink\n\
                 neigh add {vtep} lladdr {mac} dev {link} nud permanent\n"
            );
        }
    }
    lines
}

/// Lines for `bridge -batch`: which node is behind each other VXLAN MAC address.
pub fn forwarding(site: &Site, node: &Node) -> String {
    let mut lines = String::new();
    for (at, net) in node.pod_cidrs.iter().enumerate() {
        let (link, _) = link_of(net);
        for other in others(site, node) {
            let address: IpAddr = other.addresses[at].addr();
            lines += &format!("fdb append {} dev {link} dst {address} self permanent\n", other.vtep_mac);
        }
    }
    lines
}

/// Input for `iptables-nft-restore --noflush`, or for its IPv6 twin: which of flannel's rules apply to the family of
/// `cluster`, in flannel's order. `own` is the node's part of it.
pub fn masquerade(cluster: &IpNet, own: &IpNet) -> String {
    let multicast = if cluster.addr().is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
    let comment = "-m comment --comment \"flanneld masq\"";
    let forward = "-m comment --comment \"flanneld forward\"";
    format!(
        "*nat\n\
         :FLANNEL-POSTRTG - [0:0]\n\
         -A POSTROUTING {comment} -j FLANNEL-POSTRTG\n\
         -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG -s {own} -d {cluster} {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG -s {cluster} -d {own} {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG ! -s {cluster} -d {own} {comment} -j RETURN\n\
         -A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} {comment} -j MASQUERADE --random-fully\n\
         -A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} {comment} -j MASQUERADE --random-fully\n\
         COMMIT\n\
         *filter\n\
         :FLANNEL-FWD - [0:0]\n\
         -A FORWARD {forward} -j FLANNEL-FWD\n\
         -A FLANNEL-FWD -s {cluster} {forward} -j ACCEPT\n\
         -A FLANNEL-FWD -d {cluster} {forward} -j ACCEPT\n\
         COMMIT\n"
    )
}

fn others<'a>(site: &'a Site, node: &'a Node) -> impl Iterator<Item = &'a Node> {
    site.nodes.iter().filter(move |other| other.name != node.name)
}

fn link_of(net: &IpNet) -> (&'static str, u16) {
    if net.addr().is_ipv4() { ("flannel.1", POD_MTU) } else { ("flannel-v6.1", V6_MTU) }
}

/// Addresses of a lab are unique by plan: duplicate address detection would only hold IPv6 up for a second.
pub fn dad(net: &IpNet) -> &'static str {
    if net.addr().is_ipv6() { "nodad" } else { "" }
}
