//! What an address is called by each cluster of a clusterset: pure, on what one of them knows of all.

use std::net::IpAddr;

use controller::members::View;

use super::picture::{ClusterPicture, Place};
use crate::status::{Explanation, KnownAs};

/// What `address`, as the cluster that was looked at sees addresses, is, and what each other one calls it.
pub fn explain(seen: &ClusterPicture, address: IpAddr) -> Option<Explanation> {
    let Place { cluster, native } = seen.place(address).or_else(|| own_virtual(seen, address))?;
    let claim = seen.claim(&cluster)?;
    let known = seen.known();
    let others = known.verdicts.iter().filter(|(id, verdict)| **id != cluster && verdict.accepted().is_some());
    let called = |viewer: &String| match View::of(&claim, &seen.claim(viewer)?).table() {
        None => Some(native),
        Some(table) => table.map(native),
    };
    let known_as = others.filter_map(|(id, _)| Some(KnownAs { cluster: id.clone(), address: called(id)? }));
    let r#virtual = View::Virtual(claim.blocks.clone()).table().and_then(|table| table.map(native));
    Some(Explanation { address, known_as: known_as.collect(), native: Some(native), r#virtual, cluster })
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

    use super::super::picture::Part;
    use super::super::picture::samples::healthy;
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
}
