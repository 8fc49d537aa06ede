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
    /// Its spec, or why it cannot be read.
    pub spec: Result<T, String>,
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
        let spec = serde_json::from_value::<Body<T>>(object.data).map_err(|error| error.to_string());
        let spec = spec.map(|mut body| {
            body.spec.normalize();
            body.spec
        });
        Self { cluster, created, spec }
    }
}
