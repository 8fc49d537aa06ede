//! `linkspan node`.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;

use super::run::NodeName;
use crate::roles::node::Settings;
use crate::run::{AtExit, Options, Source};

const LONG: &str = "\
Join this node to the clusters that its own cluster's API server names: the DaemonSet of deploy/member runs it on every \
node.

It does what `linkspan run` does, with Members, Nodes and the gateway Lease of namespace linkspan-system in the place of a \
site file. Nodes with the label linkspan.dev/gateway=true end tunnels; where none has it, two ready nodes are chosen. One \
of them is active, and the other takes over when it is lost. The private key is made on the node and stays there.

While the API server is away everything keeps running; a node that starts meanwhile begins with what was kept on disk.";

const EXAMPLES: &str = "\
Examples:
  LINKSPAN_CLUSTER_ID=paris NODE_NAME=paris-1 linkspan node
  linkspan node --cluster-id paris --node paris-1 --http-port 9810

Environment:
  As the options; an empty value is none:
    LINKSPAN_CLUSTER_ID, LINKSPAN_STATE, LINKSPAN_SOCKET, LINKSPAN_GATEWAY_SELECTOR,
    LINKSPAN_PORT, LINKSPAN_LANES, LINKSPAN_MTU, LINKSPAN_HTTP_PORT, POD_IP, NODE_NAME
  Which API server, outside of a pod:
    KUBECONFIG";

/// Join this node to the clusters that the Kubernetes API names.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    options: NodeOptions,
    #[command(flatten)]
    http: Http,
}

/// What a node is, as its environment says.
#[derive(Debug, ClapArgs)]
pub(super) struct NodeOptions {
    #[command(flatten)]
    cluster: super::env::Cluster,
    #[command(flatten)]
    node: NodeName,
    /// Folder of the private key and of the last site, of this node alone.
    #[arg(long, env = "LINKSPAN_STATE", hide_env = true, value_name = "FOLDER", default_value = "/var/lib/linkspan")]
    state: PathBuf,
    /// The status socket.
    #[arg(long, env = "LINKSPAN_SOCKET", hide_env = true, value_name = "PATH", default_value = crate::site::DEFAULT_SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    gateways: super::env::Gateways,
    /// UDP port for the gateways of other clusters, the same on all nodes.
    #[arg(long, env = "LINKSPAN_PORT", hide_env = true, value_name = "PORT", default_value_t = 51820, value_parser = clap::value_parser!(u16).range(1..=65534))]
    port: u16,
    /// Threads that encrypt, 1 to 16. Default: one for each CPU core, at most 4.
    #[arg(long, env = "LINKSPAN_LANES", hide_env = true, value_name = "NUMBER", value_parser = super::env::lanes)]
    lanes: Option<super::env::Maybe<NonZeroU8>>,
    /// Largest packet in the tunnel in bytes. Default: that of the link to the other clusters, less 80.
    #[arg(long, env = "LINKSPAN_MTU", hide_env = true, value_name = "BYTES", value_parser = super::env::mtu)]
    mtu: Option<super::env::Maybe<u16>>,
}

impl NodeOptions {
    /// The settings, and the node's name.
    pub(super) fn settings(self) -> anyhow::Result<(Settings, String)> {
        let settings = Settings {
            cluster: self.cluster.id()?,
            state: self.state,
            socket: self.socket,
            gateways: self.gateways.selector,
            port: self.port,
            lanes: self.lanes.and_then(|lanes| lanes.0),
            mtu: self.mtu.and_then(|mtu| mtu.0),
            ..Settings::default()
        };
        Ok((settings, self.node.resolve()?))
    }

    /// The node's name alone.
    pub(super) fn name(self) -> anyhow::Result<String> {
        self.node.resolve()
    }

    /// The status socket.
    pub(super) fn socket(&self) -> &std::path::Path {
        &self.socket
    }
}

/// Where metrics and probes are served.
#[derive(Debug, ClapArgs)]
pub(super) struct Http {
    /// Port for /metrics, /healthz and /readyz. Default: none.
    #[arg(long, env = "LINKSPAN_HTTP_PORT", hide_env = true, value_name = "PORT")]
    http_port: Option<u16>,
    /// Address for them. Default: POD_IP, else all.
    #[arg(long, env = "POD_IP", hide_env = true, value_name = "ADDRESS")]
    http_address: Option<IpAddr>,
}

impl Http {
    /// The address alone.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.http_address
    }

    /// The address, if there is to be one.
    pub(super) fn listen(&self) -> Option<SocketAddr> {
        let address = self.http_address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        self.http_port.map(|port| SocketAddr::new(address, port))
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let (settings, node) = args.options.settings()?;
    let settings = Settings { listen: args.http.listen(), ..settings };
    let options = Options { source: Source::Cluster(Arc::new(settings)), node, at_exit: AtExit::Keep };
    super::runtime()?.block_on(crate::run::run(options))
}
