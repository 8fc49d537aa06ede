//! Packets that wait for a session. boringtun keeps them, and drops those for which it has no room in silence.

/// Packets that it keeps (`MAX_QUEUE_DEPTH` of its `noise/mod.rs`).
const ROOM: usize = 256;

/// How many wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(usize);

impl Waiting {
    /// One more comes; tells whether there is room for it.
    pub(super) fn add(&mut self) -> bool {
        let room = self.0 < ROOM;
        self.0 += usize::from(room);
        room
    }

    /// They have left, or were given up.
    pub(super) fn clear(&mut self) {
        self.0 = 0;
    }
}
