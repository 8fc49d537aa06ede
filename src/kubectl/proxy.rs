//! The proxy between this program and an API server, as kubectl has it: that of the kubeconfig, else the environment's
//! `HTTPS_PROXY`, but for servers that `NO_PROXY` names and for those of this machine.

use std::net::IpAddr;

use anyhow::Context as _;
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The proxy for the server at `server`; `own` is the `proxy-url` of its kubeconfig, `variable` the environment.
///
/// # Errors
/// The proxy is no URL.
pub fn proxy(
    own: Option<&str>,
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Uri>> {
    let set = |text: &String| !text.trim().is_empty();
    if let Some(own) = own.filter(|own| !own.trim().is_empty()) {
        return own.parse().map(Some).with_context(|| format!("proxy-url {own:?} of the kubeconfig is not a URL"));
    }
    let either = |upper: &str| variable(upper).filter(set).or_else(|| variable(&upper.to_lowercase()).filter(set));
    let name = if server.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    let Some(proxy) = either(name).filter(|_| !is_here(server)) else { return Ok(None) };
    let excepted = either("NO_PROXY").unwrap_or_default();
    if Matcher::builder().all("http://proxy.invalid").no(excepted).build().intercept(server).is_none() {
        return Ok(None);
    }
    // As Go reads it: a host and port is an HTTP proxy.
    let whole = if proxy.contains("://") { proxy.clone() } else { format!("http://{proxy}") };
    whole.parse().map(Some).with_context(|| format!("{name}={proxy} is not a URL such as http://proxy.example:3128"))
}

/// Whether the server is on this machine, where no proxy leads.
fn is_here(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "http://proxy.example:3128";

    fn chosen(own: Option<&str>, server: &str, environment: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| Some(environment.iter().find(|(known, _)| *known == name)?.1.to_owned());
        let proxy = proxy(own, &server.parse().unwrap(), variable).unwrap()?;
        Some(proxy.to_string().trim_end_matches('/').to_owned())
    }

    #[test]
    fn the_kubeconfig_comes_before_the_environment_and_either_may_name_none() {
        let environment = [("HTTPS_PROXY", PROXY), ("NO_PROXY", "paris.example")];
        let own = Some("socks5://jump.example:1080");
        assert_eq!(chosen(own, "https://paris.example:6443", &environment).as_deref(), own, "NO_PROXY is not about it");
        assert_eq!(chosen(Some(""), "https://rome.example:6443", &environment).as_deref(), Some(PROXY));
        assert_eq!(chosen(None, "https://rome.example:6443", &[]), None);
        assert_eq!(chosen(None, "https://rome.example:6443", &[("https_proxy", PROXY)]).as_deref(), Some(PROXY));
        let bare = [("HTTPS_PROXY", "proxy.example:3128")];
        assert_eq!(chosen(None, "https://rome.example:6443", &bare).as_deref(), Some(PROXY));
    }

    #[test]
    fn servers_that_are_excepted_or_here_have_none() {
        let through = |server: &str, excepted: &str| {
            chosen(None, server, &[("HTTPS_PROXY", PROXY), ("NO_PROXY", excepted)]).is_some()
        };
        for (server, excepted) in [
            ("https://paris.example:6443", "rome.example,paris.example"),
            ("https://api.paris.example:6443", ".paris.example"),
            ("https://10.1.2.3:6443", "10.0.0.0/8"),
            ("https://192.0.2.1:6443", "192.0.2.1"),
            ("https://paris.example:6443", "*"),
            ("https://127.0.0.1:6443", ""),
            ("https://localhost:6443", ""),
            ("https://[::1]:6443", ""),
        ] {
            assert!(!through(server, excepted), "{server} {excepted:?}");
        }
        // The proxy's own name in NO_PROXY says nothing about servers.
        for (server, excepted) in [
            ("https://paris.example:6443", "proxy.example"),
            ("https://paris.example:6443", "rome.example"),
            ("https://11.1.2.3:6443", "10.0.0.0/8"),
            ("https://notparis.example:6443", ".paris.example"),
        ] {
            assert!(through(server, excepted), "{server} {excepted:?}");
        }
    }

    #[test]
    fn what_is_no_url_is_told() {
        let server = "https://paris.example".parse().unwrap();
        let error = proxy(Some("a b"), &server, |_| None).unwrap_err();
        assert!(error.to_string().contains("proxy-url \"a b\""), "{error}");
        let error = proxy(None, &server, |_| Some("http://[".to_owned())).unwrap_err();
        assert!(error.to_string().starts_with("HTTPS_PROXY=http://[ is not a URL"), "{error}");
    }
}
