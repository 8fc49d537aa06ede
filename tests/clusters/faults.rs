//! Each fault of which people ask, made for real on two joined clusters: `linkspan diagnose` and `linkspan why` name it, and
//! after it is taken back nothing is wrong.
//!
//! `paris-2` holds the client, `berlin` exports `web`. The first node of each cluster is its only gateway.

mod ask;
mod clock;
mod make;
mod members;
mod nodes;
mod services;
mod tunnels;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::joined::{CLUSTERS, Joined, once_coredns_knows};
use crate::pods;
use ask::{ask, bad, diagnose, nothing_else};
use clock::clock_off;
use make::{open_gateway, open_worker, open_world, service};
use members::{
    add_strangers, block_broker, broker_away, credential_expired, credential_refused, expire, join_again, open_broker,
    remove_strangers, renew, revoke, strangers_are_refused,
};
use nodes::{
    add_masquerade, divert, diverted, drop_vxlan, hang_kube_proxy, lose_routes, masqueraded, missing_route,
    restore_routes, resume_kube_proxy, undivert, vip_not_programmed, vxlan_blocked,
};
use services::{
    add_policy, coredns_not_wired, export_empty, export_torn, in_conflict, policy_drops, remove_policy, rewire_coredns,
    unexport_empty, unexport_torn, unwire_coredns, without_endpoints,
};
use tunnels::{
    block_both_ways, block_one_way, change_key, drop_on_gateway, gateway_dead, lose_gateway, mtu_black_hole,
    restore_gateway, rule_on_a_gateway, swallow_large, tell_key, udp_both_ways, udp_one_way, widen, wrong_key,
};

/// What people ask for.
const WEB: &str = "web.default.svc.clusterset.local";

/// Who asks.
const CLIENT: &str = "paris/default/on-paris-2";

/// A fault: how it is made, what is told of it, and how it is taken back, which is done whatever was told.
pub struct Fault {
    what: &'static str,
    make: fn(&Joined) -> Result<()>,
    told: fn(&Joined) -> Result<()>,
    unmake: fn(&Joined) -> Result<()>,
    /// Reasons of all that `diagnose` may call failed meanwhile: the fault, and what follows from it.
    failing: &'static [&'static str],
}

const fn fault(
    what: &'static str,
    make: fn(&Joined) -> Result<()>,
    told: fn(&Joined) -> Result<()>,
    unmake: fn(&Joined) -> Result<()>,
) -> Fault {
    Fault { what, make, told, unmake, failing: &[] }
}

impl Fault {
    const fn failing(mut self, reasons: &'static [&'static str]) -> Self {
        self.failing = reasons;
        self
    }
}

const MASQUERADE: Fault =
    fault("a rule masquerades", add_masquerade, masqueraded, open_worker).failing(&["Masqueraded"]);
const POLICY: Fault = fault("a NetworkPolicy drops", add_policy, policy_drops, remove_policy).failing(&["PolicyDrops"]);

/// Those that are made in every run, as long as the client is on `paris-2` and `berlin` exports `web`.
pub const QUICK: [Fault; 2] = [MASQUERADE, POLICY];

/// In order; the last ones need most time to heal.
const FAULTS: [Fault; 20] = [
    fault("UDP is blocked one way", block_one_way, udp_one_way, open_world).failing(&["UdpBlockedOneWay"]),
    fault("UDP is blocked both ways", block_both_ways, udp_both_ways, open_world).failing(&["UdpBlockedBothWays"]),
    fault("a firewall rule on a gateway drops the tunnel", drop_on_gateway, rule_on_a_gateway, open_gateway)
        .failing(&["FirewallRule"]),
    fault("a path swallows large packets", swallow_large, mtu_black_hole, widen).failing(&["MtuBlackHole"]),
    MASQUERADE,
    fault("routes are missing on one node", lose_routes, missing_route, restore_routes)
        .failing(&["MissingRoute", "NotAsPlanned"]),
    fault("a rule of another program goes before ours", divert, diverted, undivert).failing(&["MissingRoute"]),
    fault("a worker's VXLAN is blocked", drop_vxlan, vxlan_blocked, open_worker).failing(&["VxlanBlocked"]),
    fault("kube-proxy does not carry a clusterset IP", hang_kube_proxy, vip_not_programmed, resume_kube_proxy)
        .failing(&["VipNotProgrammed"]),
    fault("cluster DNS is not wired", unwire_coredns, coredns_not_wired, rewire_coredns)
        .failing(&["CoreDnsNotWired", "MissingRoles"]),
    fault("an export has no endpoints", export_empty, without_endpoints, unexport_empty)
        .failing(&["ExportWithoutEndpoints", "ImportWithoutEndpoints"]),
    fault("exports are in conflict", export_torn, in_conflict, unexport_torn).failing(&["ExportConflict"]),
    POLICY,
    fault(
        "Members claim foreign addresses and are of a far version",
        add_strangers,
        strangers_are_refused,
        remove_strangers,
    )
    .failing(&["NoGateway", "Overlap", "VersionSkew"]),
    fault("a clock is off", nothing, clock_off, nothing),
    fault("a gateway's pod is dead", lose_gateway, gateway_dead, restore_gateway).failing(&[
        "GatewayPodDead",
        "NoNodePod",
        "NodePodNotReady",
        "PeerGatewayDown",
    ]),
    fault("a gateway has another key than is known", change_key, wrong_key, tell_key).failing(&[
        "NodePodNotReady",
        "NotRunning",
        "WrongKey",
    ]),
    fault("the broker is away", block_broker, broker_away, open_broker)
        .failing(&["BrokerUnreachable", "ExportNotReady"]),
    fault("a credential is refused", revoke, credential_refused, join_again)
        .failing(&["CredentialRefused", "ExportNotReady"]),
    fault("a credential has expired", expire, credential_expired, renew).failing(&["CredentialRefused"]),
];

/// Makes every fault, and gives all failures back together.
///
/// # Errors
/// A fault was not named, or did not heal.
pub fn all(joined: &Joined) -> Result<()> {
    begin(joined).context("before any fault")?;
    let failures = each(joined, &FAULTS);
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Makes these, one after the other, and returns what went wrong.
pub fn each(joined: &Joined, faults: &[Fault]) -> Vec<String> {
    let mut failures = Vec::new();
    for fault in faults {
        eprintln!("clusters: {}", fault.what);
        let made = (fault.make)(joined).context("making it").and_then(|()| (fault.told)(joined));
        let made = made.and_then(|()| nothing_else(joined, fault.failing));
        let healed = (fault.unmake)(joined).context("taking it back").and_then(|()| all_is_well(joined));
        for failure in [made.err(), healed.context("after it was taken back").err()].into_iter().flatten() {
            eprintln!("clusters: FAILED: {failure:#}");
            failures.push(format!("{}: {failure:#}", fault.what));
        }
    }
    failures
}

fn nothing(_: &Joined) -> Result<()> {
    Ok(())
}

fn begin(joined: &Joined) -> Result<()> {
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        pods::start(cluster)?;
        for member in CLUSTERS {
            joined.wait_ready(name, member)?;
        }
    }
    service(joined, "berlin", "web", "app: web", 80)?;
    joined.linkspan("berlin", &["export", "web", "-n", "default"])?.done()?;
    once_coredns_knows(|| pods::read(joined.cluster("paris")?, "paris-2", &format!("http://{WEB}/")))?;
    all_is_well(joined)
}

/// Waits until nothing is wrong.
pub fn all_is_well(joined: &Joined) -> Result<()> {
    once_coredns_knows(|| {
        let findings = diagnose(joined)?;
        let wrong = findings.iter().filter(|finding| finding["state"] != "ok").count();
        ensure!(wrong == 0, "not all is well: {}", bad(&findings));
        let said = ask(joined, &["why", CLIENT, "->", WEB, "-o", "json"])?;
        let story: Value = serde_json::from_str(&said)?;
        let hops = story["hops"].as_array().context("no hops")?;
        ensure!(hops.len() > 8 && hops.iter().all(|hop| hop["state"] == "ok"), "not the whole way is well: {said}");
        Ok(())
    })
}
