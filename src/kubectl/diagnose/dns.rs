//! Names under clusterset.local: whether cluster DNS forwards them, who answers, and what.

use std::net::{IpAddr, SocketAddr};

use controller::api::names::{LABEL_SLICE_SERVICE, LABEL_SOURCE_CLUSTER, SYSTEM_NAMESPACE};
use controller::coredns::{Custom, Observed, plan};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt as _;

use super::{Check, Fault, Finding, services};
use crate::kubectl::inspect::{NameQuestion, NameSeen};
use crate::kubectl::picture::{ClusterPicture, Picture};

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_seen = cluster.configs.seen().is_some()
        && cluster.services.seen().is_some()
        && cluster.members.seen().is_some()
        && cluster.id.seen().is_some();
    match wiring(cluster) {
        Some(fault) => findings.push(Finding::bad(Check::Dns, cluster, "cluster-dns", fault)),
        None if is_seen => {
            findings.push(Finding::good(Check::Dns, cluster, "cluster-dns", "it forwards clusterset.local to Linkspan"))
        }
        None => {}
    }
    if let Some(fault) = server(cluster) {
        findings.push(Finding::bad(Check::Dns, cluster, "service/linkspan-system/linkspan-dns", fault));
    }
    for node in cluster.node_names() {
        let Some(seen) = cluster.inspection(&node) else { continue };
        for name in &seen.names {
            let object = format!("node/{node}");
            match answer(cluster, name) {
                Some(fault) => findings.push(Finding::bad(Check::Dns, cluster, object, fault)),
                None => {
                    let evidence = match name.addresses.is_empty() {
                        true => format!("{} has no ready endpoint, and no address", name.of.name),
                        false => format!("{} resolves", name.of.name),
                    };
                    findings.push(Finding::good(Check::Dns, cluster, object, evidence));
                }
            }
        }
    }
    findings
}

/// Why cluster DNS does not forward clusterset.local; nothing when it does, when it shall not, or when nobody could look.
pub(crate) fn wiring(cluster: &ClusterPicture) -> Option<Fault> {
    let configs = cluster.configs.seen()?;
    // Who has not joined has nothing to forward.
    cluster.own_member()?;
    cluster.services.seen()?;
    let service = cluster.service(SYSTEM_NAMESPACE, "linkspan-dns");
    if service.is_none() {
        let evidence = "there is no Service linkspan-dns in linkspan-system";
        return Some(Fault::failed(
            "CoreDnsNotWired",
            evidence,
            "nobody answers for clusterset.local",
            "apply deploy/member again",
        ));
    }
    let data =
        |name: &str| configs.get(&format!("kube-system/{name}")).map(|config| config.data.clone().unwrap_or_default());
    let observed = Observed {
        corefile: data("coredns").and_then(|mut data| data.remove("Corefile")),
        custom: data("coredns-custom").map(|data| Custom { data, made_by_us: true }),
        forward_to: service.map(addresses).unwrap_or_default(),
    };
    let (evidence, fix) = match plan(&observed) {
        Ok(actions) if actions.is_empty() => return None,
        Ok(actions) => {
            let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
            let fix = "linkspan-controller keeps it: see its log, and Role linkspan-coredns in kube-system; another program may write \
                       these ConfigMaps, too";
            (format!("missing: {}", actions.join("; ")), fix.to_owned())
        }
        Err(error) => (error.to_string(), "the message says what to do".to_owned()),
    };
    Some(Fault::failed("CoreDnsNotWired", evidence, "pods do not resolve names under clusterset.local", fix))
}

/// The addresses of a Service.
pub(super) fn addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let all = spec.and_then(|spec| spec.cluster_ips.clone());
    let one = || spec.and_then(|spec| spec.cluster_ip.clone()).into_iter().collect();
    all.unwrap_or_else(one).iter().filter_map(|address| address.parse().ok()).collect()
}

fn server(cluster: &ClusterPicture) -> Option<Fault> {
    let slices = cluster.slices.seen()?;
    cluster.service(SYSTEM_NAMESPACE, "linkspan-dns")?;
    let ours = slices.iter().filter(|slice| {
        slice.namespace().as_deref() == Some(SYSTEM_NAMESPACE)
            && slice.labels().get(LABEL_SLICE_SERVICE).is_some_and(|name| name == "linkspan-dns")
    });
    let ready = ours.flat_map(|slice| &slice.endpoints).filter(|endpoint| services::is_ready(endpoint)).count();
    if ready > 0 {
        return None;
    }
    let fix = "see `kubectl get pods -n linkspan-system -l app.kubernetes.io/component=dns`, and their logs";
    Some(Fault::failed(
        "NoNameServer",
        "Service linkspan-dns has no ready endpoint",
        "nobody answers for clusterset.local",
        fix,
    ))
}

/// What is wrong with the answer of cluster DNS.
pub(crate) fn answer(cluster: &ClusterPicture, seen: &NameSeen) -> Option<Fault> {
    let mut expected = expected(cluster, &seen.of.name)?;
    expected.retain(|address| address.is_ipv6() == seen.of.v6);
    let right = !seen.addresses.is_empty() && seen.addresses.iter().all(|address| expected.contains(address));
    let is_answer = matches!(seen.answer.as_str(), "NOERROR" | "NXDOMAIN");
    if right || is_answer && expected.is_empty() && seen.addresses.is_empty() {
        return None;
    }
    let list = |addresses: &[IpAddr]| match addresses {
        [] => "no address".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let evidence = format!(
        "{} at cluster DNS ({}): {} with {}, where {} belongs",
        seen.of.name,
        seen.of.server.ip(),
        seen.answer,
        list(&seen.addresses),
        list(&expected)
    );
    let cause = match (seen.answer.as_str(), wiring(cluster).is_some()) {
        (_, true) => "cluster DNS does not forward clusterset.local",
        ("NOERROR" | "NXDOMAIN", false) => {
            "cluster DNS has not read its configuration anew yet, or the name server is behind"
        }
        ("SERVFAIL", false) => "the name server has not seen all services yet, or cluster DNS does not reach it",
        _ => "cluster DNS does not answer",
    };
    let fix = "CoreDNS takes up to two minutes to read a changed ConfigMap; after that, see the logs of CoreDNS and linkspan-dns";
    Some(Fault::failed("WrongAnswer", evidence, cause, fix))
}

/// A question about a name: for addresses of the name server's family, unless the name has only others.
pub(crate) fn question(cluster: &ClusterPicture, server: SocketAddr, name: String) -> NameQuestion {
    let has = |v6: bool| expected(cluster, &name).is_some_and(|all| all.iter().any(|address| address.is_ipv6() == v6));
    let own = server.is_ipv6();
    let v6 = if has(!own) && !has(own) { !own } else { own };
    NameQuestion { server, name, v6 }
}

/// The addresses of both families that a name has here, as its ServiceImport and its slices say; nothing for a name that is
/// not known. It is SERVICE.NAMESPACE.svc.clusterset.local, or has HOST.CLUSTER in front.
fn expected(cluster: &ClusterPicture, name: &str) -> Option<Vec<IpAddr>> {
    let labels: Vec<&str> = name.trim_end_matches('.').strip_suffix(".svc.clusterset.local")?.split('.').collect();
    let (service, namespace, host) = match labels[..] {
        [service, namespace] => (service, namespace, None),
        [host, source, service, namespace] => (service, namespace, Some((host, source))),
        _ => return None,
    };
    let named = |import: &&controller::api::ServiceImport| {
        import.name_any() == service && import.namespace().as_deref() == Some(namespace)
    };
    let import = cluster.imports.all().iter().find(named)?;
    if host.is_none() && !import.spec.ips.is_empty() {
        return Some(import.spec.ips.iter().filter_map(|ip| ip.parse().ok()).collect());
    }
    let of_source = |slice: &&EndpointSlice| {
        host.is_none_or(|(_, source)| slice.labels().get(LABEL_SOURCE_CLUSTER).is_some_and(|found| found == source))
    };
    let slices = services::import_slices(cluster, namespace, service).into_iter().filter(of_source);
    let is_meant = |endpoint: &&Endpoint| host.is_none_or(|(host, _)| endpoint.hostname.as_deref() == Some(host));
    let endpoints =
        slices.flat_map(|slice| &slice.endpoints).filter(is_meant).filter(|endpoint| services::is_ready(endpoint));
    Some(endpoints.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| address.parse().ok()).collect())
}
