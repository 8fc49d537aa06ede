//! The last steps inward: packets get the addresses that they have here, and frames go to the TUN queue.

use std::io;

use super::Links;
use super::refusals::{Judge, Kind, Verdict};
use super::wire::Port;
use crate::drops::Reason;
use crate::io::tun::{Segmentation, is_refusal};
use crate::packet::assemble::Assembler;
use crate::packet::coalesce::{Checksums, Config, Merge};
use crate::packet::ip::View;
use crate::packet::split::Segments;
use crate::packet::translate::{self, Direction, LastHit, Table};
use crate::packet::vnet::{self, VnetHeader};

/// What is merged on its way to a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merges {
    tcp: Merge,
    udp: Merge,
    /// The queue has virtio headers, without which each packet needs its own checksum.
    headers: bool,
}

impl Merges {
    /// What a queue takes merged; UDP only where it `survives`.
    pub(crate) fn of(segmentation: Segmentation, survives: bool) -> Self {
        let merge = |yes| if yes { Merge::Yes } else { Merge::No };
        Self {
            tcp: merge(segmentation >= Segmentation::Tcp),
            udp: merge(segmentation >= Segmentation::TcpUdp && survives),
            headers: segmentation != Segmentation::None,
        }
    }

    fn without(self, kind: Kind) -> Self {
        match kind {
            Kind::Tcp => Self { tcp: Merge::No, ..self },
            Kind::Udp => Self { udp: Merge::No, ..self },
        }
    }

    fn rules(self, checksums: Checksums) -> Config {
        let checksums = if self.headers { checksums } else { Checksums::Kernel };
        Config { tcp: self.tcp, udp: self.udp, checksums }
    }
}

/// Frames under way, by where their packets come from.
#[derive(Debug)]
pub(super) struct Assemblers {
    merges: Merges,
    /// From Linkspan peers, whose gateways have made sure of the inner checksums.
    linkspan: Assembler,
    /// From vanilla peers, whose inner checksums are verified before they are merged away.
    vanilla: Option<Assembler>,
}

impl Assemblers {
    pub(super) fn new(merges: Merges) -> Self {
        Self { merges, linkspan: Assembler::new(merges.rules(Checksums::Trust)), vanilla: None }
    }

    /// Makes room for frames from vanilla peers, or gives it back.
    pub(super) fn serve_vanilla(&mut self, vanilla: bool) {
        self.vanilla = vanilla.then(|| Assembler::new(self.merges.rules(Checksums::Verify)));
    }

    /// Passes packets of a kind one by one from now on.
    #[cold]
    pub(super) fn stop_merging(&mut self, kind: Kind) {
        self.merges = self.merges.without(kind);
        self.linkspan.follow(self.merges.rules(Checksums::Trust));
        if let Some(vanilla) = &mut self.vanilla {
            vanilla.follow(self.merges.rules(Checksums::Verify));
        }
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
    tcp: Judge,
    udp: Judge,
    /// The kernel refuses merged frames of this kind, says the judge.
    refused: Option<Kind>,
}

impl Delivery {
    pub(super) fn new(segmentation: Segmentation) -> Self {
        Self {
            plain: segmentation == Segmentation::None,
            last: LastHit::default(),
            tcp: Judge::default(),
            udp: Judge::default(),
            refused: None,
        }
    }

    /// The kind of frames that had better not be merged any more, told once.
    #[inline]
    pub(super) fn take_refused(&mut self) -> Option<Kind> {
        self.refused.take()
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
        self.write(frame, links);
    }

    fn translate(&mut self, frame: &mut [u8], inward: &Table, links: &Links) {
        let (header, packet) = frame.split_at_mut(vnet::LEN);
        if let (Ok(header), Ok(view)) = (VnetHeader::parse(header), View::parse(packet))
            && translate::translate(packet, &view, &header, Direction::Inward, inward, &mut self.last)
        {
            links.wire.shared.translated.inward.add(1);
        }
    }

    fn write(&mut self, frame: &mut [u8], links: &Links) {
        if self.plain {
            if links.queue.write(&frame[vnet::LEN..]).is_err() {
                links.drops().count(Reason::TunWrite);
            }
            return;
        }
        let kind = VnetHeader::parse(frame).ok().and_then(|header| Kind::of(header.gso));
        match (links.queue.write(frame), kind) {
            (Ok(()), None) => {}
            (Ok(()), Some(kind)) => self.judge(kind).accepted(),
            (Err(_), None) => links.drops().count(Reason::TunWrite),
            (Err(error), Some(kind)) => self.retry(frame, kind, &error, links),
        }
    }

    fn judge(&mut self, kind: Kind) -> &mut Judge {
        match kind {
            Kind::Tcp => &mut self.tcp,
            Kind::Udp => &mut self.udp,
        }
    }

    /// Writes a merged frame that the kernel has not taken piece by piece: some kernels misjudge valid headers. Where it
    /// takes nothing at all, because the link is down, pieces would fare no better.
    #[cold]
    fn retry(&mut self, frame: &mut [u8], kind: Kind, error: &io::Error, links: &Links) {
        if is_refusal(error) {
            let offloads = &links.wire.shared.offloads;
            let offload = if kind == Kind::Tcp { &offloads.tun_tso } else { &offloads.tun_uso };
            offload.note(error);
            if self.judge(kind).refused() == Verdict::GiveUp {
                offload.off.set(1);
                self.refused = Some(kind);
            }
        }
        let Ok(header) = VnetHeader::parse(frame) else { return };
        let Ok(mut pieces) = Segments::new(&mut frame[vnet::LEN..], &header, usize::MAX) else {
            links.drops().count(Reason::TunWrite);
            return;
        };
        if !is_refusal(error) {
            links.drops().count_all(Reason::TunWrite, pieces.remaining() as u64);
            return;
        }
        while let Some(piece) = pieces.next() {
            if links.queue.write_single(piece).is_err() {
                links.drops().count(Reason::TunWrite);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::io::tun::{self, Queue};
    use crate::io::udp::UdpSocket;
    use crate::lane::Wire;
    use crate::packet::samples::Sample;
    use crate::shared::SharedLane;

    fn ip(arguments: &str) {
        let done = std::process::Command::new("ip").args(arguments.split(' ')).status();
        assert!(done.is_ok_and(|status| status.success()), "ip {arguments}");
    }

    /// Packets that a link of this thread's namespace has got from its lanes.
    fn arrived(link: &str) -> u64 {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc");
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(link)).expect("the link");
        line.split_ascii_whitespace().nth(2).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// A frame of three packets, with what the virtio header says of its length.
    fn frame(udp: bool, hdr_len: Option<u16>) -> Vec<u8> {
        let sample = Sample { udp, payload: vec![7; 3000], ..Sample::default() };
        let (packet, header) = sample.super_packet(1000);
        let hdr_len = hdr_len.unwrap_or(header.hdr_len);
        [VnetHeader { hdr_len, ..header }.encode().as_slice(), &packet].concat()
    }

    #[test]
    fn what_the_kernel_refuses_is_written_piece_by_piece_until_merging_is_given_up() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        let wire = Wire::new(UdpSocket::bind(0).expect("a socket"), None, true, Arc::new(SharedLane::default()));
        let device = tun::open().expect("a TUN link needs /dev/net/tun");
        let queue = Queue::attach(device, "refuses0", Segmentation::TcpUdp).expect("a TUN link needs root");
        let (inbox, outboxes) = Default::default();
        let links = Links { lane: 0, queue, wire, inbox, outboxes, now: Duration::ZERO };
        let mut delivery = Delivery::new(Segmentation::TcpUdp);
        let mut deliver = |udp: bool, hdr_len| {
            delivery.write(&mut frame(udp, hdr_len), &links);
            delivery.take_refused()
        };
        // The link is down: nothing passes, and nobody tries again.
        assert_eq!(deliver(false, None), None);
        assert_eq!((links.drops().get(Reason::TunWrite), arrived("refuses0")), (3, 0));
        ip("link set refuses0 up");
        assert_eq!(deliver(false, None), None);
        let whole = arrived("refuses0");
        // Headers longer than the frame: the kernel takes none such.
        for (udp, kind) in [(false, Kind::Tcp), (true, Kind::Udp)] {
            let told: Vec<_> = (0..8).map(|_| deliver(udp, Some(u16::MAX))).collect();
            assert_eq!(told, [&[None; 7][..], &[Some(kind)]].concat());
            let offloads = &links.wire.shared.offloads;
            let fallback = if udp { &offloads.tun_uso } else { &offloads.tun_tso };
            assert_eq!((fallback.count.get(), fallback.off.get(), fallback.errno.get()), (8, 1, 22));
        }
        assert_eq!(arrived("refuses0"), whole + 2 * 8 * 3, "in pieces");
        assert_eq!(links.drops().get(Reason::TunWrite), 3);
    }

    #[test]
    fn stopping_one_kind_leaves_the_other_and_outlives_the_port_for_vanilla_peers() {
        let all = Merges::of(Segmentation::TcpUdp, true);
        let told = |merges: Merges| (merges.tcp, merges.udp);
        assert_eq!(told(all), (Merge::Yes, Merge::Yes));
        assert_eq!(told(Merges::of(Segmentation::TcpUdp, false)), (Merge::Yes, Merge::No));
        assert_eq!(told(Merges::of(Segmentation::None, true)), (Merge::No, Merge::No));
        let mut assemblers = Assemblers::new(all);
        assemblers.stop_merging(Kind::Udp);
        assemblers.serve_vanilla(true);
        assert_eq!(told(assemblers.merges), (Merge::Yes, Merge::No));
    }
}
