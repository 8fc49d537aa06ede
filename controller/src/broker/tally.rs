//! How much each Member has on the broker: its ServiceRecords, and what is in them.

use std::collections::BTreeMap;
use std::fmt;

use super::seen::Seen;
use crate::api::ServiceRecordSpec;

/// ServiceRecords of one Member that are copied; more than that is not a cluster but an attack.
pub const MAX_RECORDS: usize = 5_000;
/// Endpoints in all ServiceRecords of one Member that are copied. Each record alone may have a tenth of that.
pub const MAX_ENDPOINTS: usize = 50_000;
/// Size of all ServiceRecords of one Member that are copied, in bytes of JSON: what is no endpoint takes room, too.
pub const MAX_BYTES: usize = 32 << 20;

/// What ServiceRecords amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    records: usize,
    endpoints: usize,
    bytes: usize,
}

impl Load {
    /// That of one record. One that cannot be read is not copied, and is one record all the same.
    pub fn of(record: &Seen<ServiceRecordSpec>) -> Self {
        let Ok(spec) = &record.spec else { return Self { records: 1, ..Self::default() } };
        let endpoints = spec.slices.iter().map(|slice| slice.endpoints.len()).sum();
        Self { records: 1, endpoints, bytes: serde_json::to_vec(spec).map_or(0, |text| text.len()) }
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.endpoints += other.endpoints;
        self.bytes += other.bytes;
    }

    fn take_away(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.endpoints = self.endpoints.saturating_sub(other.endpoints);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    fn excess(&self) -> Option<Excess> {
        match self {
            Self { records, .. } if *records > MAX_RECORDS => Some(Excess::Records),
            Self { endpoints, .. } if *endpoints > MAX_ENDPOINTS => Some(Excess::Endpoints),
            Self { bytes, .. } if *bytes > MAX_BYTES => Some(Excess::Bytes),
            _ => None,
        }
    }
}

/// Of what a Member has more than is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Records,
    Endpoints,
    Bytes,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records => write!(f, "more than {MAX_RECORDS} ServiceRecords"),
            Self::Endpoints => write!(f, "more than {MAX_ENDPOINTS} endpoints in its ServiceRecords"),
            Self::Bytes => write!(f, "more than {} MiB of ServiceRecords", MAX_BYTES >> 20),
        }
    }
}

/// The load of each cluster, kept as its records come, change and go.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Whose record it is and what it amounts to, by its name.
    records: BTreeMap<String, (String, Load)>,
    clusters: BTreeMap<String, Load>,
}

impl Tally {
    /// Takes in whose a record is now, and what it amounts to; `None` when it is gone. Gives back the clusters that have
    /// come to have too much by it, or have so no more.
    pub fn note(&mut self, record: &str, now: Option<(&str, Load)>) -> Vec<String> {
        let before = self.records.remove(record);
        let touched = before.iter().map(|(owner, _)| owner.as_str()).chain(now.map(|(owner, _)| owner));
        let mut verdicts: BTreeMap<String, _> = touched.map(|owner| (owner.to_owned(), self.excess(owner))).collect();
        if let Some((owner, load)) = before
            && let Some(left) = self.clusters.get_mut(&owner)
        {
            left.take_away(load);
            if *left == Load::default() {
                self.clusters.remove(&owner);
            }
        }
        if let Some((owner, load)) = now {
            self.clusters.entry(owner.to_owned()).or_default().add(load);
            self.records.insert(record.to_owned(), (owner.to_owned(), load));
        }
        verdicts.retain(|owner, before| *before != self.excess(owner));
        verdicts.into_keys().collect()
    }

    /// Of what a cluster has more than is copied.
    pub fn excess(&self, cluster: &str) -> Option<Excess> {
        self.clusters.get(cluster)?.excess()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Load = Load { records: 1, endpoints: 1, bytes: 100 };

    #[test]
    fn a_cluster_with_one_too_many_is_told_and_so_is_its_return() {
        let mut tally = Tally::default();
        for i in 0..MAX_RECORDS {
            assert_eq!(tally.note(&format!("paris.default.s{i}"), Some(("paris", ONE))), [""; 0]);
        }
        assert_eq!(tally.note("paris.default.s0", Some(("paris", ONE))), [""; 0], "it was there before");
        assert_eq!(tally.excess("paris"), None);
        assert_eq!(tally.note("paris.default.more", Some(("paris", ONE))), ["paris"]);
        assert_eq!(tally.note("rome.default.web", Some(("rome", ONE))), [""; 0]);
        assert_eq!((tally.excess("paris"), tally.excess("rome")), (Some(Excess::Records), None));
        assert_eq!(tally.note("paris.default.s0", None), ["paris"]);
        assert_eq!(tally.note("paris.default.s0", None), [""; 0], "it was gone before");
        assert_eq!(tally.excess("paris"), None);
    }

    #[test]
    fn a_record_that_changes_hands_counts_once() {
        let mut tally = Tally::default();
        for i in 0..=MAX_RECORDS {
            tally.note(&format!("paris.default.s{i}"), Some(("paris", ONE)));
        }
        assert_eq!(tally.note("paris.default.s0", Some(("rome", ONE))), ["paris"]);
        assert_eq!(tally.excess("paris"), None);
    }

    #[test]
    fn what_is_in_the_records_counts_for_all_of_them_together() {
        for (half, excess) in [
            (Load { records: 1, endpoints: MAX_ENDPOINTS / 2, bytes: 1 }, Excess::Endpoints),
            (Load { records: 1, endpoints: 0, bytes: MAX_BYTES / 2 }, Excess::Bytes),
        ] {
            let mut tally = Tally::default();
            assert_eq!(tally.note("paris.default.a", Some(("paris", half))), [""; 0]);
            assert_eq!(tally.note("paris.default.b", Some(("paris", half))), [""; 0]);
            assert_eq!(tally.note("paris.default.c", Some(("paris", ONE))), ["paris"]);
            assert_eq!(tally.excess("paris"), Some(excess));
            // One that grows or shrinks is told of, and what has gone counts no more.
            assert_eq!(tally.note("paris.default.b", Some(("paris", ONE))), ["paris"]);
            assert_eq!(tally.note("paris.default.b", Some(("paris", half))), ["paris"]);
            assert_eq!(tally.note("paris.default.a", None), ["paris"]);
            assert_eq!(tally.excess("paris"), None);
        }
    }
}
