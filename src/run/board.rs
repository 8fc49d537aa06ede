//! What tasks know of each other: facts that they write down and that the report is made from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tunnel::{Config, Device};

use super::Options;
use crate::site::Loaded;
use crate::status::{
    DropReport, ListenerReport, NamesReport, PassReport, Report, RestartReport, SiteReport, TunnelReport, VERSION,
};

/// Facts behind one lock, and the device behind another. Both are held for moments only.
pub(super) struct Board {
    started: Instant,
    facts: Mutex<Facts>,
    device: Mutex<Option<Opened>>,
}

/// The device, with the last configuration that it took.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) device: Arc<Device>,
    pub(super) config: Config,
}

struct Facts {
    file: String,
    cluster: String,
    node: String,
    gateway: bool,
    loaded: Instant,
    refused: Option<String>,
    draining: bool,
    pass: Option<(Instant, PassReport)>,
    heartbeat: Instant,
    names: NamesReport,
    listeners: BTreeMap<SocketAddr, Listener>,
    restarts: BTreeMap<String, RestartReport>,
}

/// An address of the name server.
#[derive(Default)]
pub(super) struct Listener {
    /// Why it is not served.
    pub(super) waiting: Option<String>,
    /// Counters while it is.
    pub(super) stats: Option<Arc<dns::Stats>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Facts are replaced whole, so that those of a task that panicked are still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(super) fn new(options: &Options, loaded: &Loaded, now: Instant) -> Self {
        let facts = Facts {
            file: options.config.display().to_string(),
            cluster: loaded.site.cluster.clone(),
            node: loaded.node.clone(),
            gateway: loaded.site.node(&loaded.node).is_some_and(|node| node.gateway),
            loaded: now,
            refused: None,
            draining: false,
            pass: None,
            heartbeat: now,
            names: NamesReport::default(),
            listeners: BTreeMap::new(),
            restarts: BTreeMap::new(),
        };
        Self { started: now, facts: Mutex::new(facts), device: Mutex::new(None) }
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        let text = "cluster: a\nprivateKeyFile: k\nnetwork: { podCIDRs: [10.0.0.0/16] }\nnodes: [{ name: n, address: 192.0.2.1, gateway: true }]\n";
        let site = crate::site::parse(text.as_bytes()).expect("valid");
        let loaded = Loaded { site, secrets: Default::default(), node: "n".to_owned() };
        let options = Options { config: "site.yaml".into(), node: "n".to_owned(), at_exit: super::AtExit::Keep };
        Self::new(&options, &loaded, Instant::now())
    }

    // === The device ===

    pub(super) fn device(&self) -> Option<Arc<Device>> {
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
        facts.loaded = now;
        facts.refused = None;
    }

    /// Notes why a newer site file is not in use, or that the one in use is the newest. Tells whether that is news.
    pub(super) fn site_refused(&self, error: Option<String>) -> bool {
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

    pub(super) fn published(&self, names: NamesReport) {
        lock(&self.facts).names = names;
    }

    pub(super) fn listener(&self, address: SocketAddr, listener: Option<Listener>) {
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

    pub(super) fn draining(&self) {
        lock(&self.facts).draining = true;
    }

    // === The report ===

    pub(super) fn report(&self, now: Instant) -> Report {
        let device = self.device();
        let tunnel = device.map(|device| TunnelReport::from(&device.status()));
        let facts = lock(&self.facts);
        let seconds = |then: Instant| now.saturating_duration_since(then).as_secs();
        let pass = facts.pass.as_ref().map(|(then, pass)| PassReport { seconds_ago: seconds(*then), ..pass.clone() });
        let because = facts.missing(tunnel.is_some());
        Report {
            version: VERSION.to_owned(),
            cluster: facts.cluster.clone(),
            node: facts.node.clone(),
            gateway: facts.gateway,
            uptime_seconds: seconds(self.started),
            ready: because.is_empty(),
            not_ready_because: because,
            site: SiteReport {
                file: facts.file.clone(),
                loaded_seconds_ago: seconds(facts.loaded),
                refused: facts.refused.clone(),
            },
            pass,
            tunnel,
            names: (!facts.listeners.is_empty()).then(|| facts.names_report()),
            restarts: facts.restarts.values().cloned().collect(),
        }
    }
}

impl Facts {
    fn missing(&self, device: bool) -> Vec<String> {
        let mut missing = Vec::new();
        if self.draining {
            missing.push("the process is stopping".to_owned());
        }
        if self.gateway && !device {
            missing.push("the tunnel device is not open".to_owned());
        }
        match &self.pass {
            None => missing.push("the first pass has not ended".to_owned()),
            Some((_, pass)) => missing.extend(pass.failed.iter().take(3).cloned()),
        }
        if !self.listeners.is_empty() && !self.names.synced {
            missing.push("the zone is not published".to_owned());
        }
        missing
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
