//! What the command line and the ConfigMap tell a node.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;

use controller::members::Selector;

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster's ID.
    pub cluster: String,
    /// Folder of the private key and of what is kept for a start without the API server.
    pub state: PathBuf,
    /// Unix socket of `linkspan status`.
    pub socket: PathBuf,
    /// Address of metrics and probes.
    pub listen: Option<SocketAddr>,
    /// Which nodes people have made gateways.
    pub gateways: Selector,
    /// Name of the TUN link.
    pub link: String,
    /// UDP port for the other clusters' gateways.
    pub port: u16,
    /// Lanes; none: chosen at start.
    pub lanes: Option<NonZeroU8>,
    /// MTU of the TUN link; none: chosen at start.
    pub mtu: Option<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            state: PathBuf::from("/var/lib/linkspan"),
            socket: PathBuf::from(crate::site::DEFAULT_SOCKET),
            listen: None,
            gateways: Selector::default(),
            link: "linkspan0".to_owned(),
            port: 51820,
            lanes: None,
            mtu: None,
        }
    }
}

impl Settings {
    /// File with the node's private key.
    pub fn key_file(&self) -> PathBuf {
        self.state.join("private.key")
    }

    /// File with the last facts.
    pub fn facts_file(&self) -> PathBuf {
        self.state.join("facts.json")
    }
}
