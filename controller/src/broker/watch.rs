//! The watches, as one stream of inputs.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream, SelectAll, Stream, select_all, unfold};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::properties;
use super::world::{GATEWAY_LEASE, Input};
use crate::api::names::{LABEL_CLUSTER, LEASE_GATEWAY, SECRET_BROKER, SECRET_JOIN};
use crate::api::{GatewayNode, Member, ServiceRecord};
use crate::cluster::watching::{self, bulky, named, prompt};

/// Records on the broker that are asked for at once. What another cluster has written is read before it is judged, and
/// etcd takes 1.5 MiB for one.
const PAGE: u32 = 25;
/// How long after a cluster has too much no more its records are asked for.
const AGAIN: Duration = Duration::from_secs(10);

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
            bulky().page_size(PAGE),
            Input::BrokerRecord,
        ),
        watch("the broker's Leases", leases, bulky(), Input::BrokerLease),
    ])
}

/// Lists the records of one cluster on the broker once more, after a while: who has too much and too little in turn makes
/// no more work than that.
pub(super) fn records_again(client: &Client, namespace: &str, cluster: String) -> BoxStream<'static, Input> {
    let resource = ApiResource::erase::<ServiceRecord>(&());
    let records = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let config = bulky().page_size(PAGE).labels(&format!("{LABEL_CLUSTER}={cluster}"));
    let list = watching::watch(records, config).filter_map(move |event| {
        let input = match event {
            Ok(Event::InitApply(record)) => Some(Input::BrokerRecordAgain(Box::new(record))),
            Ok(Event::InitDone) => Some(Input::BrokerRecordsAgain(cluster.clone())),
            // Whatever changes after the list, the watch of all shows.
            Ok(Event::Init | Event::Apply(_) | Event::Delete(_)) => None,
            Err(error) => Some(Input::Broken("a cluster's ServiceRecords on the broker", error.to_string())),
        };
        std::future::ready(input)
    });
    let wait = stream::once(tokio::time::sleep(AGAIN)).filter_map(|()| std::future::ready(None));
    wait.chain(until_listed(list.boxed())).boxed()
}

/// `list` with its end, and nothing after it: what follows would be one more watch.
fn until_listed(list: BoxStream<'static, Input>) -> impl Stream<Item = Input> + Send {
    unfold(Some(list), |list| async {
        let mut list = list?;
        let input = list.next().await?;
        let is_last = matches!(input, Input::BrokerRecordsAgain(_));
        Some((input, (!is_last).then_some(list)))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_ends_with_its_end_and_watches_nothing() {
        let listed = stream::iter(["a", "b"]).map(|name| Input::Broken(name, String::new()));
        let end = stream::iter([Input::BrokerRecordsAgain("paris".to_owned())]);
        // Whoever asked for more would wait for ever.
        let mut list = until_listed(listed.chain(end).chain(stream::pending()).boxed()).boxed();
        let mut seen = Vec::new();
        while let Some(input) = list.next().await {
            seen.push(match input {
                Input::Broken(name, _) => name.to_owned(),
                Input::BrokerRecordsAgain(cluster) => format!("end of {cluster}"),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(seen, ["a", "b", "end of paris"]);
    }
}
