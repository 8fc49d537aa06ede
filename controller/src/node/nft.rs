//! The nftables table `inet linkspan`: what it holds, as a value that renders to and is read from nft's JSON
//! (libnftables-json(5)). It is compared and replaced whole.
//!
//! **Source addresses.** Chain `postrouting` translates the source of clusterset traffic to itself. The kernel binds a
//! connection's source once; our chain comes before every masquerade (priority `srcnat`, 100), so a later masquerade
//! of the CNI or of kube-proxy finds the source bound and does nothing. An `accept` would only end our own chain, and
//! `notrack` would take the connection away from kube-proxy's destination translation and from stateful network
//! policies, so identity translation it is. A connection of the node itself may have got a source outside the pod
//! CIDRs, for instance when its destination was a service address until kube-proxy translated it; the other cluster
//! would drop that, so it gets the node's own source.
//!
//! **Guard.** Chain `prerouting` sees packets before any translation. What leaves the tunnel may go to this cluster's
//! prefixes only: a Member cannot reach the site's LAN through us. The VXLAN link takes packets from nodes of this
//! cluster only, and only between local and remote prefixes: a host beside us cannot inject any.
//! The outer VXLAN packets are not tracked: each inner flow has its own outer port, and would cost an entry.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::mark::NFT_TABLE;
use super::state::Family;

/// Hook priority of raw chains, before connection tracking (`NF_IP_PRI_RAW` of `linux/netfilter_ipv4.h`).
const PRIORITY_RAW: i32 = -300;

/// Just before `NF_IP_PRI_NAT_SRC` (100), where masquerade rules are.
const PRIORITY_BEFORE_SRCNAT: i32 = 90;

/// What the table is made from. The order of elements does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Name of the tunnel link, on a node that has one.
    pub tunnel: Option<String>,
    /// Name and UDP port of the VXLAN link, on a node that has one.
    pub vxlan: Option<(String, u16)>,
    /// This cluster's prefixes.
    pub local: Vec<IpNet>,
    /// The other Members' prefixes.
    pub remote: Vec<IpNet>,
    /// Addresses of this cluster's nodes.
    pub nodes: Vec<IpAddr>,
    /// This node's own sources, at most one of each family.
    pub sources: Vec<IpAddr>,
}

/// A whole table: nft's JSON objects but for the table itself, in one fixed order and form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Vec<Value>);

impl Table {
    /// The table for `content`.
    pub fn render(content: &Content) -> Self {
        let mut objects = Vec::new();
        for family in Family::ALL {
            let syntax = Syntax::of(family);
            objects.push(syntax.set(syntax.local, &content.local));
            objects.push(syntax.set(syntax.remote, &content.remote));
            let nodes: Vec<_> = content.nodes.iter().map(|node| IpNet::from(*node)).collect();
            objects.push(syntax.set(syntax.nodes, &nodes));
        }
        objects.push(chain("output", "filter", "output", PRIORITY_RAW));
        objects.push(chain("postrouting", "nat", "postrouting", PRIORITY_BEFORE_SRCNAT));
        objects.push(chain("prerouting", "filter", "prerouting", PRIORITY_RAW));
        objects.extend(output_rules(content));
        objects.extend(postrouting_rules(content));
        objects.extend(prerouting_rules(content));
        Self(normalise(objects))
    }

    /// The table in the output of `nft -j list table inet linkspan`. `None` when the text is not of that form.
    pub fn from_listing(listing: Value) -> Option<Self> {
        let Value::Object(mut listing) = listing else { return None };
        let Value::Array(objects) = listing.remove("nftables")? else { return None };
        let ours =
            objects.into_iter().filter(|object| object.get("metainfo").is_none() && object.get("table").is_none());
        Some(Self(normalise(ours.collect())))
    }

    /// The command batch that puts this table in the place of any earlier one, for `nft -j -f -`. nft commits a batch
    /// as one transaction: packets see the old table or the new one.
    pub fn replace_commands(&self) -> Value {
        // Adding first makes the deletion succeed when there is no table yet.
        let mut commands = vec![json!({ "add": table() }), json!({ "delete": table() }), json!({ "add": table() })];
        commands.extend(self.0.iter().map(|object| json!({ "add": object })));
        json!({ "nftables": commands })
    }

    fn count(&self, kind: &str) -> usize {
        self.0.iter().filter(|object| object.get(kind).is_some()).count()
    }
}

/// The command batch that removes the table, whether or not there is one.
pub fn delete_commands() -> Value {
    json!({ "nftables": [{ "add": table() }, { "delete": table() }] })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elements = |object: &Value| object["set"]["elem"].as_array().map_or(0, Vec::len);
        let elements: usize = self.0.iter().map(elements).sum();
        write!(f, "{} rules, {} sets of {elements} prefixes", self.count("rule"), self.count("set"))
    }
}

fn table() -> Value {
    json!({ "table": { "family": "inet", "name": NFT_TABLE } })
}

/// The words of one address family.
struct Syntax {
    family: Family,
    protocol: &'static str,
    set_type: &'static str,
    local: &'static str,
    remote: &'static str,
    nodes: &'static str,
}

impl Syntax {
    fn of(family: Family) -> Self {
        let (local, remote, nodes) = match family {
            Family::V4 => ("local4", "remote4", "nodes4"),
            Family::V6 => ("local6", "remote6", "nodes6"),
        };
        let (protocol, set_type) = match family {
            Family::V4 => ("ip", "ipv4_addr"),
            Family::V6 => ("ip6", "ipv6_addr"),
        };
        Self { family, protocol, set_type, local, remote, nodes }
    }

    fn set(&self, name: &str, prefixes: &[IpNet]) -> Value {
        let own: Vec<_> = prefixes.iter().filter(|net| self.family.holds(net)).copied().collect();
        // The kernel refuses overlapping intervals in one set.
        let elements: BTreeSet<_> = IpNet::aggregate(&own).into_iter().collect();
        let elements: Vec<Value> = elements.iter().map(element).collect();
        let mut set =
            json!({ "family": "inet", "table": NFT_TABLE, "name": name, "type": self.set_type, "flags": ["interval"] });
        if !elements.is_empty() {
            set["elem"] = elements.into();
        }
        json!({ "set": set })
    }

    fn address(&self, field: &str) -> Value {
        json!({ "payload": { "protocol": self.protocol, "field": field } })
    }

    fn is_in(&self, field: &str, set: &str) -> Value {
        matches("==", self.address(field), format!("@{set}").into())
    }

    fn is_not_in(&self, field: &str, set: &str) -> Value {
        matches("!=", self.address(field), format!("@{set}").into())
    }

    fn snat(&self, to: Value) -> Value {
        json!({ "snat": { "family": self.protocol, "addr": to } })
    }
}

fn element(net: &IpNet) -> Value {
    if net.prefix_len() == net.max_prefix_len() {
        return net.addr().to_string().into();
    }
    json!({ "prefix": { "addr": net.network().to_string(), "len": net.prefix_len() } })
}

fn matches(op: &str, left: Value, right: Value) -> Value {
    json!({ "match": { "op": op, "left": left, "right": right } })
}

fn chain(name: &str, kind: &str, hook: &str, priority: i32) -> Value {
    json!({ "chain": {
        "family": "inet", "table": NFT_TABLE, "name": name,
        "type": kind, "hook": hook, "prio": priority, "policy": "accept",
    } })
}

fn rule(chain: &str, comment: &str, expressions: Vec<Value>) -> Value {
    json!({ "rule": { "family": "inet", "table": NFT_TABLE, "chain": chain, "comment": comment, "expr": expressions } })
}

fn input_link(name: &str) -> Value {
    matches("==", json!({ "meta": { "key": "iifname" } }), name.into())
}

fn udp_port(port: u16) -> Value {
    matches("==", json!({ "payload": { "protocol": "udp", "field": "dport" } }), port.into())
}

fn is_local(address: &str) -> Value {
    matches("==", json!({ "fib": { "result": "type", "flags": [address] } }), "local".into())
}

fn verdict(word: &str) -> Value {
    json!({ word: null })
}

fn counter() -> Value {
    json!({ "counter": { "packets": 0, "bytes": 0 } })
}

fn output_rules(content: &Content) -> Vec<Value> {
    let Some((_, port)) = content.vxlan else { return Vec::new() };
    let rules = Family::ALL.map(Syntax::of).map(|syntax| {
        let expressions = vec![syntax.is_in("daddr", syntax.nodes), udp_port(port), verdict("notrack")];
        rule("output", "encapsulated, to a node of this cluster", expressions)
    });
    rules.into()
}

fn postrouting_rules(content: &Content) -> Vec<Value> {
    let mut rules = Vec::new();
    for syntax in Family::ALL.map(Syntax::of) {
        for (from, to, comment) in [
            (syntax.local, syntax.remote, "to a Member: keep the source"),
            (syntax.remote, syntax.local, "from a Member: keep the source"),
        ] {
            let keep = syntax.snat(syntax.address("saddr"));
            rules.push(rule(
                "postrouting",
                comment,
                vec![syntax.is_in("saddr", from), syntax.is_in("daddr", to), keep],
            ));
        }
        if let Some(source) = content.sources.iter().find(|source| Family::of(**source) == syntax.family) {
            let source = syntax.snat(source.to_string().into());
            let expressions = vec![is_local("saddr"), syntax.is_in("daddr", syntax.remote), source];
            rules.push(rule("postrouting", "from this node to a Member: a source that it accepts", expressions));
        }
    }
    rules
}

fn prerouting_rules(content: &Content) -> Vec<Value> {
    let families = Family::ALL.map(Syntax::of);
    let mut rules = Vec::new();
    if let Some(link) = &content.tunnel {
        for syntax in &families {
            let expressions =
                vec![input_link(link), syntax.is_not_in("daddr", syntax.local), counter(), verdict("drop")];
            rules.push(rule("prerouting", "out of the tunnel, but not to this cluster", expressions));
        }
    }
    if let Some((link, port)) = &content.vxlan {
        for syntax in &families {
            let expressions = vec![
                syntax.is_in("saddr", syntax.nodes),
                udp_port(*port),
                is_local("daddr"),
                verdict("notrack"),
                verdict("accept"),
            ];
            rules.push(rule("prerouting", "encapsulated, from a node of this cluster", expressions));
        }
        let expressions = vec![udp_port(*port), is_local("daddr"), counter(), verdict("drop")];
        rules.push(rule("prerouting", "encapsulated, but not from a node of this cluster", expressions));
        for syntax in &families {
            for (from, to) in [(syntax.local, syntax.remote), (syntax.remote, syntax.local)] {
                let path =
                    [input_link(link), syntax.is_in("saddr", from), syntax.is_in("daddr", to), verdict("accept")];
                rules.push(rule("prerouting", "between this cluster and a Member", path.into()));
            }
        }
        rules.push(rule(
            "prerouting",
            "from a node, but not between clusters",
            vec![input_link(link), counter(), verdict("drop")],
        ));
    }
    rules
}

/// Brings objects into one order and form: sets, then chains, each by name, then the rules of one chain after the
/// other; without handles and counts.
fn normalise(mut objects: Vec<Value>) -> Vec<Value> {
    objects.iter_mut().for_each(normalise_object);
    // The sort is stable: rules keep their order within a chain.
    objects.sort_by_cached_key(|object| {
        let text = |kind: &str, field: &str| object[kind][field].as_str().unwrap_or_default().to_owned();
        if object.get("set").is_some() {
            (0, text("set", "name"))
        } else if object.get("chain").is_some() {
            (1, text("chain", "name"))
        } else {
            (2, text("rule", "chain"))
        }
    });
    objects
}

fn normalise_object(object: &mut Value) {
    let Some(body) =
        object.as_object_mut().and_then(|object| object.values_mut().next()).and_then(Value::as_object_mut)
    else {
        return;
    };
    body.remove("handle");
    // Some versions of nft print a lone flag without its list.
    if let Some(flag) = body.get_mut("flags").filter(|flags| flags.is_string()) {
        *flag = Value::Array(vec![flag.take()]);
    }
    if let Some(elements) = body.get_mut("elem").and_then(Value::as_array_mut) {
        elements.sort_by_cached_key(Value::to_string);
    }
    for expression in body.get_mut("expr").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(counter) = expression.get_mut("counter") {
            *counter = Value::Null;
        }
        if let Some(flags) = expression.pointer_mut("/match/left/fib/flags").filter(|flags| flags.is_string()) {
            *flags = Value::Array(vec![flags.take()]);
        }
    }
}
