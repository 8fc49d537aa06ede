//! Test pods in each cluster, exported to all: the ends between which `verify` and `bench` call. They run Linkspan's own
//! image, live in one namespace, and are taken away afterwards.

mod claim;
mod deadline;
mod end;
mod manifests;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use controller::api::names::SYSTEM_NAMESPACE;
use controller::broker::cluster_id;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::contexts::Target;
use super::errors::{Told as _, is_not_found};
use super::exec;
use super::install::objects::{DryRun, Place};
use super::install::wait::{self, LOOK};
use super::output::Progress;
pub use claim::RunId;
pub use deadline::Deadline;
pub use end::{Afterwards, Done, Shortfall};
pub use manifests::{CONTAINER, NAMESPACE, PORT, headless, service};
pub use seen::{Known, Server};

use end::Signals;

/// Between fewer clusters there is nothing to try.
const CLUSTERS_MIN: usize = 2;
/// Pods in each cluster.
const PODS: usize = 2;
/// Looks until pods run and all are known everywhere: two minutes.
const LOOKS: u32 = 240;

/// One cluster of the stage.
pub struct Cluster {
    /// How it is spoken to.
    pub target: Target,
    /// Its cluster ID.
    pub id: String,
    /// Its own test pods.
    pub pods: Vec<Server>,
    /// What it knows of the test pods of each other cluster.
    pub known: BTreeMap<String, Known>,
}

/// All clusters, with their pods.
pub struct Stage {
    /// At least two.
    pub clusters: Vec<Cluster>,
}

impl Stage {
    /// Makes the pods and waits until they run and are known everywhere.
    ///
    /// # Errors
    /// Another run was faster, permissions are missing, or pods do not start in time. What was made stays until it is
    /// removed ([`end::tidy`]).
    async fn set_up(mut clusters: Vec<Cluster>, run: &RunId, progress: &Progress) -> anyhow::Result<Self> {
        progress.now("making test pods");
        let count = clusters.len();
        // All to the end: what a request makes that is given up half-way would not be known to have been made.
        let made = join_all(clusters.iter().map(|cluster| deploy(cluster, count, run))).await;
        made.into_iter().collect::<anyhow::Result<()>>()?;
        progress.now("waiting for test pods");
        for cluster in &mut clusters {
            cluster.pods = running(cluster).await?;
        }
        progress.now("waiting until the clusters know each other's test pods");
        let pods: BTreeMap<String, Vec<Server>> =
            clusters.iter().map(|one| (one.id.clone(), one.pods.clone())).collect();
        for cluster in &mut clusters {
            cluster.known = knowledge(cluster, &pods).await?;
        }
        Ok(Self { clusters })
    }

    /// The cluster of this ID.
    pub fn cluster(&self, id: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.id == id)
    }
}

impl Cluster {
    /// Runs `linkspan call` in one of the test pods, and reads its answer, for so long.
    ///
    /// # Errors
    /// What it says of its failure, or that it says nothing.
    pub async fn call<T: serde::de::DeserializeOwned>(
        &self,
        pod: &str,
        words: &[&str],
        time: Duration,
    ) -> Result<T, String> {
        let command: Vec<&str> = ["linkspan", "call"].iter().chain(words).copied().collect();
        let pods: Api<Pod> = Api::namespaced(self.target.client.clone(), NAMESPACE);
        let said = tokio::time::timeout(time, exec::run(&pods, pod, CONTAINER, &command)).await;
        let said = said.map_err(|_| format!("pod {pod} did not answer within {} s", time.as_secs()))??;
        serde_json::from_str(&said).map_err(|error| format!("pod {pod} said something else than an answer: {error}"))
    }
}

/// Makes the stage, has `work` done on it, and takes it away again, also when it is interrupted; or leaves it, when that is
/// what is wanted. Only what this run has made or adopted is taken away. Clusters that are of no use are left out, as long
/// as two remain.
///
/// # Errors
/// The stage cannot be made, or it was interrupted; what could not be taken away then is told, too.
pub async fn with<T>(
    targets: &[Target],
    run: &RunId,
    afterwards: Afterwards,
    work: impl AsyncFnOnce(&Stage, &Progress) -> T,
) -> anyhow::Result<Done<T>> {
    let progress = Progress::start("asking the clusters who they are");
    let mut signals = Signals::catch()?;
    let (clusters, left_out) = tokio::select! {
        prepared = prepare(targets) => prepared?,
        signal = signals.next() => bail!("ended by {signal}"),
    };
    let used: Vec<Target> = clusters.iter().map(|cluster| cluster.target.clone()).collect();
    // From here on there is something to be taken away.
    let work = async {
        let stage = Stage::set_up(clusters, run, &progress).await?;
        Ok(work(&stage, &progress).await)
    };
    let worked = tokio::select! {
        worked = work => worked,
        signal = signals.next() => Err(anyhow::anyhow!("ended by {signal}")),
    };
    progress.now(match afterwards {
        Afterwards::Remove => "removing test pods",
        Afterwards::Keep => "leaving test pods",
    });
    let errors = end::tidy(&used, run, afterwards, &mut signals).await;
    end::done(worked, errors, left_out)
}

/// Asks the clusters who they are, and changes nothing. Tells those that can be used, and why others cannot.
async fn prepare(targets: &[Target]) -> anyhow::Result<(Vec<Cluster>, Vec<String>)> {
    let (clusters, left_out) = usable(join_all(targets.iter().map(identify)).await)?;
    check(&clusters)?;
    Ok((clusters, left_out))
}

/// Those that can be used, and why others cannot, where there are enough without them.
fn usable<T>(asked: Vec<anyhow::Result<T>>) -> anyhow::Result<(Vec<T>, Vec<String>)> {
    let (mut usable, mut useless) = (Vec::new(), Vec::new());
    for one in asked {
        match one {
            Ok(one) => usable.push(one),
            Err(why) => useless.push(format!("{why:#}")),
        }
    }
    if usable.len() < CLUSTERS_MIN && !useless.is_empty() {
        bail!("{}", useless.join("; and "));
    }
    Ok((usable, useless))
}

async fn identify(target: &Target) -> anyhow::Result<Cluster> {
    let id = match cluster_id(&target.client).await {
        Err(error) if is_not_found(&error) => None,
        found => found.told(&format!("ask {} which cluster it is", target.name))?,
    };
    let id =
        id.with_context(|| format!("{} is no Member of a clusterset: `linkspan join` makes it one", target.name))?;
    claim::check(target).await?;
    Ok(Cluster { target: target.clone(), id, pods: Vec::new(), known: BTreeMap::new() })
}

fn check(clusters: &[Cluster]) -> anyhow::Result<()> {
    if clusters.len() < CLUSTERS_MIN {
        bail!("this needs two clusters at least: name their contexts, as in --context paris,berlin");
    }
    let ids: BTreeSet<&str> = clusters.iter().map(|cluster| cluster.id.as_str()).collect();
    if ids.len() < clusters.len() {
        bail!("two of the contexts are of one cluster: name each cluster once");
    }
    Ok(())
}

async fn deploy(cluster: &Cluster, clusters: usize, run: &RunId) -> anyhow::Result<()> {
    let client = &cluster.target.client;
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let what = format!("read DaemonSet linkspan-node of {}", cluster.target.name);
    let node = daemons.get("linkspan-node").await.told(&what)?;
    let image = manifests::Image::of(&node);
    let image =
        image.with_context(|| format!("DaemonSet linkspan-node of {} has no container", cluster.target.name))?;
    claim::take(&cluster.target, run).await?;
    // With many clusters one pod in each does.
    let pods = if clusters > 4 { 1 } else { PODS };
    for object in manifests::all(&cluster.id, &image, pods) {
        let place = Place::of(client, &object)?;
        let applied = place.apply(&object, DryRun::None).await;
        applied.with_context(|| format!("test pods cannot be made in {}", cluster.target.name))?;
    }
    Ok(())
}

async fn running(cluster: &Cluster) -> anyhow::Result<Vec<Server>> {
    let client = &cluster.target.client;
    for _ in 0..LOOKS {
        if let Some(pods) = seen::running(client).await.told(&format!("list test pods of {}", cluster.target.name))? {
            return Ok(pods);
        }
        tokio::time::sleep(LOOK).await;
    }
    let why = wait::obstacle(client, NAMESPACE).await;
    let why = why.unwrap_or_else(|| format!("see `kubectl get pods -n {NAMESPACE}`"));
    bail!("test pods of {} do not run after two minutes: {why}", cluster.target.name)
}

/// What `cluster` knows of the others' test pods, once that is all of them.
async fn knowledge(cluster: &Cluster, pods: &BTreeMap<String, Vec<Server>>) -> anyhow::Result<BTreeMap<String, Known>> {
    let others = || pods.iter().filter(|(id, _)| **id != cluster.id);
    let mut missing = Vec::new();
    for _ in 0..LOOKS {
        let known = seen::known(&cluster.target.client, others().map(|(id, _)| id.as_str())).await;
        let known = known.told(&format!("read imports of {}", cluster.target.name))?;
        let lacks = |id: &str, pods: &[Server]| known.get(id).is_none_or(|known| !known.is_whole(pods, &cluster.pods));
        missing = others().filter(|(id, pods)| lacks(id, pods)).map(|(id, _)| id.clone()).collect();
        if missing.is_empty() {
            return Ok(known);
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!(
        "after two minutes {} does not know the test services of {}: see `kubectl linkspan diagnose services` and \
         `kubectl get serviceimports -n {NAMESPACE} -o yaml` there",
        cluster.id,
        missing.join(", ")
    )
}

/// An address and the port of the test pods, IPv6 in brackets.
pub fn at(address: IpAddr) -> String {
    std::net::SocketAddr::new(address, PORT).to_string()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn clusters_of_no_use_are_left_out_as_long_as_two_remain() {
        let dark = || Err(anyhow!("refused").context("failed to ask rome which cluster it is"));
        let foreign = || Err(anyhow!("oslo is no Member of a clusterset"));
        let (used, left_out) = usable(vec![Ok("paris"), dark(), Ok("berlin"), foreign()]).unwrap();
        assert_eq!(used, ["paris", "berlin"]);
        assert_eq!(left_out, ["failed to ask rome which cluster it is: refused", "oslo is no Member of a clusterset"]);
        let error = usable(vec![Ok("paris"), dark(), foreign()]).unwrap_err().to_string();
        assert_eq!(error, "failed to ask rome which cluster it is: refused; and oslo is no Member of a clusterset");
        // That one alone is too few is told with how to name more.
        assert_eq!(usable(vec![Ok("paris")]).unwrap(), (vec!["paris"], Vec::new()));
    }
}
