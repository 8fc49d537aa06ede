//! `linkspan why`.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args as ClapArgs;
use controller::api::names::SYSTEM_NAMESPACE;

use crate::kubectl::contexts::{Contexts, Namespace, Target};
use crate::kubectl::output::{Format, Progress, Screen, json, yaml};
use crate::kubectl::picture::{ClusterPicture, Picture, ask, look_into};
use crate::kubectl::speech::Speech;
use crate::kubectl::why::parse::{self, End};
use crate::kubectl::why::{NotFound, questions, show, why};

const LONG: &str = "\
Follow one connection hop by hop, the name first, and tell the first hop that is broken, with the evidence and a fix.

FROM and TO are pods, deployments, nodes, services of the clusterset or addresses: [CLUSTER/][NAMESPACE/][KIND/]NAME, with a \
context or cluster ID as CLUSTER, and a port behind a colon where one is meant. Without a KIND, a name means as TO the service of \
that name rather than anything else, and then as FROM, too, a pod, a deployment, a node, or a pod behind a service. A clusterset \
IP means its service, and HOST.CLUSTER.SERVICE.NAMESPACE.svc.clusterset.local one endpoint. Shells take > for themselves: write '->' in \
quotes, or `to`, or nothing between the two. Name the contexts of all clusters on the way. Nothing is changed. Who may not see \
the whole cluster is told what is in the namespaces of both ends, and what could not be seen.";

const EXAMPLES: &str = "\
Examples:
  kubectl linkspan why paris/default/client '->' web.default.svc.clusterset.local --all-contexts
  kubectl linkspan why client to web --context paris,berlin
  kubectl linkspan why deployment/shop to berlin/pod/db-0:5432 -n shop --context paris,berlin
  kubectl linkspan why node/paris-1 to 10.52.1.9:80 --context paris,berlin -o json

Exit codes:
  0  nothing is broken
  1  a hop is broken, or an end was not found
  2  it could not run, for want of a kubeconfig that can be read, say
  3  nothing that was seen is broken, and something could not be seen
  64 wrong use of the command line";

/// Exit code where something could not be seen.
const UNSEEN: u8 = 3;
/// The namespace of cluster DNS.
const DNS_NAMESPACE: &str = "kube-system";

/// Tell why one end does not reach another, hop by hop.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    ends: Ends,
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    contexts: Contexts,
}

/// Both ends, as they are given.
#[derive(Debug, ClapArgs)]
pub(super) struct Ends {
    /// Who calls; or both ends in one argument, with -> between them.
    #[arg(value_name = "FROM")]
    from: String,
    /// `->` or `to`; may be left out.
    #[arg(value_name = "->", allow_hyphen_values = true)]
    arrow: Option<String>,
    /// Who is called.
    #[arg(value_name = "TO")]
    to: Option<String>,
}

impl Ends {
    /// The words in which they are told.
    pub(super) fn words(&self) -> Vec<&str> {
        [Some(&self.from), self.arrow.as_ref(), self.to.as_ref()].into_iter().flatten().map(String::as_str).collect()
    }
}

pub(super) async fn run(args: Args, speech: Speech) -> anyhow::Result<ExitCode> {
    let seen = look_between(&args.ends, &args.namespace, &args.contexts).await?;
    let Seen { picture, from, to, namespace, .. } = &seen;
    let story = match why(picture, from, to, namespace) {
        Ok(story) => story.spoken(&speech),
        Err(end) => return Ok(not_found(&end, UNSEEN, &speech)),
    };
    let text = match args.output {
        Format::Json => json(&story)?,
        Format::Yaml => yaml(&story)?,
        Format::Name => story.broken().map_or_else(String::new, |hop| format!("{}/{}\n", hop.cluster, hop.what)),
        Format::Table | Format::Wide => show(&story, args.output, Screen::of_stdout()),
    };
    super::print(&text)?;
    Ok(ExitCode::from(story.exit_code()))
}

/// Tells that an end was not found. `unseen` is the exit code where there may be one that could not be seen.
pub(super) fn not_found(end: &NotFound, unseen: u8, speech: &Speech) -> ExitCode {
    eprintln!("linkspan: {}", speech.spoken(&end.text));
    if end.may_be { ExitCode::from(unseen) } else { ExitCode::FAILURE }
}

/// What was seen between two ends.
pub(super) struct Seen {
    pub(super) targets: Vec<Target>,
    pub(super) picture: Picture,
    pub(super) from: End,
    pub(super) to: End,
    /// That of ends that name none.
    pub(super) namespace: String,
}

/// Reads FROM and TO, looks at all clusters, and asks the nodes that are on the way.
pub(super) async fn look_between(given: &Ends, namespace: &Namespace, contexts: &Contexts) -> anyhow::Result<Seen> {
    let (from, to) = ends(&given.words()).map_err(super::Misuse)?;
    let targets = contexts.targets().await?;
    let namespace = match (namespace.given(), targets.first()) {
        (Some(given), _) => given.to_owned(),
        (None, first) => first.map_or_else(|| "default".to_owned(), |target| target.namespace.clone()),
    };
    let progress = Progress::start("looking at clusters");
    let mut picture = look_into(&targets, &namespaces(&from, &to, &namespace)).await;
    let (from, to) = (end(&picture, &from)?, end(&picture, &to)?);
    progress.now("asking nodes");
    // The first answers tell addresses and links, which the second questions are about.
    for _ in 0..2 {
        let asked = questions(&picture, &from, &to, &namespace);
        ask(&targets, &mut picture, &asked).await;
    }
    Ok(Seen { targets, picture, from, to, namespace })
}

/// Where somebody may look who may not look everywhere: the namespaces of both ends, and those that tell of the way.
fn namespaces(from: &str, to: &str, default: &str) -> Vec<String> {
    let of_ends = [from, to].into_iter().flat_map(parse::namespaces);
    let others = [default, SYSTEM_NAMESPACE, DNS_NAMESPACE].map(str::to_owned);
    let mut all: Vec<String> = of_ends.chain(others).collect();
    all.sort();
    all.dedup();
    all
}

/// An end, now that the clusters are known.
fn end(picture: &Picture, text: &str) -> anyhow::Result<End> {
    let ids = picture.clusters.iter().filter_map(ClusterPicture::id);
    let known: Vec<&str> = picture.clusters.iter().map(|cluster| cluster.context.as_str()).chain(ids).collect();
    parse::end(text, &known).map_err(|error| match picture.clusters.iter().find_map(|cluster| cluster.id.unseen()) {
        // It may begin with an ID.
        Some(unseen) => anyhow!("{error}; contexts are known, and not all IDs of clusters: {}", unseen.why),
        None => super::Misuse(error).into(),
    })
}

/// FROM and TO, however they are set apart. Both can be read; which clusters they name is seen later.
fn ends(words: &[&str]) -> Result<(String, String), String> {
    let (from, to) = apart(words)?;
    for text in [&from, &to] {
        parse::check(text)?;
    }
    Ok((from, to))
}

fn apart(words: &[&str]) -> Result<(String, String), String> {
    let words: Vec<&str> = words.iter().flat_map(|word| word.split_whitespace()).collect();
    let is_arrow = |word: &str| matches!(word, "->" | "to" | "→" | "-");
    match words.as_slice() {
        [from, arrow, to] if is_arrow(arrow) => Ok(((*from).to_owned(), (*to).to_owned())),
        [from, to] => Ok(((*from).to_owned(), (*to).to_owned())),
        [one] if one.contains("->") => {
            let (from, to) = one.split_once("->").unwrap_or_default();
            Ok((from.to_owned(), to.to_owned()))
        }
        _ => Err("name two ends: FROM '->' TO, or FROM to TO".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn options_may_stand_behind_the_ends() {
        use clap::Parser as _;
        let options = ["-o", "json", "--kubeconfig", "x", "--kubeconfig", "y"];
        for words in [&["a", "->", "b"][..], &["a", "to", "b"], &["a", "b"], &["a -> b"]] {
            let line = Line::try_parse_from(["why"].iter().chain(words).chain(&options)).expect("a command line").args;
            let told = line.ends.words();
            assert_eq!((told.as_slice(), line.output), (words, Format::Json));
        }
    }

    #[test]
    fn both_ends_are_found_however_they_are_set_apart() {
        let read = |words: &[&str]| ends(words).ok();
        let expected = Some(("a".to_owned(), "b/c".to_owned()));
        for words in [&["a", "->", "b/c"][..], &["a", "to", "b/c"], &["a", "b/c"], &["a -> b/c"], &["a->b/c"]] {
            assert_eq!(read(words), expected, "{words:?}");
        }
        assert_eq!(read(&["a"]), None);
        assert_eq!(read(&["a", "b", "c"]), None);
        assert_eq!(read(&["a", "b:http"]), None, "a port is a number");
    }
}
