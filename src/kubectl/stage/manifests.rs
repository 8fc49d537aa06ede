//! The objects of the stage.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use serde_json::{Value, json};

/// The namespace of test pods, the same in all clusters, as namespace sameness asks.
pub const NAMESPACE: &str = "linkspan-verify";
/// The container in them.
pub const CONTAINER: &str = "echo";
/// Their port on TCP and UDP.
pub const PORT: u16 = 8080;
/// The StatefulSet, which gives pods host names: `probe-0`.
pub(super) const SET: &str = "probe";
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "linkspan-verify");
/// Longest part of a cluster ID in the name of a service, whose limit is 63 characters.
const ID_PART: usize = 50;

/// The image of test pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    name: String,
}

impl Image {
    /// That of a cluster's node pods. Pull secrets are of their namespace: nodes have the image without, as they run it.
    pub fn of(node: &DaemonSet) -> Option<Self> {
        let spec = node.spec.as_ref()?.template.spec.as_ref()?;
        let name = spec.containers.first()?.image.clone()?;
        Some(Self { name })
    }
}

/// Name of the service of a cluster's test pods that has a clusterset IP. Each has its own: services of one name would be
/// one service.
pub fn service(cluster: &str) -> String {
    format!("echo-{}", cluster.get(..ID_PART).unwrap_or(cluster).trim_end_matches('-'))
}

/// Name of their headless service.
pub fn headless(cluster: &str) -> String {
    format!("pods-{}", cluster.get(..ID_PART).unwrap_or(cluster).trim_end_matches('-'))
}

/// The namespace alone: all else goes with it.
pub fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "labels": {
            PART_OF.0: PART_OF.1,
            "pod-security.kubernetes.io/enforce": "restricted",
        } },
    })
}

/// Whether a namespace is of an earlier run.
pub fn is_ours(namespace: &Namespace) -> bool {
    namespace.labels().get(PART_OF.0).is_some_and(|value| value == PART_OF.1)
}

/// All objects of one cluster within the namespace, in the order in which they are made.
pub fn all(cluster: &str, image: &Image, pods: usize) -> Vec<Value> {
    let mut objects = vec![set(cluster, image, pods)];
    for (name, headless) in [(service(cluster), false), (headless(cluster), true)] {
        objects.push(service_object(&name, headless));
        objects.push(json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
            "metadata": { "name": name, "namespace": NAMESPACE, "labels": { PART_OF.0: PART_OF.1 } },
        }));
    }
    objects
}

fn service_object(name: &str, headless: bool) -> Value {
    let port = |protocol: &str| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": PORT });
    let mut spec =
        json!({ "ipFamilyPolicy": "PreferDualStack", "selector": { "app": SET }, "ports": [port("TCP"), port("UDP")] });
    if headless {
        spec["clusterIP"] = "None".into();
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": { PART_OF.0: PART_OF.1 } },
        "spec": spec,
    })
}

fn set(cluster: &str, image: &Image, pods: usize) -> Value {
    let port = |protocol: &str| json!({ "containerPort": PORT, "protocol": protocol });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": SET, "namespace": NAMESPACE, "labels": { PART_OF.0: PART_OF.1 } },
        "spec": {
            "replicas": pods, "serviceName": headless(cluster), "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { "app": SET } },
            "template": {
                "metadata": { "labels": { "app": SET, PART_OF.0: PART_OF.1 } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": 0,
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    // On a node each, where there are two: one of them is not the gateway then.
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": { "matchLabels": { "app": SET } },
                    }],
                    "containers": [{
                        "name": CONTAINER, "image": image.name, "imagePullPolicy": "IfNotPresent",
                        "args": ["echo", "--port", PORT.to_string()],
                        "ports": [port("TCP"), port("UDP")],
                        "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
                        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "128Mi" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_fit_into_labels() {
        assert_eq!(service("paris"), "echo-paris");
        assert_eq!(headless("paris"), "pods-paris");
        let long = format!("{}-{}", "a".repeat(49), "b".repeat(13));
        assert_eq!(service(&long), format!("echo-{}", "a".repeat(49)));
        assert!(service(&"x".repeat(63)).len() <= 63);
    }

    #[test]
    fn a_cluster_exports_one_service_of_each_kind_and_makes_its_pods_first() {
        let image = Image { name: "linkspan:1".to_owned() };
        let objects = all("paris", &image, 2);
        let name = |object: &Value| format!("{}/{}", object["kind"], object["metadata"]["name"]).replace('"', "");
        assert_eq!(
            objects.iter().map(name).collect::<Vec<_>>(),
            [
                "StatefulSet/probe",
                "Service/echo-paris",
                "ServiceExport/echo-paris",
                "Service/pods-paris",
                "ServiceExport/pods-paris"
            ]
        );
    }
}
