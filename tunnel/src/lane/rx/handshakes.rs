//! Handshake messages that come in, and what has waited for them.

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};

use super::{Outcome, refusal};
use crate::drops::Reason;
use crate::io::udp::Received;
use crate::lane::peer::LanePeer;
use crate::lane::wire::{OVERHEAD, Port};
use crate::lane::{COOKIE, INITIATION, Links, Peers};
use crate::routes::Slot;

/// Handles a first handshake message: who sends it is known only after a decryption, so that the rate limiter comes first.
pub(super) fn initiation(
    datagram: &[u8],
    from: &Received,
    port: Port,
    links: &mut Links,
    peers: &mut Peers,
) -> Outcome {
    if port == Port::Linkspan && datagram[5] != links.lane {
        return Outcome::Dropped(Reason::WrongLane);
    }
    peers.limiter.reset_count();
    let mut cookie = [0; 64];
    let parsed = match peers.limiter.verify_packet(Some(from.source.ip()), datagram, &mut cookie) {
        Ok(Packet::HandshakeInit(parsed)) => parsed,
        Err(TunnResult::WriteToNetwork(cookie)) => {
            let to = links.wire.socket(port).destination(from.source, from.local);
            links.wire.send_now(&to, port, cookie);
            return Outcome::Dropped(Reason::RateLimited);
        }
        _ => return Outcome::Dropped(Reason::Unauthentic),
    };
    let Ok(half) = parse_handshake_anon(&peers.secret, &peers.public, &parsed) else {
        return Outcome::Dropped(Reason::Unauthentic);
    };
    match peers.slot_of(&half.peer_static_public) {
        Some(slot) => handshake(datagram, slot, from, port, links, peers),
        None => Outcome::Dropped(Reason::UnknownPeer),
    }
}

/// Handles a response or a cookie, which names the session that it answers.
pub(super) fn answer(
    datagram: &[u8],
    to: (Slot, u8),
    from: &Received,
    port: Port,
    links: &mut Links,
    peers: &mut Peers,
) -> Outcome {
    if to.1 != links.lane {
        return Outcome::Dropped(Reason::WrongLane);
    }
    // The limiter counts answers too, and a lane that only calls others gets nothing else.
    peers.limiter.reset_count();
    handshake(datagram, to.0, from, port, links, peers)
}

fn handshake(
    datagram: &[u8],
    slot: Slot,
    from: &Received,
    port: Port,
    links: &mut Links,
    peers: &mut Peers,
) -> Outcome {
    let (now, is_call) = (links.now, datagram[0] == INITIATION);
    let Some(peer) = peers.get(slot).filter(|peer| peer.port == port) else {
        return Outcome::Dropped(Reason::UnknownSession);
    };
    if is_call && peer.shared.has_answered(datagram) {
        return Outcome::Dropped(Reason::Replayed);
    }
    peer.freshen(now, &mut links.wire);
    let mut message = [0; 256];
    let reply = match peer.tunn.decapsulate(Some(from.source.ip()), datagram, &mut message) {
        TunnResult::WriteToNetwork(reply) => reply,
        TunnResult::Err(error) => return Outcome::Dropped(refusal(&error)),
        _ => return Outcome::Done,
    };
    let is_cookie = reply[0] == COOKIE;
    // Another lane may have had it at the same moment.
    if is_call && !is_cookie && !peer.shared.note_answered(datagram) {
        return Outcome::Dropped(Reason::Replayed);
    }
    // A cookie, the response to an initiation, or the first keepalive after a response.
    let to = links.wire.socket(port).destination(from.source, from.local);
    links.wire.send_now(&to, port, reply);
    if is_cookie {
        return Outcome::Dropped(Reason::RateLimited);
    }
    // Who calls may be somebody who has caught the call of another: its first packet, which needs the response, proves it.
    if !is_call {
        peer.roam(from, &links.wire);
    }
    peer.heard.handshake(is_call, now);
    peer.session_made(now);
    links.wire.replan = true;
    // Without a session in use, boringtun would call the peer anew and forget the call that is under way.
    if peer.has_session() {
        flush_waiting(peer, links);
    }
    Outcome::Done
}

/// Sends what boringtun has kept since before the session.
pub(super) fn flush_waiting(peer: &mut LanePeer, links: &mut Links) {
    // Cold: once per session. The largest packet that a queue can hand over, and what WireGuard adds.
    let mut message = vec![0; 65_536 + OVERHEAD];
    peer.waiting.clear();
    while let TunnResult::WriteToNetwork(packet) = peer.tunn.decapsulate(None, &[], &mut message) {
        let Some(to) = peer.destination().cloned() else { return };
        links.wire.send_now(&to, peer.port, packet);
    }
}
