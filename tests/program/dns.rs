//! `linkspan dns` with an API server that is not there, comes, goes, and is back.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};
use testbed::ApiServer;

use super::*;

/// Response codes of RFC 1035.
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
/// How long nothing may change where nothing is to change.
const WHILE: Duration = Duration::from_secs(2);

/// A running name server.
struct Names {
    _child: Killed,
    _port: Port,
    address: SocketAddr,
}

/// A port that is reserved for UDP too, until the socket is dropped.
fn reserve() -> (Port, Socket) {
    loop {
        let port = Port::reserve().unwrap();
        let udp = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        // As the server's have it.
        udp.set_reuse_port(true).unwrap();
        if udp.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port.number)).into()).is_ok() {
            return (port, udp);
        }
    }
}

impl Names {
    fn start(server: &ApiServer) -> Self {
        let (port, udp) = reserve();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number));
        let mut command = linkspan(["dns", "--address", "127.0.0.1", "--listen-port", &port.number.to_string()]);
        command.env("KUBECONFIG", server.kubeconfig_path()).env_remove("POD_IPS").env_remove("POD_IP");
        let names = Self { _child: Killed(command.spawn().unwrap()), _port: port, address };
        // Questions are spread over all sockets of the port; from now on it is the server's alone.
        names.answer("clusterset.local");
        drop(udp);
        names
    }

    /// Response code and, of the one record that there is, the IPv4 address.
    fn ask(&self, name: &str) -> Result<(u8, Option<Ipv4Addr>), String> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send(&query(name)).map_err(|error| error.to_string())?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).map_err(|error| error.to_string())?;
        let (answer, records) = (&answer[..length], u16::from_be_bytes([answer[6], answer[7]]));
        let address = answer.last_chunk::<4>().filter(|_| records == 1).map(|bytes| Ipv4Addr::from(*bytes));
        Ok((answer[3] & 0x0f, address))
    }

    /// An answer, however late.
    fn answer(&self, name: &str) -> (u8, Option<Ipv4Addr>) {
        let mut said = None;
        eventually(&format!("{name} is answered"), || {
            said = Some(self.ask(name)?);
            Ok(())
        });
        said.unwrap()
    }

    /// Waits for an answer.
    fn come_to_say(&self, name: &str, wanted: (u8, Option<Ipv4Addr>)) {
        eventually(&format!("{name} is {wanted:?}"), || match self.ask(name)? {
            said if said == wanted => Ok(()),
            said => Err(format!("{said:?}")),
        });
    }

    /// Sees that an answer stays. On a busy machine it may be late.
    fn go_on_saying(&self, name: &str, wanted: (u8, Option<Ipv4Addr>)) {
        let end = Instant::now() + WHILE;
        while Instant::now() < end {
            assert_eq!(self.answer(name), wanted);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A question for an address (RFC 1035, section 4).
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// As the controller writes it, once its kind is served.
fn import(server: &ApiServer, ip: Ipv4Addr) {
    let import = format!(
        "{{ apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {{ name: web, namespace: default }}, \
         spec: {{ type: ClusterSetIP, ipFamilies: [IPv4], ips: [{ip}], ports: [{{ name: http, protocol: TCP, port: 80 }}] }} }}"
    );
    server.apply_soon(&import).unwrap();
}

#[test]
fn row_99_names_wait_for_the_api_server_once_and_outlive_it_then() {
    const WEB: &str = "web.default.svc.clusterset.local";
    let (before, after) = (Ipv4Addr::new(10, 43, 0, 9), Ipv4Addr::new(10, 43, 0, 10));
    let mut server = ApiServer::start().unwrap();
    server.kubectl(["apply", "--server-side", "-k", "deploy/crds"]).unwrap().done().unwrap();
    import(&server, before);
    server.stop().unwrap();

    let names = Names::start(&server);
    names.come_to_say(WEB, (SERVFAIL, None));
    names.go_on_saying(WEB, (SERVFAIL, None));
    server.restart().unwrap();
    names.come_to_say(WEB, (NOERROR, Some(before)));

    server.stop().unwrap();
    names.go_on_saying(WEB, (NOERROR, Some(before)));
    server.restart().unwrap();
    import(&server, after);
    names.come_to_say(WEB, (NOERROR, Some(after)));
}
