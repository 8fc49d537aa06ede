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
    /// Something has been passed since the bell was rung.
    silent: bool,
}

/// Makes the rings between lanes, whose bells are given in order.
pub(crate) fn connect(bells: &[Arc<Bell>]) -> Vec<(Inbox, Outboxes)> {
    let mut ends: Vec<(Inbox, Outboxes)> = bells.iter().map(|_| Default::default()).collect();
    for from in 0..bells.len() {
        for (to, bell) in bells.iter().enumerate() {
            let way = (from != to).then(|| {
                let (ring, consumer) = RingBuffer::new(RING);
                ends[to].0.rings.push(consumer);
                Way { ring, bell: Arc::clone(bell), silent: false }
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
            let mut prefix = [0; PREFIX];
            copy(ring.read_chunk(PREFIX).ok()?.as_slices(), &mut prefix);
            let length = u32::from_le_bytes(prefix) as usize;
            // The other side is about to write the rest, and rings then.
            let whole = ring.read_chunk(PREFIX + length).ok()?;
            let (first, second) = whole.as_slices();
            let in_first = first.len().saturating_sub(PREFIX);
            let in_second = PREFIX.saturating_sub(first.len());
            copy((&first[first.len() - in_first..], &second[in_second..]), &mut buffer[..length]);
            whole.commit_all();
            Some(length)
        })
    }
}

impl Outboxes {
    /// Passes a packet to another lane, which hears of it with [`Outboxes::ring`]; false when there is no such lane or its
    /// ring is full.
    pub(crate) fn pass(&mut self, lane: u8, packet: &[u8]) -> bool {
        let Some(Some(way)) = self.ways.get_mut(usize::from(lane)) else { return false };
        if way.ring.slots() < PREFIX + packet.len() {
            return false;
        }
        let prefix = (packet.len() as u32).to_le_bytes();
        way.silent = true;
        way.ring.push_entire_slice(&prefix).is_ok() && way.ring.push_entire_slice(packet).is_ok()
    }

    /// Wakes the lanes to which something has been passed: once for all of it.
    pub(crate) fn ring(&mut self) {
        for way in self.ways.iter_mut().flatten().filter(|way| way.silent) {
            way.silent = false;
            way.bell.ring();
        }
    }
}

/// Copies two pieces, one behind the other, into a place of their length.
fn copy((first, second): (&[u8], &[u8]), to: &mut [u8]) {
    let (to_first, to_second) = to.split_at_mut(first.len());
    to_first.copy_from_slice(first);
    to_second.copy_from_slice(second);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each bell was rung since it was last heard.
    fn rings(bells: &[Arc<Bell>]) -> Vec<u64> {
        bells.iter().map(|bell| bell.hear()).collect()
    }

    #[test]
    fn packets_arrive_whole_and_in_order_until_the_ring_is_full() {
        let bells: Vec<_> = (0..3).map(|_| Arc::new(Bell::new().expect("eventfd"))).collect();
        let mut ends = connect(&bells);
        let mut buffer = vec![0; 65_546];
        for round in 0..20u8 {
            let long: Vec<_> = (0..60_001u32).map(|at| (at >> 3) as u8 ^ round).collect();
            assert!(ends[0].1.pass(2, &long), "round {round}");
            assert!(ends[1].1.pass(2, &[round, 1]));
            let arrived: Vec<_> =
                std::iter::from_fn(|| ends[2].0.take(&mut buffer).map(|n| buffer[..n].to_vec())).collect();
            assert_eq!(arrived, [long, vec![round, 1]], "round {round}");
        }
        assert!((0..5).map(|_| ends[0].1.pass(2, &[0; 60_000])).eq([true, true, true, true, false]));
        assert_eq!(rings(&bells), [0, 0, 0], "nobody has been told yet");
        ends[0].1.ring();
        ends[0].1.ring();
        assert_eq!(rings(&bells), [0, 0, 1], "once for all of them");
        assert!(!ends[0].1.pass(0, &[1]), "not to itself");
        assert!(!ends[0].1.pass(9, &[1]), "not to a lane that is not there");
        assert_eq!(ends[1].0.take(&mut buffer), None);
    }
}
