//! What the owner of a device tells its lanes, and the box in which they find it.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::config::{Addresses, Dscp};
use crate::io::poll::Bell;
use crate::io::udp::UdpSocket;
use crate::packet::translate::Table;
use crate::routes::AllowedIps;
use crate::shared::{SharedPeer, lock};

use super::Identity;

/// What all lanes are to do, made by the owner as one immutable value.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) routes: AllowedIps,
    /// Native prefixes to virtual ones.
    pub(crate) outward: Table,
    /// Virtual prefixes to native ones.
    pub(crate) inward: Table,
    /// Whether a family without prefixes is unknown to who knows this cluster by virtual addresses.
    pub(crate) families_together: bool,
    pub(crate) peers: Vec<PeerOrder>,
    pub(crate) dscp: Dscp,
}

/// One peer of the orders.
#[derive(Debug)]
pub(crate) struct PeerOrder {
    pub(crate) identity: Identity,
    /// Lanes that both ends have; 1 for vanilla peers.
    pub(crate) lanes: u8,
    pub(crate) shared: Arc<SharedPeer>,
    pub(crate) knows_us_by: Addresses,
    pub(crate) persistent_keepalive: Option<NonZeroU16>,
}

/// Where the owner leaves orders for one lane.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) bell: Arc<Bell>,
    letter: Mutex<Letter>,
    stop: AtomicBool,
}

/// What a lane finds in its mailbox, to be done in this order.
#[derive(Debug, Default)]
pub(super) struct Letter {
    /// The socket for vanilla peers from now on, or none.
    pub(super) vanilla: Option<Option<UdpSocket>>,
    pub(super) orders: Option<Arc<Orders>>,
}

impl Mailbox {
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self { bell, letter: Mutex::default(), stop: AtomicBool::new(false) }
    }

    pub(crate) fn post(&self, orders: Arc<Orders>) {
        lock(&self.letter).orders = Some(orders);
        self.bell.ring();
    }

    /// Leaves the socket for vanilla peers, or word that there is none any more. The orders that follow ring the bell.
    pub(crate) fn hand_over(&self, vanilla: Option<UdpSocket>) {
        lock(&self.letter).vanilla = Some(vanilla);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// What has been left since the last time, after the bell; `None` when the lane is told to stop.
    pub(super) fn open(&self) -> Option<Letter> {
        self.bell.hear();
        if self.stop.load(Ordering::Acquire) {
            return None;
        }
        Some(std::mem::take(&mut *lock(&self.letter)))
    }
}
