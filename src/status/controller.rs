//! The part of the report that the controller tells. Times are seconds since 1970, so that who reads them needs no clock
//! of the process.

use controller::broker::status::{BrokerStatus, ByCondition, RecordCounts, WorkCounts};
use controller::cluster::services::ServicesStatus;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControllerReport {
    /// Whether this process holds the Lease. What follows is told by the one that does.
    pub leads: bool,
    /// The clusterset, seen through the broker.
    pub broker: Option<BrokerReport>,
    /// Exports and imports.
    pub services: Option<ServicesReport>,
}

/// The connection to the broker, and what comes over it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerReport {
    /// Whether the cluster has joined.
    pub joined: bool,
    /// Whether the broker answered when it was last asked.
    pub reachable: bool,
    /// When it answered last.
    pub contact: Option<i64>,
    /// Since when it has answered without a break.
    pub connected: Option<i64>,
    /// When the credential expires.
    pub credential_expires: Option<i64>,
    /// When it renews itself.
    pub credential_renews: Option<i64>,
    /// Members by condition.
    pub members: Vec<ConditionCount>,
    /// ServiceRecords.
    pub records: RecordsReport,
    /// What has been done.
    pub work: WorkReport,
}

/// How many objects have a condition in a status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionCount {
    /// Type of the condition.
    pub condition: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Objects.
    pub count: u64,
}

/// ServiceRecords by where they come from and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordsReport {
    /// Own ones.
    pub own: u64,
    /// Own ones that the broker refuses.
    pub own_refused: u64,
    /// Copies of others'.
    pub copied: u64,
    /// Others' that are refused here.
    pub refused: u64,
}

/// What a loop has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkReport {
    /// Passes that wrote something.
    pub passes: u64,
    /// Writes that went well.
    pub written: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Things whose last write failed, and is tried again.
    pub waiting: u64,
}

/// Exports and imports of this cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicesReport {
    /// Whether all objects have been listed.
    pub listed: bool,
    /// ServiceExports.
    pub exports: u64,
    /// ServiceExports by condition.
    pub exports_by_condition: Vec<ConditionCount>,
    /// ServiceImports by type.
    pub imports: Vec<ImportCount>,
    /// What has been done.
    pub work: WorkReport,
}

/// How many ServiceImports have a type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportCount {
    /// `ClusterSetIP` or `Headless`.
    pub kind: String,
    /// ServiceImports.
    pub count: u64,
}

impl ControllerReport {
    /// What keeps the process from having done what it leads for, one sentence each. A broker that goes away later does
    /// not: everything goes on without it.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.leads && !self.services.as_ref().is_some_and(|services| services.listed) {
            missing.push("the API server has not told all objects of services yet".to_owned());
        }
        if self.leads && self.broker.as_ref().is_some_and(|broker| broker.joined && broker.contact.is_none()) {
            missing.push("the broker has not answered since this process leads".to_owned());
        }
        missing
    }
}

impl From<&BrokerStatus> for BrokerReport {
    fn from(status: &BrokerStatus) -> Self {
        Self {
            joined: status.joined,
            reachable: status.reachable,
            contact: status.contact.map(Timestamp::as_second),
            connected: status.connected.map(Timestamp::as_second),
            credential_expires: status.credential_expires.map(Timestamp::as_second),
            credential_renews: status.credential_renews.map(Timestamp::as_second),
            members: counts(&status.members),
            records: status.records.into(),
            work: status.work.into(),
        }
    }
}

impl From<&ServicesStatus> for ServicesReport {
    fn from(status: &ServicesStatus) -> Self {
        let imports = status.summary.imports.iter();
        Self {
            listed: status.listed,
            exports: status.summary.exports,
            exports_by_condition: counts(&status.summary.exports_by_condition),
            imports: imports.map(|(kind, count)| ImportCount { kind: (*kind).to_owned(), count: *count }).collect(),
            work: status.work.into(),
        }
    }
}

fn counts(by: &ByCondition) -> Vec<ConditionCount> {
    let count = |((condition, status), count): (&(String, String), &u64)| ConditionCount {
        condition: condition.clone(),
        status: status.clone(),
        count: *count,
    };
    by.iter().map(count).collect()
}

impl From<RecordCounts> for RecordsReport {
    fn from(counts: RecordCounts) -> Self {
        let RecordCounts { own, own_refused, copied, refused } = counts;
        Self { own, own_refused, copied, refused }
    }
}

impl From<WorkCounts> for WorkReport {
    fn from(counts: WorkCounts) -> Self {
        let WorkCounts { passes, written, failed, waiting } = counts;
        Self { passes, written, failed, waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_ready_when_it_knows_all_and_has_met_the_broker_once() {
        let services = |listed| Some(ServicesReport { listed, ..ServicesReport::default() });
        let broker = |joined, contact| Some(BrokerReport { joined, contact, ..BrokerReport::default() });
        let missing = |leads, broker, services| ControllerReport { leads, broker, services }.missing().len();
        assert_eq!(missing(false, None, None), 0, "who stands by needs nothing");
        assert_eq!(missing(true, None, None), 1);
        assert_eq!(missing(true, broker(true, None), services(false)), 2);
        assert_eq!(missing(true, broker(true, None), services(true)), 1);
        assert_eq!(missing(true, broker(true, Some(7)), services(true)), 0, "and none when it has gone away since");
        assert_eq!(missing(true, broker(false, None), services(true)), 0, "joining is for people to begin");
    }
}
