//! Whose test pods these are: the namespace is marked with the run that made it, so that two runs, of one person or of two,
//! do not take each other's pods away.

use std::fmt;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use rand::TryCryptoRng;
use serde_json::json;

use super::manifests::{self, NAMESPACE};
use crate::kubectl::MANAGER;
use crate::kubectl::contexts::Target;
use crate::kubectl::errors::{Told as _, is_not_found};
use crate::kubectl::install::objects::Place;
use crate::kubectl::install::wait;

/// Annotation of the namespace: the run that works in it.
const RUN: &str = "linkspan.dev/verify-run";
/// Annotation of the namespace: its run has ended and left it, so that another one may have it.
const KEPT: &str = "linkspan.dev/verify-kept";

/// By what one run knows its test pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId(String);

impl RunId {
    /// A new one.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn draw(mut random: impl TryCryptoRng) -> anyhow::Result<Self> {
        let mut bytes = [0; 8];
        random.try_fill_bytes(&mut bytes).ok().context("the kernel gave no random bytes")?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What can be done with a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    /// It is to be made.
    Make,
    /// It was left by a run with `--keep`, and is as it was seen at this resource version.
    Adopt(Option<String>),
    /// It is being deleted.
    Wait,
    /// It is somebody else's, as this sentence says.
    Refuse(String),
}

/// Whether this run may have the namespace of test pods, which `there` is if there is one.
fn judge(there: Option<&Namespace>, context: &str) -> Claim {
    let Some(there) = there else { return Claim::Make };
    let remove = format!("`kubectl delete namespace {NAMESPACE}`");
    if !manifests::is_ours(there) {
        return Claim::Refuse(format!(
            "{context} has a namespace {NAMESPACE} that is not of Linkspan's test pods: remove it first, with {remove}"
        ));
    }
    if there.metadata.deletion_timestamp.is_some() {
        return Claim::Wait;
    }
    if there.annotations().get(KEPT).is_some_and(|kept| kept == "true") {
        return Claim::Adopt(there.resource_version());
    }
    let since = there.creation_timestamp().map(|time| format!(" since {}", time.0)).unwrap_or_default();
    let run = there.annotations().get(RUN).map_or("unknown", String::as_str);
    Claim::Refuse(format!(
        "{context} has test pods of another run{since} (ID {run}): wait until it ends; if it ended without removing them, \
         remove them with {remove}, or let this run have them with `kubectl annotate namespace {NAMESPACE} {KEPT}=true`"
    ))
}

/// Refuses a namespace that this run cannot have, before anything is made anywhere.
///
/// # Errors
/// It is another run's or somebody else's, or the API server refuses to say.
pub(super) async fn check(target: &Target) -> anyhow::Result<()> {
    match judge(existing(target).await?.as_ref(), &target.name) {
        Claim::Refuse(why) => bail!("{why}"),
        Claim::Make | Claim::Adopt(_) | Claim::Wait => Ok(()),
    }
}

/// Makes the namespace, or takes over one that was left.
///
/// # Errors
/// Another run was faster, or the API server refuses.
pub(super) async fn take(target: &Target, run: &RunId) -> anyhow::Result<()> {
    let mut there = existing(target).await?;
    if judge(there.as_ref(), &target.name) == Claim::Wait {
        wait::gone(&place(target)?).await.with_context(|| format!("test pods of {} are being removed", target.name))?;
        there = None;
    }
    let spaces: Api<Namespace> = Api::all(target.client.clone());
    let marks = |version: Option<String>| json!({ "metadata": { "resourceVersion": version, "annotations": { RUN: run.to_string(), KEPT: null } } });
    let taken = match judge(there.as_ref(), &target.name) {
        Claim::Refuse(why) => bail!("{why}"),
        Claim::Adopt(version) => {
            spaces.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(marks(version))).await.map(drop)
        }
        Claim::Make | Claim::Wait => {
            let mut made = manifests::namespace();
            made["metadata"]["annotations"] = json!({ RUN: run.to_string() });
            let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            spaces.create(&how, &serde_json::from_value(made)?).await.map(drop)
        }
    };
    taken.told(&format!("make namespace {NAMESPACE} in {}", target.name))
}

/// Leaves the namespace, so that a later run may have it.
///
/// # Errors
/// The API server refuses.
pub(super) async fn leave(target: &Target, run: &RunId) -> anyhow::Result<()> {
    let Some(there) = own(target, run).await? else { return Ok(()) };
    let spaces: Api<Namespace> = Api::all(target.client.clone());
    let mark = json!({ "metadata": { "resourceVersion": there.resource_version(), "annotations": { KEPT: "true" } } });
    let marked = spaces.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(mark)).await;
    marked.map(drop).told(&format!("mark the test pods of {} as kept", target.name))
}

/// Removes the namespace if it is this run's, and waits until it is gone.
///
/// # Errors
/// The API server refuses, or it stays.
pub(super) async fn remove(target: &Target, run: &RunId) -> anyhow::Result<()> {
    let Some(there) = own(target, run).await? else { return Ok(()) };
    let spaces: Api<Namespace> = Api::all(target.client.clone());
    // Not one of the same name that another run has made since.
    let preconditions = Some(Preconditions { uid: there.uid(), resource_version: None });
    let how = DeleteParams { preconditions, ..DeleteParams::default() };
    match spaces.delete(NAMESPACE, &how).await {
        Err(error) if is_not_found(&error) => return Ok(()),
        deleted => deleted.told(&format!("remove test pods of {}", target.name))?,
    };
    wait::gone(&place(target)?).await.with_context(|| format!("test pods of {} may be left", target.name))
}

/// The namespace, where this run has made or adopted it.
async fn own(target: &Target, run: &RunId) -> anyhow::Result<Option<Namespace>> {
    let there = existing(target).await?;
    Ok(there.filter(|there| manifests::is_ours(there) && there.annotations().get(RUN) == Some(&run.0)))
}

async fn existing(target: &Target) -> anyhow::Result<Option<Namespace>> {
    let spaces: Api<Namespace> = Api::all(target.client.clone());
    spaces.get_opt(NAMESPACE).await.told(&format!("look for test pods in {}", target.name))
}

fn place(target: &Target) -> anyhow::Result<Place> {
    Place::of(&target.client, &manifests::namespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(metadata: serde_json::Value) -> Claim {
        let there: Namespace = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        judge(Some(&there), "paris")
    }

    fn refused(metadata: serde_json::Value) -> String {
        match judged(metadata) {
            Claim::Refuse(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_there_or_was_left_may_be_had_and_nothing_else() {
        let labels = json!({ "app.kubernetes.io/part-of": "linkspan-verify" });
        assert_eq!(judge(None, "paris"), Claim::Make);
        let kept = json!({ "linkspan.dev/verify-run": "07", "linkspan.dev/verify-kept": "true" });
        let kept = json!({ "labels": labels, "annotations": kept, "resourceVersion": "7" });
        assert_eq!(judged(kept), Claim::Adopt(Some("7".to_owned())));
        assert_eq!(judged(json!({ "labels": labels, "deletionTimestamp": "2026-01-01T00:00:00Z" })), Claim::Wait);
        let foreign = refused(json!({ "labels": { "app.kubernetes.io/part-of": "shop" } }));
        assert!(foreign.starts_with("paris has a namespace linkspan-verify that is not of Linkspan's"), "{foreign}");
        let alive = json!({ "linkspan.dev/verify-run": "07" });
        let alive = json!({ "labels": labels, "annotations": alive, "creationTimestamp": "2026-01-01T00:00:00Z" });
        let alive = refused(alive);
        assert!(
            alive.starts_with("paris has test pods of another run since 2026-01-01T00:00:00Z (ID 07): "),
            "{alive}"
        );
        assert!(alive.contains("`kubectl delete namespace linkspan-verify`"), "{alive}");
        assert!(
            alive.ends_with("`kubectl annotate namespace linkspan-verify linkspan.dev/verify-kept=true`"),
            "{alive}"
        );
    }

    #[test]
    fn ids_are_as_long_as_their_bytes() {
        use rand::SeedableRng as _;
        let id = RunId::draw(rand::rngs::StdRng::seed_from_u64(1)).unwrap();
        assert_eq!(id.to_string().len(), 16);
        assert_ne!(id, RunId::draw(rand::rngs::StdRng::seed_from_u64(2)).unwrap());
    }
}
