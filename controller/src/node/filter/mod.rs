//! What the packet filter of a node does with a packet: nft's own listing (libnftables-json(5)), walked as the kernel
//! walks it. Pure, and read only: rules of others are looked at, never written.
//!
//! Not everything can be known from a listing: extensions of `iptables-nft` are opaque in it, and so are sets that
//! packets fill. What depends on such a thing is told as *uncertain*. A packet is taken to be the first of its
//! connection, without a mark.

mod matching;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mark::NFT_TABLE;
use matching::{Sets, matches};

/// Chains that jump to each other deeper than this are not followed; the kernel stops at 16 (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// A packet, and how it passes the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Packet {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// Destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Source port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Link by which it comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Link by which it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Which hooks it passes.
    pub passage: Passage,
}

/// Which hooks a packet passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Passage {
    /// To this node itself.
    In,
    /// From this node itself.
    Out,
    /// Through it.
    Through,
}

impl Passage {
    fn hooks(self) -> &'static [&'static str] {
        match self {
            Self::In => &["prerouting", "input"],
            Self::Out => &["output", "postrouting"],
            Self::Through => &["prerouting", "forward", "postrouting"],
        }
    }
}

impl Packet {
    fn is_of(&self, family: &str) -> bool {
        match family {
            "inet" => true,
            "ip" => self.from.is_ipv4(),
            "ip6" => self.from.is_ipv6(),
            _ => false,
        }
    }
}

/// What a rule does to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It vanishes.
    Drop,
    /// It is answered with an error.
    Reject,
    /// Its source becomes an address of the node.
    Masquerade,
    /// Its source is rewritten.
    Snat,
    /// Its destination is rewritten.
    Dnat,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drops",
            Self::Reject => "rejects",
            Self::Masquerade => "masquerades",
            Self::Snat => "rewrites the source of",
            Self::Dnat => "rewrites the destination of",
        })
    }
}

/// A rule that does something to the packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hit {
    /// What it does.
    pub effect: Effect,
    /// Where it is: `ip nat FLANNEL-POSTRTG`.
    pub place: String,
    /// The hook: `postrouting`.
    pub hook: String,
    /// What the rule says, as far as the listing tells; `policy` for the end of a chain.
    pub rule: String,
    /// Whether it is certain that the rule takes this packet.
    pub certain: bool,
    /// Whether the rule is Linkspan's own.
    pub ours: bool,
}

/// The rules of a node.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    base: Vec<Base>,
    chains: BTreeMap<(String, String, String), Vec<Value>>,
    sets: Sets,
}

/// A chain that the kernel begins with.
#[derive(Debug, Clone)]
struct Base {
    family: String,
    table: String,
    name: String,
    hook: String,
    nat: bool,
    priority: i64,
    drops: bool,
}

/// How a chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A verdict that is the chain's last word.
    Decided,
    /// Rules are used up.
    Through,
}

struct Walk<'a> {
    packet: &'a Packet,
    base: &'a Base,
    certain: bool,
    hits: Vec<Hit>,
}

impl Ruleset {
    /// Reads the output of `nft -j list ruleset`. What is not understood is left out.
    pub fn read(listing: &Value) -> Self {
        let mut ruleset = Self::default();
        let text = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
        for object in listing["nftables"].as_array().into_iter().flatten() {
            if let Some(chain) = object.get("chain") {
                let (family, table, name) = (text(chain, "family"), text(chain, "table"), text(chain, "name"));
                ruleset.chains.entry((family.clone(), table.clone(), name.clone())).or_default();
                if let Some(hook) = chain["hook"].as_str() {
                    ruleset.base.push(Base {
                        nat: chain["type"] == "nat",
                        priority: chain["prio"].as_i64().unwrap_or_default(),
                        drops: chain["policy"] == "drop",
                        hook: hook.to_owned(),
                        family,
                        table,
                        name,
                    });
                }
            } else if let Some(rule) = object.get("rule") {
                let key = (text(rule, "family"), text(rule, "table"), text(rule, "chain"));
                ruleset.chains.entry(key).or_default().push(rule.clone());
            } else if let Some(set) = object.get("set") {
                let key = (text(set, "family"), text(set, "table"), text(set, "name"));
                ruleset.sets.insert(key, set["elem"].clone());
            }
        }
        ruleset.base.sort_by_key(|base| base.priority);
        ruleset
    }

    /// Whether there are no chains at all.
    pub fn is_empty(&self) -> bool {
        self.base.is_empty()
    }

    /// What the rules do to a packet, in the order in which it meets them. The first certain drop ends its way, and the
    /// first certain translation of its source is the one that counts.
    pub fn judge(&self, packet: &Packet) -> Vec<Hit> {
        let mut hits = Vec::new();
        for hook in packet.passage.hooks() {
            let mut translated = false;
            for base in self.base.iter().filter(|base| base.hook == *hook && packet.is_of(&base.family)) {
                if base.nat && translated {
                    continue;
                }
                let mut walk = Walk { packet, base, certain: true, hits: Vec::new() };
                let end = self.walk(&mut walk, &base.name, 0);
                if end == End::Through && base.drops {
                    walk.hit(Effect::Drop, &base.name, "policy drop".to_owned());
                }
                translated |= base.nat && walk.hits.iter().any(|hit| hit.certain);
                let dead = |hit: &Hit| hit.certain && matches!(hit.effect, Effect::Drop | Effect::Reject);
                let end = walk.hits.iter().position(dead);
                hits.append(&mut walk.hits);
                if end.is_some() {
                    return hits;
                }
            }
        }
        hits
    }

    fn walk(&self, walk: &mut Walk<'_>, chain: &str, depth: usize) -> End {
        let key = (walk.base.family.clone(), walk.base.table.clone(), chain.to_owned());
        let Some(rules) = self.chains.get(&key).filter(|_| depth < DEPTH) else { return End::Through };
        for rule in rules {
            let before = walk.certain;
            match self.rule(walk, rule, chain, depth) {
                Step::Next => {}
                Step::Decided | Step::Lost if walk.certain => return End::Decided,
                Step::Return if walk.certain => return End::Through,
                // Who is perhaps dropped here, and certainly later, is certainly dropped.
                Step::Lost => {}
                // Perhaps it ended here: what comes is uncertain.
                Step::Decided | Step::Return => continue,
            }
            walk.certain = before;
        }
        End::Through
    }

    fn rule(&self, walk: &mut Walk<'_>, rule: &Value, chain: &str, depth: usize) -> Step {
        for expression in rule["expr"].as_array().into_iter().flatten() {
            let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
            match kind.as_str() {
                "match" => match matches(value, walk.packet, (&walk.base.family, &walk.base.table), &self.sets) {
                    Some(true) => {}
                    Some(false) => return Step::Next,
                    None => walk.certain = false,
                },
                "accept" => return Step::Decided,
                "return" => return Step::Return,
                "jump" | "goto" => {
                    let target = value["target"].as_str().unwrap_or_default();
                    let end = self.walk(walk, target, depth + 1);
                    return match (end, kind.as_str()) {
                        (End::Decided, _) => Step::Decided,
                        (End::Through, "goto") => Step::Return,
                        (End::Through, _) => Step::Next,
                    };
                }
                "xt" => match extension(value) {
                    Extension::Harmless => {}
                    Extension::Unknown => walk.certain = false,
                    Extension::Does(effect) => return walk.hit(effect, chain, words(rule)),
                },
                other => {
                    if let Some(effect) = effect(other) {
                        return walk.hit(effect, chain, words(rule));
                    }
                }
            }
        }
        Step::Next
    }
}

/// How a rule ended.
enum Step {
    /// With the next one.
    Next,
    /// With a verdict.
    Decided,
    /// With a verdict that the packet does not survive.
    Lost,
    /// With the end of its chain.
    Return,
}

impl Walk<'_> {
    fn hit(&mut self, effect: Effect, chain: &str, rule: String) -> Step {
        let Base { family, table, hook, .. } = self.base;
        self.hits.push(Hit {
            effect,
            place: format!("{family} {table} {chain}"),
            hook: hook.clone(),
            rule,
            certain: self.certain,
            ours: table == NFT_TABLE && family == "inet",
        });
        if matches!(effect, Effect::Drop | Effect::Reject) { Step::Lost } else { Step::Decided }
    }
}

fn effect(statement: &str) -> Option<Effect> {
    Some(match statement {
        "drop" => Effect::Drop,
        "reject" => Effect::Reject,
        "masquerade" => Effect::Masquerade,
        "snat" => Effect::Snat,
        "dnat" | "redirect" => Effect::Dnat,
        _ => return None,
    })
}

/// An extension of `iptables-nft`, which the listing names and does not explain.
enum Extension {
    Harmless,
    Unknown,
    Does(Effect),
}

fn extension(xt: &Value) -> Extension {
    match (xt["type"].as_str(), xt["name"].as_str()) {
        (Some("match"), Some("comment")) => Extension::Harmless,
        (Some("target"), Some("MASQUERADE")) => Extension::Does(Effect::Masquerade),
        (Some("target"), Some("SNAT" | "NETMAP")) => Extension::Does(Effect::Snat),
        (Some("target"), Some("DNAT" | "REDIRECT")) => Extension::Does(Effect::Dnat),
        (Some("target"), Some("REJECT")) => Extension::Does(Effect::Reject),
        (Some("target"), _) => Extension::Harmless,
        _ => Extension::Unknown,
    }
}

/// A rule in words that are close to nft's own.
fn words(rule: &Value) -> String {
    let parts = rule["expr"].as_array().into_iter().flatten().filter_map(matching::words);
    let mut text = parts.collect::<Vec<_>>().join(" ");
    if let Some(comment) = rule["comment"].as_str() {
        text = format!("{text} comment {comment:?}");
    }
    text
}
