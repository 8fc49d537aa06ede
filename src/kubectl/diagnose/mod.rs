//! Checks: pure functions from a picture to findings. What nobody could see is a finding, too: its state is unknown.

mod broker;
mod clock;
pub(crate) mod cni;
pub(crate) mod connections;
pub(crate) mod dns;
pub(crate) mod firewall;
pub(crate) mod kube_proxy;
pub(crate) mod mtu;
mod nodes;
mod observe;
mod overlap;
pub mod policy;
mod questions;
mod rbac;
pub(crate) mod services;
mod sight;
mod table;
#[cfg(test)]
mod tests;
mod version;

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::picture::{ClusterPicture, Picture, Unseen};
use super::speech::Speech;

pub use connections::{Trouble, trouble};
pub use observe::ask_nodes;
pub use questions::questions;
pub(crate) use sight::NOT_ASKED;
pub use table::{names, table};

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Joining, the credential, and whether the broker answers.
    Broker,
    /// Clocks of API servers and nodes.
    Clock,
    /// What other programs do to clusterset traffic, and the kernel's routes.
    Cni,
    /// Tunnels between gateways.
    Connections,
    /// Names under clusterset.local.
    Dns,
    /// Packet filters, and UDP between gateways and nodes.
    Firewall,
    /// Whether clusterset IPs are carried.
    KubeProxy,
    /// Packets of full size.
    Mtu,
    /// Linkspan's pods, gateways and passes.
    Nodes,
    /// Addresses that several clusters have.
    Overlap,
    /// Roles of Linkspan, and permissions of the person.
    Rbac,
    /// Exports and imports.
    Services,
    /// Versions of everything.
    Version,
}

impl Check {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 13] = [
        Self::Broker,
        Self::Clock,
        Self::Cni,
        Self::Connections,
        Self::Dns,
        Self::Firewall,
        Self::KubeProxy,
        Self::Mtu,
        Self::Nodes,
        Self::Overlap,
        Self::Rbac,
        Self::Services,
        Self::Version,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Clock => "clock",
            Self::Cni => "cni",
            Self::Connections => "connections",
            Self::Dns => "dns",
            Self::Firewall => "firewall",
            Self::KubeProxy => "kube-proxy",
            Self::Mtu => "mtu",
            Self::Nodes => "nodes",
            Self::Overlap => "overlap",
            Self::Rbac => "rbac",
            Self::Services => "services",
            Self::Version => "version",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Traffic or changes do not go through.
    Failed,
    /// It works, and something should be known about it.
    Warning,
    /// Nobody could look.
    Unknown,
    /// As it should be.
    Ok,
}

/// What a check has found about one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// The cluster, by its ID or else its context.
    pub cluster: String,
    /// What it is about: `node/paris-1`, `cluster/berlin`, `serviceexport/default/web`.
    pub object: String,
    /// How it is.
    pub state: State,
    /// One word for programs, in camel case; `Ok` where all is as it should be.
    pub reason: String,
    /// What was seen.
    pub evidence: String,
    /// What is the matter; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Finding {
    /// All is as it should be.
    pub fn good(
        check: Check,
        cluster: &ClusterPicture,
        object: impl Into<String>,
        evidence: impl Into<String>,
    ) -> Self {
        Self {
            check,
            cluster: cluster.name().to_owned(),
            object: object.into(),
            state: State::Ok,
            reason: "Ok".to_owned(),
            evidence: evidence.into(),
            cause: String::new(),
            fix: String::new(),
        }
    }

    /// Something is the matter.
    pub fn bad(check: Check, cluster: &ClusterPicture, object: impl Into<String>, fault: Fault) -> Self {
        let Fault { state, reason, evidence, cause, fix } = fault;
        let reason = reason.to_owned();
        Self { check, cluster: cluster.name().to_owned(), object: object.into(), state, reason, evidence, cause, fix }
    }

    /// Nobody could look.
    pub fn unseen(check: Check, cluster: &ClusterPicture, unseen: &Unseen) -> Self {
        Self {
            state: State::Unknown,
            reason: "Unseen".to_owned(),
            cause: format!("{} could not be seen", unseen.what),
            fix: String::new(),
            ..Self::good(check, cluster, unseen.what.clone(), unseen.why.clone())
        }
    }
}

/// What is the matter with something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How bad it is.
    pub state: State,
    /// One word, in camel case.
    pub reason: &'static str,
    /// What was seen.
    pub evidence: String,
    /// What is the matter.
    pub cause: String,
    /// What to do.
    pub fix: String,
}

impl Finding {
    /// Puts it into words of who reads it: conditions of objects are quoted, and say `linkspan`.
    pub fn speak(&mut self, speech: &Speech) {
        [&mut self.evidence, &mut self.cause, &mut self.fix].into_iter().for_each(|text| *text = speech.spoken(text));
    }
}

impl Fault {
    /// Traffic or changes do not go through.
    pub fn failed(
        reason: &'static str,
        evidence: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: State::Failed, reason, evidence: evidence.into(), cause: cause.into(), fix: fix.into() }
    }

    /// It should be known.
    pub fn warning(
        reason: &'static str,
        evidence: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: State::Warning, ..Self::failed(reason, evidence, cause, fix) }
    }

    /// Makes a warning of what breaks nothing here.
    pub(crate) fn soften(&mut self) {
        self.state = self.state.max(State::Warning);
    }
}

/// Runs all checks on all clusters, worst findings first within each check.
pub fn diagnose(picture: &Picture) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cluster in &picture.clusters {
        findings.extend(match cluster.server.unseen() {
            // Told once for each check, and not for all that the check would have read.
            Some(unseen) if cluster.is_dark() => {
                Check::ALL.map(|check| Finding::unseen(check, cluster, unseen)).to_vec()
            }
            _ => check_cluster(picture, cluster),
        });
    }
    findings.extend(clock::check(picture));
    findings.sort_by(|a, b| (a.check, a.state, &a.cluster, &a.object).cmp(&(b.check, b.state, &b.cluster, &b.object)));
    findings.dedup();
    findings
}

/// What one check finds in one cluster; what it could not see is not told.
pub(crate) fn found(check: Check, picture: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let of = match check {
        Check::Broker => broker::check,
        Check::Clock => clock::of_cluster,
        Check::Cni => cni::check,
        Check::Connections => connections::check,
        Check::Dns => dns::check,
        Check::Firewall => firewall::check,
        Check::KubeProxy => kube_proxy::check,
        Check::Mtu => mtu::check,
        Check::Nodes => nodes::check,
        Check::Overlap => overlap::check,
        Check::Rbac => rbac::check,
        Check::Services => services::check,
        Check::Version => version::check,
    };
    of(picture, cluster)
}

fn check_cluster(picture: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    // Clocks are compared with those of all clusters, and told once.
    let checks = Check::ALL.into_iter().filter(|check| *check != Check::Clock);
    let mut findings: Vec<Finding> = checks.flat_map(|check| found(check, picture, cluster)).collect();
    for check in Check::ALL.into_iter().filter(|check| *check != Check::Clock) {
        findings.extend(sight::blind(check, cluster));
        if findings.iter().all(|finding| finding.check != check) {
            findings.push(Finding::good(check, cluster, "cluster", "nothing stands out"));
        }
    }
    findings
}

/// Exit code for what was found: 1 when something failed, 3 when something could not be seen, else 0.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let any = |state| findings.iter().any(|finding| finding.state == state);
    if any(State::Failed) {
        1
    } else if any(State::Unknown) {
        3
    } else {
        0
    }
}
