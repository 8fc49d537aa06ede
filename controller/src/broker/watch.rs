//! The watches, as one stream of inputs.

use std::fmt::Debug;

use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, Stream, select_all};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::properties;
use super::world::{GATEWAY_LEASE, Input};
use crate::api::names::{LEASE_GATEWAY, SECRET_BROKER, SECRET_JOIN};
use crate::api::{GatewayNode, Member, ServiceRecord};
use crate::cluster::watching::{self, bulky, named, prompt};

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
    let lease = watching::watch_lease(namespaced(client, namespace), LEASE_GATEWAY);
    select_all([
        watch("Nodes", Api::<Node>::all(client.clone()), prompt(), |event| Input::Node(Box::new(event))),
        watch("ClusterProperties", properties::api(client), prompt(), Input::Property),
        service_cidrs(client),
        watch("GatewayNodes", namespaced::<GatewayNode>(client, namespace), prompt(), Input::GatewayNode),
        inputs(GATEWAY_LEASE, lease, Input::Lease),
        watch("Members", namespaced::<Member>(client, namespace), prompt(), Input::Member),
        watch("ServiceRecords", namespaced::<ServiceRecord>(client, namespace), prompt(), Input::Record),
        watch("Secret", namespaced::<Secret>(client, namespace), named(SECRET_JOIN), Input::JoinSecret),
        watch("Secret", namespaced::<Secret>(client, namespace), named(SECRET_BROKER), Input::BrokerSecret),
    ])
}

/// Watches what is read on the broker.
pub(super) fn broker(client: &Client, namespace: &str) -> Inputs {
    let dynamic = |resource: ApiResource| Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    select_all([
        watch("the broker's Members", dynamic(ApiResource::erase::<Member>(&())), bulky(), Input::BrokerMember),
        watch(
            "the broker's ServiceRecords",
            dynamic(ApiResource::erase::<ServiceRecord>(&())),
            bulky(),
            Input::BrokerRecord,
        ),
        watch("the broker's Leases", leases, bulky(), Input::BrokerLease),
    ])
}

fn watch<K>(what: &'static str, api: Api<K>, config: Config, input: fn(Event<K>) -> Input) -> BoxStream<'static, Input>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    inputs(what, watching::watch(api, config), input)
}

fn inputs<K: 'static>(
    what: &'static str,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    input: fn(Event<K>) -> Input,
) -> BoxStream<'static, Input> {
    events.map(move |event| event.map_or_else(|error| Input::Broken(what, error.to_string()), input)).boxed()
}

/// ServiceCIDRs came with Kubernetes 1.33; before, there are none.
fn service_cidrs(client: &Client) -> BoxStream<'static, Input> {
    let events = watching::watch(Api::<ServiceCIDR>::all(client.clone()), prompt());
    let input = |event| match event {
        Ok(event) => Input::ServiceCidr(event),
        Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => Input::NoServiceCidrs,
        Err(error) => Input::Broken("ServiceCIDRs", error.to_string()),
    };
    events.map(input).boxed()
}
