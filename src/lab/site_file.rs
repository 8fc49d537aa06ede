//! The files of a node: the site file, the same for every node of a site, and on gateways the private key.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rand::RngCore;
use tunnel::config::{PrivateKey, PublicKey};

use super::plan::{HTTP_PORT, Node, Plan, SERVICE_PORT, Site};

/// Name of the site file in a node's folder.
pub const SITE_FILE: &str = "site.yaml";
/// Name of the status socket in a node's folder.
pub const SOCKET: &str = "linkspan.sock";
/// Where a node answers HTTP on its own loopback address.
pub const STATUS_LISTEN: &str = "127.0.0.1:9808";

/// Makes a key for each site and writes every node's folder `ROOT/NODE`.
///
/// # Errors
/// A file cannot be written.
pub fn write_all(plan: &Plan, root: &Path, lanes: usize, random: &mut impl RngCore) -> Result<()> {
    let keys: Vec<PrivateKey> = plan.sites.iter().map(|_| generate(random)).collect();
    let public: Vec<PublicKey> = keys.iter().map(PrivateKey::public_key).collect();
    for (at, site) in plan.sites.iter().enumerate() {
        let text = render(plan, site, &public, lanes);
        for node in &site.nodes {
            let folder = root.join(&node.name);
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(folder.join(SITE_FILE), &text))
                .and_then(|()| if node.gateway { write_key(&folder, &keys[at]) } else { Ok(()) })
                .with_context(|| format!("failed to write the files of node {} in {}", node.name, folder.display()))?;
        }
    }
    Ok(())
}

fn generate(random: &mut impl RngCore) -> PrivateKey {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    PrivateKey::from_bytes(bytes)
}

fn write_key(folder: &Path, key: &PrivateKey) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("private.key"))?;
    writeln!(file, "{}", key.dangerously_to_base64())
}

/// The site file as text. `public` holds every site's key in the order of the plan's sites.
pub fn render(plan: &Plan, site: &Site, public: &[PublicKey], lanes: usize) -> String {
    let mut text = format!(
        "# Written by `linkspan lab`; the same file for every node of the site.\n\
         cluster: {}\nprivateKeyFile: private.key\n",
        site.name,
    );
    let mut add = |line: String| writeln!(text, "{line}").expect("a String takes all text");
    network(site).into_iter().for_each(&mut add);
    add("nodes:".to_owned());
    for node in &site.nodes {
        add(format!(
            "  - {{ name: {}, address: \"{}\",{} podCIDRs: [{}] }}",
            node.name,
            node.addresses[0].addr(),
            if node.gateway { " gateway: true," } else { "" },
            list(&node.pod_cidrs),
        ));
    }
    add(format!("tunnel: {{ listenPort: {} }}", site.endpoint().port()));
    add(format!("dns: {{ listen: [{}] }}", list(&listeners(site))));
    add(format!("status: {{ socket: {SOCKET}, listen: \"{STATUS_LISTEN}\" }}"));
    add("exports:".to_owned());
    exports(site, site, "  ").into_iter().for_each(&mut add);
    add("peers:".to_owned());
    for (other, key) in plan.sites.iter().zip(public).filter(|(other, _)| other.name != site.name) {
        add(format!("  - cluster: {}", other.name));
        add(format!("    publicKey: {key}"));
        add(format!("    endpoint: \"{}\"", other.endpoint()));
        add(format!("    allowedIPs: [{}]", list(&other.prefixes_seen_from(site))));
        add(format!("    lanes: {lanes}"));
        if !site.translation.is_empty() && !site.is_virtual_to(other) {
            add("    knowsUsByVirtual: false".to_owned());
        }
        add("    exports:".to_owned());
        exports(other, site, "      ").into_iter().for_each(&mut add);
    }
    text
}

/// The bridge address of every node, where its pods ask for names.
fn listeners(site: &Site) -> Vec<std::net::SocketAddr> {
    let bridges = site.nodes.iter().flat_map(|node: &Node| &node.bridge);
    bridges.map(|net| std::net::SocketAddr::new(net.addr(), 53)).collect()
}

fn network(site: &Site) -> Vec<String> {
    let (pods, services) = (list(&site.pod_cidrs), list(&site.service_cidrs));
    if site.translation.is_empty() {
        return vec![format!("network: {{ podCIDRs: [{pods}], serviceCIDRs: [{services}] }}")];
    }
    let mut lines = vec![
        "network:".to_owned(),
        format!("  podCIDRs: [{pods}]"),
        format!("  serviceCIDRs: [{services}]"),
        "  virtual:".to_owned(),
    ];
    let pairs = site.translation.iter();
    lines.extend(pairs.map(|pair| format!("    - {{ native: \"{}\", virtual: \"{}\" }}", pair.native, pair.r#virtual)));
    lines
}

/// A `ClusterSetIP` service of the site's own, and its part of the headless service `db` that all sites export, with
/// the addresses by which `viewer` knows them.
fn exports(site: &Site, viewer: &Site, indent: &str) -> Vec<String> {
    let web = format!("web-{}", site.name);
    let mut lines = vec![
        format!(
            "{indent}- {{ name: {web}, namespace: default, type: ClusterSetIP, ips: [{}], ports: [{{ name: http, protocol: TCP, port: {SERVICE_PORT} }}] }}",
            list(&site.vips_seen_from(viewer))
        ),
        format!("{indent}- name: db"),
        format!("{indent}  namespace: default"),
        format!("{indent}  type: Headless"),
        format!("{indent}  ports: [{{ name: http, protocol: TCP, port: {HTTP_PORT} }}]"),
        format!("{indent}  endpoints:"),
    ];
    for place in site.pods() {
        lines.push(format!(
            "{indent}    - {{ hostname: {}, addresses: [{}], ready: true }}",
            place.pod.name,
            list(&place.addresses_seen_from(viewer))
        ));
    }
    lines
}

/// Quoted and comma-separated: an IPv6 address is no plain YAML scalar in a flow list.
fn list(values: &[impl ToString]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("\"{}\"", value.to_string())).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use tunnel::config::Addresses;

    use super::super::spec::{Family, Spec};
    use super::*;

    #[test]
    fn a_site_file_names_its_nodes_its_peers_and_what_both_export() {
        let plan = Plan::new(&Spec { pods: 1, ..Spec::default() });
        let keys = [PublicKey([0; 32]), PublicKey([255; 32])];
        let expected = "\
# Written by `linkspan lab`; the same file for every node of the site.
cluster: paris
privateKeyFile: private.key
network: { podCIDRs: [\"10.42.0.0/16\"], serviceCIDRs: [\"10.43.0.0/16\"] }
nodes:
  - { name: paris-gw, address: \"198.51.100.2\", gateway: true, podCIDRs: [\"10.42.0.0/24\"] }
  - { name: paris-w1, address: \"198.51.100.3\", podCIDRs: [\"10.42.1.0/24\"] }
tunnel: { listenPort: 51820 }
dns: { listen: [\"10.42.0.1:53\", \"10.42.1.1:53\"] }
status: { socket: linkspan.sock, listen: \"127.0.0.1:9808\" }
exports:
  - { name: web-paris, namespace: default, type: ClusterSetIP, ips: [\"10.43.0.10\"], ports: [{ name: http, protocol: TCP, port: 80 }] }
  - name: db
    namespace: default
    type: Headless
    ports: [{ name: http, protocol: TCP, port: 8080 }]
    endpoints:
      - { hostname: pod-1, addresses: [\"10.42.0.2\"], ready: true }
      - { hostname: pod-2, addresses: [\"10.42.1.2\"], ready: true }
peers:
  - cluster: berlin
    publicKey: //////////////////////////////////////////8=
    endpoint: \"198.51.100.18:51820\"
    allowedIPs: [\"10.52.0.0/16\", \"10.53.0.0/16\"]
    lanes: 2
    exports:
      - { name: web-berlin, namespace: default, type: ClusterSetIP, ips: [\"10.53.0.10\"], ports: [{ name: http, protocol: TCP, port: 80 }] }
      - name: db
        namespace: default
        type: Headless
        ports: [{ name: http, protocol: TCP, port: 8080 }]
        endpoints:
          - { hostname: pod-1, addresses: [\"10.52.0.2\"], ready: true }
          - { hostname: pod-2, addresses: [\"10.52.1.2\"], ready: true }
";
        assert_eq!(render(&plan, &plan.sites[0], &keys, 2), expected);
    }

    #[test]
    fn an_overlapping_site_names_its_virtual_prefixes_and_those_of_the_others() {
        let plan = Plan::new(&Spec { sites: 3, nodes: 1, pods: 1, overlapping: 2, ..Spec::default() });
        let text = render(&plan, &plan.sites[0], &[PublicKey([0; 32]), PublicKey([1; 32]), PublicKey([2; 32])], 1);
        let site = crate::site::parse(text.as_bytes()).expect("valid");
        let texts: Vec<_> = site.translation.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.42.0.0/16 as 100.64.0.0/16", "10.43.0.0/16 as 100.65.0.0/16"]);
        let [berlin, oslo] = site.peers.as_slice() else { panic!("two peers") };
        assert_eq!((berlin.knows_us_by, oslo.knows_us_by), (Addresses::Virtual, Addresses::Native));
        assert!(text.contains("allowedIPs: [\"100.66.0.0/16\", \"100.67.0.0/16\"]"), "{text}");
        assert!(text.contains("{ hostname: pod-1, addresses: [\"100.66.0.2\"], ready: true }"), "{text}");
    }

    #[test]
    fn ipv6_addresses_are_quoted_and_bracketed() {
        let plan = Plan::new(&Spec { nodes: 1, pods: 1, family: Family::V6, ..Spec::default() });
        let text = render(&plan, &plan.sites[0], &[PublicKey([0; 32]), PublicKey([1; 32])], 1);
        assert!(text.contains("dns: { listen: [\"[fd42::1]:53\"] }"), "{text}");
        assert!(text.contains("endpoint: \"[2001:db8:1::2]:51820\""), "{text}");
    }
}
