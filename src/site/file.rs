//! The site file as it is written: field names, defaults and documentation, nothing checked beyond its shape.
//!
//! The JSON Schema for editors (`linkspan schema`) is made from these types and their comments.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

/// A value with the line and column where it stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent, bound = "T: de::DeserializeOwned")]
pub struct At<T>(Spanned<T>);

impl<T> At<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.0.value
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        Position { line: self.0.referenced.line(), column: self.0.referenced.column() }
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A place in the file, counted from 1; 0 when it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// `auto`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOr {
    /// Chosen at start.
    #[default]
    Auto,
    /// Chosen by the file.
    Number(u64),
}

impl<'de> Deserialize<'de> for AutoOr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = AutoOr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a whole number")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<AutoOr, E> {
                Ok(AutoOr::Number(number))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<AutoOr, E> {
                u64::try_from(number)
                    .map(AutoOr::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<AutoOr, E> {
                match text {
                    "auto" => Ok(AutoOr::Auto),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for AutoOr {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AutoOrNumber".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "oneOf": [{ "const": "auto" }, { "type": "integer", "minimum": 0 }] })
    }
}

/// One site of a clusterset: this cluster, its nodes, its peers and what each side exports. The same file serves every
/// node of the cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Linkspan site file")]
pub struct SiteFile {
    /// This cluster's ID, unique in the clusterset: one RFC 1123 label of at most 63 characters.
    pub cluster: At<String>,
    /// File with this cluster's private key as `linkspan genkey` prints it. Read on gateway nodes only. Relative names
    /// start at the site file's folder.
    pub private_key_file: Option<At<String>>,
    /// Which addresses the cluster uses.
    pub network: NetworkFile,
    /// The cluster's nodes. Exactly one is the gateway.
    pub nodes: Vec<NodeFile>,
    /// How tunnels are made.
    #[serde(default)]
    pub tunnel: TunnelFile,
    /// Where names are served.
    #[serde(default)]
    pub dns: DnsFile,
    /// Where the process tells about itself.
    #[serde(default)]
    pub status: StatusFile,
    /// Services of this cluster that the clusterset may use.
    #[serde(default)]
    pub exports: Vec<ExportFile>,
    /// The other clusters.
    #[serde(default)]
    pub peers: Vec<PeerFile>,
}

/// Which addresses the cluster uses.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkFile {
    /// The prefixes of all pods, for example `10.42.0.0/16`.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<At<String>>,
    /// The prefixes of all service addresses, for example `10.43.0.0/16`.
    #[serde(rename = "serviceCIDRs", default)]
    pub service_cidrs: Vec<At<String>>,
    /// By which other addresses the other clusters know this one, where they have the same prefixes as this one: each
    /// prefix in `native` is known as the one in `virtual`, host by host. Default: none.
    #[serde(default)]
    pub r#virtual: Vec<VirtualFile>,
}

/// A prefix of this cluster, and by which one the other clusters know it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualFile {
    /// The prefix as this cluster uses it, inside its podCIDRs or serviceCIDRs, for example `10.42.0.0/16`.
    pub native: At<String>,
    /// The prefix by which the others know it, of the same length and nobody else's, for example `100.64.0.0/16`.
    pub r#virtual: At<String>,
}

/// One node of the cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeFile {
    /// The node's name; `linkspan run` finds its own by `--node`, `NODE_NAME` or the host name.
    pub name: At<String>,
    /// The node's own address, under which the other nodes of the cluster reach it.
    pub address: At<String>,
    /// Whether the node ends the cluster's tunnels.
    #[serde(default)]
    pub gateway: bool,
    /// The prefixes of the pods on this node.
    #[serde(rename = "podCIDRs", default)]
    pub pod_cidrs: Vec<At<String>>,
}

/// How tunnels are made.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TunnelFile {
    /// Name of the TUN link, 1 to 15 characters. Default: `linkspan0`.
    pub link: Option<At<String>>,
    /// UDP port for Linkspan peers. Default: 51820.
    pub listen_port: Option<At<u64>>,
    /// UDP port for peers that speak plain WireGuard; it is opened only when there is one. Default: 51821.
    pub vanilla_port: Option<At<u64>>,
    /// Threads that encrypt, 1 to 16. `auto` (the default): one per CPU core, at most 4.
    pub lanes: Option<At<AutoOr>>,
    /// Largest packet in the tunnel in bytes, 1280 to 9216. `auto` (the default): that of the link to the peers, less
    /// the 80 bytes that WireGuard over IPv6 adds.
    pub mtu: Option<At<AutoOr>>,
    /// The traffic class of the encrypted packets: `zero` (the default) or `copy` from the packet inside.
    pub dscp: Option<DscpFile>,
    /// Kernel offloads to do without; each is probed at start and on by default.
    #[serde(default)]
    pub offloads: OffloadsFile,
}

/// The traffic class of encrypted packets.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DscpFile {
    /// Always zero.
    Zero,
    /// As the packet inside.
    Copy,
}

/// Offloads that may be used.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OffloadsFile {
    /// TCP segmentation on the TUN link.
    pub tun_tso: Option<bool>,
    /// UDP segmentation on the TUN link (Linux 6.2).
    pub tun_uso: Option<bool>,
    /// UDP segmentation on sending.
    pub udp_gso: Option<bool>,
    /// UDP coalescing on receiving.
    pub udp_gro: Option<bool>,
    /// Steering of datagrams to lanes in the kernel. Without it there is one lane.
    pub steering: Option<bool>,
}

/// Where names are served.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsFile {
    /// Addresses and ports to answer on, for example `10.42.0.1:53`. Each node serves on those that are its own: its
    /// address, one inside its pod CIDRs, or a loopback or unspecified address. Default: none.
    #[serde(default)]
    pub listen: Vec<At<String>>,
    /// The zone. Default: `clusterset.local`.
    pub zone: Option<At<String>>,
    /// Seconds for which answers may be kept, 1 to 3600. Default: 5.
    pub ttl: Option<At<u64>>,
}

/// Where the process tells about itself.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusFile {
    /// Unix socket for `linkspan status`; a relative name starts at the site file's folder. Default: `/run/linkspan/linkspan.sock`.
    pub socket: Option<At<String>>,
    /// Address and port for `/metrics`, `/healthz` and `/readyz`. Default: none.
    pub listen: Option<At<String>>,
}

/// A service that its cluster lets the clusterset use.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportFile {
    /// Name of the service.
    pub name: At<String>,
    /// Namespace of the service.
    pub namespace: At<String>,
    /// `ClusterSetIP`, with `ips`, or `Headless`, with `endpoints`.
    #[serde(rename = "type")]
    pub kind: ExportType,
    /// The service's addresses; at most one of each family.
    #[serde(default)]
    pub ips: Vec<At<String>>,
    /// The service's ports.
    #[serde(default)]
    pub ports: Vec<PortFile>,
    /// The pods behind a headless service.
    #[serde(default)]
    pub endpoints: Vec<BackendFile>,
}

/// How a service is reached, in the words of the Multi-Cluster Services API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ExportType {
    /// By an address of its own.
    ClusterSetIP,
    /// By the addresses of its pods.
    Headless,
}

/// A port of a service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortFile {
    /// Name of the port; may be left out when it is the only one.
    pub name: Option<At<String>>,
    /// `TCP` (the default), `UDP` or `SCTP`.
    pub protocol: Option<Protocol>,
    /// Number, 1 to 65535.
    pub port: At<u64>,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

/// A pod behind a headless service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendFile {
    /// Its host name, when it has a name of its own under the service.
    pub hostname: Option<At<String>>,
    /// Its addresses.
    pub addresses: Vec<At<String>>,
    /// Whether it may be used now. Default: true.
    pub ready: Option<bool>,
}

/// Another cluster, or a WireGuard peer of another make.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerFile {
    /// The other cluster's ID.
    pub cluster: At<String>,
    /// Its public key, as `linkspan pubkey` prints it.
    pub public_key: At<String>,
    /// Its address and UDP port, for example `198.51.100.7:51820`. Left out, the peer has to call first.
    pub endpoint: Option<At<String>>,
    /// The prefixes that are reached through it: its pods and services.
    #[serde(rename = "allowedIPs")]
    pub allowed_ips: Vec<At<String>>,
    /// Lanes of the other gateway, 1 to 16; both ends use the smaller number. Default: as many as this one.
    pub lanes: Option<At<u64>>,
    /// File with a key that both ends share on top, as `wg genpsk` prints it.
    pub preshared_key_file: Option<At<String>>,
    /// Seconds between packets that hold a NAT mapping open, 1 to 65535; 0 (the default) sends none. 25 suits most
    /// NAT devices when this side is the one behind it.
    pub persistent_keepalive: Option<At<u64>>,
    /// Whether that cluster knows this one by the addresses in network.virtual rather than by its own. Default: true
    /// where there are any. A connection is answered from the addresses by which its peer knows this cluster.
    pub knows_us_by_virtual: Option<At<bool>>,
    /// Whether the peer is a plain WireGuard rather than a Linkspan. Default: false.
    #[serde(default)]
    pub vanilla: bool,
    /// Services of that cluster that this one may use.
    #[serde(default)]
    pub exports: Vec<ExportFile>,
}
