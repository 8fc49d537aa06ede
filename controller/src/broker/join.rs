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

/// First and last wait of one exchange for what the broker does not see yet. Each is twice the one before: 3 s in all.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1600));
/// What the broker says where another nonce stands in the claim (`deploy/broker/policy-joining.yaml`).
const USED: &str = "this join token was used already";

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
        "the broker does not know the join token of cluster {cluster}: it was used, revoked or replaced by a newer one, or \
         has expired by the broker's clock"
    )]
    Revoked {
        /// The cluster.
        cluster: ClusterId,
    },
    /// It has no rights. Whether the broker does not see them yet, or an exchange has ended them, cannot be told from here.
    #[error(
        "the broker does not see the rights of the join token of cluster {cluster} yet, or the token was used ({message}); \
         if that stays so, revoke what it became with `linkspan member remove {cluster}`, and make a new token"
    )]
    Refused {
        /// The cluster.
        cluster: ClusterId,
        /// What the broker says.
        message: String,
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
        matches!(self, Self::Api { .. } | Self::Refused { .. })
    }

    /// One word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "TokenExpired",
            Self::Used { .. } => "TokenUsed",
            Self::Revoked { .. } => "TokenRevoked",
            Self::Refused { .. } => "TokenRefused",
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
    let mut patience = Patience { next: WAITS.0 };
    claim(client, join, nonce, &mut patience).await?;
    claimed_credential(client, join, lifetime, nonce, now, &mut patience).await
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

/// What is left of the waits of an exchange.
struct Patience {
    next: Duration,
}

impl Patience {
    /// Waits for another try, where the broker may just not have seen what was written a moment ago; each time longer.
    async fn wait(&mut self, error: kube::Error, join: &JoinToken, action: &'static str) -> Result<(), JoinError> {
        if !is_early(&error) || self.next > WAITS.1 {
            return Err(refused(error, &join.cluster, action));
        }
        tokio::time::sleep(self.next).await;
        self.next *= 2;
        Ok(())
    }
}

/// Whether the broker may just not have seen yet what was written a moment ago: without its rights, a token may do nothing;
/// while an earlier account of that name is remembered, it is nobody's.
fn is_early(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [401, 403].contains(&status.code))
}

/// Writes the nonce, if there is none yet. API servers see RoleBindings a moment after they were written, or after they
/// were started themselves.
async fn claim(client: &Client, join: &JoinToken, nonce: &str, patience: &mut Patience) -> Result<(), JoinError> {
    let claims: Api<ConfigMap> = Api::namespaced(client.clone(), &join.broker.namespace);
    let (name, patch) = (account::join(&join.cluster), Patch::Merge(json!({ "data": { NONCE_KEY: nonce } })));
    loop {
        match claims.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => return Ok(()),
            // Somebody else's nonce is there; or whoever used the token has removed what is left of it.
            Err(kube::Error::Api(status)) if status.message.contains(USED) || status.is_not_found() => {
                return Err(JoinError::Used { cluster: join.cluster.clone() });
            }
            Err(error) => patience.wait(error, join, "claim the join token").await?,
        }
    }
}

/// Asks for the credential. The API server reads its policies' parameters a moment after they were written.
async fn claimed_credential(
    client: &Client,
    join: &JoinToken,
    lifetime: Duration,
    nonce: &str,
    now: Timestamp,
    patience: &mut Patience,
) -> Result<Credential, JoinError> {
    loop {
        let joined_with = join.fingerprint();
        let issue = Issue { broker: &join.broker, cluster: &join.cluster, joined_with, lifetime, now };
        match issue.credential(client, Some(nonce)).await {
            Ok(credential) => return Ok(credential),
            Err(error) => patience.wait(error, join, "exchange the join token").await?,
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
        let mut request = account::token_request(self.lifetime);
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

/// What an answer says about a join token: 401 that nobody knows it, 403 that its rights are not there.
fn refused(error: kube::Error, cluster: &ClusterId, action: &'static str) -> JoinError {
    let cluster = cluster.clone();
    match &error {
        kube::Error::Api(status) if status.code == 401 => JoinError::Revoked { cluster },
        kube::Error::Api(status) if status.code == 403 => {
            JoinError::Refused { cluster, message: status.message.clone() }
        }
        _ => JoinError::Api { action, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_says_that_a_token_was_used_in_the_words_that_are_looked_for() {
        let policy = include_str!("../../../deploy/broker/policy-joining.yaml");
        assert!(policy.contains(&format!("message: {USED}\n")));
    }

    #[test]
    fn who_has_no_rights_yet_tries_again_and_who_was_late_does_not() {
        let cluster: ClusterId = "paris".parse().unwrap();
        let answer = |code| {
            let status = kube::core::Status::failure("rolebinding not found", "Refused").with_code(code);
            let error = kube::Error::Api(Box::new(status));
            let is_early = is_early(&error);
            let error = refused(error, &cluster, "claim the join token");
            (is_early, error.reason(), error.is_passing())
        };
        assert_eq!(answer(403), (true, "TokenRefused", true));
        assert_eq!(answer(500), (false, "BrokerUnreachable", true));
        // It is waited for, and then it is final.
        assert_eq!(answer(401), (true, "TokenRevoked", false));
        let used = JoinError::Used { cluster };
        assert_eq!((used.reason(), used.is_passing()), ("TokenUsed", false));
    }
}
