//! `linkspan node`: the site of a node comes from the API server of its own cluster.
//!
//! | task | does |
//! |---|---|
//! | `cluster` | watches Members, Nodes and the gateway Lease, and plans the site from them |
//! | `lease` | takes part in the election of the active gateway |
//! | `gateway` | publishes this gateway's key, addresses and paths as its GatewayNode |
//!
//! Everything behind the site is [`crate::run`], as with a site file. While the API server is away, the last site stays
//! in use; one that starts meanwhile begins with what was kept on disk.

mod down;
mod events;
mod facts;
mod follow;
mod gateway;
mod kept;
mod lease;
mod observe;
mod plan;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use controller::api::names::SYSTEM_NAMESPACE;
use controller::cluster::client::connect_to_own;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use tokio::sync::{OnceCell, watch};

use crate::run::{AtExit, Context, Tasks};
use crate::site::{Loaded, Secrets};

pub use facts::ANNOTATION_ENDPOINTS;
pub use settings::Settings;

use facts::Facts;

/// Name of the DaemonSet in `deploy/member`.
const DAEMON_SET: &str = "linkspan-node";
/// How long a process that stops asks the API server about its end: what it does not hear stays behind. The pod has 20 s to
/// stop in.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// How often it asks whether its rights are gone, and how long it waits in between: an API server that has just started
/// refuses everybody for a moment, before it knows its roles.
const DOUBTS: usize = 3;
const DOUBT: Duration = Duration::from_millis(700);

/// What the tasks of this role share.
#[derive(Clone)]
struct Shared {
    settings: Arc<Settings>,
    client: Arc<OnceCell<Client>>,
    /// What the API server has told; none before it has.
    facts: watch::Sender<Option<Facts>>,
}

impl Shared {
    async fn client(&self) -> anyhow::Result<Client> {
        let client = self.client.get_or_try_init(connect_to_own).await;
        client.cloned().context("failed to find the API server: it is told by the pod's environment, or by KUBECONFIG")
    }
}

/// The site of a node as it was last known, from what is kept on its disk.
///
/// # Errors
/// Nothing is kept, it is of no use, or the private key of a gateway cannot be read.
pub fn kept_site(settings: &Settings, node: &str) -> anyhow::Result<Loaded> {
    let facts = kept::read(settings).with_context(|| format!("nothing is kept in {}", settings.state.display()))?;
    let planned = plan::plan(&facts, settings, node, &plan::Paths::default())?;
    let is_gateway = planned.site.node(node).is_some_and(|node| node.gateway);
    let private_key = is_gateway.then(|| crate::site::read_key("private key", &settings.key_file())).transpose()?;
    Ok(Loaded {
        site: planned.site,
        secrets: Secrets { private_key, preshared: BTreeMap::new() },
        node: node.to_owned(),
    })
}

/// Starts the tasks that feed the node's machinery.
pub(crate) fn start(context: &Context, settings: &Arc<Settings>, tasks: &mut Tasks) {
    let shared =
        Shared { settings: Arc::clone(settings), client: Arc::new(OnceCell::new()), facts: watch::Sender::new(None) };
    let each = (context.clone(), shared.clone());
    tasks.spawn("cluster", move || follow::follow(each.0.clone(), each.1.clone()));
    let each = (context.clone(), shared.clone());
    tasks.spawn("lease", move || lease::follow(each.0.clone(), each.1.clone()));
    let each = (context.clone(), shared);
    tasks.spawn("gateway", move || gateway::follow(each.0.clone(), each.1.clone()));
}

/// Ends this node's part before the process ends: leaves the Lease to another gateway where there is one, and says
/// whether Linkspan is being taken off the cluster, so that nothing must stay behind.
pub(crate) async fn leave(context: &Context, settings: &Settings) -> AtExit {
    let asked = tokio::time::timeout(LAST_WORDS, ask_to_leave(context)).await;
    let at_exit = asked.unwrap_or(AtExit::Keep);
    if at_exit == AtExit::Remove {
        tracing::info!("Linkspan is taken off this cluster: removing links, routes, rules and the key");
        kept::remove(settings);
    }
    at_exit
}

async fn ask_to_leave(context: &Context) -> AtExit {
    let Ok(client) = connect_to_own().await else { return AtExit::Keep };
    match installed(&Api::namespaced(client.clone(), SYSTEM_NAMESPACE)).await {
        Some(true) => {}
        Some(false) => return AtExit::Remove,
        None => return AtExit::Keep,
    }
    let gateways = |site: &crate::site::Site| site.nodes.iter().filter(|node| node.gateway).count();
    let others = context.sites.borrow().as_ref().is_some_and(|loaded| gateways(&loaded.site) > 1);
    if others {
        let leases = Api::namespaced(client, SYSTEM_NAMESPACE);
        if let Err(error) = lease::leave(&leases, &context.options.node).await {
            tracing::debug!(%error, "the gateway Lease runs out by itself");
        }
    }
    AtExit::Keep
}

/// Whether Linkspan is to stay on this cluster; `None` when nobody can say.
async fn installed(daemons: &Api<DaemonSet>) -> Option<bool> {
    for _ in 0..DOUBTS {
        match daemons.get(DAEMON_SET).await {
            Ok(daemon) => return Some(daemon.metadata.deletion_timestamp.is_none()),
            Err(kube::Error::Api(status)) if status.code == 404 => return Some(false),
            // Its rights are gone, and they go with Linkspan alone; or the server does not know them yet.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => tokio::time::sleep(DOUBT).await,
            Err(_) => return None,
        }
    }
    Some(false)
}
