//! The watches, as one stream of inputs.

use std::fmt::Debug;

use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, select_all};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::properties;
use super::world::Input;
use crate::api::names::{LEASE_GATEWAY, SECRET_BROKER, SECRET_JOIN};
use crate::api::{GatewayNode, Member, ServiceRecord};

/// All watches of one API server.
pub(super) type Inputs = SelectAll<BoxStream<'static, Input>>;

/// Watches what is read in the own cluster.
pub(super) fn local(client: &Client, namespace: &str) -> Inputs {
    fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(client.clone(), namespace)
    }
    let named = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
    let all = Config::default;
    select_all([
        watch("Nodes", Api::<Node>::all(client.clone()), all(), |event| Input::Node(Box::new(event))),
        watch("ClusterProperties", properties::api(client), all(), Input::Property),
        service_cidrs(client),
        watch("GatewayNodes", namespaced::<GatewayNode>(client, namespace), all(), Input::GatewayNode),
        watch("Lease", namespaced::<Lease>(client, namespace), named(LEASE_GATEWAY), Input::Lease),
        watch("Members", namespaced::<Member>(client, namespace), all(), Input::Member),
        watch("ServiceRecords", namespaced::<ServiceRecord>(client, namespace), all(), Input::Record),
        watch("Secret", namespaced::<Secret>(client, namespace), named(SECRET_JOIN), Input::JoinSecret),
        watch("Secret", namespaced::<Secret>(client, namespace), named(SECRET_BROKER), Input::BrokerSecret),
    ])
}

/// Watches what is read on the broker.
pub(super) fn broker(client: &Client, namespace: &str) -> Inputs {
    let dynamic = |resource: ApiResource| Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let all = Config::default;
    select_all([
        watch("the broker's Members", dynamic(ApiResource::erase::<Member>(&())), all(), Input::BrokerMember),
        watch(
            "the broker's ServiceRecords",
            dynamic(ApiResource::erase::<ServiceRecord>(&())),
            all(),
            Input::BrokerRecord,
        ),
        watch("the broker's Leases", leases, all(), Input::BrokerLease),
    ])
}

fn watch<K>(what: &'static str, api: Api<K>, config: Config, input: fn(Event<K>) -> Input) -> BoxStream<'static, Input>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(api, config).default_backoff();
    events.map(move |event| event.map_or_else(|error| Input::Broken(what, error.to_string()), input)).boxed()
}

/// ServiceCIDRs came with Kubernetes 1.33; before, there are none.
fn service_cidrs(client: &Client) -> BoxStream<'static, Input> {
    let events = watcher(Api::<ServiceCIDR>::all(client.clone()), Config::default()).default_backoff();
    let input = |event| match event {
        Ok(event) => Input::ServiceCidr(event),
        Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => Input::NoServiceCidrs,
        Err(error) => Input::Broken("ServiceCIDRs", error.to_string()),
    };
    events.map(input).boxed()
}
