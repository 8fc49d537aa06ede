//! Metrics: what the program really exposes is what the documentation tells.

use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use testbed::wait::PATIENCE;
use testbed::{ApiServer, Port};

use super::*;

const PRIVATE_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";

/// The metrics of a node, of a name server and of a controller that leads, from the running program.
static SCRAPES: LazyLock<[String; 3]> = LazyLock::new(|| {
    let server = ApiServer::start().unwrap();
    for base in ["crds", "member"] {
        server.apply_base(base).unwrap();
    }
    // A controller is ready a moment before it leads, and lists services then.
    let leads = ["linkspan_services_listed{cluster=\"paris\"} 1.0", "condition=\"Ready\""];
    let synced = ["linkspan_dns_synced", "linkspan_api_server_answers{cluster=\"paris\"} 1.0"];
    [node(), role(&server, "dns", &synced), role(&server, "controller", &leads)]
});

/// A child that is killed when a test ends early.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until the answer has `sign` in it. `netns` is a network namespace, or empty.
fn scrape(netns: &str, port: u16, path: &str, sign: &str) -> String {
    let url = format!("http://127.0.0.1:{port}{path}");
    let end = Instant::now() + PATIENCE;
    loop {
        let curl = ["curl", "-s", "--max-time", "5", &url];
        let mut command = match netns {
            "" => Command::new(curl[0]),
            netns => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns, curl[0]]);
                command
            }
        };
        let answer = ran(command.args(&curl[1..]));
        match answer {
            Ok(text) if text.contains(sign) => return text,
            other => assert!(Instant::now() < end, "{url} has no {sign}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A gateway with a peer and a name server, in a network namespace: this needs root.
fn node() -> String {
    struct Netns(String);
    impl Drop for Netns {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
        }
    }
    let netns = Netns(format!("lsk-{}", std::process::id()));
    for arguments in [
        format!("netns add {}", netns.0),
        format!("-n {} link set lo up", netns.0),
        format!("-n {} link add uplink type bridge", netns.0),
        format!("-n {} address add 192.0.2.1/24 dev uplink", netns.0),
        format!("-n {} link set uplink up", netns.0),
    ] {
        ran(Command::new("ip").args(arguments.split(' '))).unwrap_or_else(|error| panic!("ip {arguments}: {error}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let site = "cluster: paris
privateKeyFile: private.key
network: { podCIDRs: [10.42.0.0/16], serviceCIDRs: [10.43.0.0/16] }
nodes: [{ name: gw, address: 192.0.2.1, gateway: true, podCIDRs: [10.42.0.0/24] }]
dns: { listen: ['127.0.0.1:5353'] }
status: { socket: linkspan.sock, listen: 127.0.0.1:9810 }
peers: [{ cluster: berlin, publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=, allowedIPs: [10.52.0.0/16] }]
";
    std::fs::write(folder.path().join("site.yaml"), site).unwrap();
    let key = folder.path().join("private.key");
    std::fs::write(&key, PRIVATE_KEY).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &netns.0, env!("CARGO_BIN_EXE_linkspan"), "run", "--node", "gw", "--config"]);
    // So that its metrics are there, too; nobody listens.
    command.env("LINKSPAN_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    let _child = Killed(command.arg(folder.path().join("site.yaml")).stderr(Stdio::null()).spawn().unwrap());
    assert_eq!(scrape(&netns.0, 9810, "/readyz", "ready\n"), "ready\n");
    scrape(&netns.0, 9810, "/metrics", "linkspan_ready{cluster=\"paris\"} 1.0")
}

/// A role of a cluster, as administrator of an API server, whose metrics get these signs one after another.
fn role(server: &ApiServer, role: &str, signs: &[&str]) -> String {
    let http = Port::reserve().unwrap();
    let port = http.number;
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command.arg(role).env("KUBECONFIG", server.kubeconfig_path()).env("LINKSPAN_CLUSTER_ID", "paris");
    command.env("POD_IP", "127.0.0.1").env("LINKSPAN_HTTP_PORT", port.to_string()).env("POD_NAME", "pod-1");
    if role == "dns" {
        command.args(["--listen-port", "0"]);
    }
    let _child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    assert_eq!(scrape("", port, "/readyz", "ready\n"), "ready\n");
    signs.iter().fold(String::new(), |_, sign| scrape("", port, "/metrics", sign))
}

/// Name, kind and help of each metric; counters with the `_total` that they are asked for by.
fn exposed(text: &str) -> BTreeMap<String, (String, String)> {
    let rest = |line: &'static str| move |text: &str| text.strip_prefix(line).map(str::to_owned);
    let lines = |what| {
        text.lines().filter_map(rest(what)).map(|line: String| {
            let (name, value) = line.split_once(' ').expect("name and value");
            (name.to_owned(), value.to_owned())
        })
    };
    let helps: BTreeMap<_, _> = lines("# HELP ").collect();
    lines("# TYPE ")
        .map(|(name, kind)| {
            let help = helps[&name].trim_end_matches('.').to_owned();
            (if kind == "counter" { format!("{name}_total") } else { name }, (kind, help))
        })
        .collect()
}

pub(super) fn all_exposed() -> BTreeMap<String, (String, String)> {
    SCRAPES.iter().flat_map(|text| exposed(text)).collect()
}

#[test]
fn what_is_exposed_is_correct_text_with_few_series() {
    for text in SCRAPES.iter() {
        let told = text.lines().filter(|line| !line.starts_with('#'));
        assert!(told.clone().all(|line| line.starts_with("linkspan_") && line.contains("cluster=\"paris\"")), "{text}");
        // One peer with its lanes, and lists that are fixed in the code.
        assert!(told.count() < 150, "{text}");
    }
    let controller = &SCRAPES[2];
    assert!(controller.contains("linkspan_controller_leads{cluster=\"paris\"} 1.0"), "{controller}");
    assert!(controller.contains("linkspan_broker_joined{cluster=\"paris\"} 0.0"), "{controller}");
    assert!(controller.contains("linkspan_services_listed{cluster=\"paris\"} 1.0"), "{controller}");
    // As alerts and dashboards ask for it.
    let own = "linkspan_members{condition=\"Ready\",status=\"False\",cluster=\"paris\"} 1.0";
    let other = "linkspan_members{cluster=\"paris\",condition=\"Ready\",status=\"False\"} 1.0";
    assert!(controller.contains(own) || controller.contains(other), "{controller}");
    assert!(SCRAPES[1].contains("linkspan_api_server_answers{cluster=\"paris\"} 1.0"), "{}", SCRAPES[1]);
}

#[test]
fn the_reference_of_metrics_is_what_is_exposed() {
    let roles = ["node", "dns", "controller"];
    let mut table =
        "# Metrics\n\nOn `/metrics` of every process, in OpenMetrics text. Each bears `cluster`, the cluster's \
                     ID. This page is written by a test from what the program exposes.\n"
            .to_owned();
    for (role, text) in roles.iter().zip(SCRAPES.iter()) {
        table += &format!("\n## linkspan {role}\n\n| metric | kind | tells |\n|---|---|---|\n");
        let mut rows = exposed(text);
        if *role == "node" {
            // The node of this test runs by a file, without an API server.
            rows.extend(exposed(&SCRAPES[1]).into_iter().filter(|(name, _)| name == "linkspan_api_server_answers"));
        }
        for (name, (kind, help)) in rows {
            table += &format!("| `{name}` | {kind} | {help} |\n");
        }
    }
    let page = tree().join("docs/metrics.md");
    if std::env::var_os("LINKSPAN_WRITE_DOCS").is_some() {
        std::fs::write(&page, &table).unwrap();
    }
    assert!(read(&page) == table, "docs/metrics.md differs: run this test with LINKSPAN_WRITE_DOCS=1");
}
