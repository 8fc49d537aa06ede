//! Two real lanes, a network between them that delays, loses and cuts, and a clock that the test moves. The sockets are
//! real, over loopback; what one lane sends, the network takes, and hands to the other when its time has come.
//!
//! boringtun reads the real clock, which hardly moves here: sessions do not age. Everything else that a lane does in time
//! (calling, probing, searching for the MTU) follows the clock of the simulation.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as Gate};
use std::num::NonZeroU16;
use std::os::unix::net::UnixDatagram;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::config::Addresses;
use crate::drops::Reason;
use crate::io::poll::{Announcer, Bell};
use crate::packet::translate::Table;
use crate::routes::AllowedIps;
use crate::shared::SharedPeer;
use crate::status::PeerState;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// What IPv4, UDP and WireGuard add to an inner packet.
const OUTER: usize = 20 + 8 + wire::OVERHEAD;

/// One lane with its owner's ends of everything.
struct End {
    lane: Lane,
    tun: UnixDatagram,
    peer: Arc<SharedPeer>,
    at: SocketAddr,
    identity: Identity,
    lanes: u8,
}

/// What becomes of datagrams under way.
struct Weather {
    loss: f64,
    delay: std::ops::Range<Duration>,
    /// Largest IPv4 packet that passes.
    mtu: usize,
    cut: bool,
}

struct Simulation {
    ends: [End; 2],
    /// Where each lane sees the other: what it sends comes in here, and what it gets comes from here.
    gates: [Gate; 2],
    air: BTreeMap<(Duration, u64), (usize, Vec<u8>)>,
    weather: Weather,
    random: StdRng,
    now: Duration,
    number: u64,
    /// Handshake initiations that each lane has sent.
    calls: [u32; 2],
}

fn key(end: usize) -> PrivateKey {
    PrivateKey::from_bytes([end as u8 + 1; 32])
}

fn inner(end: usize) -> [u8; 4] {
    [10, 0, end as u8, 1]
}

/// An inner packet of `size` bytes from one end to the other.
fn packet(from: usize, size: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4(inner(from), inner(1 - from), 64).udp(7, 7);
    let payload = vec![from as u8; size - 28];
    let mut packet = Vec::new();
    builder.write(&mut packet, &payload).expect("a packet");
    // Without DF, and with the checksum that goes with it: nobody is told when the packet is too big.
    packet[6] = 0;
    let (sum, carry) = u16::from_be_bytes([packet[10], packet[11]]).overflowing_add(0x4000);
    packet[10..12].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    packet
}

/// The same over IPv6, from and to the first hosts of fd00::/64 and fd00:0:0:1::/64.
fn packet_v6(from: usize, size: usize) -> Vec<u8> {
    let host = |end: usize| [0xfd, 0, 0, 0, 0, 0, 0, end as u8, 0, 0, 0, 0, 0, 0, 0, 1];
    let builder = etherparse::PacketBuilder::ipv6(host(from), host(1 - from), 64).udp(7, 7);
    let mut packet = Vec::new();
    builder.write(&mut packet, &vec![from as u8; size - 48]).expect("a packet");
    packet
}

impl End {
    /// A lane of a device with `lanes`, which knows the other end, and calls it when `gate` is given.
    fn new(number: usize, (lane, lanes): (u8, u8), gate: Option<SocketAddr>) -> Self {
        let bells: Vec<_> = (0..lanes).map(|_| Arc::new(Bell::new().expect("an eventfd"))).collect();
        let (inbox, outboxes) = connect(&bells).swap_remove(usize::from(lane));
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&bells[usize::from(lane)])));
        let (queue, tun) = Queue::pair().expect("a socket pair");
        let socket = UdpSocket::bind(0).expect("a socket");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, socket.port().expect("bound")));
        let parts = Parts {
            lane,
            queue,
            segmentation: Segmentation::None,
            merges: Merges::of(Segmentation::None, true),
            socket,
            vanilla: None,
            gso: false,
            receive: if number == 0 { Receive::Single } else { Receive::Many },
            inbox,
            outboxes,
            mailbox: Arc::clone(&mailbox),
            shared: Arc::new(SharedLane::default()),
            private_key: key(number),
            clock: Clock::start(),
        };
        let changes = Arc::new(Announcer::new().expect("a stream").0);
        let peer = Arc::new(SharedPeer::new(gate, lanes, changes));
        let identity = Identity {
            slot: 0,
            public_key: key(1 - number).public_key(),
            preshared_key: None,
            port: Port::Linkspan,
            mtu: 1420,
        };
        let end = Self { lane: Lane::new(parts).expect("a poll set"), tun, peer, at, identity, lanes };
        end.order(Some(format!("10.0.{}.0/24", 1 - number).parse().expect("a prefix")), None);
        end
    }

    /// Orders to send what goes to `prefix` to the other end, and keepalives.
    fn order(&self, prefix: Option<ipnet::IpNet>, persistent_keepalive: Option<NonZeroU16>) {
        self.lane.mailbox.post(Arc::new(self.orders(prefix, persistent_keepalive)));
    }

    fn orders(&self, prefix: Option<ipnet::IpNet>, persistent_keepalive: Option<NonZeroU16>) -> Orders {
        let order = PeerOrder {
            identity: self.identity.clone(),
            lanes: self.lanes,
            shared: Arc::clone(&self.peer),
            knows_us_by: Addresses::Native,
            persistent_keepalive,
        };
        Orders { routes: AllowedIps::build(prefix.map(|prefix| (prefix, 0))), peers: vec![order], ..Orders::default() }
    }

    /// Lets the lane do all that it can do now.
    fn turn(&mut self, now: Duration) {
        loop {
            let ready = self.lane.poll.wait(Some(Duration::ZERO)).expect("a poll set");
            let progress = self.lane.turn(ready, now).expect("nobody stops it");
            if ready == Ready::default() && progress == Progress::Dry {
                return;
            }
        }
    }

    fn state(&self) -> PeerState {
        self.peer.paths[usize::from(self.lane.links.lane)].state()
    }

    fn mtu(&mut self) -> u16 {
        self.lane.peers.get(0).expect("a peer").path.mtu()
    }

    /// Sizes of the packets that have come out of the tunnel.
    fn delivered(&self) -> Vec<usize> {
        let mut buffer = vec![0; 65_536];
        std::iter::from_fn(|| self.tun.recv(&mut buffer).ok()).collect()
    }

    fn drops(&self, reason: Reason) -> u64 {
        self.lane.links.drops().get(reason)
    }
}

impl Simulation {
    /// Two ends that know each other's address.
    fn new(seed: u64) -> Self {
        Self::of_lane(seed, (0, 1), [true, true])
    }

    fn of_lane(seed: u64, lane: (u8, u8), calls: [bool; 2]) -> Self {
        let gates = [(); 2].map(|()| {
            let gate = Gate::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            gate.set_nonblocking(true).expect("a mode");
            gate
        });
        let end = |end: usize| {
            let gate = gates[end].local_addr().expect("bound");
            End::new(end, lane, calls[end].then_some(gate))
        };
        Self {
            ends: [end(0), end(1)],
            gates,
            air: BTreeMap::new(),
            weather: Weather { loss: 0.0, delay: 10 * MS..11 * MS, mtu: 65_535, cut: false },
            random: StdRng::seed_from_u64(seed),
            now: MS,
            number: 0,
            calls: [0; 2],
        }
    }

    /// The process of one end is replaced by a new one, which knows the other's address.
    fn restart(&mut self, end: usize) {
        let gate = self.gates[end].local_addr().expect("bound");
        self.ends[end] = End::new(end, (0, 1), Some(gate));
    }

    fn send(&mut self, from: usize, size: usize) {
        self.ends[from].tun.send(&packet(from, size)).expect("room");
    }

    /// Goes on for a while.
    fn pass(&mut self, time: Duration) {
        self.until(time, |_| false);
    }

    /// Goes on until something is so, for at most `time`; tells whether it is.
    fn until(&mut self, time: Duration, mut so: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + time;
        loop {
            self.step();
            if so(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            let deadlines = self.ends.iter().map(|end| end.lane.deadline);
            let next = self.air.keys().next().map_or(Duration::MAX, |(at, _)| *at);
            self.now = deadlines.fold(next, Duration::min).max(self.now + MS / 10).min(end);
        }
    }

    fn step(&mut self) {
        while let Some(first) = self.air.first_entry().filter(|first| first.key().0 <= self.now) {
            let (to, datagram) = first.remove();
            self.gates[to].send_to(&datagram, self.ends[to].at).expect("loopback takes it");
        }
        for end in &mut self.ends {
            end.turn(self.now);
        }
        let mut buffer = vec![0; 65_536];
        for from in 0..2 {
            while let Ok((length, _)) = self.gates[from].recv_from(&mut buffer) {
                self.take(from, &buffer[..length]);
            }
        }
    }

    /// Takes what one lane has sent.
    fn take(&mut self, from: usize, datagram: &[u8]) {
        if datagram[0] == INITIATION {
            self.calls[from] += 1;
        }
        let lost = self.random.random_bool(self.weather.loss);
        let at = self.now + self.random.random_range(self.weather.delay.clone());
        if !lost && !self.weather.cut && datagram.len() + 28 <= self.weather.mtu {
            self.number += 1;
            self.air.insert((at, self.number), (1 - from, datagram.to_vec()));
        }
    }

    fn show(&self) -> String {
        let ends = self.ends.iter().map(|end| {
            let drops: Vec<_> =
                Reason::ALL.iter().filter(|r| end.drops(**r) > 0).map(|r| (r.name(), end.drops(*r))).collect();
            format!("{:?} {drops:?} {:?}", end.state(), end.lane.deadline)
        });
        format!("{:?} {:?} {} {:?}", self.now, self.calls, self.number, ends.collect::<Vec<_>>())
    }

    fn both_up(&mut self) -> bool {
        self.ends.iter().all(|end| end.state() == PeerState::Up)
    }
}

#[test]
fn crossing_calls_end_in_one_session_that_carries_what_waited() {
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed);
        // Both have something to say before there is a session, and call at the same moment.
        simulation.weather.delay = 1 * MS..(1 + seed as u32 * 3) * MS + MS;
        for end in [0, 1] {
            simulation.send(end, 100);
            simulation.send(end, 1000);
        }
        let mut delivered = [Vec::new(), Vec::new()];
        let both = simulation.until(2 * SECOND, |simulation| {
            for (end, delivered) in simulation.ends.iter().zip(&mut delivered) {
                delivered.extend(end.delivered());
            }
            delivered.iter().all(|sizes| sizes.len() == 2)
        });
        assert!(both, "seed {seed}: {delivered:?}");
        assert!(simulation.until(SECOND, Simulation::both_up), "seed {seed}");
        let calls = simulation.calls;
        // Packets that wait bring one call about, the tick another, and the third is the retry of a call that was lost in
        // the crossing. Calls that are forgotten while under way make many more.
        assert!(calls.iter().all(|calls| *calls <= 3), "seed {seed}: {calls:?}");
        simulation.pass(60 * SECOND);
        assert_eq!(simulation.calls, calls, "seed {seed}: nobody calls while the session answers");
    }
}

#[test]
fn a_lossy_path_comes_up_and_carries_what_it_lets_through() {
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed);
        simulation.weather.loss = 0.3;
        simulation.weather.delay = 5 * MS..60 * MS;
        simulation.send(0, 300);
        assert!(simulation.until(20 * SECOND, Simulation::both_up), "seed {seed}");
        simulation.ends[1].delivered();
        let mut arrived = 0;
        for _ in 0..100 {
            simulation.send(0, 300);
            simulation.pass(100 * MS);
            arrived += simulation.ends[1].delivered().len();
        }
        assert!((40..=95).contains(&arrived), "seed {seed}: {arrived} of 100");
        simulation.weather.loss = 0.0;
        assert!(simulation.until(3 * SECOND, Simulation::both_up), "seed {seed}: up when loss ends");
    }
}

#[test]
fn a_path_that_dies_in_the_middle_of_an_mtu_search_is_seen_to_be_down() {
    for (seed, wait) in (0..).zip([0, 150, 300, 450, 600, 750, 900]) {
        let mut simulation = Simulation::new(seed);
        assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
        simulation.weather.mtu = 1300;
        // Traffic keeps the path active; the search begins when the size in use is next confirmed.
        let searching = simulation.until(20 * SECOND, |simulation| {
            simulation.send(0, 100);
            simulation.ends[0].mtu() < 1420
        });
        assert!(searching, "seed {seed}: no search");
        simulation.pass(wait * MS);
        simulation.weather.cut = true;
        let down = simulation.until(3 * SECOND, |simulation| simulation.ends[0].state() == PeerState::Down);
        assert!(down, "seed {seed}: still {:?}", simulation.ends[0].state());
        simulation.weather.cut = false;
        assert!(simulation.until(8 * SECOND, Simulation::both_up), "seed {seed}: not back");
    }
}

#[test]
fn an_mtu_search_that_loses_answers_ends_at_a_size_that_passes() {
    for seed in 0..10 {
        let mut simulation = Simulation::new(seed);
        assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
        simulation.weather.mtu = 1400;
        simulation.weather.loss = 0.1;
        for _ in 0..600 {
            simulation.send(0, 100);
            simulation.pass(100 * MS);
        }
        simulation.weather.loss = 0.0;
        for _ in 0..200 {
            simulation.send(0, 100);
            simulation.pass(100 * MS);
        }
        let (mtu, real) = (usize::from(simulation.ends[0].mtu()), 1400 - OUTER);
        // An answer that was lost may end the search early, at a size that is known to pass.
        assert!((1280..=real).contains(&mtu), "seed {seed}: {mtu} where {real} passes");
        simulation.ends[1].delivered();
        simulation.send(0, mtu);
        simulation.pass(100 * MS);
        assert_eq!(simulation.ends[1].delivered(), [mtu], "seed {seed}");
    }
}

#[test]
fn ipv6_packets_that_every_link_carries_pass_whole_over_a_narrower_path() {
    let mut simulation = Simulation::new(1);
    assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
    simulation.weather.mtu = 1000;
    let narrow = (0..600).any(|_| {
        simulation.send(0, 100);
        simulation.pass(100 * MS);
        simulation.ends[0].mtu() < 1280
    });
    assert!(narrow, "{}", simulation.show());
    // The network would carry the fragments of an outer packet.
    simulation.weather.mtu = 65_535;
    for (end, prefix) in simulation.ends.iter().zip(["fd00:0:0:1::/64", "fd00::/64"]) {
        end.order(Some(prefix.parse().expect("a prefix")), None);
    }
    simulation.pass(50 * MS);
    simulation.ends[1].delivered();
    let mut send = |size: usize| {
        simulation.ends[0].tun.send(&packet_v6(0, size)).expect("room");
        simulation.pass(50 * MS);
        let mut answer = [0; 2048];
        let length = simulation.ends[0].tun.recv(&mut answer).unwrap_or(0);
        (simulation.ends[1].delivered(), answer[..length].to_vec())
    };
    assert_eq!(send(1280), (vec![1280], Vec::new()));
    let (delivered, answer) = send(1281);
    assert_eq!((delivered, answer.len()), (Vec::new(), 1280));
    assert_eq!((&answer[40..42], &answer[44..48]), (&[2, 0][..], &[0, 0, 5, 0][..]), "too big for 1280");
    assert_eq!(simulation.ends[0].drops(Reason::TooBig), 1);
}

#[test]
fn a_quiet_lane_that_was_down_does_not_call_once_its_path_is_back() {
    let mut simulation = Simulation::of_lane(1, (1, 2), [true, true]);
    simulation.send(0, 100);
    assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
    simulation.weather.cut = true;
    simulation.send(0, 100);
    let down = simulation.until(5 * SECOND, |simulation| simulation.ends[0].state() == PeerState::Down);
    assert!(down, "{}", simulation.show());
    simulation.pass(20 * SECOND);
    simulation.weather.cut = false;
    assert!(simulation.until(10 * SECOND, Simulation::both_up));
    simulation.pass(2 * SECOND);
    let calls = simulation.calls;
    simulation.pass(120 * SECOND);
    assert_eq!(simulation.calls, calls, "nobody has anything to say");
}

#[test]
fn a_peer_that_is_gone_for_good_is_called_seldom() {
    let mut simulation = Simulation::new(1);
    assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
    simulation.weather.cut = true;
    simulation.pass(100 * SECOND);
    let calls = simulation.calls[0];
    assert!((15..40).contains(&calls), "{calls} calls in 100 s");
    assert_eq!(simulation.ends[0].state(), PeerState::Down);
}

#[test]
fn a_lane_that_only_calls_is_never_limited() {
    let mut simulation = Simulation::of_lane(1, (0, 1), [true, false]);
    let rounds = |simulation: &mut Simulation| {
        for _ in 0..110 {
            assert!(simulation.until(10 * SECOND, Simulation::both_up));
            // The peer begins anew, and waits to be called.
            simulation.ends[1] = End::new(1, (0, 1), None);
            let down = simulation.until(5 * SECOND, |simulation| simulation.ends[0].state() == PeerState::Down);
            assert!(down, "the silence is noticed: {}", simulation.show());
        }
    };
    rounds(&mut simulation);
    // The limiter counts by the real clock; more calls than it lets through in one second follow in the next.
    std::thread::sleep(SECOND + 100 * MS);
    rounds(&mut simulation);
    assert_eq!(simulation.ends[0].drops(Reason::RateLimited), 0);
}

#[test]
fn a_packet_as_large_as_a_queue_hands_over_waits_for_the_session() {
    let mut simulation = Simulation::new(1);
    simulation.send(0, 60_000);
    let mut delivered = Vec::new();
    let arrived = simulation.until(2 * SECOND, |simulation| {
        delivered.extend(simulation.ends[1].delivered());
        !delivered.is_empty()
    });
    assert!(arrived);
    assert_eq!(delivered, [60_000]);
}

#[test]
fn a_restarted_process_is_heard_within_a_second() {
    for seed in 0..10 {
        let mut simulation = Simulation::new(seed);
        assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
        simulation.restart(1);
        simulation.ends[1].delivered();
        let begin = simulation.now;
        let back = simulation.until(SECOND, |simulation| {
            simulation.send(0, 100);
            simulation.send(1, 100);
            simulation.ends.iter().all(|end| !end.delivered().is_empty())
        });
        assert!(back, "seed {seed}: not after {:?}", simulation.now - begin);
    }
}

#[test]
fn a_peer_that_begins_to_carry_traffic_keeps_its_session() {
    let mut simulation = Simulation::new(1);
    assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
    let calls = simulation.calls;
    for keepalive in [NonZeroU16::new(25), None, NonZeroU16::new(10)] {
        simulation.ends[0].order(None, keepalive);
        let lost = simulation.until(5 * SECOND, |simulation| !simulation.both_up());
        assert!(!lost, "with a keepalive of {keepalive:?}: {}", simulation.show());
    }
    assert_eq!(simulation.calls, calls, "nobody has called again");
}

#[test]
fn keepalives_go_out_at_the_interval_that_was_ordered_last() {
    // A lane that has nothing to say does not probe either.
    let mut simulation = Simulation::of_lane(1, (1, 2), [true, true]);
    simulation.send(0, 100);
    assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
    simulation.pass(60 * SECOND);
    let mut sent = |keepalive, time: Duration| {
        simulation.ends[0].order(None, keepalive);
        let before = simulation.number;
        simulation.pass(time);
        simulation.number - before
    };
    assert_eq!(sent(None, 60 * SECOND), 0);
    assert_eq!(sent(NonZeroU16::new(25), 60 * SECOND), 2);
    assert_eq!(sent(NonZeroU16::new(10), 60 * SECOND + MS), 6);
    assert_eq!(sent(None, 60 * SECOND), 0);
}

#[test]
fn a_peer_whose_endpoint_is_taken_back_is_called_no_more() {
    let mut simulation = Simulation::of_lane(1, (0, 1), [true, false]);
    simulation.weather.cut = true;
    let down = simulation.until(10 * SECOND, |simulation| simulation.ends[0].state() == PeerState::Down);
    assert!(down, "{}", simulation.show());
    simulation.ends[0].peer.set_endpoint(None);
    simulation.ends[0].order(None, None);
    simulation.pass(10 * SECOND);
    let calls = simulation.calls;
    simulation.pass(60 * SECOND);
    assert_eq!((simulation.calls, simulation.ends[0].state()), (calls, PeerState::Idle));
}

/// Sizes of what arrives, and the number of packets without a virtual source, when a packet of IPv4 goes to an end that knows
/// the other one by virtual addresses, of which there are some in IPv6 only.
fn without_a_virtual_prefix(families_together: bool) -> (Vec<usize>, u64) {
    let mut simulation = Simulation::new(1);
    assert!(simulation.until(3 * SECOND, Simulation::both_up), "{}", simulation.show());
    let mut orders = simulation.ends[0].orders(Some("10.0.1.0/24".parse().expect("a prefix")), None);
    let pair: [ipnet::IpNet; 2] = ["fd42::/64", "fd64::/64"].map(|net| net.parse().expect("a prefix"));
    orders.outward = Table::build([(pair[0], pair[1])]);
    orders.peers[0].knows_us_by = Addresses::Virtual;
    orders.families_together = families_together;
    simulation.ends[0].lane.mailbox.post(Arc::new(orders));
    simulation.pass(MS);
    simulation.send(0, 100);
    simulation.pass(100 * MS);
    (simulation.ends[1].delivered(), simulation.ends[0].drops(Reason::NoVirtualSource))
}

#[test]
fn a_family_without_virtual_prefixes_leaves_from_native_addresses() {
    assert_eq!(without_a_virtual_prefix(false), (vec![100], 0));
}

#[test]
fn a_family_without_virtual_prefixes_does_not_leave_where_families_go_together() {
    assert_eq!(without_a_virtual_prefix(true), (Vec::new(), 1));
}
