//! A Member object, checked by itself.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;

use ipnet::IpNet;
use tunnel::config::{PublicKey, Translation};

use super::id::ClusterId;
use super::prefixes::{self, Holders, any_overlap};
use crate::api::{Gateway, Member, MemberSpec, VirtualCidr};

/// The newest version of the protocol that this program speaks.
pub(super) const PROTOCOL: u32 = 1;
/// The oldest one.
pub(super) const OLDEST_PROTOCOL: u32 = 1;
/// Longest part of a refused value that a message repeats.
const QUOTED: usize = 80;

/// What one Member claims, every value checked by itself; whether it may have them is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its cluster ID.
    pub cluster: ClusterId,
    /// Prefixes of its pods, sorted.
    pub pod_cidrs: Vec<IpNet>,
    /// Prefixes of its services, sorted.
    pub service_cidrs: Vec<IpNet>,
    /// What stands for prefixes of its pods elsewhere, sorted; disjoint on both sides.
    pub blocks: Vec<Translation>,
    /// Whether all others know its pods by that.
    pub virtual_only: bool,
    /// Its gateways, in the order of the object.
    pub gateways: Vec<ClaimGateway>,
}

/// A gateway that a Member names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimGateway {
    /// Name of its node.
    pub node: String,
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// Where it may be called, best first.
    pub endpoints: Vec<SocketAddr>,
    /// Its lanes, 1 to 16.
    pub lanes: NonZeroU8,
    /// Whether it carries the traffic.
    pub active: bool,
}

/// What a Member object lays hold of, whether or not it can be used: what the broker's policy takes for a claim
/// (`deploy/broker/policy-claims.yaml`), in whatever form it is written.
///
/// No less: there a conflict that has been before lets all others through, as one of the two is refused by that. And no
/// more: what the policy does not see, nobody keeps from coming to somebody's harm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stakes {
    /// Prefixes of pods, unless they are virtual to all, and virtual ones. Services claim nothing.
    pub prefixes: Vec<IpNet>,
    /// Addresses at which its gateways are called.
    pub endpoints: Vec<IpAddr>,
    /// Keys of its gateways.
    pub keys: Vec<PublicKey>,
}

impl Stakes {
    /// Reads what can be read.
    pub fn of(spec: &MemberSpec) -> Self {
        let endpoints = spec.gateways.iter().flat_map(|gateway| &gateway.endpoints);
        Self {
            prefixes: native_stakes(spec).chain(virtual_stakes(spec)).collect(),
            endpoints: endpoints.filter_map(|text| prefixes::called(text)).collect(),
            keys: spec.gateways.iter().filter_map(|gateway| gateway.public_key.parse().ok()).collect(),
        }
    }

    /// Whether a prefix has addresses of it.
    pub fn overlap(&self, net: IpNet) -> bool {
        any_overlap(self.prefixes.iter().copied(), &[net]) || self.endpoints.iter().any(|at| net.contains(at))
    }
}

fn native_stakes(spec: &MemberSpec) -> impl Iterator<Item = IpNet> {
    spec.pod_cidrs.iter().filter(|_| !spec.virtual_only).filter_map(|text| prefixes::claimed(text))
}

/// The prefixes by which others know the pods of a Member, whether or not it can be used.
pub(super) fn virtual_stakes(spec: &MemberSpec) -> impl Iterator<Item = IpNet> {
    spec.virtual_cidrs.iter().filter_map(|block| prefixes::claimed(&block.r#virtual))
}

/// The prefixes of a Member that another one keeps out of, as the broker's policy has it. `older`: what that one has, if
/// it is the older one. Then virtual prefixes that overlap it are nobody's: importers leave them out.
pub(crate) fn defended(spec: &MemberSpec, older: Option<&Stakes>) -> Vec<IpNet> {
    let is_left_out = |net: &IpNet| older.is_some_and(|stakes| stakes.overlap(*net));
    native_stakes(spec).chain(virtual_stakes(spec).filter(|net| !is_left_out(net))).collect()
}

/// Why a Member object cannot be used, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMember(pub(super) String);

impl Claim {
    /// Checks a Member object by itself.
    pub fn check(member: &Member) -> Result<Self, InvalidMember> {
        let spec = &member.spec;
        let cluster: ClusterId = spec.cluster_id.parse().map_err(|error| InvalidMember(format!("{error}")))?;
        if member.metadata.name.as_deref() != Some(cluster.as_str()) {
            let name = quoted(member.metadata.name.as_deref().unwrap_or_default());
            return Err(InvalidMember(format!("the object is named {name} but speaks for cluster {cluster}")));
        }
        check_protocol(spec)?;
        let claim = Self {
            pod_cidrs: cidrs("spec.podCIDRs", &spec.pod_cidrs)?,
            service_cidrs: cidrs("spec.serviceCIDRs", &spec.service_cidrs)?,
            blocks: blocks(&spec.virtual_cidrs)?,
            virtual_only: spec.virtual_only,
            gateways: gateways(&spec.gateways)?,
            cluster,
        };
        claim.disjoint()?;
        Ok(claim)
    }

    /// All its own prefixes: pods, then services.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.pod_cidrs.iter().chain(&self.service_cidrs).copied()
    }

    /// The gateway that carries its traffic.
    pub fn active_gateway(&self) -> Option<&ClaimGateway> {
        self.gateways.iter().find(|gateway| gateway.active)
    }

    fn disjoint(&self) -> Result<(), InvalidMember> {
        let mut held = Holders::new();
        for net in self.prefixes().chain(self.blocks.iter().map(|block| block.r#virtual)) {
            if let Some((other, ())) = held.overlapping(net) {
                return Err(InvalidMember(format!("its own prefixes {other} and {net} overlap")));
            }
            held.insert(net, ());
        }
        let endpoints = self.gateways.iter().flat_map(|gateway| &gateway.endpoints);
        for endpoint in endpoints {
            if let Some((net, ())) = held.overlapping(endpoint.ip().into()) {
                return Err(InvalidMember(format!(
                    "its endpoint {endpoint} is inside its own prefix {net}; a tunnel cannot carry its own packets"
                )));
            }
        }
        Ok(())
    }
}

/// Both sides speak a range of versions, and the newest that both know is used.
pub(super) fn check_protocol(spec: &MemberSpec) -> Result<(), InvalidMember> {
    let oldest = spec.min_protocol.unwrap_or(spec.protocol);
    if oldest <= PROTOCOL && spec.protocol >= OLDEST_PROTOCOL {
        return Ok(());
    }
    let range = |oldest: u32, newest: u32| {
        if oldest == newest { newest.to_string() } else { format!("{oldest} to {newest}") }
    };
    let (theirs, ours) = (range(oldest, spec.protocol), range(OLDEST_PROTOCOL, PROTOCOL));
    Err(InvalidMember(format!("it speaks protocol {theirs} and this cluster {ours}; upgrade one of them")))
}

fn cidrs(field: &str, texts: &[String]) -> Result<Vec<IpNet>, InvalidMember> {
    let parse = |(i, text): (usize, &String)| {
        let text = if text.len() > QUOTED { return Err(too_long(&format!("{field}[{i}]"), text)) } else { text };
        prefixes::routed(text).map_err(|reason| InvalidMember(format!("{field}[{i}]: {reason}")))
    };
    let mut nets: Vec<IpNet> = texts.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    nets.sort();
    nets.dedup();
    Ok(nets)
}

/// Every block is of one length on both sides, and no pod has two.
fn blocks(list: &[VirtualCidr]) -> Result<Vec<Translation>, InvalidMember> {
    let mut natives = Holders::new();
    let mut blocks = Vec::with_capacity(list.len());
    for (i, VirtualCidr { pods, r#virtual }) in list.iter().enumerate() {
        let field = |name: &str, text: &String| {
            let name = format!("spec.virtualCIDRs[{i}].{name}");
            if text.len() > QUOTED {
                return Err(too_long(&name, text));
            }
            prefixes::routed(text).map_err(|reason| InvalidMember(format!("{name}: {reason}")))
        };
        let block = Translation { native: field("pods", pods)?, r#virtual: field("virtual", r#virtual)? };
        if !block.is_one_to_one() {
            let message = format!("{} cannot stand for {}: their lengths differ", block.r#virtual, block.native);
            return Err(InvalidMember(message));
        }
        if let Some((other, ())) = natives.overlapping(block.native) {
            return Err(InvalidMember(format!("{other} and {} of virtualCIDRs overlap", block.native)));
        }
        natives.insert(block.native, ());
        blocks.push(block);
    }
    blocks.sort();
    Ok(blocks)
}

fn gateways(list: &[Gateway]) -> Result<Vec<ClaimGateway>, InvalidMember> {
    let mut checked: Vec<ClaimGateway> = Vec::with_capacity(list.len());
    for (i, gateway) in list.iter().enumerate() {
        let gateway = check_gateway(&format!("spec.gateways[{i}]"), gateway)?;
        if let Some(twin) = checked.iter().find(|other| other.node == gateway.node) {
            return Err(InvalidMember(format!("two gateways are named {}", quoted(&twin.node))));
        }
        if checked.iter().any(|other| other.public_key == gateway.public_key) {
            return Err(InvalidMember(format!("two gateways have the key {}", gateway.public_key)));
        }
        if gateway.active && checked.iter().any(|other| other.active) {
            return Err(InvalidMember("more than one gateway is active".to_owned()));
        }
        checked.push(gateway);
    }
    Ok(checked)
}

fn check_gateway(field: &str, gateway: &Gateway) -> Result<ClaimGateway, InvalidMember> {
    let public_key = gateway
        .public_key
        .parse()
        .map_err(|_| InvalidMember(format!("{field}.publicKey is not a WireGuard public key in base64")))?;
    let lanes = NonZeroU8::new(gateway.lanes).filter(|lanes| lanes.get() <= tunnel::config::MAX_LANES);
    let lanes = lanes.ok_or_else(|| InvalidMember(format!("{field}.lanes is {}, not 1 to 16", gateway.lanes)))?;
    let parse = |(i, text): (usize, &String)| {
        if text.len() > QUOTED {
            return Err(too_long(&format!("{field}.endpoints[{i}]"), text));
        }
        prefixes::endpoint(text).map_err(|reason| InvalidMember(format!("{field}.endpoints[{i}]: {reason}")))
    };
    let endpoints = gateway.endpoints.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    Ok(ClaimGateway { node: gateway.node.clone(), public_key, endpoints, lanes, active: gateway.active })
}

fn too_long(field: &str, text: &str) -> InvalidMember {
    InvalidMember(format!("{field} is {} bytes long", text.len()))
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_support::{GATEWAY_KEYS, member};
    use super::*;

    fn stakes(change: impl FnOnce(&mut MemberSpec)) -> Stakes {
        let mut member = member("paris", 100, "10.42.0.0/16", GATEWAY_KEYS[0]);
        change(&mut member.spec);
        Stakes::of(&member.spec)
    }

    #[test]
    fn an_endpoint_of_any_form_is_the_stake_that_the_policy_takes_it_for() {
        for (text, wanted) in [
            ("10.42.0.1:51820", Some("10.42.0.1")),
            ("10.42.0.1:0", Some("10.42.0.1")),
            ("10.42.0.1:", Some("10.42.0.1")),
            ("[10.42.0.1]:x", Some("10.42.0.1")),
            ("]2001:DB8::7[:1", Some("2001:db8::7")),
            (":::", Some("::")),
            ("::ff:1", Some("::ff")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            (" 10.42.0.1:51820", None),
            ("10.0.0.1:1 10.1.0.1:1", None),
            ("10.42.0.1: ", None),
            ("\t10.42.0.1:51820", None),
            ("10.42.0.1", None),
            (":51820", None),
            ("10.42.0.01:1", None),
            ("fe80::1%2:1", None),
        ] {
            let found = stakes(|spec| spec.gateways[0].endpoints = vec![text.to_owned()]).endpoints;
            let wanted: Vec<IpAddr> = wanted.into_iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(found, wanted, "{text:?}");
        }
    }

    #[test]
    fn a_prefix_of_any_form_is_the_stake_that_the_policy_takes_it_for() {
        for (text, wanted) in [
            ("10.42.7.9/16", Some("10.42.0.0/16")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("127.0.0.0/8", Some("127.0.0.0/8")),
            ("2001:DB8:0:0::/48", Some("2001:db8::/48")),
            ("1:2:3:4:5:6:7::/112", Some("1:2:3:4:5:6:7:0/112")),
            ("64:ff9b::192.0.2.33/96", Some("64:ff9b::/96")),
            ("::/16", Some("::/16")),
            ("10.0.0.0/7", None),
            ("0.0.0.0/0", None),
            ("::/15", None),
            (" 10.42.0.0/16", None),
        ] {
            let wanted: Vec<IpNet> = wanted.into_iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(stakes(|spec| spec.pod_cidrs = vec![text.to_owned()]).prefixes, wanted, "{text:?}");
            let block = VirtualCidr { pods: "10.42.0.0/16".into(), r#virtual: text.to_owned() };
            let found = stakes(|spec| (spec.virtual_only, spec.virtual_cidrs) = (true, vec![block])).prefixes;
            assert_eq!(found, wanted, "virtual {text:?}");
        }
    }

    /// As the policy does it: one text of all, and of that a list.
    fn in_the_policy(endpoints: &[String]) -> Vec<IpAddr> {
        let whole: Vec<&str> = endpoints.iter().map(String::as_str).filter(|text| !text.contains(' ')).collect();
        let joined = whole.join(" ");
        let hosts = joined.split(' ').filter_map(|text| Some(&text[..text.rfind(':').filter(|at| *at > 0)?]));
        hosts.filter_map(|host| host.replace(['[', ']'], "").parse().ok()).collect()
    }

    proptest! {
        #[test]
        fn the_stakes_of_any_endpoints_are_those_of_the_policy(
            parts in proptest::collection::vec(proptest::collection::vec(proptest::sample::select(vec![
                "10.42.0.1", "2001:db8::7", "::", ":", ":51820", " ", "  ", "\t", "[", "]", "1", "."
            ]), 0..5), 0..8),
        ) {
            let endpoints: Vec<String> = parts.iter().map(|parts| parts.concat()).collect();
            let found = stakes(|spec| spec.gateways[0].endpoints = endpoints.clone()).endpoints;
            prop_assert_eq!(found, in_the_policy(&endpoints));
        }
    }
}
