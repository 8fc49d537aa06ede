//! The most that this machine could carry, all its cores busy with nothing but cryptography and the bare network stack; and
//! the least that a round trip takes, of nothing but the bare network stack and the wake-ups that no tunnel in userspace is
//! without.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::measure::{cores, median};

/// Inner bytes of a full packet, as the tunnels carry it, with its padding to 16 (WireGuard paper, section 5.4.6).
const PACKET: usize = 1424;
/// What iperf3 counts of it: without the headers of IPv4 and TCP and the padding; timestamps (RFC 7323) take 12 bytes.
const PAYLOAD: usize = 1420 - 20 - 32;
const BATCH: u64 = 1000;

/// Seconds of one core to seal and open one bit of TCP payload in full packets, with the AEAD library that boringtun uses,
/// while all cores do that for `span`: cores may share what they compute with, and a shared machine gives now more, now less.
pub fn seal_and_open_seconds_per_bit(span: Duration) -> Result<f64> {
    let on = |core: usize| {
        std::thread::spawn(move || -> Result<(u64, f64)> {
            pin(core)?;
            let (from, mut batches) = (Instant::now(), 0);
            while from.elapsed() < span {
                seal_and_open_batch();
                batches += 1;
            }
            Ok((batches, from.elapsed().as_secs_f64()))
        })
    };
    let threads: Vec<_> = (0..cores()).map(on).collect();
    let (mut batches, mut seconds) = (0, 0.0);
    for thread in threads {
        let done = thread.join().expect("it does not panic")?;
        (batches, seconds) = (batches + done.0, seconds + done.1);
    }
    Ok(seconds / (batches * BATCH) as f64 / (PAYLOAD as f64 * 8.0))
}

/// Gbit/s of `cores` that do only what must be done: `aead` and `stack` are core-seconds per bit.
pub fn gbps(cores: usize, aead: f64, stack: f64) -> f64 {
    cores as f64 / (aead + stack) / 1e9
}

/// Wake-ups in one round trip: of the near tunnel and the far one, of the near one again, and of ping.
const WAKE_UPS: f64 = 4.0;
/// How often a thread is woken to see how long it takes.
const TRIES: usize = 200;
/// Between two of them, so that the processor of the sleeping thread goes idle.
const PAUSE: Duration = Duration::from_millis(3);

/// Seconds from a write by a thread on one core until a thread that waits for it on another, idle one runs: the median.
pub fn wake_up_seconds() -> Result<f64> {
    let (mut caller, mut sleeper) = UnixStream::pair().context("making a socket pair")?;
    let woken = std::thread::spawn(move || -> Result<Vec<Instant>> {
        pin(1)?;
        let mut byte = [0];
        (0..TRIES).map(|_| sleeper.read_exact(&mut byte).map(|()| Instant::now()).context("waiting")).collect()
    });
    let called = std::thread::spawn(move || -> Result<Vec<Instant>> {
        pin(0)?;
        let mut call = || {
            std::thread::sleep(PAUSE);
            let now = Instant::now();
            caller.write_all(&[0]).map(|()| now).context("waking")
        };
        (0..TRIES).map(|_| call()).collect()
    });
    let (called, woken) = (called.join().expect("it does not panic")?, woken.join().expect("it does not panic")?);
    let mut seconds: Vec<f64> = called.iter().zip(&woken).map(|(from, to)| (*to - *from).as_secs_f64()).collect();
    median(&mut seconds)
}

/// Milliseconds of a round trip that takes `bare_ms` without a tunnel, when each wake-up takes `wake_up` seconds.
pub fn rtt_ms(bare_ms: f64, wake_up: f64) -> f64 {
    bare_ms + WAKE_UPS * wake_up * 1e3
}

/// Keeps this thread on one core, or anywhere on a machine that has only one.
fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core % cores());
    sched_setaffinity(None, &set).context("choosing a core")
}

fn seal_and_open_batch() {
    let key =
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("a ChaCha20-Poly1305 key has 32 bytes"));
    let mut packet = vec![0x5a; PACKET + CHACHA20_POLY1305.tag_len()];
    for counter in 0..BATCH {
        let tag = key
            .seal_in_place_separate_tag(nonce(counter), Aad::empty(), &mut packet[..PACKET])
            .expect("a packet is shorter than the 256 GiB that one nonce may seal");
        packet[PACKET..].copy_from_slice(tag.as_ref());
        black_box(key.open_in_place(nonce(counter), Aad::empty(), &mut packet).expect("it was sealed above"));
    }
}

/// WireGuard's nonce: 32 zero bits and the counter (WireGuard paper, section 5.4.6).
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
