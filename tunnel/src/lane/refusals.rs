//! Which merged frames the kernel refuses. Some kernels misjudge valid virtio headers of a kind: each frame then costs a
//! failed write and one more for each packet in it, until merging is given up. Others refuse a frame now and then, which
//! merging outweighs.

use crate::packet::vnet::Gso;

/// A refusal weighs as much as so many frames that are taken.
const WEIGHT: u32 = 8;
/// This is too much: eight refusals in a row, or more than one in nine for a while.
const TOO_MUCH: u32 = 8 * WEIGHT;

/// What is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Udp,
}

impl Kind {
    /// What a frame has been merged from; `None` for a single packet.
    pub(super) fn of(gso: Gso) -> Option<Self> {
        match gso {
            Gso::None => None,
            Gso::TcpV4 | Gso::TcpV6 => Some(Self::Tcp),
            Gso::Udp => Some(Self::Udp),
        }
    }
}

/// Whether frames of a kind should still be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    GoOn,
    GiveUp,
}

/// Weighs what has become of the frames of one kind.
#[derive(Debug, Default)]
pub(super) struct Judge {
    against: u32,
}

impl Judge {
    #[inline]
    pub(super) fn accepted(&mut self) {
        self.against = self.against.saturating_sub(1);
    }

    pub(super) fn refused(&mut self) -> Verdict {
        self.against = (self.against + WEIGHT).min(TOO_MUCH);
        if self.against == TOO_MUCH { Verdict::GiveUp } else { Verdict::GoOn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many frames a judge gives up, when `taken` are taken after each that is refused.
    fn patience(taken: u32) -> Option<u32> {
        let mut judge = Judge::default();
        (1..=1000).find(|_| {
            let verdict = judge.refused();
            (0..taken).for_each(|_| judge.accepted());
            verdict == Verdict::GiveUp
        })
    }

    #[test]
    fn merging_is_given_up_when_more_than_one_frame_in_nine_is_refused() {
        assert_eq!(patience(0), Some(8));
        assert_eq!(patience(1), Some(9));
        assert_eq!(patience(4), Some(15));
        assert_eq!(patience(7), Some(57));
        assert_eq!(patience(8), None);
        assert_eq!(patience(100), None);
    }
}
