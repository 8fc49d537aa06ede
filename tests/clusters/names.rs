//! What names of the clusterset are to pods of real clusters, beside the addresses that they lead to.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{Cluster, Run, Testbed, wait};

use crate::joined::{CLUSTERS, Joined, eventually, once_coredns_knows};
use crate::pods;

const WEB: &str = "web.default.svc.clusterset.local";
/// A service of berlin that comes and goes.
const LATER: &str = "later.default.svc.clusterset.local";
/// Until pods find a name that has come, and no more one that has gone, with what CoreDNS remembers (mcs.md, row 98).
const SEEN: Duration = Duration::from_secs(10);
/// How often that is tried: a busy machine takes longer.
const TRIES: usize = 3;

/// `web` of berlin has its own address and pods there, and is no service of paris.
pub fn row_94_names_of_a_cluster_stay_its_own(joined: &mut Joined) -> Result<()> {
    const OWN: &str = "web.default.svc.cluster.local";
    let berlin = joined.cluster("berlin")?;
    let address = berlin.kubectl(["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?.stdout()?;
    eventually(|| {
        let of_clusterset = pods::resolve(berlin, "berlin-1", WEB, "A")?;
        let found = pods::resolve(berlin, "berlin-1", OWN, "A")?;
        ensure!(found == [address.clone()] && found != of_clusterset, "{OWN} is {found:?}, not {address}");
        Ok(())
    })?;
    let local: Vec<String> = berlin.nodes.iter().map(|node| pods::name(&node.name)).collect();
    for _ in 0..50 {
        let said = eventually(|| pods::read(berlin, "berlin-1", &format!("http://{OWN}/")))?;
        ensure!(local.contains(&said), "{OWN} said {said:?}");
    }
    let abroad = eventually(|| pods::resolve(joined.cluster("paris")?, "paris-1", OWN, "A"))?;
    ensure!(abroad.is_empty(), "paris has {OWN}: {abroad:?}");
    Ok(())
}

/// Whether CoreDNS has an answer already or not.
pub fn row_96_answers_are_authoritative_through_cluster_dns(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        for _ in 0..2 {
            let dig = ["dig", "+noall", "+comments", "+time=5", "+tries=3", WEB, "A"];
            let said = eventually(|| {
                let said = cluster.exec("default", &pods::name(&format!("{name}-1")), &dig)?;
                ensure!(said.contains("status: NOERROR"), "in {name}: {said}");
                Ok(said)
            })?;
            ensure!(said.contains("flags: qr aa"), "in {name}: {said}");
        }
    }
    Ok(())
}

/// No client hangs, and the service is back with its pods. Its name comes and goes in time.
pub fn row_69_a_service_without_ready_endpoints_refuses(joined: &mut Joined) -> Result<()> {
    let (paris, berlin) = (joined.cluster("paris")?, joined.cluster("berlin")?);
    let select = |app: &str| {
        berlin.apply(&format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: later, namespace: default }}, \
             spec: {{ selector: {{ app: {app} }}, ports: [{{ name: http, port: 80 }}] }} }}"
        ))
    };
    // curl says 7 where it was refused, and 28 where it waited in vain.
    let script = format!("curl -sS --max-time 5 http://{LATER}/; echo \" $?\"");
    let call = || paris.exec("default", &pods::name("paris-1"), &["/bin/sh", "-c", &script]);
    select("nobody")?;
    row_98_a_change_is_seen_in_time(joined, "export")?;
    let refused = || -> Result<()> {
        let said = call()?;
        ensure!(said.trim() == "7", "without endpoints, curl said {said:?}");
        Ok(())
    };
    once_coredns_knows(&refused)?;
    select("web")?;
    eventually(|| pods::read(paris, "paris-1", &format!("http://{LATER}/")))?;
    select("nobody")?;
    eventually(&refused)?;
    row_98_a_change_is_seen_in_time(joined, "unexport")?;
    berlin.kubectl(["delete", "service", "later"])?.done()
}

/// Exports `later`, or takes it back, while CoreDNS of both clusters remembers the answer of before.
fn row_98_a_change_is_seen_in_time(joined: &Joined, command: &str) -> Result<()> {
    let (wanted, inverse) = if command == "export" { (true, "unexport") } else { (false, "export") };
    let mut times = Vec::new();
    while times.len() < TRIES {
        if !times.is_empty() {
            change(joined, inverse)?;
        }
        for name in CLUSTERS {
            eventually(|| {
                let found = pods::resolve(joined.cluster(name)?, &format!("{name}-1"), LATER, "A")?;
                ensure!(found.is_empty() == wanted, "{name} has the answer of after {command} before it");
                Ok(())
            })?;
        }
        let took = change(joined, command)?;
        eprintln!("clusters: names knew of {command} after {:.1} s", took.as_secs_f32());
        if took <= SEEN {
            return Ok(());
        }
        times.push(took);
    }
    bail!("pods saw {command} after {times:?}, and never within {SEEN:?}")
}

/// Exports `later`, or takes it back, and waits until a pod of each cluster sees it. Gives back how long that took.
fn change(joined: &Joined, command: &str) -> Result<Duration> {
    let began = wait::now();
    joined.linkspan("berlin", &[command, "later", "-n", "default"])?.done()?;
    std::thread::scope(|scope| {
        let waiting = CLUSTERS.map(|name| scope.spawn(move || sees(joined, name, command)));
        waiting.into_iter().try_for_each(|thread| thread.join().unwrap())
    })?;
    Ok(began.elapsed())
}

/// Waits until a pod finds `later` after its export, or finds it no more after that was taken back. The pod asks again
/// and again by itself, so that the time to get there is not counted.
fn sees(joined: &Joined, name: &str, command: &str) -> Result<()> {
    let not = if command == "export" { "" } else { "! " };
    let script = format!(
        "until said=$(dig +short +time=2 +tries=2 {LATER} A) && {not}echo \"$said\" | grep -q '^[0-9]'; \
         do sleep 0.1; done"
    );
    let ask = ["timeout", "60", "/bin/sh", "-c", &script];
    eventually(|| joined.cluster(name)?.exec("default", &pods::name(&format!("{name}-1")), &ask))
        .with_context(|| format!("{name} has the answer of before {command}"))
        .map(drop)
}

/// Linkspan serves no reverse names, and takes none from who does.
pub fn row_102_reverse_names_are_as_before(joined: &mut Joined) -> Result<()> {
    let now = pointers(&joined.bed)?;
    ensure!(now == joined.pointers, "CoreDNS said {:?}, and says {now:?}", joined.pointers);
    Ok(())
}

/// What CoreDNS of each cluster calls the address of its own pod.
///
/// # Errors
/// It has no name for it.
pub fn pointers(bed: &Testbed) -> Result<Vec<String>> {
    let of = |cluster: &Cluster| {
        let pod = ["get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o"];
        let ip = cluster.kubectl([&pod[..], &["jsonpath={.items[0].status.podIP}"]].concat())?.stdout()?;
        let dig = Run::new("dig", ["+short", "+time=2", "+tries=2", &format!("@{ip}"), "-x", &ip]);
        let dig = cluster.nodes[0].inside(dig)?;
        eventually(|| {
            let said = dig.stdout()?;
            ensure!(said.contains(".kube-dns.kube-system.svc.cluster.local."), "CoreDNS calls {ip} {said:?}");
            Ok(said)
        })
    };
    bed.clusters.iter().map(of).collect()
}
