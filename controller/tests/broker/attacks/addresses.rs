//! Endpoints where no endpoints may be.

use controller::api::{Member, ServiceRecord};
use kube::Api;

use super::key;
use crate::support::{BROKER, Cluster, apply, eventually, joined, member, new_token, record};

#[tokio::test]
async fn evil_addresses_are_refused_by_every_importer_with_a_reason() {
    let mut importer = Cluster::new("importer-addresses", "10.115.0.0/24").await;
    importer.give_token(&new_token("importer-addresses").await).await;
    importer.start();
    let (_, mallory) = joined("mallory-addresses").await;
    let members: Api<Member> = Api::namespaced(mallory.clone(), BROKER);
    let records: Api<ServiceRecord> = Api::namespaced(mallory, BROKER);
    apply(&members, &member("mallory-addresses", "10.115.1.0/24", &key(115, 1))).await.unwrap();
    let attempts = [
        ("loopback", "127.0.0.1", "ForbiddenAddress"),
        ("link-local", "169.254.169.254", "ForbiddenAddress"),
        ("multicast", "224.0.0.1", "ForbiddenAddress"),
        ("foreign", "10.115.0.9", "ForeignAddress"),
        ("public", "8.8.8.8", "ForeignAddress"),
        ("garbage", "not-an-address", "InvalidAddress"),
    ];
    for (name, address, _) in attempts {
        apply(&records, &record("mallory-addresses", "default", name, address)).await.unwrap();
    }
    apply(&records, &record("mallory-addresses", "default", "honest", "10.115.1.9")).await.unwrap();
    let mut mixed = record("mallory-addresses", "default", "mixed", "10.115.1.9");
    let mut foreign = mixed.spec.slices[0].endpoints[0].clone();
    foreign.addresses = vec!["10.115.0.9".to_owned()];
    mixed.spec.slices[0].endpoints.push(foreign);
    apply(&records, &mixed).await.unwrap();
    for (name, _, reason) in attempts {
        let copy = format!("mallory-addresses.default.{name}");
        importer.wait_for_record(&copy, "False", reason).await;
        let copy = importer.records().get(&copy).await.unwrap();
        assert_eq!(copy.spec.slices, [], "nothing of it can be used");
    }
    importer.wait_for_record("mallory-addresses.default.honest", "True", "Accepted").await;
    let message = importer.wait_for_record("mallory-addresses.default.mixed", "True", "ForeignAddress").await;
    assert!(message.contains("1 of its endpoints are left out: endpoint address 10.115.0.9 is outside"), "{message}");
    let mixed = importer.records().get("mallory-addresses.default.mixed").await.unwrap();
    let endpoints: Vec<_> = mixed.spec.slices.iter().flat_map(|slice| &slice.endpoints).collect();
    assert_eq!(endpoints.len(), 1, "the honest one");
    assert_eq!(endpoints[0].addresses, ["10.115.1.9"]);
    eventually("all seven are told", async || {
        let message = importer.wait_for("mallory-addresses", "Records", "False", "Refused").await;
        message.starts_with("7 of its ServiceRecords are refused, whole or in part")
    })
    .await;
    importer.stop().await;
}

/// Nobody checks whose services' prefixes are, so that they must not make endpoints of what is in them.
#[tokio::test]
async fn service_prefixes_that_hold_the_importers_pods_node_and_services_make_no_endpoints() {
    let mut importer = Cluster::published("importer-vips", "10.114.0.0/24").await;
    let (_, mallory) = joined("mallory-vips").await;
    let members: Api<Member> = Api::namespaced(mallory.clone(), BROKER);
    let records: Api<ServiceRecord> = Api::namespaced(mallory, BROKER);
    let mut greedy = member("mallory-vips", "10.114.1.0/24", &key(114, 1));
    let claimed = ["10.114.0.0/24", "198.18.114.0/24", "10.43.0.0/16"];
    greedy.spec.service_cidrs = claimed.map(str::to_owned).into();
    apply(&members, &greedy).await.unwrap();
    let named = [("pod", "10.114.0.9"), ("node", "198.18.114.7"), ("api-server", "10.43.0.1")];
    let mut mixed = record("mallory-vips", "default", "mixed", "10.114.1.9");
    for (name, address) in named {
        let evil = record("mallory-vips", "default", name, address);
        mixed.spec.slices[0].endpoints.extend(evil.spec.slices[0].endpoints.clone());
        apply(&records, &evil).await.unwrap();
    }
    apply(&records, &mixed).await.unwrap();
    // The Member itself is used: two clusters may have the same services.
    importer.wait_for("mallory-vips", "Ready", "True", "Ready").await;
    for (name, address) in named {
        let copy = format!("mallory-vips.default.{name}");
        let message = importer.wait_for_record(&copy, "False", "ForeignAddress").await;
        assert_eq!(message, format!("endpoint address {address} is outside the Pod CIDRs of mallory-vips"));
        let copy = importer.records().get(&copy).await.unwrap();
        assert_eq!(copy.spec.slices, [], "nothing of it can be used");
    }
    let message = importer.wait_for_record("mallory-vips.default.mixed", "True", "ForeignAddress").await;
    assert!(message.contains("3 of its endpoints are left out"), "{message}");
    let mixed = importer.records().get("mallory-vips.default.mixed").await.unwrap();
    let endpoints = mixed.spec.slices.iter().flat_map(|slice| &slice.endpoints);
    let left: Vec<_> = endpoints.flat_map(|endpoint| &endpoint.addresses).collect();
    assert_eq!(left, ["10.114.1.9"], "its own pod");
    eventually("all four are told", async || {
        let message = importer.wait_for("mallory-vips", "Records", "False", "Refused").await;
        message.starts_with("4 of its ServiceRecords are refused, whole or in part")
    })
    .await;
    importer.stop().await;
}
