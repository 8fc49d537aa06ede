//! Packets that one lane reads for a peer of another: byte rings between each two lanes, single producer, single
//! consumer, no lock. Seldom used: the kernel learns from what a lane writes to its queue, and hands the flow's other
//! direction to the same queue; only first packets, and one-way flows to a peer with fewer lanes, come on another one.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::io::poll::Bell;

/// Bytes in flight between two lanes: a few super-packets. Untouched pages cost no memory.
const RING: usize = 256 * 1024;
/// Each packet is preceded by its length.
const PREFIX: usize = 4;

/// The packets for this lane, one ring per other lane.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    rings: Vec<Consumer<u8>>,
}

/// The ways to the other lanes.
#[derive(Debug, Default)]
pub(crate) struct Outboxes {
    /// By lane number; `None` for the lane itself.
    ways: Vec<Option<Way>>,
}

#[derive(Debug)]
struct Way {
    ring: Producer<u8>,
    bell: Arc<Bell>,
}

/// Makes the rings between lanes, whose bells are given in order.
pub(crate) fn connect(bells: &[Arc<Bell>]) -> Vec<(Inbox, Outboxes)> {
    let mut ends: Vec<(Inbox, Outboxes)> = bells.iter().map(|_| Default::default()).collect();
    for from in 0..bells.len() {
        for (to, bell) in bells.iter().enumerate() {
            let way = (from != to).then(|| {
                let (ring, consumer) = RingBuffer::new(RING);
                ends[to].0.rings.push(consumer);
                Way { ring, bell: Arc::clone(bell) }
            });
            ends[from].1.ways.push(way);
        }
    }
    ends
}

impl Inbox {
    /// Moves the next packet into `buffer` and returns its length.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.rings.iter_mut().find_map(|ring| {
            let prefix = ring.read_chunk(PREFIX).ok()?;
            let mut length = [0; PREFIX];
            length.iter_mut().zip(prefix).for_each(|(to, from)| *to = from);
            let length = u32::from_le_bytes(length) as usize;
            let body = ring.read_chunk(length).ok()?;
            let (first, second) = body.as_slices();
            buffer[..first.len()].copy_from_slice(first);
            buffer[first.len()..length].copy_from_slice(second);
            body.commit_all();
            Some(length)
        })
    }
}

impl Outboxes {
    /// Passes a packet to another lane; false when there is no such lane or its ring is full.
    pub(crate) fn pass(&mut self, lane: u8, packet: &[u8]) -> bool {
        let Some(Some(way)) = self.ways.get_mut(usize::from(lane)) else { return false };
        // Prefix and packet in one chunk: the other side sees both or neither.
        let Ok(mut chunk) = way.ring.write_chunk(PREFIX + packet.len()) else { return false };
        let (first, second) = chunk.as_mut_slices();
        let prefix = (packet.len() as u32).to_le_bytes();
        let bytes = prefix.iter().chain(packet);
        first.iter_mut().chain(second).zip(bytes).for_each(|(to, from)| *to = *from);
        chunk.commit_all();
        way.bell.ring();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_arrive_whole_and_in_order_until_the_ring_is_full() {
        let bells: Vec<_> = (0..3).map(|_| Arc::new(Bell::new().expect("eventfd"))).collect();
        let mut ends = connect(&bells);
        let mut buffer = vec![0; 65_546];
        for round in 0..20u8 {
            assert!(ends[0].1.pass(2, &[round; 60_000]), "round {round}");
            assert!(ends[1].1.pass(2, &[round, 1]));
            let mut lengths = [ends[2].0.take(&mut buffer), ends[2].0.take(&mut buffer)];
            lengths.sort_unstable();
            assert_eq!(lengths, [Some(2), Some(60_000)]);
            assert_eq!(ends[2].0.take(&mut buffer), None);
        }
        assert!((0..5).map(|_| ends[0].1.pass(2, &[0; 60_000])).eq([true, true, true, true, false]));
        assert!(!ends[0].1.pass(0, &[1]), "not to itself");
        assert!(!ends[0].1.pass(9, &[1]), "not to a lane that is not there");
        assert_eq!(ends[1].0.take(&mut buffer), None);
    }
}
