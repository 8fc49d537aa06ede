//! The ladder of offloads: take what is allowed and works, step down otherwise, and remember why.

use crate::config::Config;
use crate::error::Error;
use crate::io::steer::steer_by_lane;
use crate::io::tun::{self, Queue, Segmentation, set_queue_length};
use crate::io::udp::UdpSocket;
use crate::kernel::{Release, merged_udp_survives};

/// Why an offload is not in use.
pub(crate) type Rung = Result<(), String>;

/// What a device runs with.
#[derive(Debug)]
pub(crate) struct Rungs {
    pub(crate) segmentation: Segmentation,
    pub(crate) tun_tso: Rung,
    pub(crate) tun_uso: Rung,
    /// Whether UDP is merged inward, where `tun_uso` is in use.
    pub(crate) merged_udp: Rung,
    pub(crate) udp_gso: Rung,
    pub(crate) udp_gro: Rung,
    pub(crate) steering: Rung,
    pub(crate) listen_port: u16,
    pub(crate) vanilla_port: Option<u16>,
}

/// One lane's descriptors.
#[derive(Debug)]
pub(crate) struct LaneLinks {
    pub(crate) queue: Queue,
    pub(crate) socket: UdpSocket,
    pub(crate) vanilla: Option<UdpSocket>,
}

/// The outcome of the start-up probes.
#[derive(Debug)]
pub(crate) struct Ladder {
    pub(crate) rungs: Rungs,
    pub(crate) lanes: Vec<LaneLinks>,
}

/// How often a port that is not free is tried, and the pause between: starting a program takes milliseconds.
const PORT_TRIES: u32 = 40;
const PORT_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

const SWITCHED_OFF: &str = "switched off in the configuration";

impl Ladder {
    /// Opens queues and sockets with the most that works.
    ///
    /// # Errors
    /// When not even a plain queue and a plain socket are to be had.
    pub(crate) fn climb(config: &Config) -> Result<Self, Error> {
        let mut rungs = Rungs {
            segmentation: Segmentation::None,
            tun_tso: Ok(()),
            tun_uso: Ok(()),
            merged_udp: merged_udp_survives(Release::running()),
            udp_gso: allowed(config.offloads.udp_gso),
            udp_gro: allowed(config.offloads.udp_gro),
            steering: allowed(config.offloads.steering),
            listen_port: 0,
            vanilla_port: None,
        };
        let sockets = bind_lanes(config, &mut rungs)?;
        let vanilla = config.vanilla_port.map(|port| bind(port, &mut rungs)).transpose()?;
        rungs.vanilla_port = vanilla.as_ref().map(port_of).transpose()?;
        let first = attach_first(config, &mut rungs)?;
        let mut queues = vec![first];
        while queues.len() < sockets.len() {
            let device = tun::open().map_err(Error::tun_device)?;
            let queue = Queue::attach(device, &config.link, rungs.segmentation);
            queues.push(queue.map_err(|e| Error::tun(&config.link, e))?);
        }
        if let Err(error) = set_queue_length(&config.link) {
            tracing::debug!(%error, link = config.link, "queue length stays at the kernel's default");
        }
        let mut vanilla = vanilla;
        let lanes = queues.into_iter().zip(sockets);
        let lanes = lanes.map(|(queue, socket)| LaneLinks { queue, socket, vanilla: vanilla.take() }).collect();
        Ok(Self { rungs, lanes })
    }
}

fn allowed(allowed: bool) -> Rung {
    if allowed { Ok(()) } else { Err(SWITCHED_OFF.to_owned()) }
}

/// One socket per lane on one port, steered; or one lane where the kernel does not steer.
fn bind_lanes(config: &Config, rungs: &mut Rungs) -> Result<Vec<UdpSocket>, Error> {
    wait_until_free(config.listen_port)?;
    let first = bind(config.listen_port, rungs)?;
    rungs.listen_port = port_of(&first)?;
    let mut sockets = vec![first];
    if config.lanes.get() > 1
        && rungs.steering.is_ok()
        && let Err(error) = steer_by_lane(&sockets[0])
    {
        rungs.steering = Err(format!("the kernel does not steer, so that one lane runs: {error}"));
    }
    while rungs.steering.is_ok() && sockets.len() < usize::from(config.lanes.get()) {
        let socket = bind(rungs.listen_port, rungs)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Waits a moment for a port that is being closed: a program that some other thread starts has copies of our sockets
/// until it runs.
fn wait_until_free(port: u16) -> Result<(), Error> {
    let mut tries = PORT_TRIES;
    loop {
        tries -= 1;
        match UdpSocket::is_free(port) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => {
                std::thread::sleep(PORT_PAUSE);
            }
            other => return other.map_err(|source| Error::bind(port, source)),
        }
    }
}

/// A socket on `port`, with the offloads that are in use.
pub(crate) fn bind(port: u16, rungs: &mut Rungs) -> Result<UdpSocket, Error> {
    let socket = UdpSocket::bind(port).map_err(|source| Error::bind(port, source))?;
    // Best effort: without it nobody knows how long datagrams wait, and queues are as long as the receive buffer.
    let _ = socket.stamp_arrivals();
    if rungs.udp_gro.is_ok() {
        rungs.udp_gro = socket.enable_gro().map_err(|error| format!("the kernel has no UDP_GRO: {error}"));
    }
    if rungs.udp_gso.is_ok() {
        rungs.udp_gso = socket.probe_gso().map_err(|error| format!("the kernel has no UDP_SEGMENT: {error}"));
    }
    Ok(socket)
}

pub(crate) fn port_of(socket: &UdpSocket) -> Result<u16, Error> {
    socket.port().map_err(|source| Error::bind(0, source))
}

/// The first queue, with the most segmentation that is allowed and works.
fn attach_first(config: &Config, rungs: &mut Rungs) -> Result<Queue, Error> {
    let offloads = config.offloads;
    rungs.tun_tso = allowed(offloads.tun_tso);
    rungs.tun_uso = allowed(offloads.tun_uso && offloads.tun_tso);
    let tries = [
        (rungs.tun_uso.is_ok(), Segmentation::TcpUdp),
        (rungs.tun_tso.is_ok(), Segmentation::Tcp),
        (true, Segmentation::None),
    ];
    let mut last = None;
    for (_, segmentation) in tries.into_iter().filter(|(wanted, _)| *wanted) {
        let device = tun::open().map_err(Error::tun_device)?;
        match Queue::attach(device, &config.link, segmentation) {
            Ok(queue) => {
                queue.persist().map_err(|e| Error::tun(&config.link, e))?;
                rungs.segmentation = segmentation;
                return Ok(queue);
            }
            Err(error) => {
                let reason = format!("the kernel refused it: {error}");
                match segmentation {
                    Segmentation::TcpUdp => rungs.tun_uso = Err(reason),
                    Segmentation::Tcp => rungs.tun_tso = Err(reason),
                    Segmentation::None => {}
                }
                last = Some(error);
            }
        }
    }
    Err(Error::tun(&config.link, last.unwrap_or_else(|| std::io::ErrorKind::Unsupported.into())))
}
