//! What the broker part tells of itself, for metrics and probes.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::connection::Joined;
use super::shell::Shell;
use crate::api::names::LABEL_CLUSTER;

/// Objects by condition: type and status of the condition, both from lists that are fixed in the code.
pub type ByCondition = BTreeMap<(String, String), u64>;

/// The broker part at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Whether the cluster has joined.
    pub joined: bool,
    /// Whether the broker answered when it was last asked.
    pub reachable: bool,
    /// When it answered last; none before the first answer.
    pub contact: Option<Timestamp>,
    /// Since when it has answered without a break.
    pub connected: Option<Timestamp>,
    /// When the credential expires, unless it renews itself before.
    pub credential_expires: Option<Timestamp>,
    /// When it renews itself: at half of its life, whatever the broker gave it.
    pub credential_renews: Option<Timestamp>,
    /// Members, the own one with them.
    pub members: ByCondition,
    /// ServiceRecords.
    pub records: RecordCounts,
    /// What has been done since the start.
    pub work: WorkCounts,
}

/// ServiceRecords by where they come from and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Own ones.
    pub own: u64,
    /// Own ones that the broker refuses.
    pub own_refused: u64,
    /// Copies of others'.
    pub copied: u64,
    /// Others' that are refused here, whole or in part.
    pub refused: u64,
}

/// What a loop has done since it started, and what it still has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkCounts {
    /// Passes that wrote something.
    pub passes: u64,
    /// Writes that went well.
    pub written: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Things whose last write failed, and is tried again.
    pub waiting: u64,
}

impl Shell {
    /// Everything that is told.
    pub fn status(&self) -> BrokerStatus {
        let own = self.config.cluster.as_str();
        let mut records = RecordCounts {
            own_refused: self.world.refused_upward.len() as u64,
            refused: self.world.refused.len() as u64,
            ..RecordCounts::default()
        };
        for (_, record) in self.world.records.iter() {
            let cluster = record.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_CLUSTER));
            let of_own = cluster.is_some_and(|cluster| cluster == own);
            *if of_own { &mut records.own } else { &mut records.copied } += 1;
        }
        let mut members = ByCondition::new();
        let conditions =
            self.world.members.iter().filter_map(|(_, member)| member.status.as_ref()).flat_map(|s| &s.conditions);
        for condition in conditions {
            *members.entry((condition.type_.clone(), condition.status.clone())).or_default() += 1;
        }
        let joined = match self.connection.joined {
            Joined::Yes { .. } => true,
            Joined::No { .. } => false,
        };
        BrokerStatus {
            joined,
            reachable: joined && self.contact.connected.is_some(),
            contact: self.contact.last,
            connected: self.contact.connected,
            credential_expires: self.session.as_ref().map(|session| session.credential.expires),
            credential_renews: self.session.as_ref().map(|session| session.credential.renewal()),
            members,
            records,
            work: WorkCounts { waiting: self.retry.len() as u64, ..self.work },
        }
    }
}

/// When the broker answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contact {
    last: Option<Timestamp>,
    connected: Option<Timestamp>,
}

impl Contact {
    /// It has answered.
    pub fn answered(&mut self, now: Timestamp) {
        self.last = Some(now);
        self.connected.get_or_insert(now);
    }

    /// It has not.
    pub fn lost(&mut self) {
        self.connected = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_begins_the_connection_anew_and_keeps_the_last_contact() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut contact = Contact::default();
        contact.answered(at(10));
        contact.answered(at(20));
        assert_eq!(contact, Contact { last: Some(at(20)), connected: Some(at(10)) });
        contact.lost();
        assert_eq!(contact, Contact { last: Some(at(20)), connected: None });
        contact.answered(at(50));
        assert_eq!(contact, Contact { last: Some(at(50)), connected: Some(at(50)) });
    }
}
