//! Addresses that several clusters have.

use controller::members::{Refusal, Verdict, View};

use super::{Check, Fault, Finding};
use crate::kubectl::picture::{ClusterPicture, Picture};

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, verdict) in &cluster.known().verdicts {
        let object = format!("cluster/{id}");
        match verdict {
            // Check `version` tells it, and whom to upgrade.
            Verdict::Refused(refusal) if refusal.reason == "Protocol" => {}
            Verdict::Refused(refusal) => {
                findings.push(Finding::bad(Check::Overlap, cluster, object, refused(id, cluster, refusal)));
            }
            Verdict::Accepted(admitted) => {
                let is_virtual = admitted.view.is_virtual();
                let told = if is_virtual {
                    "it shares addresses, and is known by virtual ones"
                } else {
                    "its addresses are its own"
                };
                findings.extend(without_blocks(cluster, id, &admitted.view));
                findings.push(Finding::good(Check::Overlap, cluster, object, told));
            }
        }
    }
    findings.extend(own_virtuals(cluster));
    findings
}

fn refused(id: &str, cluster: &ClusterPicture, refusal: &Refusal) -> Fault {
    let who = if cluster.id() == Some(id) { "this cluster" } else { id };
    let (reason, cause, fix) = match refusal.reason {
        "Overlap" => (
            "Overlap",
            format!("{who} claims addresses that are somebody else's, and is not used"),
            "change the addresses of one of them, or set LINKSPAN_POD_CIDRS; see README, \"Clusters with the same addresses\"",
        ),
        "DuplicateKey" => (
            "DuplicateKey",
            format!("{who} has the key of another cluster's gateway, and is not used"),
            "give each gateway a key of its own: delete Secrets that were copied between clusters, and restart linkspan-node there",
        ),
        "NotAllowed" => (
            "NotAllowed",
            format!("{who} has addresses that this cluster does not allow others, and is not used"),
            "change its addresses, or add them to LINKSPAN_ALLOWED_PREFIXES in ConfigMap linkspan of this cluster",
        ),
        _ => (
            "Invalid",
            format!("what {who} says of itself cannot be used"),
            "see the log of linkspan-controller in that cluster, and upgrade it if it is the older one",
        ),
    };
    Fault::failed(reason, refusal.message.clone(), cause, fix)
}

/// A cluster that shares addresses, and whose pods have no virtual ones that could stand for them.
fn without_blocks(cluster: &ClusterPicture, id: &str, view: &View) -> Option<Finding> {
    let View::Virtual(blocks) = view else { return None };
    if !blocks.is_empty() {
        return None;
    }
    let evidence = format!("{id} has the same addresses of pods as {}, and no virtual ones", cluster.name());
    let fix = format!(
        "see condition Virtual of Member {id} in its own cluster, and LINKSPAN_VIRTUAL_POOL in ConfigMap linkspan"
    );
    let fault = Fault::failed("Overlap", evidence, "pods of that cluster cannot be addressed from here", fix);
    Some(Finding::bad(Check::Overlap, cluster, format!("cluster/{id}"), fault))
}

/// What keeps this cluster from having virtual addresses that it needs.
fn own_virtuals(cluster: &ClusterPicture) -> Option<Finding> {
    let own = cluster.own_member()?;
    let conditions = own.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let bad = conditions.iter().find(|condition| condition.type_ == "Virtual" && condition.status == "False")?;
    let evidence = format!("{}: {}", bad.reason, bad.message);
    let cause = match bad.reason.as_str() {
        "PoolOverlaps" => "addresses of this cluster are where virtual ones of clusters are",
        "PoolDiffers" => "another cluster takes its virtual addresses from a pool that is not this cluster's",
        "Unheard" => {
            "a node has got addresses of another cluster, and the others cannot hear yet that this one is virtual"
        }
        _ => "this cluster shares addresses with another one, and cannot have virtual ones for all its pods",
    };
    let fix = match bad.reason.as_str() {
        "Unheard" => {
            "see `kubectl linkspan diagnose broker` for this cluster: the broker is away, or of an older version"
        }
        _ => "set LINKSPAN_VIRTUAL_POOL in ConfigMap linkspan, alike in all clusters",
    };
    let fault = Fault::failed("Overlap", evidence, cause, fix);
    Some(Finding::bad(Check::Overlap, cluster, "cluster", fault))
}
