//! `linkspan dns`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args as ClapArgs;

use super::node::Http;
use crate::roles::dns::Settings;

const LONG: &str = "\
Answer for clusterset.local from the ServiceImports of this cluster: the Deployment of deploy/member runs it, and cluster
DNS forwards to its Service.

Names follow imports, endpoints and paths within a moment. Until all is known once, answers are SERVFAIL; while the API
server is away, the last names are served.";

const EXAMPLES: &str = "\
Examples:
  linkspan dns --listen-port 5353
  linkspan dns --address 127.0.0.1 --listen-port 5353 &
  dig @127.0.0.1 -p 5353 web.default.svc.clusterset.local

Environment:
  POD_IP, LINKSPAN_HTTP_PORT, LINKSPAN_CLUSTER_ID: as the options; an empty value is none.
  KUBECONFIG: which API server, outside of a pod.";

/// Answer for clusterset.local from the Kubernetes API.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// This cluster's ID, for metrics.
    #[arg(long, env = "LINKSPAN_CLUSTER_ID", hide_env = true, value_name = "ID", default_value = "")]
    cluster_id: String,
    /// Address to answer on. Default: that of the pod, else all.
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,
    /// UDP and TCP port to answer on.
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    listen_port: u16,
    /// Seconds for which answers may be kept, 1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    ttl: u32,
    /// The zone.
    #[arg(long, value_name = "DOMAIN", default_value = "clusterset.local")]
    zone: String,
    #[command(flatten)]
    http: Http,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let pod = args.http.address().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let addresses = if args.address.is_empty() { vec![pod] } else { args.address };
    let origin = args.zone.parse().map_err(|error| anyhow::anyhow!("--zone: {error}"))?;
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let settings = Settings {
        name,
        cluster: args.cluster_id,
        serve_on: addresses.into_iter().map(|address| SocketAddr::new(address, args.listen_port)).collect(),
        listen: args.http.listen(),
        origin,
        ttl: args.ttl,
    };
    super::runtime()?.block_on(crate::roles::dns::run(settings))
}
