//! Ends of a way, as people write them.

use std::net::{IpAddr, SocketAddr};

/// One end, before it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Context or cluster ID; none where it was left out.
    pub cluster: Option<String>,
    /// Namespace; none where it was left out.
    pub namespace: Option<String>,
    /// What it is.
    pub what: What,
    /// The one endpoint of a service that is meant, where its own name was given.
    pub host: Option<Host>,
    /// Port, where one was given.
    pub port: Option<u16>,
}

/// An endpoint of a headless service that has a name of its own (MCS DNS specification, section 2.4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its host name.
    pub name: String,
    /// ID of its cluster.
    pub cluster: String,
}

/// What an end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A pod, deployment or service: whichever there is.
    Any(String),
    /// A pod.
    Pod(String),
    /// One of a deployment's pods.
    Deployment(String),
    /// A node itself.
    Node(String),
    /// A service of the clusterset.
    Service(String),
    /// An address, as the cluster of the client has it.
    Address(IpAddr),
}

/// Reads an end. `clusters` are the names by which clusters are known: the first part of `paris/default/client` is a
/// cluster when it is one of them, and a namespace otherwise.
///
/// # Errors
/// It is of no known form.
pub fn end(text: &str, clusters: &[&str]) -> Result<End, String> {
    let plain = |what, port| End { cluster: None, namespace: None, what, host: None, port };
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(plain(What::Address(address), None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(plain(What::Address(address.ip()), Some(address.port())));
    }
    let (path, port) = with_port(text)?;
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong(text));
    }
    // Contexts may have slashes in their names: those of K3s' kubeconfigs that are named after their files.
    let cluster = clusters
        .iter()
        .filter(|name| path.strip_prefix(**name).is_some_and(|rest| rest.starts_with('/')))
        .max_by_key(|name| name.len());
    if let Some(cluster) = cluster {
        parts = path[cluster.len() + 1..].split('/').collect();
    }
    let cluster = cluster.map(|name| (*name).to_owned());
    if let [name] = parts.as_slice()
        && let Some(Name { service, namespace, host }) = clusterset_name(name)
    {
        return Ok(End { cluster, namespace: Some(namespace), what: What::Service(service), host, port });
    }
    let (namespace, kind, name) = match parts.as_slice() {
        [address] if address.parse::<IpAddr>().is_ok() => {
            let address = address.parse().map_err(|_| wrong(text))?;
            return Ok(End { cluster, namespace: None, what: What::Address(address), host: None, port });
        }
        [name] => (None, None, *name),
        [kind, name] if kind_of(kind).is_some() => (None, kind_of(kind), *name),
        [namespace, name] => (Some((*namespace).to_owned()), None, *name),
        [namespace, kind, name] if kind_of(kind).is_some() => (Some((*namespace).to_owned()), kind_of(kind), *name),
        _ => return Err(wrong(text)),
    };
    let what = kind.unwrap_or(What::Any)(name.to_owned());
    Ok(End { cluster, namespace, what, host: None, port })
}

/// Whether an end may be read once the clusters are known: the first parts of its path may be the name of one.
///
/// # Errors
/// It cannot.
pub fn check(text: &str) -> Result<(), String> {
    let Err(error) = end(text, &[]) else { return Ok(()) };
    // The last part alone is what is left when all before it is a context.
    match text.rsplit_once('/') {
        Some((before, last)) if !before.is_empty() => end(last, &[]).map(drop).map_err(|_| error),
        _ => Err(error),
    }
}

/// The namespaces that an end may name: which of its parts is one is known once the clusters are.
pub fn namespaces(text: &str) -> Vec<String> {
    let path = text.rsplit_once(':').map_or(text, |(path, _)| path);
    let parts: Vec<&str> = path.split('/').collect();
    let last = parts.last().copied().unwrap_or_default();
    let before = parts[..parts.len() - 1].iter().filter(|part| kind_of(part).is_none());
    let service = clusterset_name(last).map(|name| name.namespace);
    before.map(|part| (*part).to_owned()).chain(service).collect()
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} is neither [CLUSTER/][NAMESPACE/][KIND/]NAME with KIND one of pod, deployment, node and service, nor a name \
         such as web.default.svc.clusterset.local, nor an address"
    )
}

fn with_port(text: &str) -> Result<(&str, Option<u16>), String> {
    match text.rsplit_once(':') {
        None => Ok((text, None)),
        Some((path, port)) => match port.parse() {
            Ok(port) if port > 0 => Ok((path, Some(port))),
            _ => Err(format!("{port:?} in {text:?} is no port")),
        },
    }
}

fn kind_of(text: &str) -> Option<fn(String) -> What> {
    Some(match text {
        "pod" | "pods" | "po" => What::Pod,
        "deployment" | "deployments" | "deploy" => What::Deployment,
        "node" | "nodes" | "no" => What::Node,
        "service" | "services" | "svc" => What::Service,
        _ => return None,
    })
}

/// What a name under clusterset.local means.
struct Name {
    service: String,
    namespace: String,
    host: Option<Host>,
}

/// Reads `SERVICE.NAMESPACE.svc.clusterset.local`, with HOST.CLUSTER before it where one endpoint is meant, or with
/// _PORT._PROTOCOL as questions for SRV have them.
fn clusterset_name(name: &str) -> Option<Name> {
    let rest = name.trim_end_matches('.').strip_suffix(".svc.clusterset.local")?;
    let labels: Vec<&str> = rest.split('.').collect();
    let (before, [service, namespace]) = labels.split_last_chunk::<2>()?;
    let host = match before {
        [] => None,
        [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => None,
        [host, cluster] => Some(Host { name: (*host).to_owned(), cluster: (*cluster).to_owned() }),
        _ => return None,
    };
    Some(Name { service: (*service).to_owned(), namespace: (*namespace).to_owned(), host })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> End {
        end(text, &["paris", "fleet/paris"]).expect("it is an end")
    }

    fn told(text: &str) -> (Option<String>, Option<String>, What, Option<u16>) {
        let End { cluster, namespace, what, port, .. } = read(text);
        (cluster, namespace, what, port)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn ends_are_read_in_all_their_forms() {
        let any = |name: &str| What::Any(name.to_owned());
        assert_eq!(told("client"), (None, None, any("client"), None));
        assert_eq!(told("shop/client"), (None, some("shop"), any("client"), None));
        assert_eq!(told("paris/client"), (some("paris"), None, any("client"), None));
        assert_eq!(told("paris/shop/client:80"), (some("paris"), some("shop"), any("client"), Some(80)));
        assert_eq!(told("fleet/paris/shop/client"), (some("fleet/paris"), some("shop"), any("client"), None));
        assert_eq!(told("paris/pod/a"), (some("paris"), None, What::Pod("a".to_owned()), None));
        assert_eq!(told("paris/shop/deploy/a"), (some("paris"), some("shop"), What::Deployment("a".to_owned()), None));
        assert_eq!(told("node/paris-1"), (None, None, What::Node("paris-1".to_owned()), None));
        assert_eq!(told("10.52.0.7:80").2, What::Address("10.52.0.7".parse().expect("valid")));
        assert_eq!(told("[fd00::7]:80"), (None, None, What::Address("fd00::7".parse().expect("valid")), Some(80)));
        assert_eq!(told("fd00::7").3, None);
        assert_eq!(told("paris/10.42.0.7").0, some("paris"));
    }

    #[test]
    fn names_of_the_clusterset_mean_their_service() {
        let web = What::Service("web".to_owned());
        assert_eq!(told("web.default.svc.clusterset.local"), (None, some("default"), web.clone(), None));
        assert_eq!(told("web.default.svc.clusterset.local.:8080"), (None, some("default"), web.clone(), Some(8080)));
        assert_eq!(told("_http._tcp.web.default.svc.clusterset.local").2, web);
        assert_eq!(read("_http._tcp.web.default.svc.clusterset.local").host, None);
        let one = read("db-0.berlin.web.default.svc.clusterset.local");
        let host = Host { name: "db-0".to_owned(), cluster: "berlin".to_owned() };
        assert_eq!((one.what, one.host), (web, Some(host)));
        let none = told("a.b.c.web.default.svc.clusterset.local").2;
        assert_eq!(none, What::Any("a.b.c.web.default.svc.clusterset.local".to_owned()), "no service has such a name");
    }

    #[test]
    fn every_part_before_a_name_may_be_its_namespace() {
        assert_eq!(namespaces("client"), [""; 0]);
        assert_eq!(namespaces("shop/client:80"), ["shop"]);
        assert_eq!(namespaces("paris/shop/pod/client"), ["paris", "shop"]);
        assert_eq!(namespaces("web.shop.svc.clusterset.local:80"), ["shop"]);
        assert_eq!(namespaces("paris/web.shop.svc.clusterset.local"), ["paris", "shop"]);
        assert_eq!(namespaces("10.42.0.7:80"), [""; 0]);
    }

    #[test]
    fn what_is_no_end_is_told_with_the_forms() {
        for text in ["", "a//b", "a/b/c/d", "x:y", "x:0"] {
            assert!(end(text, &[]).is_err(), "{text}");
        }
        assert!(end("a//b", &[]).expect_err("empty").contains("[CLUSTER/][NAMESPACE/][KIND/]NAME"));
    }
}
