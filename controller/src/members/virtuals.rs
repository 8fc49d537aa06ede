//! Whether a cluster needs virtual addresses, and which it takes. Only who shares addresses with somebody needs them, and
//! who came first keeps its own towards all with whom it shares none.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use tunnel::config::Translation;

use super::blocks::{NoBlock, allocate};
use super::claim::{Stakes, virtual_stakes};
use super::condition::{Finding, Holds};
use super::networks::list;
use super::own::Discovery;
use super::prefixes::{self, any_overlap, overlap};
use super::resting;
use crate::api::{Member, MemberSpec, VirtualCidr};

/// Where virtual addresses come from when nobody says: shared address space (RFC 6598), which is neither in the Internet
/// nor in private networks, and a unique local prefix (RFC 4193) with a random global ID.
pub fn default_pool() -> Vec<IpNet> {
    const POOL: [&str; 2] = ["100.64.0.0/10", "fd92:e500:6d00::/40"];
    POOL.iter().map(|text| text.parse().expect("the constants are prefixes")).collect()
}

/// Most blocks of a Member, as its CRD says.
const MAX_BLOCKS: usize = 256;

/// Another Member, whether or not it is used.
#[derive(Debug, Clone)]
pub struct Neighbour {
    name: String,
    /// What its pods are known by elsewhere.
    blocks: Vec<IpNet>,
    /// Prefixes of its pods.
    pods: Vec<IpNet>,
    /// Prefixes of its services.
    services: Vec<IpNet>,
    stakes: Stakes,
    resting: Vec<IpNet>,
    virtual_only: bool,
    older: bool,
}

impl Neighbour {
    /// `older`: it has been a Member for longer than this cluster.
    pub fn of(member: &Member, older: bool, now: Timestamp) -> Self {
        let spec = &member.spec;
        let nets = |texts: &[String]| texts.iter().filter_map(|text| prefixes::claimed(text)).collect();
        Self {
            name: member.name_any(),
            blocks: virtual_stakes(spec).collect(),
            pods: nets(&spec.pod_cidrs),
            services: nets(&spec.service_cidrs),
            stakes: Stakes::of(spec),
            resting: resting::told(spec, now).collect(),
            virtual_only: spec.virtual_only,
            older,
        }
    }

    /// Whether its pods have addresses of `pods`.
    fn shares_pods(&self, pods: &[IpNet]) -> bool {
        any_overlap(self.pods.iter().copied(), pods)
    }

    /// Whether its pods or services have addresses of `pods`, so that it knows them by virtual ones.
    fn shares(&self, pods: &[IpNet]) -> bool {
        self.shares_pods(pods) || any_overlap(self.services.iter().copied(), pods)
    }

    /// What it is reached by, and nobody younger may have.
    fn claimed(&self) -> impl Iterator<Item = IpNet> {
        let endpoints = self.stakes.endpoints.iter().map(|address| IpNet::from(*address));
        self.stakes.prefixes.iter().copied().chain(endpoints)
    }

    /// What else it has.
    fn natives(&self) -> impl Iterator<Item = IpNet> {
        self.pods.iter().chain(&self.services).copied()
    }
}

/// The addresses that a cluster has itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Natives<'a> {
    /// Prefixes of its pods, aggregated.
    pub pods: &'a [IpNet],
    /// Prefixes of its services.
    pub services: &'a [IpNet],
    /// Prefixes of its pods, node by node.
    pub parts: &'a [IpNet],
    /// Addresses of its nodes.
    pub nodes: &'a [IpAddr],
}

/// What others know a cluster's pods by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Virtuals {
    pub blocks: Vec<VirtualCidr>,
    /// Whether all others use them.
    pub only: bool,
    /// Whether all others are to, as soon as they hear of it.
    pub turns: bool,
    /// Condition `Virtual`.
    pub finding: Finding,
}

/// Decides what the own Member says.
pub(super) fn choose(seen: &Discovery<'_>, natives: &Natives<'_>) -> Virtuals {
    let must = must_be_virtual(seen, natives);
    // What the others know decides what nodes do here: where they know this cluster, the broker has to have it first.
    let only = must && (seen.published.is_none() || is_virtual(seen));
    let turns = must && !only;
    let hosts: Vec<IpNet> = natives.nodes.iter().map(|address| IpNet::from(*address)).collect();
    let own = [natives.pods, natives.services, &hosts].concat();
    let shared = seen.neighbours.iter().any(|neighbour| neighbour.shares(natives.pods));
    if !must && !shared {
        let good = || Finding::good("Virtual", "NotNeeded", "no other cluster has the addresses of its pods");
        let finding = inside_anothers(seen.neighbours, &own).unwrap_or_else(good);
        return Virtuals { blocks: Vec::new(), only, turns, finding };
    }
    let of = |older: bool| {
        seen.neighbours.iter().filter(move |neighbour| neighbour.older == older).flat_map(Neighbour::claimed)
    };
    let taken: Vec<IpNet> = own.iter().copied().chain(of(true)).collect();
    let natives_of_all = seen.neighbours.iter().flat_map(Neighbour::natives);
    let avoided: Vec<IpNet> = of(false).chain(natives_of_all).collect();
    let held = held(seen, &avoided);
    let resting = seen.neighbours.iter().flat_map(|neighbour| &neighbour.resting).copied();
    let told = seen.before.into_iter().flat_map(|own| resting::told(own, seen.now));
    // What those had who have just left rests from now on.
    let resting: Vec<IpNet> = resting.chain(told).chain(seen.departed.iter().copied()).collect();
    let pool = &seen.overrides.virtual_pool;
    let rested = [avoided.clone(), resting].concat();
    let (blocks, failures) = match allocate(seen.cluster, natives.parts, &held, &taken, &rested, pool) {
        (blocks, failures) if failures.is_empty() => (blocks, failures),
        // What rests is better than nothing, whoever says that it does.
        (blocks, _) => allocate(seen.cluster, natives.parts, &blocks, &taken, &avoided, pool),
    };
    let (blocks, too_many) = at_most(MAX_BLOCKS, blocks, &held);
    let finding = too_many
        .or_else(|| inside_anothers(seen.neighbours, &own).filter(|_| failures.is_empty()))
        .unwrap_or_else(|| finding(&blocks, &failures, shared, &own, pool));
    let finding = match of_another_pool(seen.neighbours, pool).or_else(|| unheard(seen, natives).filter(|_| turns)) {
        Some(worse) if finding.holds == Holds::True => worse,
        _ => finding,
    };
    Virtuals { blocks: blocks.iter().map(VirtualCidr::from).collect(), only, turns, finding }
}

/// The blocks that this cluster has. One that the broker does not have yet yields to whoever was faster: there is no other
/// way in for it.
fn held(seen: &Discovery<'_>, others: &[IpNet]) -> Vec<Translation> {
    let before = seen.before.into_iter().flat_map(|before| &before.virtual_cidrs);
    let Some(published) = seen.published else { return before.filter_map(parse).collect() };
    let stands = |cidr: &&VirtualCidr| {
        published.virtual_cidrs.contains(*cidr)
            || parse(cidr).is_some_and(|block| !any_overlap([block.r#virtual], others))
    };
    before.filter(stands).filter_map(parse).collect()
}

/// The first `most` of `blocks`, those that are `held` before others, and what to say of the rest.
fn at_most(most: usize, blocks: Vec<Translation>, held: &[Translation]) -> (Vec<Translation>, Option<Finding>) {
    if blocks.len() <= most {
        return (blocks, None);
    }
    let message = format!(
        "{} prefixes of nodes are more than the {most} that can have virtual addresses; set LINKSPAN_POD_CIDRS to wider \
         ones that hold them",
        blocks.len()
    );
    let (mut kept, new): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| held.contains(block));
    kept.extend(new);
    kept.truncate(most);
    kept.sort();
    (kept, Some(Finding::bad("Virtual", "TooManyBlocks", message)))
}

/// Whether all others are to use virtual addresses: the prefixes were another's when this cluster came to them. That one
/// is older, or this cluster has them, but not on the broker yet. It stays so: addresses do not change under running
/// connections. A younger one that came with prefixes of this cluster is the one to give way, whatever this one gets later.
///
/// Services of older ones count as well: their routes would go to the pods of this cluster.
fn must_be_virtual(seen: &Discovery<'_>, natives: &Natives<'_>) -> bool {
    let before: Vec<IpNet> = seen
        .published
        .or(seen.before)
        .into_iter()
        .flat_map(|spec: &MemberSpec| &spec.pod_cidrs)
        .filter_map(|text| text.parse().ok())
        .collect();
    let is_new = |net: &&IpNet| !before.iter().any(|old| old.contains(*net));
    let new: Vec<IpNet> = natives.parts.iter().filter(is_new).copied().collect();
    let gives_way = |neighbour: &Neighbour| match neighbour.virtual_only {
        true => false,
        false if neighbour.older => neighbour.shares(natives.pods),
        false => neighbour.shares_pods(&new) && !neighbour.shares_pods(&before),
    };
    is_virtual(seen) || (seen.heard && seen.neighbours.iter().any(gives_way))
}

/// Whether all others use virtual addresses already, as far as is known.
fn is_virtual(seen: &Discovery<'_>) -> bool {
    seen.before.into_iter().chain(seen.published).any(|spec| spec.virtual_only)
}

/// An address of this cluster by which another one is known: neither can reach the other.
fn inside_anothers(neighbours: &[Neighbour], own: &[IpNet]) -> Option<Finding> {
    let blocks = neighbours.iter().flat_map(|neighbour| neighbour.blocks.iter().map(move |block| (neighbour, *block)));
    let mut overlaps = blocks.filter_map(|(neighbour, block)| {
        let net = own.iter().find(|net| overlap(**net, block))?;
        Some((neighbour, block, net))
    });
    let (neighbour, block, net) = overlaps.next()?;
    let message = format!(
        "{net} of this cluster overlaps {block}, by which others know pods of cluster {}, so that neither reaches the \
         other; set LINKSPAN_VIRTUAL_POOL in all clusters to prefixes that none of them uses",
        neighbour.name
    );
    Some(Finding::bad("Virtual", "PoolOverlaps", message))
}

/// A cluster that takes its blocks from elsewhere: it takes for free what this one may have as something else, and when its
/// pool is corrected all its blocks change.
fn of_another_pool(neighbours: &[Neighbour], pool: &[IpNet]) -> Option<Finding> {
    let outside = |block: &&IpNet| !pool.iter().any(|pool| pool.contains(*block));
    let (neighbour, block) =
        neighbours.iter().find_map(|neighbour| Some((neighbour, neighbour.blocks.iter().find(outside)?)))?;
    let message = format!(
        "{block}, by which others know pods of cluster {}, is not in the pool {} of this cluster; set \
         LINKSPAN_VIRTUAL_POOL alike in all clusters",
        neighbour.name,
        list(pool)
    );
    Some(Finding::bad("Virtual", "PoolDiffers", message))
}

/// Another cluster has the same pods, and the broker does not have it yet that this one is virtual to all.
fn unheard(seen: &Discovery<'_>, natives: &Natives<'_>) -> Option<Finding> {
    let shares = |neighbour: &&Neighbour| !neighbour.virtual_only && neighbour.shares(natives.pods);
    let other = &seen.neighbours.iter().find(shares)?.name;
    let message = format!(
        "it has got addresses of cluster {other}, and is virtual to all as soon as the broker has that, which conditions \
         BrokerReachable and Published tell of; until then its pods of these addresses reach no other cluster"
    );
    Some(Finding::bad("Virtual", "Unheard", message))
}

fn finding(blocks: &[Translation], failures: &[NoBlock], shared: bool, own: &[IpNet], pool: &[IpNet]) -> Finding {
    let inside = own.iter().find_map(|net| {
        let pool = pool.iter().find(|pool| overlap(**pool, *net))?;
        Some(format!(
            "the pool {pool} overlaps {net} of this cluster, which then cannot reach those whose addresses are there; set \
             LINKSPAN_VIRTUAL_POOL in all clusters to prefixes that none of them uses"
        ))
    });
    match (failures.first(), inside) {
        (Some(failure @ (NoBlock::NoFamily { .. } | NoBlock::TooSmall { .. })), _) => {
            Finding::bad("Virtual", "PoolTooSmall", failure.to_string())
        }
        (Some(failure @ NoBlock::Exhausted { .. }), _) => Finding::bad("Virtual", "PoolExhausted", failure.to_string()),
        (None, Some(message)) => Finding::bad("Virtual", "PoolOverlaps", message),
        (None, None) if blocks.is_empty() => {
            let message = "others have the addresses of its pods, and no prefixes are known that could get virtual ones; see \
                           condition Networks";
            Finding::bad("Virtual", "NoPrefixes", message)
        }
        (None, None) => {
            let nets: Vec<IpNet> = blocks.iter().map(|block| block.r#virtual).collect();
            let share = if shared { "share" } else { "shared" };
            let message = format!("others {share} the addresses of its pods, and know them by {}", list(&nets));
            Finding::good("Virtual", "Allocated", message)
        }
    }
}

fn parse(text: &VirtualCidr) -> Option<Translation> {
    let parse = |text: &String| prefixes::routed(text).ok();
    Some(Translation { native: parse(&text.pods)?, r#virtual: parse(&text.r#virtual)? })
}

#[cfg(test)]
mod tests;
