//! Where other clusters reach a broker's API server.

use std::net::IpAddr;

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Config};

use crate::kubectl::contexts::Target;

/// The URL that other clusters can use: that of the kubeconfig, or, where that is a loopback address as K3s writes it, the
/// address that the API server itself tells (EndpointSlice `kubernetes` in namespace `default`).
///
/// # Errors
/// Neither can be used.
pub async fn url(broker: &Target) -> anyhow::Result<String> {
    let url = broker.config.cluster_url.to_string();
    let url = url.trim_end_matches('/');
    if !is_loopback(url) {
        return Ok(url.to_owned());
    }
    let slices: Api<EndpointSlice> = Api::namespaced(broker.client.clone(), "default");
    let told = slices.get_opt("kubernetes").await.ok().flatten().and_then(|slice| advertised(&slice));
    match told {
        Some(told) => Ok(told),
        None => bail!("the kubeconfig reaches the broker at {url}, which other clusters cannot: give --server"),
    }
}

/// The address in the API server's own EndpointSlice.
fn advertised(slice: &EndpointSlice) -> Option<String> {
    let address = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).next()?;
    let ports = slice.ports.iter().flatten();
    let port = ports.filter(|port| port.name.as_deref() == Some("https")).find_map(|port| port.port)?;
    let address: IpAddr = address.parse().ok()?;
    match address {
        _ if address.is_loopback() => None,
        IpAddr::V4(address) => Some(format!("https://{address}:{port}")),
        IpAddr::V6(address) => Some(format!("https://[{address}]:{port}")),
    }
}

/// The certificates of the kubeconfig, PEM.
pub fn certificates(config: &Config) -> Option<String> {
    config.root_cert.as_ref().map(|certificates| certificates.iter().map(|der| pem(der)).collect())
}

fn is_loopback(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or(url).split('/').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// A certificate as text (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_cannot_reach_is_known() {
        for bad in ["https://127.0.0.1:6443", "https://localhost:6443/", "https://[::1]:6443", "https://0.0.0.0:6443"] {
            assert!(is_loopback(bad), "{bad}");
        }
        for good in ["https://192.0.2.1:6443", "https://broker.example", "https://[2001:db8::1]:6443/x"] {
            assert!(!is_loopback(good), "{good}");
        }
    }

    #[test]
    fn an_api_server_tells_its_address() {
        let slice = |address: &str, port: &str| -> EndpointSlice {
            let port = serde_json::json!([{ "name": port, "port": 6443 }]);
            let endpoints = serde_json::json!([{ "addresses": [address] }]);
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": "kubernetes" }, "addressType": "IPv4", "endpoints": endpoints, "ports": port,
            }))
            .expect("a slice")
        };
        assert_eq!(advertised(&slice("192.0.2.7", "https")).as_deref(), Some("https://192.0.2.7:6443"));
        assert_eq!(advertised(&slice("2001:db8::7", "https")).as_deref(), Some("https://[2001:db8::7]:6443"));
        assert_eq!(advertised(&slice("127.0.0.1", "https")), None);
        assert_eq!(advertised(&slice("192.0.2.7", "http")), None);
    }

    #[test]
    fn a_certificate_is_written_in_lines_of_64() {
        let text = pem(&[7; 100]);
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\nBwcH"));
        assert!(text.ends_with("=\n-----END CERTIFICATE-----\n"));
        assert_eq!(text.lines().map(str::len).max(), Some(64));
    }
}
