//! A device: its lanes, its link and its peers, opened, changed and told about as a whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ipnet::IpNet;

use crate::config::{Config, MAX_LANES, MAX_MTU, MAX_PEERS, MIN_MTU, Peer, PeerKind, PublicKey, Translation};
use crate::error::Error;
use crate::io::clock::Clock;
use crate::io::losses::lost_on;
use crate::io::poll::{Announcer, Bell};
use crate::ladder::{self, Ladder, Rungs};
use crate::lane::{self, Identity, Mailbox, Merges, Orders, Parts, PeerOrder, Port, Receive};
use crate::packet::translate::Table;
use crate::report;
use crate::routes::{AllowedIps, Slot};
use crate::shared::{SharedLane, SharedPeer, lock};
use crate::status::{PeerState, Status};

/// A running device. Dropping it stops its lanes; the TUN link stays, for a restart to adopt.
#[derive(Debug)]
pub struct Device {
    control: Mutex<Control>,
    announcer: Arc<Announcer>,
    changes: UnixStream,
}

/// Everything that the owner knows. Taken by callers only, never by a lane.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) lanes: Vec<LaneHandle>,
    pub(crate) rungs: Rungs,
    /// Packets that the link had dropped before these lanes.
    lost_before: u64,
    /// Peers that are or were configured; the slot of a key is the same while it stays.
    pub(crate) slots: HashMap<PublicKey, Known>,
}

/// A configured peer and its place.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) slot: Slot,
    /// Lanes that both ends have.
    pub(crate) lanes: u8,
    pub(crate) shared: Arc<SharedPeer>,
    configured: Peer,
}

impl Known {
    /// Takes over another configured endpoint. While probes come back from the one that the peer has called from, that one is
    /// better than one that has only now been told; and one that is taken back is not called any more.
    fn follow_endpoint(&self, endpoint: Option<SocketAddr>) {
        let probed = self.configured.kind != PeerKind::Vanilla;
        let answers = probed && self.shared.paths.iter().any(|path| path.state() == PeerState::Up);
        let follows = match (self.configured.endpoint, endpoint) {
            (None, Some(_)) => !answers,
            (Some(_), None) => probed && !answers,
            (before, now) => before != now,
        };
        if follows {
            self.shared.set_endpoint(endpoint.map(Into::into));
        }
    }
}

/// A running lane.
#[derive(Debug)]
pub(crate) struct LaneHandle {
    pub(crate) shared: Arc<SharedLane>,
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    /// Creates the TUN link or adopts one that a former process left, binds the ports and starts the lanes. Handshakes
    /// to peers with an endpoint start at once. Addresses, routes and the link's state are not this crate's.
    ///
    /// # Errors
    /// [`Error`] names what could not be had. An offload that the kernel lacks is no error: see [`Status::offloads`].
    pub fn open(config: Config) -> Result<Self, Error> {
        let (announcer, changes) = Announcer::new().map_err(|source| Error::Lane { lane: 0, source })?;
        let announcer = Arc::new(announcer);
        let mut control = Control::start(config)?;
        control.deliver(&announcer);
        Ok(Self { control: Mutex::new(control), announcer, changes })
    }

    /// Makes the device do what `config` says. Sessions of peers that stay as they are go on, also when the vanilla port
    /// is opened, moved or closed; a change of the link, the key, the listen port, the lanes, the MTU or the offloads
    /// restarts the lanes, and peers re-handshake. So does a link that somebody has deleted: it is made anew.
    ///
    /// # Errors
    /// As [`Device::open`]. After a failed restart the device has no lanes, and the next call tries again; when only the
    /// vanilla port cannot be had, the device goes on as before.
    pub fn configure(&self, config: Config) -> Result<(), Error> {
        let mut control = lock(&self.control);
        let broken = control.lanes.is_empty() || control.lanes.iter().any(LaneHandle::is_lost);
        if control.config == config && !broken {
            return Ok(());
        }
        if broken || needs_restart(&control.config, &config) {
            check(&config)?;
            control.stop();
            *control = Control::start(config)?;
        } else {
            check(&config)?;
            if control.config.vanilla_port != config.vanilla_port {
                control.change_vanilla_port(config.vanilla_port)?;
            }
            control.config = config;
        }
        control.deliver(&self.announcer);
        Ok(())
    }

    /// A snapshot of the device; takes nothing from the packet path.
    pub fn status(&self) -> Status {
        report::status(&lock(&self.control))
    }

    /// Tells when the state of a peer's path changes, so that nobody has to poll: bytes come, whose number and value mean
    /// nothing. The stream does not block, and is meant for one reader: empty it, then ask for the [`Status`].
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when descriptors have run out.
    pub fn changes(&self) -> std::io::Result<UnixStream> {
        self.changes.try_clone()
    }

    /// Stops the lanes and waits for them. The link stays.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        lock(&self.control).stop();
    }
}

impl LaneHandle {
    /// Whether its thread has ended or its link is gone.
    fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::Acquire) || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Control {
    fn start(config: Config) -> Result<Self, Error> {
        check(&config)?;
        let clock = Clock::start();
        let Ladder { rungs, lanes } = Ladder::climb(&config)?;
        let lost_before = lost_on(&config.link).unwrap_or(0);
        let mut control = Self { config, clock, lanes: Vec::new(), rungs, lost_before, slots: HashMap::new() };
        let bells = (0..lanes.len())
            .map(|lane| Bell::new().map(Arc::new).map_err(|source| Error::Lane { lane: lane as u8, source }))
            .collect::<Result<Vec<_>, _>>()?;
        let ends = lane::connect(&bells);
        for ((number, (rung, bell)), (inbox, outboxes)) in (0u8..).zip(lanes.into_iter().zip(bells)).zip(ends) {
            let (mailbox, shared) = (Arc::new(Mailbox::new(bell)), Arc::new(SharedLane::default()));
            let parts = Parts {
                lane: number,
                queue: rung.queue,
                segmentation: control.rungs.segmentation,
                merges: Merges::of(control.rungs.segmentation, control.rungs.merged_udp.is_ok()),
                socket: rung.socket,
                vanilla: rung.vanilla,
                gso: control.rungs.udp_gso.is_ok(),
                receive: if control.rungs.udp_gro.is_ok() { Receive::Merged } else { Receive::Many },
                inbox,
                outboxes,
                mailbox: Arc::clone(&mailbox),
                shared: Arc::clone(&shared),
                private_key: control.config.private_key.clone(),
                clock,
            };
            let thread = std::thread::Builder::new()
                .name(format!("lane-{number}"))
                .spawn(move || lane::run(parts))
                .map_err(|source| Error::Lane { lane: number, source });
            match thread {
                Ok(thread) => control.lanes.push(LaneHandle { shared, mailbox, thread: Some(thread) }),
                Err(error) => {
                    control.stop();
                    return Err(error);
                }
            }
        }
        Ok(control)
    }

    /// Packets that the link has dropped since the lanes were started. To be asked in its network namespace.
    pub(crate) fn lost_on_link(&self) -> u64 {
        lost_on(&self.config.link).map_or(0, |lost| lost.saturating_sub(self.lost_before))
    }

    fn stop(&mut self) {
        for lane in &self.lanes {
            lane.mailbox.stop();
        }
        for lane in &mut self.lanes {
            // A lane that panicked has said so already; there is nothing left to stop.
            let _ = lane.thread.take().map(JoinHandle::join);
        }
        self.lanes.clear();
    }

    /// Opens, moves or closes the port for vanilla peers, whose socket lane 0 has.
    fn change_vanilla_port(&mut self, port: Option<u16>) -> Result<(), Error> {
        let socket = port.map(|port| ladder::bind(port, &mut self.rungs)).transpose()?;
        self.rungs.vanilla_port = socket.as_ref().map(ladder::port_of).transpose()?;
        if let Some(lane) = self.lanes.first() {
            lane.mailbox.hand_over(socket);
        }
        Ok(())
    }

    /// Sends the lanes what the configuration asks for.
    fn deliver(&mut self, announcer: &Arc<Announcer>) {
        let own = self.lanes.len() as u8;
        let mut before = std::mem::take(&mut self.slots);
        let mut free = free_slots(&before);
        for peer in &self.config.peers {
            let lanes = lanes_with(peer, own);
            let known = before.remove(&peer.public_key).filter(|known| known.lanes == lanes);
            let known = match known {
                Some(mut known) => {
                    known.follow_endpoint(peer.endpoint);
                    known.configured = peer.clone();
                    known
                }
                None => {
                    let shared = Arc::new(SharedPeer::new(peer.endpoint, lanes, Arc::clone(announcer)));
                    Known { slot: free.next().unwrap_or(0), lanes, shared, configured: peer.clone() }
                }
            };
            self.slots.insert(peer.public_key, known);
        }
        let orders = Arc::new(self.orders());
        for lane in &self.lanes {
            lane.mailbox.post(Arc::clone(&orders));
        }
    }

    fn orders(&self) -> Orders {
        let known = |peer: &Peer| &self.slots[&peer.public_key];
        let prefixes =
            self.config.peers.iter().flat_map(|p| p.allowed_ips.iter().map(move |net| (*net, known(p).slot)));
        let order = |peer: &Peer| {
            let Known { slot, lanes, shared, .. } = known(peer);
            let identity = Identity {
                slot: *slot,
                public_key: peer.public_key,
                preshared_key: peer.preshared_key.clone(),
                port: if peer.kind == PeerKind::Vanilla { Port::Vanilla } else { Port::Linkspan },
                mtu: self.config.mtu,
            };
            PeerOrder {
                identity,
                lanes: *lanes,
                shared: Arc::clone(shared),
                knows_us_by: peer.knows_us_by,
                persistent_keepalive: peer.persistent_keepalive,
            }
        };
        let translation = &self.config.translation;
        Orders {
            routes: AllowedIps::build(prefixes),
            outward: Table::build(translation.iter().map(|pair| (pair.native, pair.r#virtual))),
            inward: Table::build(translation.iter().map(|pair| (pair.r#virtual, pair.native))),
            families_together: self.config.families_together,
            peers: self.config.peers.iter().map(order).collect(),
            dscp: self.config.dscp,
        }
    }
}

/// Lanes that this device and the peer both have.
fn lanes_with(peer: &Peer, own: u8) -> u8 {
    match peer.kind {
        PeerKind::Vanilla => 1,
        PeerKind::Linkspan { lanes } => lanes.get().min(own),
    }
}

/// Slots that no known peer has, lowest first; endless for at most [`MAX_PEERS`] peers.
fn free_slots(known: &HashMap<PublicKey, Known>) -> impl Iterator<Item = Slot> + use<> {
    let taken: std::collections::HashSet<Slot> = known.values().map(|known| known.slot).collect();
    (0..=Slot::MAX).filter(move |slot| !taken.contains(slot))
}

/// Whether a change touches what the lanes were built from.
fn needs_restart(old: &Config, new: &Config) -> bool {
    let built_from = |c: &Config| (c.link.clone(), c.listen_port, c.lanes, c.mtu, c.offloads);
    built_from(old) != built_from(new) || old.private_key != new.private_key
}

fn check(config: &Config) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::Config(text));
    let lanes = config.lanes.get();
    if lanes > MAX_LANES {
        return wrong(format!("{lanes} lanes; the most is {MAX_LANES}"));
    }
    if !(MIN_MTU..=MAX_MTU).contains(&config.mtu) {
        return wrong(format!("MTU {} is not between {MIN_MTU} and {MAX_MTU}", config.mtu));
    }
    if config.peers.len() > MAX_PEERS {
        return wrong(format!("{} peers; the most is {MAX_PEERS}", config.peers.len()));
    }
    check_translation(&config.translation).or_else(wrong)?;
    let mut keys = HashMap::new();
    for peer in &config.peers {
        if let Some(other) = keys.insert(peer.public_key, &peer.name) {
            return wrong(format!("peers {other} and {} have the same public key {}", peer.name, peer.public_key));
        }
        if peer.public_key == config.private_key.public_key() {
            return wrong(format!("peer {} has this gateway's own public key", peer.name));
        }
        if peer.kind == PeerKind::Vanilla && config.vanilla_port.is_none() {
            return wrong(format!("peer {} is vanilla WireGuard, but no vanilla port is set", peer.name));
        }
    }
    Ok(())
}

/// Whether each prefix has one other to become, and one alone.
fn check_translation(translation: &[Translation]) -> Result<(), String> {
    for pair in translation {
        let [native, foreign] = [pair.native, pair.r#virtual];
        if native.max_prefix_len() != foreign.max_prefix_len() || native.prefix_len() != foreign.prefix_len() {
            return Err(format!("{native} cannot be known as {foreign}: family and length must be equal"));
        }
    }
    for side in [|pair: &Translation| pair.native, |pair: &Translation| pair.r#virtual] {
        let mut nets: Vec<IpNet> = translation.iter().map(side).map(|net| net.trunc()).collect();
        nets.sort_by_key(|net| (net.network(), net.prefix_len()));
        if let Some([a, b]) = nets.array_windows::<2>().find(|[a, b]| a.contains(b)) {
            return Err(format!("translated prefixes {a} and {b} overlap"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;
    use std::time::Duration;

    use super::*;
    use crate::config::Addresses;
    use crate::shared::PathReport;

    fn known(kind: PeerKind, configured: Option<SocketAddr>, state: PeerState) -> Known {
        let shared = Arc::new(SharedPeer::new(configured, 1, Arc::new(Announcer::new().expect("a stream").0)));
        let report = PathReport {
            handshake_at: Some(Duration::ZERO),
            rtt: None,
            loss: 0.0,
            mtu: 1420,
            plain: false,
            state,
            attempts: 0,
            heard: Default::default(),
        };
        shared.report(&shared.paths[0], &report);
        let configured = Peer {
            name: "b".to_owned(),
            public_key: PublicKey([1; 32]),
            preshared_key: None,
            endpoint: configured,
            allowed_ips: Vec::new(),
            persistent_keepalive: None,
            kind,
            knows_us_by: Addresses::Native,
        };
        Known { slot: 0, lanes: 1, shared, configured }
    }

    #[test]
    fn a_peer_that_answers_where_it_has_called_from_stays_there_when_it_is_first_told_where_it_is() {
        let at = |port: u16| Some(SocketAddr::from(([198, 51, 100, 7], port)));
        let linkspan = PeerKind::Linkspan { lanes: NonZeroU8::MIN };
        let end = |kind, configured, state, told| {
            let known = known(kind, configured, state);
            // It has roamed since.
            known.shared.set_endpoint(at(9).map(Into::into));
            known.follow_endpoint(told);
            known.shared.endpoint().map(|endpoint| endpoint.address)
        };
        assert_eq!(end(linkspan, None, PeerState::Up, at(2)), at(9));
        assert_eq!(end(linkspan, None, PeerState::Down, at(2)), at(2));
        assert_eq!(end(PeerKind::Vanilla, None, PeerState::Up, at(2)), at(2), "nobody knows whether it answers");
        assert_eq!(end(linkspan, at(1), PeerState::Up, at(2)), at(2), "it has been told another one");
        assert_eq!(end(linkspan, at(1), PeerState::Down, at(1)), at(9), "nothing new is told");
        assert_eq!(end(linkspan, at(1), PeerState::Up, None), at(9));
        assert_eq!(end(linkspan, at(1), PeerState::Down, None), None, "it is not to be called any more");
        assert_eq!(end(PeerKind::Vanilla, at(1), PeerState::Up, None), at(9));
    }
}
