//! Metrics, alerts and dashboards: what they name exists in what the program really exposes, each alert has its page, and
//! fires when it shall and not otherwise.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use testbed::ApiServer;

use super::*;

/// Longest wait for what takes a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PRIVATE_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";

// === What the program exposes ===

/// The metrics of a node, of a name server and of a controller that leads, from the running program.
static SCRAPES: LazyLock<[String; 3]> = LazyLock::new(|| {
    let server = ApiServer::start().unwrap();
    for base in ["deploy/crds", "deploy/member"] {
        let base = tree().join(base);
        server.kubectl(["apply", "--server-side", "-k", base.to_str().unwrap()]).unwrap().done().unwrap();
    }
    [node(), role(&server, "dns", "linkspan_dns_synced"), role(&server, "controller", "condition=\"Ready\"")]
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

/// A role of a cluster, as administrator of an API server.
fn role(server: &ApiServer, role: &str, sign: &str) -> String {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, dns) = (free(), free().to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command.arg(role).env("KUBECONFIG", server.kubeconfig_path()).env("LINKSPAN_CLUSTER_ID", "paris");
    command.env("POD_IP", "127.0.0.1").env("LINKSPAN_HTTP_PORT", port.to_string()).env("POD_NAME", "pod-1");
    if role == "dns" {
        command.args(["--listen-port", &dns]);
    }
    let _child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    assert_eq!(scrape("", port, "/readyz", "ready\n"), "ready\n");
    scrape("", port, "/metrics", sign)
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

fn all_exposed() -> BTreeMap<String, (String, String)> {
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

// === Alerts and dashboards ===

fn rules() -> Value {
    documents(&read("deploy/observability/prometheusrule.yaml")).remove(0)["spec"].take()
}

fn alerts() -> Vec<Value> {
    let groups = rules()["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The queries of all dashboards, with their variables filled in.
fn queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for name in ["fleet", "cluster"] {
        let before = found.len();
        let dashboard: Value =
            serde_json::from_str(&read(format!("deploy/observability/dashboards/{name}.json"))).unwrap();
        collect(&dashboard, &mut found);
        assert!(found.len() > before + 10, "dashboard {name} has hardly a query");
    }
    found.iter().map(|query| query.replace("$__rate_interval", "5m").replace("$cluster", "paris")).collect()
}

/// Names of metrics in a query.
fn named(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("linkspan_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboards_name_metrics_that_exist() {
    let exposed: BTreeSet<_> = all_exposed().into_keys().collect();
    let alerts: Vec<_> = alerts().iter().map(|alert| alert["expr"].as_str().unwrap().to_owned()).collect();
    let mut names = BTreeSet::new();
    for query in alerts.iter().chain(&queries()) {
        let these = named(query);
        // Prometheus' own word on its targets.
        assert!(!these.is_empty() || query.starts_with("up{"), "{query} names no metric of ours");
        assert!(these.is_subset(&exposed), "{query}: {:?} is exposed by nobody", &these - &exposed);
        names.extend(these);
    }
    assert!(names.len() > 30, "{names:?}");
}

/// Runs promtool on files of these names and texts.
fn promtool(arguments: &[&str], files: &[(&str, &str)]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = Command::new(peer("promtool")).args(arguments).current_dir(folder.path()).output().unwrap();
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if output.status.success() { Ok(told) } else { Err(told) }
}

#[test]
fn prometheus_takes_all_rules_and_queries() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"], &[("rules.yaml", &rules().to_string())])
        .unwrap();
    let query = |(number, query)| serde_json::json!({ "record": format!("query:{number}"), "expr": query });
    let records: Vec<_> = queries().into_iter().enumerate().map(query).collect();
    let all = serde_json::json!({ "groups": [{ "name": "dashboards", "rules": records }] }).to_string();
    promtool(&["check", "rules", "all.yaml"], &[("all.yaml", &all)]).unwrap();
    let wrong = all.replacen("sum by (", "sum by ((", 1);
    promtool(&["check", "rules", "all.yaml"], &[("all.yaml", &wrong)]).unwrap_err();
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let mut pages = BTreeSet::from(["README.md".to_owned()]);
    let index = read("docs/runbooks/README.md");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let page = read(format!("docs/runbooks/{name}.md"));
        let expr = alert["expr"].as_str().unwrap();
        assert!(page.starts_with(&format!("# {name}\n")) && page.contains(&format!("\n{expr}\n")), "{page}");
        for part in ["## What it means", "## Where to look", "## What to do"] {
            assert!(page.contains(part), "{name} does not say {part:?}");
        }
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/docs/runbooks/{name}.md")), "{url}");
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("critical" | "warning" | "info")), "{name}");
        assert!(index.contains(&format!("[{name}]({name}.md)")), "docs/runbooks/README.md lacks {name}");
        pages.insert(format!("{name}.md"));
    }
    let found = files::below(&tree().join("docs/runbooks"));
    let found: BTreeSet<_> =
        found.iter().map(|page| page.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, pages);
}

/// A cluster in which all is well: gateway `a`, controllers `c` and `d`, name server `e`. Values as promtool writes them.
const WELL: &[(&str, &str)] = &[
    ("up{job='linkspan-system/linkspan',instance='a'}", "1x2000"),
    ("up{job='linkspan-system/linkspan',instance='c'}", "1x2000"),
    ("up{job='linkspan-system/linkspan',instance='e'}", "1x2000"),
    ("linkspan_build{instance='a',version='1'}", "1x2000"),
    ("linkspan_ready{instance='a'}", "1x2000"),
    ("linkspan_api_server_answers{instance='a'}", "1x2000"),
    ("linkspan_task_restarts_total{instance='a',task='gateway'}", "1x2000"),
    ("linkspan_passes_total{instance='a'}", "0+2x2000"),
    ("linkspan_pass_failures_in_row{instance='a'}", "0 1 0x2000"),
    ("linkspan_pass_seconds_ago{instance='a'}", "25x2000"),
    ("linkspan_pass_obstacles{instance='a'}", "0x2000"),
    ("linkspan_gateway_active{instance='a'}", "1x2000"),
    ("linkspan_peer_up{instance='a',peer='berlin'}", "1x2000"),
    ("linkspan_peer_up{instance='a',peer='rome'}", "1x2000"),
    // A gateway of berlin that stands by, and the paths of one of ours that does.
    ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "0x2000"),
    ("linkspan_gateway_active{instance='b'}", "0x2000"),
    ("linkspan_peer_up{instance='b',peer='berlin'}", "0x2000"),
    ("linkspan_peer_loss_ratio{instance='a',peer='berlin'}", "0.01x2000"),
    ("linkspan_dropped_packets_total{instance='a',reason='no-peer'}", "0+60x2000"),
    ("linkspan_controller_leads{instance='c'}", "1x2000"),
    ("linkspan_controller_leads{instance='d'}", "0x2000"),
    ("linkspan_controller_waiting{instance='c',part='broker'}", "0x2000"),
    ("linkspan_broker_joined{instance='c'}", "1x2000"),
    ("linkspan_broker_reachable{instance='c'}", "1x2000"),
    // A broker that gives tokens for a day only.
    ("linkspan_broker_credential_expiry_timestamp_seconds{instance='c'}", "86400x720 129600x1280"),
    ("linkspan_broker_credential_renewal_timestamp_seconds{instance='c'}", "43200x720 86400x1280"),
    ("linkspan_members{instance='c',condition='Ready',status='True'}", "3x2000"),
    ("linkspan_members{instance='c',condition='Alive',status='True'}", "3x2000"),
    ("linkspan_service_records{instance='c',origin='own',state='refused'}", "0x2000"),
    ("linkspan_service_records{instance='c',origin='others',state='refused'}", "0x2000"),
    ("linkspan_service_export_conditions{instance='c',condition='Valid',status='True'}", "4x2000"),
    ("linkspan_service_export_conditions{instance='c',condition='Conflict',status='False'}", "4x2000"),
    ("linkspan_api_server_answers{instance='e'}", "1x2000"),
    ("linkspan_dns_synced{instance='e'}", "1x2000"),
    ("linkspan_dns_waiting_listeners{instance='e'}", "0x2000"),
    ("linkspan_dns_responses_total{instance='e',rcode='NOERROR'}", "0+600x2000"),
    ("linkspan_dns_responses_total{instance='e',rcode='SERVFAIL'}", "0+1x2000"),
];

/// A fault: what differs from [`WELL`] (`-` for a series that is not there), when one looks, and which alerts fire then.
type Fault = (&'static [(&'static str, &'static str)], u32, &'static [&'static str]);

/// All series of nodes are missing.
const NO_NODES: &[(&str, &str)] = &[
    ("linkspan_build{instance='a',version='1'}", "-"),
    ("linkspan_ready{instance='a'}", "-"),
    ("linkspan_api_server_answers{instance='a'}", "-"),
    ("linkspan_passes_total{instance='a'}", "-"),
    ("linkspan_gateway_active{instance='a'}", "-"),
    ("linkspan_peer_up{instance='a',peer='berlin'}", "-"),
    ("linkspan_peer_up{instance='a',peer='rome'}", "-"),
    ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "-"),
    ("linkspan_gateway_active{instance='b'}", "-"),
    ("linkspan_peer_up{instance='b',peer='berlin'}", "-"),
];

const FAULTS: &[Fault] = &[
    (&[], 1500, &[]),
    (&[("linkspan_peer_up{instance='a',peer='rome'}", "0x2000")], 1, &[]),
    (&[("linkspan_peer_up{instance='a',peer='rome'}", "0x2000")], 5, &["LinkspanPeerDown"]),
    (
        &[
            ("linkspan_peer_up{instance='a',peer='berlin'}", "0x2000"),
            ("linkspan_peer_up{instance='a',peer='rome'}", "0x2000"),
        ],
        5,
        // One for each peer.
        &["LinkspanAllPeersDown", "LinkspanPeerDown", "LinkspanPeerDown"],
    ),
    (&[("linkspan_gateway_active{instance='a'}", "0x2000")], 5, &["LinkspanNoActiveGateway"]),
    // The gateway has lost its device, and tells nothing of tunnels.
    (
        &[("linkspan_gateway_active{instance='a'}", "-"), ("linkspan_gateway_active{instance='b'}", "-")],
        5,
        &["LinkspanNoActiveGateway"],
    ),
    // No node tells anything any more.
    (NO_NODES, 5, &["LinkspanNoActiveGateway"]),
    // The gateway has lost all peers from its plan, and the controller knows Members.
    (
        &[
            ("linkspan_peer_up{instance='a',peer='berlin'}", "-"),
            ("linkspan_peer_up{instance='a',peer='rome'}", "-"),
            ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "-"),
            ("linkspan_peer_up{instance='b',peer='berlin'}", "-"),
        ],
        5,
        &["LinkspanAllPeersDown"],
    ),
    // Alone in its clusterset.
    (
        &[
            ("linkspan_peer_up{instance='a',peer='berlin'}", "-"),
            ("linkspan_peer_up{instance='a',peer='rome'}", "-"),
            ("linkspan_peer_up{instance='a',peer='berlin/b2'}", "-"),
            ("linkspan_peer_up{instance='b',peer='berlin'}", "-"),
            ("linkspan_members{instance='c',condition='Ready',status='True'}", "1x2000"),
        ],
        5,
        &[],
    ),
    (&[("up{job='linkspan-system/linkspan',instance='e'}", "0x2000")], 20, &["LinkspanTargetDown"]),
    (&[("linkspan_gateway_active{instance='b'}", "1x2000")], 5, &["LinkspanPeerDown", "LinkspanTwoActiveGateways"]),
    (&[("linkspan_peer_loss_ratio{instance='a',peer='berlin'}", "0.2x2000")], 20, &["LinkspanPathLossy"]),
    (
        &[("linkspan_dropped_packets_total{instance='a',reason='no-peer'}", "0+6000x2000")],
        30,
        &["LinkspanPacketsDropped"],
    ),
    (&[("linkspan_ready{instance='a'}", "0x2000")], 15, &["LinkspanNotReady"]),
    (&[("linkspan_pass_failures_in_row{instance='a'}", "5x2000")], 10, &["LinkspanPassFailing"]),
    (&[("linkspan_pass_seconds_ago{instance='a'}", "0+60x2000")], 10, &["LinkspanPassStalled"]),
    (&[("linkspan_pass_obstacles{instance='a'}", "1x2000")], 10, &["LinkspanTrafficBlocked"]),
    (&[("linkspan_task_restarts_total{instance='a',task='gateway'}", "0+1x2000")], 40, &["LinkspanTaskRestarts"]),
    (&[("linkspan_api_server_answers{instance='a'}", "0x2000")], 20, &["LinkspanApiServerSilent"]),
    (&[("linkspan_controller_leads{instance='c'}", "0x2000")], 5, &["LinkspanNoLeader"]),
    // No controller tells anything any more.
    (
        &[
            ("linkspan_controller_leads{instance='c'}", "-"),
            ("linkspan_controller_leads{instance='d'}", "-"),
            ("linkspan_controller_waiting{instance='c',part='broker'}", "-"),
            ("linkspan_broker_joined{instance='c'}", "-"),
            ("linkspan_broker_reachable{instance='c'}", "-"),
        ],
        5,
        &["LinkspanNoLeader"],
    ),
    (&[("linkspan_broker_joined{instance='c'}", "0x2000")], 40, &["LinkspanNotJoined"]),
    (&[("linkspan_broker_reachable{instance='c'}", "0x2000")], 40, &["LinkspanBrokerUnreachable"]),
    (
        &[
            ("linkspan_broker_credential_expiry_timestamp_seconds{instance='c'}", "8000x2000"),
            ("linkspan_broker_credential_renewal_timestamp_seconds{instance='c'}", "4000x2000"),
        ],
        110,
        &["LinkspanCredentialExpiring"],
    ),
    (&[("linkspan_members{instance='c',condition='Ready',status='False'}", "1x2000")], 20, &["LinkspanMemberNotReady"]),
    (&[("linkspan_members{instance='c',condition='Alive',status='False'}", "1x2000")], 70, &["LinkspanMemberSilent"]),
    (
        &[("linkspan_service_records{instance='c',origin='others',state='refused'}", "2x2000")],
        20,
        &["LinkspanRecordsRefused"],
    ),
    (
        &[("linkspan_service_export_conditions{instance='c',condition='Valid',status='False'}", "1x2000")],
        20,
        &["LinkspanExportInvalid"],
    ),
    (
        &[("linkspan_service_export_conditions{instance='c',condition='Conflict',status='True'}", "1x2000")],
        20,
        &["LinkspanExportConflict"],
    ),
    (&[("linkspan_controller_waiting{instance='c',part='broker'}", "1x2000")], 20, &["LinkspanWritesFailing"]),
    (&[("linkspan_dns_synced{instance='e'}", "0x2000")], 5, &["LinkspanNamesNotServed"]),
    // No name server tells anything any more.
    (
        &[("linkspan_dns_synced{instance='e'}", "-"), ("linkspan_api_server_answers{instance='e'}", "-")],
        5,
        &["LinkspanNamesNotServed"],
    ),
    (&[("linkspan_dns_responses_total{instance='e',rcode='SERVFAIL'}", "0+60x2000")], 20, &["LinkspanNamesFailing"]),
    (&[("linkspan_dns_waiting_listeners{instance='e'}", "1x2000")], 15, &["LinkspanListenerWaiting"]),
    (&[("linkspan_build{instance='e',version='2'}", "1x2000")], 1000, &[]),
    (&[("linkspan_build{instance='e',version='2'}", "1x2000")], 1500, &["LinkspanVersionsMixed"]),
];

/// A test of promtool: exactly these alerts fire, in a cluster beside another one in which all is well.
fn fault((changes, minutes, fire): &Fault) -> Value {
    let mut series: BTreeMap<String, String> = BTreeMap::new();
    for cluster in ["paris", "oslo"] {
        let of = |name: &str| name.replacen('{', &format!("{{cluster='{cluster}',"), 1);
        series.extend(WELL.iter().map(|(name, values)| (of(name), (*values).to_owned())));
        let changes = changes.iter().filter(|_| cluster == "paris");
        for (name, values) in changes {
            series.insert(of(name), (*values).to_owned());
        }
    }
    series.retain(|_, values| values != "-");
    let series: Vec<_> =
        series.iter().map(|(name, values)| serde_json::json!({ "series": name, "values": values })).collect();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for alert in *fire {
        *counts.entry(alert).or_default() += 1;
    }
    let samples: Vec<_> = counts
        .iter()
        .map(|(name, count)| serde_json::json!({ "labels": format!("{{alertname=\"{name}\"}}"), "value": count }))
        .collect();
    serde_json::json!({
        "name": format!("{changes:?} after {minutes} min"),
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{
            "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
            "eval_time": format!("{minutes}m"),
            "exp_samples": samples,
        }],
    })
}

#[test]
fn each_alert_fires_for_its_fault_and_for_no_other_one() {
    let fired: BTreeSet<_> = FAULTS.iter().flat_map(|(_, _, fire)| *fire).map(|name| (*name).to_owned()).collect();
    let alerts: BTreeSet<_> = alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(fired, alerts, "each alert has a fault");
    let tests: Vec<_> = FAULTS.iter().map(fault).collect();
    let tests = serde_json::json!({ "rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests });
    let told = promtool(
        &["test", "rules", "tests.yaml"],
        &[("rules.yaml", &rules().to_string()), ("tests.yaml", &tests.to_string())],
    );
    told.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_chart_brings_what_kubectl_does() {
    let plain = chart("linkspan", "default", "");
    let mut with =
        chart("linkspan", "default", "monitoring: { podMonitor: true, prometheusRule: true, dashboards: true }");
    with.retain(|name, _| !plain.contains_key(name));
    assert_same("monitoring", &with, &base("deploy/observability"));
}
