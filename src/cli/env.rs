//! Options that a ConfigMap sets through the environment, where an empty value means that nothing is set.

use std::convert::Infallible;
use std::num::NonZeroU8;
use std::str::FromStr;

use clap::Args as ClapArgs;
use controller::members::Selector;
use ipnet::IpNet;

use crate::site::values;

/// A value, or an empty text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Maybe<T>(pub(super) Option<T>);

/// Prefixes, none where none are set, or why a text is none. A cluster can do without: the wrong value becomes a condition,
/// which people read, and does not end a process that keeps all else going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checked(pub(super) Result<Vec<IpNet>, String>);

/// Which cluster this is.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Cluster {
    /// This cluster's ID, unique in the clusterset: one RFC 1123 label of at most 63 characters.
    #[arg(long, env = "LINKSPAN_CLUSTER_ID", hide_env = true, value_name = "ID")]
    cluster_id: Option<String>,
}

impl Cluster {
    /// The ID.
    pub(super) fn id(&self) -> anyhow::Result<String> {
        let fix = "set LINKSPAN_CLUSTER_ID, in a cluster by ConfigMap linkspan in namespace linkspan-system";
        match self.cluster_id.as_deref().map(str::trim) {
            None | Some("") => anyhow::bail!("this cluster has no ID yet: {fix}"),
            Some(id) => values::label(id).map_err(|error| anyhow::anyhow!("LINKSPAN_CLUSTER_ID: {error}")),
        }
    }
}

/// Which nodes may be gateways.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Gateways {
    /// Labels of the nodes that end tunnels; where nodes have them, no other one is a gateway.
    #[arg(
        id = "gateway_selector",
        long = "gateway-selector",
        env = "LINKSPAN_GATEWAY_SELECTOR",
        hide_env = true,
        value_name = "LABELS",
        default_value = "linkspan.dev/gateway=true"
    )]
    pub(super) selector: Selector,
}

fn number<T>(text: &str, parse: impl Fn(u64) -> Result<T, String>) -> Result<Maybe<T>, String> {
    let text = text.trim();
    if text.is_empty() || text == "auto" {
        return Ok(Maybe(None));
    }
    let number = u64::from_str(text).map_err(|_| format!("{} is not a whole number", values::quote(text)))?;
    parse(number).map(|value| Maybe(Some(value)))
}

/// A number of lanes.
pub(super) fn lanes(text: &str) -> Result<Maybe<NonZeroU8>, String> {
    number(text, values::lanes)
}

/// An MTU.
pub(super) fn mtu(text: &str) -> Result<Maybe<u16>, String> {
    number(text, values::mtu)
}

/// Names of namespaces with commas or spaces between.
pub(super) fn namespaces(text: &str) -> Result<Maybe<Vec<String>>, String> {
    let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
    let names: Vec<String> = parts.map(values::label).collect::<Result<_, _>>()?;
    Ok(Maybe(Some(names).filter(|names| !names.is_empty())))
}

/// Prefixes with commas or spaces between.
pub(super) fn prefixes(text: &str) -> Result<Maybe<Vec<IpNet>>, String> {
    let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
    let nets: Vec<IpNet> = parts.map(values::routed_prefix).collect::<Result<_, _>>()?;
    Ok(Maybe(Some(nets).filter(|nets| !nets.is_empty())))
}

/// As [`prefixes`], of which a wrong value is told later.
pub(super) fn checked_prefixes(text: &str) -> Result<Checked, Infallible> {
    Ok(Checked(prefixes(text).map(|nets| nets.0.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_sets_nothing() {
        assert_eq!(lanes(""), Ok(Maybe(None)));
        assert_eq!(mtu("auto"), Ok(Maybe(None)));
        assert_eq!(prefixes(" "), Ok(Maybe(None)));
        assert_eq!(mtu("1400"), Ok(Maybe(Some(1400))));
        assert_eq!(lanes("2").map(|lanes| lanes.0.map(NonZeroU8::get)), Ok(Some(2)));
        assert_eq!(namespaces(" , "), Ok(Maybe(None)));
        let names = namespaces("kube-system, secrets").expect("valid").0;
        assert_eq!(names, Some(vec!["kube-system".to_owned(), "secrets".to_owned()]));
        let nets = prefixes("10.42.0.0/16, fd00:42::/56").expect("valid").0.expect("set");
        assert_eq!(nets.len(), 2);
    }

    #[test]
    fn a_wrong_value_is_told_with_the_accepted_form() {
        assert!(lanes("17").expect_err("too many").contains("1 to 16"));
        assert!(mtu("x").expect_err("no number").contains("whole number"));
        assert!(prefixes("10.42.0.1/16").expect_err("host bits").contains("10.42.0.0/16"));
        let checked = |text| checked_prefixes(text).expect("never fails").0;
        assert!(checked("10.42.0.0/16 10.42.0.1/16").expect_err("host bits").contains("10.42.0.1/16"));
        assert_eq!(checked(" "), Ok(Vec::new()));
        assert_eq!(checked("fd00:42::/56").map(|nets| nets.len()), Ok(1));
        assert!(namespaces("kube_system").expect_err("no label").contains("RFC 1123"));
        let id = |text: &str| Cluster { cluster_id: Some(text.to_owned()) }.id();
        assert!(id("Paris").expect_err("upper case").to_string().contains("RFC 1123"));
        assert!(id(" ").expect_err("empty").to_string().contains("ConfigMap linkspan"));
        assert_eq!(id("paris").expect("valid"), "paris");
    }
}
