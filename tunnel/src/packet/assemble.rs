//! The buffer in which decrypted packets become frames for the TUN queue: a [`Coalescer`] with its bookkeeping.
//!
//! ```text
//! before:   [vnet][headers | payload 0 | payload 1]
//! room():   [vnet][headers | payload 0 | payl+------- the next packet is decrypted here
//! decrypt:  [vnet][headers | payload 0 | payl|headers | payload 2]      the overlap was saved
//! push():   [vnet][headers | payload 0 | payload 1    | payload 2]      and is put back
//! ```
//! A complete frame stays where it is, and the next one begins behind it, until all are written together: each write
//! wakes whoever waits for its packets, and those behind the first find him awake.

use super::coalesce::{Coalescer, Config, Verdict};
use super::headers::MAX_HEADER;
use super::vnet;

/// Bytes that [`Assembler::room`] always offers: the largest IP packet, a cipher's tag, and padding to 16.
pub const ROOM: usize = 65535 + 16 + 15;

/// Super-packets begin at multiples of this, with their virtio headers in the gap before them.
const START: usize = 64;
const MAX_LEN: usize = 65535;
/// Super-packets of full size that may wait to be written. Four fit the caches of small processors.
const SUPER_PACKETS: usize = 4;
/// Frames of any size that may wait.
const FRAMES: usize = 64;

/// A decrypted packet that lies behind a super-packet that it does not belong to. `Assembler::saved` has its first
/// `overlap` bytes.
#[derive(Debug, Clone, Copy)]
struct Lent {
    at: usize,
    overlap: usize,
}

/// Builds frames, each a virtio header and a packet or super-packet, in one buffer without copying payloads.
///
/// For every datagram: decrypt into the beginning of [`Assembler::room`], look at the packet and change it there, then
/// [`Assembler::push`] it; or do not, which drops it. [`Assembler::flush`] at the end of each batch.
#[derive(Debug)]
pub struct Assembler {
    coalescer: Coalescer,
    buf: Box<[u8]>,
    lent: Option<Lent>,
    saved: [u8; MAX_HEADER],
    /// Where the super-packet under way begins.
    start: usize,
    /// Where the frames that wait to be written begin and end: the first `waiting`.
    frames: [(usize, usize); FRAMES],
    waiting: usize,
}

impl Assembler {
    /// Allocates the buffer (320 KiB), once; pages that no frame reaches cost no memory.
    pub fn new(config: Config) -> Self {
        Self {
            coalescer: Coalescer::new(config),
            buf: vec![0; SUPER_PACKETS * (MAX_LEN + 2 * START) + ROOM].into_boxed_slice(),
            lent: None,
            saved: [0; MAX_HEADER],
            start: START,
            frames: [(0, 0); FRAMES],
            waiting: 0,
        }
    }

    /// Follows other rules from the next packet on; a super-packet that is under way ends as it began.
    pub fn follow(&mut self, config: Config) {
        self.coalescer.follow(config);
    }

    /// Where the next packet is to be decrypted: at the start of this slice of at least [`ROOM`] bytes.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        self.take_back();
        let overlap = self.coalescer.expected_header_len();
        let at = self.start + self.coalescer.len() - overlap;
        self.saved[..overlap].copy_from_slice(&self.buf[at..at + overlap]);
        self.lent = Some(Lent { at, overlap });
        &mut self.buf[at..]
    }

    /// Takes the first `len` bytes of the last [`Assembler::room`] as an IP packet without padding behind it. Gives
    /// `sink` the complete frames, in order, when there is no room for more: each must be written at once.
    ///
    /// Without a `room` before it, or with a length beyond its end, it does nothing.
    #[inline]
    pub fn push(&mut self, len: usize, mut sink: impl FnMut(&mut [u8])) {
        let Some(Lent { at, overlap }) = self.lent else { return };
        let Some(packet) = self.buf[at..].get(..len) else { return };
        match self.coalescer.offer(packet) {
            Verdict::Start => self.lent = None,
            Verdict::Append => self.take_back(),
            Verdict::Flush => {
                self.lent = None;
                self.replace(at, overlap, len, &mut sink);
            }
        }
        if self.coalescer.is_closed() {
            self.close(&mut sink);
        }
    }

    /// Gives `sink` all frames, in order, the one that still waits for more packets too.
    #[inline]
    pub fn flush(&mut self, mut sink: impl FnMut(&mut [u8])) {
        self.take_back();
        if !self.coalescer.is_empty() {
            self.close(&mut sink);
        }
        self.drain(&mut sink);
    }

    /// Ends the super-packet and starts a new one with the `len` bytes at `at`, which overlap it.
    fn replace(&mut self, at: usize, overlap: usize, len: usize, sink: &mut impl FnMut(&mut [u8])) {
        // A packet shorter than the overlap left the rest of the super-packet as it was; saved and swapped alike.
        self.buf[at..at + overlap].swap_with_slice(&mut self.saved[..overlap]);
        self.close(sink);
        let start = self.start;
        self.buf.copy_within(at + overlap..at + overlap.max(len), start + overlap);
        self.buf[start..start + overlap].copy_from_slice(&self.saved[..overlap]);
        self.coalescer.offer(&self.buf[start..start + len]);
    }

    /// Undoes a [`Assembler::room`]: the end of the super-packet stands again.
    #[inline]
    fn take_back(&mut self) {
        if let Some(Lent { at, overlap }) = self.lent.take() {
            self.buf[at..at + overlap].copy_from_slice(&self.saved[..overlap]);
        }
    }

    /// Ends the frame under way, and writes all that wait when there is no room for another.
    fn close(&mut self, sink: &mut impl FnMut(&mut [u8])) {
        let (begin, end) = (self.start, self.start + self.coalescer.len());
        let header = self.coalescer.finish(&mut self.buf[begin..end]);
        self.buf[begin - vnet::LEN..begin].copy_from_slice(&header.encode());
        self.frames[self.waiting] = (begin - vnet::LEN, end);
        self.waiting += 1;
        self.start = end.next_multiple_of(START) + START;
        if self.waiting == FRAMES || self.start + MAX_LEN + ROOM > self.buf.len() {
            self.drain(sink);
        }
    }

    /// Writes the frames that wait.
    fn drain(&mut self, sink: &mut impl FnMut(&mut [u8])) {
        for (begin, end) in &self.frames[..self.waiting] {
            sink(&mut self.buf[*begin..*end]);
        }
        self.waiting = 0;
        self.start = START;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::properties::ALL;
    use crate::packet::samples::Sample;

    /// Pushes a TCP packet of its own flow, which merges with no other; gives the frames that leave at once.
    fn push(assembler: &mut Assembler, port: u16, payload: usize) -> Vec<(u16, usize)> {
        let packet = Sample { source_port: port, payload: vec![7; payload], ..Sample::default() }.bytes();
        assembler.room()[..packet.len()].copy_from_slice(&packet);
        let mut frames = Vec::new();
        assembler.push(packet.len(), |frame| frames.push(told(frame)));
        frames
    }

    /// The source port and the length of a frame.
    fn told(frame: &[u8]) -> (u16, usize) {
        let packet = &frame[vnet::LEN..];
        (u16::from_be_bytes([packet[20], packet[21]]), packet.len())
    }

    fn flush(assembler: &mut Assembler) -> Vec<(u16, usize)> {
        let mut frames = Vec::new();
        assembler.flush(|frame| frames.push(told(frame)));
        frames
    }

    #[test]
    fn frames_wait_for_each_other_and_leave_in_order() {
        let mut assembler = Assembler::new(ALL);
        for port in 1..=3 {
            assert_eq!(push(&mut assembler, port, 100), []);
        }
        assert_eq!(flush(&mut assembler), [(1, 140), (2, 140), (3, 140)]);
        assert_eq!(flush(&mut assembler), [], "once");
    }

    #[test]
    fn frames_leave_when_there_is_no_room_for_another_of_full_size() {
        let mut assembler = Assembler::new(ALL);
        let mut left = Vec::new();
        for port in 1..=6 {
            left.push(push(&mut assembler, port, 60_000).len());
        }
        // The fifth packet ends the fourth frame, behind which no other fits.
        assert_eq!(left, [0, 0, 0, 0, 4, 0]);
        assert_eq!(flush(&mut assembler), [(5, 60_040), (6, 60_040)]);
    }

    #[test]
    fn small_frames_leave_64_at_a_time() {
        let mut assembler = Assembler::new(ALL);
        let left: Vec<_> = (1..=130).flat_map(|port| push(&mut assembler, port, 1)).collect();
        assert_eq!(left, (1..=128).map(|port| (port, 41)).collect::<Vec<_>>());
        assert_eq!(flush(&mut assembler), [(129, 41), (130, 41)]);
    }
}
