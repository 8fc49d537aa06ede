//! Properties that hold across modules: split and coalesce are each other's reverse.

use proptest::collection::vec;
use proptest::prelude::*;

use super::assemble::Assembler;
use super::coalesce::{Checksums, Config, Merge};
use super::samples::{Sample, judge};
use super::split::Segments;
use super::vnet::{self, Gso, VnetHeader};

/// All merging, with the peer trusted.
pub const ALL: Config = Config { tcp: Merge::Yes, udp: Merge::Yes, checksums: Checksums::Trust };

prop_compose! {
    fn sample(max_payload: usize)(
        v6: bool, udp: bool, tos: u8, ttl in 1u8.., id: u16, dont_fragment: bool, seq: u32, ack: u32, window: u16,
        push: bool, timestamps: Option<(u32, u32)>, payload in vec(any::<u8>(), 1..max_payload),
    ) -> Sample {
        let flags = if push { 0x18 } else { 0x10 };
        Sample { v6, udp, tos, ttl, id, dont_fragment, source_port: 443, seq, ack, window, flags, timestamps, payload }
    }
}

/// All segments of a super-packet, copied.
pub fn split(bytes: &[u8], vnet: &VnetHeader, max: usize) -> Vec<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let mut segments = Segments::new(&mut bytes, vnet, max).expect("a valid super-packet");
    let mut out = Vec::new();
    let expected = segments.remaining();
    while let Some(segment) = segments.next() {
        out.push(segment.to_vec());
    }
    assert_eq!(out.len(), expected);
    out
}

/// All frames that come of `packets`.
pub fn assemble(packets: &[Vec<u8>], config: Config) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut assembler = Assembler::new(config);
    let mut frames = Vec::new();
    let mut sink = |frame: &mut [u8]| {
        frames.push((VnetHeader::parse(frame).expect("ours"), frame[vnet::LEN..].to_vec()));
    };
    for packet in packets {
        // A cipher also writes its tag behind the packet, and a dropped packet leaves its bytes.
        let room = assembler.room();
        room[..200].fill(0xee);
        let room = assembler.room();
        room[..packet.len()].copy_from_slice(packet);
        room[packet.len()..packet.len() + 16].fill(0xaa);
        assembler.push(packet.len(), &mut sink);
    }
    assembler.flush(&mut sink);
    frames
}

proptest! {
    #[test]
    fn segments_are_valid_packets_whose_payloads_are_the_input(
        sample in sample(6000), gso_size in 1u16..3000, max in 200usize..4000,
    ) {
        prop_assume!(sample.payload.len() / usize::from(gso_size) < 500);
        let (bytes, vnet) = sample.super_packet(gso_size);
        // A datagram may not be cut smaller than the application chose.
        let max = if sample.udp { usize::MAX } else { max };
        let mut payload = Vec::new();
        let segments = split(&bytes, &vnet, max);
        for (k, segment) in segments.iter().enumerate() {
            prop_assert!(segment.len() <= max);
            let seen = judge(segment);
            let last = k + 1 == segments.len();
            if !sample.udp {
                prop_assert_eq!(seen.seq, Some(sample.seq.wrapping_add(payload.len() as u32)));
                prop_assert_eq!(seen.flags, if last { sample.flags } else { 0x10 });
            }
            if !sample.v6 {
                prop_assert_eq!(seen.id, Some(sample.id.wrapping_add(k as u16)));
            }
            payload.extend_from_slice(&seen.payload);
        }
        prop_assert_eq!(payload, sample.payload);
    }

    #[test]
    fn coalescing_what_was_split_gives_the_input_again(sample in sample(30_000), gso_size in 500u16..2000) {
        let (bytes, vnet) = sample.super_packet(gso_size);
        let segments = split(&bytes, &vnet, usize::MAX);
        let frames = assemble(&segments, ALL);
        prop_assert_eq!(frames.len(), 1);
        let (header, merged) = &frames[0];
        if segments.len() > 1 {
            prop_assert_eq!(header, &vnet);
        } else {
            prop_assert_eq!(header.gso, Gso::None);
            prop_assert!(header.needs_csum);
        }
        // All but the checksum field, which holds the pseudo header's sum, are the bytes that were split.
        let field = usize::from(vnet.csum_start + vnet.csum_offset);
        let mut expected = bytes.clone();
        expected[field..field + 2].copy_from_slice(&merged[field..field + 2]);
        prop_assert_eq!(merged, &expected);
        // Split once more, it gives the same valid packets.
        prop_assert_eq!(split(merged, header, usize::MAX), segments);
    }

    #[test]
    fn any_mix_of_packets_comes_out_again_in_order(
        samples in vec((sample(3000), 1u16..1500, 0u8..4), 1..12), checksums in 0usize..3,
    ) {
        // Cuts each sample, cuts some at odd places, and repeats some: contiguous, duplicate and foreign neighbours.
        let mut packets = Vec::new();
        for (sample, gso_size, repeat) in &samples {
            let (bytes, vnet) = sample.super_packet((*gso_size).max(100));
            for _ in 0..=*repeat / 3 {
                packets.extend(split(&bytes, &vnet, usize::MAX));
            }
        }
        let checksums = [Checksums::Trust, Checksums::Verify, Checksums::Kernel][checksums];
        let frames = assemble(&packets, Config { checksums, ..ALL });
        let mut again = Vec::new();
        for (header, frame) in &frames {
            again.extend(split(frame, header, usize::MAX));
        }
        // The identification of a DF packet means nothing (RFC 6864) and is renumbered in a super-packet.
        prop_assert_eq!(again.len(), packets.len());
        for (again, packet) in again.iter().zip(&packets) {
            let (mut again, mut packet) = (judge(again), judge(packet));
            (again.id, packet.id) = (None, None);
            prop_assert_eq!(again, packet);
        }
    }
}
