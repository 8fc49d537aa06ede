//! The last steps inward: packets get the addresses that they have here, and frames go to the TUN queue.

use super::Links;
use super::wire::Port;
use crate::drops::Reason;
use crate::io::tun::Segmentation;
use crate::packet::assemble::Assembler;
use crate::packet::coalesce::{Checksums, Config, Merge};
use crate::packet::ip::View;
use crate::packet::split::Segments;
use crate::packet::translate::{self, Direction, LastHit, Table};
use crate::packet::vnet::{self, VnetHeader};

/// What may be merged on a queue.
fn merging(segmentation: Segmentation, checksums: Checksums) -> Config {
    let merge = |yes| if yes { Merge::Yes } else { Merge::No };
    Config {
        tcp: merge(segmentation >= Segmentation::Tcp),
        udp: merge(segmentation >= Segmentation::TcpUdp),
        checksums: if segmentation == Segmentation::None { Checksums::Kernel } else { checksums },
    }
}

/// Frames under way, by where their packets come from.
#[derive(Debug)]
pub(super) struct Assemblers {
    /// From Linkspan peers, whose gateways have made sure of the inner checksums.
    linkspan: Assembler,
    /// From vanilla peers, whose inner checksums are verified before they are merged away.
    vanilla: Option<Assembler>,
}

impl Assemblers {
    pub(super) fn new(segmentation: Segmentation) -> Self {
        Self { linkspan: Assembler::new(merging(segmentation, Checksums::Trust)), vanilla: None }
    }

    /// Makes room for frames from vanilla peers, or gives it back.
    pub(super) fn serve_vanilla(&mut self, vanilla: bool, segmentation: Segmentation) {
        self.vanilla = vanilla.then(|| Assembler::new(merging(segmentation, Checksums::Verify)));
    }

    #[inline]
    pub(super) fn of(&mut self, port: Port) -> &mut Assembler {
        match (port, &mut self.vanilla) {
            (Port::Vanilla, Some(assembler)) => assembler,
            _ => &mut self.linkspan,
        }
    }
}

/// What frames go through on their way to the queue.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Frames go to the queue without a virtio header.
    plain: bool,
    last: LastHit,
}

impl Delivery {
    pub(super) fn new(segmentation: Segmentation) -> Self {
        Self { plain: segmentation == Segmentation::None, last: LastHit::default() }
    }

    /// Forgets the cached translation.
    pub(super) fn routes_changed(&mut self) {
        self.last.clear();
    }

    /// Gives a frame the destination that its receiver has here, and writes it. What is merged has one header, so that it
    /// is translated once.
    pub(super) fn deliver(&mut self, frame: &mut [u8], inward: &Table, links: &Links) {
        if !inward.is_empty() {
            self.translate(frame, inward, links);
        }
        write(frame, self.plain, links);
    }

    fn translate(&mut self, frame: &mut [u8], inward: &Table, links: &Links) {
        let (header, packet) = frame.split_at_mut(vnet::LEN);
        if let (Ok(header), Ok(view)) = (VnetHeader::parse(header), View::parse(packet))
            && translate::translate(packet, &view, &header, Direction::Inward, inward, &mut self.last)
        {
            links.wire.shared.translated.inward.add(1);
        }
    }
}

/// Writes one frame. A merged one that the kernel refuses (some kernels misjudge valid headers) is written piece by piece.
fn write(frame: &mut [u8], plain: bool, links: &Links) {
    if plain {
        if links.queue.write(&frame[vnet::LEN..]).is_err() {
            links.drops().count(Reason::TunWrite);
        }
        return;
    }
    let Err(error) = links.queue.write(frame) else { return };
    let merged = VnetHeader::parse(frame).is_ok_and(|header| header.gso != vnet::Gso::None);
    if !merged {
        links.drops().count(Reason::TunWrite);
        return;
    }
    links.wire.shared.offloads.tun_gso.note(&error);
    write_pieces(frame, links);
}

#[cold]
fn write_pieces(frame: &mut [u8], links: &Links) {
    let Ok(header) = VnetHeader::parse(frame) else { return };
    let mut piece = vec![0; frame.len()];
    let Ok(mut segments) = Segments::new(&mut frame[vnet::LEN..], &header, usize::MAX) else {
        links.drops().count(Reason::TunWrite);
        return;
    };
    while let Some(segment) = segments.next() {
        let end = vnet::LEN + segment.len();
        let written = piece.get_mut(..end).is_some_and(|piece| {
            piece[..vnet::LEN].fill(0);
            piece[vnet::LEN..].copy_from_slice(segment);
            links.queue.write(piece).is_ok()
        });
        if !written {
            links.drops().count(Reason::TunWrite);
        }
    }
}
