//! Members for tests.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::ANNOTATION_JOINED_AT;
use crate::api::{Gateway, Member, MemberSpec};

/// Keys of gateways.
pub(super) const GATEWAY_KEYS: [&str; 3] = [
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=",
];

/// The copy of a Member with one active gateway.
pub(super) fn member(name: &str, joined: i64, pods: &str, key: &str) -> Member {
    let gateway = Gateway {
        node: format!("{name}-node"),
        public_key: key.to_owned(),
        endpoints: Vec::new(),
        lanes: 2,
        active: true,
    };
    let spec = MemberSpec {
        cluster_id: name.to_owned(),
        cluster_uid: format!("uid-{name}"),
        pod_cidrs: vec![pods.to_owned()],
        service_cidrs: Vec::new(),
        virtual_cidrs: Vec::new(),
        virtual_only: false,
        resting_cidrs: Vec::new(),
        gateways: vec![gateway],
        version: String::new(),
        protocol: 1,
        min_protocol: None,
    };
    let mut member = Member::new(name, spec);
    let joined = Timestamp::from_second(joined).unwrap().to_string();
    member.annotations_mut().insert(ANNOTATION_JOINED_AT.to_owned(), joined);
    member
}
