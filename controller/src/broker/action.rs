//! What the broker part writes.

use std::fmt;

use kube::ResourceExt as _;

use crate::api::{Member, ServiceRecord};
use crate::members::condition::{Finding, Holds};

/// One write. Those with `Publish` and `Withdraw` go to the broker, all others to the own API server.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Writes the own Member to the broker.
    PublishMember(Box<Member>),
    /// Writes an own ServiceRecord to the broker.
    PublishRecord(Box<ServiceRecord>),
    /// Deletes an own ServiceRecord on the broker.
    WithdrawRecord(String),
    /// Writes the local copy of a Member, own one too.
    CopyMember(Box<Member>),
    /// Writes the local copy of another Member in place of the one that was there before it under its name.
    CopyMemberAnew(Box<Member>),
    /// Writes the local copy of another cluster's ServiceRecord.
    CopyRecord(Box<ServiceRecord>),
    /// Says on the local copy of a Member what is made of it.
    TellMember(String, Vec<Finding>),
    /// Says on a local ServiceRecord what is made of it.
    TellRecord(String, Vec<Finding>),
    /// Deletes the local copy of a Member.
    DropMember(String),
    /// Deletes the local copy of a ServiceRecord.
    DropRecord(String),
}

impl Action {
    /// Whether it takes away what is known of another cluster.
    pub fn forgets(&self) -> bool {
        matches!(self, Self::CopyMemberAnew(_) | Self::DropMember(_) | Self::DropRecord(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublishMember(member) => write!(f, "publish Member {}", member.name_any()),
            Self::PublishRecord(record) => write!(f, "publish ServiceRecord {}", record.name_any()),
            Self::WithdrawRecord(name) => write!(f, "withdraw ServiceRecord {name}"),
            Self::CopyMember(member) => write!(f, "write Member {}", member.name_any()),
            Self::CopyMemberAnew(member) => write!(f, "write Member {} anew", member.name_any()),
            Self::CopyRecord(record) => write!(f, "write ServiceRecord {}", record.name_any()),
            Self::TellMember(name, findings) => write!(f, "say of Member {name}: {}", summary(findings)),
            Self::TellRecord(name, findings) => write!(f, "say of ServiceRecord {name}: {}", summary(findings)),
            Self::DropMember(name) => write!(f, "delete Member {name}"),
            Self::DropRecord(name) => write!(f, "delete ServiceRecord {name}"),
        }
    }
}

fn summary(findings: &[Finding]) -> String {
    let one = |finding: &Finding| {
        let holds = match finding.holds {
            Holds::True => "",
            Holds::False => "not ",
            Holds::Unknown => "perhaps ",
        };
        format!("{holds}{} ({})", finding.kind, finding.reason)
    };
    findings.iter().map(one).collect::<Vec<_>>().join(", ")
}
