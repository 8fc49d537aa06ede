//! Two devices on two hosts, made of network namespaces that a veth pair joins, and streams between their hosts.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU8;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use tunnel::{Config, Device, Peer, PeerKind};

use super::{DEVICE, PEER, config, enter_new_namespace, eventually, ip, key, peer};

/// A stalled stream fails after this long.
const STALL: Duration = Duration::from_secs(120);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The host of the test's own thread.
    Near,
    Far,
}

/// Both devices, with a session.
pub struct Pair {
    pub near: Device,
    pub far: Device,
    host: File,
}

impl Pair {
    /// Moves this thread to a new host and makes another; each has a device with `lanes` that knows the other's.
    pub fn new(lanes: [u8; 2], change: impl Fn(End, &mut Config) + Sync) -> Self {
        enter_new_namespace();
        let host = std::thread::spawn(new_host).join().unwrap();
        ip("link add eth0 type veth peer name eth1");
        ip(&format!("link set eth1 netns /proc/{}/fd/{}", std::process::id(), host.as_raw_fd()));
        ip("address add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        let both = NonZeroU8::new(lanes[0].min(lanes[1])).unwrap();
        let linkspan = |number| peer(number, PeerKind::Linkspan { lanes: both });
        let far = on(&host, || {
            ip("address add 192.0.2.2/24 dev eth1");
            ip("link set eth1 up");
            let mut config = settings(2, lanes[1], linkspan(1));
            change(End::Far, &mut config);
            up(config, "10.9.2.1/24", "10.9.1.0/24")
        });
        let mut config = settings(1, lanes[0], linkspan(2));
        config.peers[0].endpoint = Some(SocketAddr::from(([192, 0, 2, 2], far.status().listen_port)));
        change(End::Near, &mut config);
        let near = up(config, "10.9.1.1/24", "10.9.2.0/24");
        let pair = Self { near, far, host };
        eventually("a session", || pair.near.status().peers[0].lanes[0].handshake_age.is_some());
        pair
    }

    /// Runs something on a host.
    pub fn on<T: Send>(&self, end: End, run: impl FnOnce() -> T + Send) -> T {
        match end {
            End::Near => run(),
            End::Far => on(&self.host, run),
        }
    }

    /// A connection through the tunnel: the end that was called first, the caller second.
    pub fn connect(&self, caller: End) -> [TcpStream; 2] {
        let (called, address) = match caller {
            End::Near => (End::Far, PEER),
            End::Far => (End::Near, DEVICE),
        };
        let listener = self.on(called, || TcpListener::bind((IpAddr::from(address), 0)).unwrap());
        let to = listener.local_addr().unwrap();
        let outgoing = self.on(caller, || TcpStream::connect_timeout(&to, STALL).unwrap());
        let streams = [listener.accept().unwrap().0, outgoing];
        for stream in &streams {
            stream.set_read_timeout(Some(STALL)).unwrap();
            stream.set_write_timeout(Some(STALL)).unwrap();
        }
        streams
    }

    /// Sends so many bytes over TCP, and panics unless exactly they arrive.
    pub fn transfer(&self, from: End, length: usize) {
        let [mut called, mut caller] = self.connect(from);
        let sent = bytes(length);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                caller.write_all(&sent).unwrap();
                caller.shutdown(Shutdown::Write).unwrap();
            });
            let mut received = Vec::with_capacity(length);
            called.read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), length, "bytes from {from:?}");
            let wrong = received.iter().zip(&sent).position(|(received, sent)| received != sent);
            assert_eq!(wrong, None, "the first byte that is wrong");
        });
    }
}

/// A new host of this thread's; it lives as long as the file.
fn new_host() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    ip("link set lo up");
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// Runs something on a host, in a thread of its own, so that this one stays where it is.
fn on<T: Send>(host: &File, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            setns(host, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn settings(number: u8, lanes: u8, peer: Peer) -> Config {
    let mut config = config(peer);
    config.private_key = key(number).0;
    config.lanes = NonZeroU8::new(lanes).unwrap();
    config.vanilla_port = None;
    config
}

/// Opens a device on this thread's host, with an address inside, and a way to the other's.
fn up(config: Config, address: &str, other: &str) -> Device {
    let device = Device::open(config).expect("a TUN link needs root and /dev/net/tun");
    ip(&format!("address add {address} dev tun0"));
    ip("link set tun0 up mtu 1420");
    ip(&format!("route replace {other} dev tun0"));
    device
}

/// Bytes that repeat in no period of a packet or a buffer: the high bits of a counter times an odd number.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u32).map(|number| (number.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}
