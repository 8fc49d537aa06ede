//! By which addresses clusters know each other, and what that makes of one address.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tunnel::config::Addresses;
use tunnel::packet::translate::Table;

use crate::site::Site;

/// By which addresses this cluster and the others know each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressesReport {
    /// This cluster's prefixes of pods and services, as it uses them.
    pub own: Vec<IpNet>,
    /// Those of them that are of services, where each other cluster decides by itself whether it routes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<IpNet>,
    /// Whether a family without virtual prefixes is unknown to whoever knows this cluster by virtual ones.
    pub families_together: bool,
    /// Those of them that others know by virtual prefixes.
    pub translation: Vec<TranslationReport>,
    /// The other clusters.
    pub clusters: Vec<ClusterReport>,
}

/// A prefix and by which one others know it, host by host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TranslationReport {
    /// As this cluster uses it.
    pub native: IpNet,
    /// As others know it.
    pub r#virtual: IpNet,
}

/// What is known of another cluster, and by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterReport {
    /// Its ID.
    pub cluster: String,
    /// The prefixes by which this cluster knows it.
    pub prefixes: Vec<IpNet>,
    /// Whether it knows this cluster by virtual addresses.
    pub knows_us_by_virtual: bool,
}

/// What an address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The address that was asked for.
    pub address: IpAddr,
    /// Whose it is.
    pub cluster: String,
    /// The node that has it, where it is a node's own: what follows is the one by which that node calls others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What the cluster itself calls it; none for another cluster's, of which only it knows.
    pub native: Option<IpAddr>,
    /// By which virtual address others know it; none where it has none, or it is another cluster's.
    pub r#virtual: Option<IpAddr>,
    /// What each other cluster calls it; empty for another cluster's.
    pub known_as: Vec<KnownAs>,
}

/// What a cluster calls an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownAs {
    /// The cluster.
    pub cluster: String,
    /// The address there.
    pub address: IpAddr,
}

impl From<&Site> for AddressesReport {
    fn from(site: &Site) -> Self {
        let pairs = site.translation.iter();
        let clusters = site.peers.iter().map(|peer| ClusterReport {
            cluster: peer.cluster.clone(),
            prefixes: peer.allowed_ips.clone(),
            knows_us_by_virtual: peer.knows_us_by == Addresses::Virtual,
        });
        Self {
            own: site.pod_cidrs.iter().chain(&site.service_cidrs).copied().collect(),
            services: if site.of_members { site.service_cidrs.clone() } else { Vec::new() },
            families_together: site.of_members,
            translation: pairs
                .map(|pair| TranslationReport { native: pair.native, r#virtual: pair.r#virtual })
                .collect(),
            clusters: clusters.collect(),
        }
    }
}

impl AddressesReport {
    /// Says what an address is, seen from the cluster `own`; `None` when it is nobody's that is known.
    pub fn explain(&self, own: &str, address: IpAddr) -> Option<Explanation> {
        let pairs = || self.translation.iter();
        let outward = Table::build(pairs().map(|pair| (pair.native, pair.r#virtual)));
        let inward = Table::build(pairs().map(|pair| (pair.r#virtual, pair.native)));
        let is_own = self.own.iter().any(|net| net.contains(&address));
        let native = if is_own { Some(address) } else { inward.map(address) };
        let Some(native) = native else {
            let owner = self.clusters.iter().find(|other| other.prefixes.iter().any(|net| net.contains(&address)))?;
            let cluster = owner.cluster.clone();
            let known_as = Vec::new();
            return Some(Explanation { address, cluster, node: None, native: None, r#virtual: None, known_as });
        };
        let foreign = outward.map(native);
        let is_anyones = self.services.iter().any(|net| net.contains(&native));
        // What stands by next to another cluster's gateway has no prefixes.
        let others = self.clusters.iter().filter(|other| !other.prefixes.is_empty() && !is_anyones);
        let known_as = others.filter_map(|other| {
            let address = match (other.knows_us_by_virtual, foreign) {
                (false, _) => native,
                (true, Some(foreign)) => foreign,
                // Without a virtual address it is not known there, unless its whole family goes natively.
                (true, None) if self.families_together || self.translates_family_of(native) => return None,
                (true, None) => native,
            };
            Some(KnownAs { cluster: other.cluster.clone(), address })
        });
        let known_as = known_as.collect();
        let cluster = own.to_owned();
        Some(Explanation { address, cluster, node: None, native: Some(native), r#virtual: foreign, known_as })
    }

    fn translates_family_of(&self, address: IpAddr) -> bool {
        self.translation.iter().any(|pair| pair.native.addr().is_ipv4() == address.is_ipv4())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> AddressesReport {
        let net = |text: &str| text.parse().expect("a prefix");
        let other = |cluster: &str, prefix: &str, knows_us_by_virtual| ClusterReport {
            cluster: cluster.to_owned(),
            prefixes: vec![net(prefix)],
            knows_us_by_virtual,
        };
        AddressesReport {
            own: vec![net("10.42.0.0/16"), net("10.43.0.0/16"), net("fd42::/56")],
            services: Vec::new(),
            families_together: false,
            translation: vec![TranslationReport { native: net("10.42.0.0/16"), r#virtual: net("100.64.0.0/16") }],
            clusters: vec![other("berlin", "100.66.0.0/16", true), other("oslo", "10.62.0.0/16", false)],
        }
    }

    #[test]
    fn of_members_families_go_together_and_services_are_for_others_to_decide() {
        let report = AddressesReport {
            services: vec!["10.43.0.0/16".parse().expect("a prefix")],
            families_together: true,
            ..report()
        };
        let known = |address: &str| {
            let found = report.explain("paris", address.parse().expect("an address")).expect("known");
            found.known_as.into_iter().map(|known| known.cluster).collect::<Vec<_>>()
        };
        assert_eq!(known("10.42.1.2"), ["berlin", "oslo"]);
        assert_eq!(known("10.43.0.10"), [""; 0]);
        assert_eq!(known("fd42::5"), ["oslo"]);
    }

    /// In one line: whose an address is, its two forms, and what the other clusters call it.
    fn explain(address: &str) -> Option<String> {
        let found = report().explain("paris", address.parse().expect("an address"))?;
        let text = |address: Option<IpAddr>| address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let known = found.known_as.iter().map(|known| format!(", {} {}", known.cluster, known.address));
        Some(format!("{} {} {}{}", found.cluster, text(found.native), text(found.r#virtual), known.collect::<String>()))
    }

    #[test]
    fn an_own_address_is_explained_from_either_form() {
        let expected = "paris 10.42.1.2 100.64.1.2, berlin 100.64.1.2, oslo 10.42.1.2";
        assert_eq!(explain("10.42.1.2").as_deref(), Some(expected));
        assert_eq!(explain("100.64.1.2").as_deref(), Some(expected));
    }

    #[test]
    fn an_address_without_a_virtual_one_is_unknown_where_its_family_is_translated() {
        assert_eq!(explain("10.43.0.10").as_deref(), Some("paris 10.43.0.10 -, oslo 10.43.0.10"));
        assert_eq!(explain("fd42::5").as_deref(), Some("paris fd42::5 -, berlin fd42::5, oslo fd42::5"));
    }

    #[test]
    fn anothers_address_is_named_by_its_cluster_and_a_strangers_is_not() {
        assert_eq!(explain("100.66.0.2").as_deref(), Some("berlin - -"));
        assert_eq!(explain("192.0.2.1"), None);
    }
}
