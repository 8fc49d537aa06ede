//! Where the nodes of a cluster reach each other.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;

/// Annotation of a node: the address at which the other nodes of the cluster reach it. Without it flannel's choice counts,
/// else its first `InternalIP`.
pub const ANNOTATION_NODE_ADDRESS: &str = "linkspan.dev/node-address";

/// Where flannel's packets between nodes go, such as to the external address with K3s' `--flannel-external-ip` (flannel,
/// "Annotations").
const FLANNEL_ADDRESS: [&str; 2] = ["flannel.alpha.coreos.com/public-ip", "flannel.alpha.coreos.com/public-ipv6"];

/// The address at which the other nodes reach a node: what people say, else what flannel does in the family of the first
/// `InternalIP`, else that one. Flannel's is left behind where it ran before: it counts if the Node has that address.
/// `None` for a node without an `InternalIP`, which is none yet.
pub fn reached_at(node: &Node) -> Option<IpAddr> {
    let annotations = node.metadata.annotations.as_ref();
    let told = |annotation: &str| annotations?.get(annotation)?.trim().parse().ok().filter(is_unicast);
    let all: Vec<(&str, IpAddr)> = addresses(node).collect();
    let first = all.iter().find(|(kind, _)| *kind == "InternalIP").map(|(_, address)| *address)?;
    let is_its_own =
        |address: &IpAddr| all.iter().any(|(_, own)| own == address) && address.is_ipv4() == first.is_ipv4();
    let flannel = || FLANNEL_ADDRESS.into_iter().filter_map(told).find(is_its_own);
    told(ANNOTATION_NODE_ADDRESS).or_else(flannel).or(Some(first))
}

fn addresses(node: &Node) -> impl Iterator<Item = (&str, IpAddr)> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let parsed = addresses.filter_map(|at| Some((at.type_.as_str(), at.address.parse().ok()?)));
    parsed.filter(|(_, address)| is_unicast(address))
}

/// Whether it is one that another node can call.
fn is_unicast(address: &IpAddr) -> bool {
    let is_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !is_local
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Where a node with these annotations is reached, whose addresses are of the kinds that the texts begin with.
    fn at(annotations: &Value, addresses: &[&str]) -> String {
        let address = |text: &&str| {
            let (kind, address) = text.split_once(' ').unwrap();
            json!({ "type": kind, "address": address })
        };
        let addresses: Vec<Value> = addresses.iter().map(address).collect();
        let node = json!({ "metadata": { "annotations": annotations }, "status": { "addresses": addresses } });
        reached_at(&serde_json::from_value(node).unwrap()).map(|address| address.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_node_is_reached_where_people_say_else_where_flannel_does_else_at_its_first_internal_ip() {
        let (v4, v6) = ("flannel.alpha.coreos.com/public-ip", "flannel.alpha.coreos.com/public-ipv6");
        let (internal, external) = (["InternalIP 10.0.0.2", "InternalIP fd07::2"], "ExternalIP 198.51.100.7");
        let all = [internal[0], internal[1], external, "ExternalIP 2001:db8::7"];
        let flannel = json!({ v4: "198.51.100.7", v6: "2001:db8::7" });
        assert_eq!(at(&flannel, &all), "198.51.100.7");
        assert_eq!(at(&flannel, &[internal[1], internal[0], external, "ExternalIP 2001:db8::7"]), "2001:db8::7");
        assert_eq!(at(&json!({ v6: "2001:db8::7" }), &all), "10.0.0.2");
        assert_eq!(at(&flannel, &internal), "10.0.0.2", "left behind");
        assert_eq!(at(&json!({ v4: "10.0.0.2" }), &internal), "10.0.0.2");
        let said = json!({ "linkspan.dev/node-address": " 203.0.113.9", v4: "198.51.100.7" });
        assert_eq!(at(&said, &all), "203.0.113.9");
        assert_eq!(at(&said, &[external]), "", "no node yet");
        for nonsense in ["berlin-1", "127.0.0.1", "0.0.0.0", "169.254.0.9", ""] {
            let said = json!({ "linkspan.dev/node-address": nonsense, v4: "198.51.100.7" });
            assert_eq!(at(&said, &all), "198.51.100.7", "{nonsense}");
        }
        assert_eq!(at(&json!({}), &[]), "");
    }
}
