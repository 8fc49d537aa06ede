//! Looks: at the kernel through `controller::node`, and around with probes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use controller::node::filter::Ruleset;
use controller::node::{Desired, Kernel, Observed, lookup, observe, plan, ruleset};
use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::Value;

use super::{
    FILTER, Inspection, LinkSeen, LookupSeen, PacketSeen, Questions, ServiceSeen, probe::probe, resolve::resolve,
};

/// Probes that run at a time: each echo request has a thread of its own.
const PROBES_AT_ONCE: usize = 256;
/// kube-proxy writes at most once a second (`minSyncPeriod`): an address that is not there yet may be on its way.
const WRITTEN: Duration = Duration::from_millis(2500);

/// What is known of this node before looking.
#[derive(Debug)]
pub struct Here {
    /// What the node shall be, or why that is not known.
    pub desired: Result<Desired, String>,
    /// Milliseconds since 1970.
    pub clock: i64,
}

/// Looks at this node. Never fails: what cannot be seen is told.
pub async fn inspect(here: &Here, questions: &Questions) -> Inspection {
    let mut seen = Inspection {
        version: crate::status::VERSION.to_owned(),
        clock: here.clock,
        udp_ports: udp_ports(),
        ..Inspection::default()
    };
    match Kernel::open() {
        Ok((kernel, connection)) => {
            let connection = tokio::spawn(connection);
            look_at_state(&kernel, here, &mut seen).await;
            look_up(&kernel, questions, &mut seen).await;
            look_around(Some(&kernel), questions, &mut seen).await;
            connection.abort();
        }
        Err(error) => {
            seen.unseen.push(format!("links, routes and rules: {error}"));
            look_around(None, questions, &mut seen).await;
        }
    }
    seen
}

/// What takes longest, all at the same time.
async fn look_around(kernel: Option<&Kernel>, questions: &Questions, seen: &mut Inspection) {
    let probes = questions.probes.iter().enumerate().map(|(at, one)| probe(*one, identifier(at)));
    let probes = futures::stream::iter(probes).buffered(PROBES_AT_ONCE).collect();
    let names = join_all(questions.names.iter().map(resolve));
    let ((), probes, names) = tokio::join!(look_at_rules(kernel, questions, seen), probes, names);
    (seen.probes, seen.names) = (probes, names);
}

/// Tells the echo requests of this process apart from those of others, and from each other.
fn identifier(at: usize) -> u16 {
    (std::process::id() as u16).wrapping_mul(251).wrapping_add(at as u16)
}

async fn look_at_state(kernel: &Kernel, here: &Here, seen: &mut Inspection) {
    let observed = match observe(kernel).await {
        Ok(observed) => observed,
        Err(error) => return seen.unseen.push(format!("links, routes and rules: {error}")),
    };
    seen.addresses = observed.addresses.iter().map(ToString::to_string).collect();
    seen.routes = observed.routes.iter().map(ToString::to_string).collect();
    seen.rules = observed.rules.iter().map(ToString::to_string).collect();
    let ours = observed.links.iter().filter(|link| link.is_ours());
    seen.links = ours.map(|link| LinkSeen { name: link.name.clone(), up: link.up, mtu: link.mtu }).collect();
    tell_plan(here, &observed, seen);
}

fn tell_plan(here: &Here, observed: &Observed, seen: &mut Inspection) {
    match &here.desired {
        Ok(desired) => {
            let plan = plan(desired, observed);
            seen.pending = plan.actions.iter().map(ToString::to_string).collect();
            seen.obstacles = plan.obstacles.iter().map(ToString::to_string).collect();
        }
        Err(why) => seen.unseen.push(format!("what this node shall be: {why}")),
    }
}

async fn look_up(kernel: &Kernel, questions: &Questions, seen: &mut Inspection) {
    for question in &questions.lookups {
        match lookup(kernel, question).await {
            Ok(way) => seen.lookups.push(LookupSeen { of: question.clone(), way }),
            Err(error) => seen.unseen.push(format!("the way to {}: {error}", question.to)),
        }
    }
}

async fn look_at_rules(kernel: Option<&Kernel>, questions: &Questions, seen: &mut Inspection) {
    if questions.packets.is_empty() && questions.services.is_empty() {
        return;
    }
    seen.unseen.extend(legacy(["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]));
    let (rules, listing) = match ruleset().await {
        Ok(rules) => rules,
        Err(error) => return seen.unseen.push(format!("{FILTER}: {error}")),
    };
    seen.packets = judge(&rules, questions);
    seen.services = services(questions, &listing, &seen.addresses);
    if seen.services.iter().any(|service| service.programmed == Some(false)) {
        tokio::time::sleep(WRITTEN).await;
        if let Some(kernel) = kernel
            && let (Ok((_, listing)), Ok(observed)) = tokio::join!(ruleset(), observe(kernel))
        {
            let addresses: Vec<String> = observed.addresses.iter().map(ToString::to_string).collect();
            seen.services = services(questions, &listing, &addresses);
        }
    }
}

fn services(questions: &Questions, listing: &Value, addresses: &[String]) -> Vec<ServiceSeen> {
    let carried = carried(listing, addresses);
    questions.services.iter().map(|address| service(*address, &carried)).collect()
}

/// The tables of iptables-legacy, by the files of the kernel that name them. They may have rules of their own, which nft
/// does not list. There are no such files where the kernel has no such tables.
fn legacy(files: [&str; 2]) -> Option<String> {
    let text = files.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let mut tables: Vec<&str> = text.iter().flat_map(|names| names.split_whitespace()).collect();
    tables.sort_unstable();
    tables.dedup();
    let s = if tables.len() == 1 { "" } else { "s" };
    let told = || {
        format!("{FILTER}: table{s} {} of iptables-legacy may have rules, which nft does not show", tables.join(", "))
    };
    (!tables.is_empty()).then(told)
}

fn judge(ruleset: &Ruleset, questions: &Questions) -> Vec<PacketSeen> {
    let packets = questions.packets.iter();
    packets.map(|packet| PacketSeen { of: packet.clone(), hits: ruleset.judge(packet) }).collect()
}

/// All that kube-proxy has written, where it was found: among it are the addresses that it carries.
struct Carried<'a> {
    by: &'static str,
    /// Nothing where it has written nothing that is seen.
    texts: Option<HashSet<&'a str>>,
}

/// What kube-proxy has made known to the kernel: in nftables mode as elements of its table, in iptables mode as rules of chain
/// `KUBE-SERVICES`, in IPVS mode as addresses of link `kube-ipvs0`.
fn carried<'a>(listing: &'a Value, addresses: &'a [String]) -> Carried<'a> {
    let objects = || listing["nftables"].as_array().into_iter().flatten();
    let of_table = |object: &&Value| object.as_object().is_some_and(|o| o.values().any(|v| v["table"] == "kube-proxy"));
    let of_chain = |object: &&Value| object["rule"]["chain"] == "KUBE-SERVICES";
    let ipvs = addresses.iter().filter_map(|held| held.strip_suffix(" dev kube-ipvs0")?.split('/').next());
    let ipvs: HashSet<&str> = ipvs.collect();
    let mut texts = HashSet::new();
    let by = if objects().any(|object| of_table(&object)) {
        objects().filter(of_table).for_each(|object| add_texts(object, &mut texts));
        "nftables"
    } else if !ipvs.is_empty() {
        texts = ipvs;
        "ipvs"
    } else {
        objects().filter(of_chain).for_each(|object| add_texts(object, &mut texts));
        "iptables"
    };
    if texts.is_empty() {
        let by = "no rules of kube-proxy are seen here: it does not run, or writes them where nft does not show them";
        return Carried { by, texts: None };
    }
    Carried { by, texts: Some(texts) }
}

fn service(address: SocketAddr, carried: &Carried<'_>) -> ServiceSeen {
    let ip = address.ip().to_string();
    let programmed = carried.texts.as_ref().map(|texts| texts.contains(ip.as_str()));
    ServiceSeen { address, programmed, by: carried.by.to_owned() }
}

/// All texts that stand anywhere in a value.
fn add_texts<'a>(value: &'a Value, texts: &mut HashSet<&'a str>) {
    match value {
        Value::String(text) => {
            texts.insert(text);
        }
        Value::Array(parts) => parts.iter().for_each(|part| add_texts(part, texts)),
        Value::Object(parts) => parts.values().for_each(|part| add_texts(part, texts)),
        _ => {}
    }
}

/// Ports of UDP sockets that are not connected, from `/proc/net` (`proc(5)`).
fn udp_ports() -> Vec<u16> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let mut ports =
        [read("/proc/net/udp"), read("/proc/net/udp6")].iter().flat_map(|text| listening(text)).collect::<Vec<_>>();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn listening(table: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote) = (words.next()?, words.next()?);
        let (_, peer) = remote.rsplit_once(':')?;
        let (_, port) = local.rsplit_once(':')?;
        if peer == "0000" { u16::from_str_radix(port, 16).ok() } else { None }
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn programmed(listing: Value, addresses: &[&str]) -> (Option<bool>, String) {
        let addresses: Vec<String> = addresses.iter().map(|text| (*text).to_owned()).collect();
        let seen = service("10.43.0.9:80".parse().expect("valid"), &carried(&listing, &addresses));
        (seen.programmed, seen.by)
    }

    #[test]
    fn a_service_is_known_to_the_kernel_in_the_way_of_each_mode_of_kube_proxy() {
        let nftables = |address: &str| {
            json!({ "nftables": [{ "map": { "family": "ip", "table": "kube-proxy", "name": "service-ips",
                "elem": [[{ "concat": [address, "tcp", 80] }, { "goto": { "target": "x" } }]] } }] })
        };
        assert_eq!(programmed(nftables("10.43.0.9"), &[]), (Some(true), "nftables".to_owned()));
        assert_eq!(programmed(nftables("10.43.0.90"), &[]), (Some(false), "nftables".to_owned()));
        let iptables = |address: &str| json!({ "nftables": [{ "rule": { "table": "nat", "chain": "KUBE-SERVICES", "expr": [{ "match": { "right": address } }] } }] });
        assert_eq!(programmed(iptables("10.43.0.9"), &[]).0, Some(true));
        assert_eq!(programmed(iptables("10.43.0.1"), &[]), (Some(false), "iptables".to_owned()));
        let ipvs = "10.43.0.9/32 dev kube-ipvs0";
        assert_eq!(programmed(json!({}), &[ipvs]), (Some(true), "ipvs".to_owned()));
        assert_eq!(programmed(json!({}), &["10.43.0.9/32 dev eth0"]).0, None);
    }

    #[test]
    fn tables_that_nft_does_not_list_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let [four, six] = ["four", "six"].map(|name| folder.path().join(name).display().to_string());
        assert_eq!(legacy([&four, &six]), None);
        std::fs::write(&four, "").expect("written");
        assert_eq!(legacy([&four, &six]), None);
        std::fs::write(&four, "nat\nfilter\n").expect("written");
        std::fs::write(&six, "filter\n").expect("written");
        let told = "the packet filter: tables filter, nat of iptables-legacy may have rules, which nft does not show";
        assert_eq!(legacy([&four, &six]).as_deref(), Some(told));
    }

    #[test]
    fn ports_of_listening_sockets_are_read() {
        let table = "  sl  local_address rem_address   st\n\
            57: 00000000:CA6C 00000000:0000 07 00000000:00000000\n\
            58: 0100007F:0035 0100007F:1234 01 00000000:00000000\n nonsense\n";
        assert_eq!(listening(table), [51820]);
        assert!(listening("").is_empty());
    }
}
