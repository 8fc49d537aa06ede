//! The way out: datagrams gather in one buffer, sealed in place, and leave in one segmented send.
//!
//! A send buffer that is full holds everything back: the batch stays, the rest of the packet that was being cut gathers
//! behind it, and its lane reads no more from the TUN queue until there is room. What comes meanwhile waits in that queue,
//! where senders feel it.

mod transmit;

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::TunnResult;

use super::peer::LanePeer;
use crate::drops::Reason;
use crate::io::udp::{Destination, MAX_SEGMENTS, MAX_SEND, UdpSocket};
use crate::routes::Slot;
use crate::shared::SharedLane;

use transmit::Sent;

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
    /// Where it begins in the buffer.
    start: usize,
    length: usize,
    /// A shorter datagram has ended it, or a part has left.
    closed: bool,
    /// Bytes that have left already.
    sent: usize,
}

/// A lane's sockets and its send buffer.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) main: UdpSocket,
    pub(crate) vanilla: Option<UdpSocket>,
    pub(crate) gso: bool,
    pub(crate) shared: Arc<SharedLane>,
    buffer: Box<[u8]>,
    /// The batch that found a send buffer full; the open one gathers behind it.
    held: Option<Batch>,
    batch: Option<Batch>,
    /// The socket whose send buffer was full, until it has room again. Of both, it is the one that the first waiting batch
    /// is for: the other is found full again once that has left.
    full: Option<Port>,
    /// Whether this turn may still wait for room.
    patient: bool,
    /// The peer to whom a datagram was too large for the way out; the lane tells its path.
    pub(crate) too_big: Option<Slot>,
    /// An address of ours that has gone; the lane makes its peers forget it.
    pub(crate) lost_source: Cell<Option<IpAddr>>,
    /// A peer's deadlines have changed outside of the lane's tick.
    pub(crate) replan: bool,
}

impl Wire {
    pub(crate) fn new(main: UdpSocket, vanilla: Option<UdpSocket>, gso: bool, shared: Arc<SharedLane>) -> Self {
        let buffer = vec![0; 2 * MAX_SEND + SLACK].into_boxed_slice();
        Self {
            main,
            vanilla,
            gso,
            shared,
            buffer,
            held: None,
            batch: None,
            full: None,
            patient: true,
            too_big: None,
            lost_source: Cell::new(None),
            replan: false,
        }
    }

    pub(crate) fn socket(&self, port: Port) -> &UdpSocket {
        match (port, &self.vanilla) {
            (Port::Vanilla, Some(socket)) => socket,
            _ => &self.main,
        }
    }

    /// The socket whose send buffer is full: whoever has more to send waits until [`Wire::has_room`].
    pub(crate) fn full(&self) -> Option<Port> {
        self.full
    }

    /// A socket that was full has room again: `told` names it. One that has, and still takes nothing, refuses for another
    /// reason, the end of which nobody would tell (`xfrm_larval_drop = 0`: IPsec that waits for its keys): what it refuses is
    /// dropped.
    pub(crate) fn has_room(&mut self, told: Option<Port>) {
        self.full = None;
        let before = self.waiting();
        self.flush();
        if self.full.is_some() && self.full == told && self.waiting() == before {
            let refused = self.held.take().or_else(|| self.batch.take());
            self.drop(refused);
        }
    }

    /// Bytes that have gathered and not left.
    fn waiting(&self) -> usize {
        self.held.iter().chain(&self.batch).map(|batch| batch.length - batch.sent).sum()
    }

    /// Uses another socket for vanilla peers, or none; returns the one before.
    pub(crate) fn replace_vanilla(&mut self, vanilla: Option<UdpSocket>) -> Option<UdpSocket> {
        self.clear();
        // What it did not take has nowhere else to go.
        let held = self.held.take();
        self.drop(held);
        if self.full == Some(Port::Vanilla) {
            self.full = None;
        }
        std::mem::replace(&mut self.vanilla, vanilla)
    }

    /// A new turn of the lane begins, in which it may wait for room once.
    pub(crate) fn begin_turn(&mut self) {
        self.patient = true;
    }

    /// Seals one inner packet to a peer, behind what the batch holds. An empty packet is a keepalive.
    pub(crate) fn seal(&mut self, peer: &mut LanePeer, packet: &[u8], tos: u8) {
        if peer.destination().is_none() {
            self.shared.drops.count(Reason::NoEndpoint);
            return;
        }
        let size = packet.len() + OVERHEAD;
        if self.batch.as_ref().is_some_and(|batch| !batch.takes(peer.slot, tos, size)) {
            self.clear();
        }
        let at = self.end();
        let (kind, length) = match peer.tunn.encapsulate(packet, &mut self.buffer[at..]) {
            TunnResult::WriteToNetwork(message) => (message[0], message.len()),
            // No session, and a handshake under way: boringtun keeps the packet until it is done.
            _ => return self.note_waiting(peer),
        };
        if kind == super::DATA {
            peer.sent(packet.len());
            self.append(peer, length, tos);
        } else if let Some(to) = peer.destination().cloned() {
            // No session: boringtun keeps the packet and asks for a handshake.
            self.note_waiting(peer);
            peer.handshake_sent();
            self.send_message(&to, peer.port, at, length);
        }
    }

    /// Counts a packet that waits for a handshake, for which there may be no room.
    fn note_waiting(&self, peer: &mut LanePeer) {
        if !peer.waiting.add() {
            self.shared.drops.count(Reason::QueueOverflow);
        }
    }

    /// Takes the `length` bytes behind the batch into it.
    fn append(&mut self, peer: &mut LanePeer, length: usize, tos: u8) {
        if self.batch.is_none() {
            let start = self.end();
            self.batch = peer.destination().map(|to| Batch {
                slot: peer.slot,
                to: to.clone(),
                port: peer.port,
                tos,
                together: peer.segments.allowed(),
                segment: length,
                count: 0,
                start,
                length: 0,
                closed: false,
                sent: 0,
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

    /// Sends one message at once, in order behind what has gathered. A message that is longer than what the buffer holds
    /// beside batches that stay takes the place of one.
    pub(crate) fn send_now(&mut self, to: &Destination, port: Port, message: &[u8]) {
        self.flush();
        if self.end() + message.len() > self.buffer.len() {
            self.clear();
        }
        let at = self.end();
        let length = message.len().min(self.buffer.len() - at);
        self.buffer[at..at + length].copy_from_slice(&message[..length]);
        self.send_message(to, port, at, length);
    }

    /// Sends the message in this part of the buffer, and waits for room if it may.
    fn send_message(&mut self, to: &Destination, port: Port, at: usize, length: usize) {
        let send = |wire: &Self| wire.transmit(to, port, &wire.buffer[at..at + length], length, 0);
        let mut sent = send(self);
        if matches!(sent, Sent::Full { .. }) && self.wait_for_room(port) {
            sent = send(self);
        }
        if matches!(sent, Sent::Full { .. }) {
            // The message does not wait, and what does may be for the other socket.
            self.full.get_or_insert(port);
            self.shared.drops.count(Reason::SendFailed);
        }
    }

    /// Where what comes next begins in the buffer.
    fn end(&self) -> usize {
        self.batch.as_ref().or(self.held.as_ref()).map_or(0, Batch::end)
    }

    /// Sends what has gathered. What finds the send buffer full stays.
    pub(crate) fn flush(&mut self) {
        if self.full.is_none() {
            self.send_gathered();
        }
    }

    /// Forgets the open batch if it still waits for room; returns whether there was one.
    pub(crate) fn discard(&mut self) -> bool {
        self.batch.take().is_some()
    }

    /// Makes room for another batch at any rate. What finds the send buffer full is held; where something is held already,
    /// it waits for the socket if it may, and drops what is still not taken.
    fn clear(&mut self) {
        self.send_gathered();
        if let Some(port) = self.full.filter(|_| self.held.is_some() && self.batch.is_some())
            && self.wait_for_room(port)
        {
            self.send_gathered();
        }
        if self.held.is_some() {
            let batch = self.batch.take();
            return self.drop(batch);
        }
        if let Some(mut batch) = self.batch.take() {
            // In front, so that there is room for another behind it.
            self.buffer.copy_within(batch.start..batch.end(), 0);
            batch.start = 0;
            self.held = Some(batch);
        }
    }

    /// Counts the datagrams of a batch that have not left.
    fn drop(&self, batch: Option<Batch>) {
        if let Some(batch) = batch {
            let left = (batch.length - batch.sent).div_ceil(batch.segment);
            self.shared.drops.count_all(Reason::SendFailed, left as u64);
        }
    }

    /// Sends what is held, and then the open batch, until one finds the send buffer full.
    fn send_gathered(&mut self) {
        if let Some(held) = self.held.take() {
            self.held = self.send_batch(held);
        }
        if self.held.is_none()
            && let Some(batch) = self.batch.take()
        {
            self.batch = self.send_batch(batch);
        }
    }

    /// Sends what has not left yet of a batch; returns it if the send buffer was full.
    fn send_batch(&mut self, mut batch: Batch) -> Option<Batch> {
        match self.transmit_batch(&batch) {
            Sent::Full { after } => {
                batch.sent += after;
                batch.closed = true;
                self.full = Some(batch.port);
                return Some(batch);
            }
            Sent::TooBig => self.too_big = Some(batch.slot),
            Sent::All | Sent::Failed => {}
        }
        None
    }

    /// Waits for room in a send buffer, unless this turn has done so already. There may be some even though the wait has
    /// timed out: the kernel tells of it only once half of the buffer is free.
    fn wait_for_room(&mut self, port: Port) -> bool {
        let patient = std::mem::take(&mut self.patient);
        if patient {
            let _ = self.socket(port).wait_writable();
        }
        patient
    }
}

impl Batch {
    fn end(&self) -> usize {
        self.start + self.length
    }

    fn takes(&self, slot: Slot, tos: u8, size: usize) -> bool {
        self.slot == slot && self.tos == tos && !self.closed && size <= self.segment && self.length + size <= MAX_SEND
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use super::*;

    const SIZE: usize = 64_000;

    fn run(command: &str) {
        let mut words = command.split(' ');
        let done = std::process::Command::new(words.next().expect("a program")).args(words).status();
        assert!(done.is_ok_and(|status| status.success()), "{command}");
    }

    /// A loopback link that lets a kilobyte a second through, so that what is sent stays in the send buffer.
    ///
    /// It has to end before its receiver does. What still waited in it would keep its namespace for hours, and reach a closed
    /// port by and by: each answer to that stays in a buffer of the kernel's that all namespaces share, until nobody is
    /// answered a ping any more.
    struct SlowLink;

    impl SlowLink {
        fn new() -> Self {
            run("tc qdisc add dev lo root tbf rate 8kbit burst 70000 limit 100000000");
            Self
        }
    }

    impl Drop for SlowLink {
        fn drop(&mut self) {
            run("tc qdisc del dev lo root");
        }
    }

    /// A receiver, and where it is, in a network namespace of this thread's.
    fn receiver() -> (UdpSocket, std::net::SocketAddr) {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        run("ip link set lo up");
        let receiver = UdpSocket::bind(0).expect("a socket");
        let port = receiver.port().expect("bound");
        (receiver, (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Sends until the send buffer is full.
    fn fill(wire: &mut Wire, to: &Destination, together: bool) {
        let full = (0..1000).any(|_| {
            gather(wire, to, together);
            wire.full().is_some()
        });
        assert!(full, "it never fills up");
    }

    /// Lets 64 datagrams gather behind what is held, and leave if they can.
    fn gather(wire: &mut Wire, to: &Destination, together: bool) {
        wire.batch = Some(Batch {
            slot: 0,
            to: to.clone(),
            port: Port::Linkspan,
            tos: 0,
            together,
            segment: 1000,
            count: 64,
            start: wire.end(),
            length: SIZE,
            closed: true,
            sent: 0,
        });
        wire.flush();
    }

    #[test]
    fn what_a_full_send_buffer_does_not_take_stays_until_there_is_room_or_its_place_is_needed() {
        let (_receiver, port) = receiver();
        for together in [true, false] {
            let slow = SlowLink::new();
            let socket = UdpSocket::bind(0).expect("a socket");
            let mut wire = Wire::new(socket, None, true, Arc::new(SharedLane::default()));
            let failed = |wire: &Wire| wire.shared.drops.get(Reason::SendFailed);
            let to = wire.main.destination(port, None);
            fill(&mut wire, &to, together);
            let kept = wire.batch.as_ref().map(|batch| SIZE - batch.sent);
            assert!(kept.is_some_and(|kept| kept > 0), "{kept:?}");
            // The rest of the packet that was being cut has its room behind.
            wire.clear();
            assert!(wire.held.is_some() && wire.batch.is_none());
            gather(&mut wire, &to, together);
            assert_eq!(wire.batch.as_ref().map(|batch| batch.start), Some(SIZE));
            assert_eq!(failed(&wire), 0);
            // Nothing has any behind both.
            wire.clear();
            assert_eq!((wire.batch.is_none(), failed(&wire)), (true, 64));
            // The least of some: a busy machine makes any of them longer.
            let wait = (0..5).map(|_| {
                wire.begin_turn();
                let begin = Instant::now();
                for _ in 0..2 {
                    gather(&mut wire, &to, together);
                    wire.clear();
                }
                begin.elapsed()
            });
            let wait = wait.min().expect("five");
            assert!(wait < Duration::from_millis(100), "after {wait:?}");
            let lost = failed(&wire);
            assert!((664..=704).contains(&lost), "each datagram counts: {lost}");
            gather(&mut wire, &to, together);
            drop(slow);
            let end = Instant::now() + Duration::from_secs(5);
            while wire.main.wait_writable().is_err() {
                assert!(Instant::now() < end, "no room");
            }
            assert!(wire.batch.is_some(), "it waits for the lane to be told");
            wire.has_room(Some(Port::Linkspan));
            assert!(wire.held.is_none() && wire.batch.is_none() && wire.full().is_none());
            assert_eq!(failed(&wire), lost);
        }
    }

    #[test]
    fn what_a_socket_with_room_refuses_is_dropped_and_what_waits_for_another_stays() {
        let (_receiver, port) = receiver();
        let _slow = SlowLink::new();
        let [main, vanilla] = [(); 2].map(|()| UdpSocket::bind(0).expect("a socket"));
        let mut wire = Wire::new(main, Some(vanilla), true, Arc::new(SharedLane::default()));
        let failed = |wire: &Wire| wire.shared.drops.get(Reason::SendFailed);
        let to = wire.main.destination(port, None);
        let full =
            (0..1000).any(|_| matches!(wire.transmit(&to, Port::Vanilla, &[0; SIZE], 1000, 0), Sent::Full { .. }));
        assert!(full && wire.full().is_none(), "nothing waits for it");
        fill(&mut wire, &to, true);
        // A message for the other socket, which is full as well, does not take its place.
        wire.send_now(&to, Port::Vanilla, &[7; 100]);
        assert_eq!((wire.full(), failed(&wire)), (Some(Port::Linkspan), 1));
        for told in [Some(Port::Vanilla), None] {
            wire.has_room(told);
            assert_eq!((wire.full(), wire.batch.is_some(), failed(&wire)), (Some(Port::Linkspan), true, 1), "{told:?}");
        }
        wire.has_room(Some(Port::Linkspan));
        assert_eq!((wire.batch.is_none(), failed(&wire)), (true, 65), "it has promised, and takes nothing");
        wire.has_room(Some(Port::Linkspan));
        assert_eq!((wire.full(), failed(&wire)), (None, 65), "nothing waits");
    }
}
