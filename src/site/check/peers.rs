//! Peers: keys, endpoints, and what each may export.

use std::num::NonZeroU16;
use std::path::PathBuf;

use tunnel::config::{Addresses, MAX_PEERS, PublicKey};

use super::super::file::{At, PeerFile};
use super::super::types::Peer;
use super::{Checker, values};

/// Whether the cluster has virtual addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Translated {
    Yes,
    No,
}

impl Checker {
    /// Checks the peers of the cluster `own`, of which some prefix is `translated` or none.
    pub(super) fn peers(&mut self, peers: &[PeerFile], own: &At<String>, translated: Translated) -> Vec<Peer> {
        let names = peers.iter().enumerate().map(|(i, peer)| (format!("peers[{i}].cluster"), &peer.cluster));
        self.unique(std::iter::once(("cluster".to_owned(), own)).chain(names));
        let keys = peers.iter().enumerate();
        self.unique(keys.map(|(i, peer)| (format!("peers[{i}].publicKey"), &peer.public_key)));
        if let Some(peer) = peers.get(MAX_PEERS) {
            self.note(peer.cluster.position(), "peers", format!("has more than {MAX_PEERS} entries"));
        }
        let each = peers.iter().enumerate();
        each.filter_map(|(i, peer)| self.peer(&format!("peers[{i}]"), peer, translated)).collect()
    }

    fn peer(&mut self, field: &str, peer: &PeerFile, translated: Translated) -> Option<Peer> {
        let cluster = self.take(&format!("{field}.cluster"), &peer.cluster, values::label);
        let public_key = self.take(&format!("{field}.publicKey"), &peer.public_key, public_key);
        let endpoint = match &peer.endpoint {
            Some(at) => Some(self.take(&format!("{field}.endpoint"), at, values::endpoint)?),
            None => None,
        };
        let allowed_ips = self.list(&format!("{field}.allowedIPs"), &peer.allowed_ips, values::routed_prefix);
        if peer.allowed_ips.is_empty() {
            let message = "is empty; name the prefixes of that cluster's pods and services".to_owned();
            self.note(peer.cluster.position(), &format!("{field}.allowedIPs"), message);
        }
        let lanes = match &peer.lanes {
            Some(at) if peer.vanilla => {
                let message = "cannot be set for a vanilla peer, which has a single session; leave it out".to_owned();
                self.note(at.position(), &format!("{field}.lanes"), message);
                None
            }
            Some(at) => self.number(&format!("{field}.lanes"), at, values::lanes),
            // Both ends use the smaller number, and a lane that finds no partner passes its packets to lane 0.
            None => std::num::NonZeroU8::new(tunnel::config::MAX_LANES),
        };
        let keepalive = match &peer.persistent_keepalive {
            Some(at) => self.number(&format!("{field}.persistentKeepalive"), at, keepalive).flatten(),
            None => None,
        };
        if let Some(at) = peer.knows_us_by_virtual.as_ref().filter(|at| *at.value() && translated == Translated::No) {
            let message = "is true, but network.virtual names no prefix to know this cluster by; name some there, or \
                           leave this out";
            self.note(at.position(), &format!("{field}.knowsUsByVirtual"), message.to_owned());
        }
        let by_virtual = peer.knows_us_by_virtual.as_ref().map_or(translated == Translated::Yes, |at| *at.value());
        let complete = allowed_ips.len() == peer.allowed_ips.len();
        let within = if complete { allowed_ips.as_slice() } else { &[] };
        let exports = self.exports(&format!("{field}.exports"), &peer.exports, within, "allowedIPs");
        Some(Peer {
            cluster: cluster?,
            public_key: public_key?,
            endpoint,
            allowed_ips,
            lanes: lanes.filter(|_| !peer.vanilla),
            preshared_key_file: peer.preshared_key_file.as_ref().map(|name| PathBuf::from(name.value())),
            persistent_keepalive: keepalive,
            knows_us_by: if by_virtual { Addresses::Virtual } else { Addresses::Native },
            exports,
        })
    }
}

/// The value is not repeated: people paste private keys here by mistake.
fn public_key(text: &str) -> Result<PublicKey, String> {
    text.parse().map_err(|error: tunnel::config::KeyError| format!("is not a public key: {error}"))
}

fn keepalive(seconds: u64) -> Result<Option<NonZeroU16>, String> {
    let seconds = u16::try_from(seconds).map_err(|_| format!("{seconds} is too long; use 0 to 65535 seconds"))?;
    Ok(NonZeroU16::new(seconds))
}
