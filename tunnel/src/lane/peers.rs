//! The peers of a lane: their sessions, and how they are found by slot and by key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;

use crate::config::PrivateKey;
use crate::routes::Slot;

use super::Orders;
use super::peer::LanePeer;

/// Handshakes per second and lane beyond which cookies are asked for. boringtun counts each initiation twice here: once
/// before we know whose it is, once in its session.
const HANDSHAKES_PER_SECOND: u64 = 200;

/// The lane's peers and how to find them.
pub(crate) struct Peers {
    pub(super) orders: Arc<Orders>,
    table: Vec<Option<Box<LanePeer>>>,
    /// Lanes of every peer of the device by slot, also of those that this lane has no session with.
    lanes: Vec<u8>,
    by_key: HashMap<[u8; 32], Slot>,
    pub(super) limiter: Arc<RateLimiter>,
    private_key: PrivateKey,
    pub(super) secret: x25519::StaticSecret,
    pub(super) public: x25519::PublicKey,
    lane: u8,
}

impl Peers {
    pub(super) fn new(lane: u8, private_key: PrivateKey) -> Self {
        let secret = private_key.secret();
        let public = x25519::PublicKey::from(&secret);
        Self {
            orders: Arc::default(),
            table: Vec::new(),
            lanes: Vec::new(),
            by_key: HashMap::new(),
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND)),
            private_key,
            secret,
            public,
            lane,
        }
    }

    #[inline]
    pub(super) fn get(&mut self, slot: Slot) -> Option<&mut LanePeer> {
        self.table.get_mut(usize::from(slot))?.as_deref_mut()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LanePeer> {
        self.table.iter_mut().flatten().map(Box::as_mut)
    }

    /// The peer, and the orders beside it.
    #[inline]
    pub(super) fn with_orders(&mut self, slot: Slot) -> (&Orders, Option<&mut LanePeer>) {
        (&self.orders, self.table.get_mut(usize::from(slot)).and_then(Option::as_deref_mut))
    }

    pub(super) fn slot_of(&self, key: &[u8; 32]) -> Option<Slot> {
        self.by_key.get(key).copied()
    }

    /// The lane that holds the session for packets which this lane reads for a peer.
    #[inline]
    pub(super) fn lane_of(&self, slot: Slot) -> u8 {
        self.lane % self.lanes.get(usize::from(slot)).copied().unwrap_or(1).max(1)
    }

    /// Takes new orders: keeps the sessions of peers that are as before.
    pub(super) fn obey(&mut self, orders: Arc<Orders>, now: Duration) {
        let mut old = std::mem::take(&mut self.table);
        self.lanes.clear();
        self.by_key.clear();
        for order in &orders.peers {
            let slot = usize::from(order.identity.slot);
            self.lanes.resize(self.lanes.len().max(slot + 1), 1);
            self.lanes[slot] = order.lanes;
            if self.lane >= order.lanes {
                continue;
            }
            let kept = old
                .get_mut(slot)
                .and_then(Option::take)
                .filter(|peer| peer.identity == order.identity && Arc::ptr_eq(&peer.shared, &order.shared));
            let mut peer = kept.unwrap_or_else(|| {
                let shared = Arc::clone(&order.shared);
                Box::new(LanePeer::new(
                    order.identity.clone(),
                    self.lane,
                    &self.private_key,
                    &self.limiter,
                    shared,
                    now,
                ))
            });
            peer.knows_us_by = order.knows_us_by;
            peer.keepalive.set(order.persistent_keepalive, now);
            self.by_key.insert(order.identity.public_key.0, order.identity.slot);
            self.table.resize_with(self.table.len().max(slot + 1), || None);
            self.table[slot] = Some(peer);
        }
        self.orders = orders;
    }
}
