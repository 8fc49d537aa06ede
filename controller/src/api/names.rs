//! Names, labels and annotations: public spellings, and the marks by which Linkspan knows its own API objects.

/// API group of Linkspan's own kinds.
pub const GROUP: &str = "linkspan.dev";
/// Field manager of every server-side apply by the controller.
pub const FIELD_MANAGER: &str = "linkspan";
/// Who tells the controller's Events.
pub const REPORTER: &str = "linkspan-controller";
/// ClusterRole and ClusterRoleBinding of the controller in `deploy/member`: what is made of imports belongs to them.
pub const CLUSTER_ROLE: &str = "linkspan-controller";
/// Who tells a node's Events.
pub const REPORTER_NODE: &str = "linkspan-node";
/// Value of `app.kubernetes.io/managed-by` and of an EndpointSlice's `managed-by` label on what we create.
pub const MANAGED_BY: &str = "linkspan.dev";

/// Namespace of Linkspan in a member cluster.
pub const SYSTEM_NAMESPACE: &str = "linkspan-system";
/// Namespace of the broker.
pub const BROKER_NAMESPACE: &str = "linkspan-broker";

/// Label with the cluster ID that an object speaks for: on Members and ServiceRecords.
pub const LABEL_CLUSTER: &str = "linkspan.dev/cluster";
/// Label with the namespace of the service: on ServiceRecords.
pub const LABEL_NAMESPACE: &str = "linkspan.dev/namespace";
/// Label that makes a node a gateway candidate, with the value `true`.
pub const LABEL_GATEWAY: &str = "linkspan.dev/gateway";
/// Label with the namespace of the service that a derived object serves, beside [`LABEL_SERVICE_NAME`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Label of imported EndpointSlices: name of the service (KEP-1645).
pub const LABEL_SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";
/// Label of imported EndpointSlices: the cluster whose endpoints they hold (KEP-1645).
pub const LABEL_SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// Annotation of a ServiceImport: name of the Service that carries its clusterset IP (mcs-api's own controllers).
pub const ANNOTATION_DERIVED_SERVICE: &str = "multicluster.kubernetes.io/derived-service";
/// Who manages an EndpointSlice (`discovery.k8s.io`).
pub const LABEL_SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The Service that an EndpointSlice belongs to (`discovery.k8s.io`); names the derived Service on ours.
pub const LABEL_SLICE_SERVICE: &str = "kubernetes.io/service-name";

/// Lease that the active gateway node holds, in [`SYSTEM_NAMESPACE`].
pub const LEASE_GATEWAY: &str = "linkspan-gateway";
/// Lease that the active controller holds, in [`SYSTEM_NAMESPACE`].
pub const LEASE_CONTROLLER: &str = "linkspan-controller";

/// Secret with the join token, in [`SYSTEM_NAMESPACE`]; people or GitOps put it there.
pub const SECRET_JOIN: &str = "linkspan-join";
/// Annotation of [`SECRET_BROKER`]: the cluster is to leave, whatever the value.
pub const ANNOTATION_LEAVE: &str = "linkspan.dev/leave";
/// Value of [`ANNOTATION_LEAVE`]: without asking the broker, which is lost.
pub const LEAVE_WITHOUT_BROKER: &str = "without-broker";
/// Secret with the Member's own credential for the broker, in [`SYSTEM_NAMESPACE`]; the controller keeps it.
pub const SECRET_BROKER: &str = "linkspan-broker";
/// ServiceAccount of a Member on the broker: this prefix and the cluster ID.
pub const MEMBER_ACCOUNT_PREFIX: &str = "member-";

/// ClusterProperty with the cluster ID (KEP-2149).
pub const PROPERTY_CLUSTER: &str = "cluster.clusterset.k8s.io";
/// ClusterProperty with the clusterset, while the cluster is a member (KEP-2149).
pub const PROPERTY_CLUSTERSET: &str = "clusterset.k8s.io";

/// Name of the ServiceRecord of one exported service.
pub fn record_name(cluster: &str, namespace: &str, service: &str) -> String {
    format!("{cluster}.{namespace}.{service}")
}
