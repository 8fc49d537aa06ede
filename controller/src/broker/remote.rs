//! What is on the broker: of a cluster that has more than is copied, no more is kept than what that amounts to.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use kube::runtime::watcher::Event;

use super::liveness::Liveness;
use super::seen::{Seen, Unread};
use super::store::Store;
use super::tally::{Load, Tally};
use crate::api::{MemberSpec, ServiceRecordSpec};

/// What is on the broker.
///
/// # Guarantees
/// Specs of records are kept only of clusters that have not too much; those of others are dropped as they come. Once such
/// a cluster has less, its records are listed again, one list of a cluster at a time.
#[derive(Debug, Default)]
pub(super) struct Remote {
    pub members: Store<Seen<MemberSpec>>,
    pub records: Store<Seen<ServiceRecordSpec>>,
    pub tally: Tally,
    pub liveness: Liveness,
    /// When the own Member was created, as the broker answered to its last write: the watch may show others before it.
    pub joined: Option<Timestamp>,
    /// Clusters whose records were dropped, and are to be listed again.
    wanted: BTreeSet<String>,
    /// Those whose records are being listed.
    asked: BTreeSet<String>,
}

impl Remote {
    /// A broker of which nothing is known but who is alive.
    pub fn new(liveness: Liveness) -> Self {
        Self { liveness, ..Self::default() }
    }

    /// Takes in what the watch of records shows; gives back the names of all that are to be judged anew. Of a cluster that
    /// has too much, specs are kept only where `is_needed` says so of the record's name and its cluster.
    pub fn take_record(
        &mut self,
        event: Event<DynamicObject>,
        is_needed: impl Fn(&str, &str) -> bool,
    ) -> BTreeSet<String> {
        let touched = self.records.take(event, Seen::read);
        let mut turned = BTreeSet::new();
        for name in &touched {
            let load = self.records.get(name).map(|seen| (seen.cluster.as_str(), Load::of(seen)));
            turned.extend(self.tally.note(name, load));
        }
        let mut names: BTreeSet<String> = touched.into_iter().collect();
        if !turned.is_empty() {
            let of_them = self.records.iter().filter(|(_, seen)| turned.contains(&seen.cluster));
            names.extend(of_them.map(|(name, _)| name.clone()));
        }
        for name in &names {
            let Some(seen) = self.records.get_mut(name) else { continue };
            let has_too_much = self.tally.excess(&seen.cluster).is_some();
            match seen.spec {
                Ok(_) if has_too_much && !is_needed(name, &seen.cluster) => seen.spec = Err(Unread::Dropped),
                Err(Unread::Dropped) if !has_too_much && !self.asked.contains(&seen.cluster) => {
                    self.wanted.insert(seen.cluster.clone());
                }
                _ => {}
            }
        }
        names
    }

    /// Takes in a record that was dropped, where it is still what it was; otherwise the watch shows it. Gives back its name
    /// where it is to be judged anew.
    pub fn take_record_again(&mut self, record: DynamicObject) -> Option<String> {
        let name = record.name_any();
        let shown = self.records.get(&name)?;
        let is_dropped = shown.spec == Err(Unread::Dropped) && shown.version == record.resource_version();
        if !is_dropped || self.tally.excess(&shown.cluster).is_some() {
            return None;
        }
        self.records.put(name.clone(), Seen::read(record));
        Some(name)
    }

    /// All records of `cluster` have been listed again. Those that it had in too great a number meanwhile are missing still.
    pub fn end_again(&mut self, cluster: &str) {
        self.asked.remove(cluster);
        let is_missing = |seen: &Seen<ServiceRecordSpec>| seen.cluster == cluster && seen.spec == Err(Unread::Dropped);
        if self.tally.excess(cluster).is_none() && self.records.iter().any(|(_, seen)| is_missing(seen)) {
            self.wanted.insert(cluster.to_owned());
        }
    }

    /// The clusters whose records are to be listed again from now on.
    pub fn take_wanted(&mut self) -> BTreeSet<String> {
        let wanted = std::mem::take(&mut self.wanted);
        self.asked.extend(wanted.iter().cloned());
        wanted
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::broker::tally::MAX_BYTES;

    /// A record of `cluster` whose annotation has so many bytes.
    fn record(cluster: &str, name: &str, version: u32, bytes: usize) -> DynamicObject {
        let object = json!({
            "apiVersion": "linkspan.dev/v1alpha1", "kind": "ServiceRecord",
            "metadata": {
                "name": format!("{cluster}.default.{name}"), "resourceVersion": version.to_string(),
                "labels": { "linkspan.dev/cluster": cluster },
            },
            "spec": {
                "clusterID": cluster, "namespace": "default", "name": name, "type": "ClusterSetIP",
                "exportedAt": "2026-07-01T08:00:00Z", "exportedAnnotations": { "note": "x".repeat(bytes) },
            },
        });
        serde_json::from_value(object).unwrap()
    }

    /// A broker on which mallory has two records of half of all bytes, and others a small one each.
    fn full() -> Remote {
        let mut remote = Remote::default();
        let half = MAX_BYTES / 2;
        for record in [
            record("berlin", "web", 1, 10),
            record("mallory", "a", 2, half),
            record("mallory", "b", 3, half),
            record("mallory", "c", 4, 10),
        ] {
            take(&mut remote, Event::InitApply(record));
        }
        take(&mut remote, Event::InitDone);
        remote
    }

    fn take(remote: &mut Remote, event: Event<DynamicObject>) -> Vec<String> {
        remote.take_record(event, |_, _| false).into_iter().collect()
    }

    /// The records whose specs are kept.
    fn kept(remote: &Remote) -> Vec<&str> {
        remote.records.iter().filter(|(_, seen)| seen.spec.is_ok()).map(|(name, _)| name.as_str()).collect()
    }

    fn wanted(remote: &mut Remote) -> Vec<String> {
        remote.take_wanted().into_iter().collect()
    }

    #[test]
    fn of_a_cluster_that_has_too_much_no_spec_is_kept_and_all_is_counted() {
        let mut remote = full();
        assert_eq!(kept(&remote), ["berlin.default.web"]);
        assert_eq!(remote.records.iter().count(), 4, "they are known and counted");
        assert!(remote.tally.excess("mallory").is_some());
        take(&mut remote, Event::Apply(record("mallory", "d", 5, 10)));
        take(&mut remote, Event::Apply(record("mallory", "c", 6, 20)));
        assert_eq!(kept(&remote), ["berlin.default.web"], "nor of one that comes or changes");
        assert_eq!(wanted(&mut remote), [""; 0]);
    }

    #[test]
    fn what_is_needed_is_kept_all_the_same() {
        let mut remote = Remote::default();
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            let event = Event::Apply(record("paris", name, i as u32, MAX_BYTES / 2));
            remote.take_record(event, |name, cluster| (name, cluster) == ("paris.default.a", "paris"));
        }
        assert_eq!(kept(&remote), ["paris.default.a"]);
    }

    #[test]
    fn once_it_has_less_its_records_are_listed_again() {
        let mut remote = full();
        let judged = take(&mut remote, Event::Delete(record("mallory", "b", 7, 0)));
        assert_eq!(judged, ["mallory.default.a", "mallory.default.b", "mallory.default.c"]);
        assert_eq!(wanted(&mut remote), ["mallory"]);
        take(&mut remote, Event::Apply(record("mallory", "d", 8, 10)));
        assert_eq!(wanted(&mut remote), [""; 0], "they are being listed");
        let again = remote.take_record_again(record("mallory", "a", 2, MAX_BYTES / 2));
        assert_eq!(again.as_deref(), Some("mallory.default.a"));
        assert_eq!(remote.take_record_again(record("mallory", "c", 9, 10)), None, "the watch has not come that far");
        assert_eq!(remote.take_record_again(record("mallory", "d", 7, 20)), None, "it was never dropped");
        assert_eq!(remote.take_record_again(record("mallory", "new", 9, 20)), None);
        assert_eq!(kept(&remote), ["berlin.default.web", "mallory.default.a", "mallory.default.d"]);
        remote.end_again("mallory");
        assert_eq!(wanted(&mut remote), ["mallory"], "one is missing still");
        take(&mut remote, Event::Apply(record("mallory", "c", 9, 10)));
        remote.end_again("mallory");
        assert_eq!(wanted(&mut remote), [""; 0]);
    }

    #[test]
    fn a_list_that_comes_when_there_is_too_much_again_is_not_kept() {
        let mut remote = full();
        take(&mut remote, Event::Delete(record("mallory", "b", 7, 0)));
        assert_eq!(wanted(&mut remote), ["mallory"]);
        take(&mut remote, Event::Apply(record("mallory", "b", 8, MAX_BYTES / 2)));
        assert_eq!(remote.take_record_again(record("mallory", "a", 2, MAX_BYTES / 2)), None);
        remote.end_again("mallory");
        assert_eq!(kept(&remote), ["berlin.default.web"]);
        assert_eq!(wanted(&mut remote), [""; 0]);
    }
}
