use serde_json::json;

use super::*;

/// As `nft -j list ruleset` of nft 1.0.6 prints what flannel and kube-proxy have written with iptables-nft 1.8.9, and
/// what Linkspan has written, shortened.
fn k3s() -> Vec<Value> {
    let chain =
        |family: &str, table: &str, name: &str| json!({ "chain": { "family": family, "table": table, "name": name } });
    let prefix = |addr: &str, len: u8| json!({ "prefix": { "addr": addr, "len": len } });
    let address = |field: &str, right: Value, op: &str| json!({ "match": { "op": op, "left": { "payload": { "protocol": "ip", "field": field } }, "right": right } });
    vec![
        json!({ "metainfo": { "version": "1.0.6" } }),
        json!({ "chain": { "family": "ip", "table": "nat", "name": "POSTROUTING", "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept" } }),
        chain("ip", "nat", "FLANNEL-POSTRTG"),
        json!({ "rule": { "family": "ip", "table": "nat", "chain": "POSTROUTING", "expr": [
            { "xt": { "type": "match", "name": "comment" } }, { "counter": { "packets": 0, "bytes": 0 } },
            { "jump": { "target": "FLANNEL-POSTRTG" } } ] } }),
        json!({ "rule": { "family": "ip", "table": "nat", "chain": "FLANNEL-POSTRTG", "expr": [
            { "match": { "op": "==", "left": { "&": [{ "meta": { "key": "mark" } }, 16384] }, "right": 16384 } },
            { "return": null } ] } }),
        json!({ "rule": { "family": "ip", "table": "nat", "chain": "FLANNEL-POSTRTG", "expr": [
            address("saddr", prefix("10.42.0.0", 16), "=="), address("daddr", prefix("224.0.0.0", 4), "!="),
            { "xt": { "type": "match", "name": "comment" } }, { "xt": { "type": "target", "name": "MASQUERADE" } } ] } }),
    ]
}

/// Linkspan's own chain, before the others.
fn ours() -> Vec<Value> {
    vec![
        json!({ "set": { "family": "inet", "table": "linkspan", "name": "remote4", "elem": [{ "prefix": { "addr": "10.52.0.0", "len": 16 } }] } }),
        json!({ "chain": { "family": "inet", "table": "linkspan", "name": "postrouting", "type": "nat", "hook": "postrouting", "prio": 90, "policy": "accept" } }),
        json!({ "rule": { "family": "inet", "table": "linkspan", "chain": "postrouting", "expr": [
            { "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "daddr" } }, "right": "@remote4" } },
            { "snat": { "family": "ip", "addr": { "payload": { "protocol": "ip", "field": "saddr" } } } } ] } }),
    ]
}

fn ruleset(parts: Vec<Vec<Value>>) -> Ruleset {
    Ruleset::read(&json!({ "nftables": parts.concat() }))
}

fn packet() -> Packet {
    Packet {
        from: "10.42.0.7".parse().unwrap(),
        to: "10.52.1.9".parse().unwrap(),
        protocol: "tcp".to_owned(),
        port: Some(80),
        source_port: None,
        input: Some("cni0".to_owned()),
        output: Some("linkspan0".to_owned()),
        passage: Passage::Through,
    }
}

fn told(hits: &[Hit]) -> Vec<(Effect, &str, bool)> {
    hits.iter().map(|hit| (hit.effect, hit.place.as_str(), hit.certain)).collect()
}

#[test]
fn flannel_masquerades_what_leaves_for_another_cluster_unless_we_come_first() {
    let hits = ruleset(vec![k3s()]).judge(&packet());
    assert_eq!(told(&hits), [(Effect::Masquerade, "ip nat FLANNEL-POSTRTG", true)]);
    assert_eq!(hits[0].rule, "ip saddr 10.42.0.0/16 ip daddr != 224.0.0.0/4 MASQUERADE");
    let hits = ruleset(vec![k3s(), ours()]).judge(&packet());
    assert_eq!(told(&hits), [(Effect::Snat, "inet linkspan postrouting", true)]);
    assert!(hits[0].ours);
}

#[test]
fn who_masquerades_before_us_wins() {
    let theirs = vec![
        json!({ "chain": { "family": "inet", "table": "f", "name": "post", "type": "nat", "hook": "postrouting", "prio": 50, "policy": "accept" } }),
        json!({ "rule": { "family": "inet", "table": "f", "chain": "post", "expr": [
            { "match": { "op": "==", "left": { "meta": { "key": "oifname" } }, "right": "linkspan*" } }, { "masquerade": null } ] } }),
    ];
    let hits = ruleset(vec![k3s(), ours(), theirs]).judge(&packet());
    assert_eq!(told(&hits), [(Effect::Masquerade, "inet f post", true)]);
    assert!(!hits[0].ours);
}

fn filter(hook: &str, policy: &str, expr: Value) -> Vec<Value> {
    vec![
        json!({ "chain": { "family": "ip", "table": "filter", "name": "C", "type": "filter", "hook": hook, "prio": 0, "policy": policy } }),
        json!({ "rule": { "family": "ip", "table": "filter", "chain": "C", "expr": expr } }),
    ]
}

#[test]
fn a_drop_counts_for_the_packets_that_it_takes() {
    let udp = |port: u16| json!({ "match": { "op": "==", "left": { "payload": { "protocol": "udp", "field": "dport" } }, "right": port } });
    let rules = ruleset(vec![filter("input", "accept", json!([udp(51820), { "counter": {} }, { "drop": null }]))]);
    let datagram = |port, passage| Packet { protocol: "udp".to_owned(), port: Some(port), passage, ..packet() };
    let hits = rules.judge(&datagram(51820, Passage::In));
    assert_eq!((hits.len(), hits[0].effect, hits[0].rule.as_str()), (1, Effect::Drop, "udp dport 51820 drop"));
    assert_eq!(rules.judge(&datagram(51821, Passage::In)), []);
    assert_eq!(rules.judge(&datagram(51820, Passage::Through)), [], "it does not come to this node");
    assert_eq!(rules.judge(&packet()), [], "TCP has no UDP port");
}

#[test]
fn what_an_extension_decides_is_uncertain() {
    let conntrack = json!({ "xt": { "type": "match", "name": "conntrack" } });
    let invalid = json!([conntrack, { "drop": null }]);
    assert_eq!(
        told(&ruleset(vec![filter("forward", "accept", invalid)]).judge(&packet())),
        [(Effect::Drop, "ip filter C", false)]
    );
    // Who is perhaps let through is perhaps dropped at the end.
    let accepted = json!([conntrack, { "accept": null }]);
    let hits = ruleset(vec![filter("forward", "drop", accepted)]).judge(&packet());
    assert_eq!(told(&hits), [(Effect::Drop, "ip filter C", false)]);
}

#[test]
fn a_chain_that_drops_what_nothing_accepts_drops() {
    let hits = ruleset(vec![filter("forward", "drop", json!([{ "counter": {} }]))]).judge(&packet());
    assert_eq!((told(&hits), hits[0].rule.as_str()), (vec![(Effect::Drop, "ip filter C", true)], "policy drop"));
    let hits = ruleset(vec![filter("forward", "drop", json!([{ "accept": null }]))]).judge(&packet());
    assert_eq!(hits, []);
}

#[test]
fn sets_ranges_and_states_are_understood() {
    let of = |expr: Value| ruleset(vec![filter("forward", "accept", expr)]).judge(&packet()).len();
    let is = |left: Value, right: Value| json!([{ "match": { "op": "==", "left": left, "right": right } }, { "drop": null }]);
    let from = json!({ "payload": { "protocol": "ip", "field": "saddr" } });
    assert_eq!(of(is(from.clone(), json!({ "set": ["10.0.0.1", { "range": ["10.42.0.5", "10.42.0.8"] }] }))), 1);
    assert_eq!(of(is(from.clone(), json!({ "set": ["10.0.0.1", { "range": ["10.42.0.5", "10.42.0.6"] }] }))), 0);
    assert_eq!(of(is(json!({ "payload": { "protocol": "ip6", "field": "saddr" } }), json!("fd00::1"))), 0);
    assert_eq!(of(is(json!({ "ct": { "key": "state" } }), json!(["established", "related"]))), 0);
    assert_eq!(of(is(json!({ "ct": { "key": "state" } }), json!(["new"]))), 1);
    assert_eq!(of(is(json!({ "meta": { "key": "l4proto" } }), json!({ "set": ["tcp", "udp"] }))), 1);
}

#[test]
fn nonsense_is_no_rule() {
    for listing in [json!(null), json!({ "nftables": 7 }), json!({ "nftables": [{ "rule": 1 }, { "chain": {} }, {}] })]
    {
        assert_eq!(Ruleset::read(&listing).judge(&packet()), []);
    }
    // A chain that jumps to itself ends.
    let expr = json!([{ "jump": { "target": "C" } }]);
    assert_eq!(ruleset(vec![filter("forward", "accept", expr)]).judge(&packet()), []);
}
