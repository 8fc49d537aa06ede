//! What is written, from what is seen.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::super::apply::{ApplyError, Written};
use super::super::connection::{Hold, Joined, Refusal as NotTaken};
use super::super::world::Input;
use super::*;
use crate::api::ServiceRecord;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn connection() -> Connection {
    let joined = Joined::Yes { server: "https://broker.example:6443".to_owned(), expires: at(9_000) };
    Connection { joined, hold: Hold::Mine { rival: None }, ..Connection::new() }
}

fn member(cluster: &str) -> Value {
    json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member",
        "metadata": { "name": cluster, "labels": { "linkspan.dev/cluster": cluster } },
        "spec": { "clusterID": cluster, "clusterUID": format!("uid-{cluster}") },
    })
}

fn record(cluster: &str) -> Value {
    let name = format!("{cluster}.default.web");
    json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "ServiceRecord",
        "metadata": { "name": name, "labels": { "linkspan.dev/cluster": cluster } },
        "spec": {
            "clusterID": cluster, "namespace": "default", "name": "web", "type": "ClusterSetIP",
            "exportedAt": "2026-01-01T00:00:00Z",
        },
    })
}

/// A complete list, as a watch shows it.
fn list<K: serde::de::DeserializeOwned>(world: &mut World, input: fn(Event<K>) -> Input, objects: &[Value]) {
    world.take(input(Event::Init), at(0));
    for object in objects {
        world.take(input(Event::InitApply(serde_json::from_value(object.clone()).unwrap())), at(0));
    }
    world.take(input(Event::InitDone), at(0));
}

/// A cluster `paris` that has copies of berlin's objects, and sees `members` and `records` on the broker.
fn world(members: &[Value], records: &[Value]) -> World {
    let mut world = World::default();
    list(&mut world, Input::Member, &[member("paris"), member("berlin")]);
    list(&mut world, Input::Record, &[record("berlin")]);
    list::<DynamicObject>(&mut world, Input::BrokerMember, members);
    list::<DynamicObject>(&mut world, Input::BrokerRecord, records);
    world
}

/// What is written in the next pass.
fn planned(world: &mut World, court: &mut Option<Court>) -> Vec<Action> {
    planned_over(&connection(), world, court)
}

/// What is written in the next pass, over such a connection.
fn planned_over(connection: &Connection, world: &mut World, court: &mut Option<Court>) -> Vec<Action> {
    let config = BrokerConfig::new("paris".parse().unwrap(), "uid-paris".to_owned());
    let pass = Pass { config: &config, connection, broker: Some("linkspan-broker"), now: at(100) };
    plan(world, court, &pass).into_iter().flat_map(|(_, actions)| actions).collect()
}

/// What is forgotten in the next pass.
fn forgotten(world: &mut World, court: &mut Option<Court>) -> Vec<String> {
    planned(world, court).iter().filter(|action| action.forgets()).map(ToString::to_string).collect()
}

/// What is said of own ServiceRecords in the next pass.
fn said(world: &mut World) -> Vec<String> {
    let of_own = |action: &&Action| matches!(action, Action::TellRecord(name, _) if name.starts_with("paris."));
    let (mut court, mut said) = (None, Vec::new());
    while !world.dirty.is_empty() {
        said.extend(planned(world, &mut court).iter().filter(of_own).map(ToString::to_string));
    }
    said
}

#[test]
fn an_own_record_is_told_that_the_broker_has_it_once() {
    let mut own = record("paris");
    let mut seen = world(&[member("paris")], &[own.clone()]);
    list(&mut seen, Input::Record, &[own.clone()]);
    let told = ["say of ServiceRecord paris.default.web: Accepted (Published)"];
    assert_eq!(said(&mut seen), told, "an earlier process has published it");
    own["status"] = json!({ "conditions": [{ "type": "Accepted", "status": "True", "reason": "Published", "message": "the others see it", "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
    list(&mut seen, Input::Record, &[own.clone()]);
    assert_eq!(said(&mut seen), [""; 0], "it says so already");
    seen.note_upward("paris.default.web".to_owned(), Some("too large".to_owned()));
    assert_eq!(said(&mut seen), ["say of ServiceRecord paris.default.web: not Accepted (RefusedByBroker)"]);
    seen.note_upward("paris.default.web".to_owned(), None);
    assert_eq!(said(&mut seen), [""; 0], "as the object says");
    list(&mut seen, Input::Record, &[record("paris")]);
    seen.dirty.clear();
    seen.note_upward("paris.default.web".to_owned(), None);
    assert_eq!(said(&mut seen), told, "it has just been published");
}

#[test]
fn what_is_gone_from_the_broker_goes_here() {
    let gone = forgotten(&mut world(&[member("paris")], &[]), &mut None);
    assert_eq!(gone, ["delete Member berlin", "delete ServiceRecord berlin.default.web"]);
}

#[test]
fn on_a_broker_that_does_not_know_this_cluster_nothing_is_gone_until_it_does() {
    let (mut court, mut world) = (None, world(&[], &[]));
    assert_eq!(forgotten(&mut world, &mut court), [""; 0]);
    assert!(court.as_ref().unwrap().verdicts.contains_key("berlin"), "it is still judged, for its records");
    let own: DynamicObject = serde_json::from_value(member("paris")).unwrap();
    world.take(Input::BrokerMember(Event::Apply(own)), at(100));
    let gone = forgotten(&mut world, &mut court);
    assert_eq!(gone, ["delete Member berlin", "delete ServiceRecord berlin.default.web"]);
}

#[test]
fn what_this_cluster_said_of_itself_under_an_earlier_id_is_no_other_cluster() {
    let (mut court, mut world) = (None, world(&[], &[]));
    let mut earlier = member("oslo");
    earlier["spec"]["clusterUID"] = json!("uid-paris");
    list(&mut world, Input::Member, &[member("paris"), member("berlin"), earlier]);
    planned(&mut world, &mut court);
    let judged: Vec<&String> = court.as_ref().unwrap().verdicts.keys().filter(|name| *name != "paris").collect();
    assert_eq!(judged, ["berlin"]);
}

#[test]
fn a_record_of_an_unknown_type_is_neither_used_nor_copied() {
    let mut strange = record("berlin");
    strange["spec"]["type"] = json!("Mesh");
    let mut seen = world(&[member("paris"), member("berlin")], &[strange]);
    let actions = planned(&mut seen, &mut None);
    assert!(!actions.iter().any(|action| matches!(action, Action::CopyRecord(_))), "{actions:?}");
    let why = &seen.refused["berlin.default.web"];
    assert!(why.contains("its type is not known to this version of Linkspan; upgrade this cluster"), "{why}");
}

#[test]
fn a_key_without_anything_to_write_is_told_as_well() {
    let mut seen = world(&[member("paris"), member("berlin")], &[]);
    planned(&mut seen, &mut None);
    seen.dirty.clear();
    let key = Key::RecordUp("paris.default.gone".to_owned());
    seen.mark([key.clone()]);
    let config = BrokerConfig::new("paris".parse().unwrap(), "uid".to_owned());
    let connection = connection();
    let pass = Pass { config: &config, connection: &connection, broker: Some("linkspan-broker"), now: at(100) };
    assert_eq!(plan(&mut seen, &mut None, &pass).into_iter().find(|(told, _)| *told == key), Some((key, vec![])));
}

/// A world in which paris knows itself, with one node, and has these Members at home.
fn at_home(members: &[Value]) -> World {
    let mut world = World::default();
    let node = json!({ "metadata": { "name": "node" }, "spec": { "podCIDR": "10.42.0.0/24" } });
    world.take(Input::NoServiceCidrs, at(0));
    list(&mut world, Input::GatewayNode, &[]);
    list(&mut world, Input::Lease, &[]);
    list(&mut world, Input::Member, members);
    world.take(Input::Node(Box::new(Event::Init)), at(0));
    world.take(Input::Node(Box::new(Event::InitApply(serde_json::from_value(node).unwrap()))), at(0));
    world.take(Input::Node(Box::new(Event::InitDone)), at(0));
    world
}

/// Whether paris gives way to rome, which came to the same prefixes in second 50. The watch shows rome first, and paris
/// itself when it is `shown`.
fn gives_way_to_rome(answered: Option<Timestamp>, shown: Option<&str>) -> bool {
    let with_pods = |cluster: &str, created: &str| {
        let mut member = member(cluster);
        member["spec"]["podCIDRs"] = json!(["10.42.0.0/24"]);
        member["metadata"]["creationTimestamp"] = json!(created);
        member
    };
    let mut world = at_home(&[with_pods("paris", "1970-01-01T00:00:10Z")]);
    list::<DynamicObject>(&mut world, Input::BrokerMember, &[with_pods("rome", "1970-01-01T00:00:50Z")]);
    world.keep(Written::Published(answered));
    if let Some(created) = shown {
        let paris = serde_json::from_value(with_pods("paris", created)).unwrap();
        world.take(Input::BrokerMember(Event::Apply(paris)), at(100));
    }
    let mut court = None;
    planned(&mut world, &mut court);
    let own = court.unwrap().own.unwrap();
    own.spec.virtual_only || own.turns_virtual
}

#[test]
fn of_two_that_come_at_the_same_time_one_gives_way() {
    assert!(gives_way_to_rome(None, None), "not there yet: everybody else was first");
    assert!(!gives_way_to_rome(Some(at(51)), None), "the others have heard of it as it is, and it has not");
    assert!(gives_way_to_rome(Some(at(51)), Some("1970-01-01T00:00:51Z")));
    assert!(
        !gives_way_to_rome(Some(at(50)), Some("1970-01-01T00:00:50Z")),
        "of the same second the first by name stays"
    );
    assert!(!gives_way_to_rome(Some(at(49)), Some("1970-01-01T00:00:49Z")));
}

/// Whether paris is virtual to all at home after the next pass, and on the broker, if it publishes itself.
fn is_virtual(world: &mut World, connection: &Connection) -> (bool, Option<bool>) {
    world.mark_all();
    let mut published = None;
    for action in planned_over(connection, world, &mut None) {
        match action {
            Action::CopyMember(copy) if copy.metadata.name.as_deref() == Some("paris") => {
                world.keep(Written::Member(copy));
            }
            Action::PublishMember(member) => published = Some(member.spec.virtual_only),
            _ => {}
        }
    }
    (world.members.get("paris").unwrap().spec.virtual_only, published)
}

#[test]
fn who_gets_anothers_prefix_is_virtual_at_home_when_the_broker_has_it_and_not_before() {
    let with_pods = |cluster: &str, second: i64, pods: &str| {
        let mut member = member(cluster);
        member["spec"]["podCIDRs"] = json!([pods]);
        member["metadata"]["creationTimestamp"] = json!(at(second).to_string());
        member
    };
    let (mut paris, rome) = (with_pods("paris", 10, "10.41.0.0/24"), with_pods("rome", 50, "10.42.0.0/24"));
    let away = Connection { unreachable: Some((at(99), "no answer".to_owned())), ..connection() };
    let old = NotTaken { reason: "OldBroker", message: "its CRDs are of an older version".to_owned() };
    let old = Connection { refused: Some(old), ..connection() };
    let mut world = at_home(std::slice::from_ref(&paris));
    list::<DynamicObject>(&mut world, Input::BrokerMember, &[paris.clone(), rome]);
    for _ in 0..2 {
        assert_eq!(is_virtual(&mut world, &away), (false, None), "nobody hears it");
        assert!(!is_virtual(&mut world, &old).0, "the broker does not take it");
    }
    let local = world.members.get("paris").unwrap().spec.clone();
    assert_eq!(local.pod_cidrs, ["10.42.0.0/24"], "at home they are its own");
    assert_eq!(local.virtual_cidrs.len(), 1, "what stands for them is ready");
    assert_eq!(is_virtual(&mut world, &connection()), (false, Some(true)), "the broker has it first");
    paris["spec"]["podCIDRs"] = json!(local.pod_cidrs);
    paris["spec"]["virtualCIDRs"] = json!(local.virtual_cidrs);
    paris["spec"]["virtualOnly"] = json!(true);
    world.take(Input::BrokerMember(Event::Apply(serde_json::from_value(paris).unwrap())), at(100));
    assert!(is_virtual(&mut world, &connection()).0);
    assert!(is_virtual(&mut world, &away).0, "it stays so");
}

/// A world in which paris has a copy of berlin, which had a block and has gone from the broker.
fn without_berlin() -> World {
    let mut berlin = member("berlin");
    berlin["spec"]["virtualCIDRs"] = json!([{ "pods": "10.42.0.0/24", "virtual": "100.64.7.0/24" }]);
    let mut world = at_home(&[member("paris"), berlin]);
    list::<DynamicObject>(&mut world, Input::BrokerMember, &[member("paris")]);
    world
}

/// Whether the next pass forgets berlin, where its writes to the own API server `arrive` or not; and what paris writes of
/// itself in it.
fn forgets_berlin(world: &mut World, arrive: bool) -> (bool, Option<Box<Member>>) {
    let mut court = None;
    let actions = planned(world, &mut court);
    assert!(actions.contains(&Action::DropMember("berlin".to_owned())), "{actions:?}");
    let own = actions.iter().find_map(|action| match action {
        Action::CopyMember(copy) if copy.metadata.name.as_deref() == Some("paris") => Some(copy.clone()),
        _ => None,
    });
    let outcome = |action| {
        let result = if arrive { Ok(Written::Nothing) } else { Err(ApplyError::Timeout) };
        Outcome { key: Key::Own, action, result }
    };
    let others = actions.into_iter().filter(|action| !action.forgets());
    let outcomes: Vec<Outcome> = others.map(outcome).collect();
    (court.unwrap().remembers("paris", &world.members, &outcomes), own)
}

#[test]
fn a_copy_stays_until_the_own_member_tells_what_rests_after_it() {
    let mut world = without_berlin();
    assert!(!forgets_berlin(&mut world, false).0);
    // Its Lease goes right behind it, and later the deletion is tried again.
    for _ in 0..2 {
        world.mark([Key::Members]);
        assert!(!forgets_berlin(&mut world, false).0, "nobody has told it yet");
    }
    world.mark([Key::Members]);
    let (forgets, own) = forgets_berlin(&mut world, true);
    assert!(forgets, "it is written in the same pass");
    let own = own.unwrap();
    assert_eq!(own.spec.resting_cidrs[0].r#virtual, "100.64.7.0/24");
    world.keep(Written::Member(own));
    world.mark([Key::Members]);
    let (forgets, _) = forgets_berlin(&mut world, false);
    assert!(forgets, "it was written before");
}

#[test]
fn a_copy_stays_while_this_cluster_does_not_know_itself() {
    let mut seen = world(&[member("paris")], &[]);
    assert!(!forgets_berlin(&mut seen, true).0, "its nodes are not listed yet");
}

/// What paris writes of berlin, and what rests, when it has a copy of berlin as it came in second 20, virtual to all, and
/// sees it on the broker.
fn comes_again(created: i64, only: bool, block: &str) -> (Vec<String>, Vec<String>) {
    let berlin = |only: bool, block: &str| {
        let mut berlin = member("berlin");
        berlin["spec"]["podCIDRs"] = json!(["10.42.0.0/24"]);
        berlin["spec"]["virtualOnly"] = json!(only);
        berlin["spec"]["virtualCIDRs"] = json!([{ "pods": "10.42.0.0/24", "virtual": block }]);
        berlin
    };
    let (mut paris, mut before, mut now) = (member("paris"), berlin(true, "100.64.7.0/24"), berlin(only, block));
    paris["metadata"]["creationTimestamp"] = json!(at(10).to_string());
    before["metadata"]["annotations"] = json!({ ANNOTATION_JOINED_AT: at(20).to_string() });
    now["metadata"]["creationTimestamp"] = json!(at(created).to_string());
    let mut world = at_home(&[paris.clone(), before]);
    list::<DynamicObject>(&mut world, Input::BrokerMember, &[paris, now]);
    let mut court = None;
    let actions = planned(&mut world, &mut court);
    let written = actions.iter().map(ToString::to_string).filter(|text| text.starts_with("write Member berlin"));
    let resting = court.unwrap().own.unwrap().spec.resting_cidrs;
    (written.collect(), resting.into_iter().map(|cidr| cidr.r#virtual).collect())
}

#[test]
fn a_member_that_has_left_and_come_again_unseen_is_another_one_and_what_it_had_rests() {
    let anew = ["write Member berlin anew"];
    let (written, rests) = comes_again(60, false, "100.64.8.0/24");
    assert_eq!(written, anew);
    assert_eq!(rests, ["100.64.7.0/24"]);
    let (written, rests) = comes_again(60, true, "100.64.7.0/24");
    assert_eq!(written, anew);
    assert_eq!(rests, [""; 0], "it has it still");
    let (written, _) = comes_again(20, false, "100.64.8.0/24");
    assert_eq!(written, anew, "within one second");
    let (written, rests) = comes_again(20, true, "100.64.8.0/24");
    assert_eq!(written, ["write Member berlin"]);
    assert_eq!(rests, [""; 0], "it is the same one, and tells of it itself");
}

#[test]
fn what_rests_goes_on_resting_when_the_only_one_that_told_of_it_leaves() {
    let mut berlin = member("berlin");
    berlin["spec"]["restingCIDRs"] = json!([
        { "virtual": "100.64.7.0/24", "until": at(3000).to_string() },
        { "virtual": "100.64.8.0/24", "until": at(1).to_string() },
    ]);
    let mut world = at_home(&[member("paris"), berlin]);
    list::<DynamicObject>(&mut world, Input::BrokerMember, &[member("paris")]);
    let mut court = None;
    planned(&mut world, &mut court);
    let rests = court.unwrap().own.unwrap().spec.resting_cidrs;
    let rests: Vec<_> = rests.into_iter().map(|cidr| cidr.r#virtual).collect();
    assert_eq!(rests, ["100.64.7.0/24"], "what was over is over");
}

/// The Lease of berlin, renewed in this second and for 40 s.
fn lease(second: i64) -> Lease {
    let spec =
        json!({ "holderIdentity": "uid-berlin", "leaseDurationSeconds": 40, "renewTime": format!("{}", at(second)) });
    serde_json::from_value(json!({ "metadata": { "name": "member-berlin" }, "spec": spec })).unwrap()
}

#[test]
fn members_are_judged_anew_when_one_is_heard_first_is_back_or_loses_its_lease_and_by_no_other_heartbeat() {
    let mut seen = world(&[member("paris"), member("berlin")], &[]);
    let mut judges = |event: Event<Lease>, second: i64| {
        seen.dirty.clear();
        seen.take(Input::BrokerLease(event), at(second));
        seen.dirty.contains(&Key::Members)
    };
    assert!(judges(Event::InitApply(lease(1)), 1), "it is heard of for the first time");
    assert!(!judges(Event::Apply(lease(11)), 11));
    assert!(!judges(Event::InitApply(lease(21)), 21), "a watch begins anew");
    assert!(judges(Event::Apply(lease(70)), 70), "it had been silent since second 61");
    assert!(!judges(Event::Apply(lease(80)), 80));
    assert!(judges(Event::Delete(lease(80)), 81));
    assert!(!judges(Event::Delete(lease(80)), 81));
    assert!(judges(Event::Apply(lease(90)), 90));
}

/// The Lease of the own gateway.
fn gateway_lease(holder: &str, second: i64) -> Value {
    let spec = json!({ "holderIdentity": holder, "renewTime": format!("{}", at(second)) });
    json!({ "metadata": { "name": "linkspan-gateway" }, "spec": spec })
}

#[test]
fn the_own_member_is_looked_at_when_another_gateway_holds_the_lease_and_not_when_it_is_renewed() {
    let mut seen = world(&[member("paris"), member("berlin")], &[]);
    let mut looks = |event: fn(Lease) -> Event<Lease>, lease: Value| {
        seen.dirty.clear();
        seen.take(Input::Lease(event(serde_json::from_value(lease).unwrap())), at(0));
        seen.dirty.contains(&Key::Own)
    };
    assert!(looks(Event::InitApply, gateway_lease("one", 1)));
    assert!(looks(|_| Event::InitDone, gateway_lease("one", 1)), "now it is known that this is all");
    assert!(!looks(Event::Apply, gateway_lease("one", 2)));
    assert!(!looks(Event::InitApply, gateway_lease("one", 3)), "a watch begins anew");
    assert!(looks(Event::Apply, gateway_lease("two", 4)));
    assert!(!looks(Event::Apply, gateway_lease("two", 5)));
    assert!(looks(Event::Apply, gateway_lease("", 6)), "it gives it back");
    assert!(looks(Event::Delete, gateway_lease("", 6)));
    let mut other = gateway_lease("controller-0", 7);
    other["metadata"]["name"] = json!("linkspan-controller");
    assert!(!looks(Event::Apply, other));
}

#[test]
fn a_gateway_lease_that_stands_still_is_told_of_on_the_own_member_until_it_is_renewed() {
    let mut home = at_home(&[member("paris")]);
    let gateway = json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "GatewayNode", "metadata": { "name": "node" },
        "spec": { "publicKey": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "lanes": 1 },
    });
    list(&mut home, Input::GatewayNode, &[gateway]);
    let begun = Instant::now();
    let mut says = |second: u64, event: Event<Value>| {
        home.dirty.clear();
        let input = Input::Lease(match event {
            Event::Init => Event::Init,
            Event::InitApply(lease) => Event::InitApply(serde_json::from_value(lease).unwrap()),
            Event::Apply(lease) => Event::Apply(serde_json::from_value(lease).unwrap()),
            _ => Event::InitDone,
        });
        home.note_pulse(&input, begun + Duration::from_secs(second));
        home.take(input, at(0));
        let looked_at = home.dirty.contains(&Key::Own);
        home.mark([Key::Own]);
        let mut court = None;
        planned(&mut home, &mut court);
        let findings = court.unwrap().own.unwrap().findings;
        (looked_at, findings.into_iter().find(|finding| finding.kind == "Gateways").unwrap().reason)
    };
    says(0, Event::InitApply(gateway_lease("node", 1)));
    assert_eq!(says(0, Event::InitDone).1, "Active");
    says(59, Event::InitApply(gateway_lease("node", 1)));
    assert_eq!(says(59, Event::InitDone), (false, "Active"));
    assert_eq!(says(60, Event::InitDone), (true, "NoActiveGateway"));
    assert_eq!(says(90, Event::InitDone), (false, "NoActiveGateway"));
    assert_eq!(says(91, Event::Apply(gateway_lease("node", 2))), (true, "Active"));
}

#[test]
fn the_court_tells_when_the_next_prefix_has_rested() {
    let mut berlin = member("berlin");
    berlin["spec"]["restingCIDRs"] = json!([
        { "virtual": "100.64.7.0/24", "until": format!("{}", at(50)) },
        { "virtual": "100.64.8.0/24", "until": format!("{}", at(300)) },
        { "virtual": "100.64.9.0/24", "until": format!("{}", at(200)) },
    ]);
    let mut court = None;
    planned(&mut world(&[member("paris"), berlin], &[]), &mut court);
    assert_eq!(court.unwrap().rest_ends, Some(at(200)));
}

#[test]
fn a_record_that_is_withdrawn_is_refused_no_more() {
    let mut seen = world(&[member("paris")], &[]);
    list(&mut seen, Input::Record, &[record("paris")]);
    for end in ["a deletion", "a list without it"] {
        seen.note_upward("paris.default.web".to_owned(), Some("too large".to_owned()));
        assert_eq!(seen.refused_upward.len(), 1);
        let own: ServiceRecord = serde_json::from_value(record("paris")).unwrap();
        seen.take(Input::Record(Event::Apply(own.clone())), at(0));
        assert_eq!(seen.refused_upward.len(), 1, "as long as it is there");
        match end {
            "a deletion" => seen.take(Input::Record(Event::Delete(own)), at(0)),
            _ => list(&mut seen, Input::Record, &[]),
        }
        assert_eq!(seen.refused_upward, BTreeMap::new(), "{end}");
    }
}

#[test]
fn of_a_member_with_too_many_endpoints_in_all_nothing_is_copied_and_both_tell() {
    let mut berlin = member("berlin");
    berlin["spec"]["podCIDRs"] = json!(["10.9.0.0/16"]);
    let endpoint = json!({ "addresses": ["10.9.0.7"] });
    let filled = |number: usize, endpoints: usize| {
        let mut web = record("berlin");
        web["metadata"]["name"] = json!(format!("berlin.default.web-{number}"));
        web["spec"]["name"] = json!(format!("web-{number}"));
        web["spec"]["ipFamilies"] = json!(["IPv4"]);
        web["spec"]["ports"] = json!([{ "name": "", "protocol": "TCP", "port": 80 }]);
        let endpoints = vec![endpoint.clone(); endpoints];
        web["spec"]["slices"] = json!([{ "addressType": "IPv4", "ports": [], "endpoints": endpoints }]);
        web
    };
    let mut records: Vec<Value> = (0..10).map(|number| filled(number, 5_000)).collect();
    records.push(filled(10, 1));
    let (mut court, mut seen) = (None, world(&[member("paris"), berlin], &records));
    let copied = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::CopyRecord(_))).count();
    let mut actions = planned(&mut seen, &mut court);
    actions.extend(planned(&mut seen, &mut court));
    assert_eq!(copied(&actions), 0);
    let why = "its cluster has more than 50000 endpoints in its ServiceRecords";
    assert_eq!(seen.refused["berlin.default.web-10"], format!("berlin.default.web-10: {why}"));
    let told =
        format!("11 of its ServiceRecords are refused, whole or in part; the first: berlin.default.web-0: {why}");
    let told = Finding::bad("Records", "Refused", told);
    let tells = |action: &Action| matches!(action, Action::TellMember(_, findings) if findings.contains(&told));
    assert!(actions.iter().any(tells), "{actions:?}");
    // One less, and all are used again.
    let last: DynamicObject = serde_json::from_value(records.remove(10)).unwrap();
    seen.take(Input::BrokerRecord(Event::Delete(last)), at(0));
    assert_eq!(copied(&planned(&mut seen, &mut court)), 0, "nothing of them was kept");
    let why = "its cluster had too much on the broker, and has not any more: it is asked for again";
    assert_eq!(seen.refused["berlin.default.web-0"], format!("berlin.default.web-0: {why}"));
    assert_eq!(Vec::from_iter(seen.remote.take_wanted()), ["berlin"]);
    for record in records {
        seen.take(Input::BrokerRecordAgain(serde_json::from_value(record).unwrap()), at(0));
    }
    assert_eq!(copied(&planned(&mut seen, &mut court)), 10);
    assert_eq!(seen.refused, BTreeMap::new());
}

#[test]
fn endpoints_outside_of_a_members_prefixes_are_left_out_and_told_and_take_no_others_along() {
    let mut berlin = member("berlin");
    berlin["spec"]["podCIDRs"] = json!(["10.9.0.0/24", "10.9.1.0/24"]);
    let mut web = record("berlin");
    web["spec"]["ipFamilies"] = json!(["IPv4"]);
    web["spec"]["ports"] = json!([{ "name": "", "protocol": "TCP", "port": 80 }]);
    let addresses = ["10.9.0.7", "10.9.1.7", "8.8.8.8"].map(|address| json!({ "addresses": [address] }));
    web["spec"]["slices"] = json!([{ "addressType": "IPv4", "ports": [], "endpoints": addresses }]);
    // What the copy has, and what is said of it and of its Member.
    let copied = |member_of: &Value, web: &Value| {
        let (mut court, mut seen) = (None, world(&[member("paris"), member_of.clone()], std::slice::from_ref(web)));
        let mut actions = planned(&mut seen, &mut court);
        actions.extend(planned(&mut seen, &mut court));
        let mut addresses = Vec::new();
        let mut told = Vec::new();
        for action in &actions {
            match action {
                Action::CopyRecord(copy) => {
                    let endpoints = copy.spec.slices.iter().flat_map(|slice| &slice.endpoints);
                    addresses = endpoints.flat_map(|endpoint| endpoint.addresses.clone()).collect();
                }
                Action::TellRecord(_, findings) => told.extend(findings.clone()),
                Action::TellMember(_, findings) => {
                    told.extend(findings.iter().filter(|finding| finding.kind == "Records").cloned());
                }
                _ => {}
            }
        }
        (addresses, told)
    };
    let left_out = "1 of its endpoints are left out: endpoint address 8.8.8.8 is outside the Pod CIDRs of berlin";
    let (addresses, told) = copied(&berlin, &web);
    assert_eq!(addresses, ["10.9.0.7", "10.9.1.7"]);
    assert!(
        told.contains(&Finding::good("Accepted", "ForeignAddress", format!("it is imported, but {left_out}"))),
        "{told:?}"
    );
    let of_member =
        format!("1 of its ServiceRecords are refused, whole or in part; the first: berlin.default.web: {left_out}");
    assert!(told.contains(&Finding::bad("Records", "Refused", of_member)), "{told:?}");
    // A node is gone, and its prefix with it; the record still tells its pod.
    berlin["spec"]["podCIDRs"] = json!(["10.9.0.0/24"]);
    let (addresses, told) = copied(&berlin, &web);
    assert_eq!(addresses, ["10.9.0.7"]);
    assert!(told.iter().any(|finding| finding.message.contains("2 of its endpoints are left out")), "{told:?}");
    // Where none of them is the Member's, nothing of the record counts.
    berlin["spec"]["podCIDRs"] = json!(["10.10.0.0/24"]);
    let (addresses, told) = copied(&berlin, &web);
    assert_eq!(addresses, [""; 0]);
    assert!(
        told.iter().any(|finding| finding.kind == "Accepted"
            && *finding == Finding::bad("Accepted", "ForeignAddress", finding.message.clone())),
        "{told:?}"
    );
}

#[test]
fn a_cluster_that_has_forgotten_itself_knows_its_prefixes_from_the_broker() {
    let mut published = member("paris");
    published["spec"]["podCIDRs"] = json!(["10.42.0.0/24"]);
    published["spec"]["serviceCIDRs"] = json!(["10.43.0.0/16"]);
    // It has none, or one that it has written of itself meanwhile.
    for local in [&[][..], &[member("paris")]] {
        let mut world = at_home(local);
        list::<DynamicObject>(&mut world, Input::BrokerMember, std::slice::from_ref(&published));
        let before = super::before(&world, "paris").unwrap();
        assert_eq!(before.pod_cidrs, ["10.42.0.0/24"]);
        assert_eq!(before.service_cidrs, ["10.43.0.0/16"]);
    }
}
