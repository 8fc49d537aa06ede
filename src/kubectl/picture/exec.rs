//! Asks nodes through `pods/exec` in their `linkspan-node` pods. The image has no shell: the binary itself is run.

use std::collections::BTreeMap;

use controller::api::names::SYSTEM_NAMESPACE;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use super::{Clock, ClusterPicture, NodePicture, Part, Unseen};
use crate::kubectl::exec;
use crate::kubectl::inspect::{Inspection, Questions};
use crate::status::Report;

/// Nodes of one cluster that are asked at a time.
const AT_ONCE: usize = 16;
/// The container of node pods.
pub const NODE_CONTAINER: &str = "node";

/// What a node prints for `linkspan inspect -o json`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Answer {
    /// What the running process says.
    pub(crate) status: Part<Report>,
    /// What the kernel has.
    pub(crate) inspection: Inspection,
}

/// Asks those nodes of a cluster for which there are questions, and puts the answers into the picture.
pub async fn inspect_nodes(client: &Client, cluster: &mut ClusterPicture, questions: &BTreeMap<String, Questions>) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let asked = questions.iter().map(|(node, questions)| {
        let pod = cluster.node_pod(node).and_then(|pod| pod.metadata.name.clone());
        let pods = pods.clone();
        async move {
            let seen = match pod {
                Some(pod) => ask(&pods, node, &pod, questions).await,
                None => unseen(node, "no linkspan-node pod runs there".to_owned()),
            };
            (node.clone(), seen)
        }
    });
    let answers: Vec<_> = futures::stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
    cluster.inspections.extend(answers);
}

fn unseen(node: &str, why: String) -> Part<NodePicture> {
    Part::Unseen(Unseen { what: format!("node {node}"), why })
}

async fn ask(pods: &Api<Pod>, node: &str, pod: &str, questions: &Questions) -> Part<NodePicture> {
    let before = super::observe::now();
    let command = command(questions);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let said = match exec::output(pods, pod, NODE_CONTAINER, &command).await {
        Ok(said) => said,
        Err(why) => return unseen(node, why),
    };
    let after = super::observe::now();
    let Ok(Answer { status, inspection }) = serde_json::from_str(&said) else {
        let beginning: String = said.chars().take(200).collect();
        return unseen(node, format!("pod {pod} said something else than an inspection: {beginning}"));
    };
    let clock = Clock { before, from: inspection.clock, to: inspection.clock, after };
    Part::Seen(NodePicture { pod: pod.to_owned(), clock: Some(clock), status, inspection })
}

fn command(questions: &Questions) -> Vec<String> {
    let mut command = ["linkspan", "inspect", "-o", "json"].map(str::to_owned).to_vec();
    if !questions.is_empty() {
        let text = serde_json::to_string(questions).unwrap_or_default();
        command.extend(["--questions".to_owned(), text]);
    }
    command
}
