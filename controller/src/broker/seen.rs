//! Objects on the broker, which another cluster wrote: read one by one, so that a bad one spoils no other.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::names::LABEL_CLUSTER;
use crate::api::{MemberSpec, ServiceRecordSpec};

/// An object on the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<T> {
    /// Value of its label `linkspan.dev/cluster`; empty without.
    pub cluster: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its `metadata.resourceVersion`.
    pub version: Option<String>,
    /// Its spec, or why there is none.
    pub spec: Result<T, Unread>,
}

/// Why an object on the broker has no spec here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It cannot be read: the beginning of why.
    Illegible(String),
    /// It was read and not kept, because its cluster has too much.
    Dropped,
}

/// The beginning of what another cluster wrote, or of an explanation that quotes it.
pub fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}

/// A spec in the form in which the API server gives it back.
pub trait Normal: DeserializeOwned + Serialize {
    /// Brings it into that form.
    fn normalize(&mut self) {}
}

impl Normal for MemberSpec {}

impl Normal for ServiceRecordSpec {
    fn normalize(&mut self) {
        // Times are written in whole seconds.
        let seconds = Timestamp::from_second(self.exported_at.0.as_second());
        self.exported_at.0 = seconds.unwrap_or(self.exported_at.0);
    }
}

impl<T: Normal> Seen<T> {
    /// Reads an object.
    pub fn read(object: DynamicObject) -> Self {
        #[derive(Deserialize)]
        struct Body<T> {
            spec: T,
        }
        let cluster = object.labels().get(LABEL_CLUSTER).cloned().unwrap_or_default();
        let created = object.creation_timestamp().map(|time| time.0);
        let version = object.resource_version();
        let illegible = |error: serde_json::Error| Unread::Illegible(shorten(&error.to_string()));
        let spec = serde_json::from_value::<Body<T>>(object.data).map_err(illegible);
        let spec = spec.map(|mut body| {
            body.spec.normalize();
            body.spec
        });
        Self { cluster, created, version, spec }
    }
}
