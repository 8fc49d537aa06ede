//! A cluster as flannel and kube-proxy leave it: a gateway node and a worker on one LAN, each with a bridge and a pod.

use std::net::IpAddr;

use controller::node::{Desired, Node, TunnelLink, Vxlan};
use ipnet::IpNet;

use crate::lab::{Lab, Namespace};

/// UDP port of the relay that stands in for the tunnel device.
const RELAY_PORT: u16 = 5555;

/// How kube-proxy writes its rules.
#[derive(Clone, Copy)]
pub enum KubeProxy {
    Iptables,
    Nftables,
}

/// A cluster. Its pods have 10.`number`.0.0/16 and fd`number`::/56, its services 10.`number + 1`.0.0/16.
pub struct Site {
    pub number: u8,
    pub switch: Namespace,
    pub nodes: [SiteNode; 2],
}

pub struct SiteNode {
    pub namespace: Namespace,
    pub pod: Namespace,
}

impl Site {
    pub fn new(lab: &mut Lab, number: u8, kube_proxy: KubeProxy) -> Self {
        let switch = lab.namespace(&format!("{number}-lan"));
        switch.run("ip link add lan type bridge; ip link set lan up");
        let nodes = [0, 1].map(|index| SiteNode::new(lab, &switch, number, index));
        let site = Self { number, switch, nodes };
        for index in [0, 1] {
            let (node, other) = (&site.nodes[index].namespace, 1 - index);
            // flannel's host-gw backend.
            node.run(&format!(
                "ip route add 10.{number}.{other}.0/24 via 192.168.{number}.{}
                 ip -6 route add fd{number}:0:0:{other}::/64 via fdaa:{number}::{}",
                other + 2,
                other + 2
            ));
            flannel(node, number, index);
            site.kube_proxy(node, kube_proxy);
        }
        site.nodes[1].namespace.run(&format!("ip route add default via 192.168.{number}.2"));
        site
    }

    pub fn pod_address(&self, index: usize) -> IpAddr {
        format!("10.{}.{index}.5", self.number).parse().unwrap()
    }

    pub fn pod_address_v6(&self, index: usize) -> IpAddr {
        format!("fd{}:0:0:{index}::5", self.number).parse().unwrap()
    }

    /// A service address whose backend is the worker's own pod.
    pub fn service(&self) -> String {
        format!("10.{}.0.10", self.number + 1)
    }

    /// A service address whose backend is the pod `address` of another cluster.
    pub fn derived_service(&self) -> String {
        format!("10.{}.0.99", self.number + 1)
    }

    pub fn desired(&self, index: usize, others: &[&Self]) -> Desired {
        let net = |text: String| -> IpNet { text.parse().unwrap() };
        let prefixes = |number: u8| {
            let service = number + 1;
            vec![
                net(format!("10.{number}.0.0/16")),
                net(format!("10.{service}.0.0/16")),
                net(format!("fd{number}::/56")),
            ]
        };
        let number = self.number;
        let node = |index: usize| Node {
            name: format!("n{index}"),
            address: format!("192.168.{number}.{}", index + 2).parse().unwrap(),
            pod_cidrs: vec![net(format!("10.{number}.{index}.0/24")), net(format!("fd{number}:0:0:{index}::/64"))],
        };
        Desired {
            node: format!("n{index}"),
            nodes: vec![node(0), node(1)],
            gateways: vec!["n0".into()],
            active_gateway: Some("n0".into()),
            tunnel: (index == 0).then(|| TunnelLink { link: "linkspan0".into(), mtu: 1400, addresses: Vec::new() }),
            local: prefixes(number),
            remote: others.iter().map(|other| (format!("c{}", other.number), prefixes(other.number))).collect(),
            own_virtual: Vec::new(),
            vxlan: Vxlan::default(),
            sources: Vec::new(),
            stale_tunnels: Vec::new(),
        }
    }

    /// The rules of kube-proxy for two services, in the form of Kubernetes 1.3x: what comes from outside the pod CIDR
    /// is marked and masqueraded. `derived_service` goes to the worker's pod of the cluster ten higher or lower.
    fn kube_proxy(&self, node: &Namespace, kube_proxy: KubeProxy) {
        let (number, service, derived) = (self.number, self.service(), self.derived_service());
        let other = if number == 42 { 52 } else { 42 };
        let backends = [(service, format!("10.{number}.1.5")), (derived, format!("10.{other}.1.5"))];
        match kube_proxy {
            KubeProxy::Iptables => iptables_kube_proxy(node, number, &backends),
            KubeProxy::Nftables => nftables_kube_proxy(node, number, &backends),
        }
    }
}

impl SiteNode {
    fn new(lab: &mut Lab, switch: &Namespace, number: u8, index: usize) -> Self {
        let namespace = lab.namespace(&format!("{number}-n{index}"));
        let pod = lab.namespace(&format!("{number}-p{index}"));
        attach(&namespace, switch, index, number);
        // A stern host: strict reverse path filtering everywhere, forwarding as Kubernetes sets it.
        namespace.run(&format!(
            "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip link add cni0 type bridge; ip link set cni0 up
             ip address add 10.{number}.{index}.1/24 dev cni0
             ip address add fd{number}:0:0:{index}::1/64 dev cni0 nodad
             ip link add eth0 netns {pod} type veth peer name pod
             ip link set pod master cni0 up",
            pod = pod.name
        ));
        pod.run(&format!(
            "ip link set eth0 up
             ip address add 10.{number}.{index}.5/24 dev eth0
             ip address add fd{number}:0:0:{index}::5/64 dev eth0 nodad
             ip route add default via 10.{number}.{index}.1
             ip -6 route add default via fd{number}:0:0:{index}::1"
        ));
        // A server that tells each client the address that it came from.
        lab.start(&pod, "socat TCP4-LISTEN:8080,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'");
        lab.start(&pod, "socat TCP6-LISTEN:8080,fork,reuseaddr,ipv6only SYSTEM:'echo $SOCAT_PEERADDR'");
        Self { namespace, pod }
    }
}

/// Connects a host to the LAN of a site as 192.168.`number`.`index + 2`.
pub fn attach(host: &Namespace, switch: &Namespace, index: usize, number: u8) {
    let last = index + 2;
    host.run(&format!(
        "ip link add eth0 type veth peer name port{index} netns {}
         ip address add 192.168.{number}.{last}/24 dev eth0
         ip address add fdaa:{number}::{last}/64 dev eth0 nodad
         ip link set eth0 up",
        switch.name
    ));
    switch.run(&format!("ip link set port{index} master lan up"));
}

/// The masquerade rules of flannel 0.2x with `--ip-masq`, through iptables-nft.
fn flannel(node: &Namespace, number: u8, index: usize) {
    for (iptables, all, own, multicast) in [
        ("iptables-nft", format!("10.{number}.0.0/16"), format!("10.{number}.{index}.0/24"), "224.0.0.0/4"),
        ("ip6tables-nft", format!("fd{number}::/56"), format!("fd{number}:0:0:{index}::/64"), "ff00::/8"),
    ] {
        let rules = [
            "-m mark --mark 0x4000/0x4000 -j RETURN".to_owned(),
            format!("-s {own} -d {all} -j RETURN"),
            format!("-s {all} -d {own} -j RETURN"),
            format!("! -s {all} -d {own} -j RETURN"),
            format!("-s {all} ! -d {multicast} -j MASQUERADE --random-fully"),
            format!("! -s {all} -d {all} -j MASQUERADE --random-fully"),
        ];
        let rules = rules.map(|rule| format!("{iptables} -t nat -A FLANNEL-POSTRTG {rule}")).join("\n");
        node.run(&format!(
            "{iptables} -t nat -N FLANNEL-POSTRTG
             {iptables} -t nat -A POSTROUTING -j FLANNEL-POSTRTG\n{rules}"
        ));
    }
}

fn iptables_kube_proxy(node: &Namespace, number: u8, backends: &[(String, String)]) {
    node.run(
        "for c in KUBE-SERVICES KUBE-MARK-MASQ KUBE-POSTROUTING; do iptables-nft -t nat -N $c; done
         iptables-nft -t nat -A PREROUTING -j KUBE-SERVICES
         iptables-nft -t nat -A OUTPUT -j KUBE-SERVICES
         iptables-nft -t nat -I POSTROUTING -j KUBE-POSTROUTING
         iptables-nft -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
         iptables-nft -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
         iptables-nft -t nat -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
         iptables-nft -t nat -A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    );
    for (service, backend) in backends {
        let to = format!("-p tcp -d {service}/32 --dport 80");
        node.run(&format!(
            "iptables-nft -t nat -A KUBE-SERVICES {to} ! -s 10.{number}.0.0/16 -j KUBE-MARK-MASQ
             iptables-nft -t nat -A KUBE-SERVICES {to} -j DNAT --to-destination {backend}:8080"
        ));
    }
}

fn nftables_kube_proxy(node: &Namespace, number: u8, backends: &[(String, String)]) {
    let rules: String = backends
        .iter()
        .map(|(service, backend)| {
            format!(
                "ip daddr {service} tcp dport 80 ip saddr != 10.{number}.0.0/16 jump mark-for-masquerade
                 ip daddr {service} tcp dport 80 dnat to {backend}:8080\n"
            )
        })
        .collect();
    node.run(&format!(
        "nft -f - <<'END'
table ip kube-proxy {{
  chain mark-for-masquerade {{
    mark set mark or 0x4000
  }}
  chain services {{
    {rules}
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority dstnat
    jump services
  }}
  chain nat-output {{
    type nat hook output priority -100
    jump services
  }}
  chain nat-postrouting {{
    type nat hook postrouting priority srcnat
    mark and 0x4000 == 0x4000 mark set mark xor 0x4000 masquerade fully-random
  }}
}}
END"
    ));
}

/// Joins the gateways of two sites: an uplink, a TUN link on each as the tunnel device would leave it, and a relay
/// between the two.
pub fn join(lab: &mut Lab, sites: [&Site; 2]) {
    let gateways = sites.map(|site| site.nodes[0].namespace.clone());
    gateways[0].run(&format!("ip link add wan type veth peer name wan netns {}", gateways[1].name));
    for (index, gateway) in gateways.iter().enumerate() {
        let (own, other) = (index + 1, 2 - index);
        gateway.run(&format!(
            "ip address add 203.0.113.{own}/24 dev wan; ip link set wan up
             ip route add default via 203.0.113.{other}
             ip tuntap add linkspan0 mode tun"
        ));
        lab.start(
            gateway,
            &format!(
                "socat TUN,tun-name=linkspan0,tun-type=tun,iff-no-pi \
                 UDP4-DATAGRAM:203.0.113.{other}:{RELAY_PORT},bind=203.0.113.{own}:{RELAY_PORT}"
            ),
        );
    }
}
