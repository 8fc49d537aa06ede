//! `linkspan inspect`.

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use controller::node::{Arriving, Desired, Lookup};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::status::Output;
use crate::kubectl::inspect::{Here, Inspection, NameQuestion, Probe, Questions, inspect, table};
use crate::kubectl::output;
use crate::kubectl::picture::{Part, Unseen};
use crate::roles::node::kept_site;
use crate::site::Loaded;
use crate::status::{Report, socket};

const LONG: &str = "\
Show what the kernel of this node has that matters to Linkspan: links, routes and rules, what a pass would change, which way \
packets take, what the packet filter does to them, and who answers from here. Nothing is changed.

`kubectl linkspan diagnose` and `why` run it in the linkspan-node pods; it tells the state of the process there, too.";

const EXAMPLES: &str = "\
Examples:
  linkspan inspect
  linkspan inspect --to 10.52.1.9 --ping 10.52.1.9
  linkspan inspect --to 10.42.0.7 --from 10.52.1.9 --by linkspan0
  linkspan inspect --tcp 10.43.0.9:80 --service 10.43.0.9:80
  linkspan inspect --resolve web.default.svc.clusterset.local@10.43.0.10
  kubectl exec -n linkspan-system linkspan-node-x7k2p -- linkspan inspect -o json";

/// The longest line of questions that is read, in bytes.
const QUESTIONS_MAX: u64 = 16 << 20;

/// Show what this node's kernel has, and what is reached from here.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
    /// Which way packets to this address take; may be given again.
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<IpAddr>,
    /// Packets that come from this address, by the link of --by.
    #[arg(long, value_name = "ADDRESS", requires = "by")]
    from: Option<IpAddr>,
    /// The link by which they come.
    #[arg(long, value_name = "LINK", requires = "from")]
    by: Option<String>,
    /// Send echo requests; may be given again.
    #[arg(long, value_name = "ADDRESS")]
    ping: Vec<IpAddr>,
    /// Connect by TCP; may be given again.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: Vec<SocketAddr>,
    /// Whether kube-proxy carries this address of a service; may be given again.
    #[arg(long, value_name = "ADDRESS:PORT")]
    service: Vec<SocketAddr>,
    /// Ask a name server for the addresses of a name; may be given again.
    #[arg(long, value_name = "NAME@SERVER", value_parser = name_question)]
    resolve: Vec<NameQuestion>,
    /// All questions in JSON, as `kubectl linkspan` asks them; - for one line of standard input.
    #[arg(long, value_name = "JSON", hide = true)]
    questions: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Which node this is.
#[derive(Debug, ClapArgs)]
pub(super) struct Place {
    /// The site file, on a node without Kubernetes.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    node: super::node::NodeOptions,
}

impl Place {
    /// What this node shall be: from the site file, or from what is kept of the API server's word.
    ///
    /// # Errors
    /// There is neither, or it is of no use.
    pub(super) fn desired(self) -> anyhow::Result<Desired> {
        let loaded = match &self.config {
            Some(file) => Loaded::read(file, &self.node.name()?)?,
            None => {
                let known = self.node.settings();
                let (settings, node) = known.context("on a node without Kubernetes, --config is needed")?;
                kept_site(&settings, &node)?
            }
        };
        Ok(crate::run::plan_now(&loaded).context("the site cannot be planned")?.desired)
    }
}

/// Reads all questions. Of standard input one line is read, and not all: not every API server passes its end on.
fn questions(text: &str, input: impl BufRead) -> anyhow::Result<Questions> {
    let mut line = String::new();
    let text = if text == "-" {
        input.take(QUESTIONS_MAX).read_line(&mut line).context("failed to read the questions from standard input")?;
        &line
    } else {
        text
    };
    serde_json::from_str(text).context("the questions are no JSON of this version of linkspan")
}

fn name_question(text: &str) -> Result<NameQuestion, String> {
    let expected = || format!("{text:?} is not of the form web.default.svc.clusterset.local@10.43.0.10");
    let (name, server) = text.split_once('@').ok_or_else(expected)?;
    let server =
        server.parse().or_else(|_| server.parse().map(|ip| SocketAddr::new(ip, 53))).map_err(|_| expected())?;
    Ok(NameQuestion { server, name: name.to_owned(), v6: false })
}

/// What is printed for programs: fields are added, never renamed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    status: Part<Report>,
    inspection: Inspection,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let questions = asked(&args)?;
    let format = args.output;
    let status = status(args.place.node.socket().to_owned()).await;
    let here = Here {
        desired: args.place.desired().map_err(|error| format!("{error:#}")),
        clock: Timestamp::now().as_millisecond(),
    };
    let inspection = inspect(&here, &questions).await;
    let text = match format {
        Output::Table | Output::Wide => table(&inspection),
        Output::Json => output::json(&Printed { status, inspection })?,
        Output::Yaml => output::yaml(&Printed { status, inspection })?,
    };
    super::print(&text)
}

fn asked(args: &Args) -> anyhow::Result<Questions> {
    let given = args.questions.as_deref().map(|text| questions(text, std::io::stdin().lock())).transpose()?;
    let mut asked = given.unwrap_or_default();
    let arriving = || Some(Arriving { from: args.from?, link: args.by.clone()? });
    asked.lookups.extend(args.to.iter().map(|to| Lookup { to: *to, arriving: arriving() }));
    asked.probes.extend(args.ping.iter().map(|to| Probe::Ping { to: *to, size: 0 }));
    asked.probes.extend(args.tcp.iter().map(|to| Probe::Tcp { to: *to }));
    asked.services.extend(&args.service);
    asked.names.extend(args.resolve.iter().cloned());
    Ok(asked)
}

async fn status(path: PathBuf) -> Part<Report> {
    let read = tokio::task::spawn_blocking(move || socket::read(&path)).await;
    let unseen = |why: String| Part::Unseen(Unseen { what: "the process on this node".to_owned(), why });
    match read {
        Ok(Ok(report)) => Part::Seen(report),
        Ok(Err(error)) => unseen(format!("{error:#}")),
        Err(_) => unseen("reading its status was interrupted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_an_argument_or_one_line_of_an_input_that_stays_open() {
        let text = r#"{"services":["10.43.0.9:80"]}"#;
        let expected = Questions { services: vec!["10.43.0.9:80".parse().expect("valid")], ..Questions::default() };
        assert_eq!(questions(text, std::io::empty()).expect("an argument"), expected);
        let (read, mut written) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut written, format!("{text}\n").as_bytes()).expect("it takes a line");
        assert_eq!(questions("-", std::io::BufReader::new(read)).expect("a line"), expected);
        drop(written);
        let error = questions("-", std::io::empty()).expect_err("there is no line").to_string();
        assert_eq!(error, "the questions are no JSON of this version of linkspan");
    }
}
