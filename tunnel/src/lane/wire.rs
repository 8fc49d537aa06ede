//! The way out: datagrams gather in one buffer, sealed in place, and leave in one segmented send.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::TunnResult;

use super::peer::LanePeer;
use crate::drops::Reason;
use crate::io::udp::{Destination, MAX_SEGMENTS, MAX_SEND, UdpSocket, is_too_big, lacks_checksums, lacks_source};
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
    /// Whether it may leave as one segmented send.
    together: bool,
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
    /// An address of ours that has gone; the lane makes its peers forget it.
    pub(crate) lost_source: Cell<Option<IpAddr>>,
    /// A peer's deadlines have changed outside of the lane's tick.
    pub(crate) replan: bool,
}

impl Wire {
    pub(crate) fn new(main: UdpSocket, vanilla: Option<UdpSocket>, gso: bool, shared: Arc<SharedLane>) -> Self {
        let buffer = vec![0; MAX_SEND + SLACK].into_boxed_slice();
        Self {
            main,
            vanilla,
            gso,
            shared,
            buffer,
            batch: None,
            too_big: None,
            lost_source: Cell::new(None),
            replan: false,
        }
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
    fn append(&mut self, peer: &mut LanePeer, length: usize, tos: u8) {
        if self.batch.is_none() {
            self.batch = peer.destination().map(|to| Batch {
                slot: peer.slot,
                to: to.clone(),
                port: peer.port,
                tos,
                together: peer.segments.allowed(),
                segment: length,
                count: 0,
                length: 0,
                closed: false,
            });
        }
        if let Some(batch) = &mut self.batch {
            batch.count += 1;
            batch.length += length;
            match batch.count {
                1 => {}
                2 => peer.sent_together(2),
                _ => peer.sent_together(1),
            }
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
            let sent = self.transmit_batch(&batch);
            if sent == Sent::TooBig {
                self.too_big = Some(batch.slot);
            }
        }
    }

    fn transmit_batch(&self, batch: &Batch) -> Sent {
        if batch.together {
            return self.transmit(&batch.to, batch.port, 0, batch.length, batch.segment, batch.tos);
        }
        let payload = &self.buffer[..batch.length];
        self.transmit_each(self.socket(batch.port), &batch.to, payload, batch.segment, batch.tos)
    }

    fn transmit(&self, to: &Destination, port: Port, at: usize, length: usize, segment: usize, tos: u8) -> Sent {
        let socket = self.socket(port);
        let payload = &self.buffer[at..at + length];
        if length <= segment || self.gso() {
            match self.patiently(socket, to, |to| socket.send(to, payload, segment, tos)) {
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
            let sent = match self.patiently(socket, to, |to| socket.send_each(to, rest, segment, tos)) {
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

    /// Sends once there is room, and from any address when the one that the peer has called is no longer ours.
    fn patiently<T>(
        &self,
        socket: &UdpSocket,
        to: &Destination,
        mut send: impl FnMut(&Destination) -> io::Result<T>,
    ) -> io::Result<T> {
        let error = match retry_when_full(socket, || send(to)) {
            Err(error) if lacks_source(&error) && to.source().is_some() => error,
            other => return other,
        };
        // Had it not been for the address, this fails as well.
        let sent = send(&to.without_source()).map_err(|_| error)?;
        self.lost_source.set(to.source());
        Ok(sent)
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
        let to = wire.main.destination((std::net::Ipv4Addr::LOCALHOST, port).into(), None);
        // More than 64 segments are refused as one send.
        wire.buffer[..700].fill(7);
        assert_eq!(wire.transmit(&to, Port::Linkspan, 0, 700, 7, 0), Sent::All);
        let mut buffer = [0; 64];
        let received = (0..100).filter(|_| receiver.receive(&mut buffer).is_ok_and(|r| r.length == 7)).count();
        assert_eq!(received, 100);
        assert!(wire.gso(), "one refused batch does not end segmented sends");
    }

    #[test]
    fn a_full_send_buffer_is_waited_for_once_and_not_for_each_datagram() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        let run = |command: &str| {
            let mut words = command.split(' ');
            let done = std::process::Command::new(words.next().expect("a program")).args(words).status();
            assert!(done.is_ok_and(|status| status.success()), "{command}");
        };
        run("ip link set lo up");
        // What is sent stays in the buffer: the link lets a kilobyte a second through.
        run("tc qdisc add dev lo root tbf rate 8kbit burst 70000 limit 100000000");
        // Somebody has the port: nobody must answer that it is closed, as such answers would fill a buffer of the kernel's
        // that all namespaces share.
        let receiver = UdpSocket::bind(0).expect("a socket");
        let port = receiver.port().expect("bound");
        let mut wire = wire();
        let to = wire.main.destination((std::net::Ipv4Addr::LOCALHOST, port).into(), None);
        let waits = [true, false].map(|gso| {
            wire.gso = gso;
            let send = || wire.transmit(&to, Port::Linkspan, 0, 64_000, 1000, 0) == Sent::Failed;
            let full = (0..1000).any(|_| send());
            // The least of some: a busy machine makes any of them longer.
            let wait = (0..5).map(|_| {
                let begin = std::time::Instant::now();
                send();
                begin.elapsed()
            });
            (full, wait.min().expect("five"))
        });
        // Whatever has come out, or the namespace would live on until all of it has gone through.
        run("tc qdisc del dev lo root");
        for (full, wait) in waits {
            assert!(full, "it never fills up");
            assert!(wait < std::time::Duration::from_millis(100), "after {wait:?}");
        }
    }
}
