//! `linkspan controller`.

use clap::Args as ClapArgs;
use controller::members::{Overrides, default_pool};
use controller::services::validate::Policy;
use ipnet::IpNet;

use super::node::Http;
use crate::roles::controller::Settings;

const LONG: &str = "\
Join this cluster to its clusterset and keep exports, imports and DNS forwarding in step: the Deployment of deploy/member \
runs it twice, and the one that holds Lease linkspan-controller works.

Everything that it knows is in its own cluster's API server, so a restart needs no broker.";

const EXAMPLES: &str = "\
Examples:
  LINKSPAN_CLUSTER_ID=paris linkspan controller
  linkspan controller --cluster-id paris --http-port 9810

Environment:
  As the options; an empty value is none:
    LINKSPAN_CLUSTER_ID, LINKSPAN_POD_CIDRS, LINKSPAN_SERVICE_CIDRS, LINKSPAN_VIRTUAL_POOL,
    LINKSPAN_ALLOWED_PREFIXES, LINKSPAN_RESERVED_NAMESPACES, LINKSPAN_GATEWAY_SELECTOR,
    LINKSPAN_HTTP_PORT, POD_IP, POD_NAME
  Which API server, outside of a pod:
    KUBECONFIG";

/// Join this cluster to its clusterset, and keep exports and imports in step.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: super::env::Cluster,
    /// Name of this process, unlike those of its others. Default: POD_NAME, else the host name.
    #[arg(long, env = "POD_NAME", hide_env = true, value_name = "NAME")]
    name: Option<String>,
    /// Prefixes of all pods, with commas between. Default: found by themselves.
    #[arg(long, env = "LINKSPAN_POD_CIDRS", hide_env = true, value_name = "PREFIXES", value_parser = super::env::checked_prefixes)]
    pod_cidrs: Option<super::env::Checked>,
    /// Prefixes of all services, with commas between. Default: found by themselves.
    #[arg(long, env = "LINKSPAN_SERVICE_CIDRS", hide_env = true, value_name = "PREFIXES", value_parser = super::env::checked_prefixes)]
    service_cidrs: Option<super::env::Checked>,
    /// Prefixes from which virtual addresses are taken, with commas between; the same in all clusters, and used by none.
    /// Default: 100.64.0.0/10,fd92:e500:6d00::/40.
    #[arg(long, env = "LINKSPAN_VIRTUAL_POOL", hide_env = true, value_name = "PREFIXES", value_parser = super::env::prefixes)]
    virtual_pool: Option<super::env::Maybe<Vec<IpNet>>>,
    /// Prefixes in which those of all other clusters have to be, virtual ones too, with commas between. A cluster with
    /// others is refused. Default: all are allowed.
    #[arg(long, env = "LINKSPAN_ALLOWED_PREFIXES", hide_env = true, value_name = "PREFIXES", value_parser = super::env::prefixes)]
    allowed_prefixes: Option<super::env::Maybe<Vec<IpNet>>>,
    /// Namespaces from which nothing is exported and into which nothing is imported, with commas between; linkspan-system
    /// always is one. Default: kube-system,kube-public,kube-node-lease,linkspan-system.
    #[arg(long, env = "LINKSPAN_RESERVED_NAMESPACES", hide_env = true, value_name = "NAMES", value_parser = super::env::namespaces)]
    reserved_namespaces: Option<super::env::Maybe<Vec<String>>>,
    #[command(flatten)]
    gateways: super::env::Gateways,
    #[command(flatten)]
    http: Http,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let host = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let checked = |nets: Option<super::env::Checked>| nets.map_or_else(|| Ok(Vec::new()), |nets| nets.0);
    let settings = Settings {
        name: args.name.unwrap_or_else(host),
        cluster: args.cluster.id()?.parse()?,
        overrides: Overrides {
            pod_cidrs: checked(args.pod_cidrs),
            service_cidrs: checked(args.service_cidrs),
            virtual_pool: args.virtual_pool.and_then(|pool| pool.0).unwrap_or_else(default_pool),
            allowed: args.allowed_prefixes.and_then(|nets| nets.0).unwrap_or_default(),
        },
        gateways: args.gateways.selector,
        policy: args.reserved_namespaces.and_then(|names| names.0).map_or_else(Policy::default, Policy::reserving),
        listen: args.http.listen(),
    };
    super::runtime()?.block_on(crate::roles::controller::run(settings))
}
