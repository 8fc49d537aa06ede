//! From the buffer to the socket: in one segmented send, or datagram by datagram.

use std::io;

use super::{Batch, Port, Wire};
use crate::drops::Reason;
use crate::io::udp::{Destination, UdpSocket, is_too_big, lacks_checksums, lacks_source};

/// Outcome of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    TooBig,
    Failed,
    /// The send buffer was full after so many bytes had left; the rest may be sent later.
    Full {
        after: usize,
    },
}

impl Wire {
    /// Whether segmented sends are in use.
    fn gso(&self) -> bool {
        self.gso && self.shared.offloads.udp_gso.off.get() == 0
    }

    /// Sends what has not left yet of a batch.
    pub(super) fn transmit_batch(&self, batch: &Batch) -> Sent {
        let payload = &self.buffer[batch.start + batch.sent..batch.end()];
        if batch.together {
            self.transmit(&batch.to, batch.port, payload, batch.segment, batch.tos)
        } else {
            self.transmit_each(self.socket(batch.port), &batch.to, payload, batch.segment, batch.tos)
        }
    }

    /// Sends a payload as datagrams of `segment` bytes.
    pub(super) fn transmit(&self, to: &Destination, port: Port, payload: &[u8], segment: usize, tos: u8) -> Sent {
        let socket = self.socket(port);
        if payload.len() <= segment || self.gso() {
            match self.with_any_address(to, |to| socket.send(to, payload, segment, tos)) {
                Ok(()) => return Sent::All,
                Err(error) if is_full(&error) => return Sent::Full { after: 0 },
                Err(error) if payload.len() > segment => self.note_gso_failure(&error),
                Err(error) => return self.note_failure(&error),
            }
        }
        self.transmit_each(socket, to, payload, segment, tos)
    }

    fn transmit_each(&self, socket: &UdpSocket, to: &Destination, payload: &[u8], segment: usize, tos: u8) -> Sent {
        let (mut at, mut outcome) = (0, Sent::All);
        while at < payload.len() {
            let sent = match self.with_any_address(to, |to| socket.send_each(to, &payload[at..], segment, tos)) {
                Ok(sent) => sent.max(1),
                Err(error) if is_full(&error) => return Sent::Full { after: at },
                // It is about the first of them.
                Err(error) => {
                    outcome = self.note_failure(&error);
                    1
                }
            };
            at += sent * segment;
        }
        outcome
    }

    /// Sends from any address when the one that the peer has called is no longer ours.
    fn with_any_address<T>(
        &self,
        to: &Destination,
        mut send: impl FnMut(&Destination) -> io::Result<T>,
    ) -> io::Result<T> {
        let error = match send(to) {
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

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::shared::SharedLane;

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
        let (wire, receiver) = (wire(), UdpSocket::bind(0).expect("a socket"));
        let port = receiver.port().expect("bound");
        let to = wire.main.destination((Ipv4Addr::LOCALHOST, port).into(), None);
        // More than 64 segments are refused as one send.
        assert_eq!(wire.transmit(&to, Port::Linkspan, &[7; 700], 7, 0), Sent::All);
        let mut buffer = [0; 64];
        let received = (0..100).filter(|_| receiver.receive(&mut buffer).is_ok_and(|r| r.length == 7)).count();
        assert_eq!(received, 100);
        assert!(wire.gso(), "one refused batch does not end segmented sends");
    }

    #[test]
    fn each_datagram_that_cannot_leave_is_counted() {
        let wire = wire();
        // EACCES: the socket has not asked to broadcast.
        let to = wire.main.destination((Ipv4Addr::BROADCAST, 9).into(), None);
        assert_eq!(wire.transmit(&to, Port::Linkspan, &[7; 3500], 1000, 0), Sent::Failed);
        assert_eq!(wire.shared.drops.get(Reason::SendFailed), 4);
    }
}
