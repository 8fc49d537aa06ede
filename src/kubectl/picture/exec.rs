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
/// Longest questions that are an argument, in bytes: in a URL, which takes 64 KiB, each may become three times as long.
const ARGUMENT_MAX: usize = 16 << 10;
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

/// What nodes told, by name.
pub type Answers = BTreeMap<String, Part<NodePicture>>;

/// Which pod of a node is asked what.
#[derive(Debug, Clone)]
pub struct Wanted {
    node: String,
    /// Its name, or why there is none.
    pod: Result<String, String>,
    questions: Questions,
}

impl Wanted {
    /// The node that is asked.
    pub fn node(&self) -> &str {
        &self.node
    }
}

/// Finds the pods of those nodes of a cluster for which there are questions.
pub fn wanted(cluster: &ClusterPicture, questions: BTreeMap<String, Questions>) -> Vec<Wanted> {
    let of_node = |(node, questions): (String, Questions)| {
        let pod = cluster.node_pod(&node).and_then(|pod| pod.metadata.name.clone());
        let pod = pod.ok_or_else(|| match cluster.pods.unseen_in(SYSTEM_NAMESPACE) {
            Some(unseen) => unseen.why.clone(),
            None => "no linkspan-node pod runs there".to_owned(),
        });
        Wanted { node, pod, questions }
    };
    questions.into_iter().map(of_node).collect()
}

/// Asks nodes of a cluster.
pub async fn answers(client: &Client, wanted: Vec<Wanted>) -> Answers {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let asked = wanted.into_iter().map(|Wanted { node, pod, questions }| {
        let pods = pods.clone();
        async move {
            let seen = match pod {
                Ok(pod) => ask(&pods, &node, &pod, &questions).await,
                Err(why) => unseen(&node, why),
            };
            (node, seen)
        }
    });
    futures::stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await
}

/// Asks those nodes of a cluster for which there are questions, and puts the answers into the picture.
pub async fn inspect_nodes(client: &Client, cluster: &mut ClusterPicture, questions: &BTreeMap<String, Questions>) {
    let answers = answers(client, wanted(cluster, questions.clone())).await;
    put_all(&mut cluster.inspections, answers);
}

/// Puts answers to further questions into the picture.
pub fn put_all(inspections: &mut Answers, answers: Answers) {
    for (node, answer) in answers {
        put(inspections, node, answer);
    }
}

/// Puts an answer into the picture. One that did not come takes no earlier one away: it is told beside that.
fn put(inspections: &mut Answers, node: String, answer: Part<NodePicture>) {
    match (inspections.get_mut(&node), answer) {
        (Some(Part::Seen(before)), Part::Unseen(unseen)) => before.unanswered = Some(unseen.why),
        (_, answer) => {
            inspections.insert(node, answer);
        }
    }
}

fn unseen(node: &str, why: String) -> Part<NodePicture> {
    Part::Unseen(Unseen { what: format!("node {node}"), why })
}

async fn ask(pods: &Api<Pod>, node: &str, pod: &str, questions: &Questions) -> Part<NodePicture> {
    let before = super::observe::now();
    let said = match said(pods, pod, questions).await {
        Ok(said) => said,
        Err(why) => return unseen(node, why),
    };
    let after = super::observe::now();
    let Ok(Answer { status, inspection }) = serde_json::from_str(&said) else {
        let beginning: String = said.chars().take(200).collect();
        return unseen(node, format!("pod {pod} said something else than an inspection: {beginning}"));
    };
    let clock = Clock { before, from: inspection.clock, to: inspection.clock, after };
    Part::Seen(NodePicture { pod: pod.to_owned(), clock: Some(clock), status, inspection, unanswered: None })
}

/// What the pod prints.
async fn said(pods: &Api<Pod>, pod: &str, questions: &Questions) -> Result<String, String> {
    let (command, line) = command(questions);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    match line {
        Some(line) => exec::reply(pods, pod, NODE_CONTAINER, &command, &line).await,
        None => exec::output(pods, pod, NODE_CONTAINER, &command).await,
    }
}

/// The command, and what it reads: the questions of hundreds of clusters are too long for an argument. As one, nodes of an
/// earlier build understand them, too.
fn command(questions: &Questions) -> (Vec<String>, Option<String>) {
    let mut command = ["linkspan", "inspect", "-o", "json"].map(str::to_owned).to_vec();
    let Ok(text) = serde_json::to_string(questions) else { return (command, None) };
    if questions.is_empty() {
        return (command, None);
    }
    command.push("--questions".to_owned());
    if text.len() <= ARGUMENT_MAX {
        command.push(text);
        return (command, None);
    }
    command.push("-".to_owned());
    (command, Some(text))
}

#[cfg(test)]
mod tests {
    use controller::node::Lookup;

    use super::*;

    #[test]
    fn an_answer_that_did_not_come_takes_no_earlier_one_away() {
        let mut told = BTreeMap::new();
        let seen = |version: &str| {
            let inspection = Inspection { version: version.to_owned(), ..Inspection::default() };
            Part::Seen(NodePicture { inspection, ..NodePicture::default() })
        };
        put(&mut told, "n1".to_owned(), seen("1"));
        put(&mut told, "n1".to_owned(), unseen("n1", "pod x did not answer within 20 s".to_owned()));
        let kept = told["n1"].seen().expect("what it told at first");
        assert_eq!(kept.inspection.version, "1");
        assert_eq!(kept.unanswered.as_deref(), Some("pod x did not answer within 20 s"));
        put(&mut told, "n1".to_owned(), seen("2"));
        let now = told["n1"].seen().expect("what it tells now");
        assert_eq!((now.inspection.version.as_str(), &now.unanswered), ("2", &None));
        put(&mut told, "n2".to_owned(), unseen("n2", "no pod".to_owned()));
        put(&mut told, "n2".to_owned(), unseen("n2", "still no pod".to_owned()));
        assert_eq!(told["n2"].unseen().expect("nothing was told").why, "still no pod");
    }

    #[test]
    fn questions_of_hundreds_of_clusters_are_one_line_and_no_argument() {
        let to = |at: u16| Lookup { to: [10, (at >> 8) as u8, at as u8, 1].into(), arriving: None };
        let asked = Questions { lookups: (0..4000).map(to).collect(), ..Questions::default() };
        let (words, line) = command(&asked);
        assert_eq!(words, ["linkspan", "inspect", "-o", "json", "--questions", "-"]);
        let line = line.expect("there are questions");
        assert!(line.len() > 65_534 && !line.contains('\n'), "{} bytes", line.len());
        assert_eq!(serde_json::from_str::<Questions>(&line).expect("JSON"), asked);
        assert_eq!(command(&Questions::default()).0, ["linkspan", "inspect", "-o", "json"]);
        let few = Questions { lookups: vec![to(1)], ..Questions::default() };
        let (words, line) = command(&few);
        assert_eq!(serde_json::from_str::<Questions>(&words[5]).expect("JSON"), few);
        assert_eq!(line, None);
    }
}
