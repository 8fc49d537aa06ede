//! A bare device between two hosts, for profiling: `device LINK LANES PORT PRIVATE_KEY PEER_KEY ENDPOINT ALLOWED_IP...`
//!
//! Give the link its address and bring it up with `ip`; the status is printed every ten seconds.

use std::num::NonZeroU8;
use std::time::Duration;

use tunnel::{Config, Device, Peer, PeerKind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, lanes, port, private_key, peer_key, endpoint, allowed @ ..] = arguments.as_slice() else {
        return Err("arguments: LINK LANES PORT PRIVATE_KEY PEER_KEY ENDPOINT ALLOWED_IP...".into());
    };
    let lanes: NonZeroU8 = lanes.parse()?;
    let device = Device::open(Config {
        link: link.clone(),
        private_key: private_key.parse()?,
        listen_port: port.parse()?,
        vanilla_port: None,
        lanes,
        mtu: 1420,
        dscp: tunnel::config::Dscp::Zero,
        offloads: tunnel::config::Offloads::default(),
        translation: Vec::new(),
        families_together: false,
        peers: vec![Peer {
            name: "peer".to_owned(),
            public_key: peer_key.parse()?,
            preshared_key: None,
            endpoint: Some(endpoint.parse()?),
            allowed_ips: allowed.iter().map(|net| net.parse()).collect::<Result<_, _>>()?,
            persistent_keepalive: None,
            kind: PeerKind::Linkspan { lanes },
            knows_us_by: tunnel::Addresses::Native,
        }],
    })?;
    loop {
        std::thread::sleep(Duration::from_secs(10));
        println!("{:#?}", device.status());
    }
}
