//! The zone: services of all clusters, less those that cannot be reached now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::names::Reachability;
use dns::{Service, Zone, ZoneConfig};
use tunnel::status::PeerState;

use super::Context;
use crate::site::NodePlan;
use crate::status::NamesReport;

/// Publishes a zone whenever it differs from the one before.
pub(super) struct Publisher {
    context: Context,
    wanted: Option<(ZoneConfig, BTreeMap<String, Vec<Service>>)>,
    published: Option<(ZoneConfig, Vec<Service>)>,
    serial: u32,
}

impl Publisher {
    pub(super) fn new(context: &Context) -> Self {
        // A restarted task goes on where the one before stopped.
        let serial = context.zone.borrow().as_ref().map_or(0, |zone| zone.soa().serial);
        Self { context: context.clone(), wanted: None, published: None, serial }
    }

    /// Publishes what a plan names, where names are served.
    pub(super) fn publish(&mut self, plan: &NodePlan) {
        if plan.dns_listen.is_empty() {
            return;
        }
        self.wanted = Some((plan.zone.clone(), plan.services.clone()));
        self.follow_paths();
    }

    /// Publishes anew if a path came or went.
    pub(super) fn follow_paths(&mut self) {
        let Some((config, services)) = &self.wanted else { return };
        let reachability = self.reachability();
        self.tell(&reachability);
        let named = controller::names::plan_zone(services, &reachability);
        if self.published.as_ref().is_some_and(|(old, names)| old == config && *names == named) {
            return;
        }
        self.serial = self.serial.wrapping_add(1).max(1);
        let zone = Zone::build(&ZoneConfig { serial: self.serial, ..config.clone() }, &named);
        let skipped = zone.skipped().iter().map(ToString::to_string);
        let down = reachability.iter().filter(|(_, state)| **state == Reachability::Unreachable);
        let down =
            down.map(|(cluster, _)| format!("{cluster} is down: its addresses are named only where no other is"));
        let report = NamesReport {
            zone: config.origin.to_string(),
            synced: true,
            serial: self.serial,
            names: zone.len() as u64,
            skipped: down.chain(skipped).collect(),
            ..Default::default()
        };
        tracing::info!(serial = self.serial, names = zone.len(), "published the zone");
        self.context.board.published(report);
        self.context.zone.send_replace(Some(Arc::new(zone)));
        self.published = Some((config.clone(), named));
    }

    /// Tells the workers, where this node is one that sees paths.
    fn tell(&self, reachability: &BTreeMap<String, Reachability>) {
        let down = reachability.iter().filter(|(_, state)| **state == Reachability::Unreachable);
        let down: BTreeSet<String> = down.map(|(cluster, _)| cluster.clone()).collect();
        self.context.board.down.send_if_modified(|told| {
            let news = *told != down;
            *told = down;
            news
        });
    }

    /// Whether each peer's cluster can be reached. A node without a device goes by what the gateway has told it.
    fn reachability(&self) -> BTreeMap<String, Reachability> {
        let Some(device) = self.context.board.device() else {
            let told = self.context.board.told.borrow();
            return told.down().map(|cluster| (cluster.clone(), Reachability::Unreachable)).collect();
        };
        let state = |state| match state {
            PeerState::Down => Reachability::Unreachable,
            PeerState::Up | PeerState::Idle | PeerState::Connecting => Reachability::Reachable,
        };
        device.status().peers.into_iter().map(|peer| (peer.name, state(peer.state))).collect()
    }
}
