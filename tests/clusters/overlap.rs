//! Three K3s clusters, whose pods and services all have the same prefixes in both families: what they are to each other,
//! and that one which joins later disturbs nobody.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use testbed::{Cluster, Corefile, Spec};

use crate::joined::{BROKER, Joined, SYSTEM, deploy, eventually, once_coredns_knows};
use crate::steps::stay_inside;
use crate::traces::{Traces, assert_no_object};
use crate::{Step, commands, documented, pods, sources};

/// The clusters that join first, and the one that joins while they have connections.
const FIRST: [&str; 2] = ["paris", "berlin"];
const LAST: &str = "rome";
const EVERYBODY: [&str; 3] = ["paris", "berlin", "rome"];

/// In order; later ones need what earlier ones have made.
pub const ALL: [Step; 7] = [
    ("two clusters with the same prefixes join, and know each other by virtual addresses", two_join),
    ("pods reach services and headless pods by name, and servers reach them back", two_meet),
    ("a third one joins, and a running connection goes on", row_18_a_third_one_joins),
    ("nodes reach pods of the others", nodes_meet),
    ("names cost no question to the outside", names_stay_inside),
    ("verify proves all of it", commands::verify_proves_it),
    ("what leaves leaves no trace", leaving_leaves_no_trace),
];

/// After the first four of these, for `make documented`.
pub const DOCUMENTED: [Step; 2] = [
    ("a service is made, exported and used by the commands of the documentation", documented::three_are_used),
    ("what leaves by the commands of the documentation leaves no trace", documented_leaving),
];

/// Clusters as they come, but for the networks of their nodes, and for IPv6. rome's CoreDNS imports nothing, so that
/// names get there by the Corefile itself.
pub fn specs() -> [Spec; 3] {
    let spec = |name: &str, site: u8, nodes| Spec { nodes, ..Spec::new(name, site).dual() };
    [spec("paris", 7, 2), spec("berlin", 8, 1), Spec { corefile: Corefile::Whole, ..spec("rome", 9, 1) }]
}

fn two_join(joined: &mut Joined) -> Result<()> {
    for name in EVERYBODY {
        pods::start(joined.cluster(name)?)?;
        export(joined.cluster(name)?)?;
    }
    documented::three_join(joined)?;
    are_ready(joined, &FIRST)
}

/// In each cluster two services of its own name: `at-paris` with an address, and `pods-paris` headless.
fn export(cluster: &Cluster) -> Result<()> {
    for (kind, address) in [("at", ""), ("pods", "clusterIP: None, ")] {
        cluster.apply(&format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: {kind}-{}, namespace: default }}, \
             spec: {{ {address}ipFamilyPolicy: PreferDualStack, selector: {{ app: web }}, \
             ports: [{{ name: http, port: 80 }}] }} }}",
            cluster.spec.name
        ))?;
    }
    Ok(())
}

fn are_ready(joined: &Joined, clusters: &[&str]) -> Result<()> {
    for viewer in clusters {
        for member in clusters {
            joined.wait_ready(viewer, member)?;
        }
        for kind in ["at", "pods"] {
            joined.linkspan(viewer, &["export", &format!("{kind}-{viewer}"), "-n", "default"])?.done()?;
        }
    }
    Ok(())
}

/// What others call the pod of each node of a cluster, by the node's name, IPv4 first: read off its Member as `viewer` has
/// it.
pub fn known_as(joined: &Joined, viewer: &str, cluster: &str) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    eventually(|| {
        let blocks = blocks(joined, viewer, cluster)?;
        let mut known = BTreeMap::new();
        for node in &joined.cluster(cluster)?.nodes {
            let own = pods::addresses(joined.cluster(cluster)?, &node.name)?;
            let mut names = Vec::new();
            for (from, to) in blocks.iter().copied() {
                names.extend(own.iter().filter(|own| from.contains(*own)).map(|own| moved(*own, from, to)));
            }
            names.sort();
            ensure!(names.len() == 2, "{viewer} knows the pod of {} ({own:?}) as {names:?} only", node.name);
            known.insert(node.name.clone(), names);
        }
        Ok(known)
    })
}

/// The prefixes of a cluster's nodes, and by which ones `viewer` knows them.
fn blocks(joined: &Joined, viewer: &str, cluster: &str) -> Result<Vec<(IpNet, IpNet)>> {
    let args = ["get", "member", cluster, "-n", SYSTEM, "-o", "json"];
    let member: serde_json::Value = serde_json::from_str(&joined.cluster(viewer)?.kubectl(args)?.stdout()?)?;
    let blocks = member["spec"]["virtualCIDRs"].as_array().context("no virtualCIDRs")?;
    blocks.iter().map(|block| Ok((net(&block["pods"])?, net(&block["virtual"])?))).collect()
}

/// The address that is in `to` where `own` is in `from`.
fn moved(own: IpAddr, from: IpNet, to: IpNet) -> IpAddr {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let moved = bits(to.network()) + (bits(own) - bits(from.network()));
    match u32::try_from(moved) {
        Ok(short) if own.is_ipv4() => Ipv4Addr::from(short).into(),
        _ => Ipv6Addr::from(moved).into(),
    }
}

fn net(value: &serde_json::Value) -> Result<IpNet> {
    Ok(value.as_str().context("no text")?.parse()?)
}

fn two_meet(joined: &mut Joined) -> Result<()> {
    meet(joined, "paris", "berlin")?;
    meet(joined, "berlin", "paris")
}

/// Every pod of `near` calls `far` by name, is seen under its own virtual addresses, and can be called there.
fn meet(joined: &Joined, near: &str, far: &str) -> Result<()> {
    let (clients, servers) = (known_as(joined, far, near)?, known_as(joined, near, far)?);
    let here = joined.cluster(near)?;
    for (client, seen_as) in &clients {
        let url = format!("http://at-{far}.default.svc.clusterset.local/");
        let said = once_coredns_knows(|| pods::read(here, client, &url))?;
        ensure!(servers.keys().any(|server| said == pods::name(server)), "{url} said {said:?} to {client}");
        for (family, (kind, over)) in [("A", "-4"), ("AAAA", "-6")].into_iter().enumerate() {
            let seen = once_coredns_knows(|| pods::read_over(here, client, over, &format!("{url}cgi-bin/from")))?;
            ensure!(seen == seen_as[family].to_string(), "{url} saw {client} as {seen}, not as {}", seen_as[family]);
            let mut expected: Vec<String> = servers.values().map(|names| names[family].to_string()).collect();
            expected.sort();
            eventually(|| {
                let found = pods::resolve(here, client, &format!("pods-{far}.default.svc.clusterset.local"), kind)?;
                ensure!(found == expected, "{client} finds {found:?}, not {expected:?}");
                Ok(())
            })?;
            for (server, names) in &servers {
                call(joined, (near, client, seen_as[family]), (far, server, names[family]))?;
            }
        }
    }
    let client = clients.keys().next().context("no node, no client")?;
    find_by_srv(here, client, far, &servers)
}

/// SRV names a target for each address by which a client knows a pod of the headless service, and that pod answers there.
fn find_by_srv(here: &Cluster, client: &str, far: &str, servers: &BTreeMap<String, Vec<IpAddr>>) -> Result<()> {
    let name = format!("_http._tcp.pods-{far}.default.svc.clusterset.local");
    let mut expected: Vec<IpAddr> = servers.values().flatten().copied().collect();
    expected.sort();
    let targets = eventually(|| {
        let targets = srv_targets(here, client, &name)?;
        let mut found: Vec<IpAddr> = targets.iter().map(|(_, address)| *address).collect();
        found.sort();
        ensure!(found == expected, "{client} finds {targets:?} for {name}, and not {expected:?}");
        Ok(targets)
    })?;
    for (host, address) in targets {
        let said = eventually(|| pods::read(here, client, &format!("http://{host}/")))?;
        let is_its = |(server, names): (&String, &Vec<IpAddr>)| names.contains(&address) && said == pods::name(server);
        ensure!(servers.iter().any(is_its), "{host} is {address}, and said {said:?} to {client}");
    }
    Ok(())
}

/// The hosts that SRV records of a name lead to, each with its one address.
fn srv_targets(here: &Cluster, client: &str, name: &str) -> Result<Vec<(String, IpAddr)>> {
    let mut targets = Vec::new();
    for record in pods::resolve(here, client, name, "SRV")? {
        let words: Vec<&str> = record.split_whitespace().collect();
        let [_priority, _weight, "80", target] = words[..] else { bail!("{name} has {record:?}") };
        let host = target.trim_end_matches('.').to_owned();
        let mut addresses = pods::resolve(here, client, &host, "A")?;
        addresses.extend(pods::resolve(here, client, &host, "AAAA")?);
        ensure!(addresses.len() == 1, "{host} is {addresses:?} to {client}");
        targets.push((host, addresses[0].parse()?));
    }
    Ok(targets)
}

/// One calls the other, and is called back: each a cluster, a node with a pod, and what the other knows that pod by.
fn call(joined: &Joined, client: (&str, &str, IpAddr), server: (&str, &str, IpAddr)) -> Result<()> {
    let (here, there) = (joined.cluster(client.0)?, joined.cluster(server.0)?);
    let url = format!("http://{}/cgi-bin/from", pods::host(server.2));
    let seen = eventually(|| pods::read(here, client.1, &url))?;
    ensure!(seen == client.2.to_string(), "{} saw {} as {seen}, not as {}", server.1, client.1, client.2);
    let back = eventually(|| pods::read(there, server.1, &format!("http://{}/", pods::host(client.2))))?;
    ensure!(back == pods::name(client.1), "behind {} {} found {back:?}, not {}", client.2, server.1, client.1);
    Ok(())
}

/// berlin reads from paris a line a second; meanwhile rome comes, with the prefixes of both.
fn row_18_a_third_one_joins(joined: &mut Joined) -> Result<()> {
    let joined = &*joined;
    let address = known_as(joined, "berlin", "paris")?["paris-2"][0];
    let berlin = joined.cluster("berlin")?;
    let before = (known_as(joined, "paris", "berlin")?, known_as(joined, "berlin", "paris")?);
    std::thread::scope(|scope| {
        let stop = "/tmp/stop";
        // Beside the connection to paris one that leaves no pod: so many lines come in that time on a busy machine.
        let read = |host: &str, file: &str| format!("curl -sSN http://{host}/cgi-bin/slow > {file} &");
        let (far, near) = (read(&address.to_string(), "/tmp/far"), read("127.0.0.1", "/tmp/near"));
        // It ends by itself, in case that nobody can tell it to.
        let until = format!("until [ -e {stop} ] || [ $((i += 1)) -gt 3600 ]; do sleep 1; done");
        let told = "kill $far $near && wc -l < /tmp/far && wc -l < /tmp/near";
        let script = format!("i=0; {far} far=$!; {near} near=$!; {until}; {told}");
        let reading = scope.spawn(move || berlin.exec("default", &pods::name("berlin-1"), &["/bin/sh", "-c", &script]));
        let met = joined.join(LAST).and_then(|()| are_ready(joined, &EVERYBODY)).and_then(|()| {
            for other in FIRST {
                meet(joined, LAST, other)?;
                meet(joined, other, LAST)?;
            }
            Ok(())
        });
        eventually(|| berlin.exec("default", &pods::name("berlin-1"), &["touch", stop]))?;
        let lines = reading.join().unwrap().context("the connection has ended")?;
        met?;
        let lines: Vec<u64> = lines.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [far, near] = lines[..] else { bail!("{lines:?}") };
        ensure!(near > 0 && far >= near * 2 / 3, "only {far} lines came from paris while {near} came in the pod");
        Ok(())
    })?;
    let after = (known_as(joined, "paris", "berlin")?, known_as(joined, "berlin", "paris")?);
    ensure!(before == after, "addresses changed from {before:?} to {after:?}");
    Ok(())
}

/// By the address of each pod, and by clusterset IP; who is called sees an address among those of the client's node's pods,
/// as it knows them.
fn nodes_meet(joined: &mut Joined) -> Result<()> {
    for near in EVERYBODY {
        for far in EVERYBODY.into_iter().filter(|far| *far != near) {
            let ips = sources::clusterset_ips(joined.cluster(near)?, &format!("at-{far}"))?;
            let (servers, clients) = (known_as(joined, near, far)?, known_as(joined, far, near)?);
            let blocks = blocks(joined, far, near)?;
            for client in &joined.cluster(near)?.nodes {
                for (server, address) in servers.iter().flat_map(|(server, at)| at.iter().map(move |at| (server, *at)))
                {
                    let said = eventually(|| sources::read_from_node(client, address, ""))?;
                    ensure!(said == pods::name(server), "{address} said {said:?} to node {}", client.name);
                }
                for address in servers.values().flatten().chain(&ips) {
                    let seen: IpAddr =
                        eventually(|| sources::read_from_node(client, *address, "cgi-bin/from"))?.parse()?;
                    let is_its = |(_, net): &&(IpNet, IpNet)| clients[&client.name].iter().any(|pod| net.contains(pod));
                    let is_known = blocks.iter().filter(is_its).any(|(_, net)| net.contains(&seen));
                    ensure!(is_known, "{address} in {far} saw node {} as {seen}; blocks: {blocks:?}", client.name);
                }
            }
        }
    }
    Ok(())
}

fn names_stay_inside(joined: &mut Joined) -> Result<()> {
    stay_inside(joined, &EVERYBODY, "at-paris")
}

/// rome as those leave who delete the manifests and ask nobody; berlin, and at last paris with the broker, by one command.
fn leaving_leaves_no_trace(joined: &mut Joined) -> Result<()> {
    ensure!(corefile(joined)?.contains("# linkspan begin"), "{LAST} finds names without the Corefile");
    ensure!(!made_of_imports(joined)?.is_empty(), "{LAST} imports nothing");
    joined.cluster(LAST)?.kubectl(["delete", "-k", &deploy("member"), "--timeout=300s"])?.done()?;
    eventually(|| {
        let left = made_of_imports(joined)?;
        ensure!(left.is_empty(), "{LAST} still has {left}");
        is_clean(joined)
    })?;
    // Nobody has told the broker.
    joined.linkspan(BROKER, &["member", "remove", LAST])?.done()?;
    joined.linkspan("berlin", &["uninstall", "--cluster", "--crds", "--wait=300"])?.done()?;
    joined.linkspan(BROKER, &["uninstall", "--cluster", "--broker", "--crds", "--wait=300"])?.done()?;
    nothing_is_left(joined)
}

/// The same, as pages say it.
fn documented_leaving(joined: &mut Joined) -> Result<()> {
    documented::three_leave(joined, |command| if command == "linkspan leave" { is_clean(joined) } else { Ok(()) })?;
    nothing_is_left(joined)
}

fn corefile(joined: &Joined) -> Result<String> {
    let config = ["get", "configmap", "coredns", "-n", "kube-system", "-o", "jsonpath={.data.Corefile}"];
    joined.cluster(LAST)?.kubectl(config)?.stdout()
}

/// What the controller of rome keeps outside of Linkspan's namespace.
fn made_of_imports(joined: &Joined) -> Result<String> {
    let kinds = "services,endpointslices,serviceimports,clusterproperties";
    let ours = ["get", kinds, "-A", "-l", "app.kubernetes.io/managed-by=linkspan.dev", "-o", "name"];
    joined.cluster(LAST)?.kubectl(ours)?.stdout()
}

fn is_clean(joined: &Joined) -> Result<()> {
    let corefile = corefile(joined)?;
    ensure!(!corefile.contains("linkspan"), "the Corefile of {LAST} still has Linkspan's:\n{corefile}");
    Ok(())
}

fn nothing_is_left(joined: &Joined) -> Result<()> {
    FIRST.iter().try_for_each(|name| assert_no_object(joined.cluster(name)?))?;
    eventually(|| Traces::of(&joined.bed)?.assert_as(&joined.before))
}
