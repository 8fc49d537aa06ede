//! Writes a plan to the API server. Decides nothing.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::core::response::StatusCause;
use kube::{Client, Error, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Duration, sleep, timeout};
use tracing::{debug, info, warn};

use crate::api::names::{FIELD_MANAGER, REPORTER};
use crate::api::{ServiceImport, ServiceRecord};
use crate::broker::describe;
use crate::events::{News, Teller};
use crate::services::action::{Action, Failure, ObjectRef, Trim};
use crate::services::index::{Kind, Object};

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a lost address is asked for, and the time between.
const TRIES_FOR_ADDRESS: u32 = 20;
const PAUSE_FOR_ADDRESS: Duration = Duration::from_millis(100);

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The objects as they are now. Watches tell them too, a little later.
    pub written: Vec<Object>,
    /// The objects that are gone.
    pub deleted: Vec<(Kind, ObjectRef)>,
    /// The actions that failed, or were not needed any more: what is so now has not been seen yet.
    pub failures: Vec<Failure>,
}

/// What came of one write.
enum Written {
    /// The object as it is now.
    Now(Object),
    /// It is gone, or soon will be.
    Gone(Kind, ObjectRef),
}

/// Writes to one API server.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    events: Teller,
    /// What all that is made of imports belongs to.
    owners: Vec<OwnerReference>,
}

impl Writer {
    pub(super) fn new(client: Client, owners: Vec<OwnerReference>) -> Self {
        let events = Teller::new(client.clone(), REPORTER, None);
        Self { client, events, owners }
    }

    /// The same object, as the owners'.
    fn owned<K: Resource + Clone>(&self, object: &K) -> K {
        let mut object = object.clone();
        object.owner_references_mut().extend(self.owners.iter().cloned());
        object
    }

    async fn tell(&self, object: &Object, news: &[News]) {
        if let Object::Export(export) = object {
            self.events.tell(&export.object_ref(&()), news).await;
        }
    }
}

/// Applies `actions` in order. One that fails does not keep the others from being tried.
pub(super) async fn apply(writer: &Writer, actions: Vec<Action>) -> Applied {
    let mut applied = Applied::default();
    for action in actions {
        let why = match timeout(PATIENCE, write(writer, &action)).await {
            Ok(Ok(written)) => {
                info!("{action}");
                if let (Action::ApplyExportStatus(_, news), Written::Now(object)) = (&action, &written) {
                    writer.tell(object, news).await;
                }
                match written {
                    Written::Now(object) => applied.written.push(object),
                    Written::Gone(kind, object) => applied.deleted.push((kind, object)),
                }
                continue;
            }
            Ok(Err(error)) if is_vain(&error) => {
                debug!(%error, "not needed any more: {action}");
                None
            }
            Ok(Err(error)) => Some(describe(&error)),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        let told = why.map(|why| format!("failed to {action}: {why}"));
        told.iter().for_each(|told| warn!("{told}"));
        applied.failures.push(Failure { action, told });
    }
    applied
}

async fn write(writer: &Writer, action: &Action) -> Result<Written, Error> {
    let client = &writer.client;
    match action {
        Action::ApplyRecord(record) => put(client, &**record, Object::Record).await,
        Action::ApplyDerived(service) => put_derived(client, writer.owned(&**service)).await,
        Action::ApplySlice(slice) => put(client, &writer.owned(&**slice), Object::Slice).await,
        Action::ApplyImport(import) => put(client, &writer.owned(&**import), Object::Import).await,
        Action::TrimImport(trim) => trim_import(client, trim).await,
        Action::ApplyImportStatus(import) => put_status(client, &**import, Object::Import).await,
        Action::ApplyExportStatus(export, _) => put_status(client, &**export, Object::Export).await,
        Action::DeleteRecord(object) => delete::<ServiceRecord>(client, object, Kind::Record).await,
        Action::DeleteDerived(object) => delete::<Service>(client, object, Kind::Service).await,
        Action::DeleteSlice(object) => delete::<EndpointSlice>(client, object, Kind::Slice).await,
        Action::DeleteImport(object) => delete::<ServiceImport>(client, object, Kind::Import).await,
    }
}

/// The addresses of a lost derived Service are asked for again, for a while: the API server frees them a moment after
/// the Service is gone. When somebody else has them, new ones are taken. Whatever else is wrong, they are kept for the next
/// try; and so are those of one that is there and asks for one of another family, too.
async fn put_derived(client: &Client, mut service: Service) -> Result<Written, Error> {
    let asks = service.spec.as_ref().is_some_and(|spec| spec.cluster_ips.is_some() && spec.ip_families.is_none());
    let mut tries = TRIES_FOR_ADDRESS;
    loop {
        match put(client, &service, Object::Service).await {
            Err(Error::Api(status)) if asks && is_about_addresses(&status) => {
                if tries == 0 {
                    warn!(service = service.name_any(), reason = status.message, "a clusterset IP is lost for good");
                    break;
                }
                debug!(service = service.name_any(), reason = status.message, "the address is not free yet");
            }
            written => return written,
        }
        tries -= 1;
        sleep(PAUSE_FOR_ADDRESS).await;
    }
    if let Some(spec) = &mut service.spec {
        (spec.cluster_ip, spec.cluster_ips) = (None, None);
    }
    put(client, &service, Object::Service).await
}

/// Whether a Service is refused for the addresses that it asks for, and for nothing else. An API server that has just
/// started refuses all addresses for a moment ("allocator not ready").
fn is_about_addresses(status: &Status) -> bool {
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
    let of_address =
        |cause: &StatusCause| cause.field.starts_with("spec.clusterIP") && !cause.message.ends_with("not ready");
    status.code == 422 && !causes.is_empty() && causes.iter().all(of_address)
}

async fn put<K>(client: &Client, object: &K, keep: fn(Box<K>) -> Object) -> Result<Written, Error>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    let api = api::<K>(client, object.namespace().as_deref());
    let now = api.patch(&object.name_any(), &params(), &Patch::Apply(object)).await?;
    Ok(Written::Now(keep(Box::new(without_managed_fields(now)))))
}

async fn trim_import(client: &Client, trim: &Trim) -> Result<Written, Error> {
    let imports = api::<ServiceImport>(client, Some(&trim.object.namespace));
    let how = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let now = imports.patch(&trim.object.name, &how, &Patch::Merge(trim.patch())).await?;
    Ok(Written::Now(Object::Import(Box::new(without_managed_fields(now)))))
}

async fn put_status<K>(client: &Client, object: &K, keep: fn(Box<K>) -> Object) -> Result<Written, Error>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    let api = api::<K>(client, object.namespace().as_deref());
    let now = api.patch_status(&object.name_any(), &params(), &Patch::Apply(object)).await?;
    Ok(Written::Now(keep(Box::new(without_managed_fields(now)))))
}

async fn delete<K>(client: &Client, object: &ObjectRef, kind: Kind) -> Result<Written, Error>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let preconditions = Some(Preconditions { uid: Some(object.uid.clone()), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    api::<K>(client, Some(&object.namespace)).delete(&object.name, &params).await?;
    Ok(Written::Gone(kind, object.clone()))
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), namespace.unwrap_or_default())
}

fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn without_managed_fields<K: Resource>(mut object: K) -> K {
    object.managed_fields_mut().clear();
    object
}

/// Whether a write failed because the world has moved on: the object, its namespace, or the version of it that was
/// meant are gone, or the namespace goes. What is so now comes by the watches.
fn is_vain(error: &Error) -> bool {
    let Error::Api(status) = error else { return false };
    let terminating = || status.message.contains("because it is being terminated");
    let other_uid = || status.message.contains("UID in precondition");
    let other_version = || status.message.contains("the object has been modified");
    match status.code {
        404 => true,
        403 => terminating(),
        409 => terminating() || other_uid() || other_version(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(code: u16, fields: &[&str]) -> Status {
        refused(code, fields.iter().map(|field| (*field, "provided IP is already allocated")))
    }

    fn refused<'a>(code: u16, causes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Status {
        let cause = |(field, message)| json!({ "field": field, "message": message });
        let causes: Vec<Value> = causes.into_iter().map(cause).collect();
        serde_json::from_value(json!({
            "status": "Failure", "code": code, "message": "no", "details": { "kind": "Service", "causes": causes }
        }))
        .unwrap()
    }

    #[test]
    fn row_62_an_address_is_given_up_only_where_the_api_server_refuses_the_address() {
        assert!(is_about_addresses(&status(422, &["spec.clusterIPs"])));
        assert!(is_about_addresses(&status(422, &["spec.clusterIPs[0]", "spec.clusterIPs[1]"])));
        assert!(!is_about_addresses(&status(422, &["spec.trafficDistribution"])));
        assert!(!is_about_addresses(&status(422, &["spec.clusterIPs", "spec.ports[0].port"])));
        assert!(!is_about_addresses(&status(422, &[""])), "a policy denies it");
        assert!(!is_about_addresses(&status(422, &[])));
        assert!(!is_about_addresses(&status(500, &["spec.clusterIPs"])), "a webhook does not answer");
        let starting = refused(422, [("spec.clusterIPs", "failed to allocate IP 10.43.0.9: allocator not ready")]);
        assert!(!is_about_addresses(&starting));
    }
}
