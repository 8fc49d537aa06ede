//! What a device is asked to be: a plain value that is planned elsewhere, compared, and applied whole.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU16};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::IpNet;
use serde::Serialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most lanes that a device may have. The low byte of a session index names the lane; beyond 16, a virtual Ethernet
/// device below no longer gains from more.
pub const MAX_LANES: u8 = 16;

/// Largest MTU of the TUN link in bytes: jumbo frames.
pub const MAX_MTU: u16 = 9216;
/// Smallest MTU of the TUN link in bytes: what IPv6 needs (RFC 8200, section 5).
pub const MIN_MTU: u16 = 1280;

/// Most peers that a device may have: the peer's slot is the upper 16 of the 24 index bits that boringtun leaves to us.
pub const MAX_PEERS: usize = 1 << 16;

/// Everything that a device does, as one value. Applying an equal value twice does nothing the second time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the TUN link, 1 to 15 bytes (`IFNAMSIZ` of `linux/if.h`, less the terminating zero).
    pub link: String,
    /// The gateway's static key, shared by all its lanes.
    pub private_key: PrivateKey,
    /// UDP port on which Linkspan peers reach all lanes. 0 lets the kernel choose.
    pub listen_port: u16,
    /// UDP port for vanilla WireGuard peers, served by lane 0; `None` when there are none.
    pub vanilla_port: Option<u16>,
    /// How many lanes (threads, TUN queues, sockets) this device has, 1 to [`MAX_LANES`].
    pub lanes: NonZeroU8,
    /// MTU of the TUN link in bytes: the largest inner packet before path-MTU search lowers a peer's own, [`MIN_MTU`] to [`MAX_MTU`].
    pub mtu: u16,
    /// The outer DSCP of data: copied from the inner packet, or 0 as kernel WireGuard sends it.
    pub dscp: Dscp,
    /// Which offloads may be used. An allowed offload is still probed at start and dropped when it fails.
    pub offloads: Offloads,
    /// Prefixes of this cluster that others know by virtual addresses. Neither the native nor the virtual ones overlap
    /// each other. Empty where nobody has the same addresses.
    pub translation: Vec<Translation>,
    /// Whether who knows this cluster by virtual addresses does so in both families. If not, a family without any leaves from
    /// native ones.
    pub families_together: bool,
    /// Peers, in any order; keys are unique.
    pub peers: Vec<Peer>,
}

/// One prefix and what others call it: the same host bits behind another prefix. Only the gateway of the cluster that
/// has it translates; the other ends know virtual addresses alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Translation {
    /// As this cluster uses it.
    pub native: IpNet,
    /// As others know it: of the same family and length.
    pub r#virtual: IpNet,
}

impl Translation {
    /// Whether both are of one family and length, so that each host has its counterpart.
    pub fn is_one_to_one(&self) -> bool {
        self.native.addr().is_ipv4() == self.r#virtual.addr().is_ipv4()
            && self.native.prefix_len() == self.r#virtual.prefix_len()
    }
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.native, self.r#virtual)
    }
}

/// One gateway at the other end, or one vanilla WireGuard peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What people call it: the cluster ID of a Member, or a free name. Appears in status, metrics and logs.
    pub name: String,
    /// The peer's static public key.
    pub public_key: PublicKey,
    /// Optional symmetric key mixed into the handshake.
    pub preshared_key: Option<PresharedKey>,
    /// Where handshakes are first sent; `None` waits for the peer to call. Roaming replaces it at run time.
    pub endpoint: Option<SocketAddr>,
    /// Inner prefixes that are sent to the peer and accepted from it (cryptokey routing).
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives that hold a NAT mapping open; `None` sends none.
    pub persistent_keepalive: Option<NonZeroU16>,
    /// Whether the other end speaks lanes and probes.
    pub kind: PeerKind,
    /// By which addresses it knows this cluster.
    pub knows_us_by: Addresses,
}

/// By which of its addresses a cluster is known to a peer. A peer knows it by one kind alone, so that a reply goes back to
/// the address that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addresses {
    /// Its own. What the peer sends to virtual ones arrives, but is answered from native ones.
    #[default]
    Native,
    /// Those of [`Config::translation`]. What has a source in none of its prefixes is dropped: it could not be answered. Where
    /// families do not go together ([`Config::families_together`]), one without any prefix is known by native addresses.
    Virtual,
}

/// Whether a peer is a Linkspan gateway or any other WireGuard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// A Linkspan gateway with this many lanes; both ends use the smaller number.
    Linkspan {
        /// Lanes of the other gateway, 1 to [`MAX_LANES`].
        lanes: NonZeroU8,
    },
    /// Any WireGuard: one session, on the vanilla port, without path probes.
    Vanilla,
}

/// Outer DSCP of data packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dscp {
    /// Always 0: does not tell an observer which traffic is urgent (as kernel WireGuard).
    #[default]
    Zero,
    /// The inner packet's class, for uplinks that schedule by it.
    Copy,
}

/// Which offloads a device may use; each falls back on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// `IFF_VNET_HDR` with TCP segmentation on the TUN queue.
    pub tun_tso: bool,
    /// UDP segmentation on the TUN queue (Linux 6.2). Needs [`Offloads::tun_tso`].
    pub tun_uso: bool,
    /// `UDP_SEGMENT` on sending.
    pub udp_gso: bool,
    /// `UDP_GRO` on receiving.
    pub udp_gro: bool,
    /// Steering of datagrams to lanes by a classic BPF program on the `SO_REUSEPORT` group. Off means one lane.
    pub steering: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        Self { tun_tso: true, tun_uso: true, udp_gso: true, udp_gro: true, steering: true }
    }
}

/// A key string that is not 32 bytes of base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WireGuard key is 44 characters of base64 for 32 bytes, as `wg genkey` and `wg pubkey` print it")]
pub struct KeyError;

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    let mut bytes = BASE64.decode(text.trim()).map_err(|_| KeyError)?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| KeyError);
    bytes.zeroize();
    key
}

/// A static public key; prints as base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl std::str::FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A static private key. Wiped on drop, and prints as `(secret)` only.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

impl PrivateKey {
    /// Takes 32 random bytes as a key; X25519 clamps them on use (RFC 7748, section 5).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let secret = boringtun::x25519::StaticSecret::from(self.0);
        PublicKey(boringtun::x25519::PublicKey::from(&secret).to_bytes())
    }

    /// The key as text, for the one place that writes a key file.
    pub fn dangerously_to_base64(&self) -> String {
        BASE64.encode(self.0)
    }

    pub(crate) fn secret(&self) -> boringtun::x25519::StaticSecret {
        boringtun::x25519::StaticSecret::from(self.0)
    }
}

impl std::str::FromStr for PrivateKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A symmetric key shared with one peer. Wiped on drop, and prints as `(secret)` only.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

impl PresharedKey {
    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl std::str::FromStr for PresharedKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_wg_prints_them_and_secrets_never_print() {
        // `wg genkey` and `wg pubkey` printed this pair.
        let private: PrivateKey = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=".parse().expect("valid");
        assert_eq!(private.public_key().to_string(), "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=");
        assert_eq!(format!("{private:?}"), "(secret)");
        assert_eq!("short".parse::<PublicKey>(), Err(KeyError));
    }
}
