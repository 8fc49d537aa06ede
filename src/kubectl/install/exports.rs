//! `export` and `unexport`: services given to the clusterset and taken back, in many clusters at once.

use anyhow::bail;
use controller::api::ServiceExport;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::objects::DryRun;
use crate::kubectl::MANAGER;
use crate::kubectl::contexts::{Namespace, Target};
use crate::kubectl::errors::{Told as _, is_not_found, named};
use crate::kubectl::output::{self, Format};

/// Which service, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// Name of the service.
    pub service: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// Whether it is done.
    pub dry_run: DryRun,
    /// How it is shown.
    pub format: Format,
}

/// Exports a service in each cluster.
///
/// # Errors
/// A cluster lacks the service, or refuses; the others go on.
pub async fn export(targets: Vec<Target>, order: &Order) -> anyhow::Result<()> {
    let results = join_all(targets.iter().map(|target| export_one(target, order))).await;
    tell(&targets, order, results)
}

/// Takes a service back in each cluster.
///
/// # Errors
/// It was not exported by a cluster, or that refuses; the others go on.
pub async fn unexport(targets: Vec<Target>, order: &Order) -> anyhow::Result<()> {
    let results = join_all(targets.iter().map(|target| unexport_one(target, order))).await;
    tell(&targets, order, results)
}

/// Tells what came of it in each cluster: first where it was done, then where not.
fn tell(targets: &[Target], order: &Order, results: Vec<anyhow::Result<String>>) -> anyhow::Result<()> {
    // One cluster is what a person usually has in mind, and then its name tells nothing.
    let prefix = |target: &Target, gap| if targets.len() > 1 { format!("{}{gap}", target.name) } else { String::new() };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (target, result) in targets.iter().zip(results) {
        match result {
            Ok(text) => done.push((target, text)),
            Err(error) if targets.len() == 1 => failed.push(format!("{:#}", named(target, error))),
            Err(error) => failed.push(format!("{}{error:#}", prefix(target, ": "))),
        }
    }
    let objects = || done.iter().map(|(target, _)| object(&order.service, &order.namespace.of(target))).collect();
    let line = |(target, text): &(&Target, String)| match order.format {
        Format::Name => format!("{}serviceexport.multicluster.x-k8s.io/{}\n", prefix(target, "/"), order.service),
        _ => format!("{}{text}\n", prefix(target, ": ")),
    };
    if !done.is_empty() {
        output::print(&match order.format {
            Format::Table | Format::Wide | Format::Name => done.iter().map(line).collect(),
            Format::Json => output::json(&whole(objects()))?,
            Format::Yaml => output::yaml(&whole(objects()))?,
        })?;
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

/// As kubectl does it: one object alone, several as a list.
fn whole(mut objects: Vec<Value>) -> Value {
    match (objects.pop(), objects.is_empty()) {
        (Some(one), true) => one,
        (last, _) => {
            objects.extend(last);
            json!({ "apiVersion": "v1", "kind": "List", "items": objects })
        }
    }
}

fn object(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceExport",
        "metadata": { "name": name, "namespace": namespace },
    })
}

async fn export_one(target: &Target, order: &Order) -> anyhow::Result<String> {
    let (name, namespace) = (&order.service, order.namespace.of(target));
    if order.dry_run != DryRun::Client {
        let services: Api<Service> = Api::namespaced(target.client.clone(), &namespace);
        if services.get_opt(name).await.told("look for the service")?.is_none() {
            bail!(
                "there is no service {name} in namespace {namespace}; see `kubectl get services --namespace {namespace}`"
            );
        }
        let exports: Api<ServiceExport> = Api::namespaced(target.client.clone(), &namespace);
        let how = PatchParams { dry_run: order.dry_run == DryRun::Server, ..PatchParams::apply(MANAGER) };
        let applied = exports.patch(name, &how, &Patch::Apply(&object(name, &namespace))).await;
        if applied.as_ref().is_err_and(is_not_found) {
            bail!("Linkspan is not in this cluster: it has no kind ServiceExport; see `kubectl linkspan join --help`");
        }
        applied.told(&format!("export {namespace}/{name}"))?;
    }
    Ok(match order.dry_run {
        DryRun::None => format!(
            "exported {namespace}/{name}; `kubectl get serviceexport {name} --namespace {namespace}` tells its state"
        ),
        dry_run => format!("exported {namespace}/{name}{}", dry_run.suffix()),
    })
}

async fn unexport_one(target: &Target, order: &Order) -> anyhow::Result<String> {
    let (name, namespace) = (&order.service, order.namespace.of(target));
    let exports: Api<ServiceExport> = Api::namespaced(target.client.clone(), &namespace);
    if order.dry_run == DryRun::Client {
        if exports.get_opt(name).await.told(&format!("look for the export {namespace}/{name}"))?.is_none() {
            bail!("{namespace}/{name} is not exported");
        }
    } else {
        let how = DeleteParams { dry_run: order.dry_run == DryRun::Server, ..DeleteParams::default() };
        match exports.delete(name, &how).await {
            Err(error) if is_not_found(&error) => bail!("{namespace}/{name} is not exported"),
            deleted => deleted.told(&format!("take back {namespace}/{name}"))?,
        };
    }
    Ok(format!("{namespace}/{name} is exported no more{}", order.dry_run.suffix()))
}
