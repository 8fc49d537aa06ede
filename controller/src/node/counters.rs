//! Counting one flow where it passes a node: in a packet filter table of its own, which is there only while somebody looks,
//! and drops and changes nothing. What it holds, as nft's JSON (libnftables-json(5)), and how its counters are read.
//!
//! A packet is counted when it comes in and when it goes out, by the kind of its link. Incoming ones are counted behind
//! destination translation, outgoing ones of the client behind source translation: what is wrongly masqueraded comes in and
//! does not go out. With segmentation offload one packet here may be several elsewhere.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::mark::NFT_TABLE_COUNT;
use super::nft::matches;

/// Behind destination translation, `NF_IP_PRI_NAT_DST` (-100), and ahead of filters (0).
const PRIORITY_IN: i32 = -50;
/// Behind source translation, `NF_IP_PRI_NAT_SRC` (100), and whatever else is done last.
const PRIORITY_OUT: i32 = 300;
/// Ahead of source translation: there answers get the address of the service back that the client has called.
const PRIORITY_OUT_BACK: i32 = 50;

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Both ends, as this cluster calls them; one client and perhaps several servers of one service.
    pub pairs: Vec<Pair>,
    /// Packets of one kind only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Only>,
    /// Name of the tunnel link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// Name of Linkspan's VXLAN link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<String>,
}

/// Both ends of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// Who calls.
    pub client: IpAddr,
    /// Who is called.
    pub server: IpAddr,
}

/// Which packets between the ends are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Only {
    /// ICMP echo with this identifier.
    Echo {
        /// The identifier of RFC 792 and RFC 4443.
        identifier: u16,
    },
    /// To and from a port of the server.
    Port {
        /// Its protocol.
        protocol: Protocol,
        /// Its number.
        port: u16,
    },
}

/// Protocols with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

/// By which link a packet comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Link {
    /// The tunnel's.
    Tunnel,
    /// Linkspan's VXLAN between nodes.
    Vxlan,
    /// Any other: that of a pod, of the CNI, of the node's network.
    Other,
}

/// Whether a packet comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hook {
    /// It comes by the link.
    In,
    /// It goes by the link.
    Out,
}

/// What was counted at one place of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Which of the flow's pairs, counted from 0.
    pub pair: usize,
    /// The link.
    pub link: Link,
    /// The direction.
    pub hook: Hook,
    /// Packets from the client to the server.
    pub there: u64,
    /// Packets from the server to the client.
    pub back: u64,
}

impl Link {
    const ALL: [Self; 3] = [Self::Tunnel, Self::Vxlan, Self::Other];

    fn word(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Vxlan => "vxlan",
            Self::Other => "other",
        }
    }
}

impl Hook {
    const ALL: [Self; 2] = [Self::In, Self::Out];

    fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    fn link_key(self) -> &'static str {
        match self {
            Self::In => "iifname",
            Self::Out => "oifname",
        }
    }
}

/// Direction of packets in a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

impl Way {
    const ALL: [Self; 2] = [Self::There, Self::Back];

    fn word(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Back => "back",
        }
    }
}

/// The name of one looker's table.
pub fn table_name(looker: u32) -> String {
    format!("{NFT_TABLE_COUNT}{looker}")
}

/// The command batch that makes the table, for `nft -j -f -`: one transaction.
pub fn install_commands(table: &str, flow: &Flow) -> Value {
    let add = |object: Value| json!({ "add": object });
    let it = json!({ "table": { "family": "inet", "name": table } });
    // One that a process of this number has left behind would go on counting.
    let mut commands = vec![add(it.clone()), json!({ "delete": it.clone() }), add(it)];
    let chains = [
        (chain(Hook::In, Way::There), "prerouting", PRIORITY_IN),
        (chain(Hook::Out, Way::There), "postrouting", PRIORITY_OUT),
        (chain(Hook::Out, Way::Back), "postrouting", PRIORITY_OUT_BACK),
    ];
    for (name, hook, priority) in chains {
        commands.push(add(json!({ "chain": {
            "family": "inet", "table": table, "name": name,
            "type": "filter", "hook": hook, "prio": priority, "policy": "accept",
        } })));
    }
    for (place, way) in places(flow).flat_map(|place| Way::ALL.map(|way| (place, way))) {
        let counter = name(place, way);
        commands.push(add(json!({ "counter": { "family": "inet", "table": table, "name": counter } })));
        let mut expressions: Vec<Value> = link_match(flow, place).into_iter().collect();
        expressions.extend(packet_matches(flow.pairs[place.pair], flow.only, way));
        expressions.push(json!({ "counter": counter }));
        commands.push(add(json!({ "rule": {
            "family": "inet", "table": table, "chain": chain(place.hook, way), "expr": expressions,
        } })));
    }
    json!({ "nftables": commands })
}

/// The command batch that removes a table.
pub fn delete_commands(table: &str) -> Value {
    json!({ "nftables": [{ "delete": { "table": { "family": "inet", "name": table } } }] })
}

/// What the counters of a table have, from `nft -j list counters`. Links that the flow does not name are left out.
pub fn counts(listing: &Value, table: &str, flow: &Flow) -> Vec<Count> {
    let counters: Vec<&Value> =
        listing["nftables"].as_array().into_iter().flatten().map(|one| &one["counter"]).collect();
    let packets = |place, way| {
        let is = |counter: &&&Value| counter["table"] == table && counter["name"] == name(place, way);
        counters.iter().find(is).and_then(|counter| counter["packets"].as_u64()).unwrap_or_default()
    };
    let count = |place @ Place { pair, link, hook }| {
        let (there, back) = (packets(place, Way::There), packets(place, Way::Back));
        Count { pair, link, hook, there, back }
    };
    places(flow).map(count).collect()
}

/// Names of tables of this kind in the output of `nft -j list tables`.
pub fn tables(listing: &Value) -> Vec<String> {
    let all = listing["nftables"].as_array().into_iter().flatten().map(|one| &one["table"]);
    let ours = all.filter(|table| table["family"] == "inet").filter_map(|table| table["name"].as_str());
    ours.filter(|name| name.starts_with(NFT_TABLE_COUNT)).map(str::to_owned).collect()
}

/// Where packets of one pair are counted.
#[derive(Debug, Clone, Copy)]
struct Place {
    pair: usize,
    link: Link,
    hook: Hook,
}

fn places(flow: &Flow) -> impl Iterator<Item = Place> {
    let is_there = |link: &Link| match link {
        Link::Tunnel => flow.tunnel.is_some(),
        Link::Vxlan => flow.vxlan.is_some(),
        Link::Other => true,
    };
    let links = Link::ALL.into_iter().filter(move |link| is_there(link));
    let hooks = links.flat_map(|link| Hook::ALL.map(|hook| (link, hook)));
    (0..flow.pairs.len()).flat_map(move |pair| hooks.clone().map(move |(link, hook)| Place { pair, link, hook }))
}

/// The chain in which packets are counted.
fn chain(hook: Hook, way: Way) -> &'static str {
    match (hook, way) {
        (Hook::In, _) => "in",
        (Hook::Out, Way::There) => "out",
        (Hook::Out, Way::Back) => "out-back",
    }
}

fn name(Place { pair, link, hook }: Place, way: Way) -> String {
    format!("{}-{}-{}-{pair}", link.word(), hook.word(), way.word())
}

/// None where any link is meant.
fn link_match(flow: &Flow, place: Place) -> Option<Value> {
    let key = json!({ "meta": { "key": place.hook.link_key() } });
    let named: Vec<&str> = flow.tunnel.iter().chain(&flow.vxlan).map(String::as_str).collect();
    match (place.link, named.as_slice()) {
        (Link::Tunnel, _) => Some(matches("==", key, json!(flow.tunnel))),
        (Link::Vxlan, _) => Some(matches("==", key, json!(flow.vxlan))),
        (Link::Other, []) => None,
        (Link::Other, [one]) => Some(matches("!=", key, json!(one))),
        (Link::Other, several) => Some(matches("!=", key, json!({ "set": several }))),
    }
}

fn packet_matches(pair: Pair, only: Option<Only>, way: Way) -> Vec<Value> {
    let (from, to) = match way {
        Way::There => (pair.client, pair.server),
        Way::Back => (pair.server, pair.client),
    };
    let (ip, icmp) = if from.is_ipv4() { ("ip", "icmp") } else { ("ip6", "icmpv6") };
    let field = |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
    let mut found = vec![
        matches("==", field(ip, "saddr"), from.to_string().into()),
        matches("==", field(ip, "daddr"), to.to_string().into()),
    ];
    match only {
        None => {}
        Some(Only::Echo { identifier }) => found.push(matches("==", field(icmp, "id"), identifier.into())),
        Some(Only::Port { protocol, port }) => {
            let protocol = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            let end = match way {
                Way::There => "dport",
                Way::Back => "sport",
            };
            found.push(matches("==", field(protocol, end), port.into()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(client: &str, server: &str) -> Pair {
        Pair { client: client.parse().expect("valid"), server: server.parse().expect("valid") }
    }

    fn flow() -> Flow {
        Flow {
            pairs: vec![pair("10.42.1.7", "10.52.0.9")],
            only: Some(Only::Port { protocol: Protocol::Tcp, port: 80 }),
            tunnel: Some("linkspan0".to_owned()),
            vxlan: None,
        }
    }

    #[test]
    fn a_flow_is_counted_by_link_and_direction() {
        let commands = install_commands("linkspan-count-7", &flow());
        let commands = commands["nftables"].as_array().expect("commands");
        // A table in the place of an earlier one, three chains, and for two kinds of links, two hooks and two ways a counter and a rule.
        assert_eq!(commands.len(), 6 + 2 * 2 * 2 * 2);
        let rule = commands.iter().map(|command| &command["add"]["rule"]).find(|rule| rule.is_object());
        assert_eq!(
            rule.expect("a rule")["expr"],
            json!([
                { "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": "linkspan0" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "saddr" } }, "right": "10.42.1.7" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "daddr" } }, "right": "10.52.0.9" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "dport" } }, "right": 80 } },
                { "counter": "tunnel-in-there-0" },
            ])
        );
        let back = commands.iter().map(|command| &command["add"]["rule"]).rfind(|rule| rule.is_object());
        assert_eq!(
            back.expect("a rule")["expr"],
            json!([
                { "match": { "op": "!=", "left": { "meta": { "key": "oifname" } }, "right": "linkspan0" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "saddr" } }, "right": "10.52.0.9" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "daddr" } }, "right": "10.42.1.7" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "sport" } }, "right": 80 } },
                { "counter": "other-out-back-0" },
            ])
        );
    }

    #[test]
    fn echo_over_ipv6_is_known_by_its_identifier() {
        let only = Some(Only::Echo { identifier: 7 });
        let found = packet_matches(pair("fd00::1", "fd00::2"), only, Way::There);
        let expected = json!({ "match": {
            "op": "==", "left": { "payload": { "protocol": "icmpv6", "field": "id" } }, "right": 7,
        } });
        assert_eq!((found.len(), &found[2]), (3, &expected));
    }

    #[test]
    fn counters_of_other_tables_are_not_ours() {
        let counter = |table: &str, name: &str, packets: u64| json!({ "counter": { "family": "inet", "table": table, "name": name, "packets": packets, "bytes": 0 } });
        let listing = json!({ "nftables": [
            { "metainfo": {} },
            counter("linkspan-count-7", "tunnel-out-there-0", 20),
            counter("linkspan-count-7", "tunnel-in-back-0", 19),
            counter("linkspan-count-8", "other-in-there-0", 5),
        ] });
        let found = counts(&listing, "linkspan-count-7", &flow());
        let count = |link, hook, there, back| Count { pair: 0, link, hook, there, back };
        assert_eq!(
            found,
            [
                count(Link::Tunnel, Hook::In, 0, 19),
                count(Link::Tunnel, Hook::Out, 20, 0),
                count(Link::Other, Hook::In, 0, 0),
                count(Link::Other, Hook::Out, 0, 0),
            ]
        );
        let listing = json!({ "nftables": [
            { "table": { "family": "inet", "name": "linkspan" } },
            { "table": { "family": "inet", "name": "linkspan-count-7" } },
            { "table": { "family": "ip", "name": "linkspan-count-9" } },
        ] });
        assert_eq!(tables(&listing), ["linkspan-count-7"]);
    }
}
