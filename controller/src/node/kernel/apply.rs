//! Writes a plan. Decides nothing, and never stops at a failure.

use std::collections::BTreeMap;
use std::fmt;

use futures::{StreamExt as _, stream};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use super::{Kernel, KernelError, NftError, message, nft};
use crate::node::action::{Action, LinkSettings, Obstacle, Plan};
use crate::node::nft::delete_commands;

/// Route requests under way at a time. Each has its answer waiting in the socket's buffer (212 992 bytes by default,
/// about 800 bytes each).
const REQUESTS_IN_FLIGHT: usize = 64;

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// Done, in order.
    pub applied: Vec<Action>,
    /// Not done, in order. The next pass plans them anew.
    pub failed: Vec<Failure>,
    /// What stands in the way besides.
    pub obstacles: Vec<Obstacle>,
}

/// An action that failed.
#[derive(Debug)]
pub struct Failure {
    /// The action.
    pub action: Action,
    /// Why.
    pub error: ApplyError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {}: {}", self.action, self.error)
    }
}

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Netlink.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The packet filter.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// Writes all actions in order; routes that follow each other are written together.
///
/// # Guarantees
/// Safe to cancel, or to be killed, between any two actions: the next pass continues.
pub async fn apply(kernel: &Kernel, plan: Plan) -> Report {
    let mut report = Report { obstacles: plan.obstacles, ..Report::default() };
    let mut actions = plan.actions.into_iter().peekable();
    while let Some(action) = actions.next() {
        if !is_route(&action) {
            let result = apply_one(kernel, &action).await;
            report.add(action, result);
            continue;
        }
        let mut routes = vec![action];
        while let Some(action) = actions.next_if(is_route) {
            routes.push(action);
        }
        for (action, result) in apply_routes(kernel, routes).await {
            report.add(action, result);
        }
    }
    report
}

impl Report {
    fn add(&mut self, action: Action, result: Result<(), ApplyError>) {
        match result {
            Ok(()) => self.applied.push(action),
            Err(error) => self.failed.push(Failure { action, error }),
        }
    }
}

fn is_route(action: &Action) -> bool {
    matches!(action, Action::ReplaceRoute(_) | Action::DeleteRoute(_))
}

async fn apply_one(kernel: &Kernel, action: &Action) -> Result<(), ApplyError> {
    match action {
        Action::CreateVxlan { link, port } => {
            let message = RouteNetlinkMessage::NewLink(message::vxlan_link(link, *port));
            kernel.change(message, NLM_F_CREATE | NLM_F_EXCL).await?;
        }
        Action::ConfigureLink(settings) => configure(kernel, settings).await?,
        Action::DeleteLink { link } => delete_link(kernel, link).await?,
        Action::AddAddress(address) => {
            let index = kernel.link(&address.link).await?.header.index;
            let message = RouteNetlinkMessage::NewAddress(message::address_message(address, index));
            let result = kernel.change(message, NLM_F_CREATE | NLM_F_EXCL).await;
            // The very address on the very link.
            allow(result, libc::EEXIST)?;
        }
        Action::DeleteAddress(address) => {
            let index = kernel.link(&address.link).await?.header.index;
            let message = RouteNetlinkMessage::DelAddress(message::address_message(address, index));
            allow(kernel.change(message, 0).await, libc::EADDRNOTAVAIL)?;
        }
        Action::ReplaceNftTable(table) => nft::commit(&table.replace_commands(), "replace our table").await?,
        Action::DeleteNftTable => nft::commit(&delete_commands(), "delete our table").await?,
        Action::AddRule(rule) => {
            // Without NLM_F_EXCL: for that the kernel takes a rule that is narrower than ours, such as `from` one pod,
            // for the same one (fib4_rule_compare) and refuses.
            let message = RouteNetlinkMessage::NewRule(message::rule_message(rule));
            kernel.change(message, NLM_F_CREATE).await?;
        }
        Action::DeleteRule(rule) => {
            let message = RouteNetlinkMessage::DelRule(message::rule_message(rule));
            allow(kernel.change(message, 0).await, libc::ENOENT)?;
        }
        Action::ReplaceRoute(_) | Action::DeleteRoute(_) => {
            for (_, result) in apply_routes(kernel, vec![action.clone()]).await {
                result?;
            }
        }
    }
    Ok(())
}

async fn configure(kernel: &Kernel, settings: &LinkSettings) -> Result<(), KernelError> {
    let found = kernel.link(&settings.link).await?;
    kernel.change(RouteNetlinkMessage::SetLink(message::link_settings(settings, &found)), 0).await?;
    // In a message of its own: within one, the kernel brings the link up first and gives it IPv6 addresses.
    kernel.change(RouteNetlinkMessage::SetLink(message::link_up(found.header.index)), 0).await
}

async fn delete_link(kernel: &Kernel, name: &str) -> Result<(), KernelError> {
    let index = match kernel.link(name).await {
        // Its process has closed it meanwhile.
        Err(KernelError::NoLink(_)) => return Ok(()),
        found => found?.header.index,
    };
    allow(kernel.change(RouteNetlinkMessage::DelLink(message::link_index(index)), 0).await, libc::ENODEV)
}

async fn apply_routes(kernel: &Kernel, actions: Vec<Action>) -> Vec<(Action, Result<(), ApplyError>)> {
    let mut indexes = BTreeMap::new();
    for name in actions.iter().filter_map(out_link) {
        if !indexes.contains_key(name) {
            indexes.insert(name.to_owned(), kernel.link(name).await.ok().map(|link| link.header.index));
        }
    }
    let indexes = &indexes;
    stream::iter(actions)
        .map(async |action| {
            let result = apply_route(kernel, &action, indexes).await;
            (action, result.map_err(ApplyError::from))
        })
        .buffered(REQUESTS_IN_FLIGHT)
        .collect()
        .await
}

fn out_link(action: &Action) -> Option<&str> {
    match action {
        Action::ReplaceRoute(route) => route.path.link(),
        _ => None,
    }
}

async fn apply_route(
    kernel: &Kernel,
    action: &Action,
    indexes: &BTreeMap<String, Option<u32>>,
) -> Result<(), KernelError> {
    match action {
        Action::ReplaceRoute(route) => {
            let index = match route.path.link() {
                None => None,
                Some(name) => {
                    let index = indexes.get(name).copied().flatten();
                    Some(index.ok_or_else(|| KernelError::NoLink(name.to_owned()))?)
                }
            };
            let message = RouteNetlinkMessage::NewRoute(message::route_message(route, index));
            kernel.change(message, NLM_F_CREATE | NLM_F_REPLACE).await
        }
        Action::DeleteRoute(route) => {
            let message = RouteNetlinkMessage::DelRoute(message::route_key(route));
            // Gone with its link or its source address, which the kernel does not tell.
            allow(kernel.change(message, 0).await, libc::ESRCH)
        }
        _ => Ok(()),
    }
}

/// Takes an error number that means the wanted state for success.
fn allow(result: Result<(), KernelError>, errno: i32) -> Result<(), KernelError> {
    match result {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        result => result,
    }
}
