//! Why a ServiceRecord is refused.

use std::net::IpAddr;

use thiserror::Error;

use crate::services::value::Family;

/// Why a ServiceRecord is refused. [`Refusal::reason`] is for the condition, the text for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It speaks for another cluster than the one that wrote it.
    #[error("the record speaks for cluster {told}, but belongs to {expected}")]
    WrongCluster {
        /// The cluster whose record it is.
        expected: String,
        /// The cluster that it names.
        told: String,
    },
    /// Its name is not what its spec makes it.
    #[error("the record is named {told}, but must be named {expected}")]
    WrongName {
        /// `<cluster ID>.<namespace>.<service>`.
        expected: String,
        /// Its name.
        told: String,
    },
    /// Its namespace is not for services of others.
    #[error("namespace {0} is reserved: nothing is imported into it")]
    ReservedNamespace(String),
    /// The namespace, the name or a host name is none.
    #[error("{what} {text} is not a legal name")]
    InvalidName {
        /// What has the name.
        what: &'static str,
        /// The name.
        text: String,
    },
    /// A port is wrong.
    #[error("port {port}: {problem}")]
    InvalidPort {
        /// Its name or number.
        port: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The IP families are wrong.
    #[error("ipFamilies must be IPv4, IPv6 or both, each once, but are [{0}]")]
    InvalidFamilies(String),
    /// Another field is wrong.
    #[error("{field} cannot be {value}")]
    InvalidField {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The exported labels or annotations are wrong.
    #[error("{0}")]
    InvalidLabels(String),
    /// An endpoint has a text that is no address of its slice's family.
    #[error("endpoint address {text} is not an {family} address")]
    InvalidAddress {
        /// What it has.
        text: String,
        /// The family of its slice.
        family: Family,
    },
    /// An endpoint has an address that no packet may be sent to from outside.
    #[error("endpoint address {address} is {kind}")]
    ForbiddenAddress {
        /// The address.
        address: IpAddr,
        /// What kind it is.
        kind: &'static str,
    },
    /// An endpoint has an address that is not the Member's.
    #[error("endpoint address {address} is outside the Pod CIDRs of {cluster}")]
    ForeignAddress {
        /// The address.
        address: IpAddr,
        /// The Member.
        cluster: String,
    },
    /// There is too much of something.
    #[error("{count} {what}, more than {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}

impl Refusal {
    /// Its reason, as conditions have it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::WrongCluster { .. } => "WrongCluster",
            Self::WrongName { .. } => "WrongName",
            Self::ReservedNamespace(_) => "ReservedNamespace",
            Self::InvalidName { .. } => "InvalidName",
            Self::InvalidPort { .. } => "InvalidPort",
            Self::InvalidFamilies(_) => "InvalidFamilies",
            Self::InvalidField { .. } => "InvalidField",
            Self::InvalidLabels(_) => "InvalidLabels",
            Self::InvalidAddress { .. } => "InvalidAddress",
            Self::ForbiddenAddress { .. } => "ForbiddenAddress",
            Self::ForeignAddress { .. } => "ForeignAddress",
            Self::TooLarge { .. } => "TooLarge",
        }
    }
}
