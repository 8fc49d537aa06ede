//! What stands between two clusters before any packet does: whether each uses the other, and whether what one says still
//! reaches the other.
//!
//! A broker that does not answer or a clock that is wrong breaks nothing that has been agreed upon already. So they are told
//! beside the way, and as what is broken only where the way is broken in a manner that they explain.

use std::net::IpAddr;

use controller::api::Member;
use controller::members::Verdict;
use ipnet::IpNet;

use super::Hop;
use crate::kubectl::diagnose::{Check, Fault, Finding, State, found};
use crate::kubectl::picture::{ClusterPicture, Picture};

/// Reasons of broken hops that wait for the broker to bring something.
const WAITING: [&str; 7] =
    ["ExportNotReady", "ImportNotReady", "NoSuchPod", "NotImported", "UnknownAddress", "UnknownMember", "WrongKey"];
/// Reasons of broken hops that want virtual addresses.
const WITHOUT_VIRTUALS: [&str; 2] = ["Overlap", "NotImported"];
/// Reason of a tunnel whose peer does not answer, as one does not that takes handshakes for old ones.
const PEER_DOWN: &str = "PeerDown";

/// Why `near` does not use another cluster that it knows; nothing when it uses it or does not know it.
pub(super) fn refused(picture: &Picture, near: &ClusterPicture, far: &str) -> Option<Hop> {
    let known = near.known();
    let Some(Verdict::Refused(refusal)) = known.verdicts.get(far) else { return None };
    let object = format!("cluster/{far}");
    let about = |check| found(check, picture, near).into_iter().find(|one| one.object == object && is_bad(one));
    let finding = match refusal.reason {
        "Overlap" | "DuplicateKey" | "NotAllowed" => about(Check::Overlap),
        // Protocols that do not meet, or what a build of another time says.
        _ => about(Check::Version).or_else(|| about(Check::Overlap)),
    };
    let what = format!("Member {far}");
    let unused = || Fault::failed("Refused", refusal.message.clone(), "this cluster does not use it", "");
    Some(match finding {
        Some(finding) => Hop::found(what, finding),
        None => Hop::bad(near.name(), what, unused()),
    })
}

/// Why packets to an address of another cluster that is in the picture have no way: `near` refuses it, or knows nothing of it.
pub(super) fn unused(picture: &Picture, near: &ClusterPicture, far: &ClusterPicture) -> Option<Hop> {
    let (Some(_), Some(_)) = (near.members.seen(), near.id.seen()) else { return None };
    // Before it has joined, it has no ID: its own side tells that.
    let id = far.id().unwrap_or(&far.context);
    if near.member(id).is_some() {
        return refused(picture, near, id);
    }
    far.id.seen()?;
    let (here, what) = (near.name(), format!("Member {id}"));
    let evidence = format!("there is no Member {id} in linkspan-system");
    let cause = format!("{here} knows nothing of {id}");
    let fix =
        format!("join {id} with `kubectl linkspan join`; if it has joined, diagnose the broker for both clusters");
    Some(Hop::bad(here, what, Fault::failed("UnknownMember", evidence, cause, fix)))
}

/// The ID of a refused Member that claims an address.
pub(super) fn claims(near: &ClusterPicture, address: IpAddr) -> Option<String> {
    let claims = |member: &&Member| {
        let spec = &member.spec;
        let blocks = spec.virtual_cidrs.iter().map(|block| &block.r#virtual);
        let all = spec.pod_cidrs.iter().chain(&spec.service_cidrs).chain(blocks);
        let mut nets = all.filter_map(|text| text.parse::<IpNet>().ok());
        nets.any(|net| net.contains(&address))
    };
    let mut names = near.members.all().iter().filter(claims).filter_map(|member| member.metadata.name.clone());
    names.find(|id| near.refuses(id))
}

/// What is told beside a way, and stands before it. `fars` are the names of the other clusters to which it leads.
pub(super) fn beside(picture: &Picture, near: &ClusterPicture, fars: &[String], way: &[Hop]) -> Vec<Hop> {
    let seen: Vec<&ClusterPicture> = picture
        .clusters
        .iter()
        .filter(|cluster| std::ptr::eq(*cluster, near) || fars.iter().any(|far| cluster.name() == far))
        .collect();
    let mut findings: Vec<Finding> = seen.iter().flat_map(|cluster| of_itself(picture, cluster)).collect();
    findings.extend(found(Check::Overlap, picture, near).into_iter().filter(|finding| is_refusal_of(near, finding)));
    for far in fars.iter().filter(|far| near.name() != far.as_str()) {
        findings.extend(of_other(picture, near, far));
    }
    let broken: Vec<&str> =
        way.iter().filter(|hop| hop.state == State::Failed).map(|hop| hop.reason.as_str()).collect();
    let is_among = |reasons: &[&str]| broken.iter().any(|reason| reasons.contains(reason));
    let is_cut_off = is_among(&WAITING);
    let has_broker = |finding: &Finding| finding.check == Check::Broker && finding.state == State::Failed;
    let broker = findings.iter().any(has_broker) && is_cut_off;
    let explains = |finding: &Finding| match finding.check {
        Check::Broker => is_cut_off,
        // Of a cluster that nobody uses, nobody takes packets.
        Check::Overlap => finding.object != "cluster" || is_among(&WITHOUT_VIRTUALS),
        Check::Clock => broker || is_among(&[PEER_DOWN]),
        _ => false,
    };
    for finding in &mut findings {
        if finding.state == State::Failed && !explains(finding) {
            finding.state = State::Warning;
        }
    }
    // Who is told the right time may be let in again: clocks come first.
    findings.sort_by_key(|finding| (finding.state, finding.check != Check::Clock));
    let mut hops: Vec<Hop> = findings.into_iter().map(|finding| Hop::found(named(&finding), finding)).collect();
    hops.dedup();
    hops
}

fn is_bad(finding: &Finding) -> bool {
    matches!(finding.state, State::Failed | State::Warning)
}

/// What a cluster tells of itself.
fn of_itself(picture: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let is_own = |finding: &Finding| is_bad(finding) && !finding.object.starts_with("cluster/");
    let checks = [Check::Clock, Check::Broker, Check::Overlap].into_iter();
    checks.flat_map(|check| found(check, picture, cluster)).filter(is_own).collect()
}

/// Whether a cluster sees that its own Member is used by nobody.
fn is_refusal_of(cluster: &ClusterPicture, finding: &Finding) -> bool {
    is_bad(finding) && finding.object.strip_prefix("cluster/") == Some(cluster.name())
}

/// What it tells of another one that it uses.
fn of_other(picture: &Picture, near: &ClusterPicture, far: &str) -> Vec<Finding> {
    if near.refuses(far) {
        return Vec::new();
    }
    let object = format!("cluster/{far}");
    let is_of = |finding: &Finding| is_bad(finding) && finding.object == object;
    let checks = [Check::Broker, Check::Version].into_iter();
    checks.flat_map(|check| found(check, picture, near)).filter(is_of).collect()
}

/// What is looked at, as part of a way.
fn named(finding: &Finding) -> String {
    let object = finding.object.strip_prefix("cluster/").unwrap_or(&finding.object);
    match finding.check {
        Check::Broker if finding.object.starts_with("cluster/") => format!("news of {object}"),
        Check::Broker => "broker".to_owned(),
        Check::Overlap if object == "cluster" => "virtual addresses".to_owned(),
        Check::Overlap => format!("Member {object}"),
        Check::Version => format!("version of {object}"),
        _ => format!("clock of {}", object.replace('/', " ")),
    }
}
