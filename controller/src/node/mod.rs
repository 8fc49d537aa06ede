//! The node pass: links, routes, rules and packet filter of one node.

pub mod counters;
pub mod filter;
pub mod mark;
pub mod nft;
pub mod state;

mod action;
mod address;
mod desired;
mod kernel;
mod plan;
mod target;

pub use action::{Action, LinkSettings, Obstacle, Plan};
pub use address::{ANNOTATION_NODE_ADDRESS, reached_at};
pub use desired::{Desired, DesiredError, MAX_LINK_NAME, Node, TunnelLink, Vxlan};
pub use kernel::{
    ApplyError, Arriving, Counting, Failure, Interest, Kernel, KernelError, Lookup, NftError, ObserveError, Report,
    Watch, Way, apply, find_counters, link_mtus, lookup, observe, remove_counters, ruleset,
};
pub use plan::plan;
pub use state::Observed;

/// Why a pass did not come to write anything.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// What is desired would do harm.
    #[error(transparent)]
    Desired(#[from] DesiredError),
    /// What is there is not known.
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

/// Brings the node to what is desired.
///
/// # Guarantees
/// Safe to cancel, or to be killed, between any two actions: the next pass continues. A node that is as desired is not
/// written to, and nothing is logged about it.
///
/// # Assumptions
/// This process alone owns what [`mark`] names.
///
/// # Errors
/// When nothing was written because the input is unusable. Failures of single actions are in the report.
pub async fn pass(kernel: &Kernel, desired: &Desired) -> Result<Report, PassError> {
    desired.check()?;
    let observed = observe(kernel).await?;
    let report = apply(kernel, plan(desired, &observed)).await;
    for action in &report.applied {
        tracing::info!("{action}");
    }
    for failure in &report.failed {
        tracing::warn!("{failure}");
    }
    Ok(report)
}
