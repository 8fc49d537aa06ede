//! `linkspan crds`.

use clap::Args as ClapArgs;

const EXAMPLES: &str = "\
Examples:
  linkspan crds | kubectl apply --server-side -f -

deploy/crds has these and those of the Multi-Cluster Services API; it is applied before deploy/member and deploy/broker.";

/// Print the definitions of Linkspan's own Kubernetes objects.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

pub(super) fn run(_: Args) -> anyhow::Result<()> {
    let mut text = String::new();
    for crd in controller::api::crds() {
        // By way of JSON values, whose fields are sorted.
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&serde_json::to_value(&crd)?)?);
    }
    super::print(&text)
}
