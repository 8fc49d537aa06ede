//! `linkspan dns`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args as ClapArgs;

use super::node::Http;
use crate::roles::dns::Settings;

const LONG: &str = "\
Answer for clusterset.local from the ServiceImports of this cluster: the Deployment of deploy/member runs it, and cluster \
DNS forwards to its Service.

Names follow imports, endpoints and paths within a moment. Until all is known once, answers are SERVFAIL; while the API \
server is away, the last names are served.";

const EXAMPLES: &str = "\
Examples:
  linkspan dns --listen-port 5353
  linkspan dns --address 127.0.0.1 --listen-port 5353 &
  dig @127.0.0.1 -p 5353 web.default.svc.clusterset.local

Environment:
  As the options; an empty value is none:
    POD_IP, POD_IPS, LINKSPAN_HTTP_PORT, LINKSPAN_CLUSTER_ID
  Which API server, outside of a pod:
    KUBECONFIG";

/// Answer for clusterset.local from the Kubernetes API.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// This cluster's ID, for metrics.
    #[arg(long, env = "LINKSPAN_CLUSTER_ID", hide_env = true, value_name = "ID", default_value = "")]
    cluster_id: String,
    /// Address to answer on. Default: those of the pod, else all.
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,
    /// Addresses of the pod, one for each family, with commas.
    #[arg(long, env = "POD_IPS", hide_env = true, value_name = "ADDRESSES", default_value = "", value_parser = addresses)]
    pod_ips: PodIps,
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

/// Addresses of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PodIps(Vec<IpAddr>);

fn addresses(text: &str) -> Result<PodIps, String> {
    let parse = |part: &str| part.parse().map_err(|_| format!("{part:?} is no IP address"));
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(parse).collect::<Result<_, _>>().map(PodIps)
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let pod = args.http.address().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let told = [args.address, args.pod_ips.0, vec![pod]];
    let addresses = told.into_iter().find(|told| !told.is_empty()).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_an_address_for_each_family_or_none_yet() {
        let ips = |texts: &[&str]| Ok(PodIps(texts.iter().map(|text| text.parse().expect("valid")).collect()));
        assert_eq!(addresses("10.42.0.7,fd42::7"), ips(&["10.42.0.7", "fd42::7"]));
        assert_eq!(addresses("10.42.0.7"), ips(&["10.42.0.7"]));
        assert_eq!(addresses(""), ips(&[]));
        assert_eq!(addresses("10.42.0.7,x"), Err("\"x\" is no IP address".to_owned()));
    }
}
