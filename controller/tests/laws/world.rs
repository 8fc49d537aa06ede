//! A kernel in memory, as far as the node pass sees it.

use std::collections::{BTreeMap, BTreeSet};

use controller::node::nft::Table as NftTable;
use controller::node::state::{Address, AddressGeneration, Family, Link, LinkKind, Observed, Route, Rule, Table};
use controller::node::{Action, Desired, Vxlan, mark};
use ipnet::IpNet;

type RouteKey = (Table, IpNet, u32);

/// Links, addresses, rules and routes; the last also of others, to see that they stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    pub links: BTreeMap<String, Link>,
    pub addresses: BTreeSet<Address>,
    pub routes: BTreeMap<RouteKey, Route>,
    pub rules: BTreeSet<Rule>,
    pub nft: Option<NftTable>,
}

impl World {
    pub fn observed(&self) -> Observed {
        Observed {
            links: self.links.values().cloned().collect(),
            addresses: self.addresses.iter().cloned().collect(),
            routes: self.routes.values().cloned().collect(),
            rules: self.rules.iter().cloned().collect(),
            nft: self.nft.clone(),
        }
    }

    /// Does to the world what the kernel does on this action.
    pub fn apply(&mut self, action: &Action) {
        match action {
            Action::CreateVxlan { link, port } => self.create(link, *port),
            Action::ConfigureLink(settings) => {
                let link = self.links.get_mut(&settings.link).expect("the link exists");
                link.alias = Some(mark::LINK_ALIAS.into());
                link.mtu = settings.mtu;
                link.up = true;
                link.rp_filter = link.rp_filter.map(|_| 2);
                link.ipv6_addresses = link.ipv6_addresses.map(|_| AddressGeneration::None);
            }
            Action::DeleteLink { link } => {
                assert!(self.links.remove(link).is_some(), "{action}: no such link");
                self.addresses.retain(|address| address.link != *link);
                self.routes.retain(|_, route| route.path.link() != Some(link));
            }
            Action::AddAddress(address) => {
                assert!(self.links.contains_key(&address.link), "{action}: no such link");
                self.addresses.insert(address.clone());
            }
            Action::DeleteAddress(address) => assert!(self.addresses.remove(address), "{action}: no such address"),
            Action::ReplaceNftTable(table) => self.nft = Some(table.clone()),
            Action::DeleteNftTable => self.nft = None,
            Action::ReplaceRoute(route) => {
                // The kernel refuses a route over a link that is not up (ENETDOWN).
                assert!(route.path.link().is_none_or(|link| self.is_up(link)), "{action}: link is not up");
                self.routes.insert(route.key(), route.clone());
            }
            // Already gone when its link went earlier in the same plan (ESRCH).
            Action::DeleteRoute(route) => drop(self.routes.remove(&route.key())),
            Action::AddRule(rule) => assert!(self.rules.insert(rule.clone()), "{action}: exists"),
            Action::DeleteRule(rule) => assert!(self.rules.remove(rule), "{action}: no such rule"),
        }
    }

    fn create(&mut self, name: &str, port: u16) {
        let kind = LinkKind::ExternalVxlan { port };
        // As the kernel does: one external VXLAN link for each port, and each name once.
        assert!(self.links.values().all(|link| link.kind != kind), "port {port} is taken");
        let link = Link {
            name: name.into(),
            alias: None,
            kind,
            up: false,
            mtu: 65_535,
            rp_filter: Some(0),
            ipv6_addresses: Some(AddressGeneration::Automatic),
        };
        assert!(self.links.insert(name.into(), link).is_none(), "link {name} exists");
    }

    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    pub fn nft(&self) -> Option<&NftTable> {
        self.nft.as_ref()
    }

    pub fn is_up(&self, link: &str) -> bool {
        self.links.get(link).is_some_and(|link| link.up)
    }

    /// Whether a packet to the prefix is routed or refused by our table, instead of going on to the main one.
    pub fn looks_up_our_table(&self, prefix: &IpNet) -> bool {
        let rule = Rule { family: Family::of(prefix.addr()), input_link: None, table: Table::Remote };
        self.rules.contains(&rule) && self.routes().any(|route| route.table == Table::Remote && route.to == *prefix)
    }

    /// All objects that a pass for `desired` must leave alone.
    pub fn foreign(&self, desired: &Desired) -> (Vec<Link>, Vec<Address>) {
        let tunnel = desired.tunnel.as_ref().map(|tunnel| &tunnel.link);
        let may_adopt = |link: &Link| {
            let ours_to_be = tunnel == Some(&link.name) && matches!(link.kind, LinkKind::Layer3(_));
            link.alias.is_none() && (ours_to_be || is_left_over(link, &desired.vxlan))
        };
        let ours: BTreeSet<_> =
            self.links.values().filter(|link| link.is_ours() || may_adopt(link)).map(|link| &link.name).collect();
        let links = self.links.values().filter(|link| !ours.contains(&link.name)).cloned().collect();
        let addresses = self.addresses.iter().filter(|address| !ours.contains(&address.link)).cloned().collect();
        (links, addresses)
    }

    /// Names of links that a process made for `vxlan` and did not come to mark.
    pub fn left_over(&self, vxlan: &Vxlan) -> Vec<String> {
        let links = self.links.values().filter(|link| link.alias.is_none() && is_left_over(link, vxlan));
        links.map(|link| link.name.clone()).collect()
    }

    /// Everything with our mark, and what lacks it because its process died, as text.
    pub fn ours(&self, vxlan: &Vxlan) -> Vec<String> {
        let links = self.links.values().filter(|link| link.is_ours()).map(|link| link.name.clone());
        let links = links.chain(self.left_over(vxlan));
        let routes = self.routes().map(ToString::to_string);
        let rules = self.rules.iter().map(ToString::to_string);
        links.chain(routes).chain(rules).chain(self.nft.iter().map(ToString::to_string)).collect()
    }
}

/// Whether a link has the name, form and port of the VXLAN link of ours.
fn is_left_over(link: &Link, vxlan: &Vxlan) -> bool {
    link.name == vxlan.link && link.kind == LinkKind::ExternalVxlan { port: vxlan.port }
}
