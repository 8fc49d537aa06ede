//! Entry points for fuzzing: bytes that a stranger sends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use crate::handler::Responder;
use crate::service::{Endpoint, Port, Protocol, Service, ServiceKind};
use crate::stats::Stats;
use crate::zone::{Zone, ZoneConfig};

/// A small zone with every kind of record.
static RESPONDER: LazyLock<Responder> = LazyLock::new(|| {
    let responder = Responder::new(1, Arc::new(Stats::default()));
    responder.publish(Some(Arc::new(Zone::build(&ZoneConfig::default(), &services()))));
    responder
});

/// Answers one datagram from anywhere, and checks what every answer must keep: the question's ID, the answer bit, the
/// size limit, and that an answer is not answered. Panics when that does not hold.
pub fn fuzz_dns(data: &[u8]) {
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 53_053));
    let mut answer = Vec::new();
    if !RESPONDER.answer_datagram(data, from, &mut answer) {
        return;
    }
    assert!(answer.len() >= 12 && answer.len() <= 1232, "an answer of {} bytes", answer.len());
    assert_eq!(answer[..2], data[..2], "the answer has another ID than the question");
    assert_eq!(answer[2] & 0x80, 0x80, "the answer lacks the QR bit");
    let mut echo = Vec::new();
    assert!(!RESPONDER.answer_datagram(&answer, from, &mut echo), "an answer was answered");
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
