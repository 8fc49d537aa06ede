//! How many ServiceRecords each Member has on the broker.

use std::collections::BTreeMap;

/// ServiceRecords of one Member that are copied; more than that is not a cluster but an attack.
pub const MAX_RECORDS: usize = 5000;

/// The number of records of each cluster, kept as they come and go.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Whose record it is, by its name.
    owners: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
}

impl Tally {
    /// Takes in whose a record is now; `None` when it is gone. Gives back the clusters that have come to have too many by
    /// it, or have so no more.
    pub fn note(&mut self, record: &str, owner: Option<&str>) -> Vec<String> {
        let before = self.owners.get(record).cloned();
        if before.as_deref() == owner {
            return Vec::new();
        }
        let mut turned = Vec::new();
        if let Some(before) = before {
            self.owners.remove(record);
            let left = self.counts.get(&before).map_or(0, |count| count.saturating_sub(1));
            if left == MAX_RECORDS {
                turned.push(before.clone());
            }
            if left == 0 {
                self.counts.remove(&before);
            } else {
                self.counts.insert(before, left);
            }
        }
        if let Some(owner) = owner {
            self.owners.insert(record.to_owned(), owner.to_owned());
            let count = self.counts.entry(owner.to_owned()).or_default();
            *count += 1;
            if *count == MAX_RECORDS + 1 {
                turned.push(owner.to_owned());
            }
        }
        turned
    }

    /// Whether a cluster has more records than are copied.
    pub fn has_too_many(&self, cluster: &str) -> bool {
        self.counts.get(cluster).is_some_and(|count| *count > MAX_RECORDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_with_one_too_many_is_told_and_so_is_its_return() {
        let mut tally = Tally::default();
        for i in 0..MAX_RECORDS {
            assert_eq!(tally.note(&format!("paris.default.s{i}"), Some("paris")), [""; 0]);
        }
        assert_eq!(tally.note("paris.default.s0", Some("paris")), [""; 0], "it was there before");
        assert!(!tally.has_too_many("paris"));
        assert_eq!(tally.note("paris.default.more", Some("paris")), ["paris"]);
        assert_eq!(tally.note("rome.default.web", Some("rome")), [""; 0]);
        assert!(tally.has_too_many("paris") && !tally.has_too_many("rome"));
        assert_eq!(tally.note("paris.default.s0", None), ["paris"]);
        assert_eq!(tally.note("paris.default.s0", None), [""; 0], "it was gone before");
        assert!(!tally.has_too_many("paris"));
    }

    #[test]
    fn a_record_that_changes_hands_counts_once() {
        let mut tally = Tally::default();
        for i in 0..=MAX_RECORDS {
            tally.note(&format!("paris.default.s{i}"), Some("paris"));
        }
        assert_eq!(tally.note("paris.default.s0", Some("rome")), ["paris"]);
        assert!(!tally.has_too_many("paris"));
    }
}
