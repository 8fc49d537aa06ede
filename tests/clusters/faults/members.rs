//! Faults of Members, of the broker, and of credentials.

use anyhow::Result;

use super::ask::{broken, found, noted, says};
use super::make::{open_world, service, world};
use crate::joined::{BROKER, CLUSTERS, Joined, once_coredns_knows};

/// Who has the rights of the broker's administrator may write anything; everybody judges for themselves. rome speaks
/// protocols of a time to come.
pub(super) fn add_strangers(joined: &Joined) -> Result<()> {
    let member = |name: &str, spec: &str| {
        format!(
            "{{ apiVersion: linkspan.dev/v1alpha1, kind: Member, \
             metadata: {{ name: {name}, namespace: linkspan-broker, labels: {{ linkspan.dev/cluster: {name} }} }}, \
             spec: {{ clusterID: {name}, clusterUID: x, version: 9.0.0, {spec} }} }}\n---\n"
        )
    };
    let oslo = member("oslo", "podCIDRs: [192.168.7.12/32]");
    let rome = member("rome", "podCIDRs: [10.62.0.0/16], protocol: 9, minProtocol: 8");
    joined.cluster(BROKER)?.apply(&[oslo, rome].concat())
}

pub(super) fn strangers_are_refused(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "cluster/oslo", "Overlap")?;
    says(&finding, "evidence", "192.168.7.12")?;
    for (cluster, member) in CLUSTERS.iter().flat_map(|cluster| [(cluster, "oslo"), (cluster, "rome")]) {
        found(joined, cluster, &format!("cluster/{member}"), "VersionSkew")?;
    }
    broken(joined, "192.168.7.12:80", "paris", "Overlap")?;
    broken(joined, "10.62.0.9:80", "paris", "VersionSkew")
}

pub(super) fn remove_strangers(joined: &Joined) -> Result<()> {
    joined.cluster(BROKER)?.kubectl(["delete", "member", "oslo", "rome", "-n", "linkspan-broker"])?.done()
}

pub(super) fn block_broker(_: &Joined) -> Result<()> {
    world("ip saddr 192.168.8.0/24 tcp dport 6443")
}

/// What is there goes on; what comes does not arrive, and that is told where it stops.
pub(super) fn broker_away(joined: &Joined) -> Result<()> {
    once_coredns_knows(|| found(joined, "berlin", "member/berlin", "BrokerUnreachable"))?;
    noted(joined, "berlin", "BrokerUnreachable")?;
    new_service_waits(joined, "BrokerUnreachable")
}

fn new_service_waits(joined: &Joined, reason: &str) -> Result<()> {
    service(joined, "berlin", "new", "app: web", 80)?;
    joined.linkspan("berlin", &["export", "new", "-n", "default"])?.done()?;
    broken(joined, "new.default.svc.clusterset.local", "berlin", reason)
}

fn unexport_new(joined: &Joined) -> Result<()> {
    joined.linkspan("berlin", &["unexport", "new", "-n", "default"])?.done()
}

pub(super) fn open_broker(joined: &Joined) -> Result<()> {
    open_world(joined)?;
    unexport_new(joined)
}

pub(super) fn revoke(joined: &Joined) -> Result<()> {
    joined.cluster(BROKER)?.kubectl(["delete", "serviceaccount", "member-berlin", "-n", "linkspan-broker"])?.done()
}

pub(super) fn credential_refused(joined: &Joined) -> Result<()> {
    once_coredns_knows(|| found(joined, "berlin", "member/berlin", "CredentialRefused"))?;
    noted(joined, "berlin", "CredentialRefused")?;
    new_service_waits(joined, "CredentialRefused")
}

pub(super) fn join_again(joined: &Joined) -> Result<()> {
    let token = joined.token("berlin")?;
    joined.linkspan("berlin", &["join", "--wait=300"])?.input(&token).done()?;
    unexport_new(joined)
}

/// The time has passed at which it should have renewed itself.
pub(super) fn expire(joined: &Joined) -> Result<()> {
    let past = r#"{"stringData":{"issued":"2019-12-31T00:00:00Z","expires":"2020-01-01T00:00:00Z"}}"#;
    let secret = ["patch", "secret", "linkspan-broker", "-n", "linkspan-system", "--type=merge", "-p", past];
    joined.cluster("berlin")?.kubectl(secret)?.done()
}

pub(super) fn credential_expired(joined: &Joined) -> Result<()> {
    let finding = once_coredns_knows(|| found(joined, "berlin", "member/berlin", "CredentialRefused"))?;
    says(&finding, "evidence", "CredentialExpired: the credential expired at 2020-01-01")?;
    noted(joined, "berlin", "CredentialRefused")
}

pub(super) fn renew(joined: &Joined) -> Result<()> {
    let token = joined.token("berlin")?;
    joined.linkspan("berlin", &["join", "--wait=300"])?.input(&token).done()
}
