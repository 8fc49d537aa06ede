//! The first MAC of an initiation, which everyone can make who knows the public key of whom it is for.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use blake2::{Blake2s256, Blake2sMac};
use tunnel::config::PublicKey;

/// Where it stands in an initiation, over all that is before it (WireGuard paper, section 5.4.4).
const MAC1: std::ops::Range<usize> = 116..132;

/// Gives an initiation the MAC that the holder of `key` expects.
pub fn sign(initiation: &mut [u8], key: &PublicKey) {
    let mut hash = Blake2s256::default();
    hash.update(b"mac1----");
    hash.update(&key.0);
    let mut mac = Blake2sMac::<U16>::new_from_slice(&hash.finalize_fixed()).expect("32 bytes are a key of BLAKE2s");
    mac.update(&initiation[..MAC1.start]);
    initiation[MAC1].copy_from_slice(&mac.finalize_fixed());
}
