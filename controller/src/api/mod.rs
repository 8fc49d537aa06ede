//! The Kubernetes objects that Linkspan reads and writes, as the API server stores them.
//!
//! | kind | group | written by | where |
//! |---|---|---|---|
//! | [`Member`] | `linkspan.dev` | its cluster's controller | broker, and a copy in every Member |
//! | [`ServiceRecord`] | `linkspan.dev` | its cluster's controller | broker, and a copy in every Member |
//! | [`GatewayNode`] | `linkspan.dev` | the node of that name | its own cluster |
//! | [`ServiceExport`] | `multicluster.x-k8s.io` | people; conditions by the controller | its own cluster |
//! | [`ServiceImport`] | `multicluster.x-k8s.io` | the controller | every Member |
//!
//! Objects are what the API server lets through: strings may still be wrong. `services` and `members` turn them into
//! checked values before anything is decided.

mod crds;
mod gateway_node;
mod mcs;
mod member;
pub mod names;
mod service_record;

pub use crds::{crd_file, crds, is_of_an_earlier_crd};
pub use gateway_node::{GatewayNode, GatewayNodeSpec, GatewayNodeStatus, PeerState, PeerStatus};
pub use mcs::{
    ClusterStatus, EndpointSliceObjects, ImportPort, ImportType, ServiceExport, ServiceExportSpec, ServiceExportStatus,
    ServiceImport, ServiceImportSpec, ServiceImportStatus,
};
pub use member::{Gateway, Member, MemberSpec, MemberStatus, RestingCidr, VirtualCidr};
pub use service_record::{
    AddressType, RecordEndpoint, RecordPort, RecordSlice, ServiceRecord, ServiceRecordSpec, ServiceRecordStatus,
};
