//! Plans as people read them. Whether they lead to rest is a law, tested over whole clusters.

use std::collections::BTreeMap;

use super::super::derived::derived_name;
use super::super::testing::{ports, record, slice};
use super::super::validate::{MemberNetworks, Policy};
use super::super::value::ClusterId;
use super::*;
use tunnel::config::Translation;

/// Cluster `c1` in a namespace where `c2` exports `shop/web`.
struct Case {
    cluster: ClusterId,
    policy: Policy,
    members: BTreeMap<String, Exporter>,
    views: BTreeMap<String, View>,
    import: Option<ServiceImport>,
    records: Vec<SeenRecord>,
    namespace: Namespace,
    export: Option<SeenExport>,
    service: Option<LocalService>,
    membership: Membership,
    taken: bool,
    families: Vec<Family>,
    derived: Vec<SeenDerived>,
    failures: Vec<Failure>,
}

impl Case {
    fn new() -> Self {
        let content = Record {
            ports: ports(&["http 80/TCP"]),
            slices: vec![slice(&["http 8080/TCP"], &["10.2.0.1"])],
            ..record("c2", 0)
        };
        let networks = MemberNetworks { cluster: "c2".into(), prefixes: vec!["10.2.0.0/16".parse().unwrap()] };
        Self {
            cluster: ClusterId::new("c1").unwrap(),
            policy: Policy::default(),
            members: [("c2".to_owned(), Exporter { networks: Some(networks), joined_at: None })].into(),
            views: BTreeMap::new(),
            import: None,
            records: vec![seen("c2", content)],
            namespace: Namespace::Active,
            export: None,
            service: None,
            membership: Membership::Joined,
            taken: false,
            families: vec![Family::V4],
            derived: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn plan(&self) -> Vec<String> {
        self.actions().iter().map(ToString::to_string).collect()
    }

    /// The addresses of all imported endpoints.
    fn addresses(&self) -> Vec<String> {
        let actions = self.actions();
        let slices = actions.iter().filter_map(|action| match action {
            Action::ApplySlice(slice) => Some(slice),
            _ => None,
        });
        slices.flat_map(|slice| &slice.endpoints).flat_map(|endpoint| endpoint.addresses.clone()).collect()
    }

    fn actions(&self) -> Vec<Action> {
        let key = ServiceKey::new("shop", "web");
        let observed = Observed {
            key: &key,
            site: Site { cluster: &self.cluster, networks: None, policy: &self.policy },
            membership: self.membership,
            families: &self.families,
            namespace: self.namespace,
            export: self.export.as_ref(),
            service: self.service.as_ref(),
            native_slices: Vec::new(),
            records: self.records.iter().collect(),
            members: &self.members,
            views: &self.views,
            import: self.import.as_ref(),
            derived: self.derived.iter().collect(),
            derived_name_taken: self.taken,
            slices: Vec::new(),
            reachability: &BTreeMap::new(),
            server: ServerVersion::default(),
            failures: &self.failures,
        };
        plan(&observed, Timestamp::UNIX_EPOCH)
    }
}

fn seen(cluster: &str, content: Record) -> SeenRecord {
    let object = ObjectRef { namespace: SYSTEM_NAMESPACE.into(), name: content.object_name(), uid: "u".into() };
    SeenRecord { cluster: cluster.into(), object, content: Ok(content), accepted: None }
}

#[test]
fn slices_stand_before_the_import_that_points_at_them() {
    let name = derived_name(&ServiceKey::new("shop", "web"));
    let plan = Case::new().plan();
    assert_eq!(plan.len(), 3, "{plan:?}");
    assert_eq!(plan[0], format!("apply Service shop/{name}"));
    assert!(
        plan[1].starts_with(&format!("apply EndpointSlice shop/{name}-c2-v4-"))
            && plan[1].ends_with("with 1 endpoints")
    );
    assert_eq!(plan[2], "apply ServiceImport shop/web ClusterSetIP []");
}

#[test]
fn endpoints_have_the_addresses_that_this_cluster_knows_them_by() {
    let block = |native: &str, elsewhere: &str| Translation {
        native: native.parse().unwrap(),
        r#virtual: elsewhere.parse().unwrap(),
    };
    let mut case = Case::new();
    let Ok(record) = &mut case.records[0].content else { panic!() };
    record.slices = vec![slice(&["http 8080/TCP"], &["10.2.0.1", "10.2.1.1", "10.2.7.1"])];
    let blocks = vec![block("10.2.0.0/24", "100.64.9.0/24"), block("10.2.1.0/24", "100.64.5.0/24")];
    case.views.insert("c2".into(), View::Virtual(blocks));
    assert_eq!(case.addresses(), ["100.64.5.1", "100.64.9.1"], "the third one's node has no block yet");
}

#[test]
fn a_lost_prefix_takes_the_endpoints_in_it_and_no_others() {
    let mut case = Case::new();
    let Ok(record) = &mut case.records[0].content else { panic!() };
    record.slices = vec![slice(&["http 8080/TCP"], &["10.2.0.1", "10.2.1.1", "10.3.0.1"])];
    assert_eq!(case.addresses(), ["10.2.0.1", "10.2.1.1"], "not those of another Member");
    // A node is gone: its Member is heard of before its records are.
    case.members.get_mut("c2").unwrap().networks.as_mut().unwrap().prefixes = vec!["10.2.0.0/24".parse().unwrap()];
    assert_eq!(case.addresses(), ["10.2.0.1"]);
    // What is another's is never used under a virtual address either.
    let blocks =
        vec![Translation { native: "10.2.0.0/23".parse().unwrap(), r#virtual: "100.64.8.0/23".parse().unwrap() }];
    case.views.insert("c2".into(), View::Virtual(blocks));
    assert_eq!(case.addresses(), ["100.64.8.1"]);
}

#[test]
fn row_19_and_20_nothing_is_planned_without_a_namespace_that_stays() {
    for namespace in [Namespace::Absent, Namespace::Terminating] {
        assert_eq!(Case { namespace, ..Case::new() }.plan(), Vec::<String>::new());
    }
}

#[test]
fn records_of_nobody_or_with_addresses_of_others_do_not_count() {
    assert_eq!(Case { members: BTreeMap::new(), ..Case::new() }.plan(), Vec::<String>::new());
    let mut case = Case::new();
    case.members.get_mut("c2").unwrap().networks.as_mut().unwrap().prefixes.clear();
    assert_eq!(case.plan(), Vec::<String>::new());
}

/// The import that a [`Case`] comes to.
fn imported() -> ServiceImport {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": { "namespace": "shop", "name": "web", "labels": { "app.kubernetes.io/managed-by": "linkspan.dev" } },
        "spec": { "type": "ClusterSetIP", "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }], "ips": ["10.43.0.9"] }
    }))
    .unwrap()
}

#[test]
fn row_62_an_import_keeps_its_address_while_all_its_exports_are_refused() {
    let refused_by_copy = |case: &mut Case| {
        case.records[0].accepted = Some(Condition { status: "False".into(), ..condition() });
    };
    let refused_member = |case: &mut Case| case.members.get_mut("c2").unwrap().networks = None;
    let lost_prefix = |case: &mut Case| {
        case.members.get_mut("c2").unwrap().networks.as_mut().unwrap().prefixes.clear();
    };
    for refuse in [&refused_by_copy as &dyn Fn(&mut Case), &refused_member, &lost_prefix] {
        let mut case = Case { import: Some(imported()), ..Case::new() };
        refuse(&mut case);
        let plan = case.plan();
        assert!(plan[0].starts_with("apply Service shop/derived-"), "{plan:?}");
        assert_eq!(plan[1..], ["apply ServiceImport shop/web ClusterSetIP [10.43.0.9]"], "without any slice");
        // Nothing begins with a refused export.
        case.import = None;
        assert_eq!(case.plan(), Vec::<String>::new());
    }
    let mut gone = Case { import: Some(imported()), ..Case::new() };
    gone.members.clear();
    assert_eq!(gone.plan(), ["delete ServiceImport shop/web"]);
}

#[test]
fn row_62_a_lost_derived_service_asks_for_the_address_of_whatever_family_it_had() {
    let mut import = imported();
    import.spec.ips = vec!["fd43::9".into()];
    let families = vec![Family::V4, Family::V6];
    let case = Case { import: Some(import), families, ..Case::new() };
    let ips = case.actions().into_iter().find_map(|action| match action {
        Action::ApplyDerived(service) => service.spec.unwrap().cluster_ips,
        _ => None,
    });
    assert_eq!(ips.unwrap(), ["fd43::9"], "although the cluster's first family is IPv4");
}

#[test]
fn a_write_that_fails_is_told_on_the_import_and_on_the_export() {
    let mut case = Case::new();
    let local = LocalExport { created: Timestamp::UNIX_EPOCH, labels: BTreeMap::new(), annotations: BTreeMap::new() };
    case.export = Some(SeenExport { local, generation: Some(1), conditions: Vec::new() });
    case.service = Some(LocalService::of(
        &serde_json::from_value(serde_json::json!({
            "spec": { "clusterIP": "10.43.0.1", "ipFamilies": ["IPv4"], "ports": [{ "name": "http", "port": 80 }] }
        }))
        .unwrap(),
    ));
    let mut import = whole_import();
    import.spec.ips.clear();
    case.import = Some(import);
    let failed = |action: &Action| matches!(action, Action::ApplyRecord(_) | Action::ApplyDerived(_));
    let failed: Vec<_> = case.actions().into_iter().filter(failed).collect();
    assert_eq!(failed.len(), 2);
    case.failures = failed.into_iter().map(|action| Failure { told: Some(format!("{action}: no")), action }).collect();
    let mut told = Vec::new();
    for action in case.actions() {
        let conditions = match action {
            Action::ApplyImportStatus(import) => import.status.unwrap().conditions,
            Action::ApplyExportStatus(export, _) => export.status.unwrap().conditions,
            _ => continue,
        };
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
        told.push(format!("{}/{}: {}", ready.status, ready.reason, ready.message.split('/').next_back().unwrap()));
    }
    let name = derived_name(&ServiceKey::new("shop", "web"));
    assert_eq!(told, [format!("False/Pending: {name}: no"), "False/Failed: c1.shop.web: no".to_owned()]);
    // That only the world has moved on is nothing to tell.
    case.failures.iter_mut().for_each(|failure| failure.told = None);
    assert!(!format!("{:?}", case.actions()).contains(": no"));
}

/// The import that a [`Case`] with an address comes to, without its status.
fn whole_import() -> ServiceImport {
    let mut import = imported();
    import.spec.session_affinity = Some("None".into());
    import.spec.internal_traffic_policy = Some("Cluster".into());
    import.spec.ip_families = vec!["IPv4".into()];
    let derived = derived_name(&ServiceKey::new("shop", "web"));
    import.metadata.annotations = Some([("multicluster.kubernetes.io/derived-service".into(), derived)].into());
    import
}

/// The derived Service of a [`Case`], with these addresses.
fn derived(ips: &[&str]) -> SeenDerived {
    let Ok(record) = seen_web().content else { panic!() };
    let merged = merge(&[Export::new(&record, None)]).unwrap();
    let name = derived_name(&ServiceKey::new("shop", "web"));
    SeenDerived {
        object: ObjectRef { namespace: "shop".into(), name, uid: "u".into() },
        content: DerivedService::new(&merged),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    }
}

fn seen_web() -> SeenRecord {
    Case::new().records.remove(0)
}

#[test]
fn row_62_a_derived_service_gets_an_address_of_a_family_that_its_cluster_has_got_since() {
    let mut case = Case { families: vec![Family::V4, Family::V6], ..Case::new() };
    let Ok(record) = &mut case.records[0].content else { panic!() };
    record.families = vec![Family::V6, Family::V4];
    let applied = |case: &Case| {
        let services = case.actions().into_iter().filter_map(|action| match action {
            Action::ApplyDerived(service) => service.spec,
            _ => None,
        });
        services.map(|spec| (spec.ip_families, spec.cluster_ip, spec.cluster_ips)).collect::<Vec<_>>()
    };
    case.derived = vec![derived(&["10.43.0.9"])];
    let text = |text: &str| text.to_owned();
    assert_eq!(
        applied(&case),
        [(Some(vec![text("IPv4"), text("IPv6")]), Some(text("10.43.0.9")), Some(vec![text("10.43.0.9")]))],
        "the old family first, whatever the order of the exports"
    );
    case.derived = vec![derived(&["10.43.0.9", "fd43::9"])];
    assert_eq!(applied(&case), []);
    // Where no export needs it, nothing is asked for.
    case.derived = vec![derived(&["10.43.0.9"])];
    case.records = vec![seen_web()];
    assert_eq!(applied(&case), []);
    // Another change leaves the addresses to the API server.
    case.derived[0].content.ports.clear();
    assert_eq!(applied(&case), [(None, None, None)]);
}

#[test]
fn row_23_a_field_of_others_goes_and_keeps_no_status_from_being_told() {
    let mut import = whole_import();
    import.spec.traffic_distribution = Some("PreferClose".into());
    let mut case = Case { import: Some(import), derived: vec![derived(&["10.43.0.9"])], ..Case::new() };
    assert_eq!(
        case.plan()[1..],
        ["take trafficDistribution out of ServiceImport shop/web", "set status of ServiceImport shop/web"]
    );
    case.import = Some(whole_import());
    assert_eq!(case.plan()[1..], ["set status of ServiceImport shop/web"]);
}

#[test]
fn row_26_an_import_that_cannot_be_written_has_a_status_that_says_so() {
    let mut import = whole_import();
    import.spec.ips.clear();
    let mut case = Case { import: Some(import), derived: vec![derived(&["10.43.0.9"])], ..Case::new() };
    assert_eq!(case.plan()[1..], ["apply ServiceImport shop/web ClusterSetIP [10.43.0.9]"], "its status follows");
    let action = case.actions().remove(1);
    case.failures = vec![Failure { action, told: Some("a policy denies it".into()) }];
    let status = |case: &Case| match case.actions().pop() {
        Some(Action::ApplyImportStatus(import)) => import.status.unwrap(),
        other => panic!("{other:?}"),
    };
    let told = status(&case);
    assert_eq!(told.clusters[0].cluster, "c2");
    assert_eq!((&*told.conditions[0].status, &*told.conditions[0].reason), ("False", "Pending"), "it has no address");
    assert_eq!(told.conditions[0].message, "a policy denies it");
    let mut import = whole_import();
    import.spec.internal_traffic_policy = Some("Local".into());
    case.import = Some(import);
    let told = status(&case);
    assert_eq!((&*told.conditions[0].status, &*told.conditions[0].message), ("True", "a policy denies it"));
}

fn condition() -> Condition {
    Condition {
        type_: ACCEPTED.into(),
        status: "True".into(),
        reason: "Test".into(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
    }
}

#[test]
fn a_refused_export_has_no_vote() {
    let mut case = Case::new();
    let before = case.plan();
    let other = Record { ports: ports(&["http 81/TCP"]), ..record("c3", -100) };
    let networks = Some(MemberNetworks { cluster: "c3".into(), prefixes: Vec::new() });
    case.members.insert("c3".into(), Exporter { networks, joined_at: None });
    case.records.push(seen("c3", other));
    assert_ne!(case.plan(), before, "it is the oldest");
    case.records[1].accepted = Some(Condition { status: "False".into(), ..condition() });
    assert_eq!(case.plan(), before);
}

#[test]
fn row_8_an_export_without_service_is_told_so() {
    let local = LocalExport { created: Timestamp::UNIX_EPOCH, labels: BTreeMap::new(), annotations: BTreeMap::new() };
    let export = Some(SeenExport { local, generation: Some(1), conditions: Vec::new() });
    assert_eq!(
        Case { export, records: Vec::new(), ..Case::new() }.plan(),
        [
            "set conditions of ServiceExport shop/web Valid=False/NoService Ready=False/Pending Conflict=False/NoConflicts"
        ]
    );
}

#[test]
fn a_leftover_record_of_our_own_is_removed() {
    let mut case = Case::new();
    case.records = vec![seen("c1", record("c1", 0))];
    assert_eq!(case.plan(), ["delete ServiceRecord linkspan-system/c1.shop.web"]);
}

#[test]
fn a_foreign_service_under_the_derived_name_is_not_written() {
    assert_eq!(Case { taken: true, ..Case::new() }.plan(), ["apply ServiceImport shop/web ClusterSetIP []"]);
}

#[test]
fn row_104_nothing_is_exported_or_imported_outside_of_a_clusterset() {
    let local = LocalExport { created: Timestamp::UNIX_EPOCH, labels: BTreeMap::new(), annotations: BTreeMap::new() };
    let export = Some(SeenExport { local, generation: Some(1), conditions: Vec::new() });
    let mut case = Case { membership: Membership::Outside, ..Case::new() };
    assert_eq!(case.plan(), Vec::<String>::new());
    case.records.push(seen("c1", record("c1", 0)));
    case.export = export;
    assert_eq!(
        case.plan(),
        [
            "delete ServiceRecord linkspan-system/c1.shop.web",
            "set conditions of ServiceExport shop/web Valid=False/NoService Ready=False/Pending Conflict=False/NoConflicts"
        ]
    );
}
