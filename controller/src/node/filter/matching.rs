//! Whether one expression of a rule takes a packet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{Packet, Passage};

/// Elements of named sets, by family, table and name.
pub(super) type Sets = BTreeMap<(String, String, String), Value>;

/// What a packet has where a rule looks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Address(IpAddr),
    Number(u64),
    Text(String),
    /// The packet has no such field, so that the kernel passes the rule over.
    Absent,
    /// The listing does not tell.
    Unknown,
}

/// Whether the packet passes a `match`; `None` when nobody can tell.
pub(super) fn matches(expression: &Value, packet: &Packet, table: (&str, &str), sets: &Sets) -> Option<bool> {
    let field = field(&expression["left"], packet);
    let right = &expression["right"];
    let equal = match &field {
        Field::Absent => return Some(false),
        Field::Unknown => return None,
        field => is(field, right, table, sets),
    };
    match expression["op"].as_str().unwrap_or("==") {
        "==" | "in" => equal,
        "!=" => equal.map(|equal| !equal),
        order => {
            let (Field::Number(left), Some(right)) = (&field, right.as_u64()) else { return None };
            match order {
                "<" => Some(*left < right),
                ">" => Some(*left > right),
                "<=" => Some(*left <= right),
                ">=" => Some(*left >= right),
                _ => None,
            }
        }
    }
}

fn field(left: &Value, packet: &Packet) -> Field {
    if let Some(payload) = left.get("payload") {
        let part = |name: &str| payload[name].as_str().unwrap_or_default();
        return payload_field(part("protocol"), part("field"), packet);
    }
    if let Some(key) = left["meta"]["key"].as_str() {
        return meta(key, packet);
    }
    if let Some(key) = left["ct"]["key"].as_str() {
        return match key {
            "state" => Field::Text("new".to_owned()),
            "mark" => Field::Number(0),
            "direction" => Field::Text("original".to_owned()),
            _ => Field::Unknown,
        };
    }
    if left["fib"]["result"] == "type" {
        let of = |flag: &str| left["fib"]["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == flag));
        let local = of("daddr") && packet.passage == Passage::In || of("saddr") && packet.passage == Passage::Out;
        return Field::Text(if local { "local" } else { "unicast" }.to_owned());
    }
    if let Some([of, mask]) = left["&"].as_array().map(Vec::as_slice)
        && let (Field::Number(number), Some(mask)) = (field(of, packet), mask.as_u64())
    {
        return Field::Number(number & mask);
    }
    Field::Unknown
}

fn payload_field(protocol: &str, name: &str, packet: &Packet) -> Field {
    let family = if packet.from.is_ipv4() { "ip" } else { "ip6" };
    match (protocol, name) {
        ("ip" | "ip6", _) if protocol != family => Field::Absent,
        (_, "saddr") => Field::Address(packet.from),
        (_, "daddr") => Field::Address(packet.to),
        ("ip", "protocol") | ("ip6", "nexthdr") => Field::Text(packet.protocol.clone()),
        ("tcp" | "udp" | "sctp", _) if protocol != packet.protocol => Field::Absent,
        (_, "dport") => packet.port.map_or(Field::Unknown, |port| Field::Number(port.into())),
        (_, "sport") => packet.source_port.map_or(Field::Unknown, |port| Field::Number(port.into())),
        ("icmp" | "icmpv6", _) if packet.protocol != "icmp" => Field::Absent,
        _ => Field::Unknown,
    }
}

fn meta(key: &str, packet: &Packet) -> Field {
    let link = |link: &Option<String>| link.clone().map_or(Field::Absent, Field::Text);
    match key {
        "iifname" | "iif" => link(&packet.input),
        "oifname" | "oif" => link(&packet.output),
        "l4proto" => Field::Text(packet.protocol.clone()),
        "nfproto" => Field::Text(if packet.from.is_ipv4() { "ipv4" } else { "ipv6" }.to_owned()),
        "protocol" => Field::Text(if packet.from.is_ipv4() { "ip" } else { "ip6" }.to_owned()),
        "mark" => Field::Number(0),
        _ => Field::Unknown,
    }
}

/// Whether a field is, or is among, what a rule names.
fn is(field: &Field, right: &Value, table: (&str, &str), sets: &Sets) -> Option<bool> {
    if let Some(set) = right.get("set") {
        return among(field, set, table, sets);
    }
    if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        let elements = sets.get(&(table.0.to_owned(), table.1.to_owned(), name.to_owned()))?;
        return among(field, elements, table, sets);
    }
    if right.is_array() {
        return among(field, right, table, sets);
    }
    if let Some(value) = right["elem"].get("val") {
        return is(field, value, table, sets);
    }
    match field {
        Field::Address(address) => address_is(*address, right),
        Field::Number(number) => number_is(*number, right),
        Field::Text(text) => right.as_str().map(|pattern| text_is(text, pattern)),
        Field::Absent => Some(false),
        Field::Unknown => None,
    }
}

fn among(field: &Field, elements: &Value, table: (&str, &str), sets: &Sets) -> Option<bool> {
    let mut unknown = false;
    for element in elements.as_array().into_iter().flatten() {
        match is(field, element, table, sets) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(false)
}

fn address_is(address: IpAddr, right: &Value) -> Option<bool> {
    let parse = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    if let Some(prefix) = right.get("prefix") {
        let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
        return Some(IpNet::new(parse(&prefix["addr"])?, length).ok()?.contains(&address));
    }
    if let Some([first, last]) = right["range"].as_array().map(Vec::as_slice) {
        return Some((parse(first)?..=parse(last)?).contains(&address));
    }
    Some(parse(right)? == address)
}

fn number_is(number: u64, right: &Value) -> Option<bool> {
    if let Some([first, last]) = right["range"].as_array().map(Vec::as_slice) {
        return Some((first.as_u64()?..=last.as_u64()?).contains(&number));
    }
    Some(right.as_u64()? == number)
}

/// Names of links may end in `*`; protocols of IPv6 have names of their own.
fn text_is(text: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => text == pattern || text == "icmp" && matches!(pattern, "ipv6-icmp" | "icmpv6"),
    }
}

/// An expression in words; nothing for what only counts.
pub(super) fn words(expression: &Value) -> Option<String> {
    let (kind, value) = expression.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "match" => {
            let op = value["op"].as_str().unwrap_or("==");
            let op = if matches!(op, "==" | "in") { String::new() } else { format!("{op} ") };
            format!("{} {op}{}", left_words(&value["left"]), right_words(&value["right"]))
        }
        "counter" | "comment" => return None,
        "xt" => match value["name"].as_str()? {
            "comment" => return None,
            name => name.to_owned(),
        },
        "jump" | "goto" => format!("{kind} {}", value["target"].as_str().unwrap_or("?")),
        other => other.to_owned(),
    })
}

fn left_words(left: &Value) -> String {
    if let Some(payload) = left.get("payload") {
        return format!("{} {}", text(&payload["protocol"]), text(&payload["field"]));
    }
    for kind in ["meta", "ct"] {
        if let Some(key) = left[kind]["key"].as_str() {
            return if matches!(key, "iifname" | "oifname") { key.to_owned() } else { format!("{kind} {key}") };
        }
    }
    if let Some([of, mask]) = left["&"].as_array().map(Vec::as_slice) {
        return format!("{} & {mask}", left_words(of));
    }
    left.as_object().and_then(|object| object.keys().next().cloned()).unwrap_or_else(|| "?".to_owned())
}

fn right_words(right: &Value) -> String {
    if let Some(prefix) = right.get("prefix") {
        return format!("{}/{}", text(&prefix["addr"]), prefix["len"]);
    }
    if let Some([first, last]) = right["range"].as_array().map(Vec::as_slice) {
        return format!("{}-{}", text(first), text(last));
    }
    if let Some(elements) = right["set"].as_array().or(right.as_array()) {
        return format!("{{ {} }}", elements.iter().map(right_words).collect::<Vec<_>>().join(", "));
    }
    text(right)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
