//! An API server that is gone without a word: connections stay, and nothing comes any more.

use controller::cluster::client::connect;
use controller::cluster::watching::{prompt, watch, watch_lease};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use testbed::wait::PATIENCE;

use super::relay::Relay;
use super::support::{Shop, create, shared_config};

/// Waits for an event about an object that `wanted` likes.
async fn sees<K>(
    events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin),
    what: &str,
    wanted: impl Fn(&K) -> bool,
) {
    let seen = async {
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(object) | Event::InitApply(object)) = event
                && wanted(&object)
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_requests_outlive_an_api_server_that_falls_silent() {
    let shop = Shop::open("silence").await;
    let mut config = shared_config().await;
    let relay = Relay::before(&mut config).await;
    let client = connect(config).unwrap();
    let leases = Api::<Lease>::namespaced(client.clone(), &shop.namespace);
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &shop.namespace);
    let named = |name: &str| json!({ "metadata": { "name": name } });
    let apply = async |holder: &str| {
        let lease: Value = json!({ "spec": { "holderIdentity": holder } });
        shop.api::<Lease>().patch("beat", &PatchParams::default(), &Patch::Merge(lease)).await.unwrap();
    };
    create::<Lease>(&shop.client, &shop.namespace, named("beat")).await;
    create::<ConfigMap>(&shop.client, &shop.namespace, named("first")).await;
    let mut beats = watch_lease(leases.clone(), "beat").boxed();
    let mut seen = watch(maps.clone(), prompt()).boxed();
    sees(&mut beats, "the Lease", |_| true).await;
    sees(&mut seen, "the first map", |map| map.metadata.name.as_deref() == Some("first")).await;
    apply("before").await;
    sees(&mut beats, "its holder", |lease| holder(lease) == Some("before")).await;
    // Watches have begun, and some connections rest.
    let (one, other) = tokio::join!(maps.get("first"), leases.get("beat"));
    one.unwrap();
    other.unwrap();

    relay.fall_silent();
    apply("after").await;
    create::<ConfigMap>(&shop.client, &shop.namespace, named("second")).await;
    let request = async {
        let answer = tokio::time::timeout(PATIENCE, maps.get("second")).await.expect("it ends");
        answer.expect_err("it was sent on a connection that had rested");
    };
    tokio::join!(
        request,
        sees(&mut beats, "the next holder", |lease| holder(lease) == Some("after")),
        sees(&mut seen, "the second map", |map| map.metadata.name.as_deref() == Some("second")),
    );
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}
