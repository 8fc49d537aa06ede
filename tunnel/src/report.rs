//! Makes a [`Status`] from the numbers that lanes publish.

use std::io;

use crate::config::Peer;
use crate::device::{Control, Known};
use crate::drops::Reason;
use crate::ladder::Rung;
use crate::shared::{Fallback, SharedPath};
use crate::status::{DropCount, LaneStatus, OffloadStatus, PeerState, PeerStatus, Status, TranslatedCount};

pub(crate) fn status(control: &Control) -> Status {
    let mut peers: Vec<_> = control.config.peers.iter().map(|peer| peer_status(control, peer)).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    Status {
        link: control.config.link.clone(),
        public_key: control.config.private_key.public_key(),
        listen_port: control.rungs.listen_port,
        vanilla_port: control.rungs.vanilla_port,
        mtu: control.config.mtu,
        lanes: control.lanes.len() as u8,
        offloads: offloads(control),
        peers,
        drops: drops(control),
        translation: control.config.translation.clone(),
        translated: translated(control),
    }
}

fn translated(control: &Control) -> TranslatedCount {
    let lanes = || control.lanes.iter().map(|lane| &lane.shared.translated);
    TranslatedCount {
        outward: lanes().map(|translated| translated.outward.get()).sum(),
        inward: lanes().map(|translated| translated.inward.get()).sum(),
    }
}

fn drops(control: &Control) -> Vec<DropCount> {
    let lanes = |reason: Reason| control.lanes.iter().map(|lane| lane.shared.drops.get(reason)).sum();
    let count = |reason: Reason| match reason {
        // The lanes share the link, and do not see it.
        Reason::LinkOverflow => control.lost_on_link(),
        _ => lanes(reason),
    };
    Reason::ALL.iter().map(|reason| DropCount { reason: reason.name(), count: count(*reason) }).collect()
}

fn offloads(control: &Control) -> Vec<OffloadStatus> {
    let rungs = &control.rungs;
    let lanes = || control.lanes.iter().map(|lane| &lane.shared.offloads);
    vec![
        offload("tun-tso", &rungs.tun_tso, lanes().map(|o| &o.tun_tso)),
        in_part(offload("tun-uso", &rungs.tun_uso, lanes().map(|o| &o.tun_uso)), &rungs.merged_udp),
        without_vanishing(control, offload("udp-gso", &rungs.udp_gso, lanes().map(|o| &o.udp_gso))),
        offload("udp-gro", &rungs.udp_gro, std::iter::empty()),
        offload("steering", &rungs.steering, std::iter::empty()),
    ]
}

fn offload<'a>(name: &'static str, rung: &Rung, lanes: impl Iterator<Item = &'a Fallback>) -> OffloadStatus {
    let mut status = OffloadStatus { name, active: rung.is_ok(), reason: String::new(), fallbacks: 0 };
    if let Err(reason) = rung {
        status.reason.clone_from(reason);
    }
    for fallback in lanes {
        status.fallbacks += fallback.count.get();
        if fallback.off.get() != 0 {
            status.active = false;
            let error = io::Error::from_raw_os_error(fallback.errno.get() as i32);
            status.reason = format!("given up at run time: {error}");
        }
    }
    status
}

/// Says why an offload that is in use is so in one direction only.
fn in_part(mut status: OffloadStatus, other: &Rung) -> OffloadStatus {
    if let (true, Err(reason)) = (status.active, other) {
        status.reason.clone_from(reason);
    }
    status
}

/// Says towards whom segmented sends are given up, because they vanish on the way.
fn without_vanishing(control: &Control, mut gso: OffloadStatus) -> OffloadStatus {
    let given_up = |peer: &&Peer| control.slots[&peer.public_key].shared.paths.iter().any(SharedPath::is_plain);
    let mut names: Vec<_> = control.config.peers.iter().filter(given_up).map(|peer| peer.name.as_str()).collect();
    if gso.active && !names.is_empty() {
        names.sort_unstable();
        gso.active = names.len() < control.config.peers.len();
        gso.reason = format!("given up towards {}: segmented sends vanish there, others arrive", names.join(", "));
    }
    gso
}

fn peer_status(control: &Control, peer: &Peer) -> PeerStatus {
    let known = &control.slots[&peer.public_key];
    let now = control.clock.now();
    let lanes: Vec<LaneStatus> = (0u8..).zip(&known.shared.paths).map(|(lane, path)| path.status(lane, now)).collect();
    let (state, reason) = state(known, &lanes);
    PeerStatus {
        name: peer.name.clone(),
        public_key: peer.public_key,
        endpoint: known.shared.endpoint().map(|endpoint| endpoint.address),
        allowed_ips: peer.allowed_ips.clone(),
        state,
        reason,
        tx_bytes: lanes.iter().map(|lane| lane.tx_bytes).sum(),
        rx_bytes: lanes.iter().map(|lane| lane.rx_bytes).sum(),
        mtu: lanes.iter().map(|lane| lane.mtu).filter(|mtu| *mtu > 0).min().unwrap_or(control.config.mtu),
        lanes,
    }
}

/// The state of a peer by those of its lanes: what lane 0 says, which always probes, and as long as it cannot tell, the best
/// that the others say. They probe only while they have traffic, so that their word may be old.
fn overall(lanes: &[PeerState]) -> PeerState {
    let best = lanes.iter().copied().min_by_key(|state| match state {
        PeerState::Up => 0,
        PeerState::Down => 1,
        PeerState::Connecting => 2,
        PeerState::Idle => 3,
    });
    match lanes.first() {
        Some(first @ (PeerState::Up | PeerState::Down)) => *first,
        _ => best.unwrap_or(PeerState::Idle),
    }
}

/// The state of a peer, and why, in words.
fn state(known: &Known, lanes: &[LaneStatus]) -> (PeerState, String) {
    let states: Vec<_> = known.shared.paths.iter().map(|path| path.state()).collect();
    let state = overall(&states);
    let attempts = known.shared.paths.iter().map(|path| path.attempts()).max().unwrap_or(0);
    let endpoint = known.shared.endpoint().map(|endpoint| endpoint.address);
    let reason = match (state, endpoint) {
        (PeerState::Up, _) => "the path answers".to_owned(),
        (_, None) => "waiting for the peer to call: no endpoint is configured and none has been learnt".to_owned(),
        (PeerState::Idle, _) => "no traffic yet, or none since the last session ended".to_owned(),
        (PeerState::Connecting, Some(to)) => format!("{attempts} handshake(s) sent to {to}, no answer yet"),
        (PeerState::Down, Some(to)) if lanes.iter().any(|lane| lane.handshake_age.is_some()) => {
            format!("the session is there, but probes to {to} get no answer: peer restarted or path broken")
        }
        (PeerState::Down, Some(to)) => {
            format!("{attempts} handshakes to {to} unanswered: wrong address or key, peer not running, or UDP blocked")
        }
    };
    (state, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_went_quiet_before_the_peer_was_lost_does_not_hide_it() {
        use PeerState::{Connecting, Down, Idle, Up};
        for (lanes, expected) in [
            (&[Down, Up][..], Down),
            (&[Up, Down], Up),
            (&[Idle, Up], Up),
            (&[Connecting, Down], Down),
            (&[Connecting, Idle], Connecting),
            (&[Idle, Idle], Idle),
            (&[], Idle),
        ] {
            assert_eq!(overall(lanes), expected, "{lanes:?}");
        }
    }
}
