//! Joining, the credential, and whether the broker answers: what the cluster's own Member says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::{Check, Fault, Finding};
use crate::kubectl::install::credential::LOST_CREDENTIAL;
use crate::kubectl::picture::{ClusterPicture, Picture, Unseen};

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let (Some(members), Some(_)) = (cluster.members.seen(), cluster.id.seen()) else { return Vec::new() };
    let Some(own) = cluster.own_member() else {
        let evidence = match cluster.id() {
            Some(id) => format!("there is no Member {id} in linkspan-system"),
            None => "this cluster has no ID yet".to_owned(),
        };
        let fix = "join it with `kubectl linkspan join`; if it has joined, see the log of linkspan-controller";
        let fault = Fault::failed("NotJoined", evidence, "this cluster is in no clusterset", fix);
        return vec![Finding::bad(Check::Broker, cluster, "cluster", fault)];
    };
    let mut findings = Vec::new();
    let object = format!("member/{}", own.name_any());
    let conditions = own.status.as_ref().map_or(&[][..], |status| &status.conditions);
    for condition in conditions.iter().filter(|condition| condition.status == "False") {
        findings.extend(judge(condition).map(|fault| Finding::bad(Check::Broker, cluster, &object, fault)));
    }
    for other in members.iter().filter(|member| Some(member.name_any().as_str()) != cluster.id()) {
        findings.extend(silent(cluster, other));
    }
    if findings.is_empty() {
        let joined = conditions.iter().find(|condition| condition.type_ == "Joined" && condition.status == "True");
        findings.push(match joined {
            Some(joined) => Finding::good(Check::Broker, cluster, object, joined.message.clone()),
            None => {
                let why =
                    format!("{object} has no condition Joined yet: linkspan-controller has not run, or is not done");
                Finding::unseen(Check::Broker, cluster, &Unseen { what: "the broker".to_owned(), why })
            }
        });
    }
    findings
}

fn judge(condition: &Condition) -> Option<Fault> {
    let evidence = format!("{}: {}", condition.reason, condition.message);
    let token = "make a new token with `kubectl linkspan token create`, and join again with it";
    Some(match (condition.type_.as_str(), condition.reason.as_str()) {
        ("Joined", reason) if LOST_CREDENTIAL.contains(&reason) => Fault::failed(
            "CredentialRefused",
            evidence,
            "the credential for the broker has expired or was revoked, so that changes neither come nor go",
            token,
        ),
        ("Joined", "BrokerUnreachable") | ("BrokerReachable", "Unreachable") => Fault::failed(
            "BrokerUnreachable",
            evidence,
            "the broker's API server does not answer; tunnels and names go on with the last known state, and changes wait",
            "see that the broker runs and that this cluster's nodes reach its address and port",
        ),
        ("Joined", _) => Fault::failed("NotJoined", evidence, "this cluster is not joined", token),
        ("Unique", _) => Fault::failed(
            "DuplicateID",
            evidence,
            "two clusters use this ID",
            "give one of them another ID, and join it again; a copy of a cluster is made anew first, as it has the same keys",
        ),
        ("Published", reason) if reason != "NotJoined" => Fault::failed(
            "RefusedByBroker",
            evidence,
            "the broker refuses what this cluster says of itself",
            "the message says what is wrong with it",
        ),
        ("Properties", _) => Fault::warning(
            "ForeignProperty",
            evidence,
            "somebody else has made a ClusterProperty, and it says something else than this cluster's ID or clusterset",
            "the message says which; delete it, or correct it, if nobody needs it as it is",
        ),
        ("Networks", reason) => networks(reason, evidence),
        _ => return None,
    })
}

/// Prefixes that are not known, or set by hand to something wrong.
fn networks(reason: &str, evidence: String) -> Fault {
    let correct = "correct LINKSPAN_POD_CIDRS or LINKSPAN_SERVICE_CIDRS in ConfigMap linkspan, or remove it where prefixes are \
                   found by themselves, and restart linkspan-controller";
    match reason {
        "WrongPodCIDRs" | "WrongServiceCIDRs" => Fault::failed(
            "WrongNetworks",
            evidence,
            "prefixes that are set by hand leave out pods or services of this cluster, which no other one reaches",
            correct,
        ),
        "InvalidCIDRs" => Fault::failed(
            "WrongNetworks",
            evidence,
            "prefixes that are set by hand cannot be used; those that were known before stay",
            correct,
        ),
        _ => Fault::failed(
            "NoNetworks",
            evidence,
            "prefixes of pods or services are not known",
            "set LINKSPAN_POD_CIDRS and LINKSPAN_SERVICE_CIDRS in ConfigMap linkspan",
        ),
    }
}

/// Another Member whose controller has fallen silent.
fn silent(cluster: &ClusterPicture, other: &controller::api::Member) -> Option<Finding> {
    let conditions = other.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let alive = conditions.iter().find(|condition| condition.type_ == "Alive" && condition.status == "False")?;
    let fault = Fault::warning(
        "MemberSilent",
        alive.message.clone(),
        "its controller is down, or does not reach the broker; its last known state is used",
        "diagnose that cluster",
    );
    Some(Finding::bad(Check::Broker, cluster, format!("cluster/{}", other.name_any()), fault))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    #[test]
    fn a_credential_that_is_of_no_use_is_named_however_it_came_to_that() {
        for (reason, named) in [
            ("CredentialRefused", "CredentialRefused"),
            ("CredentialExpired", "CredentialRefused"),
            ("ForeignCredential", "CredentialRefused"),
            ("InvalidCredential", "CredentialRefused"),
            ("TokenExpired", "NotJoined"),
            ("TokenRefused", "NotJoined"),
        ] {
            let condition = Condition {
                type_: "Joined".to_owned(),
                status: "False".to_owned(),
                reason: reason.to_owned(),
                message: "why".to_owned(),
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
                observed_generation: None,
            };
            let fault = judge(&condition).unwrap();
            assert_eq!((fault.reason, fault.evidence), (named, format!("{reason}: why")));
        }
    }
}
