//! A zone of generated services, for benchmarks and for looking at answers with `dig`.
//!
//! - `serve listen ADDRESS:PORT SERVICES`: serves them.
//! - `serve zone SERVICES`: prints the same names as a master file (RFC 1035), for another server.
//! - `serve queries SERVICES COUNT`: prints questions for `dnsperf`: 80 % addresses, 10 % addresses of the family that
//!   most services lack, 5 % locations, 5 % names that do not exist.
//!
//! Service *i* is `svc-<i / 100>` in namespace `ns-<i % 100>` at 10.0.0.1 + *i*; every tenth has an IPv6 address and a
//! port too.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use dns::{Port, Protocol, Server, ServerConfig, Service, ServiceKind, Zone, ZoneConfig};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

type Error = Box<dyn std::error::Error>;

const USAGE: &str = "usage: serve listen ADDRESS:PORT SERVICES | serve zone SERVICES | serve queries SERVICES COUNT";

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["listen", address, services] => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(listen(address.parse()?, services.parse()?))
        }
        ["zone", services] => print_zone(services.parse()?),
        ["queries", services, count] => print_queries(services.parse()?, count.parse()?),
        _ => Err(USAGE.into()),
    }
}

async fn listen(address: SocketAddr, count: u32) -> Result<(), Error> {
    let services: Vec<Service> = (0..count).map(service).collect();
    let zone = Arc::new(Zone::build(&ZoneConfig::default(), &services));
    let (_planner, zone) = watch::channel(Some(zone));
    let server = Server::bind(ServerConfig::new(vec![address], 1), zone)?;
    println!("serving {count} services on {}", server.addresses()[0]);
    let stop = async {
        // Without a handler for signals there is nothing to wait for: serve until killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok(server.run(stop).await?)
}

fn service(index: u32) -> Service {
    let mut ips = vec![IpAddr::V4(address(index))];
    let mut ports = Vec::new();
    if index.is_multiple_of(10) {
        ips.push(IpAddr::V6(address6(index)));
        ports.push(Port { name: Some("http".to_owned()), protocol: Protocol::Tcp, number: 80 });
    }
    Service {
        namespace: format!("ns-{}", index % 100),
        name: format!("svc-{}", index / 100),
        kind: ServiceKind::ClusterSetIp { ips },
        ports,
    }
}

fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0001 + index)
}

fn address6(index: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfd00_u128 << 112) + 1 + u128::from(index))
}

fn owner(index: u32) -> String {
    format!("svc-{}.ns-{}.svc.clusterset.local.", index / 100, index % 100)
}

fn print_zone(count: u32) -> Result<(), Error> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "$ORIGIN clusterset.local.\n$TTL 5")?;
    writeln!(out, "@ IN SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ IN NS ns.dns\nns.dns IN A 127.0.0.1")?;
    writeln!(out, "dns-version IN TXT \"1.0.0\"")?;
    for index in 0..count {
        let owner = owner(index);
        writeln!(out, "{owner} IN A {}", address(index))?;
        if index.is_multiple_of(10) {
            writeln!(out, "{owner} IN AAAA {}", address6(index))?;
            writeln!(out, "{owner} IN SRV 0 100 80 {owner}\n_http._tcp.{owner} IN SRV 0 100 80 {owner}")?;
        }
    }
    Ok(out.flush()?)
}

fn print_queries(services: u32, count: u32) -> Result<(), Error> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..count {
        let index = rng.random_range(0..services);
        match rng.random_range(0..20) {
            0..16 => writeln!(out, "{} A", owner(index))?,
            16 | 17 => writeln!(out, "{} AAAA", owner(index))?,
            18 => writeln!(out, "_http._tcp.{} SRV", owner(index / 10 * 10))?,
            _ => writeln!(out, "nope-{} A", owner(index))?,
        }
    }
    Ok(out.flush()?)
}
