//! From the local API server to the broker: the own Member and the own ServiceRecords.

use std::net::SocketAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::action::Action;
use super::down::labels;
use super::seen::Seen;
use super::store::Store;
use crate::api::names::{LABEL_CLUSTER, record_name};
use crate::api::{Gateway, Member, MemberSpec, ServiceRecord, ServiceRecordSpec};
use crate::members::{ClusterId, Stakes, defended};

/// Plans the own Member on the broker. `seen` are all Members there. `refused`: the broker has refused it as it is.
///
/// What is refused is in conflict with another Member: a prefix as a rule. All else must not wait for that, the active
/// gateway least of all: so it is published with the prefixes that the broker has, and without new gateways and addresses
/// that are in others' way, until those are right.
pub fn member(
    own: &ClusterId,
    namespace: &str,
    local: &Member,
    seen: &Store<Seen<MemberSpec>>,
    refused: bool,
) -> Vec<Action> {
    let published = seen.get(own.as_str()).filter(|seen| seen.cluster == own.as_str());
    let published = published.and_then(|seen| seen.spec.as_ref().ok());
    let uncontested = published.filter(|_| refused).map(|published| MemberSpec {
        pod_cidrs: published.pod_cidrs.clone(),
        service_cidrs: published.service_cidrs.clone(),
        virtual_cidrs: published.virtual_cidrs.clone(),
        virtual_only: published.virtual_only,
        gateways: uncontested(own, &local.spec.gateways, published, seen),
        ..local.spec.clone()
    });
    let spec = uncontested.filter(|spec| Some(spec) != published).unwrap_or_else(|| local.spec.clone());
    if published == Some(&spec) {
        return Vec::new();
    }
    let metadata = metadata(namespace, own.to_string(), labels(own.as_str(), None));
    vec![Action::PublishMember(Box::new(Member { metadata, spec, status: None }))]
}

/// The other Members, each with what this one has if it is older than they.
fn others<'a>(
    own: &ClusterId,
    seen: &'a Store<Seen<MemberSpec>>,
    stakes: &'a Stakes,
) -> Vec<(&'a MemberSpec, Option<&'a Stakes>)> {
    let age = |name: &str, seen: &Seen<MemberSpec>| (seen.created.unwrap_or(Timestamp::MAX), name.to_owned());
    let since = seen.get(own.as_str()).map(|mine| age(own.as_str(), mine));
    let others = seen.iter().filter(|(name, _)| *name != own.as_str());
    let others = others.filter_map(|(name, seen)| Some((age(name, seen), seen.spec.as_ref().ok()?)));
    others.map(|(theirs, spec)| (spec, Some(stakes).filter(|_| since.as_ref() < Some(&theirs)))).collect()
}

/// The gateways without new ones that have another Member's key, and without new addresses inside another's prefix.
fn uncontested(
    own: &ClusterId,
    gateways: &[Gateway],
    published: &MemberSpec,
    seen: &Store<Seen<MemberSpec>>,
) -> Vec<Gateway> {
    let stakes = Stakes::of(published);
    let others = others(own, seen, &stakes);
    let has_key = |spec: &MemberSpec, key: &str| spec.gateways.iter().any(|gateway| gateway.public_key == key);
    let is_free_key = |key: &str| has_key(published, key) || !others.iter().any(|(other, _)| has_key(other, key));
    let nets: Vec<IpNet> = others.iter().flat_map(|(other, older)| defended(other, *older)).collect();
    let is_free = |endpoint: &&String| {
        let inside = |at: SocketAddr| nets.iter().any(|net| net.contains(&at.ip()));
        published.gateways.iter().any(|gateway| gateway.endpoints.contains(endpoint))
            || endpoint.parse().is_ok_and(|at| !inside(at))
    };
    let gateways = gateways.iter().filter(|gateway| is_free_key(&gateway.public_key));
    gateways
        .map(|gateway| Gateway {
            endpoints: gateway.endpoints.iter().filter(is_free).cloned().collect(),
            ..gateway.clone()
        })
        .collect()
}

/// Plans one own ServiceRecord on the broker, by its name.
pub fn record(
    own: &ClusterId,
    namespace: &str,
    name: &str,
    local: Option<&ServiceRecord>,
    seen: Option<&Seen<ServiceRecordSpec>>,
) -> Vec<Action> {
    let is_own = |record: &&ServiceRecord| {
        let spec = &record.spec;
        record.labels().get(LABEL_CLUSTER).map(String::as_str) == Some(own.as_str())
            && spec.cluster_id == own.as_str()
            && name == record_name(&spec.cluster_id, &spec.namespace, &spec.name)
            && record.metadata.deletion_timestamp.is_none()
    };
    let published = seen.filter(|seen| seen.cluster == own.as_str());
    let Some(local) = local.filter(is_own) else {
        return published.map(|_| Action::WithdrawRecord(name.to_owned())).into_iter().collect();
    };
    let mut spec = local.spec.clone();
    super::seen::Normal::normalize(&mut spec);
    if published.is_some_and(|seen| seen.spec.as_ref() == Ok(&spec)) {
        return Vec::new();
    }
    let metadata = metadata(namespace, name.to_owned(), labels(own.as_str(), Some(&spec.namespace)));
    vec![Action::PublishRecord(Box::new(ServiceRecord { metadata, spec, status: None }))]
}

fn metadata(namespace: &str, name: String, labels: std::collections::BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::{ImportType, VirtualCidr};

    fn own() -> ClusterId {
        "paris".parse().unwrap()
    }

    fn spec(pods: &str, version: &str) -> MemberSpec {
        MemberSpec {
            cluster_id: "paris".into(),
            cluster_uid: "uid".into(),
            pod_cidrs: vec![pods.into()],
            service_cidrs: Vec::new(),
            virtual_cidrs: Vec::new(),
            virtual_only: false,
            resting_cidrs: Vec::new(),
            gateways: Vec::new(),
            version: version.into(),
            protocol: 1,
            min_protocol: None,
        }
    }

    fn seen<T>(spec: T) -> Seen<T> {
        Seen { cluster: "paris".into(), created: None, version: None, spec: Ok(spec) }
    }

    fn broker(members: Vec<(&str, MemberSpec)>) -> Store<Seen<MemberSpec>> {
        let mut store = Store::default();
        for (name, spec) in members {
            store.put(name.to_owned(), Seen { cluster: name.to_owned(), created: None, version: None, spec: Ok(spec) });
        }
        store
    }

    fn published(actions: &[Action]) -> &MemberSpec {
        match actions {
            [Action::PublishMember(member)] => &member.spec,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_member_is_published_when_it_differs_and_only_then() {
        let local = Member::new("paris", spec("10.42.0.0/16", "1"));
        let plan = |members| member(&own(), "broker", &local, &broker(members), false);
        assert_eq!(published(&plan(Vec::new())), &local.spec);
        assert_eq!(published(&plan(vec![("paris", spec("10.42.0.0/16", "0"))])), &local.spec);
        assert_eq!(plan(vec![("paris", spec("10.42.0.0/16", "1"))]), []);
    }

    #[test]
    fn a_refused_prefix_does_not_hold_up_the_rest() {
        let local = Member::new("paris", spec("10.0.0.0/8", "2"));
        let before = broker(vec![("paris", spec("10.42.0.0/16", "1"))]);
        let plan = member(&own(), "broker", &local, &before, true);
        assert_eq!(published(&plan), &spec("10.42.0.0/16", "2"));
        let between = broker(vec![("paris", spec("10.42.0.0/16", "2"))]);
        let plan = member(&own(), "broker", &local, &between, true);
        assert_eq!(published(&plan), &local.spec, "then the whole is tried again");
    }

    fn gateway(key: &str, endpoints: &[&str]) -> Gateway {
        let endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
        Gateway { node: key.to_owned(), public_key: key.to_owned(), endpoints, lanes: 1, active: false }
    }

    #[test]
    fn a_refused_address_or_key_does_not_hold_up_the_rest() {
        let mut local = Member::new("paris", spec("10.42.0.0/16", "1"));
        local.spec.gateways = vec![
            gateway("old", &["198.51.100.1:51820", "203.0.113.1:51820", "192.0.2.7:51820"]),
            gateway("theirs", &[]),
        ];
        let mut before = spec("10.42.0.0/16", "1");
        before.gateways = vec![gateway("old", &["198.51.100.1:51820"])];
        let (mut rome, oslo) = (spec("203.0.113.0/24", "1"), spec("198.51.100.0/24", "1"));
        rome.gateways = vec![gateway("theirs", &[])];
        let members = broker(vec![("paris", before), ("rome", rome), ("oslo", oslo)]);
        let plan = member(&own(), "broker", &local, &members, true);
        // The address that has been there before stays, whoever has come to claim it.
        assert_eq!(published(&plan).gateways, [gateway("old", &["198.51.100.1:51820", "192.0.2.7:51820"])]);
    }

    #[test]
    fn what_others_do_not_have_keeps_no_new_address_out() {
        let at = |second: i64| Some(Timestamp::from_second(second).unwrap());
        let block = |of: &str| VirtualCidr { pods: of.into(), r#virtual: of.into() };
        let mut local = Member::new("paris", spec("10.42.0.0/16", "1"));
        local.spec.gateways = vec![gateway("old", &["198.51.100.1:1", "203.0.113.1:1", "192.0.2.7:1", "10.9.0.1:1"])];
        let mut before = spec("10.42.0.0/16", "1");
        before.gateways = vec![gateway("old", &["198.51.100.1:1"])];
        // One that is too wide, services, and pods that are known by others; and one around an address of paris.
        let mut rome = spec("192.0.2.0/24", "1");
        (rome.virtual_only, rome.service_cidrs) = (true, vec!["203.0.113.0/24".into()]);
        rome.virtual_cidrs = vec![block("0.0.0.0/0"), block("198.51.0.0/16"), block("10.0.0.0/8")];
        let plan = |rome_since| {
            let mut members = Store::default();
            for (name, created, spec) in [("paris", at(100), &before), ("rome", rome_since, &rome)] {
                let seen = Seen { cluster: name.to_owned(), created, version: None, spec: Ok(spec.clone()) };
                members.put(name.to_owned(), seen);
            }
            published(&member(&own(), "broker", &local, &members, true)).gateways.clone()
        };
        let all = local.spec.gateways.clone();
        for younger in [at(101), at(100), None] {
            assert_eq!(plan(younger), all, "around pods that paris had before, by time or by name: {younger:?}");
        }
        let less = [gateway("old", &["198.51.100.1:1", "203.0.113.1:1", "192.0.2.7:1"])];
        assert_eq!(plan(at(99)), less, "10.0.0.0/8 is the older one's");
    }

    fn exported(cluster: &str) -> ServiceRecord {
        let spec = ServiceRecordSpec {
            cluster_id: cluster.into(),
            namespace: "default".into(),
            name: "web".into(),
            kind: ImportType::ClusterSetIP,
            exported_at: Time("2026-01-01T00:00:00.5Z".parse::<Timestamp>().unwrap()),
            ports: Vec::new(),
            ip_families: Vec::new(),
            session_affinity: None,
            session_affinity_timeout_seconds: None,
            internal_traffic_policy: None,
            traffic_distribution: None,
            exported_labels: Default::default(),
            exported_annotations: Default::default(),
            slices: Vec::new(),
        };
        let mut record = ServiceRecord::new(&format!("{cluster}.default.web"), spec);
        record.metadata.labels = Some(labels(cluster, Some("default")));
        record
    }

    #[test]
    fn own_records_are_published_once_and_withdrawn_when_they_go() {
        let local = exported("paris");
        let name = "paris.default.web";
        let [Action::PublishRecord(up)] = &record(&own(), "broker", name, Some(&local), None)[..] else { panic!() };
        assert_eq!(up.spec.exported_at.0, "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
        let there = seen(up.spec.clone());
        assert_eq!(record(&own(), "broker", name, Some(&local), Some(&there)), []);
        assert_eq!(record(&own(), "broker", name, None, Some(&there)), [Action::WithdrawRecord(name.into())]);
    }

    #[test]
    fn records_of_others_are_neither_published_nor_withdrawn() {
        let (copy, name) = (exported("rome"), "rome.default.web");
        let theirs = Seen { cluster: "rome".into(), created: None, version: None, spec: Ok(copy.spec.clone()) };
        assert_eq!(record(&own(), "broker", name, Some(&copy), None), []);
        assert_eq!(record(&own(), "broker", name, None, Some(&theirs)), []);
    }
}
