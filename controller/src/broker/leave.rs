//! Leaving: nothing of the cluster stays on the broker, and nothing of the others stays here.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret as KubeSecret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::remove::{delete, delete_records};
use super::{account, describe, join, properties};
use crate::api::names::{ANNOTATION_LEAVE, LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGED_BY, SECRET_BROKER, SECRET_JOIN};
use crate::api::{Member, ServiceRecord};
use crate::members::ClusterId;

/// Why leaving stopped. Another try continues.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action}: {}", describe(source))]
pub struct LeaveError {
    /// What was tried.
    action: &'static str,
    /// Why it failed.
    source: Box<kube::Error>,
}

/// What was left behind, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Clean,
    /// The broker was not asked: an administrator has to remove the Member there.
    BrokerUntouched,
}

/// Asks a running controller to leave: it does so within a second, and deletes its credential when it is done.
///
/// # Errors
/// There is no credential (not found), or the API server refused.
pub async fn ask_to_leave(local: &Client, namespace: &str) -> Result<(), kube::Error> {
    let secrets: Api<KubeSecret> = Api::namespaced(local.clone(), namespace);
    let patch = json!({ "metadata": { "annotations": { ANNOTATION_LEAVE: "true" } } });
    secrets.patch(SECRET_BROKER, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Removes every trace of `cluster` on the broker, and of the clusterset in its own API server.
///
/// `broker` is a client with the Member's own credential and the broker's namespace; `None` where the broker is lost.
/// No controller may run meanwhile but the one that calls this.
///
/// # Errors
/// At the first failure; what was removed by then stays so, and the credential stays until all is done.
pub async fn leave(
    local: &Client,
    namespace: &str,
    cluster: &ClusterId,
    broker: Option<(&Client, &str)>,
) -> Result<Left, LeaveError> {
    if let Some((client, broker_namespace)) = broker {
        leave_broker(client, broker_namespace, cluster).await?;
    }
    leave_home(local, namespace, cluster).await?;
    Ok(if broker.is_some() { Left::Clean } else { Left::BrokerUntouched })
}

async fn leave_broker(client: &Client, namespace: &str, cluster: &ClusterId) -> Result<(), LeaveError> {
    let (member, credential) = (account::member(cluster), account::credential(cluster));
    let members: Api<Member> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let gone = delete_records(client, namespace, cluster).await;
    // A credential that is refused has left already, at an earlier try or by an administrator.
    if matches!(&gone, Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403)) {
        return Ok(());
    }
    failed("remove the ServiceRecords on the broker", gone)?;
    failed("remove the Member on the broker", delete(&members, cluster.as_str()).await)?;
    failed("remove the Lease on the broker", delete(&leases, &member).await)?;
    failed("remove what is left of the join token", join::clean_up(client, namespace, cluster).await)?;
    failed("give up the Member's rights", delete(&bindings, &member).await)?;
    failed("give up the credential", delete(&accounts, &member).await)?;
    // The credential is cached for some seconds; what it does not reach any more goes with its ServiceAccount.
    let _ = futures::join!(delete(&roles, &credential), delete(&bindings, &credential));
    Ok(())
}

async fn leave_home(local: &Client, namespace: &str, cluster: &ClusterId) -> Result<(), LeaveError> {
    let records: Api<ServiceRecord> = Api::namespaced(local.clone(), namespace);
    let members: Api<Member> = Api::namespaced(local.clone(), namespace);
    let secrets: Api<KubeSecret> = Api::namespaced(local.clone(), namespace);
    let foreign = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_CLUSTER}!={cluster}"));
    for record in failed("list ServiceRecords", records.list_metadata(&foreign).await)?.items {
        failed("remove the copy of a ServiceRecord", delete(&records, &record.name_any()).await)?;
    }
    for member in failed("list Members", members.list_metadata(&foreign).await)?.items {
        failed("remove the copy of a Member", delete(&members, &member.name_any()).await)?;
    }
    // It begins anew, and says what it is outside of a clusterset: by which addresses it was known is over.
    failed("remove the own Member", delete(&members, cluster.as_str()).await)?;
    // Where the kind does not exist, nothing was said.
    match properties::unset(local).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => failed("remove the ClusterProperties", other)?,
    }
    failed("remove the join token", delete(&secrets, SECRET_JOIN).await)?;
    failed("remove the credential", delete(&secrets, SECRET_BROKER).await)
}

fn failed<T>(action: &'static str, result: Result<T, kube::Error>) -> Result<T, LeaveError> {
    result.map_err(|source| LeaveError { action, source: Box::new(source) })
}
