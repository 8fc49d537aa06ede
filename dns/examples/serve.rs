//! Serves a generated zone, for benchmarks and for looking at answers with `dig`.
//!
//! `serve ADDRESS:PORT SERVICES [UDP_WORKERS]`: namespaces `ns-0` to `ns-99`, each with a hundredth of the services `svc-0`, `svc-1`, …,
//! service *i* at 10.x.y.z with the number *i* + 1. Every service is one name.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use dns::{Server, ServerConfig, Service, ServiceKind, Zone, ZoneConfig};
use tokio::sync::watch;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: serve ADDRESS:PORT SERVICES [UDP_WORKERS]";
    let address = arguments.next().ok_or(usage)?.parse()?;
    let services: u32 = arguments.next().ok_or(usage)?.parse()?;
    let workers: NonZeroUsize = arguments.next().as_deref().unwrap_or("1").parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(address, services, workers))
}

async fn serve(address: std::net::SocketAddr, services: u32, workers: NonZeroUsize) -> Result<(), Error> {
    let services: Vec<Service> = (0..services).map(service).collect();
    let zone = Arc::new(Zone::build(&ZoneConfig::default(), &services));
    let (_planner, zone) = watch::channel(Some(zone));
    let config = ServerConfig { udp_workers: workers, ..ServerConfig::new(vec![address], 1) };
    let server = Server::bind(config, zone)?;
    println!("serving {} services on {}", services.len(), server.addresses()[0]);
    let stop = async {
        // Without a handler for signals there is nothing to wait for: serve until killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok(server.run(stop).await?)
}

fn service(index: u32) -> Service {
    let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + index));
    Service {
        namespace: format!("ns-{}", index % 100),
        name: format!("svc-{}", index / 100),
        kind: ServiceKind::ClusterSetIp { ips: vec![ip] },
        ports: Vec::new(),
    }
}
