//! The way out: datagrams gather in one buffer, sealed in place, and leave in one segmented send.

use std::io;
use std::sync::Arc;

use boringtun::noise::TunnResult;

use super::peer::LanePeer;
use crate::drops::Reason;
use crate::io::udp::{Destination, MAX_SEGMENTS, MAX_SEND, UdpSocket, is_too_big, lacks_checksums};
use crate::routes::Slot;
use crate::shared::SharedLane;

/// What WireGuard adds to an inner packet: 16 bytes of header and 16 of tag (WireGuard paper, section 5.4.6).
pub(crate) const OVERHEAD: usize = 32;
/// Room behind the last datagram, for a handshake that boringtun writes instead of data (148 bytes at most).
const SLACK: usize = 256;

/// Which of a lane's sockets a peer is reached through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// The port that all lanes share.
    Linkspan,
    /// Lane 0's port for vanilla peers.
    Vanilla,
}

/// The open batch: equal datagrams (the last may be shorter) to one peer with one ToS.
#[derive(Debug)]
struct Batch {
    slot: Slot,
    to: Destination,
    port: Port,
    tos: u8,
    segment: usize,
    count: usize,
    length: usize,
    /// A shorter datagram has ended it.
    closed: bool,
}

/// A lane's sockets and its send buffer.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) main: UdpSocket,
    pub(crate) vanilla: Option<UdpSocket>,
    pub(crate) gso: bool,
    pub(crate) shared: Arc<SharedLane>,
    buffer: Box<[u8]>,
    batch: Option<Batch>,
    /// The peer to whom a datagram was too large for the way out; the lane tells its path.
    pub(crate) too_big: Option<Slot>,
    /// A peer's deadlines have changed outside of the lane's tick.
    pub(crate) replan: bool,
}

impl Wire {
    pub(crate) fn new(main: UdpSocket, vanilla: Option<UdpSocket>, gso: bool, shared: Arc<SharedLane>) -> Self {
        let buffer = vec![0; MAX_SEND + SLACK].into_boxed_slice();
        Self { main, vanilla, gso, shared, buffer, batch: None, too_big: None, replan: false }
    }

    /// Whether segmented sends are in use.
    fn gso(&self) -> bool {
        self.gso && self.shared.offloads.udp_gso.off.get() == 0
    }

    pub(crate) fn socket(&self, port: Port) -> &UdpSocket {
        match (port, &self.vanilla) {
            (Port::Vanilla, Some(socket)) => socket,
            _ => &self.main,
        }
    }

    /// Seals one inner packet to a peer, behind what the batch holds. An empty packet is a keepalive.
    pub(crate) fn seal(&mut self, peer: &mut LanePeer, packet: &[u8], tos: u8) {
        if peer.destination().is_none() {
            self.shared.drops.count(Reason::NoEndpoint);
            return;
        }
        let size = packet.len() + OVERHEAD;
        if self.batch.as_ref().is_some_and(|batch| !batch.takes(peer.slot, tos, size)) {
            self.flush();
        }
        let at = self.batch.as_ref().map_or(0, |batch| batch.length);
        let (kind, length) = match peer.tunn.encapsulate(packet, &mut self.buffer[at..]) {
            TunnResult::WriteToNetwork(message) => (message[0], message.len()),
            // No session, and a handshake under way: boringtun keeps the packet until it is done.
            _ => return,
        };
        if kind == super::DATA {
            peer.sent(packet.len());
            self.append(peer, length, tos);
        } else if let Some(to) = peer.destination().cloned() {
            // No session: boringtun keeps the packet and asks for a handshake.
            peer.handshake_sent();
            self.transmit(&to, peer.port, at, length, length, 0);
        }
    }

    /// Takes the `length` bytes behind the batch into it.
    fn append(&mut self, peer: &LanePeer, length: usize, tos: u8) {
        if self.batch.is_none() {
            self.batch = peer.destination().map(|to| Batch {
                slot: peer.slot,
                to: to.clone(),
                port: peer.port,
                tos,
                segment: length,
                count: 0,
                length: 0,
                closed: false,
            });
        }
        if let Some(batch) = &mut self.batch {
            batch.count += 1;
            batch.length += length;
            batch.closed = length < batch.segment || batch.count == MAX_SEGMENTS;
        }
    }

    /// Sends one message at once, in order behind the open batch.
    pub(crate) fn send_now(&mut self, to: &Destination, port: Port, message: &[u8]) {
        self.flush();
        let length = message.len().min(self.buffer.len());
        self.buffer[..length].copy_from_slice(&message[..length]);
        self.transmit(to, port, 0, length, length, 0);
    }

    /// Sends what has gathered.
    pub(crate) fn flush(&mut self) {
        if let Some(batch) = self.batch.take() {
            let sent = self.transmit(&batch.to, batch.port, 0, batch.length, batch.segment, batch.tos);
            if sent == Sent::TooBig {
                self.too_big = Some(batch.slot);
            }
        }
    }

    fn transmit(&self, to: &Destination, port: Port, at: usize, length: usize, segment: usize, tos: u8) -> Sent {
        let socket = self.socket(port);
        let payload = &self.buffer[at..at + length];
        if length <= segment || self.gso() {
            match retry_when_full(socket, || socket.send(to, payload, segment, tos)) {
                Ok(()) => return Sent::All,
                // Still full: trying each datagram would only make the lane wait longer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.note_failure(&error),
                Err(error) if length > segment => self.note_gso_failure(&error),
                Err(error) => return self.note_failure(&error),
            }
        }
        self.transmit_each(socket, to, payload, segment, tos)
    }

    fn transmit_each(&self, socket: &UdpSocket, to: &Destination, payload: &[u8], segment: usize, tos: u8) -> Sent {
        let mut rest = payload;
        let mut outcome = Sent::All;
        while !rest.is_empty() {
            let sent = match retry_when_full(socket, || socket.send_each(to, rest, segment, tos)) {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.note_failure(&error),
                Err(error) => {
                    outcome = self.note_failure(&error);
                    1
                }
            };
            rest = rest.get(sent * segment..).unwrap_or_default();
        }
        outcome
    }

    /// `EIO` says that the device below cannot checksum segments, and stays true; anything else may be about one
    /// destination, so that only this batch goes without.
    fn note_gso_failure(&self, error: &io::Error) {
        let fallback = &self.shared.offloads.udp_gso;
        fallback.note(error);
        if lacks_checksums(error) {
            fallback.off.set(1);
        }
    }

    fn note_failure(&self, error: &io::Error) -> Sent {
        self.shared.drops.count(Reason::SendFailed);
        if is_too_big(error) { Sent::TooBig } else { Sent::Failed }
    }
}

/// Outcome of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    TooBig,
    Failed,
}

impl Batch {
    fn takes(&self, slot: Slot, tos: u8, size: usize) -> bool {
        self.slot == slot && self.tos == tos && !self.closed && size <= self.segment && self.length + size <= MAX_SEND
    }
}

/// Waits for room in the send buffer, a few milliseconds at most: back pressure rather than loss.
fn retry_when_full<T>(socket: &UdpSocket, mut send: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match send() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && socket.wait_writable().is_ok() => send(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> Wire {
        let socket = UdpSocket::bind(0).expect("a socket");
        Wire::new(socket, None, true, Arc::new(SharedLane::default()))
    }

    #[test]
    fn a_device_that_cannot_checksum_ends_segmented_sends_for_good_and_others_for_one_batch() {
        let wire = wire();
        wire.note_gso_failure(&io::Error::from_raw_os_error(22)); // EINVAL
        assert!(wire.gso());
        wire.note_gso_failure(&io::Error::from_raw_os_error(5)); // EIO
        assert!(!wire.gso());
        assert_eq!(wire.shared.offloads.udp_gso.count.get(), 2);
    }

    #[test]
    fn what_one_segmented_send_cannot_carry_goes_out_datagram_by_datagram() {
        let (mut wire, receiver) = (wire(), UdpSocket::bind(0).expect("a socket"));
        let port = receiver.port().expect("bound");
        let to = wire.main.destination((std::net::Ipv4Addr::LOCALHOST, port).into());
        // More than 64 segments are refused as one send.
        wire.buffer[..700].fill(7);
        assert_eq!(wire.transmit(&to, Port::Linkspan, 0, 700, 7, 0), Sent::All);
        let mut buffer = [0; 64];
        let received = (0..100).filter(|_| receiver.receive(&mut buffer).is_ok_and(|r| r.length == 7)).count();
        assert_eq!(received, 100);
        assert!(wire.gso(), "one refused batch does not end segmented sends");
    }
}
