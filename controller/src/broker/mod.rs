//! The broker: where Members meet, and how a cluster joins, stays joined and leaves.
//!
//! A broker is a namespace of any Kubernetes API server with our CRDs, RBAC and admission policies (`deploy/broker`);
//! nothing of ours runs there. [`token`] is the administrator's side, [`join`] and [`leave`](leave()) the cluster's, and
//! [`run()`] keeps a cluster joined: its own Member and ServiceRecords go up, the others' come down after they were judged.
//!
//! The local API server is the last known state: everything else in a cluster reads from there, so nothing but news
//! from others waits for the broker. When it is away, nothing goes.

pub mod account;
mod action;
mod apply;
mod config;
mod connect;
mod connection;
mod credential;
mod down;
pub mod join;
mod join_token;
mod kept;
mod lease;
mod leave;
mod liveness;
mod news;
mod plan;
mod policies;
mod properties;
mod records;
mod remote;
mod remove;
mod retry;
mod run;
mod secret;
mod secrets;
mod seen;
mod session;
mod shell;
pub mod status;
mod store;
mod tally;
pub mod token;
mod up;
mod watch;
mod world;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _};

pub use config::BrokerConfig;
pub use connect::ConnectError;
pub use credential::{Credential, InvalidCredential};
pub use join_token::{BrokerAddress, InvalidJoinToken, JoinToken};
pub use leave::{LeaveError, Leaver, Left, ask_to_leave, ask_to_leave_without_broker, leave};
pub use properties::cluster_id;
pub use remove::{DryRun, FORGOTTEN, forget};
pub use run::run;
pub use secret::Secret;
pub use secrets::{ANNOTATION_USED, TOKEN_KEY};
pub use tally::{MAX_BYTES, MAX_ENDPOINTS, MAX_RECORDS};

/// UID of the namespace `kube-system`, by which clusters are told apart.
///
/// # Errors
/// The API server refused, or cannot be reached.
pub async fn cluster_uid(client: &Client) -> Result<String, kube::Error> {
    let namespace = Api::<Namespace>::all(client.clone()).get("kube-system").await?;
    Ok(namespace.uid().unwrap_or_default())
}

/// An API error for people: what the server said, or the innermost cause.
pub(crate) fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
