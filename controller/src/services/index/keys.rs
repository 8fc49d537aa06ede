//! Which services an object's change is about.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ObjectMeta;

use super::{Entry, Index, Kept, Kind, Known, Place};
use crate::api::Member;
use crate::api::names::ANNOTATION_LEAVE;
use crate::members::{Claim, Verdict, View, judge};
use crate::services::derived::derived_name;
use crate::services::plan::Membership;
use crate::services::value::{Family, ServiceKey};
use crate::services::version::ServerVersion;

/// The Service that tells the families of a cluster when nothing else does.
const KUBERNETES: (&str, &str) = ("default", "kubernetes");
/// What names of derived Services begin with.
const DERIVED: &str = "derived-";

impl Index {
    pub(super) fn insert(&mut self, kind: Kind, place: Place, entry: Entry) {
        let before = self.objects.entry(kind).or_default().remove(&place);
        if let Some(before) = &before {
            self.unlink(kind, &place, before);
        }
        if let Some(key) = &entry.key {
            self.by_key.entry(key.clone()).or_default().insert((kind, place.clone()));
        }
        let same = before.as_ref().is_some_and(|before| before.uid == entry.uid && says_the_same(before, &entry));
        let is_foreign = |entry: &Entry| matches!(entry.kept, Kept::Service(_));
        let foreign = is_foreign(&entry) || before.as_ref().is_some_and(is_foreign);
        let about = (before.and_then(|before| before.key), entry.key.clone());
        self.objects.entry(kind).or_default().insert(place.clone(), entry);
        if !same {
            self.mark_about(about.0);
            self.mark_about(about.1);
            self.mark_others(kind, &place, foreign);
        }
    }

    pub(super) fn drop_entry(&mut self, kind: Kind, place: &Place) {
        let Some(entry) = self.objects.get_mut(&kind).and_then(|objects| objects.remove(place)) else { return };
        self.unlink(kind, place, &entry);
        self.note_gone(&entry);
        let changed = match kind {
            Kind::Gateway => self.reach.remove(&place.1),
            Kind::Lease => self.reach.set_holder(None),
            _ => BTreeSet::new(),
        };
        self.mark_clusters(&changed);
        let foreign = matches!(entry.kept, Kept::Service(_));
        self.mark_about(entry.key);
        self.mark_others(kind, place, foreign);
    }

    fn unlink(&mut self, kind: Kind, place: &Place, entry: &Entry) {
        let Some(key) = &entry.key else { return };
        if let Some(objects) = self.by_key.get_mut(key) {
            objects.remove(&(kind, place.clone()));
            if objects.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    fn mark_about(&mut self, key: Option<ServiceKey>) {
        self.dirty.extend(key);
    }

    fn keys_in(&self, namespace: &str) -> Vec<ServiceKey> {
        let keys = self.by_key.range(ServiceKey::new(namespace, "")..).map(|(key, _)| key);
        keys.take_while(|key| key.namespace == namespace).cloned().collect()
    }

    /// What changes beside the service that an object is about. `foreign`: it is a Service, and not one of ours.
    fn mark_others(&mut self, kind: Kind, place: &Place, foreign: bool) {
        match kind {
            Kind::Namespace => {
                let here = self.keys_in(&place.1);
                self.dirty.extend(here);
            }
            Kind::Member => self.mark_member(&place.1),
            Kind::Credential => self.set_membership(),
            Kind::Service if foreign && place.1.starts_with(DERIVED) => {
                let here = self.keys_in(&place.0);
                self.dirty.extend(here.into_iter().filter(|key| derived_name(key) == place.1));
            }
            Kind::Service if (place.0.as_str(), place.1.as_str()) == KUBERNETES => self.set_families(),
            _ => {}
        }
    }

    /// Joining and leaving are about every service.
    fn set_membership(&mut self) {
        let mut kept = self.objects.get(&Kind::Credential).into_iter().flatten().map(|(_, entry)| &entry.kept);
        let joined = kept.any(|kept| matches!(kept, Kept::Credential(Membership::Joined)));
        let membership = if joined { Membership::Joined } else { Membership::Outside };
        if membership != self.membership {
            self.membership = membership;
            self.mark_all();
        }
    }

    /// The API server is of this version.
    pub fn set_server(&mut self, server: ServerVersion) {
        if server != self.server {
            self.server = server;
            self.mark_all();
        }
    }

    /// Whether nobody renews the gateway Lease.
    pub fn set_gateway_silent(&mut self, silent: bool) {
        let changed = self.reach.set_silent(silent);
        self.mark_clusters(&changed);
    }

    fn mark_all(&mut self) {
        let all: Vec<_> = self.by_key.keys().cloned().collect();
        self.dirty.extend(all);
    }

    fn known(&self) -> impl Iterator<Item = (&String, &Known)> {
        let members = self.objects.get(&Kind::Member).into_iter().flatten();
        members.filter_map(|(place, entry)| match &entry.kept {
            Kept::Member(known) => Some((&place.1, &**known)),
            _ => None,
        })
    }

    fn mark_member(&mut self, name: &str) {
        self.members = self.known().map(|(name, known)| (name.clone(), known.exporter.clone())).collect();
        let own = self.config.cluster.as_str();
        let others = self.members.keys().filter(|name| *name != own).cloned().collect();
        let mut changed = self.reach.set_others(others);
        changed.insert(name.to_owned());
        self.mark_clusters(&changed);
        // Judging takes all of them; while a list comes in, that waits for its end.
        if !self.listing.contains_key(&Kind::Member) {
            self.set_views();
        }
        if name == self.config.cluster.as_str() {
            self.set_families();
            let exports: Vec<_> = self.exports().cloned().collect();
            self.dirty.extend(exports);
        }
    }

    /// By which addresses others are known here, as nodes judge it: a virtual prefix that is another one's leads nowhere.
    /// An own Member that is of no use, or away for a moment, says nothing of them: what was known stays, as on nodes. Where
    /// nothing was, others are known by nothing.
    pub(super) fn set_views(&mut self) {
        let own = self.config.cluster.as_str();
        let member = self.known().find(|(name, _)| *name == own).map(|(_, known)| &known.member);
        let is_known = member.is_some_and(|member| Claim::check(member).is_ok_and(|own| !own.pod_cidrs.is_empty()));
        let keeps = !is_known && (self.judged || member.is_none());
        let verdicts = judge(&self.config.cluster, self.known().map(|(_, known)| &known.member), &[]);
        let view =
            |verdict: &Verdict| verdict.accepted().filter(|_| is_known || keeps).map(|admitted| admitted.view.clone());
        // Who is refused is known by nothing.
        let views = verdicts.iter().map(|(name, verdict)| (name, view(verdict).unwrap_or(View::Virtual(Vec::new()))));
        let views: BTreeMap<String, View> = views
            .filter(|(name, view)| *name != own && view.is_virtual())
            .map(|(name, view)| (name.clone(), view))
            .collect();
        let views = if keeps {
            // Who is virtual to all is so whatever this cluster has.
            views.into_iter().chain(self.views.clone()).collect()
        } else {
            self.judged = is_known;
            views
        };
        let before = std::mem::replace(&mut self.views, views);
        let names: BTreeSet<String> = before.keys().chain(self.views.keys()).cloned().collect();
        let changed = names.into_iter().filter(|name| before.get(name) != self.views.get(name)).collect();
        self.mark_clusters(&changed);
    }

    fn exports(&self) -> impl Iterator<Item = &ServiceKey> {
        self.objects.get(&Kind::Export).into_iter().flatten().filter_map(|(_, entry)| entry.key.as_ref())
    }

    /// All services that one of `clusters` exports.
    pub(super) fn mark_clusters(&mut self, clusters: &BTreeSet<String>) {
        if clusters.is_empty() {
            return;
        }
        let records = self.objects.get(&Kind::Record).into_iter().flatten();
        let of = |entry: &Entry| matches!(&entry.kept, Kept::Record(record) if clusters.contains(&record.cluster));
        let keys: Vec<_> = records.filter(|(_, entry)| of(entry)).filter_map(|(_, entry)| entry.key.clone()).collect();
        self.dirty.extend(keys);
    }

    fn set_families(&mut self) {
        if !self.config.families.is_empty() {
            return;
        }
        let object = |kind, place: (&str, &str)| {
            let objects: &std::collections::BTreeMap<Place, Entry> = self.objects.get(&kind)?;
            objects.get(&(place.0.to_owned(), place.1.to_owned())).map(|entry| &entry.kept)
        };
        let own =
            self.known().find(|(name, known)| *name == self.config.cluster.as_str() && !known.families.is_empty());
        let own = own.map(|(_, known)| known.families.clone());
        let kubernetes = || match object(Kind::Service, KUBERNETES) {
            Some(Kept::Service(service)) if !service.families.is_empty() => Some(service.families.clone()),
            _ => None,
        };
        let families = own.or_else(kubernetes).unwrap_or_else(|| vec![Family::V4]);
        if families != self.families {
            self.families = families;
            self.mark_all();
        }
    }
}

/// Whether two versions of an object make no difference. Objects that only we read, and whose every field counts, are
/// taken to differ: their versions change with their content only.
fn says_the_same(before: &Entry, after: &Entry) -> bool {
    match (&before.kept, &after.kept) {
        (Kept::Export(before), Kept::Export(after)) => before == after,
        (Kept::Service(before), Kept::Service(after)) => before == after,
        (Kept::Native(before), Kept::Native(after)) => before == after,
        (Kept::Derived(before), Kept::Derived(after)) => before == after,
        (Kept::Imported(before), Kept::Imported(after)) => before == after,
        (Kept::Import(before), Kept::Import(after)) => {
            before.metadata.labels == after.metadata.labels
                && before.metadata.annotations == after.metadata.annotations
                && before.metadata.generation == after.metadata.generation
                && before.spec == after.spec
                && before.status == after.status
        }
        (Kept::Namespace(before), Kept::Namespace(after)) => before == after,
        (Kept::Record(before), Kept::Record(after)) => before == after,
        (Kept::Member(before), Kept::Member(after)) => before == after,
        (Kept::Gateway, Kept::Gateway) | (Kept::Lease, Kept::Lease) | (Kept::Going, Kept::Going) => true,
        (Kept::Credential(before), Kept::Credential(after)) => before == after,
        _ => false,
    }
}

/// A cluster is in a clusterset from the time when it has a credential until it is asked to leave.
pub(super) fn membership(credential: &ObjectMeta) -> Membership {
    let leaves = credential.annotations.iter().flatten().any(|(key, _)| key == ANNOTATION_LEAVE);
    if leaves || credential.deletion_timestamp.is_some() { Membership::Outside } else { Membership::Joined }
}

/// The families of a Member's service addresses, in order.
pub(super) fn families(member: &Member) -> Vec<Family> {
    let mut families = Vec::new();
    for text in &member.spec.service_cidrs {
        let family = text.parse::<ipnet::IpNet>().ok().map(|net| Family::of(&net.addr()));
        families.extend(family.filter(|family| !families.contains(family)));
    }
    families
}
