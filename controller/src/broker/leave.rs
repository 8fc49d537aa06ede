//! Leaving: nothing of the cluster stays on the broker, and nothing of the others stays here.

use std::time::Duration;

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

/// Answers that refuse the credential which are not believed yet, and the wait after each: a server that has just started,
/// or reads its rights anew, refuses everybody.
const DOUBTS: usize = 3;
const DOUBT: Duration = Duration::from_millis(700);

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
    /// What the broker, which refuses the credential, did not let go of: nothing, where an earlier try or an administrator
    /// was first.
    Refused,
    /// The broker was not asked: an administrator has to remove the Member there.
    BrokerUntouched,
}

impl Left {
    /// What is said of a cluster that has left.
    pub fn tell(self, cluster: &ClusterId) -> String {
        let behind = match self {
            Self::Clean => String::new(),
            Self::IdOfAnother => {
                "; on the broker nothing was removed, since another living cluster has this ID".to_owned()
            }
            Self::Refused => format!(
                "; the broker refused its credential, so that it could not look what is left there: if Member {cluster} is, \
                 `linkspan member remove {cluster}` is to be run there"
            ),
            Self::BrokerUntouched => format!(
                "; the broker was not asked: if it comes back, `linkspan member remove {cluster}` is to be run there"
            ),
        };
        format!("this cluster has left{behind}; put a new token into Secret linkspan-join to join again")
    }
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
    /// That of another living cluster which held the ID when the broker was last asked.
    pub holder: Option<&'a str>,
    /// Whether a copy of this cluster lives, which has its ID and its UID.
    pub has_copy: bool,
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
    // What is on the broker is the other one's as well.
    if own.has_copy {
        return Ok(Left::IdOfAnother);
    }
    let cluster = own.cluster;
    let (member, credential) = (account::member(cluster), account::credential(cluster));
    let members: Api<Member> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let held = match believed(|| leases.get_opt(&member)).await {
        Err(error) if is_refusal(&error) && own.holder.is_some() => return Ok(Left::IdOfAnother),
        Err(error) if is_refusal(&error) => {
            at_broker("give up what the broker lets go of", give_up(client, namespace, cluster).await)?;
            return Ok(Left::Refused);
        }
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

/// What the broker answers; that it refuses, it has to say more than once.
async fn believed<T, F: Future<Output = Result<T, kube::Error>>>(ask: impl Fn() -> F) -> Result<T, kube::Error> {
    for _ in 0..DOUBTS {
        match ask().await {
            Err(error) if is_refusal(&error) => tokio::time::sleep(DOUBT).await,
            answer => return answer,
        }
    }
    ask().await
}

/// Removes the accounts of a cluster whose credential is good for nothing else any more: an earlier try stopped when it had
/// given up the Member's rights, or somebody else took them. What is refused stays.
async fn give_up(client: &Client, namespace: &str, cluster: &ClusterId) -> Result<(), kube::Error> {
    let (member, credential) = (account::member(cluster), account::credential(cluster));
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    unless_refused(join::clean_up(client, namespace, cluster).await)?;
    unless_refused(delete(&bindings, &member).await)?;
    unless_refused(delete(&accounts, &member).await)?;
    let _ = futures::join!(delete(&roles, &credential), delete(&bindings, &credential));
    Ok(())
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

fn unless_refused(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    result.or_else(|error| if is_refusal(&error) { Ok(()) } else { Err(error) })
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use kube::core::Status;

    use super::*;

    /// What is believed of these answers, and how many more there would be.
    async fn asked(codes: &[u16]) -> (Option<u16>, usize) {
        let left = RefCell::new(codes.iter());
        let answer = || match left.borrow_mut().next() {
            Some(&code) if code != 200 => Err(kube::Error::Api(Box::new(Status::failure("no", "No").with_code(code)))),
            _ => Ok(()),
        };
        let code = match believed(|| std::future::ready(answer())).await {
            Err(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        };
        (code, left.into_inner().len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_when_it_lasts() {
        assert_eq!(asked(&[200, 200]).await, (None, 1));
        assert_eq!(asked(&[401, 403, 403, 200, 200]).await, (None, 1));
        assert_eq!(asked(&[403, 403, 403, 401, 200]).await, (Some(401), 1));
        assert_eq!(asked(&[403, 500, 200]).await, (Some(500), 1), "another error is for the next try to leave");
    }

    #[test]
    fn who_may_have_left_something_says_how_it_is_removed() {
        let paris = "paris".parse().unwrap();
        let told = Left::Refused.tell(&paris);
        assert!(told.contains("if Member paris is, `linkspan member remove paris` is to be run there"), "{told}");
        let clean = "this cluster has left; put a new token into Secret linkspan-join to join again";
        assert_eq!(Left::Clean.tell(&paris), clean);
    }
}
