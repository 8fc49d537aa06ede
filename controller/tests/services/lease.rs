//! Election by a Lease.

use std::collections::BTreeSet;
use std::time::Duration;

use controller::cluster::lease::{Elector, Holding, LeaseConfig, Standing};
use controller::events::{News, Teller, Weight};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource as _};
use serde_json::json;

use super::support::{Candidate, Shop, client, installed, pod, until};

fn other(name: &str) -> Holding {
    Holding::Other(name.into())
}

#[tokio::test]
async fn a_lease_has_one_holder_and_passes_on_at_once_when_given_back_and_soon_when_not() {
    let shop = Shop::open("lease").await;
    // Who steps down gives it back, and it is taken without waiting for its end: nobody here waits for that long.
    let long = Duration::from_secs(600);
    let candidate = |holder: &str| Candidate::lasting(&shop.client, &shop.namespace, "long", holder, long);
    let mut a = candidate("a");
    a.sees(&Holding::Ours).await;
    let mut b = candidate("b");
    b.sees(&other("a")).await;
    a.standing.send(Standing::Observer).unwrap();
    b.sees(&Holding::Ours).await;
    a.sees(&other("b")).await;
    a.standing.send(Standing::Candidate).unwrap();
    b.standing.send(Standing::Observer).unwrap();
    a.sees(&Holding::Ours).await;

    // Who dies does not, and it is taken when it ends.
    let mut a = Candidate::start(&shop, "a");
    a.sees(&Holding::Ours).await;
    let mut b = Candidate::start(&shop, "b");
    b.sees(&other("a")).await;
    a.task.abort();
    b.sees(&Holding::Ours).await;
    let lease = shop.api::<Lease>().get("linkspan-gateway").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_duration_seconds), (Some("b"), Some(15)));

    // Who is shut down gives it back.
    drop(b.stop);
    b.task.await.unwrap();
    let lease = shop.api::<Lease>().get("linkspan-gateway").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn renewals_that_are_too_slow_are_refused() {
    let shop = Shop::open("slow-lease").await;
    let config = LeaseConfig {
        namespace: shop.namespace.clone(),
        name: "x".into(),
        holder: "a".into(),
        duration: Duration::from_secs(1),
        renew_period: Duration::from_secs(1),
    };
    assert_eq!(
        Elector::new(shop.client, config).unwrap_err().to_string(),
        "lease x: renewal every 1s is too slow for a duration of 1s: at most half of it"
    );
}

/// By the roles and policies of `deploy/member`, which holds no Lease: a tool that keeps it so would delete them, and another
/// one leaves the kind out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_make_the_leases_that_are_missing_and_no_other_ones() {
    let server = installed().await;
    let admin: Api<Lease> = Api::namespaced(client(server.kubeconfig()).await, "linkspan-system");
    let (a, b) = (pod(&server, "linkspan-node", "a").await, pod(&server, "linkspan-node", "b").await);
    let controller = pod(&server, "linkspan-controller", "a").await;
    let lease = |name: &str, holder: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": name }, "spec": { "holderIdentity": holder },
        })
    };
    let apply = async |client: &Client, name: &str, holder: &str| {
        let leases: Api<Lease> = Api::namespaced(client.clone(), "linkspan-system");
        let params = PatchParams::apply("linkspan");
        leases
            .patch(name, &params, &Patch::Apply(lease(name, holder)))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    // Policies are in force some time after they were written. What went through before would be no change later.
    let tries = std::cell::Cell::new(0);
    until("nodes take it for themselves only", async || {
        tries.set(tries.get() + 1);
        let error = apply(&a, "linkspan-gateway", &format!("b{}", tries.get())).await.err()?;
        error.contains("for itself").then_some(())
    })
    .await;
    if admin.get_opt("linkspan-gateway").await.unwrap().is_some() {
        admin.delete("linkspan-gateway", &DeleteParams::default()).await.unwrap();
    }
    assert_eq!(admin.list(&ListParams::default()).await.unwrap().items, []);

    for (client, name) in [(&a, "linkspan-controller"), (&a, "other"), (&controller, "linkspan-gateway")] {
        let error = apply(client, name, "").await.unwrap_err();
        assert!(error.contains("cannot patch resource \"leases\""), "{name}: {error}");
    }
    let error = apply(&b, "linkspan-gateway", "a").await.unwrap_err();
    assert!(error.contains("node b may take the gateway Lease for itself, and give back its own, only"), "{error}");

    let mut leader = Candidate::of(&controller, "linkspan-system", "linkspan-controller", "pod");
    leader.sees(&Holding::Ours).await;
    let mut first = Candidate::of(&a, "linkspan-system", "linkspan-gateway", "a");
    first.sees(&Holding::Ours).await;
    let mut second = Candidate::of(&b, "linkspan-system", "linkspan-gateway", "b");
    second.sees(&other("a")).await;
    // Who comes late with making it changes nothing.
    let leases: Api<Lease> = Api::namespaced(b.clone(), "linkspan-system");
    let made =
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "linkspan-gateway" } });
    let late = leases.patch("linkspan-gateway", &PatchParams::apply("late"), &Patch::Apply(&made)).await;
    assert_eq!(late.unwrap().spec.unwrap().holder_identity.as_deref(), Some("a"));
    // The same roles let both tell what has changed.
    let about = admin.get("linkspan-gateway").await.unwrap().object_ref(&());
    for (client, reason) in [(&a, "Active"), (&controller, "Ready")] {
        let news = [News::new(Weight::Normal, reason, "Test", "told")];
        until("its role counts", async || {
            Teller::new(client.clone(), "linkspan", None).tell(&about, &news).await.then_some(())
        })
        .await;
    }
    let events: Api<Event> = Api::namespaced(client(server.kubeconfig()).await, "linkspan-system");
    let events = events.list(&ListParams::default()).await.unwrap();
    // The API server tells of other objects meanwhile.
    let of_lease = |event: &&Event| event.regarding.as_ref().is_some_and(|it| it.kind.as_deref() == Some("Lease"));
    let told: BTreeSet<_> = events.iter().filter(of_lease).filter_map(|event| event.reason.as_deref()).collect();
    assert_eq!(told, ["Active", "Ready"].into());
    // One that is deleted is back at once.
    admin.delete("linkspan-gateway", &DeleteParams::default()).await.unwrap();
    until("the Lease is back", async || {
        let lease = admin.get_opt("linkspan-gateway").await.unwrap()?;
        lease.spec?.holder_identity.filter(|holder| holder == "a" || holder == "b")
    })
    .await;
}
