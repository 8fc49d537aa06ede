//! The rules by which kube-proxy carries one `ClusterIP` service: its chains, its masquerade mark and its order of
//! decisions, in iptables and in nftables mode, with `--cluster-cidr` set as K3s sets it. That option makes kube-proxy
//! masquerade what comes to a VIP from outside the cluster, so it is the harder case for source addresses.

use std::net::IpAddr;

use super::plan::{HTTP_PORT, SERVICE_PORT, Site};

/// Chain names hold a hash of the service in kube-proxy; here the service is always the same.
const SERVICE: &str = "WEBHTTP7LQ4RZKXA";

/// The service of one family: VIP, cluster CIDR and pods behind it.
struct Service {
    vip: IpAddr,
    cluster: ipnet::IpNet,
    backends: Vec<IpAddr>,
}

fn services(site: &Site) -> impl Iterator<Item = Service> + '_ {
    site.vips.iter().zip(&site.pod_cidrs).enumerate().map(|(at, (vip, cluster))| Service {
        vip: *vip,
        cluster: *cluster,
        backends: site.pods().map(|place| place.pod.addresses[at].addr()).collect(),
    })
}

/// Input for `iptables-nft-restore --noflush` (IPv4) or its IPv6 twin, one for each family of the site.
pub fn iptables(site: &Site) -> Vec<(IpAddr, String)> {
    services(site).map(|service| (service.vip, service.iptables())).collect()
}

/// Input for `nft -f -`: one table for each family of the site.
pub fn nftables(site: &Site) -> String {
    services(site).map(|service| service.nftables()).collect()
}

impl Service {
    fn iptables(&self) -> String {
        let Self { vip, cluster, backends } = self;
        let to_vip = format!(
            "-d {vip} -p tcp -m comment --comment \"default/web:http cluster IP\" -m tcp --dport {SERVICE_PORT}"
        );
        let mut chains = String::new();
        let mut rules = String::new();
        for (at, backend) in backends.iter().enumerate() {
            let endpoint = format!("KUBE-SEP-{SERVICE}{at}");
            chains += &format!(":{endpoint} - [0:0]\n");
            let left = backends.len() - at;
            let chance = match left {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
            };
            rules += &format!(
                "-A KUBE-SVC-{SERVICE} -m comment --comment \"default/web:http\" {chance}-j {endpoint}\n\
                 -A {endpoint} -s {backend} -m comment --comment \"default/web:http\" -j KUBE-MARK-MASQ\n\
                 -A {endpoint} -p tcp -m comment --comment \"default/web:http\" -m tcp -j DNAT --to-destination {}\n",
                std::net::SocketAddr::new(*backend, HTTP_PORT),
            );
        }
        format!(
            "*nat\n\
             :KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SVC-{SERVICE} - [0:0]\n\
             {chains}\
             -I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
             -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
             -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
             -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
             -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n\
             -A KUBE-SERVICES {to_vip} -j KUBE-SVC-{SERVICE}\n\
             -A KUBE-SVC-{SERVICE} ! -s {cluster} {to_vip} -j KUBE-MARK-MASQ\n\
             {rules}\
             COMMIT\n"
        )
    }

    fn nftables(&self) -> String {
        let Self { vip, cluster, backends } = self;
        let (family, address) = if vip.is_ipv4() { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
        let service = format!("service-{}-default/web/tcp/http", &SERVICE[..8]);
        let mut endpoints = String::new();
        let mut choices = Vec::new();
        for (at, backend) in backends.iter().enumerate() {
            let endpoint = format!("endpoint-{at}-default/web/tcp/http__{}", backend.to_string().replace(':', "."));
            endpoints += &format!(
                "chain {endpoint} {{\n\
                   {family} saddr {backend} jump mark-for-masquerade\n\
                   meta l4proto tcp dnat to {}\n\
                 }}\n",
                std::net::SocketAddr::new(*backend, HTTP_PORT),
            );
            choices.push(format!("{at} : goto {endpoint}"));
        }
        format!(
            "table {family} kube-proxy {{\n\
               {endpoints}\
               chain mark-for-masquerade {{ mark set mark or 0x4000; }}\n\
               chain masquerading {{\n\
                 mark and 0x4000 == 0 return\n\
                 mark set mark xor 0x4000\n\
                 masquerade fully-random\n\
               }}\n\
               chain {service} {{\n\
                 {family} daddr {vip} tcp dport {SERVICE_PORT} {family} saddr != {cluster} jump mark-for-masquerade\n\
                 numgen random mod {count} vmap {{ {choices} }}\n\
               }}\n\
               map service-ips {{\n\
                 type {address} . inet_proto . inet_service : verdict\n\
                 elements = {{ {vip} . tcp . {SERVICE_PORT} : goto {service} }}\n\
               }}\n\
               chain services {{ {family} daddr . meta l4proto . th dport vmap @service-ips; }}\n\
               chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n\
               chain nat-output {{ type nat hook output priority -100; jump services; }}\n\
               chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}\n\
             }}\n",
            count = backends.len(),
            choices = choices.join(", "),
        )
    }
}
