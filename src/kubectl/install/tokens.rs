//! `token create|list|revoke`: join tokens, with the rights of an administrator of the broker.

use std::time::Duration;

use anyhow::bail;
use controller::broker::token::{self, Replace, TokenError, TokenInfo, TokenState, Wanted};
use controller::broker::{BrokerAddress, JoinToken, Removal};
use controller::members::ClusterId;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::server;
use crate::kubectl::contexts::Target;
use crate::kubectl::errors::explain;
use crate::kubectl::output::{self, Field, Format, Listing, Screen, Tone};

/// What kind of token is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// The cluster that may join.
    pub cluster: ClusterId,
    /// Namespace of the broker.
    pub namespace: String,
    /// Name of the clusterset.
    pub clusterset: String,
    /// URL at which the cluster reaches the broker; found where it is not given.
    pub server: Option<String>,
    /// Certificates that the API server is known by, PEM; those of the kubeconfig where they are not given.
    pub certificates: Option<String>,
    /// How long the token can be used.
    pub lifetime: Duration,
    /// What to do with a living cluster of that ID.
    pub replace: Replace,
}

/// Makes a join token.
///
/// # Errors
/// The broker's address cannot be told, a cluster of that ID is alive, or the API server refused.
pub async fn create(broker: &Target, order: &Order) -> anyhow::Result<JoinToken> {
    let server = server_of(broker, order).await?;
    let Some(ca) = order.certificates.clone().or_else(|| server::certificates(&broker.config)) else {
        bail!(
            "the kubeconfig names no certificate authority of the broker's API server, and Linkspan's pods trust none by \
             themselves: give --certificates with a PEM file of the authority that has signed the certificate of {server}"
        );
    };
    let wanted = Wanted {
        cluster: order.cluster.clone(),
        broker: BrokerAddress {
            server,
            ca: Some(ca),
            namespace: order.namespace.clone(),
            clusterset: order.clusterset.clone(),
        },
        lifetime: order.lifetime,
        replace: order.replace,
    };
    token::create(&broker.client, &wanted, Timestamp::now()).await.map_err(told)
}

/// The URL at which clusters reach the broker, without a slash at its end.
///
/// # Errors
/// It is not given and cannot be told.
pub(super) async fn server_of(broker: &Target, order: &Order) -> anyhow::Result<String> {
    match &order.server {
        Some(server) => Ok(server.trim_end_matches('/').to_owned()),
        None => server::url(broker).await,
    }
}

/// Prints a new token; in any form it is a secret.
///
/// # Errors
/// Standard output cannot be written.
pub fn show(token: &JoinToken, format: Format) -> anyhow::Result<()> {
    let packed = token.dangerously_pack();
    let whole = json!({
        "cluster": token.cluster.to_string(),
        "server": token.broker.server,
        "expires": token.expires.to_string(),
        "token": packed,
    });
    output::print(&match format {
        Format::Table | Format::Wide => format!("{packed}\n"),
        Format::Json => output::json(&whole)?,
        Format::Yaml => output::yaml(&whole)?,
        Format::Name => format!("token/{}\n", token.cluster),
    })
}

/// Lists join tokens and what became of them.
///
/// # Errors
/// The API server refused.
pub async fn list(broker: &Target, namespace: &str, format: Format) -> anyhow::Result<()> {
    let tokens = token::list(&broker.client, namespace, Timestamp::now()).await.map_err(told)?;
    let text = match format {
        Format::Table | Format::Wide => listing(&tokens).draw(format, Screen::of_stdout()),
        Format::Json => output::json(&tokens.iter().map(value).collect::<Vec<_>>())?,
        Format::Yaml => output::yaml(&tokens.iter().map(value).collect::<Vec<_>>())?,
        Format::Name => tokens.iter().map(|token| format!("token/{}\n", token.cluster)).collect(),
    };
    if tokens.is_empty() && format.is_table() {
        eprintln!("there are no join tokens in namespace {namespace} of {}", broker.name);
    }
    output::print(&text)
}

/// Takes a join token back.
///
/// # Errors
/// There is no such token, or no broker, or the API server refused.
pub async fn revoke(broker: &Target, namespace: &str, cluster: &ClusterId) -> anyhow::Result<()> {
    match token::revoke(&broker.client, namespace, cluster).await.map_err(told)? {
        Removal::Done => output::print(&format!("the join token of {cluster} is revoked\n")),
        Removal::NothingThere => bail!(
            "there is no join token of {cluster} in namespace {namespace} of {}; `kubectl linkspan token list` names all",
            broker.name
        ),
    }
}

/// Removes a Member that is lost.
///
/// # Errors
/// There is no such Member, or no broker, or the API server refused.
pub async fn remove_member(broker: &Target, namespace: &str, cluster: &ClusterId) -> anyhow::Result<()> {
    match token::remove_member(&broker.client, namespace, cluster).await.map_err(told)? {
        Removal::Done => {
            output::print(&format!("{cluster} is removed from the clusterset; the others forget it at once\n"))
        }
        Removal::NothingThere => bail!(
            "there is no Member {cluster} in namespace {namespace} of {}; `kubectl get members -n {namespace}` names all",
            broker.name
        ),
    }
}

fn told(error: TokenError) -> anyhow::Error {
    match error {
        TokenError::Api { action, source } => anyhow::anyhow!("failed to {action}: {}", explain(&source)),
        TokenError::NoBroker(namespace) => anyhow::anyhow!(
            "there is no broker in namespace {namespace}: run `kubectl linkspan deploy-broker`, or apply deploy/crds and \
             deploy/broker"
        ),
        other => other.into(),
    }
}

fn state(token: &TokenInfo) -> (&'static str, Tone) {
    match token.state {
        TokenState::Usable => ("usable", Tone::Good),
        TokenState::Used => ("used", Tone::Plain),
        TokenState::Expired => ("expired", Tone::Warning),
    }
}

fn value(token: &TokenInfo) -> Value {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    json!({
        "cluster": token.cluster,
        "state": state(token).0,
        "expires": time(token.expires),
        "created": time(token.created),
    })
}

fn listing(tokens: &[TokenInfo]) -> Listing {
    let mut listing = Listing::new(&["CLUSTER", "STATE", "EXPIRES", "CREATED"], &[]);
    let time = |at: Option<Timestamp>| Field::from(at.map(|at| at.to_string()).unwrap_or_default());
    for token in tokens {
        let (word, tone) = state(token);
        listing.rows.push(vec![
            token.cluster.as_str().into(),
            Field::new(word, tone),
            time(token.expires),
            time(token.created),
        ]);
    }
    listing
}
