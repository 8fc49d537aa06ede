//! Exported services, by the rules that the Multi-Cluster Services API and Kubernetes have for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::file::{BackendFile, ExportFile, ExportType, PortFile, Protocol};
use super::super::types::{Backend, Export, ExportKind, Port};
use super::{Checker, values};

impl Checker {
    /// Checks a list of exports whose addresses have to lie `within` what `source` names.
    pub(super) fn exports(&mut self, field: &str, files: &[ExportFile], within: &[IpNet], source: &str) -> Vec<Export> {
        let mut seen = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            let name = (file.namespace.value(), file.name.value());
            if let Some(first) = seen.insert(name, i) {
                let message = format!("{}/{} is exported before, in {field}[{first}]", name.0, name.1);
                self.note(file.name.position(), &format!("{field}[{i}].name"), message);
            }
        }
        let each = files.iter().enumerate();
        each.filter_map(|(i, file)| self.export(&format!("{field}[{i}]"), file, within, source)).collect()
    }

    fn export(&mut self, field: &str, file: &ExportFile, within: &[IpNet], source: &str) -> Option<Export> {
        let name = self.take(&format!("{field}.name"), &file.name, values::service_name);
        let namespace = self.take(&format!("{field}.namespace"), &file.namespace, values::label);
        let ports = self.ports(&format!("{field}.ports"), file);
        let inside = |text: &str| inside(text, within, source);
        let kind = match file.kind {
            ExportType::ClusterSetIP => {
                let ips = self.list(&format!("{field}.ips"), &file.ips, inside);
                self.one_per_family(field, file, &ips);
                self.unwanted(field, "endpoints", file, file.endpoints.is_empty(), "ips");
                ExportKind::ClusterSetIp(ips)
            }
            ExportType::Headless => {
                self.unwanted(field, "ips", file, file.ips.is_empty(), "endpoints");
                let each = file.endpoints.iter().enumerate();
                let backends =
                    each.filter_map(|(i, pod)| self.backend(&format!("{field}.endpoints[{i}]"), file, pod, &inside));
                ExportKind::Headless(backends.collect())
            }
        };
        Some(Export { name: name?, namespace: namespace?, kind, ports })
    }

    fn one_per_family(&mut self, field: &str, file: &ExportFile, ips: &[IpAddr]) {
        let v4 = ips.iter().filter(|ip| ip.is_ipv4()).count();
        let message = match (file.ips.len(), v4, ips.len() - v4) {
            (0, ..) => "is empty; a ClusterSetIP service has an address, or its type is Headless",
            (_, 0..=1, 0..=1) => return,
            _ => "has two addresses of one family; a service has at most one IPv4 and one IPv6 address",
        };
        self.note(file.name.position(), &format!("{field}.ips"), message.to_owned());
    }

    fn unwanted(&mut self, field: &str, what: &str, file: &ExportFile, absent: bool, instead: &str) {
        if !absent {
            let message = format!("has no meaning for type {:?}; use {instead}", file.kind);
            self.note(file.name.position(), &format!("{field}.{what}"), message);
        }
    }

    fn backend(
        &mut self,
        field: &str,
        export: &ExportFile,
        file: &BackendFile,
        inside: &impl Fn(&str) -> Result<IpAddr, String>,
    ) -> Option<Backend> {
        let hostname = match &file.hostname {
            Some(name) => Some(self.take(&format!("{field}.hostname"), name, values::label)?),
            None => None,
        };
        let addresses = self.list(&format!("{field}.addresses"), &file.addresses, inside);
        if file.addresses.is_empty() {
            let message = "is empty; a pod has at least one address".to_owned();
            self.note(export.name.position(), &format!("{field}.addresses"), message);
        }
        Some(Backend { hostname, addresses, ready: file.ready.unwrap_or(true) })
    }

    fn ports(&mut self, field: &str, export: &ExportFile) -> Vec<Port> {
        let files = &export.ports;
        let mut names = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        let mut ports = Vec::with_capacity(files.len());
        for (i, file) in files.iter().enumerate() {
            let field = format!("{field}[{i}]");
            let Some(port) = self.port(&field, file, files.len()) else {
                continue;
            };
            if let Some(first) = names.insert(port.name.clone(), i) {
                self.note(file.port.position(), &format!("{field}.name"), format!("is also that of port {first}"));
            }
            if let Some(first) = numbers.insert((port.protocol, port.port), i) {
                let message = format!("{} is also that of port {first}", port.port);
                self.note(file.port.position(), &format!("{field}.port"), message);
            }
            ports.push(port);
        }
        ports
    }

    fn port(&mut self, field: &str, file: &PortFile, count: usize) -> Option<Port> {
        let number = self.number(&format!("{field}.port"), &file.port, values::port);
        let name = match &file.name {
            Some(name) => self.take(&format!("{field}.name"), name, values::port_name),
            None if count > 1 => {
                let message = "is missing; each port needs a name when there are several".to_owned();
                self.note(file.port.position(), &format!("{field}.name"), message);
                None
            }
            None => Some(String::new()),
        };
        Some(Port { name: name?, protocol: file.protocol.unwrap_or(Protocol::Tcp), port: number? })
    }
}

/// A host's address that lies in one of the prefixes, for nobody may answer with another's addresses.
fn inside(text: &str, within: &[IpNet], source: &str) -> Result<IpAddr, String> {
    let address = values::unicast(text)?;
    // An empty list has been told as a problem of its own.
    if within.is_empty() || within.iter().any(|net| net.contains(&address)) {
        return Ok(address);
    }
    Err(format!("{address} is in none of the prefixes of {source}, so it could not be reached; correct one of them"))
}
