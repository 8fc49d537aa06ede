//! The buffer in which decrypted packets become frames for the TUN queue: a [`Coalescer`] with its bookkeeping.
//!
//! ```text
//! before:   [vnet][headers | payload 0 | payload 1]
//! room():   [vnet][headers | payload 0 | payl+------- the next packet is decrypted here
//! decrypt:  [vnet][headers | payload 0 | payl|headers | payload 2]      the overlap was saved
//! push():   [vnet][headers | payload 0 | payload 1    | payload 2]      and is put back
//! ```

use super::coalesce::{Coalescer, Config, Verdict};
use super::headers::MAX_HEADER;
use super::vnet;

/// Bytes that [`Assembler::room`] always offers: the largest IP packet, a cipher's tag, and padding to 16.
pub const ROOM: usize = 65535 + 16 + 15;

/// Where the super-packet begins in the buffer: aligned, with its virtio header before it.
const START: usize = 64;
const MAX_LEN: usize = 65535;

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
}

impl Assembler {
    /// Allocates the buffer (128 KiB), once.
    pub fn new(config: Config) -> Self {
        Self {
            coalescer: Coalescer::new(config),
            buf: vec![0; START + MAX_LEN + ROOM].into_boxed_slice(),
            lent: None,
            saved: [0; MAX_HEADER],
        }
    }

    /// Where the next packet is to be decrypted: at the start of this slice of at least [`ROOM`] bytes.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        self.take_back();
        let overlap = self.coalescer.expected_header_len();
        let at = START + self.coalescer.len() - overlap;
        self.saved[..overlap].copy_from_slice(&self.buf[at..at + overlap]);
        self.lent = Some(Lent { at, overlap });
        &mut self.buf[at..]
    }

    /// Takes the first `len` bytes of the last [`Assembler::room`] as an IP packet without padding behind it. Gives
    /// `sink` the frames that are complete by now, up to two: each must be written at once.
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
            self.write(&mut sink);
        }
    }

    /// Gives `sink` the frame that still waits for more packets, if there is one.
    #[inline]
    pub fn flush(&mut self, mut sink: impl FnMut(&mut [u8])) {
        self.take_back();
        if !self.coalescer.is_empty() {
            self.write(&mut sink);
        }
    }

    /// Packets in the frame that waits for more.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.coalescer.packets()
    }

    /// Writes the super-packet and starts a new one with the `len` bytes at `at`, which overlap it.
    fn replace(&mut self, at: usize, overlap: usize, len: usize, sink: &mut impl FnMut(&mut [u8])) {
        // A packet shorter than the overlap left the rest of the super-packet as it was; saved and swapped alike.
        self.buf[at..at + overlap].swap_with_slice(&mut self.saved[..overlap]);
        self.write(sink);
        self.buf.copy_within(at + overlap..at + overlap.max(len), START + overlap);
        self.buf[START..START + overlap].copy_from_slice(&self.saved[..overlap]);
        self.coalescer.offer(&self.buf[START..START + len]);
    }

    /// Undoes a [`Assembler::room`]: the end of the super-packet stands again.
    #[inline]
    fn take_back(&mut self) {
        if let Some(Lent { at, overlap }) = self.lent.take() {
            self.buf[at..at + overlap].copy_from_slice(&self.saved[..overlap]);
        }
    }

    fn write(&mut self, sink: &mut impl FnMut(&mut [u8])) {
        let len = self.coalescer.len();
        let header = self.coalescer.finish(&mut self.buf[START..START + len]);
        self.buf[START - vnet::LEN..START].copy_from_slice(&header.encode());
        sink(&mut self.buf[START - vnet::LEN..START + len]);
    }
}
