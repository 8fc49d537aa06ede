//! `token create|list|revoke`: join tokens, with the rights of an administrator of the broker.

use std::time::Duration;

use anyhow::bail;
use controller::broker::token::{self, Replace, TokenError, TokenInfo, TokenState, Wanted};
use controller::broker::{BrokerAddress, JoinToken, forget};
use controller::members::ClusterId;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::objects::{DryRun, Outcome};
use super::server;
use super::steps::Steps;
use crate::kubectl::contexts::Target;
use crate::kubectl::errors::failure;
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
    token::create(&broker.client, &wanted(broker, order).await?, Timestamp::now()).await.map_err(told)
}

async fn wanted(broker: &Target, order: &Order) -> anyhow::Result<Wanted> {
    let server = server_of(broker, order).await?;
    let Some(ca) = order.certificates.clone().or_else(|| server::certificates(&broker.config)) else {
        bail!(
            "the kubeconfig names no certificate authority of the broker's API server, and Linkspan's pods trust none by \
             themselves: give --certificates with a PEM file of the authority that has signed the certificate of {server}"
        );
    };
    Ok(Wanted {
        cluster: order.cluster.clone(),
        broker: BrokerAddress {
            server,
            ca: Some(ca),
            namespace: order.namespace.clone(),
            clusterset: order.clusterset.clone(),
        },
        lifetime: order.lifetime,
        replace: order.replace,
    })
}

/// Shows what making a join token would do. No token is made, and programs see `null` in its place.
///
/// # Errors
/// As [`create`].
pub async fn rehearse(steps: &mut Steps, order: &Order) -> anyhow::Result<()> {
    let wanted = wanted(&steps.target, order).await?;
    let prepared = token::rehearse(&steps.target.client, &wanted, Timestamp::now(), steps.dry_run.into()).await;
    let prepared = prepared.map_err(told)?;
    let whole = json!({
        "cluster": order.cluster.to_string(),
        "server": wanted.broker.server,
        "expires": prepared.expires.to_string(),
        "token": null,
        "deleted": prepared.deleted,
        "created": prepared.created,
    });
    match steps.format {
        Format::Json => output::print(&output::json(&whole)?),
        Format::Yaml => output::print(&output::yaml(&whole)?),
        Format::Name => output::print(&format!("token/{}\n", order.cluster)),
        Format::Table | Format::Wide => {
            steps.tell_all(&prepared.deleted, Outcome::Deleted)?;
            steps.tell_all(&prepared.created, Outcome::Created)?;
            steps.say(&format!("{} could join with the token{}", order.cluster, steps.dry_run.suffix()))
        }
    }
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
pub async fn revoke(steps: &mut Steps, namespace: &str, cluster: &ClusterId) -> anyhow::Result<()> {
    let removed = token::revoke(&steps.target.client, namespace, cluster, steps.dry_run.into()).await.map_err(told)?;
    if removed.is_empty() {
        bail!(
            "there is no join token of {cluster} in namespace {namespace} of {}; `kubectl linkspan token list` names all",
            steps.target.name
        );
    }
    let said = match steps.dry_run {
        DryRun::None => format!("the join token of {cluster} is revoked"),
        trial => format!("the join token of {cluster} would be revoked{}", trial.suffix()),
    };
    tell_removed(steps, &removed, &said).await
}

/// Removes a Member that is lost.
///
/// # Errors
/// There is no such Member, or no broker, or the API server refused.
pub async fn remove_member(steps: &mut Steps, namespace: &str, cluster: &ClusterId) -> anyhow::Result<()> {
    let removed = token::remove_member(&steps.target.client, namespace, cluster, steps.dry_run.into()).await;
    let removed = removed.map_err(told)?;
    if removed.is_empty() {
        bail!(
            "there is no Member {cluster} in namespace {namespace} of {}; `kubectl get members -n {namespace}` names all",
            steps.target.name
        );
    }
    let said = match steps.dry_run {
        DryRun::None => format!("{cluster} is removed from the clusterset; the others forget it at once"),
        trial => format!("{cluster} would be removed from the clusterset{}", trial.suffix()),
    };
    tell_removed(steps, &removed, &said).await
}

/// What is gone is for programs, and for people who ask; who asks what would go has nothing else to look at. When it is told,
/// no API server takes the credential any more.
async fn tell_removed(steps: &mut Steps, removed: &[ObjectReference], said: &str) -> anyhow::Result<()> {
    steps.progress.now("waiting until the broker has forgotten the credential");
    forget(removed, steps.dry_run.into()).await;
    if steps.format != Format::Table || steps.dry_run != DryRun::None {
        steps.tell_all(removed, Outcome::Deleted)?;
    }
    steps.say(said)?;
    steps.finish()
}

fn told(error: TokenError) -> anyhow::Error {
    match error {
        TokenError::Api { action, source } => failure(&action, &source),
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
