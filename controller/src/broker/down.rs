//! From the broker to the local API server: the others' Members and ServiceRecords, judged.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::action::Action;
use super::records::{self, Fault};
use super::seen::{Seen, Unread, shorten};
use super::store::Store;
use super::tally::Excess;
use crate::api::names::{LABEL_CLUSTER, LABEL_MANAGED_BY, LABEL_NAMESPACE, MANAGED_BY};
use crate::api::{ImportType, Member, MemberSpec, ServiceRecord, ServiceRecordSpec};
use crate::members::condition::{Finding, says};
use crate::members::{ANNOTATION_JOINED_AT, ClusterId, Verdict, Verdicts};

/// Labels of a local copy.
pub(super) fn labels(cluster: &str, namespace: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (LABEL_CLUSTER.to_owned(), cluster.to_owned()),
        (LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
    ]);
    labels.extend(namespace.map(|namespace| (LABEL_NAMESPACE.to_owned(), namespace.to_owned())));
    labels
}

/// The copy of another's Member, as it should be in the local API server. `None` where it cannot be read.
pub fn member_copy(name: &str, seen: &Seen<MemberSpec>, namespace: &str) -> Option<Member> {
    let spec = seen.spec.as_ref().ok()?.clone();
    let joined = seen.created.map(|created| (ANNOTATION_JOINED_AT.to_owned(), created.to_string()));
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(name, None)),
        annotations: Some(joined.into_iter().collect()),
        ..ObjectMeta::default()
    };
    Some(Member { metadata, spec, status: None })
}

/// Whether a local object has all labels and annotations that it should have, and is not being deleted.
pub(super) fn has_metadata(copy: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let holds = |have: &Option<BTreeMap<String, String>>, want: &Option<BTreeMap<String, String>>| {
        let pairs = want.iter().flatten();
        pairs.into_iter().all(|(key, value)| have.as_ref().and_then(|have| have.get(key)) == Some(value))
    };
    holds(&copy.labels, &wanted.labels) && holds(&copy.annotations, &wanted.annotations)
}

/// Whether what is here is the copy of an earlier Member of that name: it has left and come again while nobody told so.
pub(super) fn is_of_an_earlier(have: &Member, copy: &Member) -> bool {
    fn joined(member: &Member) -> Option<&String> {
        member.annotations().get(ANNOTATION_JOINED_AT)
    }
    let is_younger = joined(have).zip(joined(copy)).is_some_and(|(before, now)| before != now);
    // Within one second the times are equal; that does not change as long as it is one Member.
    is_younger || have.spec.virtual_only && !copy.spec.virtual_only
}

/// What is known of another Member beside its verdict.
#[derive(Debug, Clone, Default)]
pub struct Other {
    /// Whether its heartbeat is heard, and the last one.
    pub alive: bool,
    /// Its last heartbeat by its own clock, for people.
    pub last: Option<Timestamp>,
    /// How many of its ServiceRecords are refused, whole or in part, and why the first one is.
    pub refused: Option<(usize, String)>,
}

/// Plans the local copies of all other Members. Those of clusters that are gone from the broker go.
pub fn members(
    own: &ClusterId,
    copies: &BTreeMap<String, Member>,
    local: &Store<Member>,
    verdicts: &Verdicts,
    other: impl Fn(&str) -> Other,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (name, copy) in copies.iter().filter(|(name, _)| *name != own.as_str()) {
        let have = local.get(name);
        if !have.is_some_and(|have| have.spec == copy.spec && has_metadata(&have.metadata, &copy.metadata)) {
            let anew = have.is_some_and(|have| is_of_an_earlier(have, copy));
            let copy = Box::new(copy.clone());
            actions.push(if anew { Action::CopyMemberAnew(copy) } else { Action::CopyMember(copy) });
        }
        let findings = findings(verdicts.get(name), &other(name));
        if !says(have.map_or(&[], member_conditions), &findings) {
            actions.push(Action::TellMember(name.clone(), findings));
        }
    }
    let gone = local.iter().filter(|(name, _)| *name != own.as_str() && !copies.contains_key(*name));
    actions.extend(gone.map(|(name, _)| Action::DropMember(name.clone())));
    actions
}

/// The conditions of a Member's copy.
pub(super) fn member_conditions(member: &Member) -> &[Condition] {
    member.status.as_ref().map_or(&[], |status| &status.conditions)
}

/// `Ready`, from what was judged.
pub fn ready(verdict: Option<&Verdict>) -> Finding {
    match verdict {
        Some(Verdict::Refused(refusal)) => Finding::bad("Ready", refusal.reason, refusal.message.clone()),
        Some(Verdict::Accepted(admitted)) => match admitted.claim.active_gateway() {
            Some(gateway) => {
                let by = if admitted.view.is_virtual() { ", and its pods by virtual addresses" } else { "" };
                Finding::good("Ready", "Ready", format!("it is reached by its gateway {}{by}", gateway.node))
            }
            None => Finding::bad("Ready", "NoGateway", "it has no active gateway; see its own Member there"),
        },
        None => Finding::bad("Ready", "Invalid", "it has not been judged"),
    }
}

fn findings(verdict: Option<&Verdict>, other: &Other) -> Vec<Finding> {
    let alive = match (other.alive, other.last) {
        (true, _) => Finding::good("Alive", "Heartbeat", "its controller is heard of"),
        (false, Some(last)) => {
            let last = Timestamp::from_second(last.as_second()).unwrap_or(last);
            let message = format!(
                "its controller was last heard of at {last}; its last known state is used. If the cluster is lost, \
                 remove it on the broker with `linkspan member remove`"
            );
            Finding::bad("Alive", "Silent", message)
        }
        (false, None) => Finding::bad("Alive", "Silent", "its controller has never been heard of"),
    };
    let records = match &other.refused {
        None => Finding::good("Records", "Accepted", "all its ServiceRecords are used"),
        Some((count, first)) => {
            let message = format!("{count} of its ServiceRecords are refused, whole or in part; the first: {first}");
            Finding::bad("Records", "Refused", message)
        }
    };
    vec![ready(verdict), alive, records]
}

/// What one record on the broker becomes.
pub(super) struct Record<'a> {
    pub own: &'a ClusterId,
    pub namespace: &'a str,
    pub name: &'a str,
    pub seen: Option<&'a Seen<ServiceRecordSpec>>,
    pub local: Option<&'a ServiceRecord>,
    /// Of what its Member has more than can be.
    pub excess: Option<Excess>,
}

/// Plans the local copy of one ServiceRecord, by its name. Gives back why it, or some of it, is refused.
pub(super) fn record(
    record: &Record<'_>,
    members: &BTreeMap<String, Member>,
    verdicts: &Verdicts,
    policy: &records::Policy,
) -> (Vec<Action>, Option<String>) {
    let foreign =
        |copy: &&ServiceRecord| copy.labels().get(LABEL_CLUSTER).map(String::as_str) != Some(record.own.as_str());
    let local = record.local.filter(foreign);
    let drop = || local.map(|_| Action::DropRecord(record.name.to_owned())).into_iter().collect::<Vec<_>>();
    let Some(seen) = record.seen.filter(|seen| seen.cluster != record.own.as_str()) else {
        return (drop(), None);
    };
    // A name decides which object is written here: it must be one of its own cluster.
    let speaks_for_itself = record.name.split('.').next() == Some(seen.cluster.as_str());
    let spec = match (&seen.spec, record.excess) {
        (Ok(_) | Err(Unread::Dropped), _) if !speaks_for_itself => {
            Err(format!("it is labelled with cluster {:?}", shorten(&seen.cluster)))
        }
        (Ok(_) | Err(Unread::Dropped), Some(excess)) => Err(format!("its cluster has {excess}")),
        (Err(Unread::Dropped), None) => {
            Err("its cluster had too much on the broker, and has not any more: it is asked for again".to_owned())
        }
        // Not even copied: the API server here knows its values no more than this program does.
        (Ok(spec), None) if spec.kind == ImportType::Unknown => {
            Err("its type is not known to this version of Linkspan; upgrade this cluster".to_owned())
        }
        (Ok(spec), None) => Ok(spec),
        (Err(Unread::Illegible(error)), _) => Err(format!("it cannot be read: {error}")),
    };
    let spec = match spec {
        Ok(spec) => spec,
        Err(reason) => return (drop(), Some(format!("{}: {reason}", record.name))),
    };
    let mut copy = ServiceRecord {
        metadata: ObjectMeta {
            name: Some(record.name.to_owned()),
            namespace: Some(record.namespace.to_owned()),
            labels: Some(labels(&seen.cluster, Some(&spec.namespace))),
            ..ObjectMeta::default()
        },
        spec: spec.clone(),
        status: None,
    };
    let member = members.get(&seen.cluster);
    let fault = fault(&copy, member, verdicts.get(&seen.cluster), policy);
    let (finding, refused) = match fault {
        None => (Finding::good("Accepted", "Accepted", "it is imported"), None),
        Some(Fault::Partial(reason, message)) => {
            member.into_iter().for_each(|member| records::leave_out_foreign(&mut copy.spec, member));
            (Finding::good("Accepted", reason, format!("it is imported, but {message}")), Some(message))
        }
        Some(Fault::Whole(reason, message)) => {
            // What is refused is kept to be seen, and nothing of it can be used.
            copy.spec.slices = Vec::new();
            (Finding::bad("Accepted", reason, message.clone()), Some(message))
        }
    };
    let refused = refused.map(|message| format!("{}: {message}", record.name));
    let mut actions = Vec::new();
    if !local.is_some_and(|have| have.spec == copy.spec && has_metadata(&have.metadata, &copy.metadata)) {
        actions.push(Action::CopyRecord(Box::new(copy)));
    }
    let findings = vec![finding];
    let conditions = local.and_then(|have| have.status.as_ref()).map_or(&[][..], |status| &status.conditions);
    if !says(conditions, &findings) {
        actions.push(Action::TellRecord(record.name.to_owned(), findings));
    }
    (actions, refused)
}

fn fault(
    record: &ServiceRecord,
    member: Option<&Member>,
    verdict: Option<&Verdict>,
    policy: &records::Policy,
) -> Option<Fault> {
    match (member, verdict) {
        (Some(member), Some(Verdict::Accepted(_))) => records::check(record, member, policy),
        (Some(_), Some(Verdict::Refused(refusal))) => {
            let message = format!("its Member is refused ({}): {}", refusal.reason, refusal.message);
            Some(Fault::Whole("MemberRefused", message))
        }
        _ => Some(Fault::Whole("NoMember", "its cluster is not a Member".to_owned())),
    }
}
