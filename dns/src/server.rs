//! Sockets around the responder.
//!
//! TCP is served by hickory's server. UDP has workers of its own: hickory starts a task and crosses a channel for every
//! datagram, which makes an answer cost 1.6 times the CPU seconds (`benches/dns/run.sh`, 10.5 against 6.5 us). A worker
//! owns one socket of a `SO_REUSEPORT` group and answers in place, with hickory reading and writing the messages.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::error::Error;
use crate::handler::{MAX_DATAGRAM, Responder, TcpHandler};
use crate::stats::{Event, Stats};
use crate::zone::Zone;

/// Datagrams that a worker answers before it lets other tasks run.
const BATCH: usize = 64;
/// Bytes that the kernel may queue for a socket: some thousand questions, a burst of 10 ms at full speed.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Answers that hickory may queue for one TCP connection.
const TCP_RESPONSES: usize = 32;

/// What a server listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Addresses served over UDP and TCP. Port 0 lets the kernel choose one port for both. An address of the node is
    /// better than an unspecified one: a host with several addresses answers from the asked one only when it is bound.
    pub listen: Vec<SocketAddr>,
    /// UDP workers of each address; one for each CPU core that may serve names.
    pub udp_workers: NonZeroUsize,
    /// How long a TCP connection may be idle.
    pub tcp_idle: Duration,
    /// Starts the random order of answers.
    pub seed: u64,
}

impl ServerConfig {
    /// A server of these addresses: one UDP worker each, TCP connections idle for at most 10 s.
    pub fn new(listen: Vec<SocketAddr>, seed: u64) -> Self {
        Self { listen, udp_workers: NonZeroUsize::MIN, tcp_idle: Duration::from_secs(10), seed }
    }
}

/// A bound server. It answers once [`Server::run`] is polled.
pub struct Server {
    config: ServerConfig,
    sockets: Vec<Listener>,
    responder: Arc<Responder>,
    stats: Arc<Stats>,
    zone: watch::Receiver<Option<Arc<Zone>>>,
}

/// The sockets of one address.
struct Listener {
    address: SocketAddr,
    tcp: TcpListener,
    udp: Vec<UdpSocket>,
}

impl Server {
    /// Binds every address. Must be called inside a tokio runtime.
    ///
    /// The zone is read from `zone` whenever it changes; `None` means that names are not known yet and answers
    /// SERVFAIL. When the sender is gone, the last zone stays.
    ///
    /// # Errors
    /// When there is no address, or one cannot be bound.
    pub fn bind(config: ServerConfig, zone: watch::Receiver<Option<Arc<Zone>>>) -> Result<Self, Error> {
        if config.listen.is_empty() {
            return Err(Error::NoListenAddress);
        }
        let workers = config.udp_workers.get();
        let sockets =
            config.listen.iter().map(|address| Listener::bind(*address, workers)).collect::<Result<_, _>>()?;
        let stats = Arc::new(Stats::default());
        let responder = Arc::new(Responder::new(config.seed, Arc::clone(&stats)));
        Ok(Self { config, sockets, responder, stats, zone })
    }

    /// The addresses in the order of the configuration, with the ports that the kernel chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|listener| listener.address).collect()
    }

    /// The server's counters.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Serves until `stop` resolves.
    ///
    /// # Errors
    /// When a socket ends for good.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { config, sockets, responder, stats, zone } = self;
        let addresses = sockets.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>().join(", ");
        info!(%addresses, "serving names");
        let mut tcp = hickory_server::Server::new(TcpHandler(Arc::clone(&responder)));
        let mut workers = JoinSet::new();
        for listener in sockets {
            tcp.register_listener(listener.tcp, config.tcp_idle, TCP_RESPONSES);
            for socket in listener.udp {
                let (responder, stats) = (Arc::clone(&responder), Arc::clone(&stats));
                workers.spawn(serve_udp(socket, listener.address, responder, stats));
            }
        }
        workers.spawn(follow(zone, responder));
        let outcome = tokio::select! {
            () = stop => Ok(()),
            result = tcp.block_until_done() => Err(Error::Ended {
                address: addresses,
                transport: "TCP",
                cause: result.map_or_else(|error| error.to_string(), |()| "no listener is left".to_owned()),
            }),
            Some(ended) = workers.join_next() => Err(match ended {
                Ok(error) => error,
                Err(panicked) => Error::Ended { address: addresses, transport: "UDP", cause: panicked.to_string() },
            }),
        };
        workers.shutdown().await;
        if let Err(error) = tcp.shutdown_gracefully().await {
            debug!(%error, "TCP listeners did not end cleanly");
        }
        outcome
    }
}

impl Listener {
    fn bind(address: SocketAddr, workers: usize) -> Result<Self, Error> {
        let failed = |transport| move |source| Error::Bind { address, transport, source };
        if address.ip().is_unspecified() {
            warn!(%address, "serving names on an unspecified address: name the node's address if it has several");
        }
        // TCP first: its port is exclusive, so that a second server is found here and does not share our UDP group.
        let tcp = bind_tcp(address).map_err(failed("TCP"))?;
        let bound = tcp.local_addr().map_err(failed("TCP"))?;
        let udp = (0..workers).map(|_| bind_udp(bound)).collect::<Result<_, _>>().map_err(failed("UDP"))?;
        Ok(Self { address: bound, tcp, udp })
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    only_v6(&socket, address)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    only_v6(&socket, address)?;
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        debug!(%error, %address, "receive buffer keeps its default size");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// An IPv6 socket serves IPv6 alone: `0.0.0.0` and `::` can be given side by side.
fn only_v6(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
}

/// Keeps the responder's zone the newest one.
async fn follow(mut zone: watch::Receiver<Option<Arc<Zone>>>, responder: Arc<Responder>) -> Error {
    loop {
        let newest = zone.borrow_and_update().clone();
        if let Some(newest) = &newest {
            debug!(names = newest.len(), serial = newest.soa().serial, "zone in service");
        }
        responder.publish(newest);
        if zone.changed().await.is_err() {
            debug!("nobody plans names any more: the last zone stays");
            return std::future::pending().await;
        }
    }
}

/// One UDP worker: returns only when its socket is broken.
async fn serve_udp(socket: UdpSocket, address: SocketAddr, responder: Arc<Responder>, stats: Arc<Stats>) -> Error {
    // A longer datagram than we announce is cut by the kernel and then answered FORMERR.
    let mut datagram = [0; 2 * MAX_DATAGRAM as usize];
    let mut answer = Vec::with_capacity(usize::from(MAX_DATAGRAM));
    loop {
        if let Err(error) = socket.readable().await {
            return Error::Ended { address: address.to_string(), transport: "UDP", cause: error.to_string() };
        }
        for _ in 0..BATCH {
            let (len, from) = match socket.try_recv_from(&mut datagram) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // An ICMP error of an earlier answer; the socket lives.
                    debug!(%error, %address, "failed to receive a DNS question");
                    continue;
                }
            };
            if !responder.answer_datagram(&datagram[..len], from, &mut answer) {
                continue;
            }
            if let Err(error) = socket.try_send_to(&answer, from) {
                // Lost like any datagram: the client asks again.
                stats.count(Event::SendFailed);
                debug!(%error, %from, "failed to send a DNS answer");
            }
        }
    }
}
