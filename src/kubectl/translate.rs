//! What an address is called by each cluster of a clusterset: pure, on what one of them knows of all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use controller::members::{ClusterId, View, addresses, judge};
use controller::node::Lookup;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::inspect::Questions;
use super::picture::{ClusterPicture, Part, Place};
use crate::status::{Explanation, KnownAs};

/// What nodes have to be asked before `address` can be explained. A node has an address that no other cluster sees: it calls
/// them from one among its pods, and which one that is its kernel decides.
pub fn questions(seen: &ClusterPicture, address: IpAddr) -> BTreeMap<String, Questions> {
    let asked = node_at(seen, address).zip(way_out(seen, address));
    let of_node = |(node, way)| (node, Questions { lookups: vec![way], ..Questions::default() });
    asked.into_iter().map(of_node).collect()
}

/// What `address`, as the cluster that was looked at sees addresses, is, and what each other one calls it.
pub fn explain(seen: &ClusterPicture, address: IpAddr) -> Option<Explanation> {
    let known_place = place(seen, address);
    let node = if known_place.is_some() { None } else { node_at(seen, address) };
    let of_node = || Some(Place { cluster: seen.id()?.to_owned(), native: source(seen, node.as_deref()?, address)? });
    let Place { cluster, native } = known_place.or_else(of_node)?;
    let claim = seen.claim(&cluster)?;
    let known = seen.known();
    let others = known.verdicts.iter().filter(|(id, verdict)| **id != cluster && verdict.accepted().is_some());
    let called = |viewer: &String| {
        let address = match View::of(&claim, &seen.claim(viewer)?).table() {
            None => native,
            Some(table) => table.map(native)?,
        };
        // What that one has itself, or does not route here, it does not call by this address.
        let verdicts = judge(&viewer.parse::<ClusterId>().ok()?, seen.members.all(), &[]);
        let routes = &verdicts.get(&cluster)?.accepted()?.routes;
        routes.iter().any(|net| net.contains(&address)).then_some(address)
    };
    let known_as = others.filter_map(|(id, _)| Some(KnownAs { cluster: id.clone(), address: called(id)? }));
    let r#virtual = View::Virtual(claim.blocks.clone()).table().and_then(|table| table.map(native));
    Some(Explanation { address, known_as: known_as.collect(), native: Some(native), r#virtual, cluster, node })
}

/// Why an address cannot be explained, where more is known than that it is in no prefix.
pub fn unexplained(seen: &ClusterPicture, address: IpAddr) -> Option<String> {
    let node = node_at(seen, address).filter(|_| place(seen, address).is_none())?;
    let why = match seen.inspections.get(&node).map(Part::unseen) {
        Some(Some(unseen)) => format!("it could not be asked: {}", unseen.why),
        Some(None) => "it has none in that family".to_owned(),
        None => format!("{} uses no other cluster", seen.name()),
    };
    Some(format!(
        "it is node {node} of {}, which calls other clusters from an address among its pods: {why}",
        seen.name()
    ))
}

fn place(seen: &ClusterPicture, address: IpAddr) -> Option<Place> {
    seen.place(address).or_else(|| own_virtual(seen, address))
}

/// The node that has this address itself, rather than one of its pods.
fn node_at(seen: &ClusterPicture, address: IpAddr) -> Option<String> {
    seen.nodes.all().iter().find(|node| addresses(node).any(|own| own == address)).map(Node::name_any)
}

/// The way of a node's own packets to another cluster, in the family of `address`.
fn way_out(seen: &ClusterPicture, address: IpAddr) -> Option<Lookup> {
    let (own, known) = (seen.id()?, seen.known());
    let others = known.verdicts.iter().filter(|(id, _)| *id != own).filter_map(|(_, verdict)| verdict.accepted());
    let net = others.flat_map(|other| &other.routes).find(|net| net.addr().is_ipv4() == address.is_ipv4())?;
    Some(Lookup { to: net.addr(), arriving: None })
}

/// The source that a node has told of for its own packets.
fn source(seen: &ClusterPicture, node: &str, address: IpAddr) -> Option<IpAddr> {
    let way = way_out(seen, address)?;
    seen.inspection(node)?.lookups.iter().find(|told| told.of == way)?.way.source
}

/// An address by which others know a pod of the cluster that was looked at.
fn own_virtual(seen: &ClusterPicture, address: IpAddr) -> Option<Place> {
    let cluster = seen.id()?.to_owned();
    let pairs = seen.claim(&cluster)?.blocks.into_iter().map(|block| (block.r#virtual, block.native));
    let native = tunnel::packet::translate::Table::build(pairs).map(address)?;
    Some(Place { cluster, native })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::picture::Picture;
    use super::super::picture::samples::{alter, answer, healthy};
    use super::*;

    /// berlin has got the prefixes of paris, and is virtual to all.
    fn seen_from_paris() -> ClusterPicture {
        let mut paris = healthy().clusters.remove(0);
        let Part::Seen(members) = &mut paris.members else { panic!("Members were seen") };
        for member in members {
            let is_berlin = member.spec.cluster_id == "berlin";
            let site = if is_berlin { 65 } else { 64 };
            let blocks = json!([{ "pods": "10.42.1.0/24", "virtual": format!("100.{site}.1.0/24") }]);
            member.spec.pod_cidrs = vec!["10.42.0.0/16".to_owned()];
            member.spec.virtual_cidrs = serde_json::from_value(blocks).unwrap();
            member.spec.virtual_only = is_berlin;
        }
        paris.settle();
        paris
    }

    fn told(address: &str) -> Option<(String, String, Vec<String>)> {
        let found = explain(&seen_from_paris(), address.parse().unwrap())?;
        let addresses = format!("{} {}", found.native.unwrap(), found.r#virtual.unwrap());
        let known = found.known_as.iter().map(|known| format!("{} {}", known.cluster, known.address));
        Some((found.cluster, addresses, known.collect()))
    }

    #[test]
    fn an_address_is_found_in_either_form_and_in_either_cluster() {
        let paris = Some(("paris".to_owned(), "10.42.1.7 100.64.1.7".to_owned(), vec!["berlin 100.64.1.7".to_owned()]));
        assert_eq!(told("10.42.1.7"), paris);
        assert_eq!(told("100.64.1.7"), paris);
        let berlin =
            Some(("berlin".to_owned(), "10.42.1.9 100.65.1.9".to_owned(), vec!["paris 100.65.1.9".to_owned()]));
        assert_eq!(told("100.65.1.9"), berlin);
        assert_eq!(told("192.0.2.1"), None);
    }

    #[test]
    fn a_service_is_known_to_nobody_whose_own_services_have_its_address() {
        let known = |services: &str| {
            let mut paris = healthy().clusters.remove(0);
            let Part::Seen(members) = &mut paris.members else { panic!("Members were seen") };
            let berlin = members.iter_mut().find(|member| member.spec.cluster_id == "berlin").unwrap();
            berlin.spec.service_cidrs = vec![services.to_owned()];
            paris.settle();
            let found = explain(&paris, "10.43.0.10".parse().unwrap()).unwrap();
            found.known_as.into_iter().map(|known| known.cluster).collect::<Vec<_>>()
        };
        assert_eq!(known("10.53.0.0/16"), ["berlin"]);
        assert_eq!(known("10.43.0.0/16"), [""; 0]);
    }

    #[test]
    fn a_node_is_known_by_the_address_from_which_it_calls_others() {
        let address: IpAddr = "192.168.7.12".parse().unwrap();
        let mut picture = Picture { clusters: vec![seen_from_paris()] };
        let asked = questions(&picture.clusters[0], address);
        assert_eq!(asked.keys().collect::<Vec<_>>(), ["paris-2"]);
        answer(&mut picture, |_| vec![asked.clone()]);
        let paris = &mut picture.clusters[0];
        alter(paris, "paris-2", |node| node.inspection.lookups[0].way.source = Some("10.42.1.1".parse().unwrap()));
        let found = explain(paris, address).unwrap();
        assert_eq!((found.cluster.as_str(), found.node.as_deref()), ("paris", Some("paris-2")));
        assert_eq!(found.native, Some("10.42.1.1".parse().unwrap()));
        assert_eq!(found.known_as[0].address, "100.64.1.1".parse::<IpAddr>().unwrap());
        // A pod's address is a pod's, and nobody is asked.
        assert_eq!(explain(paris, "10.42.1.7".parse().unwrap()).unwrap().node, None);
        assert!(questions(paris, "10.42.1.7".parse().unwrap()).is_empty());
        paris.inspections.clear();
        assert_eq!(explain(paris, address), None);
        assert!(
            unexplained(paris, address).unwrap().starts_with("it is node paris-2 of paris, which calls other clusters")
        );
    }
}
