//! What was seen, and the text that a person reads.

use super::super::{Workload, draw};
use super::*;
use crate::kubectl::output::{Format, Screen};
use crate::kubectl::speech::Speech;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object as API servers send it")
}

fn ready(status: &str, reason: &str, message: &str) -> Value {
    json!({ "conditions": [{
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] })
}

fn member(name: &str, pods: &str, status: Value) -> Member {
    from(json!({
        "metadata": { "name": name },
        "spec": {
            "clusterID": name, "clusterUID": format!("uid-{name}"), "podCIDRs": [pods], "version": "0.1.0",
            "virtualCIDRs": [{ "pods": pods, "virtual": "100.64.0.0/16" }],
            "gateways": [
                { "node": "n1", "publicKey": "k", "lanes": 2, "active": true },
                { "node": "n2", "publicKey": "k", "lanes": 2 },
            ],
        },
        "status": status,
    }))
}

fn paris() -> Seen {
    let gateway = |name: &str, active: bool| -> GatewayNode {
        let berlin = json!({
            "cluster": "berlin", "state": "Up", "reason": "probes come back", "handshakeAgeSeconds": 7,
            "rttMicroseconds": 1500, "lossPermille": 20, "mtu": 1420, "rxBytes": 2048, "txBytes": 10,
        });
        from(json!({
            "metadata": { "name": name },
            "spec": { "publicKey": "k", "endpoints": ["192.0.2.1:51820"], "lanes": 2 },
            "status": {
                "active": active, "summary": "1/2 up",
                "peers": [berlin, {
                    "cluster": "rome", "state": "Down", "reason": "it does not answer", "downSince": "2026-01-01T11:54:57Z",
                }],
                "observed": "2026-01-01T12:00:00Z",
            },
        }))
    };
    Seen {
        context: "p".to_owned(),
        own: Some("paris".to_owned()),
        members: vec![
            member("berlin", "10.52.0.0/16", ready("False", "Overlap", "10.52.0.0/16 is rome's, too")),
            member("paris", "10.42.0.0/16", ready("True", "Ready", "used")),
        ],
        gateways: vec![gateway("n1", true), gateway("n2", false)],
        ..Seen::default()
    }
}

fn table(topic: Topic, seen: &[Seen]) -> Vec<String> {
    let text = draw(seen, &topic.each(), Format::Table, Screen::default()).expect("a table");
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_conditions_advise_is_told_as_its_reader_calls_it_and_they_themselves_stay() {
    let lost = ready("False", "NotJoined", "make a token with `linkspan token create`");
    let export = json!({ "metadata": { "name": "web", "namespace": "shop" }, "status": lost });
    let seen = Seen {
        members: vec![member("paris", "10.42.0.0/16", lost)],
        exports: vec![from(export)],
        speech: Speech::through_kubectl(["token".to_owned()].into_iter()),
        ..paris()
    };
    for topic in [Topic::Members, Topic::Exports] {
        let shown = table(topic, std::slice::from_ref(&seen));
        assert!(shown[1].ends_with("make a token with `kubectl linkspan token create`"), "{shown:?}");
        let json = draw(std::slice::from_ref(&seen), &[topic], Format::Json, Screen::default()).expect("JSON");
        let row = &serde_json::from_str::<Value>(&json).expect("JSON")[0];
        assert_eq!(row["message"], "make a token with `kubectl linkspan token create`");
        assert_eq!(row["conditions"][0]["message"], "make a token with `linkspan token create`");
    }
}

#[test]
fn members_are_told_with_what_is_wrong_with_them() {
    assert_eq!(
        table(Topic::Members, &[paris()]),
        [
            "CLUSTER READY GATEWAYS VERSION MESSAGE",
            "berlin False n1* n2 0.1.0 10.52.0.0/16 is rome's, too",
            "paris True n1* n2 0.1.0 this cluster",
        ]
    );
}

#[test]
fn connections_are_those_of_the_active_gateway_with_their_units() {
    assert_eq!(
        table(Topic::Connections, &[paris()]),
        [
            "GATEWAY CLUSTER STATE RTT LOSS MTU RX TX HANDSHAKE REASON",
            "n1 berlin up 1.50ms 2.0% 1420 2.0KiB 10B 7s ago probes come back",
            "n1 rome down (5m3s) - 0% 0 0B 0B never it does not answer",
        ]
    );
    let now = "2026-01-01T14:54:57Z".parse().expect("a time");
    let seen = Seen { now: Some(now), ..paris() };
    assert!(table(Topic::Connections, &[seen])[2].starts_with("n1 rome down (3h0m) "), "ages are those of now");
    let json = draw(&[paris()], &[Topic::Connections], Format::Json, Screen::default()).expect("JSON");
    let list: Vec<Value> = serde_json::from_str(&json).expect("a list");
    assert_eq!(list.len(), 2);
    assert_eq!((&list[0]["context"], &list[0]["rttMilliseconds"]), (&json!("p"), &json!(1.5)));
    assert_eq!((&list[0]["loss"], &list[1]["state"]), (&json!(0.02), &json!("down")));
    assert_eq!((&list[0]["downSince"], &list[1]["downSince"]), (&Value::Null, &json!("2026-01-01T11:54:57Z")));
    let wide = draw(&[paris()], &[Topic::Connections], Format::Wide, Screen::default()).expect("a table");
    assert!(wide.contains(" DOWN SINCE ") && wide.contains(" 2026-01-01T11:54:57Z "), "{wide}");
}

#[test]
fn many_contexts_are_told_apart_and_a_name_is_told_once() {
    let berlin = Seen { context: "b".to_owned(), own: Some("berlin".to_owned()), ..paris() };
    let seen = [paris(), berlin];
    let rows = table(Topic::Networks, &seen);
    assert_eq!(rows[0], "CONTEXT CLUSTER PODS SERVICES VIRTUAL");
    assert_eq!(rows[1], "p berlin 10.52.0.0/16 - 10.52.0.0/16 as 100.64.0.0/16");
    assert_eq!(rows.iter().filter(|row| row.starts_with("b ")).count(), 2);
    let names = draw(&seen, &[Topic::Members, Topic::Networks], Format::Name, Screen::default()).expect("names");
    assert_eq!(names, "member/berlin\nmember/paris\n");
}

#[test]
fn services_are_told_with_their_state() {
    let export = |status: Value| from(json!({ "metadata": { "name": "web", "namespace": "shop" }, "status": status }));
    let conditions = [("Valid", "True", "ok"), ("Ready", "False", "the broker is away"), ("Conflict", "False", "none")];
    let conditions = conditions.map(|(kind, status, message)| {
        json!({ "type": kind, "status": status, "reason": "R", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z" })
    });
    let import = json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "type": "ClusterSetIP", "ips": ["10.43.0.9"], "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }] },
        "status": { "clusters": [{ "cluster": "berlin" }, { "cluster": "paris" }] },
    });
    let seen = Seen {
        exports: vec![export(json!({ "conditions": conditions })), export(Value::Null)],
        imports: vec![from(import)],
        ..Seen::default()
    };
    assert_eq!(
        table(Topic::Exports, std::slice::from_ref(&seen))[1..],
        [
            "shop web True False False the broker is away",
            "shop web Unknown Unknown - no controller has looked at it yet",
        ]
    );
    assert_eq!(table(Topic::Imports, &[seen])[1..], ["shop web ClusterSetIP 10.43.0.9 80/TCP 53/UDP berlin paris"]);
}

#[test]
fn versions_are_those_of_program_server_pods_and_clusters() {
    let image = "registry.example:5000/linkspan:0.2.0".to_owned();
    let seen = Seen {
        kubernetes: Some("v1.34.1".to_owned()),
        workloads: vec![Workload { name: "linkspan-node".to_owned(), image, ready: 1, wanted: 2 }],
        members: vec![member("paris", "10.42.0.0/16", Value::Null)],
        ..Seen::default()
    };
    let program = format!("kubectl-linkspan {VERSION} -");
    assert_eq!(
        table(Topic::Versions, &[seen])[1..],
        [program.as_str(), "kubernetes v1.34.1 -", "linkspan-node 0.2.0 1/2", "member paris 0.1.0 -",]
    );
}

#[test]
fn the_version_of_an_image_is_its_tag_or_the_beginning_of_its_digest() {
    let digest = "sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a";
    for (image, version) in [
        ("linkspan/linkspan:0.2.0".to_owned(), "0.2.0"),
        (format!("registry.example:5000/linkspan:0.2.0@{digest}"), "0.2.0"),
        (format!("registry.example:5000/linkspan@{digest}"), "sha256:4bf5122f3445"),
        ("registry.example:5000/linkspan".to_owned(), "registry.example:5000/linkspan"),
    ] {
        assert_eq!(version_of(&image), version, "{image}");
    }
}

#[test]
fn all_topics_have_titles_and_say_when_there_is_nothing() {
    let text = table(Topic::All, &[paris()]).join("\n");
    assert!(text.contains("MEMBERS\nCLUSTER READY") && text.contains("\n\nEXPORTS\nnone\n"), "{text}");
    let json = draw(&[paris()], &Topic::All.each(), Format::Json, Screen::default()).expect("JSON");
    let lists: Value = serde_json::from_str(&json).expect("an object");
    let counts = ["members", "connections", "exports"].map(|topic| lists[topic].as_array().map(Vec::len));
    assert_eq!(counts, [Some(2), Some(2), Some(0)]);
}

#[test]
fn a_cluster_that_is_called_again_is_down_until_it_is_up() {
    let word = |state: &str, since: Value| {
        let peer: PeerStatus = from(json!({ "cluster": "rome", "state": state, "downSince": since }));
        super::state("word", &peer, Some("2026-01-01T00:00:42Z".parse().expect("a time")))
    };
    let since = json!("2026-01-01T00:00:00Z");
    assert_eq!(word("Connecting", since.clone()), "word (down 42s)");
    assert_eq!(word("Down", since), "word (42s)");
    assert_eq!(word("Up", Value::Null), "word");
    assert_eq!(word("Down", json!("2026-01-01T00:01:00Z")), "word (0s)", "a clock that is behind");
}
