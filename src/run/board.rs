//! What tasks know of each other: facts that they write down and that the report is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use controller::broker::status::BrokerStatus;
use controller::cluster::services::ServicesStatus;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tunnel::{Config, Device};

use super::paths::Told;
use crate::site::Loaded;
use crate::status::{
    AddressesReport, BrokerReport, ControllerReport, DropReport, ListenerReport, NamesReport, PassReport, PathsReport,
    Report, RestartReport, ServicesReport, SiteReport, TunnelReport, VERSION,
};

/// Facts behind one lock, and the device behind another. Both are held for moments only.
pub(crate) struct Board {
    started: Instant,
    facts: Mutex<Facts>,
    device: Mutex<Option<Opened>>,
    /// Clusters whose paths this node's own device sees down.
    pub(super) down: watch::Sender<BTreeSet<String>>,
    /// What a node without a device has been told of them.
    pub(super) told: watch::Sender<Told>,
    /// Whether a tunnel has been up since the start.
    reached: AtomicBool,
}

/// What the parts of a controller that leads tell.
#[derive(Clone)]
pub(crate) struct Leading {
    pub(crate) broker: watch::Receiver<BrokerStatus>,
    pub(crate) services: watch::Receiver<ServicesStatus>,
}

/// The device, with the last configuration that it took.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(super) device: Arc<Device>,
    pub(super) config: Config,
}

/// What a process is for, and so what it takes to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Brings a node to what its site file asks for.
    Node,
    /// The same, as the API server of its cluster has it; its readiness holds up rollouts.
    ClusterNode,
    /// Joins the cluster, and keeps its services.
    Controller,
    /// Anything else; [`Board::waiting`] and the zone say what is missing.
    Other,
}

impl Role {
    /// As metrics and logs name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node | Self::ClusterNode => "node",
            Self::Controller => "controller",
            Self::Other => "dns",
        }
    }
}

struct Facts {
    role: Role,
    file: String,
    cluster: String,
    node: String,
    gateway: bool,
    /// Whether it is the one that carries its cluster's traffic.
    active: bool,
    /// What leads, while this process does.
    leading: Option<Leading>,
    api_answers: Option<bool>,
    /// When the site in use was taken; none without one.
    loaded: Option<Instant>,
    refused: Option<String>,
    /// As the site in use has it.
    addresses: AddressesReport,
    /// Why no other cluster is in the plan, where there are some.
    unusable: Option<String>,
    /// What the process waits for.
    waiting: Option<String>,
    draining: bool,
    pass: Option<(Instant, PassReport)>,
    heartbeat: Instant,
    names: NamesReport,
    listeners: BTreeMap<SocketAddr, Listener>,
    restarts: BTreeMap<String, RestartReport>,
}

/// An address of the name server.
#[derive(Default)]
pub(crate) struct Listener {
    /// Why it is not served.
    pub(crate) waiting: Option<String>,
    /// Counters while it is.
    pub(crate) stats: Option<Arc<dns::Stats>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Facts are replaced whole, so that those of a task that panicked are still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// `source` says where the site comes from.
    pub(crate) fn new(role: Role, source: String, cluster: String, node: String, now: Instant) -> Self {
        let facts = Facts {
            role,
            file: source,
            cluster,
            node,
            gateway: false,
            active: false,
            leading: None,
            api_answers: None,
            loaded: None,
            refused: None,
            addresses: AddressesReport::default(),
            unusable: None,
            waiting: None,
            draining: false,
            pass: None,
            heartbeat: now,
            names: NamesReport::default(),
            listeners: BTreeMap::new(),
            restarts: BTreeMap::new(),
        };
        Self {
            started: now,
            facts: Mutex::new(facts),
            device: Mutex::new(None),
            down: watch::Sender::default(),
            told: watch::Sender::default(),
            reached: AtomicBool::new(false),
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self::new(Role::Node, "site.yaml".to_owned(), "a".to_owned(), "n".to_owned(), Instant::now())
    }

    /// What the process is for.
    pub(crate) fn role(&self) -> Role {
        lock(&self.facts).role
    }

    // === The device ===

    pub(crate) fn device(&self) -> Option<Arc<Device>> {
        lock(&self.device).as_ref().map(|opened| Arc::clone(&opened.device))
    }

    pub(super) fn opened(&self) -> Option<Opened> {
        lock(&self.device).clone()
    }

    pub(super) fn set_device(&self, opened: Option<Opened>) {
        *lock(&self.device) = opened;
    }

    // === What tasks tell ===

    pub(super) fn site_accepted(&self, loaded: &Loaded, now: Instant) {
        let mut facts = lock(&self.facts);
        facts.cluster = loaded.site.cluster.clone();
        facts.gateway = loaded.site.node(&loaded.node).is_some_and(|node| node.gateway);
        // A site file has one gateway, and names none as the active one.
        let active = loaded.site.active_gateway.as_ref();
        facts.active = facts.gateway && active.is_none_or(|active| *active == loaded.node);
        facts.addresses = AddressesReport::from(&loaded.site);
        facts.loaded = Some(now);
        facts.refused = None;
    }

    /// Notes why a newer site file is not in use, or that the one in use is the newest. Tells whether that is news.
    pub(crate) fn site_refused(&self, error: Option<String>) -> bool {
        let mut facts = lock(&self.facts);
        let news = facts.refused != error;
        facts.refused = error;
        news
    }

    pub(super) fn passed(&self, mut pass: PassReport, now: Instant) -> PassReport {
        let mut facts = lock(&self.facts);
        let last = facts.pass.as_ref().map(|(_, last)| (last.passes, last.failures_in_row)).unwrap_or_default();
        pass.passes = last.0 + 1;
        pass.failures_in_row = if pass.failed.is_empty() { 0 } else { last.1 + 1 };
        facts.pass = Some((now, pass.clone()));
        facts.heartbeat = now;
        pass
    }

    /// The pass loop lives.
    pub(super) fn beat(&self, now: Instant) {
        lock(&self.facts).heartbeat = now;
    }

    /// How long the pass loop has given no sign of life.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(lock(&self.facts).heartbeat)
    }

    pub(crate) fn published(&self, names: NamesReport) {
        lock(&self.facts).names = NamesReport { published: Some(Timestamp::now().as_second()), ..names };
    }

    pub(crate) fn listener(&self, address: SocketAddr, listener: Option<Listener>) {
        let listeners = &mut lock(&self.facts).listeners;
        match listener {
            Some(listener) => listeners.insert(address, listener),
            None => listeners.remove(&address),
        };
    }

    pub(super) fn restarted(&self, task: &str, error: String) {
        let mut facts = lock(&self.facts);
        let entry = facts.restarts.entry(task.to_owned()).or_default();
        *entry = RestartReport { task: task.to_owned(), restarts: entry.restarts + 1, error };
    }

    /// Notes why the plan has no peer although there are other Members, or that it has some or there are none.
    pub(crate) fn unusable(&self, reason: Option<String>) {
        lock(&self.facts).unusable = reason;
    }

    /// Notes what the process waits for, or that it waits for nothing.
    pub(crate) fn waiting(&self, reason: Option<String>) {
        lock(&self.facts).waiting = reason;
    }

    /// Notes that this process leads, and who tells what it does; or that it leads no more.
    pub(crate) fn leading(&self, leading: Option<Leading>) {
        lock(&self.facts).leading = leading;
    }

    /// Notes whether the API server of the own cluster answers.
    pub(crate) fn api_answers(&self, answers: bool) {
        lock(&self.facts).api_answers = Some(answers);
    }

    pub(crate) fn draining(&self) {
        lock(&self.facts).draining = true;
    }

    // === The report ===

    /// Whose word on paths the names follow.
    fn paths_report(&self) -> PathsReport {
        let (known, source) = match &*self.told.borrow() {
            _ if self.device().is_some() => (true, "the tunnel device of this node".to_owned()),
            Told::Down { gateway, .. } => (true, format!("told by {gateway}")),
            Told::Nothing(why) => (false, why.clone()),
        };
        PathsReport { known, source }
    }

    pub(crate) fn report(&self, now: Instant) -> Report {
        let device = self.device();
        let tunnel = device.map(|device| TunnelReport::from(&device.status()));
        let facts = lock(&self.facts);
        let tunnel = tunnel.map(|tunnel| TunnelReport { active: facts.active, ..tunnel });
        let controller = (facts.role == Role::Controller).then(|| facts.controller());
        let seconds = |then: Instant| now.saturating_duration_since(then).as_secs();
        let pass = facts.pass.as_ref().map(|(then, pass)| PassReport { seconds_ago: seconds(*then), ..pass.clone() });
        let mut because = facts.missing(tunnel.is_some());
        because.extend(controller.iter().flat_map(ControllerReport::missing));
        let rollout_waits_for = match (facts.role, &tunnel) {
            (Role::ClusterNode, Some(tunnel)) => self.unreached(tunnel, facts.unusable.as_deref()),
            _ => None,
        };
        Report {
            version: VERSION.to_owned(),
            cluster: facts.cluster.clone(),
            node: facts.node.clone(),
            gateway: facts.gateway,
            uptime_seconds: seconds(self.started),
            ready: because.is_empty(),
            not_ready_because: because,
            rollout_waits_for,
            api_answers: facts.api_answers,
            site: SiteReport {
                file: facts.file.clone(),
                loaded_seconds_ago: facts.loaded.map(seconds).unwrap_or_default(),
                refused: facts.refused.clone(),
            },
            addresses: facts.addresses.clone(),
            pass,
            tunnel,
            names: (!facts.listeners.is_empty())
                .then(|| NamesReport { paths: self.paths_report(), ..facts.names_report() }),
            controller,
            otlp: crate::otlp::report(),
            restarts: facts.restarts.values().cloned().collect(),
        }
    }
}

impl Board {
    /// Why a rollout has to wait for this gateway: since the start, it has had no tunnel up. Once it has had one, those
    /// that are down are the paths' fault or the peers', and are told by metrics. `unusable` says why the plan has no peer,
    /// where there are other Members: a version that can use none of them must not go round.
    fn unreached(&self, tunnel: &TunnelReport, unusable: Option<&str>) -> Option<String> {
        // Gateways of others that stand by are named after their nodes.
        let mut peers = tunnel.peers.iter().filter(|peer| !peer.name.contains('/')).peekable();
        let first = peers.peek().copied();
        if peers.any(|peer| peer.state == "up") {
            self.reached.store(true, Ordering::Relaxed);
        }
        if !tunnel.active || self.reached.load(Ordering::Relaxed) {
            return None;
        }
        let Some(first) = first else { return unusable.map(str::to_owned) };
        Some(format!("no tunnel has come up since the start: {} is {} ({})", first.name, first.state, first.reason))
    }
}

impl Facts {
    fn controller(&self) -> ControllerReport {
        let leading = self.leading.as_ref();
        ControllerReport {
            leads: leading.is_some(),
            broker: leading.map(|leading| BrokerReport::from(&*leading.broker.borrow())),
            services: leading.map(|leading| ServicesReport::from(&*leading.services.borrow())),
        }
    }

    fn missing(&self, device: bool) -> Vec<String> {
        let mut missing = Vec::new();
        if self.draining {
            missing.push("the process is stopping".to_owned());
        }
        if matches!(self.role, Role::Node | Role::ClusterNode) {
            self.missing_of_node(device, &mut missing);
        }
        missing.extend(self.waiting.clone());
        if !self.listeners.is_empty() && !self.names.synced {
            missing.push("the zone is not published".to_owned());
        }
        // A node's addresses come with its first pod; those of a name server are why it runs.
        if self.role == Role::Other {
            let unserved = self.listeners.iter().filter(|(_, listener)| listener.stats.is_none());
            missing.extend(unserved.map(|(address, listener)| {
                let why = listener.waiting.as_deref().unwrap_or("it has just started");
                format!("{address} is not served yet: {why}")
            }));
        }
        missing
    }

    fn missing_of_node(&self, device: bool, missing: &mut Vec<String>) {
        if self.loaded.is_none() {
            let because = self.refused.as_deref().unwrap_or("it has not been read yet");
            missing.push(format!("the site is not known: {because}"));
        }
        if self.gateway && !device {
            missing.push("the tunnel device is not open".to_owned());
        }
        match &self.pass {
            None => missing.push("the first pass has not ended".to_owned()),
            Some((_, pass)) => missing.extend(pass.failed.iter().take(3).cloned()),
        }
    }

    fn names_report(&self) -> NamesReport {
        let listeners = self.listeners.iter().map(|(address, listener)| ListenerReport {
            address: address.to_string(),
            waiting: listener.waiting.clone(),
        });
        let mut answers: BTreeMap<&str, u64> = BTreeMap::new();
        for stats in self.listeners.values().filter_map(|listener| listener.stats.as_ref()) {
            for (kind, count) in answer_counts(&stats.snapshot()) {
                *answers.entry(kind).or_default() += count;
            }
        }
        let answers = answers.into_iter().map(|(kind, count)| DropReport { reason: kind.to_owned(), count });
        NamesReport { listeners: listeners.collect(), answers: answers.collect(), ..self.names.clone() }
    }
}

fn answer_counts(stats: &dns::StatsSnapshot) -> [(&'static str, u64); 10] {
    [
        ("udp-query", stats.udp_queries),
        ("tcp-query", stats.tcp_queries),
        ("answered", stats.answered),
        ("no-data", stats.no_data),
        ("no-such-name", stats.nx_domain),
        ("refused", stats.refused),
        ("not-synced", stats.not_synced),
        ("malformed", stats.malformed),
        ("truncated", stats.truncated),
        ("send-failed", stats.send_failed),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PeerReport;

    fn board(role: Role) -> Board {
        Board::new(role, String::new(), "a".to_owned(), "n".to_owned(), Instant::now())
    }

    fn tunnel(active: bool, peers: &[(&str, &str)]) -> TunnelReport {
        let peer = |(name, state): &(&str, &str)| PeerReport {
            name: (*name).to_owned(),
            state: (*state).to_owned(),
            reason: "no answer".to_owned(),
            ..PeerReport::default()
        };
        TunnelReport { active, peers: peers.iter().map(peer).collect(), ..TunnelReport::default() }
    }

    #[test]
    fn a_rollout_waits_until_a_tunnel_has_come_up_once() {
        let board = board(Role::ClusterNode);
        let waits = |active, peers: &[(&str, &str)]| board.unreached(&tunnel(active, peers), None);
        assert_eq!(waits(true, &[]), None, "alone");
        let why = "none of the 2 other Members can be used";
        assert_eq!(board.unreached(&tunnel(true, &[]), Some(why)).as_deref(), Some(why));
        assert_eq!(board.unreached(&tunnel(false, &[]), Some(why)), None, "stands by");
        assert_eq!(waits(false, &[("berlin", "connecting")]), None, "stands by");
        let told = "no tunnel has come up since the start: berlin is down (no answer)";
        assert_eq!(waits(true, &[("berlin", "down"), ("rome", "idle")]).as_deref(), Some(told));
        assert!(waits(true, &[("berlin", "down"), ("berlin/b2", "up")]).is_some(), "that one carries nothing");
        assert_eq!(waits(true, &[("berlin", "down"), ("rome", "up")]), None);
        assert_eq!(waits(true, &[("berlin", "down"), ("rome", "down")]), None, "now it is the paths' fault");
        assert_eq!(board.unreached(&tunnel(true, &[]), Some(why)), None, "and now the Members'");
    }

    #[test]
    fn a_name_server_is_ready_when_it_serves_each_of_its_addresses() {
        let address = "127.0.0.1:53".parse().expect("valid");
        let missing = |role, listener| {
            let board = board(role);
            board.listener(address, Some(listener));
            board.published(NamesReport { synced: true, ..NamesReport::default() });
            board.report(Instant::now()).not_ready_because
        };
        let waiting = |why: &str| Listener { waiting: Some(why.to_owned()), stats: None };
        assert_eq!(missing(Role::Other, waiting("address in use")), ["127.0.0.1:53 is not served yet: address in use"]);
        assert_eq!(missing(Role::Other, Listener::default()), ["127.0.0.1:53 is not served yet: it has just started"]);
        assert!(missing(Role::Other, Listener { waiting: None, stats: Some(Arc::default()) }).is_empty());
        // A node without pods has no bridge to answer on.
        assert_eq!(missing(Role::Node, waiting("no such address")).len(), 2, "site and pass, and not the listener");
    }
}
