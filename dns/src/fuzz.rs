//! Entry points for fuzzing and benchmarks: bytes that a stranger sends, without a socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use crate::handler::Responder;
use crate::service::{Endpoint, Port, Protocol, Service, ServiceKind};
use crate::stats::Stats;
use crate::zone::{Zone, ZoneConfig};

/// A server without sockets.
pub struct Offline(Responder);

impl Offline {
    /// Answers from this zone; `seed` starts the random order of answers.
    pub fn new(zone: Arc<Zone>, seed: u64) -> Self {
        let responder = Responder::new(seed, Arc::new(Stats::default()));
        responder.publish(Some(zone));
        Self(responder)
    }

    /// Answers one datagram into `answer`. False: there is nothing to send.
    pub fn answer(&self, datagram: &[u8], answer: &mut Vec<u8>) -> bool {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 53_053));
        self.0.answer_datagram(datagram, from, answer)
    }
}

/// A small zone with every kind of record.
static SERVER: LazyLock<Offline> =
    LazyLock::new(|| Offline::new(Arc::new(Zone::build(&ZoneConfig::default(), &services())), 1));

/// Answers one datagram, and checks what every answer must keep: the question's ID, the answer bit, the size limit, and
/// that an answer is not answered. Panics when that does not hold.
pub fn fuzz_dns(data: &[u8]) {
    let mut answer = Vec::new();
    if !SERVER.answer(data, &mut answer) {
        return;
    }
    assert!(answer.len() >= 12 && answer.len() <= 1232, "an answer of {} bytes", answer.len());
    assert_eq!(answer[..2], data[..2], "the answer has another ID than the question");
    assert_eq!(answer[2] & 0x80, 0x80, "the answer lacks the QR bit");
    let mut echo = Vec::new();
    assert!(!SERVER.answer(&answer, &mut echo), "an answer was answered");
}

fn services() -> Vec<Service> {
    let port = |name: &str, protocol, number| Port { name: Some(name.to_owned()), protocol, number };
    let ports = vec![port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)];
    let ips = vec![Ipv4Addr::new(10, 43, 0, 10).into(), "fd00:43::10".parse().expect("a literal address")];
    let endpoints = (0..200).map(|host| Endpoint {
        cluster: if host % 2 == 0 { "paris" } else { "berlin" }.to_owned(),
        hostname: (host % 3 == 0).then(|| format!("db-{host}")),
        addresses: vec![Ipv4Addr::new(10, 42, 0, host).into()],
        ready: host % 5 != 0,
    });
    let kinds =
        [("web", ServiceKind::ClusterSetIp { ips }), ("db", ServiceKind::Headless { endpoints: endpoints.collect() })];
    let service = |(name, kind): (&str, ServiceKind)| Service {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        kind,
        ports: ports.clone(),
    };
    kinds.into_iter().map(service).collect()
}
