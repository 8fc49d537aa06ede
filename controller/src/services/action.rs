//! What a plan consists of.

use std::fmt;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::import::Extras;
use crate::api::{ServiceExport, ServiceImport, ServiceRecord};
use crate::events::News;

/// One write to the API server; prints as one line.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Writes this cluster's own record.
    ApplyRecord(Box<ServiceRecord>),
    /// Removes this cluster's own record.
    DeleteRecord(ObjectRef),
    /// Writes a derived Service.
    ApplyDerived(Box<Service>),
    /// Removes a derived Service, and gives back its addresses.
    DeleteDerived(ObjectRef),
    /// Writes an imported EndpointSlice.
    ApplySlice(Box<EndpointSlice>),
    /// Removes an imported EndpointSlice.
    DeleteSlice(ObjectRef),
    /// Writes a ServiceImport, without its status.
    ApplyImport(Box<ServiceImport>),
    /// Takes out of a ServiceImport what others have put where Linkspan says nothing: server-side apply leaves it there.
    TrimImport(Box<Trim>),
    /// Writes the status of a ServiceImport.
    ApplyImportStatus(Box<ServiceImport>),
    /// Removes a ServiceImport.
    DeleteImport(ObjectRef),
    /// Writes our conditions of a ServiceExport, and then tells what is new in them.
    ApplyExportStatus(Box<ServiceExport>, Vec<News>),
}

/// What is taken out of an object, of this very version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trim {
    /// The object.
    pub object: ObjectRef,
    /// Its version.
    pub version: Option<String>,
    /// What is too much.
    pub extras: Extras,
}

impl Trim {
    /// Takes `extras` out of the object with this metadata.
    pub fn new(metadata: &ObjectMeta, extras: Extras) -> Self {
        Self { object: ObjectRef::of(metadata), version: metadata.resource_version.clone(), extras }
    }

    /// As a JSON merge patch.
    pub fn patch(&self) -> Value {
        let none = |keys: &[String]| keys.iter().map(|key| (key.clone(), Value::Null)).collect::<Value>();
        let Self { version, extras, .. } = self;
        json!({
            "metadata": { "resourceVersion": version, "annotations": none(&extras.annotations) },
            "spec": none(&extras.spec),
        })
    }
}

/// A write that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What was to be written.
    pub action: Action,
    /// Why it failed, as people are told; nothing where only the world has moved on.
    pub told: Option<String>,
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: another object under the same name is not meant.
    pub uid: String,
}

impl ObjectRef {
    /// The object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApplyRecord(record) => write!(f, "apply ServiceRecord {}", named(&**record)),
            Self::DeleteRecord(record) => write!(f, "delete ServiceRecord {record}"),
            Self::ApplyDerived(service) => write!(f, "apply Service {}", named(&**service)),
            Self::DeleteDerived(service) => write!(f, "delete Service {service}"),
            Self::ApplySlice(slice) => {
                write!(f, "apply EndpointSlice {} with {} endpoints", named(&**slice), slice.endpoints.len())
            }
            Self::DeleteSlice(slice) => write!(f, "delete EndpointSlice {slice}"),
            Self::ApplyImport(import) => {
                let kind = import.spec.kind;
                write!(f, "apply ServiceImport {} {kind:?} [{}]", named(&**import), import.spec.ips.join(","))
            }
            Self::TrimImport(trim) => {
                let Extras { spec, annotations } = &trim.extras;
                write!(f, "take {} out of ServiceImport {}", [&spec[..], annotations].concat().join(","), trim.object)
            }
            Self::ApplyImportStatus(import) => write!(f, "set status of ServiceImport {}", named(&**import)),
            Self::DeleteImport(import) => write!(f, "delete ServiceImport {import}"),
            Self::ApplyExportStatus(export, _) => {
                write!(f, "set conditions of ServiceExport {}", named(&**export))?;
                let conditions = export.status.iter().flat_map(|status| &status.conditions);
                conditions.into_iter().try_for_each(|told| write!(f, " {}={}/{}", told.type_, told.status, told.reason))
            }
        }
    }
}

fn named(object: &impl Resource) -> ObjectRef {
    ObjectRef::of(object.meta())
}
