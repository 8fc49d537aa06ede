//! From services to names. Everything that decides which names exist is here.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{MAX_NEGATIVE_TTL, MAX_TTL, Node, Role, Skipped, Soa, Srv, Zone, ZoneConfig};
use crate::name::{MAX_LABEL, MAX_NAME, Name, push_label};
use crate::service::{Endpoint, Port, Service, ServiceKind};

pub(super) fn build(config: &ZoneConfig, services: &[Service]) -> Zone {
    let mut builder = Builder::new(config, services.len());
    builder.put_own_names(config);
    let mut sorted: Vec<&Service> = services.iter().collect();
    sorted.sort_by(|a, b| order(a, b));
    for group in sorted.chunk_by(|a, b| order(a, b).is_eq()) {
        builder.put_service(group);
    }
    builder.zone.skipped.sort_unstable();
    builder.zone.skipped.dedup();
    builder.zone
}

/// By namespace, then name, both without regard to case, as DNS compares them.
fn order(a: &Service, b: &Service) -> Ordering {
    let folded = |text: &str, other: &str| {
        let (text, other) = (text.bytes(), other.bytes());
        text.map(|byte| byte.to_ascii_lowercase()).cmp(other.map(|byte| byte.to_ascii_lowercase()))
    };
    folded(&a.namespace, &b.namespace).then_with(|| folded(&a.name, &b.name))
}

struct Builder {
    zone: Zone,
}

/// One service's parts while its names are made.
struct Place {
    /// Text for messages, `namespace/name`.
    text: String,
    /// Key of the service's own name: below the origin, in wire format.
    key: Vec<u8>,
    /// Named ports with legal names, sorted, each once.
    ports: BTreeSet<(String, &'static str, u16)>,
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
        self.put(key_of(["svc"]), Node::default());
        self.put(key_of(["dns-version"]), Node { role: Role::Version, ..Node::default() });
        self.put(key_of(["dns"]), Node::default());
        let addresses = config.server_addresses.iter().copied().collect();
        self.put_addresses(key_of(["ns", "dns"]), &addresses);
    }

    /// The names of one service: all values of `group` have its namespace and name.
    fn put_service(&mut self, group: &[&Service]) {
        let [first, ..] = group else { return };
        let text = format!("service {}/{}", first.namespace, first.name).to_ascii_lowercase();
        for (what, label) in [("namespace", &first.namespace), ("name", &first.name)] {
            if let Err(why) = check_label(label) {
                return self.skip(text, format!("{what} {why}"));
            }
        }
        let key = key_of([first.name.as_str(), first.namespace.as_str(), "svc"]);
        if !self.fits(&key) {
            return self.skip(text, "its name is longer than 255 bytes".to_owned());
        }
        let namespace = key_of([first.namespace.as_str(), "svc"]);
        self.zone.names.entry(namespace.into()).or_default();

        let mut place = Place { text, key, ports: BTreeSet::new() };
        for port in group.iter().flat_map(|service| &service.ports) {
            self.add_port(&mut place, port);
        }
        let mut ips: Option<BTreeSet<IpAddr>> = None;
        let mut endpoints: Vec<&Endpoint> = Vec::new();
        for service in group {
            match &service.kind {
                ServiceKind::ClusterSetIp { ips: more } => ips.get_or_insert_default().extend(more),
                ServiceKind::Headless { endpoints: more } => endpoints.extend(more),
            }
        }
        match ips {
            Some(ips) => {
                if !endpoints.is_empty() {
                    self.skip(place.text.clone(), "headless endpoints beside a clusterset IP, which wins".to_owned());
                }
                self.put_cluster_set_ip(place, &ips);
            }
            None => self.put_headless(place, &endpoints),
        }
    }

    fn add_port(&mut self, place: &mut Place, port: &Port) {
        let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { return };
        // The underscore takes one byte of the label.
        let verdict = if name.len() < MAX_LABEL { check_label(name) } else { Err("has more than 62 bytes") };
        match verdict {
            Ok(()) => {
                place.ports.insert((name.to_ascii_lowercase(), port.protocol.label(), port.number));
            }
            Err(why) => self.skip(place.text.clone(), format!("name of port `{name}` {why}")),
        }
    }

    fn put_cluster_set_ip(&mut self, place: Place, ips: &BTreeSet<IpAddr>) {
        let own = self.absolute(&place.key);
        self.put_addresses(place.key.clone(), ips);
        // A location without an address would only cost the client a second question.
        if !ips.is_empty() {
            self.put_locations(&place, &[own]);
        }
    }

    fn put_headless(&mut self, place: Place, endpoints: &[&Endpoint]) {
        let mut all = BTreeSet::new();
        let mut hosts: BTreeMap<(String, String), BTreeSet<IpAddr>> = BTreeMap::new();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.ready) {
            all.extend(&endpoint.addresses);
            if let Err(why) = check_label(&endpoint.cluster) {
                self.skip(place.text.clone(), format!("cluster ID `{}` {why}", endpoint.cluster));
                continue;
            }
            let hostname = self.hostname(&place, endpoint);
            for address in &endpoint.addresses {
                let host = hostname.clone().unwrap_or_else(|| dashed(*address));
                hosts.entry((host, endpoint.cluster.to_ascii_lowercase())).or_default().insert(*address);
            }
        }
        // None ready: the name does not exist (specification.md, "should be NXDOMAIN").
        if all.is_empty() {
            return;
        }
        self.put_addresses(place.key.clone(), &all);
        let mut targets = Vec::with_capacity(hosts.len());
        for ((host, cluster), addresses) in &hosts {
            // `<cluster>.<service>` itself gets no node: the specification reserves it, so it is NXDOMAIN and not an
            // empty non-terminal.
            let mut key = key_of([host.as_str(), cluster]);
            key.extend(&place.key);
            if self.fits(&key) {
                targets.push(self.absolute(&key));
                self.put_addresses(key, addresses);
            } else {
                self.skip(place.text.clone(), format!("name of host {host} in {cluster} is longer than 255 bytes"));
            }
        }
        self.put_locations(&place, &targets);
    }

    /// The endpoint's own host name when it is a legal label.
    fn hostname(&mut self, place: &Place, endpoint: &Endpoint) -> Option<String> {
        let hostname = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty())?;
        match check_label(hostname) {
            Ok(()) => Some(hostname.to_ascii_lowercase()),
            Err(why) => {
                self.skip(place.text.clone(), format!("host name `{hostname}` {why}, its addresses are its names"));
                None
            }
        }
    }

    /// SRV records: every port at every target, under `_port._proto` and, once per number and target, under the bare
    /// name.
    fn put_locations(&mut self, place: &Place, targets: &[Name]) {
        if targets.is_empty() {
            return;
        }
        let mut by_owner: BTreeMap<(&str, &str), BTreeSet<u16>> = BTreeMap::new();
        for (name, protocol, number) in &place.ports {
            by_owner.entry((name, protocol)).or_default().insert(*number);
        }
        for ((name, protocol), numbers) in by_owner {
            let label = format!("_{name}");
            let mut key = key_of([label.as_str(), protocol]);
            key.extend(&place.key);
            if !self.fits(&key) {
                self.skip(place.text.clone(), format!("name of port `{name}` is longer than 255 bytes"));
                continue;
            }
            let mut protocol_key = key_of([protocol]);
            protocol_key.extend(&place.key);
            self.zone.names.entry(protocol_key.into()).or_default();
            let srv = self.add_srv(&numbers, targets);
            self.zone.names.entry(key.into()).or_default().srv = srv;
        }
        let numbers: BTreeSet<u16> = place.ports.iter().map(|(_, _, number)| *number).collect();
        let srv = self.add_srv(&numbers, targets);
        self.zone.names.entry(place.key.as_slice().into()).or_default().srv = srv;
    }

    fn add_srv(&mut self, numbers: &BTreeSet<u16>, targets: &[Name]) -> Range<u32> {
        let start = position(self.zone.srv.len());
        let count = (numbers.len() * targets.len()).max(1);
        // At least 1: a weight of 0 means "almost never" beside others (RFC 2782).
        let weight = u16::try_from(100 / count).unwrap_or(1).max(1);
        for &port in numbers {
            let records = targets.iter().map(|target| Srv { port, target: target.clone(), priority: 0, weight });
            self.zone.srv.extend(records);
        }
        start..position(self.zone.srv.len())
    }

    fn put_addresses(&mut self, key: Vec<u8>, addresses: &BTreeSet<IpAddr>) {
        let (v4, v6) = (position(self.zone.v4.len()), position(self.zone.v6.len()));
        for address in addresses {
            match address {
                IpAddr::V4(address) => self.zone.v4.push(*address),
                IpAddr::V6(address) => self.zone.v6.push(*address),
            }
        }
        let node =
            Node { v4: v4..position(self.zone.v4.len()), v6: v6..position(self.zone.v6.len()), ..Node::default() };
        self.put(key, node);
    }

    fn put(&mut self, key: Vec<u8>, node: Node) {
        self.zone.names.insert(key.into(), node);
    }

    fn skip(&mut self, what: String, why: String) {
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

fn key_of<'a>(labels: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    labels.into_iter().for_each(|label| push_label(&mut key, label.as_bytes()));
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
