//! Entry points for fuzzing, and for replaying its corpus in tests: any bytes in, no panic out.

use std::cell::RefCell;

use crate::lane::DryLane;

thread_local! {
    static LANE: RefCell<Option<DryLane>> = const { RefCell::new(None) };
}

/// Feeds a lane. The first byte chooses: even, the rest is what a socket receives, in datagrams as long as the second
/// byte times eight; odd, the rest is inner bytes that an authentic peer has sealed. The first byte's upper bits are the
/// outer ToS.
///
/// # Panics
/// Without descriptors for a socket; and when the lane has a bug, which is the point.
pub fn fuzz_datagram(data: &[u8]) {
    let [choice, size, rest @ ..] = data else { return };
    LANE.with_borrow_mut(|lane| {
        let lane = lane.get_or_insert_with(|| DryLane::new().expect("a socket and an eventfd are to be had"));
        if choice & 1 == 0 {
            lane.datagrams(rest, usize::from(*size) * 8, choice >> 1);
        } else {
            lane.sealed(rest, choice >> 1);
        }
    });
}

pub use crate::packet::fuzz::{fuzz_coalesce, fuzz_icmp, fuzz_split, fuzz_translate};
