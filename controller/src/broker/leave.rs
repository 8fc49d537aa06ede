//! Leaving: nothing of the cluster stays on the broker, and nothing of the others stays here.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret as KubeSecret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::lease::heartbeat;
use super::remove::{delete, delete_records};
use super::{account, describe, join, properties};
use crate::api::names::{
    ANNOTATION_LEAVE, LABEL_CLUSTER, LABEL_MANAGED_BY, LEAVE_WITHOUT_BROKER, MANAGED_BY, SECRET_BROKER, SECRET_JOIN,
};
use crate::api::{Member, ServiceRecord};
use crate::members::ClusterId;

/// Why leaving stopped. Another try continues.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// On the broker.
    #[error(
        "failed to {action}: {}; where the broker is lost for good, `linkspan leave --without-broker` does without it",
        describe(source)
    )]
    Broker {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// In the own API server.
    #[error("failed to {action}: {}", describe(source))]
    Home {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },
}

/// What was left behind, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Clean,
    /// What is on the broker under this ID, which another living cluster holds: it is that one's.
    IdOfAnother,
    /// The broker was not asked: an administrator has to remove the Member there.
    BrokerUntouched,
}

/// Who leaves.
#[derive(Clone, Copy)]
pub struct Leaver<'a> {
    /// A client of its own API server.
    pub local: &'a Client,
    /// Linkspan's namespace there.
    pub namespace: &'a str,
    /// Its cluster ID.
    pub cluster: &'a ClusterId,
    /// UID of its namespace `kube-system`.
    pub cluster_uid: &'a str,
}

/// Asks a running controller to leave: it does so within seconds, and deletes its credential when it is done.
///
/// # Errors
/// There is no credential (not found), or the API server refused.
pub async fn ask_to_leave(local: &Client, namespace: &str) -> Result<(), kube::Error> {
    ask(local, namespace, "true").await
}

/// As [`ask_to_leave`], without asking the broker, which is lost. Who has been asked to leave before may be asked so.
///
/// # Errors
/// As [`ask_to_leave`].
pub async fn ask_to_leave_without_broker(local: &Client, namespace: &str) -> Result<(), kube::Error> {
    ask(local, namespace, LEAVE_WITHOUT_BROKER).await
}

async fn ask(local: &Client, namespace: &str, how: &str) -> Result<(), kube::Error> {
    let secrets: Api<KubeSecret> = Api::namespaced(local.clone(), namespace);
    let patch = json!({ "metadata": { "annotations": { ANNOTATION_LEAVE: how } } });
    secrets.patch(SECRET_BROKER, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Removes every trace of a cluster on the broker, and of the clusterset in its own API server.
///
/// `broker` is a client with the Member's own credential and the broker's namespace; `None` where the broker is lost.
/// No controller may run meanwhile but the one that calls this.
///
/// # Guarantees
/// What another living cluster has under the same ID stays.
///
/// # Errors
/// At the first failure; what was removed by then stays so, and the credential stays until all is done.
pub async fn leave(own: Leaver<'_>, broker: Option<(&Client, &str)>) -> Result<Left, LeaveError> {
    let left = match broker {
        Some((client, namespace)) => leave_broker(client, namespace, own).await?,
        None => Left::BrokerUntouched,
    };
    leave_home(own).await?;
    Ok(left)
}

async fn leave_broker(client: &Client, namespace: &str, own: Leaver<'_>) -> Result<Left, LeaveError> {
    let cluster = own.cluster;
    let (member, credential) = (account::member(cluster), account::credential(cluster));
    let members: Api<Member> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let held = match leases.get_opt(&member).await {
        // A credential that is refused has left already, at an earlier try or by an administrator.
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => return Ok(Left::Clean),
        held => at_broker("ask who holds this ID", held)?,
    };
    // A Lease of another one that is dead would have been taken over: it is presumed to be alive.
    if held.as_ref().and_then(heartbeat).is_some_and(|heartbeat| heartbeat.holder != own.cluster_uid) {
        return Ok(Left::IdOfAnother);
    }
    at_broker("remove the ServiceRecords on the broker", delete_records(client, namespace, cluster).await)?;
    at_broker("remove the Member on the broker", delete(&members, cluster.as_str()).await)?;
    at_broker("remove the Lease on the broker", delete(&leases, &member).await)?;
    at_broker("remove what is left of the join token", join::clean_up(client, namespace, cluster).await)?;
    at_broker("give up the Member's rights", delete(&bindings, &member).await)?;
    at_broker("give up the credential", delete(&accounts, &member).await)?;
    // The credential is cached for some seconds; what it does not reach any more goes with its ServiceAccount.
    let _ = futures::join!(delete(&roles, &credential), delete(&bindings, &credential));
    Ok(Left::Clean)
}

async fn leave_home(own: Leaver<'_>) -> Result<(), LeaveError> {
    let Leaver { local, namespace, cluster, .. } = own;
    let records: Api<ServiceRecord> = Api::namespaced(local.clone(), namespace);
    let members: Api<Member> = Api::namespaced(local.clone(), namespace);
    let secrets: Api<KubeSecret> = Api::namespaced(local.clone(), namespace);
    let foreign = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_CLUSTER}!={cluster}"));
    for record in at_home("list ServiceRecords", records.list_metadata(&foreign).await)?.items {
        at_home("remove the copy of a ServiceRecord", delete(&records, &record.name_any()).await)?;
    }
    for member in at_home("list Members", members.list_metadata(&foreign).await)?.items {
        at_home("remove the copy of a Member", delete(&members, &member.name_any()).await)?;
    }
    // It begins anew, and says what it is outside of a clusterset: by which addresses it was known is over.
    at_home("remove the own Member", delete(&members, cluster.as_str()).await)?;
    // Where the kind does not exist, nothing was said.
    match properties::unset(local).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => at_home("remove the ClusterProperties", other)?,
    }
    at_home("remove the join token", delete(&secrets, SECRET_JOIN).await)?;
    at_home("remove the credential", delete(&secrets, SECRET_BROKER).await)
}

fn at_broker<T>(action: &'static str, result: Result<T, kube::Error>) -> Result<T, LeaveError> {
    result.map_err(|source| LeaveError::Broker { action, source: Box::new(source) })
}

fn at_home<T>(action: &'static str, result: Result<T, kube::Error>) -> Result<T, LeaveError> {
    result.map_err(|source| LeaveError::Home { action, source: Box::new(source) })
}
