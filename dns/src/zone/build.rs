//! From services to names. Everything that decides which names exist is here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{MAX_NEGATIVE_TTL, MAX_TTL, Node, Role, Skipped, Soa, Srv, Zone, ZoneConfig};
use crate::name::{MAX_LABEL, MAX_NAME, Name, push_label};
use crate::service::{Endpoint, Port, Service, ServiceKind};

pub(super) fn build(config: &ZoneConfig, services: &[Service]) -> Zone {
    let mut builder = Builder::new(config, services.len());
    builder.put_own_names(config);
    // DNS compares without regard to case, so folded names decide what is one service.
    let mut sorted: Vec<Folded<'_>> = services.iter().map(Folded::new).collect();
    // Stable, because that is quick on input that is sorted already, as a planner's usually is.
    sorted.sort_by(|a, b| a.place().cmp(&b.place()));
    for namespace in sorted.chunk_by(|a, b| a.namespace == b.namespace) {
        builder.put_namespace(namespace);
    }
    builder.zone.skipped.sort_unstable();
    builder.zone.skipped.dedup();
    builder.zone
}

/// A service with its place in lower case.
struct Folded<'a> {
    namespace: Cow<'a, str>,
    name: Cow<'a, str>,
    service: &'a Service,
}

impl<'a> Folded<'a> {
    fn new(service: &'a Service) -> Self {
        let fold = |text: &'a str| match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        };
        Self { namespace: fold(&service.namespace), name: fold(&service.name), service }
    }

    fn place(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

struct Builder {
    zone: Zone,
}

/// One service's place in the zone while its names are made.
struct Place<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Key of the service's own name: below the origin, in wire format.
    key: Vec<u8>,
}

/// Name, label of the protocol, and number.
type NamedPort = (String, &'static str, u16);
/// Named ports with legal names, sorted, each once.
type Ports = BTreeSet<NamedPort>;

/// A host of a headless service.
#[derive(Default)]
struct Host {
    addresses: Vec<IpAddr>,
    /// Which of the exports it is in: it has their ports.
    exports: BTreeSet<usize>,
}

impl Builder {
    fn new(config: &ZoneConfig, services: usize) -> Self {
        let below_origin = |prefix: &[u8]| {
            let wire = [prefix, config.origin.wire()].concat();
            // An origin so long that its own names do not fit is its own server.
            if wire.len() <= MAX_NAME { Name::from_wire(wire) } else { config.origin.clone() }
        };
        let soa = Soa {
            mname: below_origin(b"\x02ns\x03dns"),
            rname: below_origin(b"\x0ahostmaster"),
            serial: config.serial,
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
            minimum: config.negative_ttl.min(MAX_NEGATIVE_TTL),
        };
        let zone = Zone {
            origin: config.origin.clone(),
            ttl: config.ttl.clamp(1, MAX_TTL),
            soa,
            names: HashMap::with_capacity(services + 8),
            v4: Vec::new(),
            v6: Vec::new(),
            srv: Vec::new(),
            skipped: Vec::new(),
        };
        Self { zone }
    }

    /// The names that every zone has: apex, `svc`, `dns-version`, and the name server's.
    fn put_own_names(&mut self, config: &ZoneConfig) {
        self.put(Vec::new(), Node { role: Role::Apex, ..Node::default() });
        self.put(key_of(&["svc"]), Node::default());
        self.put(key_of(&["dns-version"]), Node { role: Role::Version, ..Node::default() });
        self.put(key_of(&["dns"]), Node::default());
        self.put_addresses(key_of(&["ns", "dns"]), config.server_addresses.clone());
        for namespace in &config.namespaces {
            let key = key_of(&[&namespace.to_ascii_lowercase(), "svc"]);
            match check_label(namespace) {
                Ok(()) if self.fits(&key) => self.put(key, Node::default()),
                Ok(()) => self.skip_namespace(namespace, "is longer than 255 bytes in full"),
                Err(why) => self.skip_namespace(namespace, why),
            }
        }
    }

    fn skip_namespace(&mut self, namespace: &str, why: &str) {
        self.zone.skipped.push(Skipped { what: format!("namespace {namespace}"), why: format!("its name {why}") });
    }

    /// The names of one namespace: all services of `group` are in it, sorted by name.
    fn put_namespace(&mut self, group: &[Folded<'_>]) {
        let [first, ..] = group else { return };
        let namespace = check_label(&first.namespace);
        if namespace.is_ok() {
            self.put(key_of(&[&first.namespace, "svc"]), Node::default());
        }
        for service in group.chunk_by(|a, b| a.name == b.name) {
            let [first, ..] = service else { continue };
            let labels = [&*first.name, &*first.namespace, "svc"];
            let place = Place { namespace: labels[1], name: labels[0], key: key_of(&labels) };
            if let Err(why) = namespace {
                self.skip(&place, format!("namespace {why}"));
            } else if let Err(why) = check_label(place.name) {
                self.skip(&place, format!("name {why}"));
            } else if !self.fits(&place.key) {
                self.skip(&place, "its name is longer than 255 bytes".to_owned());
            } else {
                self.put_service(&place, service);
            }
        }
    }

    /// The names of one service: all values of `group` have its namespace and name.
    fn put_service(&mut self, place: &Place<'_>, group: &[Folded<'_>]) {
        let mut ips: Option<Vec<IpAddr>> = None;
        let mut exports: Vec<(&[Endpoint], Ports)> = Vec::new();
        let mut united = Ports::new();
        for folded in group {
            let ports = self.named_ports(place, &folded.service.ports);
            match &folded.service.kind {
                ServiceKind::ClusterSetIp { ips: more } => {
                    ips.get_or_insert_default().extend(more);
                    united.extend(ports);
                }
                ServiceKind::Headless { endpoints } => exports.push((endpoints, ports)),
            }
        }
        let Some(ips) = ips else { return self.put_headless(place, &exports) };
        if exports.iter().any(|(endpoints, _)| !endpoints.is_empty()) {
            self.skip(place, "headless endpoints beside a clusterset IP, which wins".to_owned());
        }
        united.extend(exports.into_iter().flat_map(|(_, ports)| ports));
        self.put_cluster_set_ip(place, ips, &united);
    }

    fn named_ports(&mut self, place: &Place<'_>, ports: &[Port]) -> Ports {
        let mut named = Ports::new();
        for port in ports {
            let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
            // The underscore takes one byte of the label.
            let verdict = if name.len() < MAX_LABEL { check_label(name) } else { Err("has more than 62 bytes") };
            match verdict {
                Ok(()) => drop(named.insert((name.to_ascii_lowercase(), port.protocol.label(), port.number))),
                Err(why) => self.skip(place, format!("name of port `{name}` {why}")),
            }
        }
        named
    }

    fn put_cluster_set_ip(&mut self, place: &Place<'_>, ips: Vec<IpAddr>, ports: &Ports) {
        let reachable = !ips.is_empty();
        self.put_addresses(place.key.clone(), ips);
        // A location without an address would only cost the client a second question.
        if reachable {
            let locations = ports.iter().map(|port| (port, 0)).collect();
            self.put_locations(place, locations, &[self.absolute(&place.key)]);
        }
    }

    fn put_headless(&mut self, place: &Place<'_>, exports: &[(&[Endpoint], Ports)]) {
        let mut all = Vec::new();
        let mut hosts: BTreeMap<(String, String), Host> = BTreeMap::new();
        let endpoints = exports
            .iter()
            .enumerate()
            .flat_map(|(export, (endpoints, _))| endpoints.iter().map(move |one| (export, one)));
        for (export, endpoint) in endpoints.filter(|(_, endpoint)| endpoint.ready) {
            all.extend(&endpoint.addresses);
            if let Err(why) = check_label(&endpoint.cluster) {
                self.skip(place, format!("cluster ID `{}` {why}", endpoint.cluster));
                continue;
            }
            let hostname = self.hostname(place, endpoint);
            for address in &endpoint.addresses {
                let host = hostname.clone().unwrap_or_else(|| dashed(*address));
                let host = hosts.entry((host, endpoint.cluster.to_ascii_lowercase())).or_default();
                host.addresses.push(*address);
                host.exports.insert(export);
            }
        }
        // None ready: the name does not exist (specification.md, "should be NXDOMAIN").
        if all.is_empty() {
            return;
        }
        self.put_addresses(place.key.clone(), all);
        let mut targets = Vec::with_capacity(hosts.len());
        let mut locations = Vec::new();
        for ((name, cluster), host) in hosts {
            // `<cluster>.<service>` itself gets no node: the specification reserves it, so it is NXDOMAIN and not an
            // empty non-terminal.
            let key = [key_of(&[&name, &cluster]), place.key.clone()].concat();
            if self.fits(&key) {
                let ports = host.exports.iter().flat_map(|export| &exports[*export].1);
                locations.extend(ports.map(|port| (port, targets.len())));
                targets.push(self.absolute(&key));
                self.put_addresses(key, host.addresses);
            } else {
                self.skip(place, format!("name of host {name} in {cluster} is longer than 255 bytes"));
            }
        }
        self.put_locations(place, locations, &targets);
    }

    /// The endpoint's own host name when it is a legal label.
    fn hostname(&mut self, place: &Place<'_>, endpoint: &Endpoint) -> Option<String> {
        let hostname = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty())?;
        match check_label(hostname) {
            Ok(()) => Some(hostname.to_ascii_lowercase()),
            Err(why) => {
                self.skip(place, format!("host name `{hostname}` {why}, its addresses are its names"));
                None
            }
        }
    }

    /// SRV records: each port at those of `targets` that have it, under `_port._proto` and, once per number and target,
    /// under the bare name.
    fn put_locations(&mut self, place: &Place<'_>, mut locations: Vec<(&NamedPort, usize)>, targets: &[Name]) {
        if locations.is_empty() {
            return;
        }
        locations.sort_unstable();
        // Of two exports that a host is in.
        locations.dedup();
        for of_port in locations.chunk_by(|(a, _), (b, _)| (&a.0, a.1) == (&b.0, b.1)) {
            let [((name, protocol, _), _), ..] = of_port else { continue };
            let label = format!("_{name}");
            let key = [key_of(&[&label, protocol]), place.key.clone()].concat();
            if !self.fits(&key) {
                self.skip(place, format!("name of port `{name}` is longer than 255 bytes"));
                continue;
            }
            let protocol_key = [key_of(&[protocol]), place.key.clone()].concat();
            self.zone.names.entry(protocol_key.into()).or_default();
            let srv = self.add_srv(of_port.iter().map(|(port, target)| (port.2, &targets[*target])));
            self.zone.names.entry(key.into()).or_default().srv = srv;
        }
        let mut bare: Vec<(u16, usize)> = locations.iter().map(|(port, target)| (port.2, *target)).collect();
        bare.sort_unstable();
        bare.dedup();
        let srv = self.add_srv(bare.iter().map(|(port, target)| (*port, &targets[*target])));
        self.zone.names.entry(place.key.as_slice().into()).or_default().srv = srv;
    }

    fn add_srv<'a>(&mut self, locations: impl ExactSizeIterator<Item = (u16, &'a Name)>) -> Range<u32> {
        let start = position(self.zone.srv.len());
        // At least 1: a weight of 0 means "almost never" beside others (RFC 2782).
        let weight = u16::try_from(100 / locations.len().max(1)).unwrap_or(1).max(1);
        let records = locations.map(|(port, target)| Srv { port, target: target.clone(), priority: 0, weight });
        self.zone.srv.extend(records);
        start..position(self.zone.srv.len())
    }

    fn put_addresses(&mut self, key: Vec<u8>, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        let (v4, v6) = (position(self.zone.v4.len()), position(self.zone.v6.len()));
        for address in addresses {
            match address {
                IpAddr::V4(address) => self.zone.v4.push(address),
                IpAddr::V6(address) => self.zone.v6.push(address),
            }
        }
        let node =
            Node { v4: v4..position(self.zone.v4.len()), v6: v6..position(self.zone.v6.len()), ..Node::default() };
        self.put(key, node);
    }

    fn put(&mut self, key: Vec<u8>, node: Node) {
        self.zone.names.insert(key.into(), node);
    }

    fn skip(&mut self, place: &Place<'_>, why: String) {
        let what = format!("service {}/{}", place.namespace, place.name);
        self.zone.skipped.push(Skipped { what, why });
    }

    fn fits(&self, key: &[u8]) -> bool {
        key.len() + self.zone.origin.wire().len() <= MAX_NAME
    }

    fn absolute(&self, key: &[u8]) -> Name {
        Name::from_wire([key, self.zone.origin.wire()].concat())
    }
}

/// Index into an arena. Four billion addresses do not fit a machine's memory, let alone one clusterset.
fn position(len: usize) -> u32 {
    u32::try_from(len).expect("a zone has fewer than 2^32 records of a type")
}

/// Labels in wire format, without the root. Keys of services that are skipped may hold labels that are too long.
fn key_of(labels: &[&str]) -> Vec<u8> {
    // Exact, so that a boxed key needs no second allocation.
    let mut key = Vec::with_capacity(labels.iter().map(|label| label.len() + 1).sum());
    labels.iter().for_each(|label| push_label(&mut key, label.as_bytes()));
    key
}

/// Whether a text is one RFC 1123 label; the error continues a sentence about it.
fn check_label(label: &str) -> Result<(), &'static str> {
    let bytes = label.as_bytes();
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if bytes.is_empty() {
        return Err("is empty");
    }
    if bytes.len() > MAX_LABEL {
        return Err("has more than 63 bytes");
    }
    if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        return Err("has a character other than a letter, a digit or `-`");
    }
    if !alphanumeric(bytes.first()) || !alphanumeric(bytes.last()) {
        return Err("starts or ends with `-`");
    }
    Ok(())
}

/// An address as one label: `10-1-2-3`, `fd00-10--5`. A label may neither start nor end with a dash, as `::1` and
/// `fd00::` would.
fn dashed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => dash(address),
        IpAddr::V6(address) => {
            let label = dash6(address);
            let head = if label.starts_with('-') { "0" } else { "" };
            let tail = if label.ends_with('-') { "0" } else { "" };
            format!("{head}{label}{tail}")
        }
    }
}

fn dash(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

fn dash6(address: Ipv6Addr) -> String {
    // An IPv4-mapped address prints with dots.
    address.to_string().replace([':', '.'], "-")
}
