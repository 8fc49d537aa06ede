//! Joining: a join token becomes the Member's own credential, which then renews itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::account::{ANNOTATION_NONCE, NONCE_KEY};
use super::connect::ConnectError;
use super::credential::Credential;
use super::join_token::{BrokerAddress, JoinToken};
use super::remove::delete;
use super::{account, describe, token};
use crate::members::ClusterId;

/// Tries to get the credential after the token was claimed, and the wait between them: 3 s in all.
const CLAIM_TRIES: u32 = 30;
const CLAIM_WAIT: Duration = Duration::from_millis(100);

/// Why a join token did not become a credential.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its time is over.
    #[error("the join token of cluster {cluster} expired at {expires}; make a new one with `linkspan token create`")]
    Expired {
        /// The cluster.
        cluster: ClusterId,
        /// When.
        expires: Timestamp,
    },
    /// Somebody has used it.
    #[error(
        "the join token of cluster {cluster} was used already; if not by this cluster, revoke the credential it became \
         with `linkspan member remove {cluster}`, then make a new token"
    )]
    Used {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The broker does not know it.
    #[error(
        "the broker does not know the join token of cluster {cluster}: it was revoked, replaced by a newer \
         one, or has expired by the broker's clock"
    )]
    Revoked {
        /// The cluster.
        cluster: ClusterId,
    },
    /// It is for another cluster.
    #[error("the join token is for cluster {token}, and this is cluster {own}: correct one of them")]
    WrongCluster {
        /// Whose it is.
        token: ClusterId,
        /// Who this is.
        own: ClusterId,
    },
    /// The broker's address cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker refused, or cannot be reached.
    #[error("failed to {action}: {}", describe(source))]
    Api {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },
}

impl JoinError {
    /// Whether another try with the same token may succeed.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Api { .. })
    }

    /// One word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "TokenExpired",
            Self::Used { .. } => "TokenUsed",
            Self::Revoked { .. } => "TokenRevoked",
            Self::WrongCluster { .. } => "TokenOfOtherCluster",
            Self::Connect(_) => "InvalidToken",
            Self::Api { .. } => "BrokerUnreachable",
        }
    }
}

/// Exchanges a join token for the Member's own credential. `client` uses the token ([`JoinToken::client`]); `nonce` is 32
/// to 128 characters that nobody else knows, the same one when the exchange is tried again. When the credential is kept,
/// [`use_up`] ends the token.
///
/// # Guarantees
/// Of all who have the token, one gets a credential: the first whose nonce stands in ConfigMap `join-<id>`. The broker's
/// policies let nobody replace it, and give a credential to nobody else. Who stole a token and was first is found out:
/// the cluster's own exchange fails. Whose answer was lost gets a credential at the next try.
///
/// # Errors
/// The token is expired, used, revoked or another cluster's; the broker refused or cannot be reached.
pub async fn exchange(
    client: &Client,
    join: &JoinToken,
    own: &ClusterId,
    lifetime: Duration,
    nonce: &str,
    now: Timestamp,
) -> Result<Credential, JoinError> {
    if join.cluster != *own {
        return Err(JoinError::WrongCluster { token: join.cluster.clone(), own: own.clone() });
    }
    if now >= join.expires {
        return Err(JoinError::Expired { cluster: own.clone(), expires: join.expires });
    }
    claim(client, &join.broker.namespace, own, nonce).await?;
    claimed_credential(client, join, own, lifetime, nonce, now).await
}

/// Takes the rights of a join token away, which has become a credential that is kept: before, a lost answer would be a
/// lost token. Where this fails, the token is of use to nobody else, and goes with [`clean_up`].
///
/// # Errors
/// The broker refused or cannot be reached.
pub async fn use_up(client: &Client, join: &JoinToken) -> Result<(), kube::Error> {
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &join.broker.namespace);
    delete(&bindings, &account::join(&join.cluster)).await
}

/// Writes the nonce, if there is none yet.
async fn claim(client: &Client, namespace: &str, own: &ClusterId, nonce: &str) -> Result<(), JoinError> {
    let claims: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({ "data": { NONCE_KEY: nonce } }));
    match claims.patch(&account::join(own), &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        // Whoever used the token has removed what is left of it.
        Err(kube::Error::Api(status)) if status.is_not_found() => Err(JoinError::Used { cluster: own.clone() }),
        Err(error) => Err(refused(error, own, "claim the join token")),
    }
}

/// Asks for the credential. The API server reads its policies' parameters a moment after they were written.
async fn claimed_credential(
    client: &Client,
    join: &JoinToken,
    own: &ClusterId,
    lifetime: Duration,
    nonce: &str,
    now: Timestamp,
) -> Result<Credential, JoinError> {
    let mut tries = 0;
    loop {
        let joined_with = join.fingerprint();
        let issue = Issue { broker: &join.broker, cluster: own, joined_with, lifetime, now };
        tries += 1;
        match issue.credential(client, Some(nonce)).await {
            Ok(credential) => return Ok(credential),
            Err(kube::Error::Api(status)) if status.code == 403 && tries < CLAIM_TRIES => {
                tokio::time::sleep(CLAIM_WAIT).await;
            }
            Err(error) => return Err(refused(error, own, "exchange the join token")),
        }
    }
}

/// Renews a credential with itself. `client` uses it ([`Credential::client`]).
///
/// # Errors
/// The broker refused or cannot be reached.
pub async fn renew(
    client: &Client,
    credential: &Credential,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Credential, kube::Error> {
    let joined_with = credential.joined_with.clone();
    Issue { broker: &credential.broker, cluster: &credential.cluster, joined_with, lifetime, now }
        .credential(client, None)
        .await
}

/// Removes what is left of the join token, with the Member's credential.
///
/// # Errors
/// The broker refused or cannot be reached.
pub async fn clean_up(client: &Client, namespace: &str, cluster: &ClusterId) -> Result<(), kube::Error> {
    let name = account::join(cluster);
    delete(&Api::<RoleBinding>::namespaced(client.clone(), namespace), &name).await?;
    delete(&Api::<Role>::namespaced(client.clone(), namespace), &name).await?;
    delete(&Api::<ConfigMap>::namespaced(client.clone(), namespace), &name).await?;
    delete(&Api::<ServiceAccount>::namespaced(client.clone(), namespace), &name).await
}

struct Issue<'a> {
    broker: &'a BrokerAddress,
    cluster: &'a ClusterId,
    joined_with: String,
    lifetime: Duration,
    now: Timestamp,
}

impl Issue<'_> {
    async fn credential(self, client: &Client, nonce: Option<&str>) -> Result<Credential, kube::Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &self.broker.namespace);
        let mut request = token::request(self.lifetime);
        let nonce = nonce.map(|nonce| (ANNOTATION_NONCE.to_owned(), nonce.to_owned()));
        request.metadata.annotations = nonce.map(|nonce| [nonce].into());
        let name = account::member(self.cluster);
        let issued = accounts.create_token_request(&name, &PostParams::default(), &request).await?;
        let (token, expires) = token::issued(issued);
        Ok(Credential {
            broker: self.broker.clone(),
            cluster: self.cluster.clone(),
            issued: self.now,
            expires,
            joined_with: self.joined_with,
            token,
        })
    }
}

/// What an answer says about a join token: 401 that nobody knows it, 403 that its rights are gone.
fn refused(error: kube::Error, cluster: &ClusterId, action: &'static str) -> JoinError {
    match &error {
        kube::Error::Api(status) if status.code == 401 => JoinError::Revoked { cluster: cluster.clone() },
        kube::Error::Api(status) if status.code == 403 => JoinError::Used { cluster: cluster.clone() },
        _ => JoinError::Api { action, source: Box::new(error) },
    }
}
