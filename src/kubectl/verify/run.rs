//! Makes the calls.

use std::time::Duration;

use futures::StreamExt as _;

use super::judge::{self, Outcome};
use super::plan::{Call, Kind};
use crate::echo::client::{Answer, Carried};
use crate::kubectl::output::Progress;
use crate::kubectl::stage::{Cluster, Stage};

/// Calls under way at a time.
const AT_ONCE: usize = 8;
/// Between tries of one call.
const PAUSE: Duration = Duration::from_secs(2);
/// Tries of a call, and of one by name: CoreDNS takes up to two minutes to see that it shall forward.
const TRIES: usize = 5;
const TRIES_BY_NAME: usize = 60;
/// Bytes of large packets.
const LARGE: &str = "1000000";

/// Makes all calls; the outcomes are in their order.
pub async fn all(stage: &Stage, calls: &[Call], progress: &Progress) -> Vec<Outcome> {
    let made = futures::stream::iter(calls).map(async |call| match stage.cluster(&call.from.0) {
        Some(near) => Outcome::of(call, repeated(near, call).await),
        None => Outcome::of(call, Err(format!("{} is not one of the clusters", call.from.0))),
    });
    let mut made = made.buffered(AT_ONCE);
    let mut outcomes = Vec::new();
    while let Some(outcome) = made.next().await {
        outcomes.push(outcome);
        progress.now(format!("{} of {} calls", outcomes.len(), calls.len()));
    }
    outcomes
}

async fn repeated(near: &Cluster, call: &Call) -> Result<String, String> {
    let by_name = matches!(call.kind, Kind::Service | Kind::ServiceUdp | Kind::PodName);
    let mut last = Err("it was not tried".to_owned());
    for _ in 0..if by_name { TRIES_BY_NAME } else { TRIES } {
        last = once(near, call).await;
        // Where it is known that another try finds the same, none is made.
        if last.is_ok() || last.as_ref().is_err_and(|error| error.starts_with("missing permission")) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    last
}

async fn once(near: &Cluster, call: &Call) -> Result<String, String> {
    let (pod, target) = (call.from.1.as_str(), call.target.as_str());
    if call.kind == Kind::LargePackets {
        let carried: Carried = near.call(pod, &["carry", target, "--bytes", LARGE]).await?;
        return Ok(format!("{} bytes there and back in {:.0} ms", carried.bytes / 2, carried.seconds * 1000.0));
    }
    let transport = if call.kind == Kind::ServiceUdp { "udp" } else { "tcp" };
    let answer: Answer = near.call(pod, &["who", target, "--transport", transport]).await?;
    judge::answer(call, &answer)
}
