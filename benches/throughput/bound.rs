//! The most that this machine could carry: all its cores busy with nothing but cryptography and the bare network stack.

use std::hint::black_box;
use std::time::Instant;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Inner bytes of a full packet, as the tunnels carry it.
const PACKET: usize = 1420;
const BATCH: u64 = 20_000;

/// Seconds of one core to seal and open one bit of full packets, with the AEAD library that boringtun uses.
///
/// The best of ten short runs: whatever else runs on the machine can only make it look slower than it is.
pub fn seal_and_open_seconds_per_bit() -> f64 {
    let best = (0..10).map(|_| seal_and_open_batch()).fold(f64::INFINITY, f64::min);
    best / (BATCH as f64 * PACKET as f64 * 8.0)
}

/// Gbit/s of `cores` that do only what must be done: `aead` and `stack` are core-seconds per bit.
pub fn gbps(cores: usize, aead: f64, stack: f64) -> f64 {
    cores as f64 / (aead + stack) / 1e9
}

fn seal_and_open_batch() -> f64 {
    let key =
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("a ChaCha20-Poly1305 key has 32 bytes"));
    let mut packet = vec![0x5a; PACKET + CHACHA20_POLY1305.tag_len()];
    let from = Instant::now();
    for counter in 0..BATCH {
        let tag = key
            .seal_in_place_separate_tag(nonce(counter), Aad::empty(), &mut packet[..PACKET])
            .expect("a packet is shorter than the 256 GiB that one nonce may seal");
        packet[PACKET..].copy_from_slice(tag.as_ref());
        black_box(key.open_in_place(nonce(counter), Aad::empty(), &mut packet).expect("it was sealed above"));
    }
    from.elapsed().as_secs_f64()
}

/// WireGuard's nonce: 32 zero bits and the counter (WireGuard paper, section 5.4.6).
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
