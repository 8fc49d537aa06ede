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
/// stop in. An API server takes the token of an account that is gone for up to 10 s, where it has taken it just before
/// (`TokenSuccessCacheTTL` of kube-apiserver, which no flag changes).
const LAST_WORDS: Duration = Duration::from_secs(14);
/// How often its token has to be refused in a row, and how long it waits in between: an API server that has just started
/// refuses everybody for a moment, before it knows its accounts and roles.
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
    let mut heard = Vec::new();
    let asked = tokio::time::timeout(LAST_WORDS, ask_to_leave(context, &mut heard)).await;
    let at_exit = asked.unwrap_or_else(|_| at_last(&heard));
    if at_exit == AtExit::Remove {
        tracing::info!("Linkspan is taken off this cluster: removing links, routes, rules and the key");
        kept::remove(settings);
    } else if heard.contains(&Answer::NoRight) && !heard.contains(&Answer::Stays) {
        tracing::warn!(
            "ServiceAccount linkspan-node seems to be there without its rights, so links, routes, rules and the key stay for the \
             next start: apply deploy/member again, or delete the account with the rest"
        );
    }
    at_exit
}

async fn ask_to_leave(context: &Context, heard: &mut Vec<Answer>) -> AtExit {
    let Ok(client) = connect_to_own().await else { return AtExit::Keep };
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let at_exit = loop {
        heard.push(Answer::of(&daemons.get(DAEMON_SET).await));
        match judge(heard) {
            Some(at_exit) => break at_exit,
            None => tokio::time::sleep(DOUBT).await,
        }
    };
    let gateways = |site: &crate::site::Site| site.nodes.iter().filter(|node| node.gateway).count();
    let others = context.sites.borrow().as_ref().is_some_and(|loaded| gateways(&loaded.site) > 1);
    if others && heard.last() == Some(&Answer::Stays) {
        let leases = Api::namespaced(client, SYSTEM_NAMESPACE);
        if let Err(error) = lease::leave(&leases, &context.options.node).await {
            tracing::debug!(%error, "the gateway Lease runs out by itself");
        }
    }
    at_exit
}

/// What the API server says when it is asked for the DaemonSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It is there, and not being deleted.
    Stays,
    /// It is deleted.
    Goes,
    /// 401: the token is of no account that there is.
    NoAccount,
    /// 403: there is the account, and it may not ask.
    NoRight,
    /// Nothing that tells anything.
    Nothing,
}

impl Answer {
    fn of(asked: &kube::Result<DaemonSet>) -> Self {
        match asked {
            Ok(daemon) if daemon.metadata.deletion_timestamp.is_none() => Self::Stays,
            Ok(_) => Self::Goes,
            Err(kube::Error::Api(status)) => match status.code {
                401 => Self::NoAccount,
                403 => Self::NoRight,
                404 => Self::Goes,
                _ => Self::Nothing,
            },
            Err(_) => Self::Nothing,
        }
    }
}

/// What becomes of this node's links and key by what was heard, oldest first; none while another answer may tell more.
///
/// Whoever takes Linkspan off deletes its account with its rights, and 403 turns into 401 as soon as the API server has
/// forgotten the token. Where it stays 403, rights are broken: the next pod needs this key, as it can publish no other one.
/// Where the account was made anew instead, that pod can.
fn judge(heard: &[Answer]) -> Option<AtExit> {
    let unknown = telling(heard).take_while(|answer| *answer == Answer::NoAccount).count();
    match telling(heard).next() {
        None | Some(Answer::Stays | Answer::Nothing) => Some(AtExit::Keep),
        Some(Answer::Goes) => Some(AtExit::Remove),
        Some(Answer::NoAccount) => (unknown >= DOUBTS).then_some(AtExit::Remove),
        Some(Answer::NoRight) => None,
    }
}

/// [`judge`] when there is no time for another question. A server that had refused before is not one that has just begun.
fn at_last(heard: &[Answer]) -> AtExit {
    let mut told = telling(heard);
    let refused = told.next() == Some(Answer::NoAccount) && told.next().is_some();
    judge(heard).unwrap_or(if refused { AtExit::Remove } else { AtExit::Keep })
}

/// Answers that tell something, the last one first.
fn telling(heard: &[Answer]) -> impl Iterator<Item = Answer> {
    heard.iter().rev().copied().filter(|answer| *answer != Answer::Nothing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Answer::{Goes, NoAccount, NoRight, Nothing, Stays};
    use super::*;

    #[test]
    fn the_api_server_answers_by_the_daemon_set_or_by_a_code() {
        let daemon = |metadata: serde_json::Value| {
            Answer::of(&Ok(serde_json::from_value(json!({ "metadata": metadata })).expect("a DaemonSet")))
        };
        assert_eq!(daemon(json!({ "name": DAEMON_SET })), Stays);
        assert_eq!(daemon(json!({ "name": DAEMON_SET, "deletionTimestamp": "2026-01-02T03:04:05Z" })), Goes);
        let refused = |code| {
            let status = kube::core::Status::failure("no", "No").with_code(code);
            Answer::of(&Err(kube::Error::Api(Box::new(status))))
        };
        assert_eq!([401, 403, 404, 429, 500].map(refused), [NoAccount, NoRight, Goes, Nothing, Nothing]);
    }

    #[test]
    fn a_daemon_set_tells_by_itself_whether_everything_goes() {
        assert_eq!(judge(&[Stays]), Some(AtExit::Keep));
        assert_eq!(judge(&[Goes]), Some(AtExit::Remove));
        assert_eq!(judge(&[NoRight, NoAccount, Stays]), Some(AtExit::Keep), "the API server had just started");
        assert_eq!(judge(&[NoRight, Goes]), Some(AtExit::Remove));
    }

    #[test]
    fn an_account_that_is_gone_takes_everything_along() {
        // `kubectl delete -k`: the token is known for a while after its account.
        let mut heard = vec![NoRight; 14];
        for _ in 1..DOUBTS {
            heard.push(NoAccount);
            assert_eq!(judge(&heard), None);
        }
        heard.push(NoAccount);
        assert_eq!(judge(&heard), Some(AtExit::Remove));
        assert_eq!(judge(&[NoAccount, NoAccount, NoRight]), None, "three in a row");
        assert_eq!(judge(&[NoAccount, Nothing, NoAccount, NoAccount]), Some(AtExit::Remove));
    }

    #[test]
    fn rights_that_are_broken_take_nothing_along() {
        let heard = [NoRight; 17];
        assert_eq!((judge(&heard), at_last(&heard)), (None, AtExit::Keep));
        assert_eq!(at_last(&[NoRight, Nothing]), AtExit::Keep);
    }

    #[test]
    fn without_an_answer_everything_stays() {
        assert_eq!(judge(&[Nothing]), Some(AtExit::Keep), "nobody waits for an API server that is away");
        assert_eq!(at_last(&[]), AtExit::Keep);
        assert_eq!(judge(&[NoRight, Nothing]), None, "one that is busy is asked again");
    }

    #[test]
    fn the_last_word_counts_when_time_is_over() {
        assert_eq!(at_last(&[NoRight, NoAccount]), AtExit::Remove);
        assert_eq!(at_last(&[NoAccount, NoAccount]), AtExit::Remove);
        assert_eq!(at_last(&[NoAccount]), AtExit::Keep, "one refusal may be of a server that has just started");
        assert_eq!(at_last(&[NoAccount, NoRight]), AtExit::Keep);
        assert_eq!(at_last(&[NoAccount, Stays]), AtExit::Keep);
    }
}
