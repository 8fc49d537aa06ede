//! `linkspan uninstall`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args as ClapArgs;

use crate::site;

const LONG: &str = "\
Remove every link, address, route, rule and nftables table of Linkspan from this node. What others made is not touched.
`linkspan run` must have been stopped: it would make everything anew.";

const EXAMPLES: &str = "\
Examples:
  systemctl stop linkspan && linkspan uninstall --config /etc/linkspan/site.yaml";

/// Remove everything of Linkspan from this node's network.
#[derive(Debug, ClapArgs)]
#[command(visible_alias = "cleanup", long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// The site file, for the names of the TUN link and the status socket. Without one, the default names are taken.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of a TUN link to remove too, even if it lacks Linkspan's mark.
    #[arg(long, value_name = "NAME")]
    link: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let mut link = "linkspan0".to_owned();
    let mut socket = PathBuf::from(site::DEFAULT_SOCKET);
    if let Some(file) = &args.config {
        let parsed = site::read(file)?;
        socket = site::beside(file, &parsed.status.socket);
        link = parsed.tunnel.link;
    }
    if crate::status::socket::read(&socket).is_ok() {
        bail!("`linkspan run` still runs here ({} answers); stop it first", socket.display());
    }
    let links = args.link.into_iter().chain([link]).collect();
    let removed = super::runtime()?.block_on(crate::run::uninstall(links))?;
    match removed.len() {
        0 => super::print("nothing of Linkspan was there\n"),
        count => super::print(&format!("{}\nremoved {count} objects\n", removed.join("\n"))),
    }
}
