//! This node's part in the election of the active gateway.

use std::time::Duration;

use anyhow::Context as _;
use controller::api::names::{LEASE_GATEWAY, SYSTEM_NAMESPACE};
use controller::cluster::lease::{Elector, LeaseConfig, Standing};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;

use super::Shared;
use super::facts::Facts;
use super::plan::candidates;
use crate::run::Context;

/// How long an active gateway may be silent before another one takes over. With the time that the others need to follow,
/// traffic is back well within 5 s.
const DURATION: Duration = Duration::from_secs(2);
/// Between renewals.
const RENEW: Duration = Duration::from_millis(500);

/// Takes part in the election for as long as this node is a gateway with an open device.
///
/// # Errors
/// When there is no way to the API server at all; single requests that fail are tried again.
pub(super) async fn follow(context: Context, shared: Shared) -> anyhow::Result<()> {
    let mut facts = shared.facts.subscribe();
    let mut paths = context.paths.subscribe();
    let me = &context.options.node;
    let config = LeaseConfig {
        namespace: SYSTEM_NAMESPACE.to_owned(),
        name: LEASE_GATEWAY.to_owned(),
        holder: me.clone(),
        duration: DURATION,
        renew_period: RENEW,
    };
    loop {
        // Who watches the Lease without being a candidate gives it back. A gateway that has just been restarted shall not:
        // its device opens in a moment, and till then the Lease runs.
        let first = loop {
            match standing_of(&context, &shared) {
                Some(first) if takes_part(first, shared.facts.borrow().as_ref(), me) => break first,
                _ => news(&mut facts, &mut paths).await?,
            }
        };
        let standing = watch::Sender::new(first);
        let (elector, _holding) = Elector::new(shared.client().await?, config.clone())?;
        let election = elector.run(standing.subscribe(), std::future::pending());
        tokio::pin!(election);
        loop {
            tokio::select! {
                () = &mut election => anyhow::bail!("the election ended"),
                changed = news(&mut facts, &mut paths) => changed?,
            }
            let Some(now) = standing_of(&context, &shared) else { continue };
            if !takes_part(now, shared.facts.borrow().as_ref(), me) {
                break;
            }
            standing.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
    }
}

/// Whether the election is of this node's concern. All others do without a watch of a Lease that changes twice a second. A
/// write that is cut off here may still make the Lease ours: then it is of concern again, and is given back.
fn takes_part(standing: Standing, facts: Option<&Facts>, me: &str) -> bool {
    standing == Standing::Candidate || facts.is_some_and(|facts| facts.active.as_deref() == Some(me))
}

/// Waits until a node becomes or ceases to be a gateway, or its device may have opened.
async fn news(facts: &mut watch::Receiver<Option<Facts>>, paths: &mut watch::Receiver<()>) -> anyhow::Result<()> {
    let changed = tokio::select! {
        changed = facts.changed() => changed,
        changed = paths.changed() => changed,
    };
    changed.context("what is known is held as long as the process runs")
}

/// This node's part; none when it is a gateway without a device, which leaves things as they are.
fn standing_of(context: &Context, shared: &Shared) -> Option<Standing> {
    let facts = shared.facts.borrow();
    let gateway = candidates(facts.as_ref()?).contains(&context.options.node);
    match (gateway, context.board.device().is_some()) {
        (true, true) => Some(Standing::Candidate),
        (true, false) => None,
        (false, _) => Some(Standing::Observer),
    }
}

/// Leaves the Lease to the others, if it is ours.
pub(super) async fn leave(leases: &Api<Lease>, me: &str) -> kube::Result<()> {
    let Some(mut lease) = leases.get_opt(LEASE_GATEWAY).await? else { return Ok(()) };
    if controller::services::reach::holder(&lease).as_deref() != Some(me) {
        return Ok(());
    }
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
    }
    leases.replace(LEASE_GATEWAY, &PostParams::default(), &lease).await?;
    tracing::info!("left the gateway Lease to other nodes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_candidates_and_a_holder_that_has_to_give_it_back_take_part() {
        let held_by = |holder: Option<&str>| Facts { active: holder.map(str::to_owned), ..Facts::default() };
        assert!(takes_part(Standing::Candidate, Some(&held_by(None)), "a"));
        assert!(takes_part(Standing::Candidate, Some(&held_by(Some("b"))), "a"));
        assert!(takes_part(Standing::Observer, Some(&held_by(Some("a"))), "a"));
        assert!(!takes_part(Standing::Observer, Some(&held_by(Some("b"))), "a"));
        assert!(!takes_part(Standing::Observer, Some(&held_by(None)), "a"));
        assert!(!takes_part(Standing::Observer, None, "a"));
    }
}
