//! `uninstall`: Linkspan is taken out of a cluster.

use anyhow::bail;
use controller::api::Member;
use controller::api::names::{BROKER_NAMESPACE, SYSTEM_NAMESPACE};
use controller::broker::cluster_id;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::leave::Extent;
use super::manifests::Base;
use super::objects::DryRun;
use super::steps::Steps;
use super::{join, leave};
use crate::kubectl::contexts::Target;
use crate::kubectl::errors::{Told as _, is_not_found};
use crate::kubectl::output::Format;

/// Members of a broker that are named.
const SHOWN: usize = 5;
/// What a controller has at least for cleaning up when it goes on by force, in seconds: between two tries to leave it
/// rests for ten.
const AT_HOME: u64 = 20;

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Linkspan as a Member, after the cluster has left.
    pub member: bool,
    /// The broker.
    pub broker: bool,
    /// The kinds, and with them all objects of these kinds.
    pub crds: bool,
    /// Also where something is lost by it.
    pub force: bool,
    /// How long the leaving is watched, in seconds.
    pub wait: u64,
    /// Whether it is done.
    pub dry_run: DryRun,
    /// How it is shown.
    pub format: Format,
}

/// Takes Linkspan out of a cluster. What others need is looked for before anything is done, and once more before it goes.
///
/// # Errors
/// The cluster does not leave, others need what is to go, or the API server refuses.
pub async fn uninstall(target: Target, order: Order) -> anyhow::Result<()> {
    let mut steps = Steps::new(target, order.dry_run, order.format);
    let client = steps.target.client.clone();
    // It leaves before its broker goes, so that it is not one of those who lose something.
    let own = match order.member {
        true => own_id(&client).await?,
        // It is named where it may be seen.
        false => own_id(&client).await.ok().flatten(),
    };
    refuse_loss(&client, order, own.as_deref()).await?;
    if order.member {
        // Whoever forces it does not want it to end here: the broker is asked in earnest before it is done without.
        let wait = if order.force { order.wait.max(AT_HOME) } else { order.wait };
        match leave::leave(&steps, wait, Extent::Everywhere).await {
            Err(error) if order.force => leave_home(&steps, wait, &format!("{error:#}")).await?,
            Ok(Some(left)) if order.force => leave_home(&steps, wait, &format!("still there: {left}")).await?,
            Ok(Some(left)) => bail!(
                "the cluster is leaving, for which its controller is needed, and nothing was uninstalled; still there: \
                 {left}; run this command again later, with --wait, or with --force"
            ),
            left => drop(left?),
        }
        steps.delete(&reversed(Base::Member)?).await?;
        refuse_loss(&client, order, own.as_deref()).await?;
    }
    if order.broker {
        steps.delete(&reversed(Base::Broker)?).await?;
    }
    if order.crds {
        steps.delete(&reversed(Base::Crds)?).await?;
    }
    steps.finish()
}

/// Lets a cluster leave that does not leave its broker: while its controller is there, it cleans up here.
async fn leave_home(steps: &Steps, seconds: u64, why: &str) -> anyhow::Result<()> {
    steps.say(&format!("it has not left, and leaves without its broker: {why}"))?;
    match leave::leave(steps, seconds, Extent::HomeOnly).await {
        Ok(None) => Ok(()),
        Ok(Some(left)) => steps.say(&format!("going on although it has not left: {left}")),
        Err(error) => steps.say(&format!("going on although it has not left: {error:#}")),
    }
}

/// The ID that this cluster has, or had until it left.
async fn own_id(client: &Client) -> anyhow::Result<Option<String>> {
    match cluster_id(client).await {
        Err(error) if !is_not_found(&error) => Err(error).told("ask which cluster this is"),
        Ok(Some(id)) => Ok(Some(id)),
        _ => join::known_id(client).await,
    }
}

/// Workloads first: a node cleans up while it still has its rights.
fn reversed(base: Base) -> anyhow::Result<Vec<Value>> {
    let mut objects = base.objects(None)?;
    objects.reverse();
    Ok(objects)
}

/// Clusters that are Members of a broker here, or this one itself, would lose what they have; but for this one, where it leaves.
async fn refuse_loss(client: &Client, order: Order, own: Option<&str>) -> anyhow::Result<()> {
    let leaving = own.filter(|_| order.member);
    let mut spaces = Vec::new();
    if order.broker || order.crds {
        spaces.push((BROKER_NAMESPACE, "the broker here has Members"));
    }
    if order.crds && !order.member {
        spaces.push((SYSTEM_NAMESPACE, "this cluster has copies of Members"));
    }
    for (namespace, what) in spaces.into_iter().filter(|_| !order.force) {
        let members: Api<Member> = Api::namespaced(client.clone(), namespace);
        let members = match members.list_metadata(&ListParams::default()).await {
            Err(error) if is_not_found(&error) => continue,
            members => members.told("list Members")?.items,
        };
        let mut names: Vec<String> =
            members.iter().map(|member| member.name_any()).filter(|name| leaving != Some(name)).collect();
        let this = own.filter(|own| names.iter().any(|name| name == own));
        let this = this.map_or_else(String::new, |own| format!(" ({own} is this cluster, and does so with --cluster)"));
        if names.len() > SHOWN {
            names.truncate(SHOWN);
            names.push("...".to_owned());
        }
        if !names.is_empty() {
            bail!("{what} ({}), which would be lost: let them leave first{this}, or give --force", names.join(", "));
        }
    }
    Ok(())
}
