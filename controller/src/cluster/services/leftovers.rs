//! What the loop has made and is still there, for who waits until nothing is.

use std::fmt;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::{Client, Error, Resource, ResourceExt as _};

use crate::api::names::{
    LABEL_CLUSTER, LABEL_MANAGED_BY, LABEL_SERVICE_NAME, LABEL_SLICE_MANAGED_BY, MANAGED_BY, SYSTEM_NAMESPACE,
};
use crate::api::{ServiceImport, ServiceRecord};

/// Objects of one kind that are named.
const SHOWN: usize = 3;

/// Objects that bear our mark; prints as a list for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Kind, and namespace and name of each.
    kinds: Vec<(&'static str, Vec<String>)>,
}

impl Leftovers {
    /// Lists derived Services, imported EndpointSlices, ServiceImports and ServiceRecords.
    ///
    /// # Errors
    /// When the API server refuses a list. A kind that it does not have has no objects.
    pub async fn find(client: &Client) -> Result<Self, Error> {
        let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
        let services = Api::<Service>::all(client.clone());
        let slices = Api::<EndpointSlice>::all(client.clone());
        let imports = Api::<ServiceImport>::all(client.clone());
        let records = Api::<ServiceRecord>::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let kinds = vec![
            ("ServiceImport", list(&imports, &ours).await?),
            ("Service", list(&services, &format!("{ours},{LABEL_SERVICE_NAME}")).await?),
            ("EndpointSlice", list(&slices, &format!("{LABEL_SLICE_MANAGED_BY}={MANAGED_BY}")).await?),
            ("ServiceRecord", list(&records, LABEL_CLUSTER).await?),
        ];
        Ok(Self { kinds: kinds.into_iter().filter(|(_, names)| !names.is_empty()).collect() })
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (kind, names)) in self.kinds.iter().enumerate() {
            let (comma, plural) = (if number == 0 { "" } else { ", " }, if names.len() == 1 { "" } else { "s" });
            let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if names.len() > SHOWN { ", ..." } else { "" };
            write!(f, "{comma}{} {kind}{plural} ({shown}{more})", names.len())?;
        }
        Ok(())
    }
}

async fn list<K>(api: &Api<K>, labels: &str) -> Result<Vec<String>, Error>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let name =
        |namespace: Option<String>, name: String| namespace.map_or(name.clone(), |space| format!("{space}/{name}"));
    match api.list_metadata(&ListParams::default().labels(labels)).await {
        Ok(list) => Ok(list.items.into_iter().map(|object| name(object.namespace(), object.name_any())).collect()),
        Err(Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_counted_and_the_first_of_each_kind_are_named() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let left = Leftovers {
            kinds: vec![("ServiceImport", names(&["a/b"])), ("Service", names(&["a/1", "a/2", "a/3", "a/4"]))],
        };
        assert_eq!(left.to_string(), "1 ServiceImport (a/b), 4 Services (a/1, a/2, a/3, ...)");
        assert!(!left.is_empty() && Leftovers::default().is_empty());
    }
}
