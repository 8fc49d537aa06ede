//! Keeps the site in step with the API server and with paths.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::facts::Facts;
use super::observe::Watched;
use super::plan::{Paths, Planned, candidates, plan};
use super::{Shared, kept};
use crate::roles::watched::Contact;
use crate::run::Context;
use crate::site::{Loaded, Secrets};

/// How long a start waits for the API server before it goes on with what was kept on disk.
const COLD: Duration = Duration::from_secs(5);
/// Events of one change come together, and are answered together.
const SETTLE: Duration = Duration::from_millis(20);

/// Watches and plans until it is cancelled.
///
/// # Errors
/// When there is no way to the API server at all.
pub(super) async fn follow(context: Context, shared: Shared) -> anyhow::Result<()> {
    let client = shared.client().await?;
    let mut watched = Watched::start(&client, shared.settings.gateways.clone());
    let mut planner = Planner { context: context.clone(), shared, refused: BTreeMap::new(), told: String::new() };
    let mut paths = context.paths.subscribe();
    let mut contact = Contact::default();
    let cold = tokio::time::sleep(COLD);
    tokio::pin!(cold);
    let mut waiting = context.sites.borrow().is_none();
    loop {
        let news = tokio::select! {
            changed = watched.changed() => contact.note(changed),
            changed = paths.changed() => changed.map(|()| true).context("the paths are held as long as the process runs")?,
            () = &mut cold, if waiting => {
                waiting = false;
                planner.start_from_disk().await;
                false
            }
        };
        context.board.api_answers(contact.answers());
        if !news {
            continue;
        }
        settle(&mut watched, &mut contact).await;
        context.board.api_answers(contact.answers());
        if let Some(facts) = watched.facts() {
            waiting = false;
            planner.plan(facts).await?;
        } else if let Some(kept) = planner.kept() {
            planner.plan(kept).await?;
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

/// Whether this node can send from `address`.
fn is_held(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

struct Planner {
    context: Context,
    shared: Shared,
    refused: BTreeMap<String, String>,
    told: String,
}

impl Planner {
    /// The facts in use.
    fn kept(&self) -> Option<Facts> {
        self.shared.facts.borrow().clone()
    }

    /// The API server does not answer: what it told last has to do.
    async fn start_from_disk(&mut self) {
        let settings = Arc::clone(&self.shared.settings);
        let kept = tokio::task::spawn_blocking(move || kept::read(&settings)).await.ok().flatten();
        match kept {
            Some(facts) => {
                tracing::warn!("the API server does not answer: starting from what was kept on disk");
                if let Err(error) = self.plan(facts).await {
                    tracing::warn!("what was kept on disk is of no use: {error:#}");
                }
            }
            None => self.refuse("the API server does not answer, and nothing was kept on disk".to_owned()),
        }
    }

    async fn plan(&mut self, mut facts: Facts) -> anyhow::Result<()> {
        let node = self.context.options.node.clone();
        if let Some(own) = facts.nodes.get_mut(&node) {
            own.settle(is_held);
        }
        // Told before the plan: a gateway is published and elected even while the plan still lacks something.
        self.shared.facts.send_if_modified(|known| {
            let news = known.as_ref() != Some(&facts);
            if news {
                *known = Some(facts.clone());
            }
            news
        });
        match plan(&facts, &self.shared.settings, &node, &self.paths()) {
            Ok(planned) => self.accept(planned, facts, node).await,
            Err(missing) => {
                self.refuse(missing.to_string());
                Ok(())
            }
        }
    }

    async fn accept(&mut self, planned: Planned, facts: Facts, node: String) -> anyhow::Result<()> {
        let gateway = candidates(&facts).contains(&node);
        let settings = Arc::clone(&self.shared.settings);
        let before = self.context.sites.borrow().clone();
        let known = before.as_ref().and_then(|loaded| loaded.secrets.private_key.clone());
        let private_key = match (gateway, known) {
            (false, _) => None,
            (true, Some(key)) => Some(key),
            (true, None) => {
                let file = settings.key_file();
                let made = tokio::task::spawn_blocking(move || crate::keys::keep(&file)).await;
                Some(made.context("reading the private key panicked")??)
            }
        };
        for (member, reason) in &planned.refused {
            if self.refused.get(member) != Some(reason) {
                tracing::warn!(%member, %reason, "a Member is not used");
            }
        }
        self.context.board.unusable(planned.unusable());
        self.refused = planned.refused;
        let loaded = Loaded { site: planned.site, secrets: Secrets { private_key, preshared: BTreeMap::new() }, node };
        if before.as_deref() == Some(&loaded) {
            self.context.board.site_refused(None);
            return Ok(());
        }
        let active = loaded.site.active_gateway.as_deref().unwrap_or("none");
        tracing::info!(peers = loaded.site.peers.len(), nodes = loaded.site.nodes.len(), %active, "the site changed");
        self.told.clear();
        self.context.accept(loaded, Instant::now());
        // A disk that is full costs the next cold start, and nothing now.
        let kept = tokio::task::spawn_blocking(move || kept::write(&settings, &facts)).await;
        if let Err(error) = kept.context("keeping the site panicked").and_then(|written| written) {
            tracing::warn!("{error:#}");
        }
        Ok(())
    }

    fn refuse(&mut self, reason: String) {
        if self.told != reason {
            tracing::warn!("no new site: {reason}");
        }
        self.context.board.site_refused(Some(reason.clone()));
        self.told = reason;
    }

    /// The paths to other gateways.
    fn paths(&self) -> Paths {
        let Some(device) = self.context.board.device() else { return Paths::default() };
        let mut paths = Paths::default();
        for peer in device.status().peers {
            paths.states.insert(peer.public_key, peer.state);
            if !peer.allowed_ips.is_empty() {
                paths.carriers.insert(peer.public_key);
            }
        }
        paths
    }
}
