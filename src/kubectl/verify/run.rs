//! Makes the calls.

use std::time::Duration;

use futures::StreamExt as _;

use super::judge::{self, Outcome};
use super::plan::{Call, Kind};
use crate::echo::client::{Answer, Carried};
use crate::kubectl::output::Progress;
use crate::kubectl::stage::{Cluster, Deadline, Stage};

/// Calls under way at a time.
const AT_ONCE: usize = 8;
/// How long calls by address are tried again, and those by name: CoreDNS takes up to two minutes to see that it shall
/// forward. All calls share that time, so that many which fail do not take longer than one.
const ADDRESSES_KNOWN: Duration = Duration::from_secs(30);
const NAMES_KNOWN: Duration = Duration::from_secs(120);
/// Longest time of one call: it gives up by itself after 15 s, and its name may take 10 s to resolve.
const CALL: Duration = Duration::from_secs(40);
/// Bytes of large packets.
const LARGE: &str = "1000000";

/// Makes all calls; the outcomes are in their order.
pub async fn all(stage: &Stage, calls: &[Call], progress: &Progress) -> Vec<Outcome> {
    let (by_address, by_name) = (Deadline::after(ADDRESSES_KNOWN), Deadline::after(NAMES_KNOWN));
    let made = futures::stream::iter(calls).map(async |call| {
        let Some(near) = stage.cluster(&call.from.0) else {
            return Outcome::of(call, Err(format!("{} is not one of the clusters", call.from.0)));
        };
        let is_by_name = matches!(call.kind, Kind::Service | Kind::ServiceUdp | Kind::PodName);
        let deadline = if is_by_name { &by_name } else { &by_address };
        Outcome::of(call, deadline.retry(async || once(near, call).await).await)
    });
    let mut made = std::pin::pin!(made.buffered(AT_ONCE));
    let mut outcomes = Vec::new();
    while let Some(outcome) = made.next().await {
        outcomes.push(outcome);
        progress.now(format!("{} of {} calls", outcomes.len(), calls.len()));
    }
    outcomes
}

async fn once(near: &Cluster, call: &Call) -> Result<String, String> {
    let (pod, target) = (call.from.1.as_str(), call.target.as_str());
    if call.kind == Kind::LargePackets {
        let carried: Carried = near.call(pod, &["carry", target, "--bytes", LARGE], CALL).await?;
        return Ok(format!("{} bytes there and back in {:.0} ms", carried.bytes / 2, carried.seconds * 1000.0));
    }
    let transport = if call.kind == Kind::ServiceUdp { "udp" } else { "tcp" };
    let answer: Answer = near.call(pod, &["who", target, "--transport", transport], CALL).await?;
    judge::answer(call, &answer)
}
