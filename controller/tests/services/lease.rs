//! Election by a Lease.

use std::time::{Duration, Instant};

use controller::cluster::lease::{Elector, Holding, LeaseConfig, Standing};
use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::support::Shop;

struct Candidate {
    holding: watch::Receiver<Holding>,
    standing: watch::Sender<Standing>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidate {
    fn start(shop: &Shop, holder: &str) -> Self {
        let config = LeaseConfig {
            namespace: shop.namespace.clone(),
            name: "linkspan-gateway".into(),
            holder: holder.into(),
            duration: Duration::from_millis(900),
            renew_period: Duration::from_millis(200),
        };
        let (elector, holding) = Elector::new(shop.client.clone(), config).unwrap();
        let (standing, stands) = watch::channel(Standing::Candidate);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(elector.run(stands, async {
            let _ = stopped.await;
        }));
        Self { holding, standing, stop, task }
    }

    async fn sees(&mut self, wanted: &Holding) {
        let seen = self.holding.wait_for(|holding| holding == wanted);
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("in time").unwrap();
    }
}

fn other(name: &str) -> Holding {
    Holding::Other(name.into())
}

#[tokio::test]
async fn a_lease_has_one_holder_and_passes_on_at_once_when_given_back_and_soon_when_not() {
    let shop = Shop::open("lease").await;
    let mut a = Candidate::start(&shop, "a");
    a.sees(&Holding::Ours).await;
    let mut b = Candidate::start(&shop, "b");
    b.sees(&other("a")).await;

    // Who steps down gives it back, and it is taken without waiting for its end.
    let began = Instant::now();
    a.standing.send(Standing::Observer).unwrap();
    b.sees(&Holding::Ours).await;
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    a.sees(&other("b")).await;
    a.standing.send(Standing::Candidate).unwrap();

    // Who dies does not, and it is taken when it ends.
    let began = Instant::now();
    b.task.abort();
    a.sees(&Holding::Ours).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let lease = shop.api::<Lease>().get("linkspan-gateway").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_duration_seconds), (Some("a"), Some(1)));

    // Who is shut down gives it back.
    drop(a.stop);
    a.task.await.unwrap();
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
