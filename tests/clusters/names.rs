//! What names of the clusterset are to pods of real clusters, beside the addresses that they lead to.

use anyhow::{Result, ensure};

use crate::joined::{CLUSTERS, Joined, eventually, once_coredns_knows};
use crate::pods;

const WEB: &str = "web.default.svc.clusterset.local";

/// `web` of berlin has its own address and pods there, and is no service of paris.
pub fn row_94_names_of_a_cluster_stay_its_own(joined: &mut Joined) -> Result<()> {
    const OWN: &str = "web.default.svc.cluster.local";
    let berlin = joined.cluster("berlin")?;
    let address = berlin.kubectl(["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?.stdout()?;
    let of_clusterset = pods::resolve(berlin, "berlin-1", WEB, "A")?;
    let found = pods::resolve(berlin, "berlin-1", OWN, "A")?;
    ensure!(found == [address.clone()] && found != of_clusterset, "{OWN} is {found:?}, not {address}");
    let local: Vec<String> = berlin.nodes.iter().map(|node| pods::name(&node.name)).collect();
    for _ in 0..50 {
        let said = pods::read(berlin, "berlin-1", &format!("http://{OWN}/"))?;
        ensure!(local.contains(&said), "{OWN} said {said:?}");
    }
    let abroad = pods::resolve(joined.cluster("paris")?, "paris-1", OWN, "A")?;
    ensure!(abroad.is_empty(), "paris has {OWN}: {abroad:?}");
    Ok(())
}

/// Whether CoreDNS has an answer already or not.
pub fn row_96_answers_are_authoritative_through_cluster_dns(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        for _ in 0..2 {
            let dig = ["dig", "+noall", "+comments", "+time=2", "+tries=2", WEB, "A"];
            let said = cluster.exec("default", &pods::name(&format!("{name}-1")), &dig)?;
            ensure!(said.contains("status: NOERROR") && said.contains("flags: qr aa"), "in {name}: {said}");
        }
    }
    Ok(())
}

/// No client hangs, and the service is back with its pods.
pub fn row_69_a_service_without_ready_endpoints_refuses(joined: &mut Joined) -> Result<()> {
    const URL: &str = "http://later.default.svc.clusterset.local/";
    let (paris, berlin) = (joined.cluster("paris")?, joined.cluster("berlin")?);
    let select = |app: &str| {
        berlin.apply(&format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: later, namespace: default }}, \
             spec: {{ selector: {{ app: {app} }}, ports: [{{ name: http, port: 80 }}] }} }}"
        ))
    };
    // curl says 7 where it was refused, and 28 where it waited in vain.
    let script = format!("curl -sS --max-time 5 {URL}; echo \" $?\"");
    let call = || paris.exec("default", &pods::name("paris-1"), &["/bin/sh", "-c", &script]);
    select("nobody")?;
    joined.linkspan("berlin", &["export", "later", "-n", "default"])?.done()?;
    let refused = || -> Result<()> {
        let said = call()?;
        ensure!(said.trim() == "7", "without endpoints, curl said {said:?}");
        Ok(())
    };
    once_coredns_knows(&refused)?;
    select("web")?;
    eventually(|| pods::read(paris, "paris-1", URL))?;
    select("nobody")?;
    eventually(&refused)?;
    joined.linkspan("berlin", &["unexport", "later", "-n", "default"])?.done()?;
    berlin.kubectl(["delete", "service", "later"])?.done()
}
