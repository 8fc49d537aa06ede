//! A merged service, as a cluster with the address families of the test makes it its own.

use super::super::merge::{Export, merge};
use super::super::testing::{ports, record, slice};
use super::*;

struct Case {
    records: Vec<Record>,
    families: Vec<Family>,
    ips: Option<Vec<IpAddr>>,
    reachability: BTreeMap<String, Reachability>,
    server: ServerVersion,
    failure: Option<&'static str>,
}

impl Case {
    /// An IPv4 cluster that has its derived Service.
    fn new(records: Vec<Record>) -> Self {
        let ips = Some(vec!["10.43.0.9".parse().unwrap()]);
        let server = ServerVersion::new(1, 34);
        Self { records, families: vec![Family::V4], ips, reachability: BTreeMap::new(), server, failure: None }
    }

    fn local<'a>(&'a self, cluster: &'a ClusterId, derived: Derived<'a>) -> Local<'a> {
        Local {
            cluster,
            families: &self.families,
            derived,
            reachability: &self.reachability,
            server: self.server,
            failure: self.failure,
        }
    }

    fn import(&self) -> Import {
        let records: Vec<_> = self.records.iter().collect();
        let merged = merge(&records.iter().map(|record| Export::new(record, None)).collect::<Vec<_>>()).unwrap();
        let cluster = ClusterId::new("c1").unwrap();
        let derived = self.ips.as_ref().map_or(Derived::Absent, |ips| Derived::Ours(ips));
        let local = self.local(&cluster, derived);
        let result = import(&merged, &records, local, &[]);
        let reversed: Vec<_> = self.records.iter().rev().collect();
        assert_eq!(import(&merged, &reversed, local, &[]), result);
        result
    }
}

fn with_endpoint(cluster: &str, age: i64, address: &str) -> Record {
    Record {
        ports: ports(&["http 80/TCP"]),
        slices: vec![slice(&["http 8080/TCP"], &[address])],
        ..record(cluster, age)
    }
}

fn dual(cluster: &str) -> Record {
    Record { families: vec![Family::V6, Family::V4], ..with_endpoint(cluster, 0, "10.1.0.1") }
}

/// Cluster, address and readiness of each imported endpoint.
fn shown(import: &Import) -> Vec<String> {
    let endpoints = |slice: &ImportedSlice| {
        let cluster = slice.cluster.clone();
        let show = move |endpoint: &super::super::Endpoint| {
            format!("{cluster} {} {:?}", endpoint.addresses[0], endpoint.ready)
        };
        slice.endpoints.iter().map(show).collect::<Vec<_>>()
    };
    import.slices.iter().flat_map(endpoints).collect()
}

#[test]
fn row_26_an_import_is_pending_until_its_address_is_there_and_ready_then() {
    let mut case = Case::new(vec![with_endpoint("c1", 0, "10.1.0.1")]);
    case.ips = None;
    let pending = case.import();
    assert_eq!((pending.import.ready.status, pending.import.ready.reason.as_str()), (Truth::False, "Pending"));
    assert_eq!(pending.import.spec.ips, Vec::<String>::new());
    assert!(pending.derived.is_some());
    case.ips = Some(vec!["10.43.0.9".parse().unwrap()]);
    let ready = case.import();
    assert_eq!((ready.import.ready.status, ready.import.ready.reason.as_str()), (Truth::True, "Ready"));
    assert_eq!(ready.import.spec.ips, ["10.43.0.9"]);
}

#[test]
fn row_61_addresses_are_told_in_the_order_of_families_with_those_that_have_one() {
    let mut case = Case::new(vec![dual("c1")]);
    case.families = vec![Family::V4, Family::V6];
    // The cluster had one family when the derived Service was made.
    let partly = case.import();
    assert_eq!((partly.import.spec.ip_families, partly.import.spec.ips), (texts(&["IPv4"]), texts(&["10.43.0.9"])));
    let name = derived_name(&ServiceKey::new("shop", "web"));
    assert_eq!(
        (partly.import.ready.status, partly.import.ready.message),
        (Truth::True, format!("Service {name} has no address of IPv6 yet."))
    );
    assert_eq!(partly.missing, [Family::V6]);
    case.ips = Some(vec!["10.43.0.9".parse().unwrap(), "fd43::9".parse().unwrap()]);
    let Import { import, missing, .. } = case.import();
    assert_eq!(
        (import.spec.ip_families, import.spec.ips),
        (texts(&["IPv6", "IPv4"]), texts(&["fd43::9", "10.43.0.9"]))
    );
    assert_eq!((import.ready.message.as_str(), missing), ("", vec![]));
    case.ips = None;
    let Import { import, .. } = case.import();
    assert_eq!((import.spec.ip_families, import.spec.ips), (texts(&["IPv6", "IPv4"]), texts(&[])));
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn row_62_an_export_of_fewer_families_takes_no_address_away_for_good() {
    let mut case = Case::new(vec![dual("c1"), with_endpoint("c2", 1, "10.2.0.1")]);
    case.families = vec![Family::V4, Family::V6];
    case.ips = Some(vec!["10.43.0.9".parse().unwrap(), "fd43::9".parse().unwrap()]);
    let narrowed = case.import();
    assert_eq!(narrowed.import.spec.ips, ["10.43.0.9"]);
    // The derived Service is the same, so its addresses are.
    case.records.pop();
    assert_eq!(case.import().derived, narrowed.derived);
}

#[test]
fn row_64_a_headless_import_has_no_address_and_no_derived_service() {
    let headless = Record {
        kind: ImportType::Headless,
        affinity: super::super::Affinity::ClientIp { seconds: 9 },
        ..with_endpoint("c1", 0, "10.1.0.1")
    };
    let import = Case::new(vec![headless]).import();
    assert_eq!((import.derived, import.import.spec.ips), (None, vec![]));
    assert_eq!((import.import.spec.session_affinity, import.import.ready.status), (None, Truth::True));
    assert_eq!(import.slices.len(), 1);
}

#[test]
fn row_27_a_service_without_a_family_of_the_cluster_is_not_supported() {
    let mut case = Case::new(vec![Record { families: vec![Family::V6], ..with_endpoint("c2", 0, "fd02::1") }]);
    case.ips = None;
    let import = case.import();
    assert_eq!(import.import.ready.reason, "IPFamilyNotSupported");
    assert_eq!(import.import.ready.message, "The service has IPv6 only, the cluster IPv4 only.");
    assert_eq!((import.import.spec.ips, import.import.spec.ip_families), (vec![], vec!["IPv6".to_owned()]));
    assert_eq!((import.derived, import.slices), (None, vec![]));
}

#[test]
fn row_28_and_30_slices_are_told_to_be_present_and_families_always() {
    let import = Case::new(vec![with_endpoint("c1", 0, "10.1.0.1")]).import().import;
    assert_eq!(import.status(vec![]).endpoint_slice_objects, Some(EndpointSliceObjects::Present));
    assert_eq!(import.spec.ip_families, ["IPv4"]);
}

#[test]
fn row_56_and_60_exported_labels_are_on_the_import_beside_our_own() {
    let mut one = with_endpoint("c1", 0, "10.1.0.1");
    one.exported_labels = [("dummy-label".to_owned(), "true".to_owned())].into();
    one.exported_annotations = [("dummy-annotation".to_owned(), "true".to_owned())].into();
    let object = Case::new(vec![one.clone()]).import().import.to_object();
    let (labels, annotations) = (object.metadata.labels.unwrap(), object.metadata.annotations.unwrap());
    assert_eq!((&*labels["dummy-label"], &*labels["app.kubernetes.io/managed-by"]), ("true", "linkspan.dev"));
    assert_eq!(annotations["dummy-annotation"], "true");
    assert_eq!(annotations["multicluster.kubernetes.io/derived-service"], derived_name(&one.service));
}

#[test]
fn row_59_an_exported_key_that_is_gone_is_noticed() {
    let mut one = with_endpoint("c1", 0, "10.1.0.1");
    one.exported_labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
    let mut case = Case::new(vec![one]);
    let object = case.import().import.to_object();
    assert_eq!(case.import().import.mending(&object), Mending::None);
    case.records[0].exported_labels.remove("b");
    assert_eq!(case.import().import.mending(&object), Mending::Apply);
    case.records[0].exported_labels.clear();
    assert_eq!(case.import().import.mending(&object), Mending::Apply);
}

#[test]
fn row_23_a_changed_import_is_noticed_and_labels_of_others_are_not() {
    let import = Case::new(vec![with_endpoint("c1", 0, "10.1.0.1")]).import().import;
    let mut object = import.to_object();
    object.metadata.labels.as_mut().unwrap().insert("someone".into(), "else".into());
    assert_eq!(import.mending(&object), Mending::None);
    object.spec.ports.clear();
    assert_eq!(import.mending(&object), Mending::Apply);
}

#[test]
fn row_23_what_others_have_put_where_nothing_is_said_is_taken_out() {
    let import = Case::new(vec![with_endpoint("c1", 0, "10.1.0.1")]).import().import;
    let mut object = import.to_object();
    object.spec.traffic_distribution = Some("PreferClose".into());
    let extras = Extras { spec: vec!["trafficDistribution".into()], annotations: Vec::new() };
    assert_eq!(import.mending(&object), Mending::Trim(extras.clone()));
    object.metadata.resource_version = Some("7".into());
    assert_eq!(
        super::super::action::Trim::new(&object.metadata, extras).patch(),
        serde_json::json!({
            "metadata": { "resourceVersion": "7", "annotations": {} },
            "spec": { "trafficDistribution": null }
        })
    );
    // What is wrong is set first.
    object.spec.ports.clear();
    assert_eq!(import.mending(&object), Mending::Apply);

    let headless = Record { kind: ImportType::Headless, ..with_endpoint("c1", 0, "10.1.0.1") };
    let import = Case::new(vec![headless]).import().import;
    let mut object = import.to_object();
    object.spec.session_affinity = Some("None".into());
    object.spec.ips = vec!["10.9.9.9".into()];
    object.metadata.annotations =
        Some([("multicluster.kubernetes.io/derived-service".to_owned(), "theirs".to_owned())].into());
    let extras = Extras {
        spec: vec!["ips".into(), "sessionAffinity".into()],
        annotations: vec!["multicluster.kubernetes.io/derived-service".into()],
    };
    assert_eq!(import.mending(&object), Mending::Trim(extras));
}

#[test]
fn row_81_endpoints_of_a_cluster_that_is_down_are_not_ready() {
    let mut case = Case::new(vec![with_endpoint("c2", 0, "10.2.0.1"), with_endpoint("c3", 1, "10.3.0.1")]);
    case.reachability.insert("c2".into(), Reachability::Unreachable);
    assert_eq!(shown(&case.import()), ["c2 10.2.0.1 Some(false)", "c3 10.3.0.1 Some(true)"]);
    assert_eq!(case.import().slices[0].endpoints[0].serving, Some(false));
}

#[test]
fn row_81_when_all_look_down_the_last_known_endpoints_stay() {
    let mut case = Case::new(vec![with_endpoint("c2", 0, "10.2.0.1"), with_endpoint("c3", 1, "10.3.0.1")]);
    case.reachability.insert("c2".into(), Reachability::Unreachable);
    case.reachability.insert("c3".into(), Reachability::Unreachable);
    assert_eq!(shown(&case.import()), ["c2 10.2.0.1 Some(true)", "c3 10.3.0.1 Some(true)"]);
    // One that is up but has nothing ready does not count.
    case.reachability.remove("c3");
    case.records[1].slices[0].endpoints[0].ready = Some(false);
    assert_eq!(shown(&case.import()), ["c2 10.2.0.1 Some(true)", "c3 10.3.0.1 Some(false)"]);
}

#[test]
fn the_cluster_itself_is_never_down() {
    let mut case = Case::new(vec![with_endpoint("c1", 0, "10.1.0.1")]);
    case.reachability.insert("c1".into(), Reachability::Unreachable);
    assert_eq!(shown(&case.import()), ["c1 10.1.0.1 Some(true)"]);
}

#[test]
fn a_foreign_service_under_the_derived_name_is_left_alone_and_told() {
    let records = [with_endpoint("c1", 0, "10.1.0.1")];
    let records: Vec<_> = records.iter().collect();
    let merged = merge(&records.iter().map(|record| Export::new(record, None)).collect::<Vec<_>>()).unwrap();
    let cluster = ClusterId::new("c1").unwrap();
    let case = Case::new(Vec::new());
    let import = import(&merged, &records, case.local(&cluster, Derived::Foreign), &[]);
    assert_eq!((import.derived, import.slices), (None, vec![]));
    assert!(import.import.ready.message.ends_with("exists and was not made by Linkspan."));
}

#[test]
fn row_81_endpoints_of_a_lost_cluster_go_and_its_import_stays() {
    let mut case = Case::new(vec![with_endpoint("c1", 0, "10.1.0.1"), with_endpoint("c2", 1, "10.2.0.1")]);
    case.reachability = [("c2".to_owned(), Reachability::Unreachable)].into();
    assert_eq!(shown(&case.import()), ["c1 10.1.0.1 Some(true)", "c2 10.2.0.1 Some(false)"]);
    case.reachability = [("c2".to_owned(), Reachability::Lost)].into();
    let import = case.import();
    assert_eq!(shown(&import), ["c1 10.1.0.1 Some(true)"]);
    assert_eq!(import.import.clusters.len(), 2, "it still exports");
    // Nobody is left: the address stays, and refuses.
    case.records.remove(0);
    let alone = case.import();
    assert_eq!((shown(&alone), alone.import.spec.ips), (vec![], vec!["10.43.0.9".to_owned()]));
}

#[test]
fn row_45_an_older_api_server_is_asked_for_what_it_takes_and_the_import_tells_what_was_merged() {
    use super::super::Distribution;
    use super::super::slices::Hints;
    let mut one =
        Record { traffic_distribution: Some(Distribution::PreferSameNode), ..with_endpoint("c1", 0, "10.1.0.1") };
    one.slices[0].endpoints[0].zone = Some("z1".into());
    one.slices[0].endpoints[0].node = Some("n1".into());
    let mut case = Case::new(vec![one]);
    let mut served = |minor| {
        case.server = ServerVersion::new(1, minor);
        let Import { import, derived, slices, .. } = case.import();
        assert_eq!(import.spec.traffic_distribution.as_deref(), Some("PreferSameNode"));
        (derived.unwrap().traffic_distribution, slices[0].hints)
    };
    assert_eq!(served(34), (Some(Distribution::PreferSameNode), Hints::Node));
    assert_eq!(served(33), (Some(Distribution::PreferClose), Hints::Zone));
    assert_eq!(served(30), (None, Hints::None));
}

#[test]
fn row_26_a_failure_is_told_and_takes_nothing_from_who_has_an_address() {
    let mut case = Case::new(vec![with_endpoint("c1", 0, "10.1.0.1")]);
    case.failure = Some("failed to apply EndpointSlice");
    let ready = case.import().import.ready;
    assert_eq!((ready.status, ready.message.as_str()), (Truth::True, "failed to apply EndpointSlice"));
    case.ips = None;
    let pending = case.import().import.ready;
    assert_eq!((pending.status, pending.message.as_str()), (Truth::False, "failed to apply EndpointSlice"));
}
