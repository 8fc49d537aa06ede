//! Join tokens, from the administrator's side: made, listed, revoked; and Members removed.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::account::{self, ANNOTATION_EXPIRES, MEMBER_ROLE};
use super::join_token::{BrokerAddress, JoinToken};
use super::remove::{DryRun, forget, reference, remove, remove_records};
use super::secret::Secret;
use super::{describe, lease, policies};
use crate::api::Member;
use crate::api::names::{LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGED_BY};
use crate::members::ClusterId;

/// How long a join token lives unless told otherwise.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Shortest life that an API server gives to a token (`TokenRequest`, validation).
pub const SHORTEST: Duration = Duration::from_secs(600);

/// How often a Lease is read that may still be renewed.
const LOOK: Duration = Duration::from_millis(500);

/// What to do with a cluster of the same ID that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Refuse.
    No,
    /// Revoke its credential: it is to be replaced.
    Yes,
}

/// What kind of token is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The cluster that may join with it.
    pub cluster: ClusterId,
    /// How the cluster reaches the broker.
    pub broker: BrokerAddress,
    /// How long the token can be used.
    pub lifetime: Duration,
    /// What to do with a living cluster of that ID.
    pub replace: Replace,
}

/// Why a token cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The cluster is alive.
    #[error(
        "cluster {cluster} is joined and alive (last heartbeat {renewed}): a second one cannot have its ID; if it is to \
         be replaced, revoke its credential with --replace"
    )]
    Alive {
        /// The cluster.
        cluster: ClusterId,
        /// Its last heartbeat.
        renewed: Timestamp,
    },
    /// It would expire too soon.
    #[error("a join token lives at least {} minutes", SHORTEST.as_secs() / 60)]
    TooShort,
    /// The broker is not set up.
    #[error("there is no broker in namespace {0}: apply deploy/crds and deploy/broker first")]
    NoBroker(String),
    /// Members would not be kept from each other's objects.
    #[error(
        "ValidatingAdmissionPolicy {policy} is missing, has no binding, or is for another namespace than {namespace}: \
         without it a Member could write what is others'; apply deploy/broker again"
    )]
    Unprotected {
        /// Namespace of the broker.
        namespace: String,
        /// The policy.
        policy: &'static str,
    },
    /// The API server refused, or cannot be reached.
    #[error("failed to {action}: {}", describe(source))]
    Api {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
}

/// What becomes of a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It can be used.
    Usable,
    /// It was used.
    Used,
    /// It expired unused.
    Expired,
}

/// A join token, without what is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// The cluster that may join with it.
    pub cluster: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it expires.
    pub expires: Option<Timestamp>,
    /// What became of it.
    pub state: TokenState,
}

/// What is there before a token can be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// What an earlier token or cluster of the same ID had.
    pub deleted: Vec<ObjectReference>,
    /// Accounts and rights of the new one.
    pub created: Vec<ObjectReference>,
    /// When the token will have expired.
    pub expires: Timestamp,
}

/// Makes a join token. An earlier one of the same cluster ends, and so does the credential of an earlier cluster of the
/// same ID.
///
/// `client` is an administrator's client of the broker. Where a cluster of that ID has been joined, it takes until its
/// next heartbeat (10 s) to see that it is alive, and as long as a heartbeat counts (40 s) to see that it is not: no clock
/// but the own one is believed. Where there was an earlier token or credential, it takes [`FORGOTTEN`](super::FORGOTTEN) until there is a new one.
///
/// # Errors
/// A cluster of that ID is alive; the broker is not set up, or not protected; its API server refused.
pub async fn create(client: &Client, wanted: &Wanted, now: Timestamp) -> Result<JoinToken, TokenError> {
    let cluster = &wanted.cluster;
    let apis = Apis::new(client, &wanted.broker.namespace, DryRun::None);
    apis.prepare(wanted, later(now, wanted.lifetime)).await?;
    let lifetime = account::token_request(wanted.lifetime);
    let token = apis.accounts.create_token_request(&account::join(cluster), &PostParams::default(), &lifetime).await;
    let (token, expires) = issued(failed("make the join token", token)?);
    Ok(JoinToken { broker: wanted.broker.clone(), cluster: cluster.clone(), expires, token })
}

/// What [`create`] would do, without a token: it looks as long for a living cluster, and refuses the same.
///
/// # Errors
/// As [`create`].
pub async fn rehearse(
    client: &Client,
    wanted: &Wanted,
    now: Timestamp,
    dry_run: DryRun,
) -> Result<Prepared, TokenError> {
    Apis::new(client, &wanted.broker.namespace, dry_run).prepare(wanted, later(now, wanted.lifetime)).await
}

/// All join tokens, sorted by cluster.
///
/// # Errors
/// The API server refused.
pub async fn list(client: &Client, namespace: &str, now: Timestamp) -> Result<Vec<TokenInfo>, TokenError> {
    let apis = Apis::new(client, namespace, DryRun::None);
    let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    let accounts = failed("list join tokens", apis.accounts.list(&ours).await)?;
    let bindings = failed("list join tokens", apis.bindings.list(&ours).await)?;
    let unused: Vec<String> = bindings.items.iter().map(RoleBinding::name_any).collect();
    let tokens = accounts.items.iter().filter(|account| account.name_any().starts_with(account::JOIN_PREFIX));
    let mut infos: Vec<TokenInfo> = tokens.map(|account| info(account, &unused, now)).collect();
    infos.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Ok(infos)
}

/// Ends the join token of a cluster. Who has joined with it stays joined. Tells what was deleted, or would be. After
/// [`FORGOTTEN`](super::FORGOTTEN), a copy of it is of no use even where a new one is made.
///
/// # Errors
/// The broker is not set up, or its API server refused.
pub async fn revoke(
    client: &Client,
    namespace: &str,
    cluster: &ClusterId,
    dry_run: DryRun,
) -> Result<Vec<ObjectReference>, TokenError> {
    let apis = Apis::new(client, namespace, dry_run);
    apis.expect_broker(namespace).await?;
    apis.remove_join(cluster).await
}

/// Removes a Member that is lost: its objects, its credential and its join token. Other clusters forget it at once. Tells
/// what was deleted, or would be. After [`FORGOTTEN`](super::FORGOTTEN), its credential is of no use even where the cluster joins again.
///
/// # Errors
/// The broker is not set up, or its API server refused; what was removed by then stays so.
pub async fn remove_member(
    client: &Client,
    namespace: &str,
    cluster: &ClusterId,
    dry_run: DryRun,
) -> Result<Vec<ObjectReference>, TokenError> {
    let apis = Apis::new(client, namespace, dry_run);
    apis.expect_broker(namespace).await?;
    // First its right to write, so that nothing comes back.
    let mut removed = apis.remove_accounts(cluster).await?;
    let records = remove_records(client, namespace, cluster, dry_run).await;
    removed.extend(failed("remove its ServiceRecords", records)?);
    removed.extend(failed("remove the Member", remove(&apis.members, cluster.as_str(), dry_run).await)?);
    removed.extend(failed("remove its Lease", remove(&apis.leases, &account::member(cluster), dry_run).await)?);
    Ok(removed)
}

fn info(account: &ServiceAccount, bindings: &[String], now: Timestamp) -> TokenInfo {
    let expires = account.annotations().get(ANNOTATION_EXPIRES).and_then(|text| text.parse().ok());
    let state = if !bindings.contains(&account.name_any()) {
        TokenState::Used
    } else if expires.is_some_and(|expires| now >= expires) {
        TokenState::Expired
    } else {
        TokenState::Usable
    };
    let cluster = account.labels().get(LABEL_CLUSTER).cloned().unwrap_or_default();
    TokenInfo { cluster, created: account.creation_timestamp().map(|time| time.0), expires, state }
}

/// Looks whether a cluster of that ID still renews its Lease, for as long as one heartbeat counts.
async fn refuse_living(apis: &Apis, wanted: &Wanted) -> Result<(), TokenError> {
    let name = account::member(&wanted.cluster);
    let read = async || {
        let lease = failed("read the cluster's Lease", apis.leases.get_opt(&name).await)?;
        Ok(lease.as_ref().and_then(lease::heartbeat))
    };
    let Some(first) = read().await?.filter(|_| wanted.replace == Replace::No) else { return Ok(()) };
    let mut waited = Duration::ZERO;
    while waited < first.counts {
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
        match read().await? {
            Some(next) if next == first => {}
            Some(next) => return Err(TokenError::Alive { cluster: wanted.cluster.clone(), renewed: next.renewed }),
            None => return Ok(()),
        }
    }
    Ok(())
}

fn failed<T>(action: &str, result: Result<T, kube::Error>) -> Result<T, TokenError> {
    result.map_err(|source| TokenError::Api { action: action.to_owned(), source: Box::new(source) })
}

/// `time` and so much more.
fn later(time: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// The token that an API server has made, and when it expires. One that says nothing is of no use to anybody.
pub(super) fn issued(request: TokenRequest) -> (Secret, Timestamp) {
    match request.status {
        Some(status) => (Secret::new(status.token), status.expiration_timestamp.0),
        None => (Secret::new(String::new()), Timestamp::MIN),
    }
}

struct Apis {
    client: Client,
    dry_run: DryRun,
    claims: Api<ConfigMap>,
    accounts: Api<ServiceAccount>,
    roles: Api<Role>,
    bindings: Api<RoleBinding>,
    leases: Api<Lease>,
    members: Api<Member>,
}

impl Apis {
    fn new(client: &Client, namespace: &str, dry_run: DryRun) -> Self {
        Self {
            client: client.clone(),
            dry_run,
            claims: Api::namespaced(client.clone(), namespace),
            accounts: Api::namespaced(client.clone(), namespace),
            roles: Api::namespaced(client.clone(), namespace),
            bindings: Api::namespaced(client.clone(), namespace),
            leases: Api::namespaced(client.clone(), namespace),
            members: Api::namespaced(client.clone(), namespace),
        }
    }

    /// Without its roles a namespace is no broker.
    async fn expect_broker(&self, namespace: &str) -> Result<(), TokenError> {
        let role = failed("read the broker's roles", self.roles.get_opt(MEMBER_ROLE).await)?;
        role.map(drop).ok_or_else(|| TokenError::NoBroker(namespace.to_owned()))
    }

    /// Takes away what an earlier token or cluster of the same ID has, and makes the accounts and rights of a new one.
    async fn prepare(&self, wanted: &Wanted, expires: Timestamp) -> Result<Prepared, TokenError> {
        if wanted.lifetime < SHORTEST {
            return Err(TokenError::TooShort);
        }
        let cluster = &wanted.cluster;
        let namespace = &wanted.broker.namespace;
        self.expect_broker(namespace).await?;
        if let Some(policy) = failed("read the broker's policies", policies::missing(&self.client, namespace).await)? {
            return Err(TokenError::Unprotected { namespace: namespace.clone(), policy });
        }
        refuse_living(self, wanted).await?;
        let mut deleted = self.remove_accounts(cluster).await?;
        let lease = remove(&self.leases, &account::member(cluster), self.dry_run).await;
        deleted.extend(failed("release the cluster's Lease", lease)?);
        forget(&deleted, self.dry_run).await;
        let mut created = self.create_member(cluster).await?;
        created.extend(self.create_join(cluster, expires).await?);
        Ok(Prepared { deleted, created, expires })
    }

    /// Rights first: an account without them is harmless.
    async fn remove_join(&self, cluster: &ClusterId) -> Result<Vec<ObjectReference>, TokenError> {
        let (name, how) = (account::join(cluster), self.dry_run);
        let binding = failed("remove the join token's RoleBinding", remove(&self.bindings, &name, how).await)?;
        let role = failed("remove the join token's Role", remove(&self.roles, &name, how).await)?;
        let claim = failed("remove the join token's ConfigMap", remove(&self.claims, &name, how).await)?;
        let account = failed("remove the join token's ServiceAccount", remove(&self.accounts, &name, how).await)?;
        Ok([binding, role, claim, account].into_iter().flatten().collect())
    }

    async fn remove_accounts(&self, cluster: &ClusterId) -> Result<Vec<ObjectReference>, TokenError> {
        let how = self.dry_run;
        let mut removed = self.remove_join(cluster).await?;
        for name in [account::member(cluster), account::credential(cluster)] {
            let binding = remove(&self.bindings, &name, how).await;
            removed.extend(failed("remove the Member's RoleBindings", binding)?);
            removed.extend(failed("remove the Member's Role", remove(&self.roles, &name, how).await)?);
        }
        let account = remove(&self.accounts, &account::member(cluster), how).await;
        removed.extend(failed("revoke the Member's credential", account)?);
        Ok(removed)
    }

    async fn create_member(&self, cluster: &ClusterId) -> Result<Vec<ObjectReference>, TokenError> {
        let mut created = Vec::new();
        let account = account::account(cluster, account::member(cluster), &[]);
        let account = self.make(&self.accounts, account, &mut created).await;
        let account = failed("create the Member's ServiceAccount", account)?;
        let role = self.make(&self.roles, account::credential_role(cluster, &account), &mut created).await;
        let role = failed("create the Member's Role", role)?;
        let bindings =
            [(account::credential(cluster), role.name_any()), (account::member(cluster), MEMBER_ROLE.into())];
        for (name, role) in bindings {
            let binding = account::binding(cluster, name, &role, &account);
            failed("create the Member's RoleBinding", self.make(&self.bindings, binding, &mut created).await)?;
        }
        Ok(created)
    }

    async fn create_join(&self, cluster: &ClusterId, expires: Timestamp) -> Result<Vec<ObjectReference>, TokenError> {
        let (mut created, name) = (Vec::new(), account::join(cluster));
        let account = account::account(cluster, name.clone(), &[(ANNOTATION_EXPIRES, expires.to_string())]);
        let account = self.make(&self.accounts, account, &mut created).await;
        let account = failed("create the join token's ServiceAccount", account)?;
        let claim = self.make(&self.claims, account::claim(cluster, &account), &mut created).await;
        failed("create the join token's ConfigMap", claim)?;
        let role = self.make(&self.roles, account::join_role(cluster, &account), &mut created).await;
        failed("create the join token's Role", role)?;
        let binding = account::binding(cluster, name.clone(), &name, &account);
        failed("create the join token's RoleBinding", self.make(&self.bindings, binding, &mut created).await)?;
        Ok(created)
    }

    /// Creates an object, or as much of that as a dry run does.
    async fn make<K>(&self, api: &Api<K>, object: K, created: &mut Vec<ObjectReference>) -> Result<K, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
    {
        created.push(reference::<K>(api.namespace(), &object.name_any()));
        if self.dry_run == DryRun::Client {
            return Ok(object);
        }
        let how = PostParams { dry_run: self.dry_run == DryRun::Server, ..PostParams::default() };
        match api.create(&how, &object).await {
            // It would have been deleted a moment earlier; others belong to it by its UID.
            Err(kube::Error::Api(status)) if self.dry_run == DryRun::Server && status.is_already_exists() => {
                api.get(&object.name_any()).await
            }
            // What it needs would have been made.
            Err(kube::Error::Api(status)) if self.dry_run == DryRun::Server && status.is_not_found() => Ok(object),
            made => made,
        }
    }
}
