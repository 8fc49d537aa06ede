//! Objects in, dirty services and observations out.

use serde_json::{Value, json};

use super::*;

fn index() -> Index {
    let cluster = ClusterId::new("c1").unwrap();
    Index::new(IndexConfig { cluster, policy: Policy::default(), families: Vec::new() })
}

fn service(name: &str, version: u64, spec: Value) -> Object {
    let meta = json!({ "namespace": "shop", "name": name, "uid": name, "resourceVersion": version.to_string() });
    Object::Service(Box::new(serde_json::from_value(json!({ "metadata": meta, "spec": spec })).unwrap()))
}

fn member(name: &str, service_cidrs: &[&str]) -> Object {
    let member = json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member",
        "metadata": { "namespace": "linkspan-system", "name": name },
        "spec": { "clusterID": name, "clusterUID": "u", "podCIDRs": ["10.2.0.0/16"], "serviceCIDRs": service_cidrs }
    });
    Object::Member(Box::new(serde_json::from_value(member).unwrap()))
}

fn record(cluster: &str) -> Object {
    let record = json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "ServiceRecord",
        "metadata": { "name": format!("{cluster}.shop.web"), "labels": { "linkspan.dev/cluster": cluster } },
        "spec": {
            "clusterID": cluster, "namespace": "shop", "name": "web", "type": "ClusterSetIP", "ipFamilies": ["IPv4"],
            "exportedAt": "2026-01-01T00:00:00Z"
        }
    });
    Object::Record(Box::new(serde_json::from_value(record).unwrap()))
}

fn dirty(index: &mut Index) -> Vec<String> {
    index.take_dirty().iter().map(ServiceKey::to_string).collect()
}

fn ports(index: &Index, name: &str) -> Option<usize> {
    let key = ServiceKey::new("shop", name);
    index.observe(&key).service.map(|service| service.ports.len())
}

#[test]
fn what_changes_is_dirty_once_and_what_stays_the_same_is_not() {
    let mut index = index();
    index.upsert(service("web", 1, json!({ "clusterIP": "10.43.0.1" })));
    assert_eq!(dirty(&mut index), ["shop/web"]);
    assert_eq!(dirty(&mut index), Vec::<String>::new());
    index.upsert(service("web", 2, json!({ "clusterIP": "10.43.0.1" })));
    assert_eq!(dirty(&mut index), Vec::<String>::new());
    index.remove(&service("web", 2, json!({})));
    assert_eq!(dirty(&mut index), ["shop/web"]);
    assert_eq!(index.keys().count(), 0);
}

#[test]
fn a_watch_that_is_behind_our_own_writes_brings_nothing_old_back() {
    let mut index = index();
    index.upsert(service("web", 5, json!({ "ports": [{ "port": 80 }] })));
    index.upsert(service("web", 4, json!({})));
    assert_eq!(ports(&index, "web"), Some(1));
}

/// A snapshot of etcd is restored while pods live on: objects keep their UIDs, and versions begin again at lower ones.
#[test]
fn a_list_is_believed_although_its_versions_are_lower_than_the_known_ones() {
    let mut index = index();
    index.upsert(service("web", 5000, json!({})));
    dirty(&mut index);
    index.begin(Kind::Service);
    index.upsert(service("web", 70, json!({ "ports": [{ "port": 80 }] })));
    index.finish(Kind::Service);
    assert_eq!((ports(&index, "web"), &*dirty(&mut index)), (Some(1), &["shop/web".to_owned()][..]));
    // What comes then is newer than the list, and is followed.
    index.upsert(service("web", 71, json!({})));
    assert_eq!((ports(&index, "web"), &*dirty(&mut index)), (Some(0), &["shop/web".to_owned()][..]));
    index.upsert(service("web", 70, json!({ "ports": [{ "port": 80 }] })));
    assert_eq!(ports(&index, "web"), Some(0));
}

#[test]
fn a_list_that_is_behind_a_write_brings_nothing_old_back() {
    let mut index = index();
    let key = ServiceKey::new("shop", "web");
    index.upsert(service("web", 4, json!({})));
    index.begin_pass(&key);
    index.begin(Kind::Service);
    index.end_pass(&key, [service("web", 5, json!({ "ports": [{ "port": 80 }] }))]);
    index.upsert(service("web", 4, json!({})));
    index.finish(Kind::Service);
    assert_eq!((ports(&index, "web"), index.keys().count()), (Some(1), 1));
}

/// An export that is deleted as soon as its conditions are set: the answer to that write comes last.
#[test]
fn row_15_what_went_while_it_was_written_is_not_brought_back() {
    let mut index = index();
    let key = ServiceKey::new("shop", "web");
    index.upsert(service("web", 1, json!({})));
    index.begin_pass(&key);
    index.remove(&service("web", 3, json!({})));
    index.end_pass(&key, [service("web", 2, json!({}))]);
    assert_eq!(ports(&index, "web"), None);
    // The next one of that name is another one, and what nobody has told yet is known at once.
    index.begin_pass(&key);
    index.end_pass(&key, [service("web", 4, json!({}))]);
    assert_eq!(ports(&index, "web"), Some(0));
}

#[test]
fn row_15_what_went_before_a_list_is_not_brought_back_by_an_older_write() {
    let mut index = index();
    let key = ServiceKey::new("shop", "web");
    let list = |index: &mut Index| {
        index.begin(Kind::Service);
        index.finish(Kind::Service);
    };
    // It was known, and went before the list.
    index.upsert(service("web", 1, json!({})));
    index.begin_pass(&key);
    list(&mut index);
    index.end_pass(&key, [service("web", 2, json!({}))]);
    assert_eq!(ports(&index, "web"), None);
    // It was made and went before the list: nobody has told of it.
    index.begin_pass(&key);
    list(&mut index);
    index.end_pass(&key, [service("web", 3, json!({}))]);
    assert_eq!(ports(&index, "web"), None);
    // The answer comes in the midst of a list that does not hold it.
    index.upsert(service("web", 4, json!({})));
    index.begin_pass(&key);
    index.begin(Kind::Service);
    index.end_pass(&key, [service("web", 5, json!({}))]);
    index.finish(Kind::Service);
    assert_eq!(ports(&index, "web"), None);
}

#[test]
fn row_82_what_a_new_list_does_not_hold_is_gone() {
    let mut index = index();
    index.upsert(service("web", 1, json!({})));
    index.upsert(service("db", 1, json!({})));
    dirty(&mut index);
    index.begin(Kind::Service);
    index.upsert(service("db", 1, json!({})));
    index.finish(Kind::Service);
    assert_eq!(dirty(&mut index), ["shop/web"]);
    assert_eq!((ports(&index, "web"), ports(&index, "db")), (None, Some(0)));
}

/// Foreground deletion and finalizers let an object stay for a while, and nothing is made in its place until it has gone.
#[test]
fn row_23_what_is_deleted_slowly_is_asked_for_again_when_it_has_gone() {
    let meta = |version: u64, going: bool, labels: Value| {
        let since = going.then_some("2026-01-01T00:00:00Z");
        json!({ "namespace": "shop", "name": "web", "uid": "u", "resourceVersion": version.to_string(),
                "deletionTimestamp": since, "labels": labels })
    };
    let import = |version, going| {
        let spec = json!({ "type": "ClusterSetIP", "ports": [] });
        let import = json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
            "metadata": meta(version, going, json!({})), "spec": spec
        });
        Object::Import(Box::new(serde_json::from_value(import).unwrap()))
    };
    let slice = |version, going| {
        let labels = json!({
            "endpointslice.kubernetes.io/managed-by": "linkspan.dev", "multicluster.kubernetes.io/service-name": "web",
            "multicluster.kubernetes.io/source-cluster": "c2",
        });
        let slice = json!({ "metadata": meta(version, going, labels), "addressType": "IPv4", "endpoints": [] });
        Object::Slice(Box::new(serde_json::from_value(slice).unwrap()))
    };
    let key = ServiceKey::new("shop", "web");
    for object in [&import as &dyn Fn(u64, bool) -> Object, &slice] {
        for watch_breaks in [false, true] {
            let mut index = index();
            index.upsert(object(1, false));
            dirty(&mut index);
            index.upsert(object(2, true));
            assert_eq!(dirty(&mut index), ["shop/web"]);
            let observed = index.observe(&key);
            assert!(observed.import.is_none() && observed.slices.is_empty(), "it counts for nothing");
            index.begin_pass(&key);
            index.end_pass(&key, [object(2, true)]);
            assert_eq!(dirty(&mut index), Vec::<String>::new());
            if watch_breaks {
                index.begin(Kind::Import);
                index.begin(Kind::Slice);
                index.finish(Kind::Import);
                index.finish(Kind::Slice);
            } else {
                index.remove(&object(3, true));
            }
            assert_eq!(dirty(&mut index), ["shop/web"]);
            assert_eq!(index.keys().count(), 0);
        }
    }
}

#[test]
fn only_the_object_that_was_deleted_is_forgotten() {
    let mut index = index();
    index.upsert(service("web", 1, json!({})));
    let object = |uid: &str| ObjectRef { namespace: "shop".into(), name: "web".into(), uid: uid.into() };
    index.forget(Kind::Service, &object("another"));
    assert_eq!(ports(&index, "web"), Some(0));
    index.forget(Kind::Service, &object("web"));
    assert_eq!(ports(&index, "web"), None);
}

#[test]
fn families_are_those_of_the_own_members_service_cidrs_else_of_the_api_servers_own_service() {
    let mut index = index();
    let key = ServiceKey::new("shop", "web");
    assert_eq!(index.observe(&key).families, [Family::V4]);
    let kubernetes =
        json!({ "metadata": { "namespace": "default", "name": "kubernetes" }, "spec": { "ipFamilies": ["IPv6"] } });
    index.upsert(Object::Service(Box::new(serde_json::from_value(kubernetes).unwrap())));
    assert_eq!(index.observe(&key).families, [Family::V6]);
    index.upsert(member("c2", &["10.43.0.0/16"]));
    assert_eq!(index.observe(&key).families, [Family::V6]);
    index.upsert(member("c1", &["10.43.0.0/16", "fd43::/112"]));
    assert_eq!(index.observe(&key).families, [Family::V4, Family::V6]);
}

#[test]
fn a_member_that_comes_or_goes_makes_its_services_dirty() {
    let mut index = index();
    index.upsert(record("c2"));
    dirty(&mut index);
    index.upsert(member("c3", &[]));
    assert_eq!(dirty(&mut index), Vec::<String>::new());
    index.upsert(member("c2", &[]));
    assert_eq!(dirty(&mut index), ["shop/web"]);
    index.remove(&member("c2", &[]));
    assert_eq!(dirty(&mut index), ["shop/web"]);
}

#[test]
fn row_19_a_namespace_that_comes_makes_its_services_dirty() {
    let mut index = index();
    index.upsert(record("c2"));
    dirty(&mut index);
    let namespace = |name: &str| {
        Object::Namespace(Box::new(serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()))
    };
    index.upsert(namespace("shops"));
    assert_eq!(dirty(&mut index), Vec::<String>::new());
    index.upsert(namespace("shop"));
    assert_eq!(dirty(&mut index), ["shop/web"]);
}

#[test]
fn a_foreign_service_under_the_name_of_a_derived_one_is_noticed() {
    let mut index = index();
    index.upsert(record("c2"));
    dirty(&mut index);
    let key = ServiceKey::new("shop", "web");
    index.upsert(service(&derived_name(&key), 1, json!({ "clusterIP": "10.43.0.1" })));
    assert!(index.observe(&key).derived_name_taken);
    assert!(dirty(&mut index).contains(&"shop/web".to_owned()));
}

#[test]
fn row_104_a_cluster_is_in_a_clusterset_from_its_credential_to_its_leave() {
    use super::super::testing::credential;

    let mut index = index();
    index.upsert(record("c2"));
    dirty(&mut index);
    let key = ServiceKey::new("shop", "web");
    assert_eq!(index.observe(&key).membership, Membership::Outside);
    index.upsert(Object::Credential(Box::new(credential(&[]))));
    assert_eq!(
        (index.observe(&key).membership, &*dirty(&mut index)),
        (Membership::Joined, &["shop/web".to_owned()][..])
    );
    index.upsert(Object::Credential(Box::new(credential(&["linkspan.dev/renewed"]))));
    assert_eq!(dirty(&mut index), Vec::<String>::new());
    index.upsert(Object::Credential(Box::new(credential(&["linkspan.dev/leave"]))));
    assert_eq!(
        (index.observe(&key).membership, &*dirty(&mut index)),
        (Membership::Outside, &["shop/web".to_owned()][..])
    );
    index.upsert(Object::Credential(Box::new(credential(&[]))));
    dirty(&mut index);
    index.remove(&Object::Credential(Box::new(credential(&[]))));
    assert_eq!(
        (index.observe(&key).membership, &*dirty(&mut index)),
        (Membership::Outside, &["shop/web".to_owned()][..])
    );
}

#[test]
fn what_pods_are_known_by_follows_both_members_and_marks_services() {
    let with = |name: &str, pods: &str, only: bool| {
        let spec = json!({
            "clusterID": name, "clusterUID": "u", "podCIDRs": [pods], "virtualOnly": only,
            "virtualCIDRs": [{ "pods": pods, "virtual": "100.64.9.0/24" }]
        });
        let member = json!({
            "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member",
            "metadata": { "namespace": "linkspan-system", "name": name }, "spec": spec
        });
        Object::Member(Box::new(serde_json::from_value(member).unwrap()))
    };
    let mut index = index();
    index.upsert(record("c2"));
    index.upsert(with("c1", "10.1.0.0/24", false));
    index.upsert(with("c2", "10.2.0.0/24", false));
    assert_eq!(index.views, BTreeMap::new());
    index.take_dirty();
    // This cluster's pods become those of the other, by its own change or by that of the other.
    index.upsert(with("c1", "10.2.0.0/24", false));
    assert!(index.views["c2"].is_virtual());
    assert_eq!(dirty(&mut index), ["shop/web"]);
    index.upsert(with("c1", "10.1.0.0/24", false));
    assert_eq!(index.views, BTreeMap::new());
    assert_eq!(dirty(&mut index), ["shop/web"]);
    index.upsert(with("c2", "10.2.0.0/24", true));
    let known = index.views.clone();
    assert!(known["c2"].is_virtual());
    // The own Member is deleted by somebody, or says what it must not: what was known stays.
    index.remove(&with("c1", "10.1.0.0/24", false));
    assert_eq!(index.views, known);
    index.upsert(with("c1", "127.0.0.0/24", false));
    assert_eq!(index.views, known);
    index.upsert(with("c1", "10.1.0.0/24", false));
    index.remove(&with("c2", "10.2.0.0/24", true));
    assert_eq!(index.views, BTreeMap::new());
    // Nothing was: no address of another one is taken for what it may not be.
    let mut fresh = self::index();
    fresh.upsert(with("c2", "10.2.0.0/24", false));
    fresh.upsert(with("c1", "127.0.0.0/24", false));
    assert_eq!(fresh.views["c2"], View::Virtual(Vec::new()));
}
