//! What the kernel has dropped because a lane did not take it in time: asked for once a second, while the lane is awake.

use std::time::Duration;

use super::wire::Wire;
use crate::drops::Reason;
use crate::io::losses::lost_by;
use crate::io::udp::UdpSocket;

/// Between looks at the sockets.
const EVERY: Duration = Duration::from_secs(1);

/// How much of it is counted already.
#[derive(Debug, Default)]
pub(super) struct Losses {
    main: u32,
    vanilla: u32,
    next: Duration,
}

impl Losses {
    /// Counts what has been lost since the last look, if that was long enough ago.
    pub(super) fn look(&mut self, wire: &Wire, now: Duration) {
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        let lost = news(&wire.main, &mut self.main);
        let lost_too = wire.vanilla.as_ref().map_or(0, |vanilla| news(vanilla, &mut self.vanilla));
        wire.shared.drops.count_all(Reason::ReceiveOverflow, lost + lost_too);
    }

    /// The socket for vanilla peers is another one now.
    pub(super) fn vanilla_replaced(&mut self) {
        self.vanilla = 0;
    }
}

/// What a socket has lost beyond what is counted. A kernel that does not tell has lost nothing.
fn news(socket: &UdpSocket, counted: &mut u32) -> u64 {
    let Ok(lost) = lost_by(socket) else { return 0 };
    u64::from(lost.wrapping_sub(std::mem::replace(counted, lost)))
}
