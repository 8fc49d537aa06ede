//! By which addresses one cluster knows the pods of another: their own where these are unique between the two, and
//! virtual ones otherwise. Both ends see the same Members and so agree.

use ipnet::IpNet;
use tunnel::config::Translation;
use tunnel::packet::translate::Table;

use super::claim::Claim;
use super::prefixes::any_overlap;

/// How a cluster knows the pods of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// By their own addresses.
    Native,
    /// By virtual ones, of these blocks. A pod outside of them is not known.
    Virtual(Vec<Translation>),
}

impl View {
    /// How `viewer` knows the pods of `member`: by virtual addresses when the Member says that all do, and when they have
    /// addresses that are pods or services of the viewer.
    pub fn of(member: &Claim, viewer: &Claim) -> Self {
        if member.cluster == viewer.cluster {
            return Self::Native;
        }
        let collides = any_overlap(viewer.prefixes(), &member.pod_cidrs);
        if member.virtual_only || collides { Self::Virtual(member.blocks.clone()) } else { Self::Native }
    }

    /// Whether the addresses are virtual ones.
    pub fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }

    /// What becomes of pods' own addresses, as their gateway translates them; `None` where they stay as they are.
    pub fn table(&self) -> Option<Table> {
        match self {
            Self::Native => None,
            Self::Virtual(blocks) => Some(Table::build(blocks.iter().map(|block| (block.native, block.r#virtual)))),
        }
    }

    /// The prefixes of the pods of `member`, as the viewer knows them.
    pub fn pods(&self, member: &Claim) -> Vec<IpNet> {
        match self {
            Self::Native => member.pod_cidrs.clone(),
            Self::Virtual(blocks) => blocks.iter().map(|block| block.r#virtual).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::test_support::{GATEWAY_KEYS, member};
    use super::*;
    use crate::api::VirtualCidr;

    fn claim(name: &str, pods: &str, blocks: &[(&str, &str)], virtual_only: bool) -> Claim {
        let mut member = member(name, 100, pods, GATEWAY_KEYS[0]);
        member.spec.virtual_only = virtual_only;
        let block =
            |(pods, r#virtual): &(&str, &str)| VirtualCidr { pods: (*pods).into(), r#virtual: (*r#virtual).into() };
        member.spec.virtual_cidrs = blocks.iter().map(block).collect();
        Claim::check(&member).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_virtual_where_they_collide_and_where_the_member_says_so() {
        let paris = claim("paris", "10.42.0.0/16", &[("10.42.0.0/24", "100.64.3.0/24")], false);
        let berlin = claim("berlin", "10.42.0.0/16", &[("10.42.0.0/24", "100.65.3.0/24")], true);
        let rome = claim("rome", "10.62.0.0/16", &[], false);
        assert_eq!(View::of(&paris, &rome), View::Native);
        assert!(View::of(&paris, &berlin).is_virtual());
        assert_eq!(View::of(&berlin, &berlin), View::Native, "to itself nobody is virtual");
        assert!(View::of(&berlin, &paris).is_virtual());
        assert!(View::of(&berlin, &rome).is_virtual(), "it came later than paris");
        assert_eq!(View::of(&rome, &berlin), View::Native);
    }

    #[test]
    fn an_address_keeps_its_place_in_the_block() {
        let berlin = claim(
            "berlin",
            "10.42.0.0/16",
            &[("10.42.0.0/24", "100.65.3.0/24"), ("fd42::/64", "fd64:0:0:9::/64")],
            true,
        );
        let known = |view: &View, native| view.table().map_or(Some(native), |table| table.map(native));
        let view = View::of(&berlin, &claim("rome", "10.62.0.0/16", &[], false));
        assert_eq!(known(&view, ip("10.42.0.7")), Some(ip("100.65.3.7")));
        assert_eq!(known(&view, ip("fd42::1:7")), Some(ip("fd64:0:0:9::1:7")));
        assert_eq!(known(&view, ip("10.42.1.7")), None, "no block has it");
        assert_eq!(known(&View::Native, ip("10.42.1.7")), Some(ip("10.42.1.7")));
        assert_eq!(view.pods(&berlin).len(), 2);
    }
}
