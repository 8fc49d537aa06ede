//! A server on loopback and a client that speaks to it.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dns::{Endpoint, Error, Port, Protocol, Server, ServerConfig, Service, ServiceKind, Stats, Zone, ZoneConfig};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Long enough for a busy machine, short enough to fail in a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server with the sender of its zones.
pub struct Running {
    pub address: SocketAddr,
    pub stats: Arc<Stats>,
    pub zones: watch::Sender<Option<Arc<Zone>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Serves these services on a free port of the IPv4 loopback address.
    pub fn serve(services: &[Service]) -> Self {
        Self::start(Some(Arc::new(Zone::build(&ZoneConfig::default(), services))), IpAddr::V4(Ipv4Addr::LOCALHOST), 7)
    }

    pub fn start(zone: Option<Arc<Zone>>, host: IpAddr, seed: u64) -> Self {
        let (zones, receiver) = watch::channel(zone);
        let bind = || {
            let config = ServerConfig {
                udp_workers: 2.try_into().unwrap(),
                ..ServerConfig::new(vec![SocketAddr::new(host, 0)], seed)
            };
            Server::bind(config, receiver.clone())
        };
        // A port that is free for TCP may be another program's for UDP: another one will do.
        let server = (0..9).find_map(|_| bind().ok()).unwrap_or_else(|| bind().unwrap());
        let (address, stats) = (server.addresses()[0], server.stats());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async { stopped.await.unwrap() }));
        Self { address, stats, zones, stop, task }
    }

    /// Puts another zone in service.
    pub fn publish(&self, services: &[Service]) {
        self.zones.send_replace(Some(Arc::new(Zone::build(&ZoneConfig::default(), services))));
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.expect("the server stops").unwrap().unwrap();
    }

    /// Asks over UDP and returns the answer.
    pub async fn ask(&self, name: &str, rtype: RecordType) -> Message {
        self.exchange(&question(name, rtype)).await
    }

    pub async fn exchange(&self, question: &Message) -> Message {
        let bytes = self.exchange_bytes(&question.to_vec().unwrap()).await.expect("an answer");
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.id, question.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        answer
    }

    /// Sends one datagram as it is. `None`: no answer came.
    pub async fn exchange_bytes(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.exchange_within(PATIENCE, datagram).await
    }

    pub async fn exchange_within(&self, limit: Duration, datagram: &[u8]) -> Option<Vec<u8>> {
        let client = UdpSocket::bind(SocketAddr::new(self.address.ip(), 0)).await.unwrap();
        client.connect(self.address).await.unwrap();
        client.send(datagram).await.unwrap();
        let mut answer = vec![0; 65_535];
        let len = timeout(limit, client.recv(&mut answer)).await.ok()?.unwrap();
        answer.truncate(len);
        Some(answer)
    }

    /// Asks over UDP and over TCP.
    pub async fn ask_both(&self, question: &Message) -> [Message; 2] {
        let udp = self.exchange(question).await;
        let tcp = self.ask_tcp(std::slice::from_ref(question)).await.remove(0);
        [udp, tcp]
    }

    /// Asks several questions over one TCP connection, all before the first answer is read.
    pub async fn ask_tcp(&self, questions: &[Message]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        for question in questions {
            let bytes = question.to_vec().unwrap();
            stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
        let mut answers = Vec::new();
        for _ in questions {
            let len = timeout(PATIENCE, stream.read_u16()).await.expect("an answer").unwrap();
            let mut bytes = vec![0; usize::from(len)];
            stream.read_exact(&mut bytes).await.unwrap();
            answers.push(Message::from_vec(&bytes).unwrap());
        }
        answers
    }
}

/// A question without EDNS.
pub fn question(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    let mut query = Query::query(Name::from_ascii(name).unwrap(), rtype);
    query.set_query_class(DNSClass::IN);
    message.add_query(query);
    message
}

/// The same with EDNS and this payload size.
pub fn question_edns(name: &str, rtype: RecordType, payload: u16) -> Message {
    let mut message = question(name, rtype);
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// The data of the answer section as text, sorted.
pub fn data(message: &Message) -> Vec<String> {
    let mut data: Vec<_> = message.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    data
}

pub fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port { name: Some(name.into()), protocol, number }
}

/// `hello` of the conformance suite: TCP and UDP at 42.
pub fn hello() -> Service {
    Service {
        namespace: "demo".into(),
        name: "hello".into(),
        kind: ServiceKind::ClusterSetIp { ips: vec!["10.43.0.42".parse().unwrap()] },
        ports: vec![port("tcp", Protocol::Tcp, 42), port("udp", Protocol::Udp, 42)],
    }
}

/// A headless service of `count` endpoints without host names, at most 65 000, all in one cluster.
pub fn crowd(count: u32) -> Service {
    let endpoint = |host: u32| Endpoint {
        cluster: "c1".into(),
        hostname: None,
        addresses: vec![Ipv4Addr::from_bits(0x0a2a_0000 + host).into()],
        ready: true,
    };
    Service {
        namespace: "demo".into(),
        name: "crowd".into(),
        kind: ServiceKind::Headless { endpoints: (1..=count).map(endpoint).collect() },
        ports: vec![port("http", Protocol::Tcp, 80)],
    }
}
