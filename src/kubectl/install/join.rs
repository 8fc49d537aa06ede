//! `join`: one cluster becomes a Member, with a token that it is given or one that is made for it on the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use anyhow::bail;
use controller::api::Member;
use controller::api::names::{SECRET_BROKER, SECRET_JOIN, SYSTEM_NAMESPACE};
use controller::broker::{JoinToken, TOKEN_KEY};
use controller::members::ClusterId;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use super::credential::{self, Held};
use super::manifests::Base;
use super::objects::DryRun;
use super::steps::Steps;
use super::{image, tokens, wait};
use crate::kubectl::MANAGER;
use crate::kubectl::contexts::Target;
use crate::kubectl::errors::{Told as _, is_not_found, named};
use crate::kubectl::output::Format;
use crate::status::VERSION;

/// ConfigMap with what differs between clusters, and its key for the cluster ID.
const CONFIG: &str = "linkspan";
const CLUSTER_ID: &str = "LINKSPAN_CLUSTER_ID";

/// Where the right to join comes from.
pub enum Source {
    /// A token that somebody made.
    Token(Box<JoinToken>),
    /// The broker, with the rights of its administrator.
    Broker(Box<Target>, Box<tokens::Order>),
}

/// Whether the manifests are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// Where Linkspan is not there yet.
    IfAbsent,
    /// In any case.
    Always,
    /// Never: somebody else does it.
    Never,
}

/// What is to join, and how.
pub struct Order {
    /// Where the right to join comes from.
    pub source: Source,
    /// Whether the manifests are applied.
    pub install: Install,
    /// Linkspan's image; where it is not given, that of this version from where the cluster has it now.
    pub image: Option<String>,
    /// How long the joining is watched, in seconds; 0 does not wait.
    pub wait: u64,
    /// Whether it is done.
    pub dry_run: DryRun,
    /// How it is shown.
    pub format: Format,
}

/// Joins a cluster. What is done already is not done again, so that another try continues.
///
/// # Errors
/// The cluster is a Member under another ID or of another broker, an API server refuses, or it is not ready in time.
pub async fn join(target: Target, order: Order) -> anyhow::Result<()> {
    let cluster = match &order.source {
        Source::Token(token) => token.cluster.clone(),
        Source::Broker(_, wanted) => wanted.cluster.clone(),
    };
    let mut steps = Steps::new(target, order.dry_run, order.format);
    let client = steps.target.client.clone();
    let known = known_id(&client).await?;
    let is_renamed = known.as_deref().is_some_and(|known| known != cluster.as_str());
    if let Some(other) = known.as_ref().filter(|_| is_renamed) {
        // Without a credential it is no Member, and its earlier ID means nothing to anybody.
        if has_credential(&client).await? {
            bail!("this cluster is {other} already, and is to be {cluster}: leave first, or join as {other}");
        }
        steps.say(&format!("this cluster was {other} and is {cluster} from now on"))?;
    }
    let nodes = nodes(&client).await?;
    let present = nodes.is_some();
    let (before, after) = match (order.install, present) {
        (Install::Never, false) => {
            bail!("Linkspan is not in this cluster: apply deploy/crds and deploy/member, or leave --keep-manifests out")
        }
        (Install::Never, true) | (Install::IfAbsent, true) => (Vec::new(), Vec::new()),
        (Install::Always, _) | (Install::IfAbsent, false) => {
            let image = match &order.image {
                Some(given) => Some(given.clone()),
                None => image::successor(nodes.as_ref(), VERSION)?,
            };
            manifests(image.as_deref())?
        }
    };
    let right = right(&client, &order.source, &cluster).await?;
    steps.apply(&before).await?;
    if order.dry_run == DryRun::None {
        give(&steps, &order.source, right, &cluster).await?;
        set_id(&client, &cluster).await?;
    }
    steps.apply(&after).await?;
    // Pods of before say that the cluster is ready, whatever becomes of the new ones.
    let rolls = present && !after.is_empty();
    steps.finish()?;
    if order.dry_run != DryRun::None {
        return steps.say(&format!("{cluster} would join; no token was made and no setting changed"));
    }
    // Pods that were there before the ID read it when they start.
    if present && known.as_deref() != Some(cluster.as_str()) {
        restart(&client).await?;
    }
    watch(&steps, &cluster, order.wait, rolls).await
}

/// The manifests before and after the settings are written, so that the first pods find them.
fn manifests(image: Option<&str>) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
    let member = Base::Member.objects(image)?;
    let (namespaces, rest): (Vec<Value>, Vec<Value>) =
        member.into_iter().partition(|object| object["kind"] == "Namespace");
    Ok(([Base::Crds.objects(None)?, namespaces].concat(), rest))
}

/// The cluster ID in ConfigMap linkspan.
pub(super) async fn known_id(client: &Client) -> anyhow::Result<Option<String>> {
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let config = configs.get_opt(CONFIG).await.told("read ConfigMap linkspan")?;
    let id = config.and_then(|config| config.data).and_then(|mut data| data.remove(CLUSTER_ID));
    Ok(id.filter(|id| !id.trim().is_empty()))
}

/// What runs on the nodes, if Linkspan is there.
async fn nodes(client: &Client) -> anyhow::Result<Option<DaemonSet>> {
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    daemons.get_opt("linkspan-node").await.told("look for Linkspan")
}

/// What gives a cluster the right to join.
enum Right {
    /// The credential that it has.
    Held,
    /// The token that was given.
    Given,
    /// A token that is made on the broker; why the credential that it has is of no use, if it has one.
    Made(Option<String>),
}

/// Looks what gives the right to join. A token is made only where the cluster has no credential that is of use.
///
/// # Errors
/// The cluster has a good credential of another broker.
async fn right(client: &Client, source: &Source, cluster: &ClusterId) -> anyhow::Result<Right> {
    let Source::Broker(broker, order) = source else { return Ok(Right::Given) };
    match credential::held(client, cluster).await? {
        Held::Good(server) => refuse_another(cluster, &server, broker, order).await.map(|()| Right::Held),
        Held::Useless(why) => Ok(Right::Made(Some(why))),
        Held::Nothing => Ok(Right::Made(None)),
    }
}

/// Refuses to join another broker than that of a good credential.
async fn refuse_another(cluster: &ClusterId, held: &str, broker: &Target, order: &tokens::Order) -> anyhow::Result<()> {
    // An address that only people use says nothing about which broker it is.
    let wanted = tokens::server_of(broker, order).await.unwrap_or_else(|_| held.to_owned());
    if wanted != held {
        bail!(
            "{cluster} has a credential of the broker at {held}, and {} is at {wanted}: leave first to join that one; where \
             both are the same broker, give --server {held}",
            broker.name
        );
    }
    Ok(())
}

/// Puts the token where the controller looks for it.
async fn give(steps: &Steps, source: &Source, right: Right, cluster: &ClusterId) -> anyhow::Result<()> {
    let made;
    let token = match (source, right) {
        (_, Right::Held) => {
            return steps.say(&format!("{cluster} has a credential of its broker already and keeps it"));
        }
        (Source::Token(token), _) => token.as_ref(),
        (Source::Broker(broker, order), right) => {
            if let Right::Made(Some(why)) = right {
                steps.say(&format!("{cluster} has a credential that is of no use, and gets a new token ({why})"))?;
            }
            steps.progress.now(format!("making a join token on {}", broker.name));
            made = tokens::create(broker, order).await.map_err(|error| named(broker, error))?;
            &made
        }
    };
    let data = json!({ "stringData": { TOKEN_KEY: token.dangerously_pack() } });
    apply::<Secret>(&steps.target.client, SECRET_JOIN, data).await?;
    steps.say(&format!("{cluster} joins {}", token.broker.server))
}

/// Whether there is a credential, also one that is being given up.
async fn has_credential(client: &Client) -> anyhow::Result<bool> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    Ok(secrets.get_metadata_opt(SECRET_BROKER).await.told("look for the credential")?.is_some())
}

async fn set_id(client: &Client, cluster: &ClusterId) -> anyhow::Result<()> {
    let data = BTreeMap::from([(CLUSTER_ID, cluster.as_str())]);
    apply::<ConfigMap>(client, CONFIG, json!({ "data": data })).await
}

/// Applies a part of an object of our namespace.
async fn apply<K>(client: &Client, name: &str, mut part: Value) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + serde::de::DeserializeOwned,
{
    let kind = K::kind(&());
    part["apiVersion"] = K::api_version(&()).into();
    part["kind"] = kind.clone().into();
    part["metadata"] = json!({ "name": name });
    let api: Api<K> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let applied = api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&part)).await;
    applied.map(drop).told(&format!("write {kind} {name}"))
}

/// Lets all pods of Linkspan read ConfigMap linkspan anew.
async fn restart(client: &Client) -> anyhow::Result<()> {
    let stamp = json!({ "spec": { "template": { "metadata": { "annotations": {
        "kubectl.kubernetes.io/restartedAt": Timestamp::now().to_string(),
    } } } } });
    let how = PatchParams::default();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    for name in ["linkspan-controller", "linkspan-dns"] {
        found(deployments.patch(name, &how, &Patch::Strategic(&stamp)).await, name)?;
    }
    found(daemons.patch("linkspan-node", &how, &Patch::Strategic(&stamp)).await, "linkspan-node")
}

fn found<T>(patched: kube::Result<T>, name: &str) -> anyhow::Result<()> {
    match patched {
        Err(error) if is_not_found(&error) => Ok(()),
        patched => patched.map(drop).told(&format!("restart {name}")),
    }
}

/// Waits until the cluster's own Member is ready and, where one `rolls`, its rollout is over, and tells what it waits for. The
/// time begins anew with each pod that is new.
async fn watch(steps: &Steps, cluster: &ClusterId, seconds: u64, rolls: bool) -> anyhow::Result<()> {
    let client = &steps.target.client;
    let mut told = BTreeSet::new();
    let (mut last, mut look) = (None, 0);
    steps.progress.now(format!("waiting for {cluster}"));
    while look < seconds * 2 {
        tokio::time::sleep(wait::LOOK).await;
        look += 1;
        // Pods that do not start are asked for now and then only: they are slow to change.
        let now = match waits_for(client, cluster, rolls).await {
            Waits::Nothing => {
                return steps.say(&format!("{cluster} has joined; `kubectl linkspan show` tells how it stands"));
            }
            Waits::Condition(why) => Some(why),
            Waits::Rollout(step) => {
                // It goes on.
                if told.insert(step.clone()) {
                    steps.say(&format!("not yet: {step}"))?;
                    look = 0;
                }
                let obstacle = if look % 10 == 9 { wait::obstacle(client, SYSTEM_NAMESPACE).await } else { None };
                obstacle.or(Some(step))
            }
            Waits::Pods if look % 10 == 9 => wait::obstacle(client, SYSTEM_NAMESPACE).await,
            Waits::Pods => None,
        };
        let Some(now) = now else { continue };
        if told.insert(now.clone()) {
            steps.say(&format!("not yet: {now}"))?;
        }
        last = Some(now);
    }
    if seconds == 0 {
        return Ok(());
    }
    let last = last.map_or_else(String::new, |last| format!(": {last}"));
    bail!(
        "{cluster} is not ready after {seconds} s{last}; see `kubectl get pods -n {SYSTEM_NAMESPACE} -o wide` and `kubectl \
         linkspan diagnose`"
    )
}

/// What a cluster still waits for.
enum Waits {
    Nothing,
    /// What its Member says.
    Condition(String),
    /// Its pods, of which nothing is known yet.
    Pods,
    /// This step of the rollout.
    Rollout(String),
}

async fn waits_for(client: &Client, cluster: &ClusterId, rolls: bool) -> Waits {
    let members: Api<Member> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let member = members.get_opt(cluster.as_str()).await.ok().flatten();
    let conditions = member.and_then(|member| member.status).unwrap_or_default().conditions;
    match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
        None => Waits::Pods,
        Some(ready) if ready.status != "True" => Waits::Condition(ready.message),
        // Of a cluster that was ready before an upgrade, the earlier pods say so.
        Some(_) if rolls => match wait::rollout(client).await {
            Ok(None) => Waits::Nothing,
            Ok(Some(pending)) => Waits::Rollout(pending),
            Err(error) => Waits::Condition(format!("the API server does not tell of Linkspan's pods: {error}")),
        },
        Some(_) => Waits::Nothing,
    }
}
