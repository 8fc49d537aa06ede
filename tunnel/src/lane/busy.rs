//! Busy polling: a lane that has carried packets looks for more for a moment before it sleeps.
//!
//! Waking a thread up costs an interrupt on another processor, which a virtual machine pays for at both. So does the
//! kernel's `net.core.busy_poll`, and its idle governor `haltpoll`, whose growing and shrinking this has. A lane never
//! looks for longer than its packets took, and yields to whoever else wants the processor.

use std::time::Duration;

/// Longest look: about what a processor takes to wake up twice.
const LONGEST: Duration = Duration::from_micros(100);
/// After misses, this part of what has been earned is still used (as a power of two: a sixteenth).
const MOST_DOUBT: u32 = 4;

/// How long to look before the next sleep.
#[derive(Debug, Default)]
pub(super) struct BusyPoll {
    /// Time that packets have earned since the last look.
    credit: Duration,
    /// How often the credit is halved.
    doubt: u32,
}

impl BusyPoll {
    /// Earns what packets have taken.
    pub(super) fn worked(&mut self, time: Duration) {
        self.credit = (self.credit + time).min(LONGEST);
    }

    /// Spends all credit on the look that begins now, and tells how long that may take.
    pub(super) fn window(&mut self) -> Duration {
        std::mem::take(&mut self.credit) / (1 << self.doubt)
    }

    /// The look has found something.
    pub(super) fn found(&mut self) {
        self.doubt = self.doubt.saturating_sub(1);
    }

    /// The look was in vain.
    pub(super) fn missed(&mut self) {
        self.doubt = (self.doubt + 1).min(MOST_DOUBT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_look_takes_no_longer_than_packets_did_since_the_last_and_100_us_at_most() {
        let mut busy = BusyPoll::default();
        assert_eq!(busy.window(), us(0), "nothing earned");
        busy.worked(us(30));
        busy.worked(us(20));
        assert_eq!(busy.window(), us(50));
        assert_eq!(busy.window(), us(0), "spent");
        busy.worked(us(5000));
        assert_eq!(busy.window(), us(100));
    }

    #[test]
    fn looks_in_vain_are_halved_down_to_a_sixteenth_and_grow_back() {
        let mut busy = BusyPoll::default();
        let mut look = |outcome: fn(&mut BusyPoll)| {
            busy.worked(us(80));
            let window = busy.window();
            outcome(&mut busy);
            window
        };
        let misses: Vec<_> = (0..6).map(|_| look(BusyPoll::missed)).collect();
        assert_eq!(misses, [80, 40, 20, 10, 5, 5].map(us));
        let finds: Vec<_> = (0..6).map(|_| look(BusyPoll::found)).collect();
        assert_eq!(finds, [5, 10, 20, 40, 80, 80].map(us));
    }
}
