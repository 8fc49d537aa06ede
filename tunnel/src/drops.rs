//! Why packets are dropped: one counter per reason and lane, written by the lane alone.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only the owning lane may: a plain load and store costs no locked instruction.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Replaces it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// Stable name, as metrics and status show it.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// An inner packet to an address that no peer accepts.
    NoPeer = "no-peer",
    /// An inner packet to a peer that knows this cluster by virtual addresses, from a source that has none.
    NoVirtualSource = "no-virtual-source",
    /// A packet to a peer whose address is not known yet.
    NoEndpoint = "no-endpoint",
    /// An inner packet that is not IP, or whose lengths disagree.
    MalformedInner = "malformed-inner",
    /// A super-packet that could not be split.
    Unsplittable = "unsplittable",
    /// An inner packet larger than the path's MTU; its sender was told by ICMP.
    TooBig = "too-big",
    /// The kernel refused an outer datagram.
    SendFailed = "send-failed",
    /// More inner packets than a peer's queue holds came before its handshake was done.
    QueueOverflow = "queue-overflow",
    /// Another lane's inbox was full.
    InboxFull = "inbox-full",
    /// The TUN queues were full: the kernel had nowhere to put an inner packet.
    LinkOverflow = "link-overflow",
    /// A socket's receive buffer was full: datagrams came faster than its lane took them.
    ReceiveOverflow = "receive-overflow",
    /// A datagram that is not a WireGuard message.
    NotWireGuard = "not-wireguard",
    /// A datagram for another lane.
    WrongLane = "wrong-lane",
    /// A message for a session that does not exist here.
    UnknownSession = "unknown-session",
    /// A handshake from a key that is no peer's.
    UnknownPeer = "unknown-peer",
    /// A message that failed authentication.
    Unauthentic = "unauthentic",
    /// A message whose counter was seen before or is too old.
    Replayed = "replayed",
    /// A handshake that must first return a cookie.
    RateLimited = "rate-limited",
    /// An inner packet whose source is not among its peer's allowed IPs.
    SpoofedSource = "spoofed-source",
    /// A packet that met congestion, on the path or before its lane, and whose sender does not know ECN (RFC 6040, section
    /// 4.2).
    CongestionDrop = "congestion-drop",
    /// The TUN queue refused a packet.
    TunWrite = "tun-write",
}

/// The drop counters of one lane.
#[derive(Debug)]
pub struct Drops(Vec<Counter>);

impl Default for Drops {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| Counter::default()).collect())
    }
}

impl Drops {
    /// Counts one dropped packet.
    #[inline]
    pub fn count(&self, reason: Reason) {
        self.count_all(reason, 1);
    }

    /// Counts so many of them.
    #[inline]
    pub fn count_all(&self, reason: Reason, packets: u64) {
        self.0[reason as usize].add(packets);
    }

    /// Packets dropped for this reason.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let drops = Drops::default();
        drops.count(Reason::Replayed);
        drops.count_all(Reason::Replayed, 3);
        drops.count(Reason::NoPeer);
        assert_eq!(drops.get(Reason::Replayed), 4);
        assert_eq!(drops.get(Reason::NoPeer), 1);
        assert_eq!(drops.get(Reason::TunWrite), 0);
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
