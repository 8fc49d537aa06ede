//! Which of a peer's last handshakes were answered, whichever lane they came to.
//!
//! A handshake names its lane outside of what it proves, and each lane knows the newest time of its own handshakes only:
//! one that was caught on its way to a lane could be sent to another. The ephemeral key is part of the proof, and new each
//! time, so that a known one tells a repetition.

/// Handshakes that are remembered: those of 16 lanes for eight minutes (WireGuard paper, section 6.1, `Rekey-After-Time`).
const REMEMBERED: usize = 64;

/// Where an initiation has its ephemeral key, of which the first eight bytes do (WireGuard paper, section 5.4.2).
const EPHEMERAL: usize = 8;

/// The last handshakes that were answered.
#[derive(Debug)]
pub(crate) struct Answered {
    ephemerals: [u64; REMEMBERED],
    count: usize,
}

impl Default for Answered {
    fn default() -> Self {
        Self { ephemerals: [0; REMEMBERED], count: 0 }
    }
}

impl Answered {
    /// Whether this initiation was answered already; one that is cut off counts as such.
    pub(crate) fn has(&self, initiation: &[u8]) -> bool {
        ephemeral(initiation).is_none_or(|ephemeral| self.known().contains(&ephemeral))
    }

    /// Remembers an initiation; returns whether it is new.
    pub(crate) fn add(&mut self, initiation: &[u8]) -> bool {
        let new = ephemeral(initiation).filter(|ephemeral| !self.known().contains(ephemeral));
        if let Some(ephemeral) = new {
            self.ephemerals[self.count % REMEMBERED] = ephemeral;
            self.count += 1;
        }
        new.is_some()
    }

    fn known(&self) -> &[u64] {
        &self.ephemerals[..self.count.min(REMEMBERED)]
    }
}

fn ephemeral(initiation: &[u8]) -> Option<u64> {
    initiation.get(EPHEMERAL..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initiation(lane: u8, ephemeral: u8) -> [u8; 148] {
        let mut initiation = [ephemeral; 148];
        initiation[5] = lane;
        initiation
    }

    #[test]
    fn a_handshake_is_new_once_on_whichever_lane() {
        let mut answered = Answered::default();
        assert!(!answered.has(&initiation(0, 0)), "a key of zeroes is as good as another");
        for ephemeral in 0..=u8::MAX {
            assert!(answered.add(&initiation(0, ephemeral)));
            assert!(answered.has(&initiation(1, ephemeral)) && !answered.add(&initiation(2, ephemeral)));
        }
        let known = (0..=u8::MAX).filter(|ephemeral| answered.has(&initiation(1, *ephemeral)));
        assert_eq!(known.collect::<Vec<_>>(), (192..=u8::MAX).collect::<Vec<_>>(), "the last 64");
    }

    #[test]
    fn what_is_cut_off_is_never_new() {
        let mut answered = Answered::default();
        assert!(answered.has(&[1; 15]) && !answered.add(&[1; 15]));
    }
}
