//! Plans the zone from what is watched, and publishes it when it differs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use controller::names::Reachability;
use controller::services::reach::{cut_off, peers, reachability};
use controller::services::zone::zone;
use dns::{Service, Zone, ZoneConfig};
use kube::Client;

use super::Settings;
use super::observe::Watched;
use crate::roles::watched::Contact;
use crate::run::Board;
use crate::run::names::Zones;
use crate::status::NamesReport;

/// Events of one change come together, and are answered together.
const SETTLE: Duration = Duration::from_millis(20);

/// Watches and publishes until it is cancelled.
///
/// # Errors
/// Never; failed watches go on by themselves.
pub(super) async fn follow(
    client: Client,
    settings: Arc<Settings>,
    board: Arc<Board>,
    zones: Zones,
) -> anyhow::Result<()> {
    let mut watched = Watched::start(&client);
    let mut contact = Contact::default();
    // A restarted task goes on where the one before stopped.
    let serial = zones.borrow().as_ref().map_or(0, |zone| zone.soa().serial);
    let mut publisher = Publisher { settings, board, zones, published: None, serial };
    publisher.board.waiting(watched.missing());
    loop {
        let news = contact.note(watched.changed().await);
        publisher.board.api_answers(contact.answers());
        if !news {
            continue;
        }
        settle(&mut watched, &mut contact).await;
        publisher.board.api_answers(contact.answers());
        let missing = watched.missing();
        publisher.board.waiting(missing.clone());
        if missing.is_none() {
            publisher.publish(&watched);
        }
    }
}

/// Takes the events that come right after one.
async fn settle(watched: &mut Watched, contact: &mut Contact) {
    let more = async {
        loop {
            contact.note(watched.changed().await);
        }
    };
    let _ = tokio::time::timeout(SETTLE, more).await;
}

struct Publisher {
    settings: Arc<Settings>,
    board: Arc<Board>,
    zones: Zones,
    /// The services and the namespaces that were published last.
    published: Option<(Vec<Service>, BTreeSet<String>)>,
    serial: u32,
}

impl Publisher {
    fn publish(&mut self, watched: &Watched) {
        let holder = watched.holders.current.values().next().map(String::as_str);
        let mut reachability = reachability(watched.gateways.current.values(), holder);
        if watched.pulse.silence().is_some() {
            // Whom no gateway has told of yet is in slices only, where the controller says the same.
            reachability = cut_off(reachability, peers(watched.gateways.current.values()));
        }
        let namespaces: BTreeSet<_> = watched.namespaces.current.keys().map(|(_, name)| name.clone()).collect();
        let (imports, slices) = (watched.imports.current.values(), watched.slices.current.values());
        let services = zone(imports, slices, &namespaces, &reachability);
        let planned = (services, namespaces);
        if self.published.as_ref() == Some(&planned) {
            return;
        }
        let (services, namespaces) = &planned;
        self.serial = self.serial.wrapping_add(1).max(1);
        let config = ZoneConfig {
            origin: self.settings.origin.clone(),
            ttl: self.settings.ttl,
            serial: self.serial,
            namespaces: namespaces.iter().cloned().collect(),
            ..ZoneConfig::default()
        };
        let zone = Zone::build(&config, services);
        let down = reachability.iter().filter(|(_, state)| **state != Reachability::Reachable);
        let down =
            down.map(|(cluster, _)| format!("{cluster} is down: its addresses are named only where no other is"));
        self.board.published(NamesReport {
            zone: config.origin.to_string(),
            synced: true,
            serial: self.serial,
            names: zone.len() as u64,
            skipped: down.chain(zone.skipped().iter().map(ToString::to_string)).collect(),
            ..NamesReport::default()
        });
        tracing::info!(serial = self.serial, names = zone.len(), services = services.len(), "published the zone");
        self.zones.send_replace(Some(Arc::new(zone)));
        self.published = Some(planned);
    }
}
