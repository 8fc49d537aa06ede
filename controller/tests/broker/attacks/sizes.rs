//! Members and records as large as their kind allows, and larger ones. A policy that costs more than an API server spends
//! refuses whatever it is asked: then who is large could join nobody, or keep others out.

use controller::api::{Gateway, Member, RecordPort, ServiceRecord, VirtualCidr};
use data_encoding::BASE64;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;

use super::{Attack, NOTICED, assert_refused, key};
use crate::support::{BROKER, apply, broker, member, record, refusal, until_refused};

/// As many prefixes, gateways and endpoints as a Member may have, each as long as can be; `which` tells two apart.
fn largest(cluster: &str, number: u8, which: u8) -> Member {
    let mut member = member(cluster, &format!("10.{number}.{which}.0/24"), &key(number, which));
    let net = |kind: u16, i: u16| format!("fd21:{kind:04x}:aaaa:bbbb:cccc:{number:02x}{which:02x}:{i:04x}:0/112");
    member.spec.pod_cidrs.extend((1..256).map(|i| net(0x1000, i)));
    // Of the pool that all have.
    let known = |i: u16| format!("fd92:e500:6daa:bbbb:cccc:{number:02x}{which:02x}:{i:04x}:0/112");
    let block = |i: u16| VirtualCidr { pods: net(0x2000, i), r#virtual: known(i) };
    member.spec.virtual_cidrs = (0..256).map(block).collect();
    let gateway = |at: u8| {
        let address = |i: u8| format!("[fd22:aaaa:bbbb:cccc:dddd:{number:02x}{which:02x}:{at:04x}:{i:04x}]:51820");
        let mut bytes = [9; 32];
        (bytes[0], bytes[1], bytes[2]) = (number, which, at);
        Gateway {
            node: format!("node-{at}"),
            public_key: BASE64.encode(&bytes),
            endpoints: (0..8).map(address).collect(),
            lanes: 1,
            active: at == 0,
        }
    };
    member.spec.gateways = (0..32).map(gateway).collect();
    member
}

/// The Members as the broker's API server gives them to a cluster that waits as long as it takes: on a machine with much to
/// do, the largest ones are compared for longer than a controller waits.
async fn patient(cluster: &str) -> Api<Member> {
    let mut kubeconfig = Kubeconfig::from_yaml(broker().kubeconfig()).unwrap();
    for user in &mut kubeconfig.auth_infos {
        let user = user.auth_info.as_mut().unwrap();
        user.impersonate = Some(format!("system:serviceaccount:{BROKER}:member-{cluster}"));
        let groups = ["system:serviceaccounts", "system:serviceaccounts:linkspan-broker", "system:authenticated"];
        user.impersonate_groups = Some(groups.map(str::to_owned).to_vec());
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Api::namespaced(Client::try_from(config).unwrap(), BROKER)
}

/// Applies it, again where the API server has broken off the comparison: a write has 34 s, which is little on a machine
/// with much to do.
async fn apply_in_full(members: &Api<Member>, member: &Member) -> Result<Member, kube::Error> {
    for _ in 0..5 {
        match apply(members, member).await {
            Err(kube::Error::Api(told)) if told.code == 504 || told.message.contains("interrupted") => {}
            compared => return compared,
        }
    }
    apply(members, member).await
}

#[tokio::test]
async fn two_of_the_largest_members_are_compared_in_full() {
    let attack = Attack::begin("largest", 170).await;
    let (victims, members) = (patient(&attack.victim_id).await, patient(&attack.mallory_id).await);
    let theirs = largest(&attack.victim_id, 170, 3);
    apply_in_full(&victims, &theirs).await.unwrap();
    let own = largest(&attack.mallory_id, 170, 4);
    let thief = |change: fn(&mut Member, &Member)| {
        let mut thief = own.clone();
        change(&mut thief, &theirs);
        thief
    };
    let named = |part: &str| format!("{part} of cluster {}", attack.victim_id);
    let refused = async |change: fn(&mut Member, &Member), part: &str| {
        assert_refused(refusal(apply_in_full(&members, &thief(change)).await), &named(part));
    };
    // What is compared last, so that everything before has been.
    let overlaps = "a prefix that was added overlaps one";
    let last = |it: &mut Member, theirs: &Member| {
        it.spec.virtual_cidrs[255] = theirs.spec.virtual_cidrs[255].clone();
    };
    until_refused(&members, &thief(last), &named(overlaps)).await;
    refused(last, overlaps).await;
    refused(|it, _| it.spec.virtual_cidrs[255].r#virtual = "fd22:aaaa:bbbb:cccc:dddd:aa03::/96".into(), {
        "a prefix that was added holds a gateway address"
    })
    .await;
    let inside = |it: &mut Member, _: &Member| {
        it.spec.gateways[31].endpoints[7] = "[fd92:e500:6daa:bbbb:cccc:aa03:00ff:7]:51820".to_owned();
    };
    refused(inside, "a gateway address that was added is inside a prefix").await;
    refused(
        |it, theirs| it.spec.gateways[31] = theirs.spec.gateways[31].clone(),
        "a gateway key that was added is one",
    )
    .await;
    apply_in_full(&members, &own).await.unwrap();
    // All of it is old now, and one that is new is still compared.
    refused(|it, theirs| it.spec.pod_cidrs[255] = theirs.spec.pod_cidrs[255].clone(), overlaps).await;
    // Nobody else is compared with them.
    for (api, id) in [(&victims, &attack.victim_id), (&members, &attack.mallory_id)] {
        api.delete(id, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_member_has_so_many_prefixes_and_no_more() {
    let attack = Attack::begin("crowd", 171).await;
    let members = attack.members(&attack.mallory);
    let mut greedy = largest(&attack.mallory_id, 171, 4);
    greedy.spec.pod_cidrs.push("10.171.9.0/24".to_owned());
    assert_refused(
        refusal(apply(&members, &greedy).await),
        "spec.podCIDRs: Too many: 257: must have at most 256 items",
    );
    greedy.spec.pod_cidrs.pop();
    let more = VirtualCidr { pods: "10.171.4.0/24".to_owned(), r#virtual: "100.64.171.0/24".to_owned() };
    greedy.spec.virtual_cidrs.push(more);
    assert_refused(
        refusal(apply(&members, &greedy).await),
        "spec.virtualCIDRs: Too many: 257: must have at most 256 items",
    );
}

#[tokio::test]
async fn the_largest_member_grows_beside_one_with_as_many_virtual_prefixes_around_its_own() {
    let attack = Attack::begin("around", 172).await;
    let (victims, members) = (patient(&attack.victim_id).await, patient(&attack.mallory_id).await);
    let whole = largest(&attack.victim_id, 172, 3);
    let mut theirs = whole.clone();
    let (pods, block) = (theirs.spec.pod_cidrs.pop(), theirs.spec.virtual_cidrs.pop());
    assert!(pods.is_some() && block.is_some());
    apply_in_full(&victims, &theirs).await.unwrap();
    members.delete(&attack.mallory_id, &DeleteParams::default()).await.unwrap();
    // Ages are told in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let mut evil = member(&attack.mallory_id, "10.172.4.0/24", &key(172, 4));
    let around = ["fd21:1000:aaaa:bbbb:cccc:ac03::/96", "fd92:e500:6daa:bbbb:cccc:ac03::/96"];
    let blocks = around.iter().cycle().take(256);
    evil.spec.virtual_cidrs =
        blocks.map(|net| VirtualCidr { pods: (*net).to_owned(), r#virtual: (*net).to_owned() }).collect();
    apply_in_full(&members, &evil).await.unwrap();
    tokio::time::sleep(NOTICED).await;
    apply_in_full(&victims, &whole).await.unwrap();
    for (api, id) in [(&victims, &attack.victim_id), (&members, &attack.mallory_id)] {
        api.delete(id, &DeleteParams::default()).await.unwrap();
    }
}

/// A record of mallory with so many endpoints, whose nodes have names of so many characters, and with so many ports.
fn large(attack: &Attack, endpoints: usize, node: usize, ports: u16) -> ServiceRecord {
    let mut large = record(&attack.mallory_id, "default", "web", "10.180.1.9");
    let port = |number: u16| RecordPort {
        name: format!("p{number}"),
        protocol: "TCP".to_owned(),
        app_protocol: Some("a".repeat(100)),
        port: number,
    };
    let slice = &mut large.spec.slices[0];
    slice.ports = (1..=ports).map(port).collect();
    slice.endpoints[0].node_name = Some("n".repeat(node));
    let endpoint = slice.endpoints[0].clone();
    let mut left = endpoints;
    large.spec.slices = std::iter::from_fn(|| {
        let count = left.min(1000);
        left -= count;
        (count > 0).then(|| {
            let mut slice = large.spec.slices[0].clone();
            slice.endpoints = vec![endpoint.clone(); count];
            slice
        })
    })
    .collect();
    large
}

/// One Member's records fill the controllers of all, and etcd, if one of them may weigh what it likes.
#[tokio::test]
async fn a_record_weighs_so_much_and_no_more() {
    let attack = Attack::begin("weight", 180).await;
    let records = attack.records(&attack.mallory);
    // 5000 endpoints of 112 + 10 + 77 and five slices of 64 + 358 are 997 110, and the port of the service is 260.
    let legal = large(&attack, 5000, 77, 1);
    apply(&records, &legal).await.unwrap();
    // 5000 more.
    assert_refused(
        refusal(apply(&records, &large(&attack, 5000, 78, 1)).await),
        "at most 1000000 bytes, and this one 1002370",
    );
    // What is in ports counts for each slice: 11 of 64 + 256 * 358 or so.
    let mut ports = large(&attack, 1, 1, 256);
    ports.spec.slices = vec![ports.spec.slices[0].clone(); 11];
    assert_refused(refusal(apply(&records, &ports).await), "at most 1000000 bytes");
    // The costliest to be counted: as many as a request has room for.
    let mut crowd = large(&attack, 30_000, 1, 1);
    assert_refused(refusal(apply(&records, &crowd).await), "at most 5000 endpoints");
    crowd.spec.slices.truncate(5);
    for endpoint in crowd.spec.slices.iter_mut().flat_map(|slice| &mut slice.endpoints) {
        endpoint.addresses = vec!["1".to_owned(); 8];
    }
    assert_refused(refusal(apply(&records, &crowd).await), "at most 1000000 bytes");
    // All clusters of this broker would read it.
    records.delete(&legal.name_any(), &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn labels_and_annotations_of_a_record_have_so_many_bytes_and_no_more() {
    let attack = Attack::begin("pairs", 181).await;
    let records = attack.records(&attack.mallory);
    let make = |change: &dyn Fn(&mut ServiceRecord)| {
        let mut bad = record(&attack.mallory_id, "default", "web", "10.181.1.9");
        change(&mut bad);
        bad
    };
    let pairs = |count: usize, bytes: usize| (0..count).map(|i| (format!("k{i:02}"), "x".repeat(bytes))).collect();
    // One annotation is enough to fill an object.
    let one = make(&|it| it.spec.exported_annotations = pairs(1, 1_400_000));
    assert_refused(refusal(apply(&records, &one).await), "spec.exportedAnnotations.k00: Too long");
    let many = make(&|it| it.spec.exported_annotations = pairs(64, 1100));
    assert_refused(refusal(apply(&records, &many).await), "at most 64 KiB of exportedAnnotations");
    let label = make(&|it| it.spec.exported_labels = pairs(1, 64));
    assert_refused(refusal(apply(&records, &label).await), "spec.exportedLabels.k00: Too long");
    let key = make(&|it| it.spec.exported_labels = [("k".repeat(1_000_000), String::new())].into());
    assert_refused(refusal(records.create(&PostParams::default(), &key).await), "at most 1000000 bytes");
    // As much as an export may have.
    let full = make(&|it| {
        it.spec.exported_annotations = pairs(64, 1021);
        it.spec.exported_labels = (0..64).map(|i| (format!("{}/k{i:02}", "d".repeat(253)), "x".repeat(63))).collect();
    });
    apply(&records, &full).await.unwrap();
    apply(&records, &full).await.unwrap();
    records.delete(&full.name_any(), &DeleteParams::default()).await.unwrap();
}

/// What says which fields are whose takes room as well, and its owner writes it.
#[tokio::test]
async fn the_field_managers_of_a_record_are_so_many_and_no_more() {
    let attack = Attack::begin("managers", 182).await;
    let records = attack.records(&attack.mallory);
    let mut own = record(&attack.mallory_id, "default", "web", "10.182.1.9");
    let managed = |fields: serde_json::Value| {
        let entry = json!({
            "manager": "mallory", "operation": "Update", "apiVersion": "linkspan.dev/v1alpha1",
            "time": "2026-07-01T08:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
        });
        serde_json::from_value(json!([entry])).unwrap()
    };
    let refused = "metadata.managedFields of a ServiceRecord has at most";
    for fields in [
        json!({ "f:spec": { format!("f:{}", "x".repeat(1_000_000)): {} } }),
        json!({ "f:spec": { "f:exportedLabels": { format!("f:{}", "x".repeat(1_000_000)): {} } } }),
        json!({ "f:spec": { "f:a": { "f:b": { format!("f:{}", "x".repeat(1_000_000)): {} } } } }),
    ] {
        own.metadata.managed_fields = Some(managed(fields));
        assert_refused(refusal(records.create(&PostParams::default(), &own).await), refused);
    }
    own.metadata.managed_fields = None;
    let mut tries = Vec::new();
    for manager in 0..12 {
        let params = PatchParams::apply(&format!("mallory-{manager}")).force();
        let name = own.metadata.name.clone().unwrap();
        tries.push(records.patch(&name, &params, &Patch::Apply(&own)).await);
    }
    assert!(tries[..10].iter().all(Result::is_ok), "{tries:?}");
    assert_refused(refusal(tries.pop().unwrap()), refused);
}
