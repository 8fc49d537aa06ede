//! What a zone is made of: exported services, as plain values.

use std::fmt;
use std::net::IpAddr;

/// One exported service of the clusterset, as the viewing cluster sees it.
///
/// Several values with the same namespace and name are one service: their addresses, endpoints and ports are united,
/// and a clusterset IP wins over headless. Endpoints have the ports of the values that they are in, and no others: what
/// clusters export under one name need not have the same ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Kubernetes namespace: an RFC 1123 label.
    pub namespace: String,
    /// Service name: an RFC 1123 label.
    pub name: String,
    /// Where its name points.
    pub kind: ServiceKind,
    /// The ports that `SRV` answers tell. A port without a name has no `SRV` record.
    pub ports: Vec<Port>,
}

/// The two types of a ServiceImport.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceKind {
    /// The name points at the clusterset IPs.
    ClusterSetIp {
        /// Clusterset IPs of both families, in any order.
        ips: Vec<IpAddr>,
    },
    /// The name points at every ready endpoint, and each endpoint has a name of its own.
    Headless {
        /// Endpoints of all exporting clusters, in any order.
        endpoints: Vec<Endpoint>,
    },
}

/// One backend of a headless service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// ID of the cluster that exports it: an RFC 1123 label.
    pub cluster: String,
    /// The endpoint's own host name, an RFC 1123 label. Without one, each of its addresses is a name (`10-1-2-3`).
    pub hostname: Option<String>,
    /// Its addresses, as the viewing cluster reaches them.
    pub addresses: Vec<IpAddr>,
    /// Whether it may be named: an endpoint that is not ready is in no answer.
    pub ready: bool,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Port name; `None` or empty for the single port of a service that needs none.
    pub name: Option<String>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port number of the service, 1 to 65 535; not that of its endpoints, which may listen at another one.
    pub number: u16,
}

/// Transport protocols of Kubernetes service ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, `_tcp` in names.
    Tcp,
    /// UDP, `_udp` in names.
    Udp,
    /// SCTP, `_sctp` in names.
    Sctp,
}

impl Protocol {
    /// The label that names the protocol in `SRV` owner names (RFC 2782).
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Tcp => "_tcp",
            Self::Udp => "_udp",
            Self::Sctp => "_sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}
