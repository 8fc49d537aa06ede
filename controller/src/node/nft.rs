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

/// A whole table: nft's JSON objects but for the table itself, in one fixed order. Equal when they mean the same.
#[derive(Debug, Clone)]
pub struct Table(Vec<Value>);

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| canonical(a) == canonical(b))
    }
}

impl Eq for Table {}

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
        Self(ordered(objects))
    }

    /// The table in the output of `nft -j list table inet linkspan`. `None` when the text is not of that form.
    pub fn from_listing(listing: Value) -> Option<Self> {
        let Value::Object(mut listing) = listing else { return None };
        let Value::Array(objects) = listing.remove("nftables")? else { return None };
        let ours =
            objects.into_iter().filter(|object| object.get("metainfo").is_none() && object.get("table").is_none());
        Some(Self(ordered(ours.collect())))
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

/// The condition `left op right`.
pub(super) fn matches(op: &str, left: Value, right: Value) -> Value {
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

/// Brings objects into one order: sets, then chains, each by name, then the rules of one chain after the other.
fn ordered(mut objects: Vec<Value>) -> Vec<Value> {
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

/// One form for all that means the same: without handles and counts, elements of sets in one order, and a list of one
/// as the one itself, because versions of nft differ in that.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Array(values) if values.len() == 1 => canonical(&values[0]),
        Value::Array(values) => values.iter().map(canonical).collect(),
        Value::Object(fields) => {
            let meant = fields.iter().filter(|(name, _)| *name != "handle");
            let form = |(name, value): (&String, &Value)| {
                let mut value = if name == "counter" { Value::Null } else { canonical(value) };
                if let (Value::Array(elements), "elem") = (&mut value, name.as_str()) {
                    elements.sort_by_cached_key(Value::to_string);
                }
                (name.clone(), value)
            };
            Value::Object(meant.map(form).collect())
        }
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content {
            tunnel: Some("linkspan0".into()),
            vxlan: Some(("linkspan-nodes".into(), 4790)),
            local: vec!["10.42.0.0/16".parse().unwrap()],
            remote: vec![
                "10.52.0.0/16".parse().unwrap(),
                "10.53.0.7/32".parse().unwrap(),
                "fd52::/56".parse().unwrap(),
            ],
            nodes: vec!["192.168.7.2".parse().unwrap()],
            sources: vec!["10.42.0.1".parse().unwrap()],
        }
    }

    /// As nft lists it: with what the kernel adds, and elements in its own order.
    fn listing(table: &Table) -> Value {
        let mut objects = vec![json!({ "metainfo": { "version": "1.0.6" } }), table_with_handle()];
        objects.extend(table.0.iter().cloned());
        for (handle, object) in objects.iter_mut().enumerate() {
            for kind in ["set", "chain", "rule"] {
                if let Some(body) = object.get_mut(kind) {
                    body["handle"] = handle.into();
                    body.get_mut("elem")
                        .and_then(Value::as_array_mut)
                        .into_iter()
                        .for_each(|elements| elements.reverse());
                }
            }
            for expression in object.pointer_mut("/rule/expr").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(counter) = expression.get_mut("counter") {
                    *counter = json!({ "packets": 7, "bytes": 700 });
                }
            }
        }
        json!({ "nftables": objects })
    }

    fn table_with_handle() -> Value {
        json!({ "table": { "family": "inet", "name": "linkspan", "handle": 3 } })
    }

    #[test]
    fn a_listing_of_the_table_equals_it() {
        let table = Table::render(&content());
        assert_eq!(Table::from_listing(listing(&table)), Some(table));
    }

    #[test]
    fn a_lone_flag_may_be_listed_without_its_list() {
        let table = Table::render(&content());
        let mut listing = listing(&table);
        for object in listing["nftables"].as_array_mut().unwrap() {
            if let Some(flags) = object.pointer_mut("/set/flags") {
                *flags = "interval".into();
            }
        }
        assert_eq!(Table::from_listing(listing), Some(table));
    }

    #[test]
    fn an_element_a_rule_or_an_order_of_rules_makes_another_table() {
        let table = Table::render(&content());
        let change = |change: fn(&mut Vec<Value>)| {
            let mut listing = listing(&table);
            change(listing["nftables"].as_array_mut().unwrap());
            Table::from_listing(listing).unwrap()
        };
        assert_eq!(change(|_| ()), table);
        assert_ne!(change(|objects| drop(objects.pop())), table);
        assert_ne!(change(|objects| objects.last_mut().unwrap()["rule"]["expr"][0] = verdict("accept")), table);
        assert_ne!(
            change(|objects| {
                let last = objects.len() - 1;
                objects.swap(last, last - 1)
            }),
            table
        );
        let lost_element = change(|objects| {
            let set = objects.iter_mut().find(|object| object["set"]["name"] == "remote4").unwrap();
            set["set"]["elem"].as_array_mut().unwrap().pop();
        });
        assert_ne!(lost_element, table);
    }

    #[test]
    fn sources_are_translated_to_themselves_by_family() {
        let rules = postrouting_rules(&content());
        assert_eq!(
            rules[0]["rule"]["expr"],
            json!([
                { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "saddr" } }, "right": "@local4" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "daddr" } }, "right": "@remote4" } },
                { "snat": { "family": "ip", "addr": { "payload": { "protocol": "ip", "field": "saddr" } } } },
            ])
        );
        // Three for IPv4; two for IPv6, where the node has no source of its own.
        assert_eq!(rules.len(), 5);
    }

    #[test]
    fn other_text_is_no_table() {
        for text in [json!(null), json!([]), json!({}), json!({ "nftables": 1 })] {
            assert_eq!(Table::from_listing(text), None);
        }
    }
}
