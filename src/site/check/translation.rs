//! By which other addresses a cluster is known.

use ipnet::IpNet;
use tunnel::config::Translation;

use super::super::file::{NetworkFile, VirtualFile};
use super::{Checker, values};

impl Checker {
    /// Checks the pairs of prefixes each for itself; that they share no address with others is for the overlap check.
    pub(super) fn translation(&mut self, network: &NetworkFile) -> Vec<Translation> {
        let own = network.pod_cidrs.iter().chain(&network.service_cidrs);
        let own: Vec<Option<IpNet>> = own.map(|text| values::routed_prefix(text.value()).ok()).collect();
        // With a wrong prefix, everything that lies in it would be told as wrong too.
        let own: Option<Vec<IpNet>> = own.into_iter().collect();
        self.natives_apart(network);
        let each = network.r#virtual.iter().enumerate();
        each.filter_map(|(i, file)| self.pair_of(&format!("network.virtual[{i}]"), file, own.as_deref())).collect()
    }

    /// An address that is in two pairs would be known by two others.
    fn natives_apart(&mut self, network: &NetworkFile) {
        let each = network.r#virtual.iter().enumerate();
        let mut nets: Vec<_> = each
            .filter_map(|(i, pair)| Some((values::routed_prefix(pair.native.value()).ok()?, pair.native.position(), i)))
            .collect();
        nets.sort_by_key(|(net, ..)| (net.network(), net.prefix_len()));
        // Prefixes form a forest: where any two overlap, so do two neighbours.
        for [(holder, at, i), (held, other, j)] in nets.array_windows() {
            if holder.contains(held) {
                let ((told, at, i), (other, j)) =
                    if other > at { ((held, other, j), (holder, i)) } else { ((holder, at, i), (held, j)) };
                let message = format!(
                    "{told} overlaps {other} of network.virtual[{j}].native; each address has one virtual address"
                );
                self.note(*at, &format!("network.virtual[{i}].native"), message);
            }
        }
    }

    fn pair_of(&mut self, field: &str, file: &VirtualFile, own: Option<&[IpNet]>) -> Option<Translation> {
        let native = self.take(&format!("{field}.native"), &file.native, |text| {
            let native = values::routed_prefix(text)?;
            match own {
                Some(own) if !own.iter().any(|net| net.contains(&native)) => Err(format!(
                    "{native} is in none of network.podCIDRs and network.serviceCIDRs; only addresses of this cluster's \
                     pods and services are known by others"
                )),
                _ => Ok(native),
            }
        });
        let foreign = self.take(&format!("{field}.virtual"), &file.r#virtual, values::routed_prefix);
        let (native, foreign) = (native?, foreign?);
        let message = match (native.max_prefix_len(), native.prefix_len()) {
            (family, _) if family != foreign.max_prefix_len() => {
                format!("{foreign} is not of the family of {native}; IPv4 is known as IPv4, and IPv6 as IPv6")
            }
            (_, length) if length != foreign.prefix_len() => {
                format!("{foreign} has not the length of {native}; each host needs one address: write /{length}")
            }
            _ => return Some(Translation { native, r#virtual: foreign }),
        };
        self.note(file.r#virtual.position(), &format!("{field}.virtual"), message);
        None
    }
}
