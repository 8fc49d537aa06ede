//! Takes everything of Linkspan off a node.

use anyhow::Context as _;
use controller::node::{Action, Desired, Kernel};

/// Removes every link, address, route, rule and nftables table that bears our mark, and the named TUN links even when
/// they do not bear it yet. What is not ours is not touched.
///
/// # Errors
/// When something of ours cannot be removed.
pub async fn uninstall(tunnel_links: Vec<String>) -> anyhow::Result<Vec<String>> {
    let (kernel, connection) = Kernel::open().context("failed to open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let desired = nothing(tunnel_links);
    let report = controller::node::pass(&kernel, &desired).await;
    connection.abort();
    let report = report.context("failed to look at the node")?;
    if !report.failed.is_empty() {
        let failed: Vec<String> = report.failed.iter().map(ToString::to_string).collect();
        anyhow::bail!("not everything could be removed: {}; run it as root, once more", failed.join("; "));
    }
    let counters =
        controller::node::remove_counters().await.context("failed to remove counters of `linkspan trace`")?;
    Ok(told(&report.applied, &counters))
}

/// What [`uninstall`] would remove.
///
/// # Errors
/// When the node cannot be looked at.
pub async fn plan_uninstall(tunnel_links: Vec<String>) -> anyhow::Result<Vec<String>> {
    let (kernel, connection) = Kernel::open().context("failed to open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let observed = controller::node::observe(&kernel).await;
    connection.abort();
    let plan = controller::node::plan(&nothing(tunnel_links), &observed.context("failed to look at the node")?);
    let counters =
        controller::node::find_counters().await.context("failed to look for counters of `linkspan trace`")?;
    Ok(told(&plan.actions, &counters))
}

fn nothing(tunnel_links: Vec<String>) -> Desired {
    Desired { stale_tunnels: tunnel_links, ..Desired::nothing() }
}

fn told(actions: &[Action], counters: &[String]) -> Vec<String> {
    let actions = actions.iter().map(ToString::to_string);
    actions.chain(counters.iter().map(|table| format!("delete nftables table {table}"))).collect()
}
