//! The site file as people write it, and what they are told when it is wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// A private key and its public half, as `wg` printed them.
const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
/// Another public key.
const BERLIN: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

const PARIS: &str = r#"cluster: paris
privateKeyFile: private.key
network: { podCIDRs: [10.42.0.0/16], serviceCIDRs: [10.43.0.0/16] }
nodes:
  - { name: paris-gw, address: 192.168.7.2, gateway: true, podCIDRs: [10.42.0.0/24] }
  - { name: paris-w1, address: 192.168.7.3, podCIDRs: [10.42.1.0/24] }
dns: { listen: ["10.42.0.1:53", "10.42.1.1:53", "127.0.0.1:5353"] }
exports:
  - { name: web, namespace: default, type: ClusterSetIP, ips: [10.43.0.10], ports: [{ name: http, port: 80 }] }
  - { name: db, namespace: default, type: Headless, endpoints: [{ hostname: db-0, addresses: [10.42.0.5] }] }
peers:
  - cluster: berlin
    publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
    endpoint: "198.51.100.7:51820"
    allowedIPs: [10.52.0.0/16, 10.53.0.0/16]
    lanes: 2
    exports:
      - { name: web, namespace: default, type: ClusterSetIP, ips: [10.53.0.10], ports: [{ port: 80 }] }
"#;

const MACHINE: Machine = Machine { cores: 8, underlay_mtu: 1500 };

fn secrets() -> Secrets {
    Secrets { private_key: Some(PRIVATE.parse().expect("valid")), preshared: Default::default() }
}

/// The messages for a file that differs from [`PARIS`] in one place.
fn problems(from: &str, to: &str) -> Vec<String> {
    assert!(PARIS.contains(from), "{from:?} is in the example");
    let text = PARIS.replacen(from, to, 1);
    match parse(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_example_is_planned_for_its_gateway() {
    let site = parse(PARIS.as_bytes()).expect("valid");
    let plan = plan(&site, &secrets(), "paris-gw", MACHINE).expect("planned");
    let tunnel = plan.tunnel.expect("a gateway has a device");
    assert_eq!(tunnel.link, "linkspan0");
    assert_eq!((tunnel.listen_port, tunnel.vanilla_port), (51820, None));
    assert_eq!((tunnel.lanes.get(), tunnel.mtu), (4, 1420));
    assert_eq!(plan.desired.vxlan.most, Some(1420), "nor does the link between the nodes take more");
    assert_eq!(tunnel.peers.len(), 1);
    assert_eq!(tunnel.peers[0].name, "berlin");
    assert_eq!(tunnel.peers[0].public_key.to_string(), BERLIN);
    assert_eq!(tunnel.peers[0].endpoint, Some("198.51.100.7:51820".parse().expect("valid")));
    assert_eq!(tunnel.peers[0].persistent_keepalive, None);
    let listen: Vec<String> = plan.dns_listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["10.42.0.1:53", "127.0.0.1:5353"]);
}

#[test]
fn a_worker_needs_no_key_and_has_no_device() {
    let site = parse(PARIS.as_bytes()).expect("valid");
    let plan = plan(&site, &Secrets::default(), "paris-w1", MACHINE).expect("planned");
    assert_eq!(plan.tunnel, None);
    let listen: Vec<String> = plan.dns_listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["10.42.1.1:53", "127.0.0.1:5353"]);
}

#[test]
fn automatic_values_follow_the_machine_within_bounds() {
    let site = parse(PARIS.as_bytes()).expect("valid");
    let auto = |cores, underlay_mtu| {
        let plan = plan(&site, &secrets(), "paris-gw", Machine { cores, underlay_mtu }).expect("planned");
        let tunnel = plan.tunnel.expect("a gateway has a device");
        (tunnel.lanes.get(), tunnel.mtu)
    };
    assert_eq!(auto(1, 9000), (1, 8920));
    assert_eq!(auto(2, 1300), (2, 1280));
    assert_eq!(auto(0, u16::MAX), (1, 9216));
}

#[test]
fn our_own_key_as_a_peer_is_refused() {
    let site = parse(PARIS.replace(BERLIN, PUBLIC).as_bytes()).expect("valid in itself");
    assert_eq!(plan(&site, &secrets(), "paris-gw", MACHINE), Err(PlanError::OwnKey("berlin".to_owned())));
}

#[test]
fn vanilla_peers_open_the_second_port() {
    let site = parse(PARIS.replace("lanes: 2", "vanilla: true").as_bytes()).expect("valid");
    let plan = plan(&site, &secrets(), "paris-gw", MACHINE).expect("planned");
    let tunnel = plan.tunnel.expect("a gateway has a device");
    assert_eq!(tunnel.vanilla_port, Some(51821));
    assert_eq!(tunnel.peers[0].kind, tunnel::PeerKind::Vanilla);
}

#[test]
fn each_mistake_is_told_with_its_place_and_a_fix() {
    let cases = [
        (
            "cluster: paris",
            "cluster: Paris",
            "1:10: cluster: \"Paris\" is not an RFC 1123 label; use 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both ends",
        ),
        (
            "10.42.0.0/16]",
            "10.42.0.1/16]",
            "3:23: network.podCIDRs[0]: 10.42.0.1/16 has bits set behind its length; did you mean 10.42.0.0/16?",
        ),
        (
            "192.168.7.2",
            "192.168.7",
            "5:32: nodes[0].address: \"192.168.7\" is not an IP address; write it such as 192.168.7.2 or fd00::2",
        ),
        (
            "10.42.1.0/24",
            "10.44.1.0/24",
            "6:56: nodes[1].podCIDRs[0]: 10.44.1.0/24 is in none of network.podCIDRs; correct one of them",
        ),
        (
            "10.42.1.0/24",
            "10.42.0.0/24",
            "6:56: nodes[1].podCIDRs[0]: 10.42.0.0/24 overlaps 10.42.0.0/24 of nodes[0].podCIDRs[0]; every prefix has one owner",
        ),
        ("paris-w1", "paris-gw", "6:13: nodes[1].name: \"paris-gw\" is used before, in nodes[0].name"),
        (
            "10.52.0.0/16",
            "10.42.0.0/16",
            "15:18: peers[0].allowedIPs[0]: 10.42.0.0/16 overlaps 10.42.0.0/16 of network.podCIDRs[0]; every prefix has one owner; a cluster with equal ones is known by virtual ones (network.virtual in its file)",
        ),
        (
            "10.52.0.0/16",
            "198.51.100.0/24",
            "15:18: peers[0].allowedIPs[0]: 198.51.100.0/24 overlaps 198.51.100.7/32 of peers[0].endpoint; a tunnel cannot carry its own packets",
        ),
        (
            "10.52.0.0/16",
            "192.168.0.0/16",
            "15:18: peers[0].allowedIPs[0]: 192.168.0.0/16 overlaps 192.168.7.2/32 of nodes[0].address; a tunnel cannot carry its own packets",
        ),
        ("lanes: 2", "lanes: 17", "16:12: peers[0].lanes: 17 is not a number of lanes; use 1 to 16"),
        (
            "lanes: 2",
            "persistentKeepalive: 70000",
            "16:26: peers[0].persistentKeepalive: 70000 is too long; use 0 to 65535 seconds",
        ),
        (
            "198.51.100.7:51820",
            "gw.example.org:51820",
            "14:15: peers[0].endpoint: \"gw.example.org:51820\" is not an IP address with a port; write it such as 198.51.100.7:51820 or [2001:db8::7]:51820",
        ),
        (
            "ips: [10.53.0.10]",
            "ips: [10.54.0.10]",
            "18:68: peers[0].exports[0].ips[0]: 10.54.0.10 is in none of the prefixes of allowedIPs, so it could not be reached; correct one of them",
        ),
        ("name: db", "name: web", "10:13: exports[1].name: default/web is exported before, in exports[0]"),
        (
            "privateKeyFile: private.key\n",
            "",
            "1:10: privateKeyFile: is missing, and \"paris-gw\" is a gateway; make a key with `linkspan genkey private.key` and name the file here",
        ),
        (
            "gateway: true",
            "gateway: false",
            "1:10: nodes: has no gateway; write `gateway: true` at the node that ends the tunnels",
        ),
        ("cluster: berlin", "cluster: paris", "12:14: peers[0].cluster: \"paris\" is used before, in cluster"),
    ];
    for (from, to, message) in cases {
        assert!(
            problems(from, to).iter().any(|told| told == message),
            "{to}: {:#?}\nexpected {message}",
            problems(from, to)
        );
    }
}

#[test]
fn wrong_shapes_are_told_by_line() {
    let cases = [
        ("cluster: paris", "clutser: paris", "1:1: unknown field `clutser`"),
        ("lanes: 2", "lane: 2", "16:5: unknown field `lane`"),
        ("lanes: 2", "lanes: many", "16:12: "),
        ("gateway: true", "gateway: maybe", "5:54: "),
        ("type: Headless", "type: Headles", "unknown variant `Headles`"),
        ("cluster: paris\n", "cluster: paris\ncluster: rome\n", "2:1: "),
        ("network:", "network", ""),
    ];
    for (from, to, part) in cases {
        let told = problems(from, to);
        assert_eq!(told.len(), 1, "{to}: {told:?}");
        assert!(told[0].contains(part) && !told[0].contains('\n'), "{to}: {told:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_lines() {
    let text =
        PARIS.replace("paris-w1", "PARIS").replace("10.43.0.10", "10.99.0.1").replace("cluster: paris", "cluster: _");
    let problems = parse(text.as_bytes()).expect_err("three mistakes");
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["cluster", "nodes[1].name", "exports[0].ips[0]"]);
}

#[test]
fn a_private_key_pasted_as_a_public_one_is_not_repeated() {
    let told = problems(BERLIN, &PRIVATE[1..]);
    assert_eq!(told.len(), 1);
    assert!(!told[0].contains(&PRIVATE[5..20]), "{told:?}");
}

#[test]
fn bytes_that_are_no_site_are_refused_without_a_panic() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let deep = "[".repeat(100_000);
    let cases: [&[u8]; 7] = [b"", b"\xff\xfe", b"\0", b"- 1", bomb.as_bytes(), deep.as_bytes(), b"cluster: !!binary x"];
    for bytes in cases {
        let problems = parse(bytes).expect_err("no site");
        assert_eq!(problems.len(), 1);
        fuzz_site(bytes);
    }
    let long = vec![b'#'; check::MAX_BYTES + 1];
    assert!(parse(&long).is_err());
}

proptest::proptest! {
    #[test]
    fn a_damaged_file_never_panics(cut in 0..PARIS.len(), at in 0..PARIS.len(), byte: u8) {
        let mut bytes = PARIS.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(cut);
        fuzz_site(&bytes);
    }
}

/// Writes the example and its key into a folder and returns the file's name.
fn written(folder: &Path, key_mode: u32) -> std::path::PathBuf {
    let path = folder.join("site.yaml");
    std::fs::write(&path, PARIS).expect("written");
    let key = folder.join("private.key");
    std::fs::write(&key, format!("{PRIVATE}\n")).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(key_mode)).expect("set");
    path
}

#[test]
fn keys_are_read_beside_the_file_and_only_by_the_gateway() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path(), 0o600);
    let gateway = Loaded::read(&path, "paris-gw").expect("read");
    assert_eq!(gateway.secrets.private_key.as_ref().map(|key| key.public_key().to_string()).as_deref(), Some(PUBLIC));
    assert_eq!(gateway.files(&path), [path.clone(), folder.path().join("private.key")]);
    assert!(!format!("{gateway:?}").contains(PRIVATE));
    std::fs::remove_file(folder.path().join("private.key")).expect("removed");
    assert!(Loaded::read(&path, "paris-w1").is_ok());
    let error = Loaded::read(&path, "paris-gw").expect_err("no key").to_string();
    assert!(error.starts_with("cannot read the private key ") && error.ends_with("there is no such file"), "{error}");
}

#[test]
fn a_key_that_everybody_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path(), 0o644);
    let error = Loaded::read(&path, "paris-gw").expect_err("world-readable").to_string();
    assert!(error.contains("mode 0644") && error.contains("chmod 600"), "{error}");
}

#[test]
fn an_unknown_node_is_told_with_those_that_are_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path(), 0o600);
    let error = Loaded::read(&path, "rome-1").expect_err("unknown").to_string();
    let expected = "has no node \"rome-1\" (it has paris-gw, paris-w1); name this node with --node or NODE_NAME";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn the_schema_names_every_field_and_forbids_others() {
    let schema = serde_json::to_value(schema()).expect("JSON");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["cluster", "network", "nodes"]));
    assert_eq!(schema["$defs"]["PeerFile"]["properties"]["allowedIPs"]["items"]["type"], "string");
}

/// The messages for [`PARIS`] with these pairs of native and virtual prefixes, and a line more at its peer.
fn virtual_problems(pairs: &str, peer: &str) -> Vec<String> {
    let network = format!("serviceCIDRs: [10.43.0.0/16], virtual: [{pairs}] }}");
    let text = PARIS.replacen("serviceCIDRs: [10.43.0.0/16] }", &network, 1);
    let text = text.replacen("    lanes: 2\n", &format!("    lanes: 2\n{peer}"), 1);
    match parse(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn virtual_prefixes_are_planned_and_each_peer_knows_one_kind() {
    let network = "serviceCIDRs: [10.43.0.0/16], virtual: [{ native: 10.42.0.0/16, virtual: 100.64.0.0/16 }] }";
    let text = PARIS.replacen("serviceCIDRs: [10.43.0.0/16] }", network, 1);
    let planned = |text: &str| {
        let site = parse(text.as_bytes()).expect("valid");
        plan(&site, &secrets(), "paris-gw", MACHINE).expect("planned").tunnel.expect("a gateway has a device")
    };
    let tunnel = planned(&text);
    assert_eq!(tunnel.translation[0].to_string(), "10.42.0.0/16 as 100.64.0.0/16");
    assert_eq!(tunnel.peers[0].knows_us_by, tunnel::Addresses::Virtual);
    assert!(!tunnel.families_together, "the file says nothing of IPv6");
    let tunnel = planned(&text.replacen("    lanes: 2\n", "    lanes: 2\n    knowsUsByVirtual: false\n", 1));
    assert_eq!(tunnel.peers[0].knows_us_by, tunnel::Addresses::Native);
    assert_eq!(planned(PARIS).peers[0].knows_us_by, tunnel::Addresses::Native);
}

#[test]
fn a_wrong_virtual_prefix_is_told_with_its_place_and_a_fix() {
    for (pairs, message) in [
        (
            "{ native: 10.42.0.0/16, virtual: 100.64.0.0/24 }",
            "3:111: network.virtual[0].virtual: 100.64.0.0/24 has not the length of 10.42.0.0/16; each host needs one address: write /16",
        ),
        (
            "{ native: 10.42.0.0/16, virtual: fd64::/16 }",
            "3:111: network.virtual[0].virtual: fd64::/16 is not of the family of 10.42.0.0/16; IPv4 is known as IPv4, and IPv6 as IPv6",
        ),
        (
            "{ native: 10.44.0.0/16, virtual: 100.64.0.0/16 }",
            "3:88: network.virtual[0].native: 10.44.0.0/16 is in none of network.podCIDRs and network.serviceCIDRs; only addresses of this cluster's pods and services are known by others",
        ),
        (
            "{ native: 10.42.0.0/16, virtual: 10.43.0.0/16 }",
            "3:111: network.virtual[0].virtual: 10.43.0.0/16 overlaps 10.43.0.0/16 of network.serviceCIDRs[0]; every prefix has one owner",
        ),
        (
            "{ native: 10.42.0.0/16, virtual: 10.52.0.0/16 }",
            "15:18: peers[0].allowedIPs[0]: 10.52.0.0/16 overlaps 10.52.0.0/16 of network.virtual[0].virtual; every prefix has one owner",
        ),
        (
            "{ native: 10.42.0.0/16, virtual: 100.64.0.0/16 }, { native: 10.42.7.0/24, virtual: 100.65.0.0/24 }",
            "3:138: network.virtual[1].native: 10.42.7.0/24 overlaps 10.42.0.0/16 of network.virtual[0].native; each address has one virtual address",
        ),
        (
            "{ native: 10.42.0.0/16, virtual: 100.64.0.0/16 }, { native: 10.43.0.0/16, virtual: 100.64.0.0/16 }",
            "3:161: network.virtual[1].virtual: 100.64.0.0/16 overlaps 100.64.0.0/16 of network.virtual[0].virtual; every prefix has one owner",
        ),
    ] {
        assert_eq!(virtual_problems(pairs, ""), [message]);
    }
    assert_eq!(
        virtual_problems("", "    knowsUsByVirtual: true\n"),
        [
            "17:23: peers[0].knowsUsByVirtual: is true, but network.virtual names no prefix to know this cluster by; name some there, or leave this out"
        ]
    );
    // What the other cluster has natively does not matter here; only by what this one knows it.
    assert_eq!(virtual_problems("{ native: 10.42.0.0/16, virtual: 100.64.0.0/16 }", ""), [""; 0]);
}
