//! Which prefixes and addresses may lie in each other.
//!
//! Prefixes form a forest: two either do not meet or one holds the other. Sorted by first address and length, each
//! prefix comes right after those that hold it, so one walk with a stack finds every overlap in O(n log n).

use ipnet::IpNet;

use super::super::file::{At, Position, SiteFile};
use super::{Checker, values};

/// Who says that a prefix is his.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// All pods of this cluster.
    Pods,
    /// All services of this cluster.
    Services,
    /// The pods of the node with this number.
    Node(usize),
    /// By which others know some of this cluster.
    Virtual,
    /// The peer with this number.
    Peer(usize),
    /// An address on the underlay, which no tunnel may swallow.
    Underlay,
}

struct Claim {
    net: IpNet,
    owner: Owner,
    field: String,
    position: Position,
}

impl Checker {
    pub(super) fn overlaps(&mut self, file: &SiteFile) {
        let mut claims = claims(file);
        claims.sort_by_key(|claim| (claim.net.network(), claim.net.prefix_len(), claim.owner));
        let mut holders: Vec<&Claim> = Vec::new();
        for claim in &claims {
            while holders.last().is_some_and(|holder| !holder.net.contains(&claim.net)) {
                holders.pop();
            }
            let holder = holders.last();
            if let Some(holder) = holder {
                self.pair(holder, claim);
            }
            let housed = holder.is_some_and(|holder| matches!(holder.owner, Owner::Pods | Owner::Node(_)));
            if matches!(claim.owner, Owner::Node(_)) && !housed {
                let message = format!("{} is in none of network.podCIDRs; correct one of them", claim.net);
                self.note(claim.position, &claim.field, message);
            }
            // Single addresses come last among equals and hold nothing else.
            if claim.owner != Owner::Underlay {
                holders.push(claim);
            }
        }
    }

    /// Judges a claim and the one that holds it. The later line is told: it is more likely the mistake.
    fn pair(&mut self, holder: &Claim, held: &Claim) {
        let fine = match (holder.owner, held.owner) {
            (Owner::Pods, Owner::Node(_)) => true,
            (Owner::Pods | Owner::Services | Owner::Node(_), Owner::Underlay) => true,
            (Owner::Peer(a), Owner::Peer(b)) if a == b => holder.net != held.net,
            _ => false,
        };
        if fine {
            return;
        }
        let (told, other) = if held.position > holder.position { (held, holder) } else { (holder, held) };
        let reason = match (holder.owner, held.owner) {
            (Owner::Peer(_), Owner::Underlay) => "a tunnel cannot carry its own packets",
            (Owner::Pods | Owner::Services | Owner::Node(_), Owner::Peer(_))
            | (Owner::Peer(_), Owner::Pods | Owner::Services | Owner::Node(_)) => {
                "every prefix has one owner; a cluster with equal ones is known by virtual ones (network.virtual in its file)"
            }
            _ => "every prefix has one owner",
        };
        let message = format!("{} overlaps {} of {}; {reason}", told.net, other.net, other.field);
        self.note(told.position, &told.field, message);
    }
}

fn claims(file: &SiteFile) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut add = |owner: Owner, field: String, text: &At<String>| {
        // A wrong prefix has been told already.
        if let Ok(net) = values::routed_prefix(text.value()) {
            claims.push(Claim { net, owner, field, position: text.position() });
        }
    };
    for (i, text) in file.network.pod_cidrs.iter().enumerate() {
        add(Owner::Pods, format!("network.podCIDRs[{i}]"), text);
    }
    for (i, text) in file.network.service_cidrs.iter().enumerate() {
        add(Owner::Services, format!("network.serviceCIDRs[{i}]"), text);
    }
    for (i, pair) in file.network.r#virtual.iter().enumerate() {
        add(Owner::Virtual, format!("network.virtual[{i}].virtual"), &pair.r#virtual);
    }
    for (n, node) in file.nodes.iter().enumerate() {
        let prefixes = node.pod_cidrs.iter().enumerate();
        prefixes.for_each(|(i, text)| add(Owner::Node(n), format!("nodes[{n}].podCIDRs[{i}]"), text));
    }
    for (n, peer) in file.peers.iter().enumerate() {
        let prefixes = peer.allowed_ips.iter().enumerate();
        prefixes.for_each(|(i, text)| add(Owner::Peer(n), format!("peers[{n}].allowedIPs[{i}]"), text));
    }
    for (i, node) in file.nodes.iter().enumerate() {
        if let Ok(address) = values::unicast(node.address.value()) {
            let field = format!("nodes[{i}].address");
            claims.push(Claim {
                net: address.into(),
                owner: Owner::Underlay,
                field,
                position: node.address.position(),
            });
        }
    }
    for (i, peer) in file.peers.iter().enumerate() {
        let Some(at) = &peer.endpoint else { continue };
        if let Ok(endpoint) = values::endpoint(at.value()) {
            let field = format!("peers[{i}].endpoint");
            let net = endpoint.ip().into();
            claims.push(Claim { net, owner: Owner::Underlay, field, position: at.position() });
        }
    }
    claims
}
