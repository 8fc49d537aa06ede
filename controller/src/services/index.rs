//! What the API server holds, as far as services are concerned, kept by service; and which services have changed.
//!
//! Objects are taken apart when they come in, so that a plan reads checked values, and only what is needed stays in
//! memory.

mod keys;
mod meanwhile;
mod summary;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ObjectMeta, PartialObjectMeta};

use self::meanwhile::{Listing, Meanwhile};
pub use self::summary::Summary;
use super::action::ObjectRef;
use super::derived::{DerivedService, derived_name};
use super::plan::{ACCEPTED, Membership, Namespace, Observed, SeenDerived, SeenExport, SeenRecord, SeenSlice};
use super::reach::{Exporter, Reach, holder};
use super::record::{LocalExport, LocalService, Site, local_slice};
use super::slices::ImportedSlice;
use super::validate::{Policy, parse};
use super::value::{ClusterId, Family, ServiceKey, Slice};
use super::version::ServerVersion;
use crate::api::names::{LABEL_CLUSTER, LABEL_SLICE_MANAGED_BY, LABEL_SLICE_SERVICE, MANAGED_BY};
use crate::api::{GatewayNode, Member, ServiceExport, ServiceImport, ServiceRecord};
use crate::members::View;

/// An object of a kind that is watched.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each holds what its name says")]
pub enum Object {
    Export(Box<ServiceExport>),
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    Import(Box<ServiceImport>),
    Namespace(Box<NamespaceObject>),
    Record(Box<ServiceRecord>),
    Member(Box<Member>),
    Gateway(Box<GatewayNode>),
    /// The gateway Lease.
    Lease(Box<Lease>),
    /// The Secret with the credential for the broker, without the credential.
    Credential(Box<PartialObjectMeta<Secret>>),
}

/// The kinds of [`Object`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is what its name says")]
pub enum Kind {
    Export,
    Service,
    Slice,
    Import,
    Namespace,
    Record,
    Member,
    Gateway,
    Lease,
    Credential,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Export,
        Self::Service,
        Self::Slice,
        Self::Import,
        Self::Namespace,
        Self::Record,
        Self::Member,
        Self::Gateway,
        Self::Lease,
        Self::Credential,
    ];
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Export(_) => Kind::Export,
            Self::Service(_) => Kind::Service,
            Self::Slice(_) => Kind::Slice,
            Self::Import(_) => Kind::Import,
            Self::Namespace(_) => Kind::Namespace,
            Self::Record(_) => Kind::Record,
            Self::Member(_) => Kind::Member,
            Self::Gateway(_) => Kind::Gateway,
            Self::Lease(_) => Kind::Lease,
            Self::Credential(_) => Kind::Credential,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Export(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::Slice(object) => &object.metadata,
            Self::Import(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::Record(object) => &object.metadata,
            Self::Member(object) => &object.metadata,
            Self::Gateway(object) => &object.metadata,
            Self::Lease(object) => &object.metadata,
            Self::Credential(object) => &object.metadata,
        }
    }
}

/// What this cluster is.
#[derive(Debug, Clone)]
pub struct IndexConfig {
    /// Its ID.
    pub cluster: ClusterId,
    /// What may be exported and imported.
    pub policy: Policy,
    /// The families of its service addresses, primary first; none: those of its own Member's Service CIDRs, else those
    /// of the Service `default/kubernetes`.
    pub families: Vec<Family>,
}

/// Where an object is.
type Place = (String, String);

/// What of an object is kept.
#[derive(Debug)]
enum Kept {
    Export(SeenExport),
    Service(LocalService),
    Derived(SeenDerived),
    Native(Slice),
    Imported(SeenSlice),
    Import(Box<ServiceImport>),
    Namespace(Namespace),
    Record(Box<SeenRecord>),
    Member(Box<Known>),
    Gateway,
    Lease,
    Credential(Membership),
    /// One that is being deleted: it counts for nothing, but its end makes room for another one.
    Going,
}

/// What of a Member is kept.
#[derive(Debug, PartialEq)]
struct Known {
    exporter: Exporter,
    families: Vec<Family>,
    /// The object, for who judges it.
    member: Member,
}

#[derive(Debug)]
struct Entry {
    /// The service that it is about, as far as it is about one.
    key: Option<ServiceKey>,
    uid: String,
    version: u64,
    kept: Kept,
}

/// What becomes of an older version of an object than the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Older {
    PassedOver,
    Believed,
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    config: IndexConfig,
    objects: BTreeMap<Kind, BTreeMap<Place, Entry>>,
    /// Objects by service, in [`Index::objects`].
    by_key: BTreeMap<ServiceKey, BTreeSet<(Kind, Place)>>,
    members: BTreeMap<String, Exporter>,
    /// By which addresses this cluster knows the pods of others; those that are not in it by their own.
    views: BTreeMap<String, View>,
    /// Whether `views` is what an own Member of use has led to.
    judged: bool,
    families: Vec<Family>,
    membership: Membership,
    reach: Reach,
    server: ServerVersion,
    /// Lists that are under way.
    listing: BTreeMap<Kind, Listing>,
    /// What has happened since writes about a service began.
    passes: BTreeMap<ServiceKey, Meanwhile>,
    dirty: BTreeSet<ServiceKey>,
}

impl Index {
    /// One that knows nothing.
    pub fn new(config: IndexConfig) -> Self {
        let families = if config.families.is_empty() { vec![Family::V4] } else { config.families.clone() };
        Self {
            config,
            objects: BTreeMap::new(),
            by_key: BTreeMap::new(),
            members: BTreeMap::new(),
            views: BTreeMap::new(),
            judged: false,
            families,
            membership: Membership::Outside,
            reach: Reach::default(),
            server: ServerVersion::default(),
            listing: BTreeMap::new(),
            passes: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// A watch tells that `object` is there. An older version than the known one is passed over, unless it is of a list:
    /// watches may be behind our own writes.
    pub fn upsert(&mut self, object: Object) {
        let listing = self.listing.get_mut(&object.kind());
        let older = listing.map_or(Older::PassedOver, |listing| listing.note(place(object.metadata())));
        self.take(object, older);
    }

    fn take(&mut self, object: Object, older: Older) {
        let kind = object.kind();
        let metadata = object.metadata();
        let place = place(metadata);
        let uid = metadata.uid.clone().unwrap_or_default();
        let version = metadata.resource_version.as_ref().and_then(|text| text.parse().ok()).unwrap_or(0);
        let known = self.objects.get(&kind).and_then(|objects| objects.get(&place));
        let is_older = known.is_some_and(|known| known.uid == uid && known.version > version);
        if is_older && older == Older::PassedOver {
            return;
        }
        let changed = match &object {
            Object::Gateway(gateway) => self.reach.insert(gateway),
            Object::Lease(lease) => self.reach.set_holder(holder(lease)),
            _ => BTreeSet::new(),
        };
        self.mark_clusters(&changed);
        let Some((key, kept)) = self.take_apart(object, &place) else {
            self.drop_entry(kind, &place);
            return;
        };
        self.insert(kind, place, Entry { key, uid, version, kept });
    }

    /// `object` is no more.
    pub fn remove(&mut self, object: &Object) {
        self.drop_entry(object.kind(), &place(object.metadata()));
    }

    /// The object of that name and UID has been deleted.
    pub fn forget(&mut self, kind: Kind, object: &ObjectRef) {
        let place = (object.namespace.clone(), object.name.clone());
        if self.is_known(kind, &place, &object.uid) {
            self.drop_entry(kind, &place);
        }
    }

    fn is_known(&self, kind: Kind, place: &Place, uid: &str) -> bool {
        self.objects.get(&kind).and_then(|objects| objects.get(place)).is_some_and(|known| known.uid == uid)
    }

    /// The services that have changed since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.dirty)
    }

    /// Looks at `key` again.
    #[cfg(test)]
    pub(super) fn mark(&mut self, key: &ServiceKey) {
        self.dirty.insert(key.clone());
    }

    /// All services that anything is known about.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.by_key.keys()
    }

    /// All that is known about `key`.
    pub fn observe<'a>(&'a self, key: &'a ServiceKey) -> Observed<'a> {
        let own = self.members.get(self.config.cluster.as_str());
        let networks = own.and_then(|own| own.networks.as_ref());
        let mut observed = Observed {
            key,
            site: Site { cluster: &self.config.cluster, networks, policy: &self.config.policy },
            membership: self.membership,
            families: &self.families,
            namespace: self.namespace(&key.namespace),
            export: None,
            service: None,
            native_slices: Vec::new(),
            records: Vec::new(),
            members: &self.members,
            views: &self.views,
            import: None,
            derived: Vec::new(),
            derived_name_taken: false,
            slices: Vec::new(),
            reachability: self.reach.clusters(),
            server: self.server,
            failures: &[],
        };
        for (kind, place) in self.by_key.get(key).into_iter().flatten() {
            match self.objects.get(kind).and_then(|objects| objects.get(place)).map(|entry| &entry.kept) {
                Some(Kept::Export(export)) => observed.export = Some(export),
                Some(Kept::Service(service)) => observed.service = Some(service),
                Some(Kept::Derived(derived)) => observed.derived.push(derived),
                Some(Kept::Native(slice)) => observed.native_slices.push(slice),
                Some(Kept::Imported(slice)) => observed.slices.push(slice),
                Some(Kept::Import(import)) => observed.import = Some(import),
                Some(Kept::Record(record)) => observed.records.push(record),
                Some(Kept::Namespace(_) | Kept::Member(..) | Kept::Gateway | Kept::Lease | Kept::Credential(_)) => {}
                Some(Kept::Going) | None => {}
            }
        }
        let derived = (key.namespace.clone(), derived_name(key));
        let taken = self.objects.get(&Kind::Service).and_then(|services| services.get(&derived));
        observed.derived_name_taken = taken.is_some_and(|entry| matches!(entry.kept, Kept::Service(_)));
        observed
    }

    fn namespace(&self, name: &str) -> Namespace {
        let place = (String::new(), name.to_owned());
        match self.objects.get(&Kind::Namespace).and_then(|objects| objects.get(&place)).map(|entry| &entry.kept) {
            Some(Kept::Namespace(namespace)) => *namespace,
            _ => Namespace::Absent,
        }
    }

    /// The service that an object is about, and what of it is kept; nothing for objects that do not count.
    fn take_apart(&self, object: Object, place: &Place) -> Option<(Option<ServiceKey>, Kept)> {
        let here = || Some(ServiceKey::new(&place.0, &place.1));
        let going = object.metadata().deletion_timestamp.is_some();
        Some(match object {
            Object::Export(_) | Object::Import(_) if going => (here(), Kept::Going),
            Object::Slice(slice) if going => (take_slice_apart(&slice)?.0, Kept::Going),
            Object::Export(export) => {
                let generation = export.metadata.generation;
                let local = LocalExport::of(&export);
                let conditions = export.status.map(|status| status.conditions).unwrap_or_default();
                (here(), Kept::Export(SeenExport { local, generation, conditions }))
            }
            Object::Service(service) => match DerivedService::of(&service) {
                Some((content, ips)) => {
                    let key = content.service.clone();
                    (Some(key), Kept::Derived(SeenDerived { object: ObjectRef::of(&service.metadata), content, ips }))
                }
                None => (here(), Kept::Service(LocalService::of(&service))),
            },
            Object::Slice(slice) => take_slice_apart(&slice)?,
            Object::Import(import) => (here(), Kept::Import(import)),
            Object::Namespace(namespace) => {
                let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
                let going = going || phase == Some("Terminating");
                (None, Kept::Namespace(if going { Namespace::Terminating } else { Namespace::Active }))
            }
            Object::Record(record) => self.take_record_apart(*record),
            Object::Member(member) => {
                let (exporter, families) = (Exporter::of(&member), keys::families(&member));
                let kept = ObjectMeta {
                    name: member.metadata.name,
                    annotations: member.metadata.annotations,
                    ..ObjectMeta::default()
                };
                let member = Member { metadata: kept, spec: member.spec, status: None };
                (None, Kept::Member(Box::new(Known { exporter, families, member })))
            }
            Object::Gateway(_) => (None, Kept::Gateway),
            Object::Lease(_) => (None, Kept::Lease),
            Object::Credential(secret) => (None, Kept::Credential(keys::membership(&secret.metadata))),
        })
    }

    fn take_record_apart(&self, record: ServiceRecord) -> (Option<ServiceKey>, Kept) {
        let label = record.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_CLUSTER));
        let cluster = label.unwrap_or(&record.spec.cluster_id).clone();
        let content = parse(&record, &cluster, &self.config.policy);
        let key = ServiceKey::new(&record.spec.namespace, &record.spec.name);
        let object = ObjectRef::of(&record.metadata);
        let conditions = record.status.map(|status| status.conditions).unwrap_or_default();
        let accepted = conditions.into_iter().find(|condition| condition.type_ == ACCEPTED);
        (Some(key), Kept::Record(Box::new(SeenRecord { cluster, object, content, accepted })))
    }
}

fn place(metadata: &ObjectMeta) -> Place {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Slices of ours are about the service that they import, others about the Service that they belong to.
fn take_slice_apart(slice: &EndpointSlice) -> Option<(Option<ServiceKey>, Kept)> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(LABEL_SLICE_MANAGED_BY).is_some_and(|by| by == MANAGED_BY) {
        let content = ImportedSlice::of(slice)?;
        let key = content.service.clone();
        return Some((Some(key), Kept::Imported(SeenSlice { object: ObjectRef::of(&slice.metadata), content })));
    }
    let key = ServiceKey::new(slice.metadata.namespace.clone()?, labels.get(LABEL_SLICE_SERVICE)?);
    Some((Some(key), Kept::Native(local_slice(slice)?)))
}

#[cfg(test)]
mod tests;
